; Glassbox BIOS: serial and parallel ports, INT 14h and 17h, and the small INT 11h and 12h.
; Sources: 16550A data sheet; IBM PC/AT Technical Reference; Ralf Brown's Interrupt List.

; init_ports: fills 40:00 and 40:08 with the ports that answer, and counts them in the equipment word. DS = 0.
init_ports:
        mov     si, .com
        mov     di, 400h+B_COM
        xor     bx, bx
.nextc: mov     dx, [cs:si]
        add     si, 2
        test    dx, dx
        jz      .lpts
        add     dx, 7                   ; scratch register
        mov     al, 5Ah
        out     dx, al
        in      al, dx
        cmp     al, 5Ah
        jne     .nextc
        mov     al, 0A5h
        out     dx, al
        in      al, dx
        cmp     al, 0A5h
        jne     .nextc
        sub     dx, 5                   ; IIR: the top bits are 00 or 11, and 30h reads 0
        in      al, dx
        test    al, 30h
        jnz     .nextc
        dec     dx                      ; IER
        mov     al, 0
        out     dx, al
        dec     dx
        mov     [di], dx
        add     di, 2
        inc     bx
        jmp     .nextc
.lpts:  shl     bx, 9
        or      [400h+B_EQUIP], bx
        mov     di, 400h+B_LPT
        xor     bx, bx
.nextl: mov     dx, [cs:si]
        add     si, 2
        test    dx, dx
        jz      .end
        mov     al, 0AAh
        out     dx, al
        in      al, dx
        cmp     al, 0AAh
        jne     .nextl
        mov     al, 55h
        out     dx, al
        in      al, dx
        cmp     al, 55h
        jne     .nextl
        mov     [di], dx
        add     di, 2
        inc     bx
        add     dx, 2
        mov     al, 0Ch                 ; selected, initialise high
        out     dx, al
        jmp     .nextl
.end:   shl     bx, 14
        or      [400h+B_EQUIP], bx
        ret
.com    dw      3F8h, 2F8h, 3E8h, 2E8h, 0
.lpt    dw      3BCh, 378h, 278h, 0

; INT 11h: equipment word. INT 12h: KiB of conventional memory.
int11:
        push    ds
        set_ds  BDA
        mov     ax, [B_EQUIP]
        pop     ds
        iret
int12:
        push    ds
        set_ds  BDA
        mov     ax, [B_MEMKB]
        pop     ds
        iret

; INT 14h: serial port DX. AH=00 initialise, 01 send, 02 receive, 03 status, 04/05 extended (not supported).
int14:
        sti
        enter_service
        poll_reset
        set_ds  BDA
        mov     si, [bp+F_DX]
        cmp     si, 3
        ja      .ret
        mov     di, si
        add     si, si
        mov     dx, [B_COM+si]
        test    dx, dx
        jz      .ret
        mov     ah, [bp+F_AH]
        cmp     ah, 0
        je      .init
        cmp     ah, 1
        je      .send
        cmp     ah, 2
        je      .recv
        cmp     ah, 3
        je      .stat
.ret:   leave_service

.init:  mov     bl, [bp+F_AL]
        mov     al, 83h
        add     dx, 3
        out     dx, al                  ; DLAB
        movzx   si, bl
        shr     si, 5
        add     si, si
        mov     ax, [cs:0E729h+si]
        sub     dx, 3
        out     dx, al
        inc     dx
        mov     al, ah
        out     dx, al
        add     dx, 2
        mov     al, bl
        and     al, 1Fh
        out     dx, al                  ; word length, stop bits, parity
        sub     dx, 2
        mov     al, 0
        out     dx, al
        dec     dx
.stat:  add     dx, 5
        in      al, dx
        mov     [bp+F_AH], al
        inc     dx
        in      al, dx
        mov     [bp+F_AL], al
        jmp     .ret

.send:  add     dx, 4
        mov     al, 3                   ; DTR, RTS
        out     dx, al
        mov     bl, 20h                 ; THRE
        call    .wait
        jc      .late
        mov     ah, al
        mov     al, [bp+F_AL]
        sub     dx, 5
        out     dx, al
        mov     [bp+F_AH], ah
        jmp     .ret
.recv:  add     dx, 4
        mov     al, 1
        out     dx, al
        mov     bl, 1                   ; data ready
        call    .wait
        jc      .late
        and     al, 1Eh
        mov     [bp+F_AH], al
        sub     dx, 5
        in      al, dx
        mov     [bp+F_AL], al
        jmp     .ret
.late:  or      al, 80h
        mov     [bp+F_AH], al
        jmp     .ret

; Waits for bit BL of the line status; DX = modem control port; leaves DX at the line status port. The unit of
; 40:7C is about a second.
.wait:  inc     dx
        mov     bh, [B_COMTIME+di]
.second:mov     si, 40000
.poll:  in      al, dx
        test    al, bl
        jnz     .ready
        push    cx
        mov     cx, 1
        call    delay
        pop     cx
        dec     si
        jnz     .poll
        dec     bh
        jnz     .second
        stc
        ret
.ready: clc
        ret

; INT 17h: parallel port DX. AH=00 print AL, 01 initialise, 02 status.
int17:
        sti
        enter_service
        poll_reset
        set_ds  BDA
        mov     si, [bp+F_DX]
        cmp     si, 2
        ja      .none
        mov     di, si
        add     si, si
        mov     dx, [B_LPT+si]
        test    dx, dx
        jz      .none
        mov     ah, [bp+F_AH]
        cmp     ah, 1
        je      .init
        ja      .stat
        mov     al, [bp+F_AL]
        out     dx, al
        inc     dx
        mov     cx, 40000
.busy:  in      al, dx
        test    al, 80h
        jnz     .strobe
        push    cx
        mov     cx, 1
        call    delay
        pop     cx
        loop    .busy
        dec     dx
        call    .status
        or      byte [bp+F_AH], 1
        jmp     .ret
.strobe:inc     dx
        mov     al, 0Dh
        out     dx, al
        mov     al, 0Ch
        out     dx, al
        sub     dx, 2
        jmp     .stat
.init:  add     dx, 2
        mov     al, 8
        out     dx, al
        mov     cx, 10
        call    delay
        mov     al, 0Ch
        out     dx, al
        sub     dx, 2
.stat:  call    .status
.ret:   leave_service
.none:  mov     byte [bp+F_AH], 29h     ; no such printer: time-out, error, no paper
        leave_service
.status:inc     dx
        in      al, dx
        and     al, 0F8h
        xor     al, 48h
        mov     [bp+F_AH], al
        ret
