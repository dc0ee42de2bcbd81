; Glassbox BIOS: keyboard: 8042 initialisation, INT 09h and INT 16h.
; Sources: IBM PC/AT and PS/2 Technical References (8042 commands, scan code set 1, BIOS data area 40:17, 40:18,
; 40:96, 40:97); Ralf Brown's Interrupt List, INT 09h and INT 16h.

; --- 8042 -------------------------------------------------------------------------------------------------------
; kbc_wait_in: until the controller takes a byte. kbc_wait_out: until it has one; out AL = byte. CF set on time-out
; (about a second).
kbc_wait_in:
        push    ax
        push    cx
        mov     cx, 0FFFFh
.wait:  in      al, 64h
        test    al, 2                   ; also clears CF
        jz      .end
        push    cx
        mov     cx, 1
        call    delay
        pop     cx
        loop    .wait
        stc
.end:   pop     cx
        pop     ax
        ret

kbc_wait_out:
        push    cx
        mov     cx, 0FFFFh
.wait:  in      al, 64h
        test    al, 1
        jnz     .get
        push    cx
        mov     cx, 1
        call    delay
        pop     cx
        loop    .wait
        stc
        pop     cx
        ret
.get:   in      al, 60h
        clc
        pop     cx
        ret

kbc_command:                            ; AL = command
        call    kbc_wait_in
        out     64h, al
        ret

; init_keyboard: 8042 and keyboard self tests; interrupts are off.
init_keyboard:
        mov     cx, 64                  ; empty the output buffer
.flush: in      al, 64h
        test    al, 1
        jz      .test
        in      al, 60h
        loop    .flush
.test:  mov     al, 0AAh
        call    kbc_command
        call    kbc_wait_out
        jc      .end                    ; no controller
        mov     al, 0ABh                ; keyboard interface test
        call    kbc_command
        call    kbc_wait_out
        mov     al, 60h                 ; command byte: translate, mouse off, system flag, no IRQ yet
        call    kbc_command
        call    kbc_wait_in
        mov     al, 64h
        out     60h, al
        mov     al, 0AEh
        call    kbc_command
        call    kbc_wait_in
        mov     al, 0FFh                ; keyboard reset
        out     60h, al
        call    kbc_wait_out            ; FAh
        jc      .irq
        cmp     al, 0FAh
        jne     .irq
        call    kbc_wait_out            ; AAh
        call    kbc_wait_in
        mov     al, 0F4h
        out     60h, al
        call    kbc_wait_out
        call    init_mouse
.irq:   mov     al, 60h
        call    kbc_command
        call    kbc_wait_in
        mov     al, 65h                 ; the same with IRQ 1
        out     60h, al
        call    kbc_wait_in
.end:   ret

; --- INT 09h ----------------------------------------------------------------------------------------------------
int09:
        enter_service
        set_ds  BDA
        in      al, 60h
        mov     ah, 4Fh
        stc
        int     15h
        cli
        jnc     .eoi
        cmp     al, 0FAh                ; answers to commands of ours
        je      .ack
        cmp     al, 0FEh
        je      .resend
        cmp     al, 0E0h
        je      .e0
        cmp     al, 0E1h
        je      .e1
        test    byte [B_KBF3], 1
        jnz     .pause_code
        mov     ah, [B_KBF3]            ; AH bit 1: after E0
        and     byte [B_KBF3], 0FCh
        call    kbd_key
.eoi:   mov     al, 20h
        out     20h, al
.ret:   leave_service
.e0:    or      byte [B_KBF3], 2
        jmp     .eoi
.e1:    or      byte [B_KBF3], 1
        jmp     .eoi
.pause_code:                            ; E1 1D 45 E1 9D C5
        cmp     al, 1Dh
        je      .eoi
        and     byte [B_KBF3], 0FEh
        cmp     al, 45h
        jne     .eoi
        call    kbd_pause
        jmp     .ret
.ack:   test    byte [B_KBLED], 40h     ; waiting to send the LED byte?
        jz      .acked
        and     byte [B_KBLED], 0BFh
        mov     al, [B_KBF0]
        shr     al, 4
        and     al, 7
        and     byte [B_KBLED], 0F8h
        or      [B_KBLED], al
        call    kbc_wait_in
        out     60h, al
        jmp     .eoi
