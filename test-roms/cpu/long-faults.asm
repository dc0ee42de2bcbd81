; long-faults.asm - 64-bit mode: which fault a non-canonical address raises, by base register and
; instruction; far transfers, call gates, interrupt gates and IRET with every check that can
; fail; SYSCALL, SYSRET, SYSENTER, SYSEXIT, SWAPGS and the FS and GS base instructions.
; Intel SDM vol. 1 §3.3.7.1, §6.4; vol. 2 (CALL, JMP, RET, IRET, SYSCALL, SYSRET, SYSENTER,
; SYSEXIT); vol. 3A §5.8, §6.14.
;
; QEMU's TCG fails: #GP for #SS, no checks of some non-canonical targets, no EXT. Bochs fails
; where a new stack is not canonical, as it names the old SS in the error code, and with an SS
; that is not present, for which IRETQ raises #SS by its description.

%include "rom.inc"
start:  title   "64-bit mode: faults"
        jmp     enter_pm
%include "pm.inc"
%include "long.inc"
bits 32
UCODE32 equ SPARE | 3
UDATA64 equ SPARE + 8 | 3
UCODE64 equ SPARE + 16 | 3
BAD     equ SPARE + 24                  ; what a test makes up
GATE    equ SPARE + 32                  ; a call gate, of two places
GATE2   equ SPARE + 48
SYSBASE equ SPARE + 64                  ; code, data, 32-bit code, data, 64-bit code, data
HOLE    equ 0x0000800000000000          ; not canonical

; gate64_call INDEX, TARGET (RAX), CODE SELECTOR, ACCESS
%macro call_gate64 3
        mov     [gdt_spare + (%1) * 8], ax
        mov     word [gdt_spare + (%1) * 8 + 2], %2
        mov     word [gdt_spare + (%1) * 8 + 4], (%3) << 8
        mov     rcx, rax
        shr     rcx, 16
        mov     [gdt_spare + (%1) * 8 + 6], cx
        shr     rcx, 16
        mov     [gdt_spare + (%1) * 8 + 8], rcx
%endmacro
; ring3 ADDRESS: with CPL 3 there, 64-bit
%macro ring3 1
        push    UDATA64
        push    USTACK
        push    2
        push    UCODE64
        push    %1
        iretq
%endmacro
%macro faults 3+                        ; what was tried above: vector, error code, what
        caught64 %1, %2, %3
%endmacro

main:   spare   0, 0, 0xFFFFF, 0xFA, 12
        spare   1, 0, 0xFFFFF, 0xF2, 12
        spare   2, 0, 0xFFFFF, 0xFA, 10
        spare   8, 0, 0xFFFFF, 0x9A, 10         ; SYSENTER: CS and SS
        spare   9, 0, 0xFFFFF, 0x92, 12
        spare   10, 0, 0xFFFFF, 0xFA, 12        ; SYSEXIT: 32-bit CS, SS, 64-bit CS, SS
        spare   11, 0, 0xFFFFF, 0xF2, 12
        spare   12, 0, 0xFFFFF, 0xFA, 10
        spare   13, 0, 0xFFFFF, 0xF2, 12
        call    long_start
bits 64
        mov     qword [TSS64_AT + 36], 0x70000  ; IST 1, for faults of the stack
        mov     byte [IDT64_AT + 12 * 16 + 4], 1

        ; Each base register: RSP and RBP use the stack segment.
%macro base 3                           ; register, vector, name
        push    rbp
        mov     [saved], rsp
        mov     rax, HOLE
        try64   %%there
        mov     [t_rsp], rsp
%ifnidni %1, rax
        mov     %1, rax
%endif
        mov     al, [%1]
%%there: mov    rsp, [saved]
        pop     rbp
        faults  %2, 0, "a non-canonical address by ", %3
%endmacro
        base    rax, 13, "RAX"
        base    rcx, 13, "RCX"
        base    rdx, 13, "RDX"
        base    rbx, 13, "RBX"
        base    rsp, 12, "RSP"
        base    rbp, 12, "RBP"
        base    rsi, 13, "RSI"
        base    rdi, 13, "RDI"
        base    r8, 13, "R8"
        base    r12, 13, "R12"
        base    r13, 13, "R13"
        mov     rax, HOLE - 4
        try64   .edge
        mov     rcx, [rax]
