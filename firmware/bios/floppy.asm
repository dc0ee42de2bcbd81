; Glassbox BIOS: diskettes: INT 40h (INT 13h for DL < 80h), INT 0Eh.
; Sources: Intel 82077AA data sheet (commands, status registers, DIR, CCR); 8237A data sheet; Ralf Brown's Interrupt
; List, INT 13h. Drives of this board are at speed at once, so that there is no motor start delay.

; init_floppy: counts the drives of CMOS 10h in the equipment word, prints them, chooses INT 1Eh's table. DS = 0.
init_floppy:
        push    ds
        xor     ax, ax
        mov     ds, ax
        mov     word [1Eh*4], dpt
        mov     [1Eh*4+2], cs
        mov     al, 10h
        call    cmos_read
        mov     bl, al
        test    al, al
        jz      .end
        mov     ah, 0
        test    al, 0Fh
        jz      .one
        mov     ah, 40h
.one:   or      ah, 1
        or      [400h+B_EQUIP], ah
        mov     byte [400h+B_FDCAPS], 77h
        shr     al, 4
        call    fd_table_for
        mov     [1Eh*4], si
        mov     dh, 'A'
        mov     al, bl
        shr     al, 4
        call    .show
        mov     dh, 'B'
        mov     al, bl
        and     al, 0Fh
        call    .show
        in      al, 21h
        and     al, 0BFh                ; IRQ 6
        out     21h, al
        mov     dx, 3F2h
        mov     al, 0Ch
        out     dx, al
.end:   pop     ds
        ret
.show:  jz      .none
        cmp     al, 6
        ja      .none
        mov     si, .label
        call    print_label
        movzx   si, al
        shl     si, 1
        mov     si, [cs:.names+si]
        call    print
        mov     si, .as
        call    print
        mov     al, dh
        call    print_char
        mov     al, ':'
        call    print_char
        jmp     print_crlf
.none:  ret
.label  db      "Floppy", 0
.as     db      " as ", 0
.names  dw      0, .n1, .n2, .n3, .n4, .n5, .n5
.n1     db      "360 KB", 0
.n2     db      "1.2 MB", 0
.n3     db      "720 KB", 0
.n4     db      "1.44 MB", 0
.n5     db      "2.88 MB", 0

; fd_table_for: AL = drive type; out CS:SI = its diskette parameter table.
fd_table_for:
        mov     si, dpt
        cmp     al, 4
        je      .end
        cmp     al, 6
        ja      .end
        push    bx
        movzx   bx, al
        shl     bx, 1
        mov     si, [cs:.tables+bx]
        pop     bx
.end:   ret
.tables dw      dpt, dpt_360, dpt_1200, dpt_720, dpt, dpt_2880, dpt_2880
dpt_360:  db    0DFh, 2, 25h, 2, 9, 2Ah, 0FFh, 50h, 0F6h, 0Fh, 8
dpt_1200: db    0DFh, 2, 25h, 2, 15, 1Bh, 0FFh, 54h, 0F6h, 0Fh, 8
dpt_720:  db    0DFh, 2, 25h, 2, 9, 2Ah, 0FFh, 50h, 0F6h, 0Fh, 8
dpt_2880: db    0AFh, 2, 25h, 2, 36, 1Bh, 0FFh, 54h, 0F6h, 0Fh, 8

; INT 0Eh: IRQ 6.
int0e:
        push    ax
        push    ds
        set_ds  BDA
        or      byte [B_FDRECAL], 80h
        mov     al, 20h
        out     20h, al
        mov     ax, 9101h
        int     15h
        pop     ds
        pop     ax
        iret

; --- INT 40h ----------------------------------------------------------------------------------------------------
; Inside: DS = 40h, BL = drive (0 or 1), BH = its type from CMOS.
int40:
        sti
        enter_service
        poll_reset
        set_ds  BDA
        mov     bl, [bp+F_DL]
        call    fd_type
        mov     bh, al
        mov     al, [bp+F_AH]
        cmp     al, 1
        je      .status
        cmp     al, 8
        je      fd_params
        cmp     al, 15h
        je      fd_kind
        cmp     al, 18h
        ja      .bad
        movzx   si, al
        shl     si, 1
        test    al, al
        jz      .go                     ; a reset needs no drive
        test    bh, bh
        jz      .no_drive
