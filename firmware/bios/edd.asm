; Glassbox BIOS: INT 13h extensions (AH=41h-49h).
; Source: Phoenix, "BIOS Enhanced Disk Drive Specification" 3.0; T13 EDD-3 (64-bit flat addresses).
; Reached from INT 13h's table with DS = EBDA, BX = drive record.

edd_check:
        cmp     word [bp+F_BX], 55AAh
        jne     edd_bad
        mov     word [bp+F_BX], 0AA55h
        mov     word [bp+F_CX], 5       ; fixed disk access, EDD
        mov     byte [bp+F_AH], 30h
        CLR_CF
        leave_service
edd_bad:
        mov     ah, 1
        jmp     disk_end

edd_lock:                               ; a fixed disk can be neither locked nor ejected
        mov     byte [bp+F_AL], 0
edd_change:
        mov     ah, 0
        jmp     disk_end
edd_eject:
        mov     ah, 0B2h                ; not removable
        jmp     disk_end

; 42 read, 43 write, 44 verify, 47 seek. DS:SI = packet: size, 0, count, buffer, LBA, 64-bit flat buffer.
edd_rw: mov     es, [bp+F_DS]
        mov     si, [bp+F_SI]
        cmp     byte [es:si], 10h
        jb      edd_bad
        mov     eax, [es:si+8]
        mov     [E_RQLBA], eax
        mov     eax, [es:si+12]
        mov     [E_RQLBA+4], eax
        mov     ax, [es:si+2]
        cmp     byte [bp+F_AH], 47h
        jne     .counted
        mov     ax, 1
.counted:
        mov     [E_RQCNT], ax
        test    ax, ax
        jz      edd_change              ; nothing to do is well done
        call    check_range
        jc      edd_bad
        mov     al, [bp+F_AH]
        sub     al, 42h
        cmp     al, 5
        je      edd_change              ; seek
        mov     [E_RQOP], al
        les     di, [es:si+4]
        cmp     di, 0FFFFh
        jne     .direct
        mov     ax, es
        inc     ax
        jz      .flat
.direct:call    ide_transfer
.done:  push    ax
        mov     ax, [E_RQDONE]
        mov     es, [bp+F_DS]
        mov     si, [bp+F_SI]
        mov     [es:si+2], ax
        pop     ax
        jmp     disk_end
; FFFF:FFFF: the buffer is the 64-bit address at +10h.
.flat:  mov     es, [bp+F_DS]
        cmp     byte [es:si], 18h
        jb      edd_bad
        cmp     dword [es:si+14h], 0
        jne     edd_bad
        mov     eax, [es:si+10h]
        cmp     eax, 0F0000h
        ja      edd_bad                 ; real mode cannot reach it: the caller must use a buffer below
        mov     di, ax
        and     di, 0Fh
        shr     eax, 4
        mov     es, ax
        jmp     .direct

; 48: drive parameters to DS:SI; its first word is the room there.
edd_params:
        mov     es, [bp+F_DS]
        mov     di, [bp+F_SI]
        mov     cx, [es:di]
        cmp     cx, 1Ah
        jb      edd_bad
        mov     dx, 1Ah
        test    byte [bx+D_FLAGS], VIRTIO_FLAG
        jnz     .sized                  ; what follows tells of ATA
        cmp     cx, 1Eh
        jb      .sized
        mov     dx, 1Eh
        cmp     cx, 42h
        jb      .sized
        mov     dx, 42h
.sized: mov     [es:di], dx
        mov     word [es:di+2], 2       ; geometry is valid
        cmp     dword [bx+D_TOTAL+4], 0
        jne     .no_chs
        cmp     dword [bx+D_TOTAL], 15482880    ; above 16383*15*63 the geometry says nothing
        jbe     .chs
.no_chs:mov     word [es:di+2], 0
.chs:   movzx   eax, word [bx+D_PCYL]
        mov     [es:di+4], eax
        movzx   eax, word [bx+D_PHEADS]
        mov     [es:di+8], eax
        movzx   eax, word [bx+D_PSPT]
        mov     [es:di+12], eax
        mov     eax, [bx+D_TOTAL]
        mov     [es:di+16], eax
        mov     eax, [bx+D_TOTAL+4]
        mov     [es:di+20], eax
        mov     word [es:di+24], 512
        cmp     dx, 1Eh
        jb      .end
        movzx   ax, byte [bp+F_DL]
        sub     al, 80h
        shl     ax, 4
        add     ax, E_DPTE
        mov     [es:di+26], ax
        mov     word [es:di+28], EBDA
        cmp     dx, 42h
        jb      .end
        push    di
        add     di, 30                  ; device path: BEDDh, 36 bytes, "ISA ", "ATA     ", base port, slave
        push    ds
        push    cs
        pop     ds
        mov     si, .path
        mov     cx, .path_end-.path
        rep     movsb
        pop     ds
        mov     ax, [bx+D_BASE]
        stosw
        xor     ax, ax
        stosw
        stosw
        stosw
        mov     al, [bx+D_SELECT]
        shr     al, 4
        and     ax, 1
        stosw
        mov     cx, 3
        xor     ax, ax
        rep     stosw
        xor     ax, ax
        stosb                           ; reserved
        pop     di
        push    di
        add     di, 30
        mov     cx, 35
        mov     ah, 0
.sum:   add     ah, [es:di]
        inc     di
        loop    .sum
        neg     ah
        mov     [es:di], ah
        pop     di
.end:   mov     ah, 0
        jmp     disk_end
.path   dw      0BEDDh
        db      36, 0, 0, 0
        db      "ISA ", "ATA     "
.path_end:
