; single-step.asm - the trap flag, the shadow of MOV SS and STI.
; Intel SDM vol. 3B §17.3.1.4, vol. 3A §6.8.3.

%include "rom.inc"
start:  title   "single-stepping and interrupt shadows"
        jmp     enter_pm
%include "pm.inc"

BS equ 1 << 14

stepped:                                ; notes each EIP, clears nothing
        push    eax
        push    ecx
        mov     ecx, [steps]
        mov     eax, [esp + 8]
        mov     [trail + ecx * 4], eax
        inc     dword [steps]
        mov     eax, dr6
        or      [seen_dr6], eax
        pop     ecx
        pop     eax
        iretd

%macro trap_on 0
        mov     dword [steps], 0
        pushfd
        or      dword [esp], TF
        popfd
%endmacro
%macro trap_off 0
        pushfd
        and     dword [esp], ~TF
        popfd
%endmacro

main:   gate    1, stepped, INT_GATE
        gate    0x40, nothing, INT_GATE
        xor     eax, eax
        mov     dr6, eax
        trap_on
.s0:    nop
.s1:    inc     eax
.s2:    trap_off
.s3:    expect  dword [trail], .s1, "the first trap comes after the instruction behind POPF"
        expect  dword [trail + 4], .s2, "and then after each"
        expect  dword [steps], 5, "POPF that clears TF still traps, once more"
        expect  dword [trail + 16], .s3, "behind it"
        mov     eax, [seen_dr6]
        and     eax, BS
        expect  eax, BS, "DR6.BS"

        mov     edi, 0x50000
        mov     ecx, 3
        trap_on
.r0:    rep     stosb
.r1:    nop
        trap_off
        expect  dword [trail], .r0, "REP traps after each element: EIP stays"
        expect  dword [trail + 4], .r0, "second element"
        expect  dword [trail + 8], .r1, "after the last it is past"

        mov     ecx, ss
        trap_on
.m0:    mov     ss, cx
.m1:    nop
.m2:    nop
        trap_off
        expect  dword [trail], .m2, "no trap between MOV SS and the next instruction"

        trap_on
.i0:    int     0x40
        nop
.i1:    nop
        trap_off
        expect  dword [trail], .i1, "INT clears TF, IRET sets it: traps after the next one"
        expect  dword [after_int], 0, "TF is clear in the handler"

        trap_on
.p0:    push    eax
.p1:    pushfd
.p2:    pop     ebx
        pop     eax
        trap_off
        and     ebx, TF
        expect  ebx, TF, "PUSHF shows TF"

        ; STI keeps interrupts off for one more instruction: with a request pending, STI; CLI
        ; never takes it, and STI; NOP; CLI takes it behind the NOP.
        gate    0x20, tick, INT_GATE
        mov     al, 0x11                ; PIC to vectors 20h and 28h, only IRQ 0 open
        out     0x20, al
        mov     al, 0x20
        out     0x21, al
        mov     al, 4
        out     0x21, al
        mov     al, 1
        out     0x21, al
        mov     al, 0xFE
        out     0x21, al
        mov     al, 0x30                ; PIT counter 0: one shot, and wait until it is over
        out     0x43, al
        mov     al, 100
        out     0x40, al
        xor     al, al
        out     0x40, al
.pending:
        mov     al, 0x0A
        out     0x20, al
        in      al, 0x20
        test    al, 1
        jz      .pending
        sti
        cli
        expect  dword [ticks], 0, "STI; CLI: no interrupt in between"
        sti
.n0:    nop
.n1:    nop
        cli
        expect  dword [ticks], 1, "STI; NOP: taken"
        expect  dword [tick_eip], .n1, "behind the NOP"
        done
nothing:
        push    eax
        pushfd
        pop     eax
        and     eax, TF
        mov     [after_int], eax
        pop     eax
        iretd
tick:   push    eax
        inc     dword [ticks]
        mov     eax, [esp + 4]
        mov     [tick_eip], eax
        mov     al, 0x20
        out     0x20, al
        pop     eax
        iretd
        align   4, db 0
steps:  dd      0
seen_dr6: dd    0
after_int: dd   -1
ticks:  dd      0
tick_eip: dd    0
trail:  times   64 dd 0
rom_end
