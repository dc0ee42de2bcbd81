; debug-traps.asm - debug exceptions: which accesses meet a data breakpoint, by length, kind and
; offset; several at once; DR6; MOV SS and what follows it; general detect; RF in the pushed
; flags, in the midst of a string instruction too. Intel SDM vol. 3B §17.2-17.3, vol. 3A §6.8.3.
;
; QEMU's TCG and Bochs fail here, in different places: neither delays the traps of MOV SS over
; INT n (vol. 3A §6.8.3: it is raised at the start of the handler) or pushes RF between two
; iterations of a string instruction (vol. 3B §17.3.1.1). QEMU, moreover, does not see all
; accesses. Bochs looks at DR7.GD before the privilege, and adds BS to BD.

%include "rom.inc"
start:  title   "debug traps"
        jmp     enter_pm
%include "pm.inc"

B0 equ 1
B1 equ 2
B2 equ 4
B3 equ 8
BD equ 1 << 13
BS equ 1 << 14
GD equ 1 << 13
FIXED equ 0xFFFF0FF0
DATA    equ 0x50010

hit:    push    eax                     ; notes EIP, EFLAGS and DR6 of each #DB, and clears DR6
        push    ecx
        mov     ecx, [hits]
        and     ecx, 15
        mov     eax, dr6
        mov     [log_dr6 + ecx * 4], eax
        mov     eax, [esp + 8]
        mov     [log_eip + ecx * 4], eax
        mov     eax, [esp + 16]
        mov     [log_flags + ecx * 4], eax
        inc     dword [hits]
        mov     eax, FIXED
        mov     dr6, eax
        mov     eax, [set_flags]        ; for the flags that IRET loads
        or      [esp + 16], eax
        mov     eax, [clear_flags]
        not     eax
        and     [esp + 16], eax
        pop     ecx
        pop     eax
        iretd
int3_handler:
        push    eax
        mov     eax, [esp + 4]
        mov     [int3_eip], eax
        pop     eax
        iretd

%macro armed 2                          ; DR0, DR7
        mov     dword [hits], 0
        mov     eax, %1
        mov     dr0, eax
        mov     eax, %2
        mov     dr7, eax
%endmacro
%macro disarm 0
        push    eax
        mov     eax, 0x400
        mov     dr7, eax
        pop     eax
%endmacro
%macro trap_on 0
        mov     dword [hits], 0
        pushfd
        or      dword [esp], TF
        popfd
%endmacro
%macro trap_off 0
        pushfd
        and     dword [esp], ~TF
        popfd
%endmacro

main:   gate    1, hit, INT_GATE
        gate    3, int3_handler, INT_GATE
        mov     eax, FIXED
        mov     dr6, eax

        ; Each length of breakpoint, kind, and each access near it, against what overlaps.
        xor     ebp, ebp                ; 0-2: length 1, 2, 4; +4: reads too
.sweep: mov     ecx, ebp
        and     ecx, 3
        mov     ebx, 1
        shl     ebx, cl
        dec     ebx                     ; LEN: 0, 1, 3
        shl     ebx, 2
        or      ebx, 1                  ; R/W: 1 writes, 3 reads too
        test    ebp, 4
        jz      .writes
        or      ebx, 2
.writes: shl    ebx, 16
        or      ebx, 0x402              ; G0
        mov     esi, DATA - 8           ; where
.place: xor     edi, edi                ; 0-2: width 1, 2, 4; +4: a write
.kind:  armed   DATA, ebx
        mov     ecx, edi
        call    [accesses + edi * 4]
        disarm
        ; Overlap: place + width > DATA and place < DATA + length.
        mov     ecx, edi
        and     ecx, 3
        mov     eax, 1
        shl     eax, cl
        add     eax, esi
        xor     edx, edx
        cmp     eax, DATA
        jbe     .outside
        mov     ecx, ebp
        and     ecx, 3
        mov     eax, 1
        shl     eax, cl
        add     eax, DATA
        cmp     esi, eax
        jae     .outside
        mov     eax, ebp
        or      eax, edi
        test    al, 4                   ; a write, or a breakpoint on reads
        jz      .outside
        inc     edx