.edge:  faults  13, 0, "an access that reaches into the hole"
        mov     rax, HOLE - 1
        try64   .edge2
        mov     cl, [rax]
.edge2: mov     rcx, cr2
        faults  14, 0, "the last byte before it is absent only"
        mov     rax, -1
        try64   .wrap
        mov     cx, [rax]
.wrap:  caught64 14, 0, "at the top of the address space"
        mov     rbx, rsp
%macro stack 2+
        try64   %%there
        mov     rsp, HOLE + 0x1000
        %1
%%there: faults 12, 0, %2
%endmacro
        stack   push rax, "PUSH"
        stack   pop rax, "POP"
        stack   call $, "CALL"
        stack   ret, "RET"
        stack   pushfq, "PUSHFQ"
        stack   iretq, "IRETQ"
        stack   retfq, "RETFQ"
        try64   .leave
        mov     rbp, HOLE
        leave
.leave: faults  12, 0, "LEAVE"
        try64   .fs
        mov     ecx, 0xC0000100
        mov     eax, 0xFFFFF000
        mov     edx, 0x00007FFF
        wrmsr
        mov     eax, [fs:0x1000]
.fs:    faults  13, 0, "through FS"
        mov     rax, HOLE
        try64   .jmp
.jmp0:  jmp     rax
.jmp:   faults  13, 0, "a near jump into the hole"
        expect  qword [t_rip64], .jmp0, "RIP is the jump's"
        try64   .call
.call0: call    rax
.call:  faults  13, 0, "a near call"
        expect  qword [t_rip64], .call0, "RIP is the call's"
        expect  qword [t_rsp64], [t_rsp], "nothing was pushed"
        try64   .ret
        push    rax
.ret0:  ret
.ret:   faults  13, 0, "a near return"
        expect  qword [t_rip64], .ret0, "RIP is the return's"
        try64   .lgdt
        lgdt    [bad_pointer]
.lgdt:  faults  13, 0, "LGDT of a base in the hole"
        try64   .lidt
        lidt    [bad_pointer]
.lidt:  faults  13, 0, "LIDT too"
        mov     rax, HOLE
        invlpg  [rax]                   ; no fault (vol. 2A, INVLPG)

        ; Far transfers.
        try64   .fj
        jmp     far dword [to_null]
.fj:    faults  13, 0, "a far jump to the null selector"
        try64   .fd
        jmp     far dword [to_data]
.fd:    faults  13, DATA32, "to data"
        try64   .fb
        jmp     far dword [to_beyond]
.fb:    faults  13, 0xFFF8, "beyond the table"
        mov     rax, 0x00EF9A000000FFFF ; both L and D
        mov     [gdt_spare + 24], rax
        try64   .ld
        jmp     far dword [to_bad]
.ld:    faults  13, BAD, "to code with L and D set"
        mov     rax, 0x00AF1A000000FFFF
        mov     [gdt_spare + 24], rax
        try64   .np
        jmp     far dword [to_bad]
.np:    faults  11, BAD, "to code that is not present"
        mov     rax, 0x00AFFA000000FFFF
        mov     [gdt_spare + 24], rax
        try64   .dpl
        jmp     far dword [to_bad]
.dpl:   faults  13, BAD, "to code of DPL 3"
        try64   .fh
        db      0x48
        jmp     far [to_hole]
.fh:    faults  13, 0, "a far jump into the hole"
        try64   .ts
        jmp     far dword [to_tss]
.ts:    faults  13, 0x48 + 14 * 8, "to a TSS: no task switches"
        try64   .direct
        db      0xEA
        dd      0, CODE64
.direct: faults 6, 0, "JMP ptr16:32 is undefined"
        try64   .retf
        mov     rax, HOLE
        push    CODE64
        push    rax
        retfq
.retf:  faults  13, 0, "RETFQ into the hole"
        try64   .retfn
        push    0
        push    .retfn
        retfq
.retfn: faults  13, 0, "RETFQ to the null selector"
        try64   .retfd
        push    DATA32
        push    .retfd
        retfq
.retfd: faults  13, DATA32, "RETFQ to data"
        try64   .retfs
        push    0                       ; a null SS for CPL 3
        push    USTACK
        push    UCODE64
        push    ring3_ud2
        retfq
