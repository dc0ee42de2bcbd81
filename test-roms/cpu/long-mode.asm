; long-mode.asm - into 64-bit mode, its registers and addressing, interrupts, rings, SYSCALL.
; Intel SDM vol. 3A §9.8.5, §6.14, vol. 2B SYSCALL. Needs CPUID features LM and SYSCALL.

%include "rom.inc"
start:  title   "long mode"
        jmp     enter_pm
%include "pm.inc"
%include "long.inc"
bits 32
UCODE32 equ SPARE | 3           ; as SYSRET wants them: 32-bit code, data, 64-bit code
UDATA64 equ SPARE + 8 | 3
UCODE64 equ SPARE + 16 | 3
CODE64_CALL equ SPARE + 32

main:   mov     eax, 0x80000001
        cpuid
        mov     ebx, edx
        shr     edx, 29
        and     edx, 1
        expect  edx, 1, "CPUID: long mode"
        spare   0, 0, 0xFFFFF, 0xFA, 12
        spare   1, 0, 0xFFFFF, 0xF2, 12
        spare   2, 0, 0xFFFFF, 0xFA, 10
        spare   3, 0x1000, 0xFFFFF, 0x92, 12
        spare   4, 0, 0xFFFFF, 0x9A, 10         ; CODE64_CALL and, behind it, data
        spare   5, 0, 0xFFFFF, 0x92, 12
        call    long_start
bits 64
        mov     ecx, EFER
        rdmsr
        and     eax, 1 << 10 | 1 << 8
        expect  rax, 1 << 10 | 1 << 8, "EFER.LMA and LME"
        mov     rax, 0x123456789ABCDEF0
        mov     r8, rax
        shr     r8, 32
        expect  r8, 0x12345678, "registers of 64 bits"
        mov     r8, -1
        mov     r8d, 5
        expect  r8, 5, "a 32-bit result clears the upper half"
        mov     rax, -1
        mov     al, 0
        expect  rax, -256, "an 8-bit one does not"
        mov     rax, -1
        mov     eax, eax
        cqo
        expect  rdx, 0, "CQO"
        movsxd  rax, dword [minus_2]
        expect  rax, -2, "MOVSXD"
        mov     rax, [rel value]
        mov     rbx, [value]
        expect  rax, rbx, "RIP-relative and absolute"
        mov     eax, 0x100
        mov     sil, 0x7F
        movzx   eax, sil
        expect  rax, 0x7F, "SIL with a REX prefix"
        mov     rax, 0x10000000000
        mul     rax
        expect  rdx, 0x10000, "MUL 64 x 64"
        push    word 0x1234
        pop     ax
        mov     rbx, rsp
        push    rax
        sub     rbx, rsp
        pop     rax
        expect  rbx, 8, "PUSH takes 8 bytes"
        mov     ebx, 0x600000
        mov     qword [PT], 0x50000 | P | W | U
        mov     rax, cr3
        mov     cr3, rax
        mov     dword [0x50010], 0xCAFE
        mov     eax, [rbx + 0x10]
        expect  rax, 0xCAFE, "four levels of tables"
        mov     rax, 0xFFFFFFFF80000000 ; the top of the address space, as kernels use it
        mov     qword [PML4 + 511 * 8], PDPT | P | W
        mov     qword [PDPT + 510 * 8], PD | P | W
        mov     eax, [rax + 0x600010]
        expect  rax, 0xCAFE, "the upper half of the address space"

        ; Exceptions.
        try64   .a
        ud2
.a:     caught64 6, 0, "UD2"
        try64   .b
        mov     rax, 0x0000800000000000
.b0:    mov     rax, [rax]
.b:     caught64 13, 0, "an address that is not canonical"
        expect  qword [t_rip64], .b0, "RIP"
        try64   .c
        mov     rax, [0x601FF8]
.c:     caught64 14, 0, "an absent page"
        expect  qword [t_cr2_64], 0x601FF8, "CR2"
        try64   .d
        mov     rax, 0x123400000000
        mov     [rax], al
.d:     caught64 14, 2, "no PML4 entry"
        mov     rax, 0x123400000000
        expect  qword [t_cr2_64], rax, "CR2 has 64 bits"
        mov     rax, 1 << 63 | 0x51000 | P | W | U
        mov     [PT + 8], rax
        try64   .e
        mov     eax, 0x601000
        call    rax
.e:     caught64 14, 0x11, "execution of an NX page"
        try64   .f
        db      0x06                    ; PUSH ES
.f:     caught64 6, 0, "PUSH ES is undefined"
        try64   .g
        db      0x37                    ; AAA
