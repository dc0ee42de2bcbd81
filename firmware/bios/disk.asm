; Glassbox BIOS: INT 13h for hard disks (DL = 80h and up); diskettes go on to INT 40h's handler, and CD-ROM drives
; (E0h and up) to cdrom.asm.
; Sources: IBM PC/AT Technical Reference; Ralf Brown's Interrupt List, INT 13h.

int13:
        push    ds
        push    ax
        set_ds  EBDA
        cmp     byte [E_EMUON], 0
        pop     ax
        jne     int13_emulating
        pop     ds
.plain: test    dl, dl
        jns     int40
        sti
        enter_service
        poll_reset
        set_ds  EBDA
        mov     al, [bp+F_DL]
        sub     al, CD_DRIVE
        jae     cd_int13
        add     al, CD_DRIVE-80h
        cmp     al, [E_NDISKS]
        jae     .no_drive
        mov     ah, D_SIZE
        mul     ah
        add     ax, E_DRIVES
        mov     bx, ax
        movzx   si, byte [bp+F_AH]
        cmp     si, 49h
        ja      .bad
        cmp     si, 15h
        jbe     .low
        cmp     si, 41h
        jb      .bad
        sub     si, 41h-16h
.low:   add     si, si
        jmp     [cs:.table+si]
.table  dw      .ok, .status, .rw, .rw, .rw, .bad, .bad, .bad           ; 00
        dw      .params, .ok, .bad, .bad, .seek, .ok, .bad, .bad        ; 08
        dw      .ready, .ok, .bad, .bad, .ok, .type                     ; 10
        dw      edd_check, edd_rw, edd_rw, edd_rw, edd_lock             ; 41
        dw      edd_eject, edd_rw, edd_params, edd_change               ; 46

.no_drive:
        mov     ah, [bp+F_AH]
        cmp     ah, 15h
        je      .no_type
        cmp     ah, 8
        jne     .bad
        mov     word [bp+F_CX], 0
        mov     byte [bp+F_DH], 0
        mov     al, [E_NDISKS]
        mov     [bp+F_DL], al
        mov     ah, 7
        jmp     disk_end
.no_type:
        mov     byte [bp+F_AH], 0
        CLR_CF
        leave_service
.bad:   mov     ah, 1
        jmp     disk_end
.ok:    mov     ah, 0
        jmp     disk_end

.status:set_ds  BDA
        mov     ah, [B_HDSTATUS]
        mov     [bp+F_AL], ah
        jmp     disk_end

.ready: test    byte [bx+D_FLAGS], VIRTIO_FLAG
        jnz     .ok
        mov     dx, [bx+D_BASE]
        add     dx, 6
        mov     al, [bx+D_SELECT]
        out     dx, al
        call    ide_pause
        inc     dx
        in      al, dx
        mov     ah, 0
        test    al, 80h
        jnz     .not_ready
        test    al, 40h
        jnz     disk_end
.not_ready:
        mov     ah, 0AAh
        jmp     disk_end

.rw:    movzx   cx, byte [bp+F_AL]
        jcxz    .bad
        mov     [E_RQCNT], cx
        call    chs_to_lba
        jc      .bad
        mov     al, [bp+F_AH]
        sub     al, 2
        mov     [E_RQOP], al
        mov     di, [bp+F_BX]
        mov     es, [bp+F_ES]
        call    ide_transfer
        mov     al, [E_RQDONE]
        mov     [bp+F_AL], al
        jmp     disk_end

.seek:  mov     word [E_RQCNT], 1
        or      byte [bp+F_CL], 1       ; only the cylinder counts
        call    chs_to_lba
        jc      .bad
        jmp     .ok

.params:mov     ax, [bx+D_CYL]
        dec     ax
        mov     [bp+F_CH], al
        shl     ah, 6
        mov     al, [bx+D_SPT]
        and     al, 3Fh
        or      al, ah
        mov     [bp+F_CL], al
        mov     al, [bx+D_HEADS]
        dec     al
        mov     [bp+F_DH], al
        mov     al, [E_NDISKS]
        mov     [bp+F_DL], al
        mov     byte [bp+F_AL], 0
        jmp     .ok

.type:  movzx   eax, word [bx+D_CYL]
        movzx   ecx, word [bx+D_HEADS]
        mul     ecx
        movzx   ecx, word [bx+D_SPT]
        mul     ecx
        mov     [bp+F_DX], ax
        shr     eax, 16
        mov     [bp+F_CX], ax
        set_ds  BDA
        mov     byte [B_HDSTATUS], 0
        mov     byte [bp+F_AH], 3
        CLR_CF
        leave_service

; disk_end: AH = status: to the caller's AH, CF and 40:74.
disk_end:
        mov     [bp+F_AH], ah
        mov     bl, ah
        set_ds  BDA
        mov     [B_HDSTATUS], bl
        CLR_CF
        test    bl, bl
        jz      .ret
        SET_CF
.ret:   leave_service

; chs_to_lba: the caller's CX and DH -> E_RQLBA, for the drive at BX and E_RQCNT sectors. CF set if out of range.
chs_to_lba:
        movzx   eax, byte [bp+F_CH]
        mov     ah, [bp+F_CL]
        shr     ah, 6
        movzx   ecx, word [bx+D_HEADS]
        movzx   edx, byte [bp+F_DH]
        cmp     dx, cx
        jae     .bad
        push    edx
        mul     ecx
        pop     edx
        add     eax, edx
        movzx   ecx, word [bx+D_SPT]
        mul     ecx
        movzx   ecx, byte [bp+F_CL]
        and     cl, 3Fh
        jz      .bad
        cmp     cx, [bx+D_SPT]
        ja      .bad
        dec     ecx
        add     eax, ecx
        mov     [E_RQLBA], eax
        mov     dword [E_RQLBA+4], 0

; check_range: CF set if E_RQLBA + E_RQCNT passes the end of the drive at BX.
check_range:
        mov     eax, [E_RQLBA]
        mov     edx, [E_RQLBA+4]
        movzx   ecx, word [E_RQCNT]
        add     eax, ecx
        adc     edx, 0
        jc      chs_to_lba.bad
        sub     eax, [bx+D_TOTAL]
        sbb     edx, [bx+D_TOTAL+4]
        jb      .ok
        or      eax, edx
        jnz     chs_to_lba.bad
.ok:    clc
        ret
chs_to_lba.bad:
        stc
        ret
