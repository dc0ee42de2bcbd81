; pic.asm - the two 8259As: masks, requests, priority, EOI, cascade, poll. Requests are made
; by the PIT (0), the keyboard controller's command D2h (1), COM1 (4) and the RTC (8).

%include "rom.inc"
start:  title   "8259A"
        cli
        mov     al, 0xFF
        out     0x21, al
        out     0xA1, al
        in      al, 0x21
        movzx   eax, al
        expect  eax, 0xFF, "IMR reads back"
        ; Own vectors: IRQ n records n.
        mov     word [0x08 * 4], irq0
        mov     word [0x09 * 4], irq1
        mov     word [0x0C * 4], irq4
        mov     word [0x70 * 4], irq8
        xor     ax, ax
        mov     [0x08 * 4 + 2], ax
        mov     [0x09 * 4 + 2], ax
        mov     [0x0C * 4 + 2], ax
        mov     [0x70 * 4 + 2], ax

        call    quiet
        call    raise4
        call    irr
        and     eax, 0x10
        expect  eax, 0x10, "a masked request is in the IRR"
        sti
        nop
        nop
        cli
        expect  dword [count], 0, "but does not interrupt"
        mov     al, 0xEF
        out     0x21, al
        sti
        nop
        nop
        cli
        expect  dword [count], 1, "unmasked, it does"
        movzx   eax, byte [order]
        expect  eax, 4, "as IRQ 4"
        call    irr
        and     eax, 0x10
        expect  eax, 0, "and leaves the IRR"
        call    isr
        expect  eax, 0, "EOI cleared the ISR"

        ; All at once: 0, 1, 8 (on input 2), 4.
        call    quiet
        call    raise4
        call    raise8
        call    raise1
        call    raise0
        mov     al, 0xE8                ; 0, 1, 2, 4 open
        out     0x21, al
        mov     al, 0xFE
        out     0xA1, al
        sti
        mov     cx, 100
.wait:  nop
        loop    .wait
        cli
        call    quiet_devices
        expect  dword [count], 4, "four requests, four interrupts"
        expect  dword [order], 0x04080100, "in the order 0, 1, 8, 4"

        ; Without EOI: higher priority nests, lower waits.
        call    quiet
        mov     byte [hold], 1          ; IRQ 4's handler: no EOI, then STI and wait
        call    raise4
        mov     al, 0xEC                ; 0, 1, 4
        out     0x21, al
        sti
        nop
        nop
        cli
        call    isr
        expect  eax, 0x10, "in service until EOI"
        call    raise0
        call    raise4
        sti
        mov     cx, 100
.wait2: nop
        loop    .wait2
        cli
        expect  dword [count], 2, "a higher one interrupts, the same one does not"
        movzx   eax, byte [order + 1]
        expect  eax, 0, "it was IRQ 0"
        mov     al, 0x64                ; specific EOI for 4
        out     0x20, al
        call    isr
        expect  eax, 0, "specific EOI"
        mov     byte [hold], 0
        call    quiet_devices
        sti
        nop
        nop
        cli

        ; Poll: the answer is the number with bit 7, and counts as the acknowledge.
        call    quiet
        call    raise4
        mov     al, 0xEF
        out     0x21, al
        mov     al, 0x0C
        out     0x20, al
        in      al, 0x20
        movzx   eax, al
        and     eax, 0x87
        expect  eax, 0x84, "poll: IRQ 4"
        call    isr
        expect  eax, 0x10, "poll puts it into service"
        mov     al, 0x20
        out     0x20, al
        call    quiet_devices
        mov     al, 0xFF
        out     0x21, al
        mov     al, 0x0C
        out     0x20, al
        in      al, 0x20
        movzx   eax, al
        and     eax, 0x80
        expect  eax, 0, "poll: nothing"

        ; Rotation: after a rotate that makes 3 the lowest, 4 goes before 0.
        call    quiet
        mov     al, 0xC3                ; set priority: 3 is lowest, so 4 is highest
        out     0x20, al
        call    raise0
        call    raise4
        mov     al, 0xEE
        out     0x21, al
        sti
        mov     cx, 100
.wait3: nop
        loop    .wait3
        cli
        movzx   eax, word [order]
        expect  eax, 0x0004, "set priority: 4 before 0"
        mov     al, 0xC7                ; back to normal
        out     0x20, al

        ; A request that goes away before the acknowledge. An 8259A then answers IRQ 7, with
        ; nothing in service; one that latches edges (as many emulators do) still gives
        ; IRQ 4. Either way there is one interrupt at most, and the ISR ends empty.
        call    quiet
        mov     word [0x0F * 4], irq7
        mov     word [0x0F * 4 + 2], 0
        call    raise4
        mov     al, 0x6F                ; 4 and 7 open
        out     0x21, al
        mov     dx, 0x3FA
        in      al, dx                  ; reading IIR withdraws it
        sti
        mov     cx, 100