.retfs: faults  13, 0, "RETFQ to ring 3 with a null SS"

        ; Call gates.
        mov     eax, through_gate
        call_gate64 4, CODE64, 0xEC
        mov     rbx, rsp
        call    far dword [to_gate]
        expect  qword [seen], CODE64, "a call gate without a change of level: CS"
        lea     rax, [rbx - 16]
        expect  qword [seen + 8], rax, "16 bytes are pushed"
        gate64  0x41, from_ring3, INT_GATE | DPL3
        mov     [saved], rsp
        mov     qword [back], .gate3
        ring3   ring3_gate
.gate3: expect  qword [seen], CODE64, "from ring 3: CS"
        expect  qword [seen + 8], KSTACK - 32, "RSP0 less SS, RSP, CS, RIP"
        expect  qword [seen + 16], 0, "SS is null, with RPL = CPL"
        expect  qword [seen + 24], ring3_gate.back, "RIP"
        expect  qword [seen + 32], UCODE64, "pushed CS"
        expect  qword [seen + 40], USTACK, "pushed RSP"
        expect  qword [seen + 48], UDATA64, "pushed SS"
%macro gate_fault 4+                    ; setup is above: vector, error, what
        try64   %%there
        call    far dword [to_gate]
%%there: faults %1, %2, %3, %4
%endmacro
        mov     byte [gdt_spare + 32 + 13], 0x0C
        gate_fault 13, GATE, "a call gate", " whose upper half has a type"
        mov     byte [gdt_spare + 32 + 13], 0
        mov     byte [gdt_spare + 32 + 5], 0x6C
        gate_fault 11, GATE, "a call gate", " that is not present"
        mov     byte [gdt_spare + 32 + 5], 0xE4
        gate_fault 13, GATE, "a 16-bit call gate", ""
        mov     byte [gdt_spare + 32 + 5], 0xE5
        gate_fault 13, GATE, "a task gate", ""
        mov     byte [gdt_spare + 32 + 5], 0xEC
        mov     word [gdt_spare + 34], 0
        gate_fault 13, 0, "a call gate", " to the null selector"
        mov     word [gdt_spare + 34], DATA32
        gate_fault 13, DATA32, "a call gate", " to data"
        mov     word [gdt_spare + 34], CODE32
        gate_fault 13, CODE32, "a call gate", " to 32-bit code"
        mov     rax, 0x00AF1A000000FFFF
        mov     [gdt_spare + 24], rax
        mov     word [gdt_spare + 34], BAD
        gate_fault 11, BAD, "a call gate", " to code that is not present"
        mov     word [gdt_spare + 34], CODE64
        mov     dword [gdt_spare + 32 + 8], 0x00008000
        gate_fault 13, 0, "a call gate", " into the hole"
        mov     dword [gdt_spare + 32 + 8], 0
        mov     byte [gdt_spare + 32 + 5], 0x8C
        try64   .gd
        ring3   ring3_gate
.gd:    faults  13, GATE, "a call gate of DPL 0 in ring 3"
        mov     byte [gdt_spare + 32 + 5], 0xEC
        mov     rax, [TSS64_AT + 4]
        push    rax
        mov     rax, HOLE + 0x1000
        mov     [TSS64_AT + 4], rax
        try64   .sh
        ring3   ring3_gate
.sh:    pop     qword [TSS64_AT + 4]
        faults  12, 0, "a call gate to a stack in the hole"
        mov     rax, [TSS64_AT + 4]
        push    rax
        mov     rax, HOLE + 0x1000
        mov     [TSS64_AT + 4], rax
        try64   .ih
        ring3   ring3_int41
.ih:    pop     qword [TSS64_AT + 4]
        faults  12, 0, "INT to a stack in the hole"

        ; Interrupt gates.
%macro int_fault 3+
        try64   %%there
        int     0x42