.outside:
        inc     dword [checks]
        cmp     edx, [hits]
        je      .same
        inc     dword [differences]
        cmp     dword [differences], 1
        jne     .same
        push    esi
        push    edx
        text    esi, "breakpoint, access, hits, wanted: "
        call    print_32
        show    ebp
        show    edi
        show    [hits]
        pop     edx
        call    hex_32
        mov     al, 10
        out     0xE9, al
        pop     esi
.same:  inc     edi
        cmp     edi, 3
        jne     .kind2
        inc     edi
.kind2: cmp     edi, 7
        jb      .kind
        inc     esi
        cmp     esi, DATA + 8
        jb      .place
        inc     ebp
        cmp     ebp, 3
        jne     .sweep2
        inc     ebp
.sweep2: cmp    ebp, 7
        jb      .sweep
        expect  dword [checks], 6 * 16 * 6, "accesses near data breakpoints"
        expect  dword [differences], 0, "accesses that differ from the rule"

        ; Several breakpoints; DR6.
        mov     eax, DATA
        mov     dr1, eax
        mov     eax, DATA + 1
        mov     dr2, eax
        mov     eax, DATA + 4
        mov     dr3, eax
        armed   DATA, 0x111D0455        ; L0: writes to 4 bytes, the others: to one
        mov     byte [DATA], 0
.m1:    disarm
        expect  dword [hits], 1, "two breakpoints, one exception"
        expect  dword [log_dr6], FIXED | B0 | B1, "DR6 names both, not the others"
        expect  dword [log_eip], .m1, "behind the instruction"
        mov     eax, FIXED | BS | B3
        mov     dr6, eax
        armed   DATA, 0x00010402
        mov     byte [DATA], 0
        disarm
        expect  dword [log_dr6], FIXED | BS | B0, "DR6: BS stays as software left it, B3 does not"

        ; A push, a string instruction, a fault behind the access.
        mov     ebx, esp
        lea     eax, [esp - 4]
        armed   eax, 0x000D0402
        push    eax
        disarm
        pop     eax
        expect  dword [hits], 1, "PUSH meets a breakpoint on the stack"
        mov     edi, DATA - 8
        mov     ecx, 4
        armed   DATA, 0x000D0402
.s0:    rep     stosd
.s1:    disarm
        expect  dword [hits], 1, "REP STOS meets a breakpoint once"
        expect  dword [log_eip], .s0, "EIP: it goes on"
        expect  ecx, 0, "and does so"
        mov     eax, [log_flags]
        and     eax, RF
        expect  eax, RF, "RF is pushed between two iterations"
        mov     edi, DATA - 12
        mov     ecx, 4
        armed   DATA, 0x000D0402
        rep     stosd
.t1:    disarm
        expect  dword [log_eip], .t1, "in the last iteration: EIP is behind it"
        mov     eax, [log_flags]
        and     eax, RF
        expect  eax, 0, "and RF is clear"

        ; Single steps in a string instruction.
        mov     edi, DATA
        mov     ecx, 3
        trap_on
.r0:    rep     stosb
.r1:    trap_off
        expect  dword [log_eip], .r0, "single step after an iteration"
        mov     eax, [log_flags]
        and     eax, RF
        expect  eax, RF, "RF is pushed"
        mov     eax, [log_flags + 8]
        and     eax, RF
        expect  eax, 0, "not after the last one"

        ; An instruction breakpoint on a string instruction is met once.
        mov     edi, DATA
        mov     ecx, 3
        mov     dword [set_flags], RF
        armed   .x0, 0x402
