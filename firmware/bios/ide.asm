; Glassbox BIOS: IDE: finding drives, and moving sectors by PIO.
; Sources: ATA/ATAPI-6 (IDENTIFY DEVICE, READ/WRITE SECTORS (EXT), READ VERIFY SECTORS, device signature); the usual
; LBA-assisted geometry (Phoenix, "Enhanced Disk Drive Specification").
;
; A drive is a record of D_SIZE bytes in the EBDA; DS = EBDA and BX = record here unless a routine says otherwise.

; ide_wait: DX = base port; waits for BSY to clear, 10 s at most. out: AL = status; CF set on time-out. DX kept.
ide_wait:
        push    cx
        push    dx
        add     dx, 7
        mov     cx, 1000
.quick: in      al, dx
        test    al, 80h
        jz      .end
        loop    .quick
        mov     ah, 10
.slow:  mov     cx, 0FFFFh
.poll:  in      al, dx
        test    al, 80h
        jz      .end
        push    cx
        mov     cx, 1
        call    delay
        pop     cx
        loop    .poll
        dec     ah
        jnz     .slow
        stc
.end:   pop     dx
        pop     cx
        ret

; ide_pause: 400 ns: four reads of the alternate status of the drive at BX. Clobbers AL.
ide_pause:
        push    dx
        mov     dx, [bx+D_CTRL]
        in      al, dx
        in      al, dx
        in      al, dx
        in      al, dx
        pop     dx
        ret

; ide_transfer: moves E_RQCNT sectors from E_RQLBA between the drive at BX and ES:DI, as E_RQOP says.
; out: AH = INT 13h status (0 = good), E_RQDONE = sectors moved. Clobbers EAX, CX, DX, SI, DI, ES.
ide_transfer:
        test    byte [bx+D_FLAGS], VIRTIO_FLAG
        jnz     virtio_transfer
        mov     word [E_RQDONE], 0
        push    ds
        set_ds  BDA
        mov     byte [B_HDFLAG], 0
        pop     ds
        mov     dx, [bx+D_BASE]
        call    ide_wait
        jc      .timeout
        mov     dx, [bx+D_CTRL]
        mov     al, 8                   ; interrupts on
        out     dx, al
        mov     dx, [bx+D_BASE]
        add     dx, 6
        mov     al, [bx+D_SELECT]
        or      al, 40h
        out     dx, al
        call    ide_pause
        sub     dx, 6
        call    ide_wait
        jc      .timeout
        ; LBA28 while the request ends below 2^28 and holds at most 256 sectors.
        mov     ah, 0
        cmp     dword [E_RQLBA+4], 0
        jne     .ext
        movzx   ecx, word [E_RQCNT]
        cmp     cx, 256
        ja      .ext
        add     ecx, [E_RQLBA]
        jc      .ext
        cmp     ecx, 10000000h
        jbe     .low
.ext:   mov     ah, 4                   ; the EXT commands
        test    byte [bx+D_FLAGS], 2
        jz      .bad
        add     dx, 2
        mov     al, [E_RQCNT+1]
        out     dx, al
        inc     dx
        mov     al, [E_RQLBA+3]
        out     dx, al
        inc     dx
        mov     al, [E_RQLBA+4]
        out     dx, al
        inc     dx
        mov     al, [E_RQLBA+5]
        out     dx, al
        sub     dx, 5
.low:   add     dx, 2
        mov     al, [E_RQCNT]
        out     dx, al
        inc     dx
        mov     al, [E_RQLBA]
        out     dx, al
        inc     dx
        mov     al, [E_RQLBA+1]
        out     dx, al
        inc     dx
        mov     al, [E_RQLBA+2]
        out     dx, al
        inc     dx
        mov     al, [bx+D_SELECT]
        or      al, 40h
        test    ah, ah
        jnz     .select
        mov     cl, [E_RQLBA+3]
        and     cl, 0Fh
        or      al, cl
.select:out     dx, al
        inc     dx
        movzx   si, byte [E_RQOP]
        shl     si, 1
        test    ah, ah
        jz      .issue
        inc     si
.issue: mov     al, [cs:.commands+si]
        out     dx, al
        call    ide_pause
        cmp     byte [E_RQOP], 1
        je      .write
        ja      .verify

.read:  call    .drq
        jnz     .ret
        call    .room
        mov     dx, [bx+D_BASE]
        mov     cx, 128
        rep     insd                    ; the port takes 32 bits, in half the time
        call    .count
        jb      .read
        jmp     .done

.write: call    .drq
        jnz     .ret
        call    .room
        mov     dx, [bx+D_BASE]
        mov     cx, 128
        mov     si, di
        es rep  outsd
        mov     di, si
        call    .count
        jb      .write
