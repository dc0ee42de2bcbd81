; Glassbox BIOS: the clock: CMOS access, delays, INT 1Ah.
; Sources: MC146818 data sheet; Ralf Brown's Interrupt List, INT 1Ah.

; cmos_read: AL = index; out AL = value. cmos_write: AL = index, AH = value. NMI stays off only inside.
cmos_read:
        or      al, 80h
        out     70h, al
        in      al, 71h
        push    ax
        mov     al, 0Dh
        out     70h, al
        pop     ax
        ret
cmos_write:
        or      al, 80h
        out     70h, al
        xchg    al, ah
        out     71h, al
        xchg    al, ah
        push    ax
        mov     al, 0Dh
        out     70h, al
        pop     ax
        ret

; cmos_word: AL = index of the low byte; out AX.
cmos_word:
        push    bx
        mov     bl, al
        inc     al
        call    cmos_read
        mov     bh, al
        mov     al, bl
        call    cmos_read
        mov     ah, bh
        pop     bx
        ret

; delay: CX = number of refresh periods (15 us each). Each wait is bounded, should the toggle stand still.
delay:
        push    ax
        push    cx
        push    dx
.next:  in      al, 61h
        and     al, 10h
        mov     ah, al
        mov     dx, 200
.wait:  in      al, 61h
        and     al, 10h
        cmp     al, ah
        jne     .edge
        dec     dx
        jnz     .wait
.edge:  loop    .next
        pop     dx
        pop     cx
        pop     ax
        ret

; rtc_wait: waits until no update is under way. CF set if the clock stands still for too long.
rtc_wait:
        push    ax
        push    cx
        mov     cx, 8000
.wait:  mov     al, 0Ah
        call    cmos_read
        test    al, 80h
        jz      .end
        loop    .wait
        stc
.end:   pop     cx
        pop     ax
        ret

; bcd_to_bin: AL.
bcd_to_bin:
        push    cx
        mov     ah, al
        and     al, 0Fh
        shr     ah, 4
        mov     cl, al
        mov     al, 10
        mul     ah
        add     al, cl
        mov     ah, 0
        pop     cx
        ret

; rtc_field: AL = index; out EAX = binary value (BCD or binary mode of register B).
rtc_field:
        call    cmos_read
        push    bx
        mov     bl, al
        mov     al, 0Bh
        call    cmos_read
        test    al, 4
        mov     al, bl
        pop     bx
        jnz     .bin
        call    bcd_to_bin
.bin:   movzx   eax, al
        ret

; init_rtc: 32768 Hz, 24-hour BCD, no interrupts; sets the tick counter from the time of day. DS = 0.
init_rtc:
        mov     ax, 260Ah
        call    cmos_write
        mov     ax, 020Bh
        call    cmos_write
        mov     al, 0Ch
        call    cmos_read
        mov     al, 0Dh
        call    cmos_read
        call    rtc_wait
        mov     al, 4
        call    rtc_field
        imul    ebx, eax, 60
        mov     al, 2
        call    rtc_field
        add     ebx, eax
        imul    ebx, ebx, 60
        mov     al, 0
        call    rtc_field
        add     eax, ebx
        mov     ebx, 1193182
        mul     ebx
        shrd    eax, edx, 16
        cmp     eax, 1800B0h
        jb      .ok
        xor     eax, eax
.ok:    mov     [400h+B_TICKS], eax
        ret

; INT 1Ah: clock, and the PCI BIOS at AH=B1h.
int1a:
        cmp     ah, 0B1h
        je      pci_bios
        cmp     ah, 7
        ja      .bad
        sti
        enter_service
        set_ds  BDA
        movzx   bx, byte [bp+F_AH]
        add     bx, bx
        CLR_CF
        call    [cs:.table+bx]
        leave_service
.bad:   push    bp
        mov     bp, sp
        or      byte [bp+6], 1
        pop     bp
        iret