%%there: faults %1, %2, %3
%endmacro
        gate64  0x42, from_ring3, 0x86
        int_fault 13, 0x42 * 8 + 2, "a 16-bit interrupt gate"
        gate64  0x42, from_ring3, 0x85
        int_fault 13, 0x42 * 8 + 2, "a task gate"
        gate64  0x42, from_ring3, 0x0E
        int_fault 11, 0x42 * 8 + 2, "a gate that is not present"
        gate64  0x42, from_ring3, INT_GATE
        mov     word [IDT64_AT + 0x42 * 16 + 2], CODE32
        int_fault 13, CODE32, "a gate to 32-bit code"
        mov     word [IDT64_AT + 0x42 * 16 + 2], 0
        int_fault 13, 0, "a gate to the null selector"
        mov     word [IDT64_AT + 0x42 * 16 + 2], UCODE64
        int_fault 13, UCODE64 & ~3, "a gate to code of DPL 3"
        mov     word [IDT64_AT + 0x42 * 16 + 2], CODE64
        mov     dword [IDT64_AT + 0x42 * 16 + 8], 0x00008000
        int_fault 13, 0, "a gate into the hole"
        mov     dword [IDT64_AT + 0x42 * 16 + 8], 0
        mov     word [idt64_pointer], 0x42 * 16 + 14
        lidt    [idt64_pointer]
        int_fault 13, 0x42 * 8 + 2, "a gate that the table holds in part"
        mov     word [idt64_pointer], 0xFFF
        lidt    [idt64_pointer]
        mov     byte [IDT64_AT + 0x42 * 16 + 4], 7
        mov     dword [gdt_end - 16], (TSS64_AT & 0xFFFF) << 16 | 0x5A
        mov     byte [gdt_end - 16 + 5], 0x89
        mov     ax, gdt_end - 16 - gdt
        ltr     ax
        int_fault 10, 0x48 + 14 * 8, "an IST entry beyond the TSS: #TS"
        mov     dword [gdt_end - 16], (TSS64_AT & 0xFFFF) << 16 | 0x67
        mov     byte [gdt_end - 16 + 5], 0x89
        ltr     ax
        mov     byte [IDT64_AT + 0x42 * 16 + 4], 0
        try64   .ext
        mov     byte [IDT64_AT + 6 * 16 + 5], 0x0E
        ud2
.ext:   mov     byte [IDT64_AT + 6 * 16 + 5], INT_GATE
        faults  11, 6 * 8 + 3, "a fault on the way to #UD has EXT"

        ; IRETQ.
%macro iret_fault 8+                    ; SS, RSP, FLAGS, CS, RIP, vector, error, what
        try64   %%there
        push    %1
        push    %2
        push    %3
        push    %4
        mov     rax, %5
        push    rax
        iretq
%%there: faults %6, %7, %8
%endmacro
        iret_fault 0, KSTACK, 2, 0, 0x8000, 13, 0, "IRETQ to the null selector"
        iret_fault 0, KSTACK, 2, DATA32, 0x8000, 13, DATA32, "to data"
        iret_fault 0, KSTACK, 2, CODE64, HOLE, 13, 0, "into the hole"
        iret_fault 3, KSTACK, 2, UCODE64, 0x8000, 13, 0, "to ring 3 with a null SS"
        iret_fault DATA32, KSTACK, 2, UCODE64, 0x8000, 13, DATA32, "with an SS of DPL 0"
        iret_fault UDATA64, KSTACK, 2, CODE64, 0x8000, 13, UDATA64 & ~3, "to ring 0 with an SS of DPL 3"
        iret_fault 1, KSTACK, 2, CODE64, 0x8000, 13, 0, "to ring 0 with a null SS of RPL 1"
        iret_fault CODE64, KSTACK, 2, CODE64, 0x8000, 13, CODE64, "with an SS that is code"
        iret_fault UDATA64, KSTACK, 2, UCODE64 & ~3, 0x8000, 13, UCODE64 & ~3, "RPL 0 to code of DPL 3"
        iret_fault 0, KSTACK, 2, CODE32, 0x8000, 13, 0, "to compatibility mode with a null SS"
        mov     rax, 0x00CF12000000FFFF
        mov     [gdt_spare + 24], rax
        iret_fault BAD, KSTACK, 2, CODE64, 0x8000, 12, BAD, "with an SS that is not present"
        try64   .nt
        pushfq
        or      dword [rsp], NT
        popfq
        iretq
.nt:    pushfq
        and     dword [rsp], ~NT
        popfq
        faults  13, 0, "IRETQ with NT set"
        mov     rbx, rsp
        push    0
        push    rbx
        push    2 | CF
        push    CODE64
        push    .iret0
        stc
        iretq
