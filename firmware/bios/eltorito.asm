; Glassbox BIOS: El Torito: booting from CD-ROM, and the diskette or hard disk that a part of the disc stands for.
; Source: Phoenix and IBM, "El Torito" Bootable CD-ROM Format Specification 1.0.
;
; While a drive is emulated its number is 00h or 80h, and the real drives of its kind have the numbers behind it. It
; cannot be written to. The initial entry of the catalogue is booted; where that is not for this platform (00h) or not
; bootable, the first entry that is.

CD_BUFFER       equ 8000h               ; a sector in segment 0, only used before the boot image is loaded
ET_BUFFER_END   equ CD_BUFFER+2048
; The specification packet.
ET_MEDIA        equ 1
ET_DRIVE        equ 2
ET_INDEX        equ 3
ET_LBA          equ 4
ET_PLACE        equ 8
ET_SEGMENT      equ 0Ch
ET_COUNT        equ 0Eh
ET_CHS          equ 10h
ET_SIZE         equ 13h

; boot_cdrom: returns only if no CD-ROM can boot. DS = ES = 0.
boot_cdrom:
        push    ds
        push    es
        set_ds  EBDA
        cmp     byte [E_NCDS], 0
        je      .none
        mov     si, .name
        mov     cl, BOOT_CDROM
        call    boot_announce
        mov     ch, 0
.drive: mov     al, ch
        call    cd_select
        push    cx
        call    et_try                  ; SI = why not
        call    boot_failed
        pop     cx
        inc     ch
        cmp     ch, [E_NCDS]
        jb      .drive
.none:  pop     es
        pop     ds
        ret
.name   db      "CD-ROM", 0

; et_try: boots from the selected drive, the CH-th. Returns with CS:SI = why not, if it cannot. DS = EBDA.
et_try: mov     [E_EMU+ET_INDEX], ch
        call    cd_ready
        mov     si, .empty
        jc      .ret
        mov     eax, 17                 ; boot record volume descriptor
        call    et_sector
        mov     si, msg_unreadable
        jc      .ret
        mov     si, .unsigned
        mov     di, CD_BUFFER
        cmp     dword [es:di], 30444300h        ; 0, "CD0"
        jne     .ret
        cmp     dword [es:di+7], 54204C45h      ; "EL T"
        jne     .ret
        cmp     dword [es:di+11], 5449524Fh     ; "ORIT"
        jne     .ret
        mov     eax, [es:di+47h]        ; the boot catalogue
        call    et_sector
        mov     si, msg_unreadable
        jc      .ret
        mov     si, .unsigned
        mov     di, CD_BUFFER
        cmp     byte [es:di], 1         ; validation entry
        jne     .ret
        cmp     word [es:di+1Eh], 0AA55h
        jne     .ret
        mov     al, [es:di+1]           ; its platform is the initial entry's
        add     di, 20h
        mov     cx, 1
        jmp     .entries
; A header of a section: 90h, or 91h for the last one; platform, number of entries.
.section:
        add     di, 20h
        cmp     di, ET_BUFFER_END
        jae     .ret
        mov     al, [es:di]
        and     al, 0FEh
        cmp     al, 90h
        jne     .ret
        mov     al, [es:di+1]
        mov     cx, [es:di+2]
        jcxz    .section
        add     di, 20h
.entries:
        cmp     di, ET_BUFFER_END
        jae     .ret
        test    al, al                  ; 80x86
        jnz     .other
        cmp     byte [es:di], 88h       ; bootable
        je      et_boot
.other: dec     cx
        jz      .section
        add     di, 20h
        jmp     .entries
.ret:   ret
.empty  db      "   there is no disc in it", 13, 10, 0
.unsigned db    "   it is not a bootable disc (no El Torito boot record)", 13, 10, 0

; et_sector: EAX = sector, which goes to CD_BUFFER in segment 0, which is ES then.
et_sector:
        push    word 0
        pop     es
        mov     di, CD_BUFFER
        mov     cx, 1
        call    cd_read
        push    word 0                  ; the read may have moved ES
        pop     es
        ret

