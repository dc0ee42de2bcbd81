; Glassbox BIOS: the PS/2 mouse: its place in POST, INT 74h (IRQ 12), and INT 15h/C2. Sources: IBM
; PS/2 and PC BIOS Interface Technical Reference, INT 15h AH=C2h, and "Mouse" of the hardware
; reference; Ralf Brown's Interrupt List, INT 15h/C200 to C207, and MEMORY.LST for the EBDA.
;
; A program's handler is called far for each packet, with four words on the stack above its return
; address: status, X, Y, and the wheel (0 for packets of 3 bytes). It returns by RETF and leaves
; them there.

MOUSE_SIZE      equ 7                   ; E_MOUSE2, bits 0-2: bytes a packet, 0 for 8
MOUSE_HANDLER   equ 80h                 ; bit 7: there is a handler

; init_mouse: looks for a mouse; sets equipment bit 2. DS = 0, interrupts and the IRQs of the 8042
; are off.
init_mouse:
        mov     al, 0F5h
        call    mouse_send
        jc      .none
        or      byte [400h+B_EQUIP], 4
.none:  push    es
        push    word EBDA
        pop     es
        mov     byte [es:E_MOUSECB], 65h        ; as init_keyboard leaves it: the mouse is off
        pop     es
        ret

; --- Talking to it ----------------------------------------------------------------------------------------------
; mouse_begin: ES = EBDA. Silences the keyboard and both IRQs, so that answers can be polled. out BL
; = the 8042's command byte as it was, for mouse_end; interrupts are off in between. A key that is
; under way still reaches INT 09h. The command byte is not asked for: its answer would raise IRQ 1.
mouse_begin:
        sti
        mov     al, 0ADh
        call    kbc_command
        mov     cx, 700                 ; 10 ms
.wait:  push    cx
        mov     cx, 1
        call    delay
        pop     cx
        cmp     cx, 670
        ja      .next                   ; its last bit may be half a millisecond away
        in      al, 64h
        test    al, 1
        jz      .free
.next:  loop    .wait
.free:  cli
        in      al, 64h
        test    al, 1
        jz      .byte
        in      al, 60h                 ; nobody has taken it
.byte:  mov     byte [es:E_MOUSE1], 0   ; a mouse forgets the packet that a command interrupts
        mov     bl, [es:E_MOUSECB]
        mov     al, 54h                 ; keyboard off, mouse on, no IRQ
        jmp     mouse_command_byte

; mouse_end: BL = command byte. ES = EBDA.
mouse_end:
        mov     al, bl
        mov     [es:E_MOUSECB], al
        call    mouse_command_byte
        sti
        ret

mouse_command_byte:                     ; AL = value; keeps flags
        pushf
        push    ax
        mov     al, 60h
        call    kbc_command
        call    kbc_wait_in
        pop     ax
        out     60h, al
        popf
        ret

; mouse_send: AL = byte for the mouse. CF set and AH = the error of INT 15h/C2 unless it
; acknowledges.
mouse_send:
        push    ax
        mov     al, 0D4h
        call    kbc_command
        call    kbc_wait_in
        pop     ax
        out     60h, al
        call    kbc_wait_out
        mov     ah, 3                   ; interface error
        jc      .end
        cmp     al, 0FAh
        je      .end                    ; CF clear
        inc     ah                      ; resend
        stc
.end:   ret

; mouse_reset: CF set and AH = error; else AL = the mouse's ID. Where packets of 4 bytes are wanted,
; it is knocked into those, as a reset leaves it with 3. ES = EBDA.
mouse_reset:
        mov     al, 0FFh
        call    mouse_send
        jc      .end
        call    kbc_wait_out            ; AAh
        mov     ah, 3
        jc      .end
        cmp     al, 0AAh
        jne     .bad
        call    kbc_wait_out
        mov     ah, 3
        jc      .end
        push    ax
        mov     al, [es:E_MOUSE2]
        and     al, MOUSE_SIZE
        cmp     al, 4
        jne     .plain
        mov     si, .knock
.rate:  mov     al, 0F3h
        call    mouse_send
        mov     al, [cs:si]
        call    mouse_send
        inc     si
        cmp     si, .knock_end
        jb      .rate
        mov     al, 0F3h
        call    mouse_send
        mov     al, 100                 ; the rate of a reset
        call    mouse_send
.plain: pop     ax
        clc
.end:   ret
.bad:   stc
        ret
.knock  db      200, 100, 80
.knock_end:

; --- INT 15h/C2 -------------------------------------------------------------------------------------------------
int15_mouse:
        test    byte [B_EQUIP], 4
        mov     ah, 3
        jz      .error
        cmp     al, 8
        mov     ah, 1                   ; no such function
        jae     .error
        movzx   si, al
        add     si, si
        mov     ax, EBDA
        mov     es, ax
        jmp     [cs:.table+si]
.table  dw      .enable, .reset, .rate, .resolution, .type, .init, .extended, .handler
.input: mov     ah, 2                   ; bad input
.error: mov     [bp+F_AH], ah
        jmp     int15_fail