.iret0: expect_flags CF, CF, "IRETQ to ring 0 with a null SS is allowed"
        mov     rcx, rsp
        expect  rcx, rbx, "and loads RSP"
        ; To ring 3 it nulls a GS of ring 0, whose base stays (the processors; kernels rely on it).
        mov     ax, DATA32
        mov     gs, ax
        mov     ecx, 0xC0000101
        mov     eax, 0x400000
        xor     edx, edx
        wrmsr
        mov     [saved], rsp
        mov     qword [back], .gs
        ring3   ring3_gs
.gs:    expect  r12, 0, "IRETQ to ring 3 nulls GS"
        mov     ecx, 0xC0000101
        rdmsr
        expect  rax, 0x400000, "and leaves its base"
        ; In ring 3 it leaves IOPL and IF alone.
        mov     [saved], rsp
        mov     qword [back], .iret3
        ring3   ring3_iret
.iret3: and     r12d, 0x3200
        expect  r12, 0, "IRETQ in ring 3 changes neither IOPL nor IF"

        ; SYSCALL, SYSRET.
        mov     ecx, 0xC0000081
        xor     eax, eax
        mov     edx, SPARE << 16 | CODE64
        wrmsr
        mov     ecx, 0xC0000082
        mov     eax, system_call
        xor     edx, edx
        wrmsr
        mov     ecx, 0xC0000084
        mov     eax, TF | DF | AC | NT
        wrmsr
        try64   .sc
        syscall
.sc:    faults  6, 0, "SYSCALL without EFER.SCE"
        try64   .sr
        o64 sysret
.sr:    faults  6, 0, "SYSRET too"
        mov     ecx, EFER
        rdmsr
        or      eax, 1
        wrmsr
        try64   .sr3
        ring3   ring3_sysret
.sr3:   faults  13, 0, "SYSRET in ring 3"
        try64   .srh
        mov     rcx, HOLE
        mov     r11d, 2
.srh0:  o64 sysret
.srh:   faults  13, 0, "SYSRETQ into the hole"
        expect  qword [t_rip64], .srh0, "in ring 0"
        mov     eax, [t_cs]
        and     eax, 0xFFFF
        expect  rax, CODE64, "with the kernel's CS"
        mov     [saved], rsp
        mov     qword [back], .sf
        mov     qword [call_flags], 0
        mov     ecx, ring3_syscall
        mov     r11d, 2
        mov     rsp, USTACK
        o64 sysret
.sf:    expect  qword [call_flags], 2 | CF, "SFMASK cleared AC, DF and NT; IF and CF are as they were"
        and     r13d, AC | DF | NT | CF
        expect  r13, AC | DF | NT | CF, "R11 has them"
        mov     [saved], rsp
        mov     qword [back], .s32
        mov     ecx, compat_call        ; SYSRET with 32-bit operands: compatibility mode
        mov     r11d, 2
        mov     rsp, USTACK
        try64   .s32
        mov     rax, [saved]
        mov     [t_rsp], rax
        sysret
.s32:   faults  6, 0, "SYSCALL in compatibility mode"
        mov     eax, [t_cs]
        and     eax, 0xFFFF
        expect  rax, UCODE32, "which SYSRET with 32-bit operands goes to"

        ; SYSENTER, SYSEXIT.
        mov     ecx, 0x174
        xor     eax, eax
        xor     edx, edx
        wrmsr
        try64   .se
        sysenter
.se:    faults  13, 0, "SYSENTER with a null CS"
        try64   .sx
        o64 sysexit
.sx:    faults  13, 0, "SYSEXIT too"
        mov     ecx, 0x174
        mov     eax, SYSBASE
        xor     edx, edx
        wrmsr
        inc     ecx
        mov     eax, KSTACK - 0x100
        wrmsr
        inc     ecx
        mov     eax, entered
        wrmsr
        try64   .sx3
        ring3   ring3_sysexit
.sx3:   faults  13, 0, "SYSEXIT in ring 3"
        try64   .sxh
        mov     rdx, HOLE
        mov     ecx, USTACK
        o64 sysexit