.acked: or      byte [B_KBLED], 10h
        jmp     .eoi
.resend:or      byte [B_KBLED], 20h
        jmp     .eoi

; Stops the machine until a key is struck; sends the EOI itself.
kbd_pause:
        or      byte [B_KBF1], 8
        mov     al, 20h
        out     20h, al
.wait:  sti
        hlt
        cli
        test    byte [B_KBF1], 8
        jnz     .wait
        ret

; kbd_leds: starts an LED update; the keyboard's FAh makes INT 09h send the second byte.
kbd_leds:
        or      byte [B_KBLED], 40h
        push    ax
        call    kbc_wait_in
        mov     al, 0EDh
        out     60h, al
        pop     ax
        ret

; kbd_key: AL = scan code (bit 7: release), AH bit 1: after an E0 prefix. DS = 40h. Clobbers what it likes.
kbd_key:
        mov     bl, al
        and     bl, 7Fh
        cmp     bl, 2Ah
        je      .lshift
        cmp     bl, 36h
        je      .rshift
        cmp     bl, 1Dh
        je      .ctrl
        cmp     bl, 38h
        je      .alt
        cmp     bl, 3Ah
        je      .caps
        cmp     bl, 45h
        je      .num
        cmp     bl, 46h
        je      .scroll
        cmp     bl, 54h
        je      .sysreq
        cmp     bl, 52h
        jne     .make
        test    al, al                  ; Insert: keep its key-down bit
        jns     .make
        and     byte [B_KBF1], 7Fh
.make:  test    al, al
        js      .none
        test    byte [B_KBF1], 8        ; paused: any key goes on
        jz      .live
        and     byte [B_KBF1], 0F7h
.none:  ret

.lshift:mov     dl, 2
        jmp     .shift
.rshift:mov     dl, 1
.shift: test    ah, 2                   ; E0 2A, E0 36: made up by the keyboard around grey keys
        jnz     .none
        test    al, al
        js      .unshift
        or      [B_KBF0], dl
        ret
.unshift:
        not     dl
        and     [B_KBF0], dl
        ret

.ctrl:  mov     dx, 0104h               ; DH: bit in 40:18 (left); DL: bit in 40:96 (right), and in 40:17
        jmp     .modifier
.alt:   mov     dx, 0208h
.modifier:
        mov     bx, B_KBF1
        mov     cl, dh
        test    ah, 2
        jz      .side
        mov     bx, B_KBF3
        mov     cl, dl
.side:  test    al, al
        js      .mod_up
        or      [bx], cl
        or      [B_KBF0], dl
        ret
.mod_up:not     cl
        and     [bx], cl
        test    [B_KBF1], dh            ; the other side may still be down
        jnz     .none
        test    [B_KBF3], dl
        jnz     .none
        not     dl
        and     [B_KBF0], dl
        cmp     dl, 0F7h
        jne     .none
        xor     ax, ax                  ; Alt went up: a number typed on the keypad becomes a character
        xchg    al, [B_ALTNUM]
        test    al, al
        jnz     kbd_put
        ret

.caps:  mov     dl, 40h
        jmp     .lock
.num:   test    byte [B_KBF0], 4        ; Ctrl-NumLock pauses, as on the first keyboards
        jz      .num1
        test    al, al
        js      .none
        pop     ax                      ; return address in INT 09h: kbd_pause has sent the EOI
        call    kbd_pause
        jmp     int09.ret
.num1:  mov     dl, 20h
        jmp     .lock
.scroll:test    byte [B_KBF0], 4
        jnz     .break
        mov     dl, 10h
.lock:  test    al, al
        js      .lock_up
        test    [B_KBF1], dl            ; typematic
        jnz     .none
        or      [B_KBF1], dl
        xor     [B_KBF0], dl
        jmp     kbd_leds
.lock_up:
        not     dl
        and     [B_KBF1], dl
        ret