; et_boot: boots the entry at ES:DI. Returns with CS:SI = why not.
et_boot:
        mov     si, .damaged
        mov     al, [es:di+1]
        and     al, 0Fh
        cmp     al, 4
        ja      .ret
        mov     [E_EMU+ET_MEDIA], al
        mov     byte [E_EMU], ET_SIZE
        mov     ax, [es:di+2]
        test    ax, ax
        jnz     .segment
        mov     ax, 07C0h
.segment:
        mov     [E_EMU+ET_SEGMENT], ax
        mov     eax, [es:di+8]
        mov     [E_EMU+ET_LBA], eax
        mov     ax, [es:di+6]
        test    ax, ax
        jnz     .counted
        inc     ax
.counted:
        mov     [E_EMU+ET_COUNT], ax
        call    et_prepare
        mov     si, .damaged
        jc      .ret
        ; As much as there is room for below the EBDA.
        mov     ax, EBDA
        sub     ax, [E_EMU+ET_SEGMENT]
        jbe     .ret
        shr     ax, 5                   ; sectors of 512 bytes
        cmp     ax, [E_EMU+ET_COUNT]
        jbe     .clipped
        mov     ax, [E_EMU+ET_COUNT]
.clipped:
        movzx   eax, ax
        mov     cx, ax
        add     cx, 3
        shr     cx, 2
        mov     word [E_CDSKIP], 0
        shl     eax, 9
        cmp     byte [E_EMU+ET_MEDIA], 0
        jne     .part
        mov     eax, ecx                ; without emulation whole sectors of the disc, as their loaders expect
        and     eax, 0FFFFh
        shl     eax, 11
.part:  mov     [E_CDTAKE], eax
        mov     eax, [E_EMU+ET_LBA]
        mov     es, [E_EMU+ET_SEGMENT]
        xor     di, di
        call    cd_read_part
        mov     si, msg_unreadable
        jc      .ret
        call    et_start
        DBG     "boot CD"
        mov     dl, [E_EMU+ET_DRIVE]
        mov     bp, [E_EMU+ET_SEGMENT]
        xor     ax, ax
        mov     ss, ax
        mov     sp, 7C00h
        mov     ds, ax
        mov     es, ax
        mov     dh, 0
        cmp     bp, 07C0h               ; the usual place is entered as 0000:7C00
        jne     .go
        push    ax
        push    word 7C00h
        jmp     .clear
.go:    push    bp
        push    ax
.clear: xor     ebx, ebx
        xor     ecx, ecx
        xor     esi, esi
        xor     edi, edi
        xor     ebp, ebp
        retf
.ret:   ret
.damaged db     "   its boot catalogue makes no sense", 13, 10, 0

; et_prepare: completes the packet in E_EMU, whose drive is the selected one, and makes the emulated drive's geometry.
; CF set if there is none. Clobbers EAX, BX, CX, DX, DI, ES.
et_prepare:
        mov     word [E_EMU+ET_PLACE], 0
        mov     al, [E_CD+4]
        shr     al, 4
        and     al, 1                   ; slave
        mov     [E_EMU+ET_PLACE], al
        mov     word [E_EMU+0Ah], 0
        mov     word [E_EMU+ET_CHS], 0
        mov     byte [E_EMU+ET_CHS+2], 0
        movzx   bx, byte [E_EMU+ET_MEDIA]
        cmp     bl, 4
        je      .disk
        ja      .bad
        mov     al, [E_EMU+ET_INDEX]
        add     al, CD_DRIVE
        mov     [E_EMU+ET_DRIVE], al
        test    bl, bl
        jz      .good
        mov     byte [E_EMU+ET_DRIVE], 0
        movzx   ax, byte [cs:.tracks+bx]
        mov     [E_EMUSPT], ax
        mov     word [E_EMUHEADS], 2
        mov     word [E_EMUCYL], 80
        imul    ax, ax, 160
        movzx   eax, ax
        mov     [E_EMUTOTAL], eax
        jmp     .chs
