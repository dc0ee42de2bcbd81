; Glassbox BIOS: CD-ROM: finding ATAPI drives, and INT 13h for them (DL = E0h and up, sectors of 2048 bytes).
; Sources: ATA/ATAPI-6 (PACKET), MMC-3 (READ(10), READ CAPACITY, START STOP UNIT, PREVENT ALLOW, sense keys); Phoenix,
; "BIOS Enhanced Disk Drive Specification" 3.0; "El Torito" Bootable CD-ROM Format Specification 1.0. Booting and
; emulated drives are in eltorito.asm.

CD_DRIVE        equ 0E0h                ; the first drive's number
CD_SIZE         equ 6                   ; of a record

; ide_found_cdrom: makes a record of an ATAPI device, and prints a line. BX = record, ES = 0, CS:SI = channel.
ide_found_cdrom:
        pusha
        movzx   di, byte [E_NCDS]
        cmp     di, 4
        jae     .end
        imul    di, di, CD_SIZE
        add     di, E_CDS
        mov     ax, [bx+D_BASE]
        mov     [di], ax
        mov     ax, [bx+D_CTRL]
        mov     [di+2], ax
        mov     al, [bx+D_SELECT]
        mov     [di+4], al
        mov     byte [di+5], 0
        push    si
        mov     si, .label
        call    print_label
        pop     si
        call    print_model
        call    print_place
        ; The drive has to tell that it was switched on: a guest that knows no unit attention must not meet it.
        mov     al, [E_NCDS]
        inc     byte [E_NCDS]
        call    cd_select
        call    cd_ready
.end:   popa
        ret
.label  db      "CD-ROM", 0

; cd_select: AL = number of a drive from 0 on, which is there; DS = EBDA. All is kept.
cd_select:
        pusha
        push    es
        push    ds
        pop     es
        movzx   si, al
        imul    si, si, CD_SIZE
        add     si, E_CDS
        mov     di, E_CD
        cld
        times CD_SIZE/2 movsw
        pop     es
        popa
        ret

; cd_read: EAX = first 2048-byte sector, CX = sectors, ES:DI = buffer; DS = EBDA.
; out: CF set on failure. Clobbers EAX, BX, CX, DX, DI, ES.
cd_read:
        mov     word [E_CDSKIP], 0
        mov     dword [E_CDTAKE], -1
; cd_read_part: the same, of which the first E_CDSKIP bytes are left out, and E_CDTAKE are taken.
cd_read_part:
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
; A changed disc is told of once; what is read then is from the new one.
.again: push    dword [E_CDTAKE]
        push    word [E_CDSKIP]
        push    es
        push    di
        call    cd_packet
        pop     di
        pop     es
        pop     word [E_CDSKIP]
        pop     dword [E_CDTAKE]
        jnc     cd_packet.ret
        push    dword [E_PACKET]
        push    dword [E_PACKET+4]
        push    dword [E_PACKET+8]
        push    dword [E_CDTAKE]
        push    word [E_CDSKIP]
        call    cd_sense
        pop     word [E_CDSKIP]
        pop     dword [E_CDTAKE]
        pop     dword [E_PACKET+8]
        pop     dword [E_PACKET+4]
        pop     dword [E_PACKET]
        cmp     al, 6
        je      .again
        stc
        ret

; cd_simple: sends a packet of zeros but for AL, the command, and AH, its byte 4. CF set on failure. Clobbers EAX, BX,
; CX, DX.
cd_simple:
        push    es
        push    di
        call    cd_clear
        mov     [E_PACKET], al
        mov     [E_PACKET+4], ah
        mov     word [E_CDSKIP], 0
        mov     dword [E_CDTAKE], 0
        call    cd_packet
        pop     di
        pop     es
        ret

cd_clear:
        mov     dword [E_PACKET], 0
        mov     dword [E_PACKET+4], 0
        mov     dword [E_PACKET+8], 0
        ret