.go:    jmp     [cs:.table+si]
.table  dw      fd_reset_service, .bad, fd_rw, fd_rw, fd_rw, fd_format, .bad, .bad
        dw      .bad, .bad, .bad, .bad, .bad, .bad, .bad, .bad
        dw      .bad, .bad, .bad, .bad, .bad, .bad, fd_change, fd_good, fd_set_media
.status:mov     ah, [B_FDSTATUS]
        mov     [bp+F_AL], ah
        jmp     fd_end
.no_drive:
        mov     ah, 80h
        jmp     fd_end
.bad:   mov     ah, 1
        jmp     fd_end

fd_good:mov     ah, 0
; fd_end: AH = status for the caller; arms the motor's timer.
fd_end:
        mov     [bp+F_AH], ah
        mov     [B_FDSTATUS], ah
        CLR_CF
        test    ah, ah
        jz      .timer
        SET_CF
.timer: mov     al, 2
        call    fd_dpt
        mov     [B_FDTIMER], al
        leave_service

; fd_type: BL = drive; out AL = type, 0 for none.
fd_type:
        cmp     bl, 1
        ja      .none
        mov     al, 10h
        call    cmos_read
        cmp     bl, 0
        jne     .b
        shr     al, 4
.b:     and     al, 0Fh
        cmp     al, 6
        jbe     .ret
.none:  mov     al, 0
.ret:   ret

; fd_dpt: AL = offset; out AL = that byte of the table at INT 1Eh.
fd_dpt:
        push    es
        push    si
        push    ax
        xor     ax, ax
        mov     es, ax
        les     si, [es:1Eh*4]
        pop     ax
        mov     ah, 0
        add     si, ax
        mov     al, [es:si]
        pop     si
        pop     es
        ret

fd_reset_service:
        call    fd_reset
        jmp     fd_end

fd_params:
        mov     word [bp+F_AX], 0
        mov     word [bp+F_BX], 0
        mov     word [bp+F_CX], 0
        mov     word [bp+F_DX], 0
        mov     al, 10h
        call    cmos_read
        mov     ah, 0
        test    al, 0F0h
        jz      .second
        inc     ah
.second:test    al, 0Fh
        jz      .count
        inc     ah
.count: mov     [bp+F_DL], ah
        mov     word [bp+F_DI], 0
        mov     word [bp+F_ES], 0
        test    bh, bh
        jz      fd_good
        mov     al, bh
        mov     [bp+F_BL], al
        call    fd_table_for
        mov     [bp+F_DI], si
        mov     [bp+F_ES], cs
        mov     al, [cs:si+4]
        mov     [bp+F_CL], al
        mov     byte [bp+F_CH], 79
        cmp     bh, 1
        jne     .tracks
        mov     byte [bp+F_CH], 39
.tracks:mov     byte [bp+F_DH], 1
        jmp     fd_good

fd_kind:
        mov     ah, 0
        test    bh, bh
        jz      .set
        inc     ah
        cmp     bh, 1
        je      .set
        inc     ah                      ; with change line
.set:   mov     [bp+F_AH], ah
        mov     byte [B_FDSTATUS], 0
        CLR_CF
        leave_service

fd_change:
        call    fd_motor
        call    fd_changed
        mov     ah, 6
        jnz     fd_end
        jmp     fd_good

; AH=18: media for formatting: CH = last track, CL = sectors a track; gives ES:DI = table.
fd_set_media:
        mov     cl, [bp+F_CL]
        and     cl, 3Fh
        mov     al, bh
.try:   call    fd_table_for
        cmp     cl, [cs:si+4]
        je      .match
        dec     al
        jnz     .try
        mov     ah, 0Ch
        jmp     fd_end
.match: mov     [bp+F_DI], si
        mov     [bp+F_ES], cs
        movzx   si, al
        mov     al, [cs:.rates+si]
        movzx   si, bl
        mov     [B_FDMEDIA+si], al
        jmp     fd_good
.rates  db      0, 93h, 15h, 97h, 17h, 0D7h, 0D7h

; AH=02 read, 03 write, 04 verify.
fd_rw:
        mov     cl, [bp+F_AL]
        test    cl, cl
        jz      .bad
        test    byte [bp+F_DH], 0FEh
        jnz     .bad
        cmp     byte [bp+F_CL], 0
        je      .bad
        call    fd_prepare
        jnz     .fail
        mov     dh, 46h                 ; DMA mode: channel 2, single, device to memory
        mov     al, [bp+F_AH]
        cmp     al, 3
        jb      .mode
        mov     dh, 4Ah
        je      .mode
        mov     dh, 42h                 ; verify