; Of a hard disk the partition table says how large it is: the end of its first partition.
.disk:  mov     byte [E_EMU+ET_DRIVE], 80h
        mov     eax, [E_EMU+ET_LBA]
        call    et_sector
        jc      .bad
        mov     di, CD_BUFFER+1BEh
        cmp     word [es:di+40h], 0AA55h
        jne     .bad
        movzx   ax, byte [es:di+5]
        inc     ax
        mov     [E_EMUHEADS], ax
        mov     cx, [es:di+6]
        mov     al, cl
        and     ax, 3Fh
        jz      .bad
        mov     [E_EMUSPT], ax
        xchg    cl, ch
        shr     ch, 6
        inc     cx
        mov     [E_EMUCYL], cx
        mov     eax, [es:di+8]
        add     eax, [es:di+12]
        mov     [E_EMUTOTAL], eax
.chs:   mov     cx, [E_EMUCYL]
        dec     cx
        mov     [E_EMU+ET_CHS], cl
        shl     ch, 6
        or      ch, [E_EMUSPT]
        mov     [E_EMU+ET_CHS+1], ch
        mov     al, [E_EMUHEADS]
        dec     al
        mov     [E_EMU+ET_CHS+2], al
.good:  clc
        ret
.bad:   stc
        ret
.tracks db      0, 15, 18, 36

; et_start: the drive of the packet is there from now on. Clobbers AX, BX, SI.
et_start:
        mov     byte [E_EMUON], 0
        cmp     byte [E_EMU+ET_MEDIA], 0
        je      .end
        mov     byte [E_EMUON], 1
        push    ds
        xor     ax, ax
        mov     bl, [E_EMU+ET_MEDIA]
        mov     ds, ax
        cmp     bl, 4
        je      .disk
        call    et_dpt
        mov     [1Eh*4], si
        mov     [1Eh*4+2], cs
        mov     al, [400h+B_EQUIP]
        add     byte [400h+B_EQUIP], 40h
        test    al, 1
        jnz     .done
        and     byte [400h+B_EQUIP], 3Fh        ; the first one
        or      byte [400h+B_EQUIP], 1
        jmp     .done
.disk:  inc     byte [400h+B_HDCOUNT]
.done:  pop     ds
.end:   ret

; et_stop: there is no emulated drive any more. DS = EBDA. All is kept.
et_stop:
        pusha
        cmp     byte [E_EMUON], 0
        je      .end
        mov     byte [E_EMUON], 0
        push    ds
        mov     bl, [E_EMU+ET_MEDIA]
        xor     ax, ax
        mov     ds, ax
        cmp     bl, 4
        je      .disk
        test    byte [400h+B_EQUIP], 0C0h
        jz      .last
        sub     byte [400h+B_EQUIP], 40h
        jmp     .done
.last:  and     byte [400h+B_EQUIP], 0FEh
        jmp     .done
.disk:  dec     byte [400h+B_HDCOUNT]
.done:  pop     ds
.end:   popa
        ret

; et_dpt: BL = kind of diskette; out: CS:SI = its parameter table, AL = its number in CMOS.
et_dpt: push    bx
        mov     bh, 0
        mov     al, [cs:.types+bx]
        pop     bx
        jmp     fd_table_for
.types  db      0, 2, 4, 5

; int13_emulating: INT 13h while a drive is emulated. Reached with the caller's DS on the stack, and DS = EBDA.
int13_emulating:
        cmp     dl, [E_EMU+ET_DRIVE]
        je      .own
        cmp     dl, CD_DRIVE
        jae     .plain
        cmp     ah, 4Bh                 ; 7Fh: whatever is emulated
        jne     .others
        cmp     dl, 7Fh
        je      .own
.others:push    ax
        mov     al, dl
        xor     al, [E_EMU+ET_DRIVE]
        js      .kept                   ; diskettes beside a disk, or the other way round
        pop     ax
        pop     ds
        ; Real drives come behind the emulated one.
        push    ax
        dec     dl
        pushf
        push    cs
        call    int13.plain
        push    bp
        mov     bp, sp
        pushf
        jc      .next
        cmp     byte [bp+3], 15h
        jne     .next
        cmp     ah, 3                   ; DL is a part of the number of sectors
        je      .same
