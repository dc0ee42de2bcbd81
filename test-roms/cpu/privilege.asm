; privilege.asm - rings: call gates with a stack switch, interrupt gates from ring 3, IRET,
; the TSS, I/O permission. Intel SDM vol. 3A §5.8 (gates), §6.12, vol. 1 §18.5 (I/O).

%include "rom.inc"
start:  title   "protected mode: rings, gates, TSS, I/O permission"
        jmp     enter_pm
%include "pm.inc"

GATE    equ SPARE               ; a call gate for ring 3, with two arguments
GATE0   equ SPARE + 8           ; a call gate for ring 0 only
GATENP  equ SPARE + 16          ; one that is not present
CONFORM equ SPARE + 24          ; a conforming code segment

%macro call_gate 4              ; index, address, argument count, access
        mov     eax, %2
        mov     [gdt_spare + (%1) * 8], ax
        mov     word [gdt_spare + (%1) * 8 + 2], CODE32
        mov     word [gdt_spare + (%1) * 8 + 4], (%4) << 8 | (%3)
        shr     eax, 16
        mov     [gdt_spare + (%1) * 8 + 6], ax
%endmacro

main:   call_gate 0, through_gate, 2, 0xEC
        call_gate 1, through_gate, 0, 0x8C
        call_gate 2, through_gate, 0, 0x6C
        spare   3, 0, 0xFFFFF, 0x9E, 12
        gate    0x40, int_gate, INT_GATE | DPL3
        gate    0x41, trap_gate, TRAP_GATE | DPL3
        gate    0x42, int_gate, INT_GATE
        gate    0x43, int_gate, 0x0E | DPL3     ; not present
        gate    0x44, ring3_done, INT_GATE | DPL3
        mov     byte [gdt + TSS_SEL], 0x68 + 0x20
        mov     byte [gdt + TSS_SEL + 5], 0x89
        mov     ax, TSS_SEL
        ltr     ax                      ; with room for 256 ports, all allowed, so that
        mov     byte [TSS_AT + 0x68 + 0x20], 0xFF       ; ring 3 can print
        to_ring3 ring3

; Each of these runs in ring 3; a fault comes back in ring 0, from where ring 3 is entered again.
ring3:  mov     eax, cs
        expect  eax, USER_CODE, "CS in ring 3"
        mov     eax, ss
        expect  eax, USER_DATA, "SS in ring 3"
        push    dword 0x1111            ; the gate copies these to the new stack
        push    dword 0x2222
        mov     ebx, esp
        call    GATE:0
        sub     ebx, esp
        expect  ebx, -8, "RETF 8 takes the arguments from the outer stack"
        expect  dword [seen], CODE32, "call gate: CS, with RPL = CPL"
        expect  dword [seen + 4], DATA32, "call gate: SS0 from the TSS"
        expect  dword [seen + 8], KSTACK - 24, "call gate: ESP0 less SS, ESP, 2 arguments, CS, EIP"
        expect  dword [seen + 12], 0x2222, "call gate: the last argument"
        expect  dword [seen + 16], 0x1111, "call gate: the first argument"
        expect  dword [seen + 20], USTACK - 8, "call gate: the outer ESP"
        expect  dword [seen + 24], USER_DATA, "call gate: the outer SS"
        mov     eax, cs
        expect  eax, USER_CODE, "RETF goes back to ring 3"

        int     0x40
        expect  dword [seen], CODE32, "INT gate: CS"
        expect  dword [seen + 8], KSTACK - 20, "INT gate: five dwords on the new stack"
        expect  dword [seen + 12], USER_CODE, "INT gate: the pushed CS"
        expect  dword [seen + 16], 0, "INT gate: IF is off in the handler"
        int     0x41
        expect  dword [seen], 0, "trap gate: IF as it was (off)"
        mov     eax, cs
        call    CONFORM:.conforming
        jmp     .after
.conforming:
        mov     ecx, cs
        retf
.after: expect  ecx, CONFORM | 3, "a conforming segment keeps CPL 3"

        ; IRET and POPF in ring 3 leave IOPL alone, and IF when CPL > IOPL.
        pushfd
        or      dword [esp], 0x3200
        popfd
        expect_flags 0x3200, 0, "POPF in ring 3: IOPL and IF stay"

        ; RETF and IRET to ring 0 are refused; so are ring 0's segments.
        int     0x44

ring3_done:
        mov     esp, MSTACK
        mov     ax, DATA32
        mov     ds, ax
        mov     es, ax
        try     .a
        to_ring3 do_cli
.a:     caught  13, 0, "CLI in ring 3"
        expect  dword [t_eip], do_cli, "EIP is the CLI's"
        expect  dword [t_esp], USTACK, "ESP is the user's"
        expect  dword [t_ss], USER_DATA, "SS is the user's"
        try     .b
        to_ring3 do_hlt