.mode:  movzx   ecx, byte [bp+F_AL]
        shl     ecx, 9
        call    fd_dma
        jnz     .fail
        mov     dh, 0E6h                ; READ DATA, multitrack, MFM, skip deleted
        cmp     byte [bp+F_AH], 3
        jne     .send
        mov     dh, 0C5h                ; WRITE DATA
.send:  and     byte [B_FDRECAL], 7Fh
        mov     al, dh
        call    fd_command
        jc      .timeout
        mov     al, [bp+F_CH]
        call    fd_send
        mov     al, [bp+F_DH]
        call    fd_send
        mov     al, [bp+F_CL]
        and     al, 3Fh
        call    fd_send
        mov     al, 3
        call    .from_dpt
        mov     al, 4
        call    .from_dpt
        mov     al, 5
        call    .from_dpt
        mov     al, 6
        call    .from_dpt
        jc      .timeout
        call    fd_finish
        jnz     .fail
        jmp     fd_good
.timeout:
        mov     ah, 80h
.fail:  mov     byte [bp+F_AL], 0
        jmp     fd_end
.bad:   mov     ah, 1
        jmp     .fail
.from_dpt:
        call    fd_dpt
        jmp     fd_send

; AH=05: formats track CH, head DH; ES:BX = four bytes (C, H, R, N) a sector.
fd_format:
        call    fd_prepare
        jnz     fd_rw.fail
        mov     al, 4
        call    fd_dpt
        movzx   ecx, al
        shl     ecx, 2
        mov     dh, 4Ah
        call    fd_dma
        jnz     fd_rw.fail
        and     byte [B_FDRECAL], 7Fh
        mov     al, 4Dh
        call    fd_command
        jc      fd_rw.timeout
        mov     al, 3
        call    fd_rw.from_dpt
        mov     al, 4
        call    fd_rw.from_dpt
        mov     al, 7
        call    fd_rw.from_dpt
        mov     al, 8
        call    fd_rw.from_dpt
        jc      fd_rw.timeout
        call    fd_finish
        jnz     fd_rw.fail
        jmp     fd_good

; --- Parts of an operation: ZF set when good, else AH = status -----------------------------------------------------
; fd_dma: DH = 8237A mode, ECX = bytes, buffer = the caller's ES:BX.
fd_dma:
        movzx   eax, word [bp+F_ES]
        shl     eax, 4
        movzx   esi, word [bp+F_BX]
        add     esi, eax
        movzx   eax, si
        dec     ecx
        add     eax, ecx
        test    eax, 0FFFF0000h
        mov     ah, 9                   ; crosses 64 KiB
        jnz     .ret
        cli
        mov     al, 6
        out     0Ah, al
        out     0Ch, al
        mov     al, dh
        out     0Bh, al
        mov     ax, si
        out     04h, al
        mov     al, ah
        out     04h, al
        shr     esi, 16
        mov     ax, si
        out     81h, al
        mov     al, cl
        out     05h, al
        mov     al, ch
        out     05h, al
        mov     al, 2
        out     0Ah, al
        sti
        xor     ah, ah
.ret:   ret

; fd_finish: waits for the end of a command, reads the result, and maps ST0-ST2.
fd_finish:
        call    fd_wait_irq
        mov     ah, 80h
        jc      .reset
        call    fd_results
        mov     ah, 20h
        jc      .reset
        test    byte [B_FDRESULT], 0C0h
        jnz     .error
        xor     ah, ah
        ret
.error: mov     al, [B_FDRESULT+1]
        mov     ah, 10h
        test    al, 20h                 ; CRC
        jnz     .end
        mov     ah, 8
        test    al, 10h                 ; overrun
        jnz     .end
        mov     ah, 3
        test    al, 2                   ; write protected
        jnz     .end
        mov     ah, 4
        test    al, 84h                 ; end of cylinder, no data
        jnz     .end
        mov     ah, 2
        test    al, 1                   ; no address mark
        jnz     .end
        mov     ah, 20h
.end:   or      ah, ah
        ret
.reset: push    ax
        call    fd_reset
        pop     ax
        jmp     .end