.verify:mov     dx, [bx+D_BASE]
        call    ide_wait
        jc      .timeout
        test    al, 21h
        jnz     .error
        mov     ax, [E_RQCNT]
        mov     [E_RQDONE], ax
.done:  mov     dx, [bx+D_BASE]         ; takes the last interrupt back
        call    ide_wait
        mov     ah, 0
.ret:   ret

; Counts a sector; CF set while some are left.
.count: inc     word [E_RQDONE]
        mov     ax, [E_RQDONE]
        cmp     ax, [E_RQCNT]
        ret

; Waits for DRQ. ZF set if it came; else AH = status.
.drq:   mov     dx, [bx+D_BASE]
        call    ide_wait
        jc      .timeout
        test    al, 21h
        jnz     .error
        test    al, 8
        jz      .nodata
        xor     ah, ah
        ret
.nodata:call    ide_pause               ; DRQ may come a moment after BSY goes
        call    ide_wait
        jc      .timeout
        test    al, 8
        jz      .timeout
        xor     ah, ah
        ret

; Makes room for a sector at ES:DI without wrapping at 64 KiB. A buffer in the HMA (FFFF:xxxx) is left as it is.
.room:  cmp     di, 0FE00h
        jbe     .fits
        mov     ax, di
        shr     ax, 4
        mov     cx, es
        add     ax, cx
        jc      .fits
        mov     es, ax
        and     di, 0Fh
.fits:  ret

.bad:   mov     ah, 1
        or      ah, ah
        ret
.timeout:
        mov     ah, 80h
        or      ah, ah
        ret
.error: mov     dx, [bx+D_BASE]
        inc     dx
        in      al, dx                  ; error register
        mov     ah, 0Ah                 ; bad sector
        test    al, 80h
        jnz     .mapped
        mov     ah, 10h                 ; uncorrectable
        test    al, 40h
        jnz     .mapped
        mov     ah, 4                   ; sector not found
        test    al, 10h
        jnz     .mapped
        mov     ah, 1                   ; aborted
        test    al, 4
        jnz     .mapped
        mov     ah, 20h
.mapped:or      ah, ah
        ret
.commands:
        db      20h, 24h, 30h, 34h, 40h, 42h

; --- Detection ----------------------------------------------------------------------------------------------------
; init_ide: looks for masters and slaves on both channels; makes the records, INT 41h/46h tables and EDD tables.
init_ide:
        push    ds
        push    es
        set_ds  EBDA
        xor     ax, ax
        mov     es, ax
        mov     bx, E_DRIVES
        mov     si, .channels
.channel:
        mov     dx, [cs:si+2]
        mov     al, 0Ch                 ; software reset of both devices, no interrupts
        out     dx, al
        mov     cx, 2
        call    delay
        mov     al, 8
        out     dx, al
        mov     cx, 140                 ; 2 ms
        call    delay
        mov     ah, 0A0h
        call    ide_probe
        mov     ah, 0B0h
        call    ide_probe
        add     si, 8
        cmp     si, .channels_end
        jb      .channel
        mov     al, [E_NDISKS]
        mov     [es:400h+B_HDCOUNT], al
        pop     es
        pop     ds
        ret
.channels:
        dw      1F0h, 3F6h, 14, name_primary
        dw      170h, 376h, 15, name_secondary
.channels_end:
name_primary    db      "primary ", 0
name_secondary  db      "secondary ", 0
name_master     db      "master)", 13, 10, 0
name_slave      db      "slave)", 13, 10, 0

; ide_probe: AH = A0h or B0h, CS:SI = channel, BX = free record, ES = 0. A disk takes the record, and BX moves on.
ide_probe:
        push    si
        mov     [bx+D_SELECT], ah
        mov     dx, [cs:si+2]
        mov     [bx+D_CTRL], dx
        mov     dx, [cs:si+4]
        mov     [bx+D_IRQ], dx
        mov     dx, [cs:si]
        mov     [bx+D_BASE], dx
        add     dx, 6
        mov     al, ah
        out     dx, al
        call    ide_pause
        inc     dx
        in      al, dx
        cmp     al, 0FFh                ; floating bus
        je      .none
        sub     dx, 7
        call    .wait_short             ; a device that resets ignores its registers
        jc      .none
        add     dx, 2                   ; do the registers hold what is written?
        mov     al, 55h
        out     dx, al
        inc     dx
        mov     al, 0AAh
        out     dx, al
        in      al, dx
        cmp     al, 0AAh
        jne     .none
        dec     dx
        in      al, dx
        cmp     al, 55h
        jne     .none
        mov     ah, 0ECh                ; IDENTIFY DEVICE
        call    .identify
        jnc     .disk
        mov     dx, [bx+D_BASE]         ; aborted: an ATAPI device shows its signature
        add     dx, 4
        in      al, dx
        cmp     al, 14h
        jne     .none
        inc     dx
        in      al, dx
        cmp     al, 0EBh
        jne     .none
        mov     ah, 0A1h                ; IDENTIFY PACKET DEVICE
        call    .identify
        jc      .none
        call    ide_found_cdrom
        jmp     .none