.x0:    rep     stosb
        disarm
        mov     dword [set_flags], 0
        expect  dword [hits], 1, "an instruction breakpoint on REP STOS is met once"
        expect  ecx, 0, "all iterations were made"

        ; Faults push RF, and an instruction breakpoint comes before the instruction's fault.
        try     .f1
        ud2
.f1:    mov     eax, [t_eflags]
        and     eax, RF
        expect  eax, RF, "#UD pushes RF set"
        try     .f2
        int     0x30
.f2:    mov     eax, [t_eflags]
        and     eax, RF
        expect  eax, RF, "#GP of an INT through an empty gate too"
        armed   .f3, 0x402
        mov     dword [set_flags], RF
        try     .f4
.f3:    ud2
.f4:    disarm
        mov     dword [set_flags], 0
        expect  dword [hits], 1, "an instruction breakpoint on UD2: #DB first"
        caught  6, 0, "and then #UD"

        ; Execution breakpoint and MOV SS: inhibited behind it.
        mov     ecx, ss
        armed   .b1, 0x402
        mov     ss, ecx
.b1:    nop
        disarm
        expect  dword [hits], 0, "no instruction breakpoint behind MOV SS"

        ; A data breakpoint that MOV SS meets waits for one instruction.
        mov     dword [DATA], DATA32
        armed   DATA, 0x000F0402
        mov     ss, [DATA]
.w0:    nop
.w1:    nop
        disarm
        expect  dword [hits], 1, "MOV SS with a data breakpoint: once"
        expect  dword [log_eip], .w1, "behind the next instruction"
        expect  dword [log_dr6], FIXED | B0, "with its bit in DR6"
        armed   DATA, 0x000F0402
        mov     ss, [DATA]
        int1
.w2:    nop
        disarm
        expect  dword [hits], 1, "INT1 behind it: one exception"
        expect  dword [log_eip], .w2, "that of INT1"
        armed   DATA, 0x000F0402
        mov     ss, [DATA]
        int     1
.w3:    nop
        disarm
        expect  dword [hits], 2, "INT 1 behind it: two"
        ; The second interrupts the first at its start, so it is logged first.
        expect  dword [log_eip], hit, "one at the start of the handler"
        expect  dword [log_dr6], FIXED | B0, "for the data breakpoint"
        expect  dword [log_eip + 4], .w3, "and the interrupt's own"
        mov     dword [int3_eip], 0
        armed   DATA, 0x000F0402
        mov     ss, [DATA]
        int3
.w4:    nop
        disarm
        expect  dword [hits], 1, "INT3 behind it: one #DB"
        expect  dword [log_eip], int3_handler, "at the start of the #BP handler"
        expect  dword [int3_eip], .w4, "and the #BP"

        ; The trap flag with MOV SS and INT1.
        mov     ecx, ss
        trap_on
        mov     ss, ecx
        int1
.i1:    int1
.i2:    nop
.i3:    trap_off
        expect  dword [log_eip], .i1, "TF, MOV SS, INT1: the trap of INT1"
        expect  dword [log_dr6], FIXED, "without BS"
        expect  dword [log_eip + 4], .i2, "TF, INT1: one trap"
        expect  dword [log_dr6 + 4], FIXED, "without BS too"
        expect  dword [log_eip + 8], .i3, "and single steps go on"
        expect  dword [log_dr6 + 8], FIXED | BS, "with BS"

        ; HLT completes, and its single step wakes the processor at once.
        mov     al, 0xFF
        out     0x21, al
        out     0xA1, al
        trap_on
        sti
.h0:    hlt
.h1:    cli
.h2:    trap_off
        expect  dword [log_eip], .h0, "TF, STI: a trap in the shadow of STI"
        expect  dword [log_eip + 4], .h1, "TF, HLT: a trap behind it"
        expect  dword [log_eip + 8], .h2, "and on"

        ; General detect, and with MOV SS and TF before it.
        mov     dword [hits], 0
        mov     eax, 0x400 | GD
        mov     dr7, eax