.break: test    al, al
        js      .none
        mov     ax, [B_KBSTART]
        mov     [B_KBHEAD], ax
        mov     [B_KBTAIL], ax
        mov     byte [B_BREAK], 80h
        xor     ax, ax
        call    kbd_put
        int     1Bh
        ret

.sysreq:
        mov     ah, 85h
        rol     al, 1
        and     al, 1
        and     byte [B_KBF1], 0FBh
        test    al, al
        jnz     .sys
        or      byte [B_KBF1], 4
.sys:   push    ax
        mov     al, 20h
        out     20h, al
        pop     ax
        pop     bx                      ; return address: the EOI is done
        sti
        int     15h
        jmp     int09.ret

.live:  mov     dl, [B_KBF0]
        mov     cl, dl
        and     cl, 0Ch
        cmp     cl, 0Ch
        jne     .keys
        cmp     al, 53h
        je      .reboot
.keys:  test    ah, 2
        jnz     .ext
        cmp     al, 58h
        ja      .none
        cmp     al, 47h
        jb      .plain
        cmp     al, 53h
        ja      .plain
        cmp     al, 4Ah
        je      .plain
        cmp     al, 4Eh
        je      .plain
        test    dl, 8                   ; keypad
        jnz     .altnum
        cmp     al, 52h
        jne     .pad
        call    .insert
.pad:   mov     dh, dl                  ; NumLock turns Shift round
        shl     dh, 1
        shl     dh, 1                   ; bit 7 = NumLock
        test    dl, 3
        jz      .pad1
        xor     dh, 80h
.pad1:  and     dl, 4
        jnz     .column
        test    dh, dh
        jns     .column
        or      dl, 2
        jmp     .column
.plain: test    byte [B_KBF0], 40h      ; Caps Lock turns Shift round for letters
        jz      .column
        movzx   bx, al
        shl     bx, 3
        mov     cl, [cs:kbd_table+bx]
        cmp     cl, 'a'
        jb      .column
        cmp     cl, 'z'
        ja      .column
        test    dl, 3
        jz      .upper
        and     dl, 0FCh
        jmp     .column
.upper: or      dl, 2
.column:movzx   bx, al
        shl     bx, 3
        test    dl, 8
        jnz     .c_alt
        test    dl, 4
        jnz     .c_ctrl
        test    dl, 3
        jz      .fetch
        add     bx, 2
        jmp     .fetch
.c_alt: add     bx, 2
.c_ctrl:add     bx, 4
.fetch: mov     ax, [cs:kbd_table+bx]
        test    ax, ax
        jnz     kbd_put
        ret

.altnum:movzx   bx, al
        shl     bx, 3
        mov     al, [cs:kbd_table+bx+2] ; the digit
        sub     al, '0'
        jb      .none2
        mov     cl, al
        mov     al, 10
        mul     byte [B_ALTNUM]
        add     al, cl
        mov     [B_ALTNUM], al
.none2: ret

.insert:test    byte [B_KBF1], 80h
        jnz     .none2
        or      byte [B_KBF1], 80h
        xor     byte [B_KBF0], 80h
        ret

.ext:   cmp     al, 46h                 ; Ctrl-Pause
        je      .break
        cmp     al, 37h
        je      .prtsc
        cmp     al, 52h
        jne     .ext1
        call    .insert
.ext1:  mov     si, kbd_extended
.find:  mov     bl, [cs:si]
        test    bl, bl
        jz      .none2
        cmp     bl, al
        je      .found
        add     si, 7
        jmp     .find
.found: inc     si
        test    dl, 8
        jnz     .e_alt
        test    dl, 4
        jz      .e_put
        add     si, 2
        jmp     .e_put
.e_alt: add     si, 4
.e_put: mov     ax, [cs:si]
        jmp     kbd_put

.prtsc: mov     ax, 7200h
        test    dl, 4
        jnz     kbd_put
        mov     al, 20h
        out     20h, al
        pop     bx                      ; return address: the EOI is done
        int     05h
        jmp     int09.ret

.reboot:mov     word [B_WARM], 1234h
reset_machine:
        mov     al, 0Fh
        out     70h, al
        mov     al, 0
        out     71h, al
        call    kbc_wait_in
        mov     al, 0FEh                ; pulse the CPU's reset line
        out     64h, al
        mov     cx, 2000
        call    delay
        jmp     0F000h:0FFF0h

