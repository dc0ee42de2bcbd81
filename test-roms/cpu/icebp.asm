; icebp.asm - opcode F1, INT1 to the manuals since 2018, raises #DB as a trap; its gate's DPL
; is not looked at, unlike INT 1's. Intel SDM vol. 2A, INT1. Some QEMU versions raise #UD.

%include "rom.inc"
start:  title   "ICEBP (INT1)"
        jmp     enter_pm
%include "pm.inc"

main:   try     .a
        db      0xF1
.next:  ud2
.a:     caught  1, 0, "F1 raises #DB"
        expect  dword [t_eip], .next, "as a trap"
        try     .b
        to_ring3 .ring3
.b:     caught  1, 0, "also from ring 3 through a gate of DPL 0"
        try     .c
        to_ring3 .int_1
.c:     caught  13, 1 * 8 + 2, "where INT 1 is a #GP"
        done
.ring3: db      0xF1
        ud2
.int_1: int     1
        ud2
rom_end