; cd_data: the same with up to 18 bytes of data, which go to E_CDDATA.
cd_data:
        push    es
        push    di
        call    cd_clear
        mov     [E_PACKET], al
        mov     [E_PACKET+4], ah
        push    ds
        pop     es
        mov     di, E_CDDATA
        mov     dword [es:di], 0
        mov     dword [es:di+4], 0
        mov     word [E_CDSKIP], 0
        mov     dword [E_CDTAKE], 18
        call    cd_packet
        pop     di
        pop     es
        ret

; cd_sense: why the last packet failed: AL = sense key; 0Fh if the drive does not tell. Clobbers EAX, BX, CX, DX.
cd_sense:
        mov     ax, 1203h               ; REQUEST SENSE
        call    cd_data
        mov     al, 0Fh
        jc      .end
        mov     al, [E_CDDATA+2]
        and     al, 0Fh
.end:   ret

; cd_status: why the last packet failed, as a status of INT 13h: AH. Clobbers EAX, BX, CX, DX.
cd_status:
        call    cd_sense
.map:   mov     ah, 31h                 ; no medium
        cmp     al, 2
        je      .end
        mov     ah, 6                   ; another one
        cmp     al, 6
        je      .end
        mov     ah, 10h                 ; unreadable
        cmp     al, 3
        je      .end
        mov     ah, 4                   ; no such sector
        cmp     al, 5
        je      .end
        mov     ah, 20h
.end:   ret

; cd_packet: sends E_PACKET and takes what the device gives to ES:DI, as E_CDSKIP and E_CDTAKE say.
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
        inc     bx                      ; an odd last byte comes with another one
        and     bl, 0FEh
        mov     ax, di                  ; keep the buffer from wrapping
        shr     ax, 4
        mov     cx, es
        add     ax, cx
        jc      .fits
        mov     es, ax
        and     di, 0Fh
.fits:  mov     dx, [E_CD]
        mov     cx, [E_CDSKIP]
        call    .clip
        sub     [E_CDSKIP], cx
        call    .drop
        movzx   eax, bx
        cmp     eax, [E_CDTAKE]
        jbe     .take
        mov     ax, [E_CDTAKE]
.take:  mov     cx, ax
        sub     bx, cx
        sub     [E_CDTAKE], eax
        shr     cx, 2
        rep     insd                    ; the port takes 32 bits, in half the time
        test    al, 2
        jz      .taken
        insw
.taken: mov     cx, bx
        call    .drop
        jmp     .data
.done:  pop     si
        clc
.ret:   ret
.fail:  pop     si
        stc
        ret
; CX = at most BX, which is the rest of the piece without it then.
.clip:  cmp     cx, bx
        jbe     .clipped
        mov     cx, bx
.clipped:
        sub     bx, cx
        ret
; Reads CX bytes to nowhere.
.drop:  shr     cx, 1
        jz      .dropped
.next:  in      ax, dx
        loop    .next
.dropped:
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
        xor     ax, ax
        call    cd_simple
        pop     cx
        jnc     .end
        loop    .try
        stc
.end:   ret

; cd_int13: INT 13h for the CD-ROM drive AL. DS = EBDA, BP = frame.
cd_int13:
        cmp     al, [E_NCDS]
        jae     .bad
        call    cd_select
        movzx   bx, al
        imul    bx, bx, CD_SIZE
        add     bx, E_CDS
        movzx   si, byte [bp+F_AH]
        mov     ax, si
        cmp     al, 4Bh
        je      et_int13_4b
        cmp     al, 4Dh
        je      et_int13_4d
        cmp     al, 15h
        je      .type
        cmp     al, 16h
        je      .change
        cmp     al, 0Dh
        je      .ok
        cmp     al, 11h
        jbe     .low
        sub     si, 41h
        cmp     si, 8
        ja      .bad
        add     si, si
        jmp     [cs:.table+si]
.table  dw      .check, .read, .protected, .verify, .lock, .eject, .seek, .size, .change
.low:   cmp     al, 0
        je      .ok
        cmp     al, 1
        je      .status
        cmp     al, 3
        je      .protected
        cmp     al, 9
        je      .ok
        cmp     al, 10h
        je      .ready
        cmp     al, 11h
        je      .ok
.bad:   mov     ah, 1
        jmp     disk_end