; C200: BH = 1 on, 0 off.
.enable:cmp     bh, 1
        ja      .input
        mov     dl, 0F5h
        jne     .switch
        mov     ah, 5                   ; no handler
        test    byte [es:E_MOUSE2], MOUSE_HANDLER
        jz      .error
        mov     dl, 0F4h
.switch:call    mouse_begin
        mov     al, dl
        call    mouse_send
        jc      .end
        and     bl, 0DDh                ; clock on, IRQ off
        cmp     dl, 0F4h
        jne     .done
        or      bl, 2
        in      al, 0A1h
        and     al, 0EFh
        out     0A1h, al
        in      al, 21h
        and     al, 0FBh
        out     21h, al
.done:  clc
.end:   pushf                           ; CF set: AH = error
        push    ax
        call    mouse_end
        pop     ax
        popf
        jc      .error
        jmp     int15_ok

; C205: BH = bytes a packet, 1 to 8; resets as C201 does. C201: BH = ID, BL = AAh.
.init:  cmp     bh, 1
        jb      .input
        cmp     bh, 8
        ja      .input
        and     bh, MOUSE_SIZE
        and     byte [es:E_MOUSE2], MOUSE_HANDLER
        or      [es:E_MOUSE2], bh
.reset: call    mouse_begin
        call    mouse_reset
        jc      .end
        and     bl, 0DDh                ; it sends nothing until it is enabled
        cmp     byte [bp+F_AL], 1
        jne     .done
        mov     ah, al
        mov     al, 0AAh
        mov     [bp+F_BX], ax
        jmp     .done

; C202: BH = 0 to 6: 10, 20, 40, 60, 80, 100, 200 samples a second. C203: BH = 0 to 3: 1, 2, 4, 8
; counts a millimetre.
.rate:  cmp     bh, 6
        ja      .input
        movzx   si, bh
        mov     dh, [cs:.rates+si]
        mov     dl, 0F3h
        jmp     .two
.rates  db      10, 20, 40, 60, 80, 100, 200
.resolution:
        cmp     bh, 3
        ja      .input
        mov     dh, bh
        mov     dl, 0E8h
.two:   call    mouse_begin
        mov     al, dl
        call    mouse_send
        jc      .end
        mov     al, dh
.one:   call    mouse_send
        jmp     .end

; C204: BH = ID.
.type:  call    mouse_begin
        mov     al, 0F2h
        call    mouse_send
        jc      .end
        call    kbc_wait_out
        mov     ah, 3
        jc      .end
        mov     [bp+F_BH], al
        jmp     .end

; C206: BH = 0: BL, CL, DL = status, resolution, rate; 1: scaling 1:1; 2: scaling 2:1.
.extended:
        cmp     bh, 2
        ja      .input
        mov     dh, bh
        call    mouse_begin
        cmp     dh, 1
        mov     al, 0E6h
        je      .one
        mov     al, 0E7h
        ja      .one
        mov     al, 0E9h
        call    mouse_send
        jc      .end
        mov     di, F_BL
        call    .status
        mov     di, F_CL
        call    .status
        mov     di, F_DL
        call    .status
        jmp     .end
.status:jc      .status_end
        call    kbc_wait_out
        mov     ah, 3
        jc      .status_end
        mov     [bp+di], al
.status_end:
        ret

; C207: ES:BX = handler, 0:0 for none.
.handler:
        cli
        mov     ax, [bp+F_ES]
        mov     [es:E_MOUSEPTR], bx
        mov     [es:E_MOUSEPTR+2], ax
        or      ax, bx
        mov     ah, MOUSE_HANDLER
        jnz     .set
        mov     ah, 0
.set:   and     byte [es:E_MOUSE2], ~MOUSE_HANDLER & 0FFh
        or      [es:E_MOUSE2], ah
        jmp     int15_ok

; --- INT 74h: IRQ 12 --------------------------------------------------------------------------------------------
; The EOIs come last, so that the handler of one packet is not interrupted by the next one.
int74:
        enter_service
        in      al, 64h
        and     al, 21h
        cmp     al, 21h
        jne     .eoi                    ; not the mouse's byte
        in      al, 60h
        mov     bl, al
        set_ds  EBDA
        test    byte [E_MOUSE2], MOUSE_HANDLER
        jz      .eoi
        movzx   si, byte [E_MOUSE1]
        and     si, 7
        mov     [E_MOUSEBUF+si], bl
        inc     si
        mov     ax, [E_MOUSE2]
        and     ax, MOUSE_SIZE
        jnz     .size
        mov     al, 8
.size:  cmp     si, ax
        jae     .whole
        and     byte [E_MOUSE1], 0F8h
        mov     ax, si
        or      [E_MOUSE1], al
        jmp     .eoi
.whole: and     byte [E_MOUSE1], 0F8h
        sti
        mov     bx, ax
        movzx   ax, byte [E_MOUSEBUF]
        push    ax
        mov     al, [E_MOUSEBUF+1]
        push    ax
        mov     al, [E_MOUSEBUF+2]
        push    ax
        cmp     bl, 4
        mov     al, [E_MOUSEBUF+3]
        jae     .wheel
        mov     al, 0
.wheel: push    ax
        call    far [E_MOUSEPTR]
        cli
        add     sp, 8
.eoi:   mov     al, 20h
        out     0A0h, al
        out     20h, al
        leave_service