.wait4: nop
        loop    .wait4
        cli
        cmp     dword [count], 2
        setb    al
        movzx   eax, al
        expect  eax, 1, "a withdrawn request interrupts once at most"
        expect  dword [spurious_isr], 0, "IRQ 7 without its ISR bit is spurious"
        call    isr
        expect  eax, 0, "and nothing stays in service"
        call    quiet
        done

; A quiet start: sources off, requests taken, everything masked, counts at 0.
quiet:  call    quiet_devices
        mov     al, 0xFF
        out     0x21, al
        out     0xA1, al
        mov     al, 0x11                ; ICW1 clears the latched requests
        out     0x20, al
        out     0xA0, al
        mov     al, 0x08
        out     0x21, al
        mov     al, 0x70
        out     0xA1, al
        mov     al, 4
        out     0x21, al
        mov     al, 2
        out     0xA1, al
        mov     al, 1
        out     0x21, al
        out     0xA1, al
        mov     al, 0xFF
        out     0x21, al
        out     0xA1, al
        mov     dword [count], 0
        mov     dword [order], -1
        ret
quiet_devices:
        mov     dx, 0x3F9
        xor     al, al
        out     dx, al
        mov     dx, 0x3FA
        in      al, dx
        mov     dx, 0x3FC
        mov     al, 8
        out     dx, al
        mov     al, 0x0B
        out     0x70, al
        mov     al, 0x02                ; no RTC interrupts
        out     0x71, al
        mov     al, 0x0C
        out     0x70, al
        in      al, 0x71
        mov     al, 0x30                ; PIT: mode 0, output low, no count loaded
        out     0x43, al
.kbd:   in      al, 0x64
        test    al, 1
        jz      .done
        in      al, 0x60
        jmp     .kbd
.done:  ret
raise0: mov     al, 0x30                ; one shot of one count
        out     0x43, al
        mov     al, 2
        out     0x40, al
        xor     al, al
        out     0x40, al
.wait:  call    irr
        test    al, 1
        jz      .wait
        ret
raise1: call    .ready
        mov     al, 0xD2                ; the next byte appears as if from the keyboard
        out     0x64, al
        call    .ready
        mov     al, 0x1E
        out     0x60, al
.wait:  call    irr
        test    al, 2
        jz      .wait
        ret
.ready: in      al, 0x64
        test    al, 2
        jnz     .ready
        ret
raise4: mov     dx, 0x3F9
        xor     al, al
        out     dx, al
        mov     al, 2                   ; THRE on an idle transmitter
        out     dx, al
        ret
raise8: mov     al, 0x0A
        out     0x70, al
        mov     al, 0x26
        out     0x71, al
        mov     al, 0x0B
        out     0x70, al
        mov     al, 0x42
        out     0x71, al
.wait:  mov     al, 0x0A
        out     0xA0, al
        in      al, 0xA0
        test    al, 1
        jz      .wait
        ret
irr:    mov     al, 0x0A
        out     0x20, al
        in      al, 0x20
        movzx   eax, al
        ret
isr:    mov     al, 0x0B
        out     0x20, al
        in      al, 0x20
        movzx   eax, al
        ret
%macro record 1
        push    eax
        push    bx
        push    dx
        mov     bx, [count]
        mov     byte [order + bx], %1
        inc     dword [count]
%endmacro
irq0:   record  0
        jmp     eoi
irq1:   record  1
        in      al, 0x60
        jmp     eoi
irq4:   record  4
        mov     dx, 0x3FA
        in      al, dx
        cmp     byte [hold], 0
        jne     leave_it
        jmp     eoi
irq8:   record  8
        mov     al, 0x0B                ; once is enough
        out     0x70, al
        mov     al, 0x02
        out     0x71, al
        mov     al, 0x0C
        out     0x70, al
        in      al, 0x71
        mov     al, 0x20
        out     0xA0, al
eoi:    mov     al, 0x20
        out     0x20, al
leave_it:
        pop     dx
        pop     bx
        pop     eax
        iret
irq7:   record  7
        call    isr                     ; no EOI: there is nothing to end
        and     eax, 0x80
        mov     [spurious_isr], eax
        jmp     leave_it
        align   4, db 0
spurious_isr: dd 0
count:  dd      0
order:  times   64 db 0
hold:   db      0
rom_end