.disk:  call    ide_found_disk
.none:  pop     si
        ret

; AH = command; out: 256 words at 0:SCRATCH, CF set if the device refuses.
.identify:
        mov     dx, [bx+D_BASE]
        add     dx, 7
        mov     al, ah
        out     dx, al
        call    ide_pause
        in      al, dx
        test    al, al
        jz      .refused
        mov     dx, [bx+D_BASE]
        call    ide_wait
        jc      .refused
        test    al, 1
        jnz     .refused
        test    al, 8
        jz      .refused
        mov     cx, 256
        mov     di, SCRATCH
        rep     insw
        add     dx, 7
        in      al, dx
        clc
        ret
.refused:
        stc
        ret
; BSY must clear within a second or so after the reset; CF if not.
.wait_short:
        push    dx
        add     dx, 7
        mov     cx, 0FFFFh
.ws:    in      al, dx
        test    al, 80h
        jz      .wsend
        push    cx
        mov     cx, 1
        call    delay
        pop     cx
        loop    .ws
        stc
.wsend: pop     dx
        ret

; print_model: the 40 characters of words 27-46 in SCRATCH (ES = 0), without the padding.
print_model:
        pusha
        mov     si, SCRATCH+54
        mov     cx, 20
.swap:  rol     word [es:si], 8
        add     si, 2
        loop    .swap
        mov     cx, 40
.trim:  dec     si
        cmp     byte [es:si], ' '
        ja      .out
        loop    .trim
        jmp     .end
.out:   mov     si, SCRATCH+54
.char:  mov     al, [es:si]
        inc     si
        call    print_char
        loop    .char
.end:   popa
        ret

; print_place: " (primary master)" and a new line, for the record at BX; CS:SI = channel.
print_place:
        push    si
        push    ax
        mov     al, ' '
        call    print_char
        mov     al, '('
        call    print_char
        mov     si, [cs:si+6]
        call    print
        mov     si, name_master
        cmp     byte [bx+D_SELECT], 0A0h
        je      .put
        mov     si, name_slave
.put:   call    print
        pop     ax
        pop     si
        ret

; ide_found_disk: completes the record at BX from SCRATCH, prints a line, and moves BX to the next record.
ide_found_disk:
        mov     byte [bx+D_FLAGS], 1
        mov     ax, [es:SCRATCH+2]
        mov     [bx+D_PCYL], ax
        mov     ax, [es:SCRATCH+6]
        mov     [bx+D_PHEADS], ax
        mov     ax, [es:SCRATCH+12]
        mov     [bx+D_PSPT], ax
        xor     edx, edx
        movzx   eax, word [bx+D_PCYL]
        movzx   ecx, word [bx+D_PHEADS]
        mul     ecx
        movzx   ecx, word [bx+D_PSPT]
        mul     ecx
        mov     ebp, eax                ; sectors that the physical geometry reaches
        xor     edx, edx
        test    byte [es:SCRATCH+99], 2 ; LBA
        jz      .total
        or      byte [bx+D_FLAGS], 4
        mov     eax, [es:SCRATCH+120]
        test    byte [es:SCRATCH+167], 4        ; LBA48
        jz      .total
        mov     ecx, [es:SCRATCH+200]
        or      ecx, [es:SCRATCH+204]
        jz      .total
        or      byte [bx+D_FLAGS], 2
        mov     eax, [es:SCRATCH+200]
        mov     edx, [es:SCRATCH+204]
.total: mov     [bx+D_TOTAL], eax
        mov     [bx+D_TOTAL+4], edx
        call    set_geometry
        call    fill_fdpt
        call    fill_dpte
        inc     byte [E_NDISKS]
        pushad
        push    si
        mov     si, .label
        call    print_label
        pop     si
        call    print_model
        call    print_size
        call    print_place
        popad
        add     bx, D_SIZE
        ret
.label  db      "Disk", 0

; print_size: ", " and the size of the disk at BX. Clobbers EAX, EDX.
print_size:
        mov     al, ','
        call    print_char
        mov     al, ' '
        call    print_char
        mov     eax, [bx+D_TOTAL]
        mov     edx, [bx+D_TOTAL+4]
        cmp     edx, 7FFh
        ja      .huge
        shrd    eax, edx, 11
        cmp     eax, 16*1024
        jae     .gib
        push    si
        test    eax, eax
        jz      .kib
        call    print_dec
        mov     si, .mib
        call    print
        jmp     .shown
.kib:   mov     eax, [bx+D_TOTAL]
        shr     eax, 1
        call    print_dec
        mov     si, .kibs
        call    print
        jmp     .shown