.b:     caught  13, 0, "HLT in ring 3"
        try     .c
        to_ring3 do_cr0
.c:     caught  13, 0, "MOV from CR0 in ring 3"
        try     .d
        to_ring3 do_int42
.d:     caught  13, 0x42 * 8 + 2, "INT through a gate of DPL 0"
        try     .e
        to_ring3 do_int43
.e:     caught  11, 0x43 * 8 + 2, "INT through a gate that is not present"
        try     .e2
        to_ring3 do_int_beyond
.e2:    caught  13, 0xF0 * 8 + 2, "INT with an empty gate"
        try     .f
        to_ring3 do_data
.f:     caught  13, DATA32, "ring 0's data segment in ring 3"
        try     .g
        to_ring3 do_gate0
.g:     caught  13, GATE0, "a call gate of DPL 0"
        try     .h
        to_ring3 do_gatenp
.h:     caught  11, GATENP, "a call gate that is not present"
        try     .i
        to_ring3 do_jump0
.i:     caught  13, CODE32, "a far jump to ring 0's code"
        try     .j
        to_ring3 do_retf0
.j:     caught  13, CODE32, "RETF to ring 0"
        try     .k
        to_ring3 do_lgdt
.k:     caught  13, 0, "LGDT in ring 3"

        ; I/O: IOPL 0 and no bitmap forbids all; a bitmap with bit E9h clear allows that one.
        mov     word [TSS_AT + 0x66], 0xFFFF    ; beyond the TSS's limit
        try     .l
        to_ring3 do_in
.l:     caught  13, 0, "IN without a bitmap"
        mov     word [TSS_AT + 0x66], 0x68
        mov     edi, TSS_AT + 0x68
        mov     ecx, 33
        mov     al, 0xFF
        rep     stosb
        try     .m
        to_ring3 do_in
.m:     caught  13, 0, "IN with its bit set"
        mov     byte [TSS_AT + 0x68 + 0xE9 / 8], 0xFF & ~(1 << (0xE9 % 8))
        try     .n
        to_ring3 do_in
.n:     caught  6, 0, "IN with its bit clear goes through, to the UD2 behind it"
        try     .o
        to_ring3 do_inw
.o:     caught  13, 0, "a 16-bit IN needs both bits"
        try     .p
        to_ring3 do_in_far
.p:     caught  13, 0, "a port beyond the bitmap"

        ; In ring 0, no stack switch: three dwords.
        mov     ebx, esp
        int     0x40
        expect  dword [seen + 8], MSTACK - 12, "INT in ring 0 stays on its stack"

        ; IRET to ring 3 clears segment registers that ring 3 must not have.
        gate    0x45, .back, INT_GATE | DPL3
        mov     ax, DATA32
        mov     gs, ax
        push    dword USER_DATA
        push    dword USTACK
        push    dword 2
        push    dword USER_CODE
        push    dword read_gs
        mov     ax, USER_DATA
        mov     ds, ax
        iretd
.back:  mov     eax, DATA32
        mov     ds, eax
        expect  ecx, 0, "IRET to ring 3 nulls GS if it was ring 0's"
        done

through_gate:
        mov     eax, cs
        mov     [seen], eax
        mov     eax, ss
        mov     [seen + 4], eax
        mov     [seen + 8], esp
        mov     eax, [esp + 8]
        mov     [seen + 12], eax
        mov     eax, [esp + 12]
        mov     [seen + 16], eax
        mov     eax, [esp + 16]
        mov     [seen + 20], eax
        mov     eax, [esp + 20]
        mov     [seen + 24], eax
        retf    8
int_gate:
        mov     eax, cs
        mov     [seen], eax
        mov     [seen + 8], esp
        mov     eax, [esp + 4]
        mov     [seen + 12], eax
        pushfd
        pop     eax
        and     eax, IF
        mov     [seen + 16], eax
        iretd
trap_gate:
        pushfd
        pop     eax
        and     eax, IF
        mov     [seen], eax
        iretd

do_cli: cli
do_hlt: hlt
do_cr0: mov     eax, cr0
do_int42: int   0x42
do_int43: int   0x43
do_int_beyond: int 0xF0
do_data: mov    ax, DATA32
        mov     ds, ax
        ud2
do_gate0: call  GATE0 | 3:0
do_gatenp: call GATENP | 3:0
do_jump0: jmp   CODE32:0
do_retf0: push  dword CODE32
        push    dword 0
        retf
do_lgdt: lgdt   [gdt_pointer]
do_in:  in      al, 0xE9
        ud2
do_inw: in      ax, 0xE9
        ud2
do_in_far:
        mov     dx, 0x100
        in      al, dx
        ud2
read_gs: mov    ecx, gs
        int     0x45
seen:   times   8 dd 0
rom_end