; fd_prepare: motor, change line, data rate, seek to the caller's CH.
fd_prepare:
        call    fd_motor
        mov     dx, 3F4h
        in      al, dx
        and     al, 0F0h
        cmp     al, 80h
        je      .idle
        call    fd_reset
.idle:  movzx   si, bl
        call    fd_changed
        jz      .known
        mov     al, [B_FDMEDIA+si]
        and     byte [B_FDMEDIA+si], 0EFh
        push    ax
        call    fd_reset
        call    fd_recalibrate
        mov     ch, 1                   ; a step takes the change line back, if a disk is in
        call    fd_seek
        mov     ch, 0
        call    fd_seek
        call    fd_changed
        pop     ax
        mov     ah, 80h
        jnz     .ret                    ; still set: no disk
        test    al, 10h
        mov     ah, 6
        jnz     .ret
.known: test    byte [B_FDMEDIA+si], 10h
        jnz     .rate
        call    fd_establish
        jnz     .ret
.rate:  mov     al, [B_FDMEDIA+si]
        shr     al, 6
        mov     dx, 3F7h
        out     dx, al
        mov     ch, [bp+F_CH]
        jmp     fd_seek
.ret:   ret

; fd_establish: finds the data rate at which the disk has readable IDs.
fd_establish:
        movzx   di, bh
        shl     di, 2
        add     di, .rates
        call    fd_recalibrate
        jnz     .ret
.try:   mov     al, [cs:di]
        inc     di
        cmp     al, 0FFh
        mov     ah, 80h
        je      .none
        push    ax
        mov     dx, 3F7h
        out     dx, al
        and     byte [B_FDRECAL], 7Fh
        push    di
        mov     al, 4Ah                 ; READ ID
        call    fd_command
        jc      .next
        call    fd_wait_irq
        jc      .next
        call    fd_results
        jc      .next
        test    byte [B_FDRESULT], 0C0h
        jnz     .failed
        pop     di
        pop     ax
        shl     al, 6
        or      al, 17h                 ; established; drive and media as the rate says
        mov     [B_FDMEDIA+si], al
        xor     ah, ah
.ret:   ret
.next:  call    fd_reset
.failed:pop     di
        pop     ax
        jmp     .try
.none:  or      ah, ah
        ret
.rates  db      2, 0FFh, 0FFh, 0FFh     ; rates to try for each type of drive: 0 = 500, 1 = 300, 2 = 250, 3 = 1000 kb/s
        db      2, 0FFh, 0FFh, 0FFh
        db      0, 1, 2, 0FFh
        db      2, 0FFh, 0FFh, 0FFh
        db      0, 2, 0FFh, 0FFh
        db      3, 0, 2, 0FFh
        db      3, 0, 2, 0FFh

; fd_changed: ZF clear while the change line of the selected drive is active.
fd_changed:
        mov     dx, 3F7h
        in      al, dx
        test    al, 80h
        ret

; fd_motor: turns the motor of drive BL on and selects it.
fd_motor:
        push    cx
        cli
        mov     byte [B_FDTIMER], 0FFh
        mov     cl, bl
        mov     al, 1
        shl     al, cl
        and     byte [B_FDMOTOR], 0F0h
        or      [B_FDMOTOR], al
        shl     al, 4
        or      al, 0Ch
        or      al, bl
        mov     dx, 3F2h
        out     dx, al
        sti
        pop     cx
        ret

; fd_reset: resets the controller, takes the four ready interrupts, and sends SPECIFY.
fd_reset:
        push    cx
        mov     dx, 3F2h
        cli
        and     byte [B_FDRECAL], 70h
        mov     al, [B_FDMOTOR]
        and     al, 3
        shl     al, 4
        mov     ah, bl
        and     ah, 1
        or      al, ah
        or      al, 8
        out     dx, al
        mov     cx, 2
        call    delay
        or      al, 4
        out     dx, al
        sti
        call    fd_wait_irq
        mov     ah, 80h
        jc      .end
        mov     cx, 4
.sense: push    cx
        call    fd_sense
        pop     cx
        loop    .sense
        mov     al, 3                   ; SPECIFY
        call    fd_send
        mov     al, 0
        call    fd_dpt
        call    fd_send
        mov     al, 1
        call    fd_dpt
        call    fd_send
        mov     ah, 0
        jnc     .end
        mov     ah, 20h