.next:  inc     dl                      ; also where it is the number of drives
.same:  popf
        pop     bp
        inc     sp                      ; without a change of flags
        inc     sp
        sti
        retf    2
.kept:  pop     ax
.plain: pop     ds
        jmp     int13.plain
.own:   pop     ds
        sti
        enter_service
        poll_reset
        set_ds  EBDA
        mov     al, [E_EMU+ET_INDEX]
        call    cd_select
        mov     al, [bp+F_AH]
        cmp     al, 0
        je      .ok
        cmp     al, 1
        je      .status
        cmp     al, 2
        je      .read
        cmp     al, 3
        je      .protected
        cmp     al, 4
        je      .verify
        cmp     al, 5
        je      .protected
        cmp     al, 8
        je      .params
        cmp     al, 0Ch
        je      .ok
        cmp     al, 0Dh
        je      .ok
        cmp     al, 10h
        je      .ok
        cmp     al, 11h
        je      .ok
        cmp     al, 15h
        je      .type
        cmp     al, 16h
        je      .ok
        cmp     al, 4Bh
        je      et_int13_4b
        cmp     al, 4Dh
        je      et_int13_4d
.bad:   mov     ah, 1
        jmp     disk_end
.protected:
        mov     byte [bp+F_AL], 0
        mov     ah, 3
        jmp     disk_end
.ok:    mov     ah, 0
        jmp     disk_end
.status:set_ds  BDA
        mov     ah, [B_HDSTATUS]
        mov     [bp+F_AL], ah
        jmp     disk_end

.params:mov     byte [bp+F_AL], 0
        mov     ax, [E_EMU+ET_CHS]      ; cylinder below sector
        xchg    al, ah
        mov     [bp+F_CX], ax
        mov     al, [E_EMU+ET_CHS+2]
        mov     [bp+F_DH], al
        mov     al, [E_NDISKS]
        inc     al
        mov     bl, [E_EMU+ET_MEDIA]
        cmp     bl, 4
        je      .drives
        push    ds
        push    word BDA
        pop     ds
        mov     al, [B_EQUIP]
        pop     ds
        shr     al, 6
        inc     al
        push    ax
        call    et_dpt
        mov     ah, 0
        mov     [bp+F_BX], ax
        mov     [bp+F_DI], si
        mov     [bp+F_ES], cs
        pop     ax
.drives:mov     [bp+F_DL], al
        jmp     .ok

.type:  CLR_CF
        mov     byte [bp+F_AH], 1       ; a diskette without change line
        cmp     byte [E_EMU+ET_MEDIA], 4
        jne     .typed
        mov     byte [bp+F_AH], 3
        mov     eax, [E_EMUTOTAL]
        mov     [bp+F_DX], ax
        shr     eax, 16
        mov     [bp+F_CX], ax
.typed: leave_service

.verify:call    et_chs
        jc      .missing
        jmp     .ok
.missing:
        mov     byte [bp+F_AL], 0
        mov     ah, 4
        jmp     disk_end
.read:  call    et_chs
        jc      .missing
        mov     ebx, eax
        and     bx, 3
        shl     bx, 9
        mov     [E_CDSKIP], bx
        movzx   ecx, byte [bp+F_AL]
        shl     ecx, 9
        mov     [E_CDTAKE], ecx
        movzx   ebx, bx
        add     ecx, ebx
        add     ecx, 2047
        shr     ecx, 11
        shr     eax, 2
        add     eax, [E_EMU+ET_LBA]
        mov     es, [bp+F_ES]
        mov     di, [bp+F_BX]
        call    cd_read_part
        jnc     .ok
        mov     byte [bp+F_AL], 0
        mov     al, [E_CDDATA+2]
        and     al, 0Fh
        call    cd_status.map
        jmp     disk_end