.sxh:   faults  13, 0, "SYSEXIT into the hole"
        try64   .sxs
        mov     rcx, HOLE
        mov     edx, ring3_ud2
        o64 sysexit
.sxs:   faults  13, 0, "with a stack in the hole"
        mov     [saved], rsp
        mov     qword [back], .en
        mov     ecx, USTACK
        mov     edx, ring3_sysenter
        o64 sysexit
.en:    expect  r8, SYSBASE + 32 | 3, "SYSEXIT to 64-bit mode: CS + 32"
        expect  r9, SYSBASE + 40 | 3, "SS + 40"
        expect  r10, SYSBASE, "SYSENTER: CS"
        expect  r12, SYSBASE + 8, "SS"
        expect  r13, KSTACK - 0x100, "RSP"

        ; SWAPGS; FS and GS bases.
        try64   .sw
        ring3   ring3_swapgs
.sw:    faults  13, 0, "SWAPGS in ring 3"
        mov     eax, 7
        xor     ecx, ecx
        cpuid
        test    ebx, 1
        jz      .no_bases
        try64   .rb
        rdfsbase rax
.rb:    faults  6, 0, "RDFSBASE without CR4.FSGSBASE"
        mov     rax, cr4
        or      eax, 1 << 16
        mov     cr4, rax
        mov     rax, HOLE
        try64   .wb
        wrgsbase rax
.wb:    faults  13, 0, "WRGSBASE of an address in the hole"
        mov     rax, 0xFFFF800012345678
        wrfsbase rax
        mov     ecx, 0xC0000100
        rdmsr
        shl     rdx, 32
        or      rax, rdx
        mov     rcx, 0xFFFF800012345678
        expect  rax, rcx, "WRFSBASE writes what the MSR reads"
        mov     eax, 0x12345678
        wrfsbase eax
        rdfsbase rcx
        expect  rcx, rax, "with 32 bits the upper half is cleared"
.no_bases:
        done

ring3_gate:
        call    far dword [to_gate]
.back:  int     0x41
ring3_int41:
        int     0x41
ring3_ud2: ud2
ring3_sysret: o64 sysret
ring3_sysexit: o64 sysexit
ring3_swapgs: swapgs
ring3_gs:
        mov     r12d, gs
        int     0x41
ring3_iret:
        push    UDATA64
        push    USTACK
        push    0x3202
        push    UCODE64
        push    .there
        iretq
.there: pushfq
        pop     r12
        int     0x41
ring3_syscall:
        pushfq
        or      dword [rsp], AC | DF | NT | CF
        popfq
        syscall
system_call:
        mov     r13, r11
        mov     rsp, KSTACK
        pushfq
        pop     qword [call_flags]
        mov     rsp, [saved]
        jmp     [back]
ring3_sysenter:
        mov     r8d, cs
        mov     r9d, ss
        sysenter
entered: mov    r10d, cs
        mov     r12d, ss
        mov     r13, rsp
        xor     eax, eax
        mov     ss, eax
        mov     rsp, [saved]
        jmp     [back]
through_gate:
        mov     eax, cs
        mov     [seen], rax
        mov     [seen + 8], rsp
        mov     eax, ss
        mov     [seen + 16], rax
        mov     rax, [rsp]
        mov     [seen + 24], rax
        mov     rax, [rsp + 8]
        mov     [seen + 32], rax
        mov     rax, [rsp + 16]
        mov     [seen + 40], rax
        mov     rax, [rsp + 24]
        mov     [seen + 48], rax
        retfq
from_ring3:
        xor     eax, eax
        mov     ss, eax
        mov     rsp, [saved]
        jmp     [back]
bits 32
compat_call:
        syscall
        ud2
bits 64
        align   8, db 0
to_null: dd     0x8000
        dw      0
to_data: dd     0x8000
        dw      DATA32
to_beyond: dd   0x8000
        dw      0xFFF8
to_bad: dd      0x8000
        dw      BAD
to_hole: dq     HOLE
        dw      CODE64
to_tss: dd      0
        dw      0x48 + 14 * 8
to_gate: dd     0xF4F4F4F4
        dw      GATE
bad_pointer: dw 0xFFF
        dq      HOLE
        align   8, db 0
saved:  dq      0
back:   dq      0
call_flags: dq  0
seen:   times   8 dq 0
rom_end