; kbd_put: AX = key for the buffer; dropped if it is full. DS = 40h; clobbers BX, CX. CF set if it was full.
kbd_put:
        mov     bx, [B_KBTAIL]
        mov     cx, bx
        call    kbd_next
        cmp     bx, [B_KBHEAD]
        je      .full
        xchg    bx, cx
        mov     [bx], ax
        mov     [B_KBTAIL], cx
        clc
        ret
.full:  stc
        ret

; kbd_next: BX = next place in the buffer.
kbd_next:
        add     bx, 2
        cmp     bx, [B_KBEND]
        jb      .end
        mov     bx, [B_KBSTART]
.end:   ret

; --- INT 16h ----------------------------------------------------------------------------------------------------
int16:
        sti
        enter_service
        set_ds  BDA
        mov     ah, [bp+F_AH]
        mov     dh, ah                  ; bit 4: enhanced call
        and     ah, 0EFh
        cmp     ah, 0
        je      .read
        cmp     ah, 1
        je      .peek
        cmp     ah, 2
        je      .shift
        cmp     dh, 3
        je      .rate
        cmp     dh, 5
        je      .store
        cmp     dh, 9
        je      .caps
        cmp     dh, 0Ah
        je      .id
        leave_service

.read:  cli
        call    .next
        jnz     .got
        sti
        hlt
        jmp     .read
.got:   mov     [bp+F_AX], ax
        mov     bx, [B_KBHEAD]
        call    kbd_next
        mov     [B_KBHEAD], bx
        poll_reset
        leave_service

.peek:  SET_ZF
        cli
        call    .next
        jnz     .there
        call    poll_empty
        jnc     .ret
        call    .next                   ; after a wait
        jz      .ret
.there: mov     [bp+F_AX], ax
        CLR_ZF
        poll_reset
.ret:   leave_service

; AX = the key at the head as this kind of call shows it; ZF set if there is none. Removes what a call of the old
; kind cannot see.
.next:  mov     bx, [B_KBHEAD]
        cmp     bx, [B_KBTAIL]
        je      .end
        mov     ax, [bx]
        test    dh, 10h
        jnz     .enhanced
        cmp     ah, 0E0h                ; keypad Enter and /
        jne     .old1
        mov     ah, 1Ch
        cmp     al, '/'
        jne     .some
        mov     ah, 35h
        jmp     .some
.old1:  cmp     al, 0E0h                ; grey keys look like the keypad's
        jne     .old2
        test    ah, ah
        jz      .some
        mov     al, 0
        jmp     .old3
.old2:  cmp     al, 0
        jne     .some
.old3:  cmp     ah, 84h                 ; keys that the 83-key keyboard did not have
        jbe     .some
        call    kbd_next
        mov     [B_KBHEAD], bx
        jmp     .next
.enhanced:
        cmp     al, 0F0h
        jne     .some
        test    ah, ah
        jz      .some
        mov     al, 0
.some:  test    sp, sp                  ; ZF clear
.end:   ret

.shift: mov     al, [B_KBF0]
        mov     [bp+F_AL], al
        test    dh, 10h
        jz      .ret2
        mov     al, [B_KBF1]
        mov     ah, al
        and     al, 73h
        and     ah, 4
        shl     ah, 5
        or      al, ah
        mov     ah, [B_KBF3]
        and     ah, 0Ch
        or      al, ah
        mov     [bp+F_AH], al
.ret2:  leave_service

.rate:  cmp     byte [bp+F_AL], 5
        jne     .ret2
        mov     al, 0F3h
        call    kbd_send
        mov     al, [bp+F_BH]
        and     al, 3
        shl     al, 5
        mov     ah, [bp+F_BL]
        and     ah, 1Fh
        or      al, ah
        call    kbd_send
        leave_service

.store: mov     ax, [bp+F_CX]
        cli
        call    kbd_put
        mov     al, 0
        adc     al, 0
        mov     [bp+F_AL], al
        leave_service