.g:     caught64 6, 0, "AAA is undefined"

        ; An interrupt in ring 0 aligns RSP to 16 and always pushes SS:RSP.
        gate64  0x40, int64, INT_GATE
        mov     rbx, rsp
        and     rsp, ~15
        sub     rsp, 8
        mov     r12, rsp
        int     0x40
        mov     rsp, rbx
        sub     r12, 8
        expect  qword [seen], r12, "the frame begins at a multiple of 16"
        expect  qword [seen + 8], CODE64, "pushed CS"
        lea     r13, [r12 + 8]
        expect  qword [seen + 16], r13, "pushed RSP is the one before"
        ; IST 1.
        mov     qword [TSS64_AT + 36], 0x70000
        mov     byte [IDT64_AT + 0x40 * 16 + 4], 1
        int     0x40
        expect  qword [seen], 0x70000, "an interrupt stack from the TSS"
        mov     byte [IDT64_AT + 0x40 * 16 + 4], 0

        ; FS and GS bases.
        mov     ecx, 0xC0000100         ; FS_BASE
        mov     eax, 0x50000
        xor     edx, edx
        wrmsr
        mov     eax, [fs:0x10]
        expect  rax, 0xCAFE, "FS_BASE"
        mov     ecx, 0xC0000101         ; GS_BASE
        mov     eax, 0x1000
        wrmsr
        mov     ecx, 0xC0000102         ; KERNEL_GS_BASE
        mov     eax, 0x50000
        wrmsr
        swapgs
        mov     eax, [gs:0x10]
        expect  rax, 0xCAFE, "SWAPGS"
        swapgs
        mov     ax, SPARE + 24
        mov     ds, ax
        mov     rax, [value]
        mov     rbx, [value - 0x1000]
        xor     ecx, ecx
        mov     ds, ecx
        mov     rcx, [value]
        expect  rax, rcx, "the base of DS is ignored"

        ; SYSCALL and SYSRET.
        mov     ecx, EFER
        rdmsr
        or      eax, 1                  ; SCE
        wrmsr
        mov     ecx, 0xC0000081         ; STAR
        xor     eax, eax
        mov     edx, UCODE32 << 16 | CODE64_CALL
        wrmsr
        mov     ecx, 0xC0000082         ; LSTAR
        mov     eax, called
        xor     edx, edx
        wrmsr
        mov     ecx, 0xC0000084         ; SFMASK
        mov     eax, DF | CF
        wrmsr
        gate64  0x41, leave3, INT_GATE | DPL3
        mov     rcx, ring3
        mov     r11d, 2
        mov     [saved_rsp], rsp
        mov     esp, USTACK
        o64 sysret
leave3: mov     rax, [rsp + 8]
        mov     [seen], rax
        mov     rax, [rsp + 24]
        mov     [seen + 8], rax
        mov     rax, [rsp + 32]
        mov     [seen + 16], rax
        xor     eax, eax
        mov     ss, eax
        mov     rsp, [saved_rsp]
        expect  r8, UCODE64, "SYSRET: CS is STAR[63:48] + 16, RPL 3"
        expect  r9, UDATA64, "SYSRET: SS is STAR[63:48] + 8, RPL 3"
        expect  r10, CODE64_CALL, "SYSCALL: CS is STAR[47:32]"
        expect  r12, CODE64_CALL + 8, "SYSCALL: SS is STAR[47:32] + 8"
        expect  r13, ring3.after, "SYSCALL: RCX is the next instruction"
        and     r14d, CF | DF
        expect  r14, CF | DF, "SYSCALL: R11 is RFLAGS"
        and     ebp, CF | DF
        expect  rbp, 0, "SYSCALL: SFMASK clears flags"
        expect  rdi, USTACK, "SYSCALL leaves RSP"
        expect  rsi, 1, "SYSRET restores RFLAGS from R11"
        expect  qword [seen + 8], USTACK, "INT from ring 3 pushed its RSP"
        expect  qword [seen + 16], UDATA64, "and its SS"

        ; IRET from a stack in the upper half to 32-bit code of ring 3, which sees nothing of it.
        gate64  0x42, leave32, INT_GATE | DPL3
        mov     eax, 1
        mov     es, eax
        inc     eax
        mov     fs, eax
        inc     eax
        mov     gs, eax
        mov     rsp, 0xFFFFFFFF80000000 + MSTACK - 0x100
        push    UDATA64
        push    USTACK
        push    2
        push    UCODE32
        push    ring3_32
        iretq
bits 32
ring3_32:
        int     0x42
bits 64
leave32:
        mov     rdx, [rsp + 24]
        mov     [seen], rdx
        mov     edi, es
        mov     esi, fs
        mov     ebp, gs
        xor     eax, eax
        mov     ss, eax
        mov     rsp, [saved_rsp]
        expect  qword [seen], USTACK, "IRET to 32-bit code leaves nothing above ESP"
        or      edi, esi
        or      edi, ebp
        expect  rdi, 0, "IRET to an outer ring clears the RPL of null selectors"

        ; Compatibility mode: 32-bit code under the same tables, and back.
        mov     rbx, rsp
        mov     esp, MSTACK - 0x100
        push    CODE32
        push    .compat
        retfq
bits 32
.compat:
        mov     eax, DATA32
        mov     ss, eax
        mov     ds, eax
        mov     ecx, 0x12345678
        dec     ecx                     ; 49h: a REX prefix in 64-bit mode
        jmp     CODE64:.back
bits 64
.back:  mov     rsp, rbx
        xor     eax, eax
        mov     ss, eax
        mov     ecx, ecx
        expect  rcx, 0x12345677, "compatibility mode"
        done

int64:  mov     [seen], rsp
        add     qword [seen], 40        ; where the frame begins
        push    rax
        mov     rax, [rsp + 16]
        mov     [seen + 8], rax
        mov     rax, [rsp + 32]
        mov     [seen + 16], rax
        pop     rax
        iretq
ring3:  mov     r8d, cs
        mov     r9d, ss
        stc
        std
        syscall
.after: pushfq
        pop     rsi
        cld
        and     esi, CF
        int     0x41
called: mov     r10d, cs
        mov     r12d, ss
        mov     r13, rcx
        mov     r14, r11
        mov     rdi, rsp
        pushfq
        pop     rbp
        o64 sysret
        align   8, db 0
saved_rsp: dq   0
value:  dq      0x1122334455667788
minus_2: dd     -2
        align   8, db 0
seen:   dq      0, 0, 0, 0
rom_end