; et_chs: the caller's sector -> EAX, of the image; CF set if it, or AL sectors from it on, are not there.
et_chs: movzx   eax, byte [bp+F_CH]
        mov     ah, [bp+F_CL]
        shr     ah, 6
        cmp     ax, [E_EMUCYL]
        jae     .bad
        movzx   ecx, word [E_EMUHEADS]
        movzx   ebx, byte [bp+F_DH]
        cmp     bx, cx
        jae     .bad
        imul    eax, ecx
        add     eax, ebx
        movzx   ecx, word [E_EMUSPT]
        imul    eax, ecx
        movzx   ebx, byte [bp+F_CL]
        and     bl, 3Fh
        jz      .bad
        cmp     bx, cx
        ja      .bad
        dec     bx
        add     eax, ebx
        movzx   ecx, byte [bp+F_AL]
        jcxz    .bad
        add     ecx, eax
        cmp     ecx, [E_EMUTOTAL]
        ja      .bad
        clc
        ret
.bad:   stc
        ret

; INT 13h, AH = 4Bh. AL = 0 ends an emulation, 1 tells of it, 2 begins one; DS:SI = specification packet.
et_int13_4b:
        cmp     byte [E_EMU], ET_SIZE   ; nothing was booted from a disc
        mov     al, [bp+F_AL]
        je      .known
        cmp     al, 2
        jne     .bad
.known: cmp     al, 2
        je      .begin
        ja      .bad
        cmp     al, 0
        jne     .tell
        call    et_stop
.tell:  mov     es, [bp+F_DS]
        mov     di, [bp+F_SI]
        mov     si, E_EMU
        mov     cx, ET_SIZE
        rep     movsb
.good:  mov     ah, 0
        jmp     disk_end
.bad:   mov     ah, 1
        jmp     disk_end
.begin: call    et_stop
        mov     byte [E_EMU], 0
        push    ds
        push    ds
        pop     es
        mov     ds, [bp+F_DS]
        mov     si, [bp+F_SI]
        cmp     byte [si], ET_SIZE
        jne     .other
        mov     al, [si+ET_MEDIA]
        and     al, 0Fh
        cmp     al, 4
        ja      .other
        mov     cl, [es:E_NCDS]
        cmp     [si+ET_INDEX], cl
        jae     .other
        mov     di, E_EMU
        mov     cx, ET_SIZE
        rep     movsb
        pop     ds
        mov     [E_EMU+ET_MEDIA], al
        cmp     al, 4
        je      .disk
        mov     al, [E_EMU+ET_INDEX]
        call    cd_select
        call    et_prepare
.start: call    et_start
        jmp     .good
.other: pop     ds
        jmp     .bad
; Of a hard disk the caller knows the geometry.
.disk:  mov     byte [E_EMU+ET_DRIVE], 80h
        mov     cx, [E_EMU+ET_CHS]
        movzx   ax, ch
        and     al, 3Fh
        mov     [E_EMUSPT], ax
        shr     ch, 6
        inc     cx
        mov     [E_EMUCYL], cx
        movzx   eax, ax
        movzx   ecx, cx
        imul    eax, ecx
        movzx   cx, byte [E_EMU+ET_CHS+2]
        inc     cx
        mov     [E_EMUHEADS], cx
        imul    eax, ecx
        mov     [E_EMUTOTAL], eax
        jmp     .start

; INT 13h, AH = 4Dh: the boot catalogue. DS:SI = size of this (8), sectors, far buffer, the first sector.
et_int13_4d:
        mov     es, [bp+F_DS]
        mov     si, [bp+F_SI]
        cmp     byte [es:si], 8
        jb      et_int13_4b.bad
        mov     eax, 17
        mov     cx, 1
        les     di, [es:si+2]
        call    cd_read                 ; the boot record, which says where it is
        mov     es, [bp+F_DS]
        mov     si, [bp+F_SI]
        jc      .why
        movzx   cx, byte [es:si+1]
        movzx   ebx, word [es:si+6]
        les     di, [es:si+2]
        cmp     dword [es:di+7], 54204C45h      ; "EL T"
        jne     et_int13_4b.bad
        mov     eax, [es:di+47h]
        add     eax, ebx
        test    cx, cx
        jz      et_int13_4b.good
        call    cd_read
        jnc     et_int13_4b.good
.why:   mov     al, [E_CDDATA+2]
        and     al, 0Fh
        call    cd_status.map
        jmp     disk_end
