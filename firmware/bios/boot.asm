; Glassbox BIOS: INT 19h, boot; INT 18h, nothing to boot.
; Source: BIOS Boot Specification 1.01; ARCHITECTURE.md (boot order in CMOS 38h and 3Dh).

int19:
        cli
        cld
        xor     ax, ax
        mov     ss, ax
        mov     sp, 7C00h
        mov     ds, ax
        mov     es, ax
        sti
        push    ds
        push    word EBDA
        pop     ds
        mov     word [E_BOOT], 0
        call    et_stop
        mov     byte [E_EMU], 0
        mov     byte [E_NETDONE], 0
        pop     ds
        mov     al, 38h
        call    cmos_read
        mov     bh, al
        shr     bh, 4                   ; third
        mov     al, 3Dh
        call    cmos_read
        mov     ah, bh
        test    ax, ax
        jnz     .order
        mov     ax, 0321h               ; nothing chosen: floppy, disk, CD-ROM
.order: mov     cx, 3
        call    menu_wanted
        jc      .next
        push    ax
        call    boot_menu
        mov     bl, al
        pop     ax
        test    bl, bl
        jz      .next
        shl     ax, 4                   ; the choice, and then the usual order
        or      al, bl
        inc     cx
.next:  push    ax
        push    cx
        and     al, 0Fh
        cmp     al, 1
        je      .floppy
        cmp     al, 2
        je      .disk
        cmp     al, 4
        je      .network
        cmp     al, 3
        jne     .after
        call    boot_cdrom
        jmp     .after
.floppy:call    boot_floppy
        jmp     .after
.network: call  boot_network
        jmp     .after
.disk:  call    boot_disk
.after: pop     cx
        pop     ax
        shr     ax, 4
        loop    .next
        call    boot_network            ; last, where the order does not name it
        int     18h
        jmp     int19

; boot_floppy: returns only if drive A cannot boot. DS = ES = 0.
boot_floppy:
        test    byte [400h+B_EQUIP], 1
        jz      boot_disk.none
        mov     si, .name
        mov     cl, BOOT_FLOPPY
        call    boot_announce
        mov     di, 3
.try:   mov     ax, 0201h
        mov     bx, 7C00h
        mov     cx, 1
        mov     dx, 0
        int     13h
        jnc     .read
        mov     ah, 0
        int     13h
        dec     di
        jnz     .try
        mov     si, msg_unreadable
        jmp     boot_failed
.read:  mov     al, 38h
        call    cmos_read
        mov     dl, 0
        test    al, 1
        jnz     boot_jump
        cmp     word [7DFEh], 0AA55h
        je      boot_jump
        mov     si, msg_unsigned
        jmp     boot_failed
.name   db      "floppy", 0

; boot_disk: the same for the first hard disk.
boot_disk:
        cmp     byte [400h+B_HDCOUNT], 0
        je      .none
        mov     si, .name
        mov     cl, BOOT_DISK
        call    boot_announce
        mov     ax, 0201h
        mov     bx, 7C00h
        mov     cx, 1
        mov     dx, 80h
        int     13h
        mov     si, msg_unreadable
        jc      boot_failed
        mov     dl, 80h
        cmp     word [7DFEh], 0AA55h
        je      boot_jump
        mov     si, msg_unsigned
        jmp     boot_failed
.none:  ret
.name   db      "hard disk", 0

; boot_network: by the bootstrap entry of a network card's ROM, once. Returns if that does not boot. DS = ES = 0.
boot_network:
        push    es
        push    word EBDA
        pop     es
        cmp     dword [es:E_BEV], 0
        je      .none
        cmp     byte [es:E_NETDONE], 0
        jne     .none
        mov     byte [es:E_NETDONE], 1
        mov     si, .name
        call    boot_say
        mov     ax, [es:E_BEVPCI]
        push    cs
        call    .enter
        cld
        sti
        xor     ax, ax
        mov     ds, ax
.none:  pop     es
        ret
.enter: push    dword [es:E_BEV]        ; far
        push    cs
        pop     es
        mov     di, pnp_check
        retf
.name   db      "network", 0

; boot_jump: DL = drive. To the boot sector, with the registers that loaders count on.
boot_jump:
        DBG     "boot"
        xor     ax, ax
        mov     ss, ax
        mov     sp, 7C00h
        mov     ds, ax
        mov     es, ax
        mov     dh, 0
        xor     ebx, ebx
        xor     ecx, ecx
        xor     esi, esi
        xor     edi, edi
        xor     ebp, ebp
        jmp     0:7C00h

; What E_BOOT and the notice to the board say of each drive, in two bits.
BOOT_NONE       equ 0                   ; it was not tried
BOOT_UNREADABLE equ 1
BOOT_UNSIGNED   equ 2                   ; nothing on it to boot
BOOT_GAVE_UP    equ 3                   ; it was booted, and came back by INT 18h
BOOT_FLOPPY     equ 0                   ; and where they are
BOOT_DISK       equ 2
BOOT_CDROM      equ 4
; The board's firmware configuration takes the notice as an item to select.
NOTICE_PORT     equ 510h
NOTICE          equ 0BF00h

; boot_note: AX = one of the above, for the drive that is being tried.
boot_note:
        pusha
        push    ds
        push    word EBDA
        pop     ds
        mov     cl, [E_BOOTSHIFT]
        mov     bx, 3
        shl     bx, cl
        shl     ax, cl
        not     bx
        and     [E_BOOT], bx
        or      [E_BOOT], ax
        pop     ds
        popa
        ret

; boot_failed: says CS:SI, and keeps why for INT 18h.
boot_failed:
        mov     ax, BOOT_UNREADABLE
        cmp     si, msg_unreadable
        je      .note
        mov     ax, BOOT_UNSIGNED
.note:  call    boot_note
        jmp     print

; boot_announce: CS:SI = the drive's name, CL = where its bits are.
boot_announce:
        push    ds
        push    word EBDA
        pop     ds
        mov     [E_BOOTSHIFT], cl
        pop     ds
        mov     ax, BOOT_GAVE_UP        ; unless it fails before
        call    boot_note
boot_say:
        push    si
        mov     si, .from
        call    print
        pop     si
        call    print
        mov     si, .dots
        jmp     print
.from   db      " Booting from ", 0
.dots   db      "...", 13, 10, 0

msg_unreadable  db      "   cannot read its boot sector", 13, 10, 0
msg_unsigned    db      "   its first sector is not a boot sector (no 55 AA at the end)", 13, 10, 0

; INT 18h: nothing boots. Any key tries again. The board hears of it, as nobody may be there to
; press one.
int18:
        sti
        call    print_crlf
        mov     si, .title
        mov     bl, 0Eh
        call    print_attr
        mov     si, .text
        call    print
        push    word EBDA
        pop     ds
        mov     ax, [E_BOOT]
        or      ax, NOTICE
        mov     dx, NOTICE_PORT
        out     dx, ax
        mov     ah, 10h
        int     16h
        cmp     ax, F12 << 8
        jne     .again
        mov     cx, ax                  ; INT 19h looks for it
        mov     ah, 5
        int     16h
.again: int     19h
.title  db      " No bootable device.", 0
.text   db      13, 10, 10
        db      " Glassbox looked at the drives above and found none that starts an", 13, 10
        db      " operating system. Give it a disk, CD-ROM or floppy image that does,", 13, 10
        db      " then press a key here to try again, or F12 for the boot menu.", 13, 10, 0
