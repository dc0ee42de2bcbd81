; Glassbox BIOS: CD-ROM: finding the ATAPI drive, booting from it (El Torito), and its INT 13h.
; Sources: ATA/ATAPI-6 (PACKET), MMC (READ(10), TEST UNIT READY), "El Torito" Bootable CD-ROM Format Specification 1.0.
; Supported: the default entry, without emulation; the drive is then E0h, with 2048-byte sectors by AH=42h.

CD_DRIVE        equ 0E0h
CD_BUFFER       equ 8000h               ; a sector in segment 0, only used before the boot image is loaded

; ide_found_cdrom: remembers the first ATAPI device, and prints a line. BX = record, ES = 0, CS:SI = channel.
ide_found_cdrom:
        pusha
        cmp     word [E_CD], 0
        jne     .show
        mov     ax, [bx+D_BASE]
        mov     [E_CD], ax
        mov     ax, [bx+D_CTRL]
        mov     [E_CD+2], ax
        mov     al, [bx+D_SELECT]
        mov     [E_CD+4], al
.show:  push    si
        mov     si, .label
        call    print_label
        pop     si
        call    print_model
        call    print_place
        popa
        ret
.label  db      "CD-ROM", 0

; cd_read: EAX = first 2048-byte sector, CX = sectors, ES:DI = buffer; DS = EBDA.
; out: CF set on failure. Clobbers EAX, BX, CX, DX, DI, ES.
cd_read:
        mov     word [E_PACKET], 28h    ; READ(10)
        xchg    al, ah                  ; big-endian; the 386 has no BSWAP
        rol     eax, 16
        xchg    al, ah
        mov     [E_PACKET+2], eax
        mov     byte [E_PACKET+6], 0
        mov     [E_PACKET+7], ch
        mov     [E_PACKET+8], cl
        mov     byte [E_PACKET+9], 0
        mov     word [E_PACKET+10], 0
; cd_packet: sends E_PACKET and takes what the device gives to ES:DI.
cd_packet:
        push    si
        mov     dx, [E_CD]
        call    ide_wait
        jc      .fail
        mov     dx, [E_CD+2]
        mov     al, 8
        out     dx, al
        mov     dx, [E_CD]
        add     dx, 6
        mov     al, [E_CD+4]
        out     dx, al
        call    .pause
        mov     dx, [E_CD]
        call    ide_wait
        jc      .fail
        inc     dx
        mov     al, 0                   ; features: PIO
        out     dx, al
        add     dx, 3
        mov     al, 0
        out     dx, al
        inc     dx
        mov     al, 8                   ; 2048 bytes at a time
        out     dx, al
        add     dx, 2
        mov     al, 0A0h                ; PACKET
        out     dx, al
        call    .pause
        mov     dx, [E_CD]
        call    ide_wait
        jc      .fail
        test    al, 21h
        jnz     .fail
        mov     si, E_PACKET
        mov     cx, 6
        rep     outsw
.data:  call    .pause
        mov     dx, [E_CD]
        call    ide_wait
        jc      .fail
        test    al, 21h
        jnz     .fail
        test    al, 8
        jz      .done
        add     dx, 4                   ; byte count
        in      al, dx
        mov     bl, al
        inc     dx
        in      al, dx
        mov     bh, al
        mov     ax, di                  ; keep the buffer from wrapping
        shr     ax, 4
        mov     cx, es
        add     ax, cx
        jc      .fits
        mov     es, ax
        and     di, 0Fh
.fits:  mov     cx, bx
        inc     cx
        shr     cx, 1
        mov     dx, [E_CD]
        rep     insw
        jmp     .data
.done:  pop     si
        clc
        ret
.fail:  pop     si
        stc
        ret
.pause: push    dx
        mov     dx, [E_CD+2]
        in      al, dx
        in      al, dx
        in      al, dx
        in      al, dx
        pop     dx
        ret

; cd_ready: TEST UNIT READY, a few times, as a new disc reports a unit attention first. CF set if there is no disc.
cd_ready:
        mov     cx, 5
.try:   push    cx
        xor     eax, eax
        mov     [E_PACKET], eax
        mov     [E_PACKET+4], eax
        mov     [E_PACKET+8], eax
        call    cd_packet
        pop     cx
        jnc     .end
        loop    .try
        stc
.end:   ret