.g0:    mov     eax, dr0
.g1:    expect  dword [hits], 1, "general detect"
        expect  dword [log_eip], .g0, "a fault: EIP is the MOV's"
        expect  dword [log_dr6], FIXED | BD, "DR6.BD"
        mov     eax, dr7
        and     eax, GD
        expect  eax, 0, "GD is cleared on the way into the handler"
        mov     eax, 0x400 | GD
        mov     ecx, ss
        mov     dr7, eax
        mov     edx, FIXED
        trap_on
        mov     ss, ecx
.g2:    mov     dr6, edx
.g3:    nop
.g4:    trap_off
        disarm
        expect  dword [log_eip], .g2, "TF, MOV SS, general detect: its fault"
        expect  dword [log_dr6], FIXED | BD, "BD only"
        expect  dword [log_eip + 4], .g3, "then the single step"
        expect  dword [log_dr6 + 4], FIXED | BS, "BS only"
        mov     eax, 0x400 | GD
        mov     dr7, eax
        try     .g5
        to_ring3 read_dr
.g5:    caught  13, 0, "in ring 3 the privilege is checked before general detect"
        mov     dword [hits], 0
        disarm                          ; #DB, whose return repeats it
        expect  dword [hits], 1, "MOV to DR7 is detected too"

        ; I/O breakpoints by length, width and port.
        mov     eax, cr4
        or      eax, 8                  ; DE
        mov     cr4, eax
        mov     dword [checks], 0
        mov     dword [differences], 0
        xor     ebp, ebp                ; 0-2: length
.io:    mov     ecx, ebp
        mov     ebx, 1
        shl     ebx, cl
        dec     ebx
        shl     ebx, 2
        or      ebx, 2
        shl     ebx, 16
        or      ebx, 0x402
        mov     esi, 0x300              ; the port; the breakpoint is at 304h
.port:  xor     edi, edi
.width: mov     edx, esi
        armed   0x304, ebx
        call    [ports + edi * 4]
        disarm
        mov     ecx, edi
        mov     eax, 1
        shl     eax, cl
        add     eax, esi
        xor     edx, edx
        cmp     eax, 0x304
        jbe     .io_outside
        mov     ecx, ebp
        mov     eax, 1
        shl     eax, cl
        add     eax, 0x304
        cmp     esi, eax
        jae     .io_outside
        inc     edx
.io_outside:
        inc     dword [checks]
        cmp     edx, [hits]
        je      .io_same
        inc     dword [differences]
.io_same:
        inc     edi
        cmp     edi, 3
        jb      .width
        inc     esi
        cmp     esi, 0x30C
        jb      .port
        inc     ebp
        cmp     ebp, 3
        jb      .io
        expect  dword [checks], 3 * 12 * 3, "accesses near I/O breakpoints"
        expect  dword [differences], 0, "of them that differ from the rule"
        mov     eax, cr4
        and     eax, ~8
        mov     cr4, eax
        armed   0x304, 0x00020402
        mov     edx, 0x304
        in      al, dx
        disarm
        expect  dword [hits], 0, "without CR4.DE the kind is undefined, and no I/O breakpoint"
        done

read_dr: mov    eax, dr0
        ud2
read8:  mov     al, [esi]
        ret
read16: mov     ax, [esi]
        ret
read32: mov     eax, [esi]
        ret
write8: mov     [esi], al
        ret
write16: mov    [esi], ax
        ret
write32: mov    [esi], eax
        ret
in8:    in      al, dx
        ret
in16:   in      ax, dx
        ret
in32:   in      eax, dx
        ret
        align   4, db 0
accesses: dd    read8, read16, read32, 0, write8, write16, write32
ports:  dd      in8, in16, in32
set_flags: dd   0
clear_flags: dd 0
int3_eip: dd    0
hits:   dd      0
checks: dd      0
differences: dd 0
log_dr6: times  16 dd 0
log_eip: times  16 dd 0
log_flags: times 16 dd 0
rom_end