.caps:  mov     byte [bp+F_AL], 20h     ; 10h-12h are there
        leave_service
.id:    mov     word [bp+F_BX], 41ABh
        leave_service

; --- Waiting for a key by polling --------------------------------------------------------------------------------
; DOS's prompt, and much else, asks over and over whether there is a key. A program that does
; nothing else for a whole tick, POLLS_FIRST times and more, is such a loop: from then on it waits
; in HLT for the next interrupt after POLLS_AGAIN polls in each tick, which is what it would have
; done anyway. A game that draws, or a program that computes, between its polls does not come near
; that number (27 us a poll); one that calls on the display or a drive starts anew, and so does one
; whose timer interrupt does not reach INT 08h: its ticks do not advance. A serial port that has a
; byte and raises no interrupt for it is being polled as well, so there is no wait then.

POLLS_FIRST     equ 2000
POLLS_AGAIN     equ 32

; poll_empty: counts a poll that found no key, and waits for an interrupt where that is due. DS =
; 40h; called with interrupts off, and leaves them so. CF set if it has waited. Clobbers AX, BX, CX,
; DL and ES.
poll_empty:
        mov     ax, EBDA
        mov     es, ax
        mov     ax, [B_TICKS]
        mov     bx, ax
        sub     bx, [es:E_POLLTICK]
        jz      .count
        mov     dl, POLL_COUNTS
        cmp     bx, 1                   ; the very next tick
        jne     .new
        mov     cx, POLLS_AGAIN
        cmp     byte [es:E_POLL], POLL_COUNTS
        jb      .new
        ja      .enough
        mov     cx, POLLS_FIRST
.enough:cmp     [es:E_POLLS], cx
        jb      .new
        mov     dl, POLL_IDLE
.new:   mov     [es:E_POLL], dl
        mov     [es:E_POLLTICK], ax
        mov     word [es:E_POLLS], 0
.count: inc     word [es:E_POLLS]
        jnz     .look
        dec     word [es:E_POLLS]
.look:  cmp     byte [es:E_POLL], POLL_IDLE
        jne     .go_on
        cmp     word [es:E_POLLS], POLLS_AGAIN
        jb      .go_on
        push    dx
        push    si
        mov     si, B_COM
        mov     cx, 4
.port:  mov     dx, [si]
        add     si, 2
        test    dx, dx
        jz      .next
        add     dx, 3                   ; line control: the divisor may be in the place of what is read next
        in      al, dx
        test    al, 80h
        jnz     .next
        sub     dx, 2                   ; interrupt enable
        in      al, dx
        test    al, 1
        jnz     .next
        add     dx, 4                   ; line status
        in      al, dx
        test    al, 1
        jnz     .serial
.next:  loop    .port
        pop     si
        pop     dx
        jmp     wait_interrupt
.serial:pop     si
        pop     dx
        mov     byte [es:E_POLL], POLL_START
.go_on: clc
        ret

; wait_interrupt: waits if a tick can come: the caller of the service, whose frame is at BP, has
; interrupts on, and IRQ 0 is not masked. CF set if it has waited; interrupts are off afterwards.
; Clobbers AX.
wait_interrupt:
        test    byte [bp+F_FL+1], 2
        jz      .no
        in      al, 21h
        test    al, 1
        jnz     .no
        sti
        hlt
        cli
        stc
        ret
.no:    clc
        ret

; INT 28h: DOS is idle, and INT 2Fh AX=1680h: a program gives up its time slice. Both are DOS's to
; take over.
int28:
        enter_service
        call    wait_interrupt
        leave_service
int2f:
        cmp     ax, 1680h
        jne     .ret
        enter_service
        call    wait_interrupt
        mov     byte [bp+F_AL], 0
        leave_service
.ret:   iret

; kbd_send: AL = byte for the keyboard; waits for INT 09h to see the answer.
kbd_send:
        and     byte [B_KBLED], 0CFh
        call    kbc_wait_in
        out     60h, al
        mov     cx, 20000
.wait:  test    byte [B_KBLED], 30h
        jnz     .end
        push    cx
        mov     cx, 1
        call    delay
        pop     cx
        loop    .wait
.end:   ret