; boot_cdrom: returns only if the CD-ROM cannot boot. DS = ES = 0.
boot_cdrom:
        push    ds
        push    es
        set_ds  EBDA
        cmp     word [E_CD], 0
        je      .ret
        mov     si, .name
        mov     cl, BOOT_CDROM
        call    boot_announce
        call    cd_ready
        mov     si, msg_unreadable
        jc      .say
        mov     eax, 17                 ; boot record volume descriptor
        call    .sector
        mov     si, msg_unreadable
        jc      .say
        mov     si, .unsigned
        mov     di, CD_BUFFER
        cmp     dword [es:di], 30444300h        ; 0, "CD0"
        jne     .say
        cmp     dword [es:di+7], 54204C45h      ; "EL T"
        jne     .say
        mov     eax, [es:di+47h]        ; the boot catalogue
        call    .sector
        mov     si, msg_unreadable
        jc      .say
        mov     si, .unsigned
        cmp     byte [es:CD_BUFFER], 1          ; validation entry
        jne     .say
        cmp     word [es:CD_BUFFER+1Eh], 0AA55h
        jne     .say
        cmp     byte [es:CD_BUFFER+20h], 88h    ; bootable
        jne     .say
        mov     si, .emulated
        test    byte [es:CD_BUFFER+21h], 0Fh
        jnz     .say
        mov     bp, [es:CD_BUFFER+22h]  ; load segment
        test    bp, bp
        jnz     .segment
        mov     bp, 07C0h
.segment:
        mov     cx, [es:CD_BUFFER+26h]  ; 512-byte sectors
        add     cx, 3
        shr     cx, 2
        jnz     .count
        inc     cx
.count: mov     eax, [es:CD_BUFFER+28h]
        mov     es, bp
        xor     di, di
        call    cd_read
        mov     si, msg_unreadable
        jc      .say
        mov     byte [E_CD+5], CD_DRIVE
        xor     ax, ax
        mov     ss, ax
        mov     sp, 7C00h
        mov     ds, ax
        mov     es, ax
        mov     dx, CD_DRIVE
        push    bp
        push    ax
        cmp     bp, 07C0h               ; the usual place is entered as 0000:7C00
        jne     .go
        add     sp, 4
        push    ax
        push    word 7C00h
.go:    retf
.say:   call    boot_failed
.ret:   pop     es
        pop     ds
        ret
.sector:push    word 0
        pop     es
        mov     di, CD_BUFFER
        mov     cx, 1
        call    cd_read
        push    word 0                  ; the read may have moved ES
        pop     es
        ret
.name   db      "CD-ROM", 0
.unsigned db    "   it is not a bootable disc (no El Torito boot record)", 13, 10, 0
.emulated db    "   it boots by floppy or disk emulation, which is not supported", 13, 10, 0

; cd_int13: INT 13h for the drive we booted from. DS = EBDA, BP = frame.
cd_int13:
        mov     al, [bp+F_AH]
        cmp     al, 0
        je      .ok
        cmp     al, 1
        je      .status
        cmp     al, 8
        je      .params
        cmp     al, 15h
        je      .type
        cmp     al, 41h
        je      .check
        cmp     al, 42h
        je      .read
        cmp     al, 44h
        je      .ok
        cmp     al, 47h
        je      .ok
        cmp     al, 48h
        je      .size
        cmp     al, 4Bh
        je      .emulation
        cmp     al, 3
        je      .protected
        cmp     al, 43h
        je      .protected
.bad:   mov     ah, 1
        jmp     disk_end
.protected:
        mov     ah, 3
        jmp     disk_end
.ok:    mov     ah, 0
        jmp     disk_end
.status:set_ds  BDA
        mov     ah, [B_HDSTATUS]
        jmp     disk_end
.params:mov     word [bp+F_CX], 0FFFFh
        mov     word [bp+F_DX], 0FF01h
        jmp     .ok
.type:  mov     byte [bp+F_AH], 2
        CLR_CF
        leave_service
.check: cmp     word [bp+F_BX], 55AAh
        jne     .bad
        mov     word [bp+F_BX], 0AA55h
        mov     word [bp+F_CX], 5
        mov     byte [bp+F_AH], 30h
        CLR_CF
        leave_service
.read:  mov     es, [bp+F_DS]
        mov     si, [bp+F_SI]
        cmp     byte [es:si], 10h
        jb      .bad
        mov     cx, [es:si+2]
        jcxz    .ok
        cmp     dword [es:si+12], 0
        jne     .bad
        mov     eax, [es:si+8]
        les     di, [es:si+4]
        call    cd_read
        jnc     .ok
        mov     es, [bp+F_DS]
        mov     si, [bp+F_SI]
        mov     word [es:si+2], 0
        mov     ah, 0AAh                ; not ready
        jmp     disk_end
.size:  mov     es, [bp+F_DS]
        mov     di, [bp+F_SI]
        cmp     word [es:di], 1Ah
        jb      .bad
        mov     word [es:di], 1Ah
        mov     word [es:di+2], 74h     ; removable, lockable, change line, no geometry
        add     di, 4
        mov     cx, 10
        mov     ax, 0FFFFh
        rep     stosw                   ; geometry and total: unknown
        mov     ax, 2048
        stosw
        jmp     .ok
; 4B01: the specification packet at DS:SI. 4B00 ends an emulation that never was.
.emulation:
        mov     es, [bp+F_DS]
        mov     di, [bp+F_SI]
        mov     ax, 13h                 ; size; no emulation
        stosw
        mov     ax, CD_DRIVE            ; drive; controller 0
        stosw
        xor     ax, ax
        mov     cx, 7
        rep     stosw
        stosb
        jmp     .ok