.gib:   shr     eax, 10
        push    si
        call    print_dec
        mov     si, .gibs
        call    print
.shown: pop     si
.huge:  ret
.kibs   db      " KiB", 0
.mib    db      " MiB", 0
.gibs   db      " GiB", 0

; set_geometry: the geometry INT 13h shows: the drive's own if it fits 1024 cylinders and reaches every sector, else
; LBA-assisted (63 sectors, 16 to 255 heads). in: BX, EBP = sectors of the physical geometry.
set_geometry:
        mov     eax, [bx+D_TOTAL]
        cmp     dword [bx+D_TOTAL+4], 0
        je      .have
        mov     eax, 0FFFFFFFFh
.have:  cmp     word [bx+D_PCYL], 1024
        ja      .assist
        cmp     word [bx+D_PHEADS], 16
        ja      .assist
        cmp     word [bx+D_PSPT], 63
        ja      .assist
        test    ebp, ebp
        jz      .assist
        mov     ecx, eax                ; a last partial cylinder does not matter
        sub     ecx, ebp
        jb      .own
        cmp     ecx, 16*63
        ja      .assist
.own:   mov     ax, [bx+D_PCYL]
        mov     [bx+D_CYL], ax
        mov     ax, [bx+D_PHEADS]
        mov     [bx+D_HEADS], ax
        mov     ax, [bx+D_PSPT]
        mov     [bx+D_SPT], ax
        ret
.assist:mov     cx, 16
.heads: movzx   edx, cx
        imul    edx, edx, 1024*63
        cmp     eax, edx
        jbe     .set
        shl     cx, 1
        cmp     cx, 256
        jb      .heads
        mov     cx, 255
.set:   mov     [bx+D_HEADS], cx
        mov     word [bx+D_SPT], 63
        movzx   ecx, cx
        imul    ecx, ecx, 63
        xor     edx, edx
        div     ecx
        cmp     eax, 1024
        jbe     .cyl
        mov     eax, 1024
.cyl:   test    eax, eax
        jnz     .some
        inc     eax
.some:  mov     [bx+D_CYL], ax
        ret

; fill_fdpt: the table that INT 41h or 46h points to, for the first two disks.
fill_fdpt:
        movzx   di, byte [E_NDISKS]
        cmp     di, 2
        jae     .end
        shl     di, 4
        add     di, E_HDPT
        mov     ax, [bx+D_CYL]
        mov     [di], ax
        mov     al, [bx+D_HEADS]
        mov     [di+2], al
        mov     word [di+5], 0FFFFh     ; no write precompensation
        mov     byte [di+8], 0C0h
        cmp     al, 8
        jbe     .small
        or      byte [di+8], 8
.small: mov     cl, [bx+D_SPT]
        mov     [di+14], cl
        mov     dx, [bx+D_PCYL]
        mov     [di+12], dx             ; landing zone
        cmp     dx, [bx+D_CYL]
        jne     .translated
        cmp     al, [bx+D_PHEADS]
        je      .end
.translated:                            ; signature A0h: the physical geometry is here too
        mov     byte [di+3], 0A0h
        mov     cl, [bx+D_PSPT]
        mov     [di+4], cl
        mov     [di+9], dx
        mov     cl, [bx+D_PHEADS]
        mov     [di+11], cl
        push    si
        mov     si, di
        mov     cx, 15
        mov     ah, 0
.sum:   lodsb
        add     ah, al
        loop    .sum
        neg     ah
        mov     [si], ah
        pop     si
.end:   ret

; fill_dpte: the EDD device parameter table extension of this disk.
fill_dpte:
        movzx   di, byte [E_NDISKS]
        shl     di, 4
        add     di, E_DPTE
        mov     ax, [bx+D_BASE]
        mov     [di], ax
        mov     ax, [bx+D_CTRL]
        mov     [di+2], ax
        mov     al, [bx+D_SELECT]
        or      al, 40h                 ; LBA
        mov     [di+4], al
        mov     byte [di+5], 0CBh
        mov     al, [bx+D_IRQ]
        mov     [di+6], al
        mov     byte [di+7], 1          ; sector count for block transfers
        mov     byte [di+8], 0          ; no DMA
        mov     byte [di+9], 0          ; PIO type
        mov     word [di+10], 10h       ; LBA translation
        mov     ax, [bx+D_HEADS]
        cmp     ax, [bx+D_PHEADS]
        je      .same
        or      word [di+10], 208h      ; CHS translation, LBA-assisted
.same:  mov     byte [di+14], 11h       ; revision
        push    si
        mov     si, di
        mov     cx, 15
        mov     ah, 0
.sum:   lodsb
        add     ah, al
        loop    .sum
        neg     ah
        mov     [si], ah
        pop     si
        ret
