; serial.asm - a 16550A: registers, loopback, FIFO, interrupt identification; COM1.

%include "rom.inc"
COM equ 0x3F8
%macro put 2
        mov     dx, COM + %1
        mov     al, %2
        out     dx, al
%endmacro
%macro get 1                            ; EAX
        mov     dx, COM + %1
        in      al, dx
        movzx   eax, al
%endmacro
start:  title   "16550A"
        put     1, 0                    ; no interrupts
        put     3, 0x80                 ; DLAB
        put     0, 1                    ; 115200
        put     1, 0
        get     0
        expect  eax, 1, "the divisor can be read"
        put     3, 0x03                 ; 8n1
        get     3
        expect  eax, 3, "LCR"
        put     7, 0x5A
        get     7
        expect  eax, 0x5A, "scratch register"
        mov     si, .hello              ; out into the world, for the harness to see
.say:   lodsb
        test    al, al
        jz      .said
        mov     cl, al
.thre:  get     5
        test    al, 0x20
        jz      .thre
        put     0, cl
        jmp     .say
.hello: db      "hello from COM1", 13, 10, 0
.said:
.empty: get     5
        test    al, 0x40
        jz      .empty
        put     2, 0x07                 ; FIFOs on, emptied
        get     2
        and     eax, 0xC0
        expect  eax, 0xC0, "IIR: the FIFO of a 16550A"

        put     4, 0x1F                 ; loopback, with all modem outputs on
        get     6
        and     eax, 0xF0
        expect  eax, 0xF0, "loopback: modem outputs come back as inputs"
        put     4, 0x11                 ; DTR only
        get     6
        and     eax, 0xF0
        expect  eax, 0x20, "loopback: DTR is DSR"
        get     6
        and     eax, 0x0F
        expect  eax, 0, "the delta bits clear by reading"
        get     5
        and     eax, 1
        expect  eax, 0, "no data yet"
        put     0, 0xA5
        call    data
        get     0
        expect  eax, 0xA5, "loopback: a byte comes back"
        get     5
        and     eax, 0x61
        expect  eax, 0x60, "and the receiver is empty, the transmitter too"

        mov     bl, 0                   ; 16 bytes fit
.fill:  mov     al, bl
        put     0, bl
        call    sent
        inc     bl
        cmp     bl, 16
        jb      .fill
        xor     ebx, ebx
        mov     cx, 16
.drain: call    data
        get     0
        cmp     al, bl
        jne     .bad
        inc     ebx
        loop    .drain
.bad:   expect  ebx, 16, "the FIFO holds 16 bytes in order"
        get     5
        and     eax, 1
        expect  eax, 0, "and is empty then"

        ; Interrupt identification, by polling IIR.
        put     1, 2                    ; THRE
        get     2
        and     eax, 0x0F
        expect  eax, 2, "enabling THRE on an empty transmitter raises it"
        get     2
        and     eax, 0x0F
        expect  eax, 1, "reading IIR clears it"
        put     1, 1                    ; received data
        put     2, 0x01                 ; FIFO on, trigger at 1
        put     0, 0x42
        call    data
        get     2
        and     eax, 0x0F
        expect  eax, 4, "received data"
        get     0
        get     2
        and     eax, 0x0F
        expect  eax, 1, "gone when read"

        ; IRQ 4 itself, through OUT2.
        cli
        mov     word [0x0C * 4], irq4
        mov     word [0x0C * 4 + 2], 0
        in      al, 0x21
        and     al, 0xEF
        out     0x21, al
        put     1, 0
        put     4, 0x08                 ; OUT2, loopback off
        sti                             ; an old request may still be latched in the PIC
        nop
        nop
        mov     dword [irqs], 0
        put     1, 2
        mov     cx, 1000
.wait:  cmp     dword [irqs], 0
        jne     .came
        loop    .wait
.came:  put     1, 0
        expect  dword [irqs], 1, "IRQ 4 arrives once"
        expect  dword [iir], 2, "its IIR says THRE"
        in      al, 0x21
        or      al, 0x10
        out     0x21, al
        done
data:   push    ax
        push    cx
        push    dx
        mov     cx, 0
.wait:  get     5
        test    al, 1
        jnz     .there
        loop    .wait
.there: pop     dx
        pop     cx
        pop     ax
        ret
sent:   push    ax
        push    dx
.wait:  get     5
        test    al, 0x40
        jz      .wait
        pop     dx
        pop     ax
        ret
irq4:   push    eax
        push    dx
        inc     dword [cs:irqs]
        get     2
        and     eax, 0x0F
        mov     [cs:iir], eax
        mov     al, 0x20
        out     0x20, al
        pop     dx
        pop     eax
        iret
        align   4, db 0
irqs:   dd      0
iir:    dd      -1
rom_end
