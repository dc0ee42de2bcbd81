; Glassbox BIOS: hardware interrupt handlers other than the keyboard's and the floppy's.
; Sources: IBM PC/AT Technical Reference; 8259A data sheet (spurious IRQ 7 and 15); MC146818 data sheet.

; INT 02h: NMI. Nothing on this board raises it but a parity error on an ISA card.
int02:
        iret

; INT 08h: IRQ 0, 18.2 times a second.
int08:
        push    eax
        push    ds
        set_ds  BDA
        inc     dword [B_TICKS]
        cmp     dword [B_TICKS], 1800B0h        ; 24 hours
        jb      .motor
        mov     dword [B_TICKS], 0
        mov     byte [B_MIDNIGHT], 1
.motor: cmp     byte [B_FDTIMER], 0
        je      .user
        dec     byte [B_FDTIMER]
        jnz     .user
        push    dx
        and     byte [B_FDMOTOR], 0F0h
        mov     dx, 3F2h
        mov     al, 0Ch
        out     dx, al
        pop     dx
.user:  pop     ds
        push    ds
        push    dx
        int     1Ch
        cli
        mov     al, 20h
        out     20h, al
        pop     dx
        pop     ds
        pop     eax
        iret

; An IRQ of the first 8259A that nothing has claimed: acknowledge it, and mask it so that it cannot storm.
irq_master:
        push    ax
        push    ds
        set_ds  BDA
        mov     al, 0Bh
        out     20h, al
        in      al, 20h                 ; in service; 0 when spurious or a software INT
        mov     ah, al
        test    al, al
        jnz     .real
        mov     ah, 0FFh
        jmp     .end
.real:  push    ax
        in      al, 21h
        and     ah, 0FBh                ; never mask the cascade
        or      al, ah
        out     21h, al
        pop     ax
        mov     al, 20h
        out     20h, al
.end:   mov     [B_IRQ], ah
        pop     ds
        pop     ax
        iret

; The same for the second 8259A. A spurious IRQ 15 still needs the cascade's EOI.
irq_slave:
        push    ax
        push    ds
        set_ds  BDA
        mov     al, 0Bh
        out     0A0h, al
        in      al, 0A0h
        mov     ah, al
        test    al, al
        jz      .eoi1
        in      al, 0A1h
        or      al, ah
        out     0A1h, al
        mov     al, 20h
        out     0A0h, al
.eoi1:  mov     al, 0Bh
        out     20h, al
        in      al, 20h
        test    al, 4
        jz      .end
        mov     al, 20h
        out     20h, al
.end:   mov     [B_IRQ], ah
        pop     ds
        pop     ax
        iret

; INT 70h: IRQ 8, the RTC: periodic (waits of INT 15h/83 and 86) and alarm (INT 4Ah).
int70:
        push    eax
        push    ds
        push    es
        set_ds  BDA
        mov     al, 0Ch
        call    cmos_read
        mov     ah, al
        mov     al, 0Bh
        call    cmos_read
        and     al, ah                  ; only what is enabled
        test    al, 40h
        jz      .alarm
        test    byte [B_WAITACT], 1
        jz      .alarm
        sub     dword [B_WAITCNT], 976
        ja      .alarm
        mov     byte [B_WAITACT], 0
        push    bx
        les     bx, [B_WAITPTR]         ; may be 40:A0 itself
        or      byte [es:bx], 80h
        pop     bx
        push    ax
        mov     al, 0Bh
        call    cmos_read
        and     al, 0BFh
        mov     ah, al
        mov     al, 0Bh
        call    cmos_write
        pop     ax
.alarm: test    al, 20h
        jz      .eoi
        sti
        int     4Ah
        cli
.eoi:   mov     al, 20h
        out     0A0h, al
        out     20h, al
        pop     es
        pop     ds
        pop     eax
        iret

; INT 71h: IRQ 9 goes where IRQ 2 of the PC went.
int71:
        push    ax
        mov     al, 20h
        out     0A0h, al
        pop     ax
        int     0Ah
        iret

; INT 75h: IRQ 13, x87 error: clear the latch and raise the NMI vector as the PC did.
int75:
        push    ax
        xor     al, al
        out     0F0h, al
        mov     al, 20h
        out     0A0h, al
        out     20h, al
        pop     ax
        int     02h
        iret

; INT 76h, 77h: IRQ 14 and 15, IDE.
int76:
        push    ax
        push    ds
        set_ds  BDA
        mov     byte [B_HDFLAG], 0FFh
        mov     al, 20h
        out     0A0h, al
        out     20h, al
        mov     ax, 9100h               ; device post
        int     15h
        pop     ds
        pop     ax
        iret

; INT 05h: print screen. 50:00 is 1 while printing, FFh after an error.
int05:
        sti
        pusha
        push    ds
        set_ds  50h
        cmp     byte [0], 1
        je      .busy
        mov     byte [0], 1
        mov     ah, 0Fh
        int     10h                     ; AH = columns, BH = page
        mov     cl, ah
        mov     ch, 25
        mov     ah, 3
        push    cx
        int     10h
        pop     cx
        push    dx                      ; cursor to restore
        xor     dx, dx
.row:   call    .newline
        jnz     .fail
        mov     dl, 0
.col:   mov     ah, 2
        int     10h
        mov     ah, 8
        int     10h
        test    al, al
        jnz     .print
        mov     al, ' '
.print: call    .put
        jnz     .fail
        inc     dl
        cmp     dl, cl
        jb      .col
        inc     dh
        cmp     dh, ch
        jb      .row
        call    .newline
        mov     al, 0
        jz      .end
.fail:  mov     al, 0FFh
.end:   pop     dx
        push    ax
        mov     ah, 2
        int     10h
        pop     ax
        mov     [0], al
.busy:  pop     ds
        popa
        iret
.newline:
        mov     al, 13
        call    .put
        jnz     .ret
        mov     al, 10
.put:   push    dx
        xor     dx, dx
        mov     ah, 0
        int     17h
        pop     dx
        test    ah, 29h                 ; time-out, error, no paper
.ret:   ret