.end:   pop     cx
        or      ah, ah
        ret

; fd_recalibrate: to track 0; twice, as one command makes 79 steps at most.
fd_recalibrate:
        mov     ah, 2
.again: push    ax
        and     byte [B_FDRECAL], 7Fh
        mov     al, 7
        call    fd_send
        mov     al, bl
        call    fd_send
        call    fd_wait_irq
        jc      .late
        call    fd_sense
        pop     ax
        mov     al, [B_FDRESULT]
        and     al, 0F0h
        cmp     al, 20h
        je      .good
        dec     ah
        jnz     .again
        mov     ah, 40h
        or      ah, ah
        ret
.late:  pop     ax
        mov     ah, 80h
        or      ah, ah
        ret
.good:  push    bx
        movzx   bx, bl
        mov     byte [B_FDTRACK+bx], 0
        pop     bx
        mov     al, bl
        inc     al                      ; drive 0: bit 0; drive 1: bit 1
        or      [B_FDRECAL], al
        xor     ah, ah
        ret

; fd_seek: CH = cylinder.
fd_seek:
        mov     al, bl
        inc     al
        test    [B_FDRECAL], al
        jnz     .calibrated
        call    fd_recalibrate
        jnz     .ret
.calibrated:
        push    bx
        movzx   bx, bl
        xor     ah, ah
        cmp     [B_FDTRACK+bx], ch
        pop     bx
        je      .ret
        and     byte [B_FDRECAL], 7Fh
        mov     al, 0Fh
        call    fd_command
        mov     al, ch
        call    fd_send
        call    fd_wait_irq
        mov     ah, 80h
        jc      .fail
        call    fd_sense
        mov     al, [B_FDRESULT]
        and     al, 0E0h
        cmp     al, 20h
        mov     ah, 40h
        jne     .fail
        push    bx
        movzx   bx, bl
        mov     [B_FDTRACK+bx], ch
        pop     bx
        xor     ah, ah
.ret:   ret
.fail:  or      ah, ah
        ret

; fd_command: AL = command; sends it and the head and drive byte. CF set if the controller does not take it.
fd_command:
        call    fd_send
        mov     al, [bp+F_DH]
        and     al, 1
        shl     al, 2
        or      al, bl
; fd_send: AL = byte for the controller. CF set on time-out. Clobbers DX.
fd_send:
        push    cx
        push    ax
        mov     dx, 3F4h
        mov     cx, 8000
.wait:  in      al, dx
        and     al, 0C0h
        cmp     al, 80h
        je      .ready
        push    cx
        mov     cx, 1
        call    delay
        pop     cx
        loop    .wait
        pop     ax
        pop     cx
        stc
        ret
.ready: pop     ax
        inc     dx
        out     dx, al
        pop     cx
        clc
        ret

; fd_sense: SENSE INTERRUPT STATUS.
fd_sense:
        mov     al, 8
        call    fd_send
; fd_results: result bytes to 40:42. CF set if none came.
fd_results:
        push    cx
        push    di
        mov     di, B_FDRESULT
        mov     dx, 3F4h
.byte:  mov     cx, 8000
.wait:  in      al, dx
        and     al, 0D0h
        cmp     al, 0D0h                ; busy, to the CPU, ready
        je      .get
        cmp     al, 80h                 ; idle: that was all
        je      .end
        push    cx
        mov     cx, 1
        call    delay
        pop     cx
        loop    .wait
        jmp     .none
.get:   inc     dx
        in      al, dx
        dec     dx
        cmp     di, B_FDRESULT+7
        jae     .byte
        mov     [di], al
        inc     di
        jmp     .byte
.end:   cmp     di, B_FDRESULT          ; CF clear unless below, which it never is
        jne     .some
.none:  stc
.some:  pop     di
        pop     cx
        ret

; fd_wait_irq: until IRQ 6 has come, 2 s at most; CF set on time-out.
fd_wait_irq:
        push    cx
        push    dx
        sti
        mov     dx, 3
.outer: mov     cx, 50000
.wait:  test    byte [B_FDRECAL], 80h   ; also clears CF
        jnz     .end
        push    cx
        mov     cx, 1
        call    delay
        pop     cx
        loop    .wait
        dec     dx
        jnz     .outer
        stc
.end:   pushf
        and     byte [B_FDRECAL], 7Fh
        popf
        pop     dx
        pop     cx
        ret