.protected:
        mov     ah, 3
        jmp     disk_end
.seek:
.ok:    mov     ah, 0
        jmp     disk_end
.status:set_ds  BDA
        mov     ah, [B_HDSTATUS]
        mov     [bp+F_AL], ah
        jmp     disk_end
.type:  mov     byte [bp+F_AH], 2       ; a removable disk with change line
        CLR_CF
        leave_service
.ready: xor     ax, ax
        call    cd_simple
        jnc     .ok
        mov     ah, 0AAh
        jmp     disk_end
.change:xor     ax, ax
        call    cd_simple
        jnc     .ok
.why:   call    cd_status
        jmp     disk_end
.check: cmp     word [bp+F_BX], 55AAh
        jne     .bad
        mov     word [bp+F_BX], 0AA55h
        mov     word [bp+F_CX], 7       ; disk access, locking and ejecting, EDD
        mov     byte [bp+F_AH], 30h
        CLR_CF
        leave_service
.verify:call    cd_ready
        jnc     .ok
        jmp     .why
; AL = 0 locks, 1 unlocks, 2 asks; AL = whether it is locked then.
.lock:  mov     al, [bp+F_AL]
        cmp     al, 2
        je      .locked
        ja      .bad
        xor     al, 1
        mov     [bx+5], al
        push    bx
        mov     ah, al
        mov     al, 1Eh                 ; PREVENT ALLOW MEDIUM REMOVAL
        call    cd_simple
        pop     bx
        jc      .why
.locked:mov     al, [bx+5]
        mov     [bp+F_AL], al
        jmp     .ok
.eject: mov     ah, 0B1h                ; locked
        cmp     byte [bx+5], 0
        jne     disk_end
        mov     ax, 021Bh               ; START STOP UNIT: eject
        call    cd_simple
        jnc     .ok
        jmp     .why
.read:  mov     es, [bp+F_DS]
        mov     si, [bp+F_SI]
        cmp     byte [es:si], 10h
        jb      .bad
        mov     cx, [es:si+2]
        test    cx, cx
        jz      .ok
        cmp     dword [es:si+12], 0
        jne     .bad
        cmp     dword [es:si+4], -1
        jne     .direct
        cmp     byte [es:si], 18h       ; the buffer is the 64-bit address at +10h
        jb      .bad
        cmp     dword [es:si+14h], 0
        jne     .bad
        mov     eax, [es:si+10h]
        cmp     eax, 0F0000h
        ja      .bad                    ; real mode does not get there
        mov     di, ax
        and     di, 0Fh
        shr     eax, 4
        push    ax
        mov     eax, [es:si+8]
        pop     es
        jmp     .go
.direct:mov     eax, [es:si+8]
        les     di, [es:si+4]
.go:    call    cd_read
        jnc     .ok
        mov     es, [bp+F_DS]
        mov     si, [bp+F_SI]
        mov     word [es:si+2], 0
        mov     al, [E_CDDATA+2]        ; the sense was asked for already
        and     al, 0Fh
        call    cd_status.map
        jmp     disk_end
.size:  mov     es, [bp+F_DS]
        mov     di, [bp+F_SI]
        cmp     word [es:di], 1Ah
        jb      .bad
        push    es
        call    cd_ready
        jc      .unknown
        mov     ax, 25h                 ; READ CAPACITY
        call    cd_data
        jc      .unknown
        pop     es
        mov     ax, 34h                 ; removable, change line, lockable
        mov     edx, [E_CDDATA]
        xchg    dl, dh
        rol     edx, 16
        xchg    dl, dh
        inc     edx
        xor     ecx, ecx
        jmp     .sized
.unknown:
        pop     es
        mov     ax, 74h                 ; and the numbers are those of no disc
        or      edx, -1
        mov     ecx, edx
.sized: mov     word [es:di], 1Ah
        mov     [es:di+2], ax
        or      eax, -1
        mov     [es:di+4], eax          ; no geometry
        mov     [es:di+8], eax
        mov     [es:di+12], eax
        mov     [es:di+16], edx
        mov     [es:di+20], ecx
        mov     word [es:di+24], 2048
        jmp     .ok
