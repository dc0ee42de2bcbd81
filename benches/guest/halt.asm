; halt.asm - idle: HLT until the timer's next interrupt, 10,000 times a second
;
; A machine whose time follows the wall sleeps here; what is left is the cost of waking up.

%define KIND "halt"
%include "real.inc"

PIT     equ     0x40
DIVISOR equ     119

work:   cli
        mov     word [8 * 4], tick
        mov     word [8 * 4 + 2], cs
        mov     al, 0x34                ; channel 0, both bytes, mode 2
        out     PIT + 3, al
        mov     al, DIVISOR & 0xFF
        out     PIT, al
        mov     al, DIVISOR >> 8
        out     PIT, al
        rounds  100000
.round: sti
        hlt
        cli
        cmp     byte [ticked], 0
        je      .round                  ; another interrupt
        mov     byte [ticked], 0
        again   .round
        mov     ax, [left]
        ret

tick:   push    ax
        mov     byte [ticked], 1
        mov     al, 0x20
        out     0x20, al
        pop     ax
        iret
ticked: db      0

        boot_signature
        image_end