.table  dw      .ticks, .set_ticks, .time, .set_time, .date, .set_date, .alarm, .no_alarm

.ticks: cli
        mov     eax, [B_TICKS]
        mov     [bp+F_DX], ax
        shr     eax, 16
        mov     [bp+F_CX], ax
        mov     al, 0
        xchg    al, [B_MIDNIGHT]
        mov     [bp+F_AL], al
        sti
        ret
.set_ticks:
        cli
        mov     ax, [bp+F_DX]
        mov     [B_TICKS], ax
        mov     ax, [bp+F_CX]
        mov     [B_TICKS+2], ax
        mov     byte [B_MIDNIGHT], 0
        mov     byte [bp+F_AH], 0
        sti
        ret
.time:  call    rtc_wait
        jc      .fail
        mov     al, 4
        call    cmos_read
        mov     [bp+F_CH], al
        mov     al, 2
        call    cmos_read
        mov     [bp+F_CL], al
        mov     al, 0
        call    cmos_read
        mov     [bp+F_DH], al
        mov     al, 0Bh
        call    cmos_read
        and     al, 1
        mov     [bp+F_DL], al
        mov     byte [bp+F_AH], 0
        ret
.fail:  SET_CF
        ret
.date:  call    rtc_wait
        jc      .fail
        mov     al, 32h
        call    cmos_read
        mov     [bp+F_CH], al
        mov     al, 9
        call    cmos_read
        mov     [bp+F_CL], al
        mov     al, 8
        call    cmos_read
        mov     [bp+F_DH], al
        mov     al, 7
        call    cmos_read
        mov     [bp+F_DL], al
        mov     byte [bp+F_AH], 0
        ret
.set_time:
        call    .stop
        mov     al, 0
        mov     ah, [bp+F_DH]
        call    cmos_write
        mov     al, 2
        mov     ah, [bp+F_CL]
        call    cmos_write
        mov     al, 4
        mov     ah, [bp+F_CH]
        call    cmos_write
        mov     ah, [bp+F_DL]
        and     ah, 1
        jmp     .start
.set_date:
        call    .stop
        mov     al, 7
        mov     ah, [bp+F_DL]
        call    cmos_write
        mov     al, 8
        mov     ah, [bp+F_DH]
        call    cmos_write
        mov     al, 9
        mov     ah, [bp+F_CL]
        call    cmos_write
        mov     al, 32h
        mov     ah, [bp+F_CH]
        call    cmos_write
        mov     al, 0Bh
        call    cmos_read
        mov     ah, al
        and     ah, 1
; Lets the clock run again; AH = daylight saving bit.
.start: mov     al, 0Bh
        call    cmos_read
        and     al, 7Eh
        or      ah, al
        mov     al, 0Bh
        call    cmos_write
        mov     byte [bp+F_AH], 0
        ret
; Halts updates while the registers are written.
.stop:  mov     al, 0Bh
        call    cmos_read
        or      al, 80h
        mov     ah, al
        mov     al, 0Bh
        jmp     cmos_write
.alarm: mov     al, 0Bh
        call    cmos_read
        test    al, 20h
        jnz     .fail                   ; one is set already
        mov     al, 1
        mov     ah, [bp+F_DH]
        call    cmos_write
        mov     al, 3
        mov     ah, [bp+F_CL]
        call    cmos_write
        mov     al, 5
        mov     ah, [bp+F_CH]
        call    cmos_write
        in      al, 0A1h
        and     al, 0FEh
        out     0A1h, al
        mov     al, 0Bh
        call    cmos_read
        and     al, 7Fh
        or      al, 20h
        jmp     .set_b
.no_alarm:
        mov     al, 0Bh
        call    cmos_read
        and     al, 0DFh
.set_b: mov     ah, al
        mov     al, 0Bh
        call    cmos_write
        mov     byte [bp+F_AH], 0
        ret
