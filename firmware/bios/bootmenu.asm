; Glassbox BIOS: the boot menu. It is shown where the firmware configuration asks for it, and where F12 was pressed
; during POST, or at the message that nothing boots; nobody waits for that key.
; Sources: QEMU docs/specs/fw_cfg.rst; IBM PS/2 Technical Reference (40:1A, 40:1C, 40:80, 40:82: the keyboard buffer).

MENU_ITEM       equ 0Eh                 ; of the firmware configuration: 1 where the menu is to be shown
F12             equ 86h                 ; what INT 16h, function 10h, gives for it in AH

; menu_wanted: CF clear if the configuration says so, or if F12 is among the keys that wait; those are gone then up to it.
; DS = ES = 0.
menu_wanted:
        push    ax
        push    dx
        push    si
        mov     dx, 510h
        mov     ax, MENU_ITEM
        out     dx, ax
        inc     dx
        in      al, dx
        cmp     al, 1                   ; CF is clear
        je      .end
        mov     si, [400h+B_KBHEAD]
.next:  cmp     si, [400h+B_KBTAIL]
        stc
        je      .end
        mov     ax, [400h+si]
        add     si, 2
        cmp     si, [400h+B_KBEND]
        jb      .same
        mov     si, [400h+B_KBSTART]
.same:  cmp     ax, F12 << 8
        jne     .next
        mov     [400h+B_KBHEAD], si
        clc
.end:   pop     si
        pop     dx
        pop     ax
        ret

; boot_menu: lists what can be booted and waits for a choice. AL = the kind, as the order in CMOS has them; 0: none.
; DS = ES = 0.
boot_menu:
        push    bx
        push    cx
        push    si
        call    print_crlf
        mov     si, .title
        mov     bl, 0Eh
        call    print_attr
        mov     bx, 1
.list:  call    .has
        jc      .skip
        mov     si, .indent
        call    print
        mov     al, '0'
        add     al, bl
        call    print_char
        mov     si, .gap
        call    print
        mov     si, bx
        add     si, si
        mov     si, [cs:.names+si-2]
        call    print
        call    print_crlf
.skip:  inc     bx
        cmp     bx, 4
        jbe     .list
        mov     si, .prompt
        call    print
.key:   mov     ah, 10h
        int     16h
        cmp     al, 1Bh
        je      .none
        cmp     al, 13
        je      .none
        sub     al, '0'
        movzx   bx, al
        dec     al
        cmp     al, 3
        ja      .key
        call    .has
        jc      .key
        mov     al, bl
        jmp     .end
.none:  mov     al, 0
.end:   call    print_crlf
        pop     si
        pop     cx
        pop     bx
        ret

; CF clear if there is a drive, or a card, of kind BL.
.has:   push    es
        push    word EBDA
        pop     es
        cmp     bl, 2
        je      .disk
        cmp     bl, 3
        je      .cdrom
        ja      .network
        test    byte [400h+B_EQUIP], 1
        jmp     .is
.disk:  cmp     byte [400h+B_HDCOUNT], 0
        jmp     .is
.cdrom: cmp     byte [es:E_NCDS], 0
        jmp     .is
.network:
        cmp     dword [es:E_BEV], 0
.is:    pop     es
        jnz     .there                  ; CF is clear
        stc
.there: ret

.names  dw      boot_floppy.name, boot_disk.name, boot_cdrom.name, boot_network.name
.title  db      " Boot menu", 13, 10, 0
.indent db      "   ", 0
.gap    db      "  ", 0
.prompt db      13, 10, " Press a number, or Esc for the usual order.", 13, 10, 0
