; Glassbox BIOS: disks on virtio: finding them, and moving sectors.
; Source: OASIS virtio 1.2 (split virtqueue §2.7, PCI transport §4.1, block device §5.2).
;
; A request brings the device up, hands it one chain of three buffers, and leaves it reset, so that nothing of it stays
; where a system may want it, and none minds what a system did to the device meanwhile. The structures of version 1 are
; reached by the capability for configuration cycles (§4.1.4.9), so that real mode reaches them wherever they lie.
; A drive record has the function in D_BASE and the register of that capability in D_CTRL.

VIRTIO_BLOCK    equ 10011AF4h           ; device and vendor
VIRTIO_BAR      equ 4                   ; where the board's devices have their structures, at these offsets
VIRTIO_STATUS   equ 14h
VIRTIO_OWN      equ 2000h
VIRTIO_NOTIFY   equ 3000h
VIRTIO_FLAG     equ 8                   ; in D_FLAGS

EBDA_PHYS       equ EBDA*16

; virtio_point: points the capability of register CH of function BX to CL bytes at AX. Clobbers EAX, CL, DX.
virtio_point:
        push    ax
        push    cx
        mov     cl, ch
        add     cl, 4
        mov     eax, VIRTIO_BAR
        call    pci_write
        pop     ax
        push    ax
        movzx   eax, al
        mov     cl, ch
        add     cl, 12
        call    pci_write
        pop     cx
        pop     ax
        movzx   eax, ax
        mov     cl, ch
        add     cl, 8
        call    pci_write
        add     cl, 8                   ; the data
        ret

; virtio_reset: the device of function BX forgets everything. CH = register of the capability. Clobbers EAX, CL, DX.
virtio_reset:
        mov     cl, 1
        mov     ax, VIRTIO_STATUS
        call    virtio_point
        xor     eax, eax
        jmp     pci_write

; virtio_transfer: as ide_transfer.
virtio_transfer:
        mov     word [E_RQDONE], 0
        cmp     byte [E_RQOP], 2
        je      .moved                  ; to verify: the range was looked at
        movzx   eax, byte [E_RQOP]
        mov     [E_VHEAD], eax
        mov     dword [E_VHEAD+4], 0
        mov     eax, [E_RQLBA]
        mov     [E_VHEAD+8], eax
        mov     eax, [E_RQLBA+4]
        mov     [E_VHEAD+12], eax
        mov     byte [E_VSTATUS], 0FFh
        ; The header, the sectors, the status.
        movzx   eax, di
        mov     cx, es
        movzx   ecx, cx
        shl     ecx, 4
        add     ecx, eax
        push    ds
        pop     es
        mov     di, E_VRING
        mov     eax, EBDA_PHYS+E_VHEAD
        call    .address
        mov     eax, 16
        stosd
        mov     eax, 00010001h          ; there is a next one: 1
        stosd
        mov     eax, ecx
        call    .address
        movzx   eax, word [E_RQCNT]
        shl     eax, 9
        stosd
        mov     eax, 00020001h
        cmp     byte [E_RQOP], 0
        jne     .out
        or      al, 2                   ; for the device to write
.out:   stosd
        mov     eax, EBDA_PHYS+E_VSTATUS
        call    .address
        mov     eax, 1
        stosd
        inc     ax
        stosd
        mov     di, E_VAVAIL
        mov     eax, 00010001h          ; no interrupt; one chain
        stosd
        xor     eax, eax                ; which begins with descriptor 0
        stosw
        mov     di, E_VUSED
        stosd
        push    bx
        mov     ch, [bx+D_CTRL]
        mov     bx, [bx+D_BASE]
        mov     cl, 4                   ; it masters the bus
        call    pci_read_byte
        or      al, 7
        call    pci_write_byte
        mov     si, .steps
.step:  mov     cl, [cs:si]
        mov     ax, [cs:si+1]
        call    virtio_point
        mov     eax, [cs:si+3]
        call    pci_write
        add     si, 7
        cmp     si, .steps_end
        jb      .step
        mov     si, cx                  ; waits for the chain, 10 s at most
        mov     cx, 0FFFFh
.quick: cmp     word [E_VUSED+2], 0
        jne     .end
        loop    .quick
        mov     ah, 10
.slow:  mov     cx, 0FFFFh
.poll:  cmp     word [E_VUSED+2], 0
        jne     .end
        push    cx
        mov     cx, 1
        call    delay
        pop     cx
        loop    .poll
        dec     ah
        jnz     .slow
.end:   mov     cx, si
        call    virtio_reset
        pop     bx
        mov     ah, 80h
        cmp     word [E_VUSED+2], 0
        je      .ret
        cmp     byte [E_VSTATUS], 0
        jne     .failed
.moved: mov     ax, [E_RQCNT]
        mov     [E_RQDONE], ax
        mov     ah, 0
.ret:   ret
.failed:
        mov     ah, 20h
        cmp     byte [E_RQOP], 0
        je      .ret
        push    bx                      ; a write: the feature RO says why
        push    cx
        mov     ch, [bx+D_CTRL]
        mov     bx, [bx+D_BASE]
        mov     cl, 4
        xor     ax, ax
        call    virtio_point
        xor     eax, eax
        call    pci_write
        mov     cl, 4
        mov     ax, 4
        call    virtio_point
        call    pci_read
        pop     cx
        pop     bx
        test    al, 20h
        mov     ah, 20h
        jz      .ret
        mov     ah, 03h                 ; write-protected
        ret

.address:                               ; ES:DI = EAX, as 64 bits
        stosd
        xor     eax, eax
        stosd
        ret

; Bytes, offset, value.
%macro virtio_step 3
        db      %1
        dw      %2
        dd      %3
%endmacro
.steps: virtio_step 1, VIRTIO_STATUS, 0
        virtio_step 1, VIRTIO_STATUS, 1
        virtio_step 1, VIRTIO_STATUS, 3
        virtio_step 4, 08h, 1           ; of all features, VERSION_1
        virtio_step 4, 0Ch, 1
        virtio_step 1, VIRTIO_STATUS, 0Bh
        virtio_step 2, 18h, 4           ; queue 0, of four descriptors
        virtio_step 4, 20h, EBDA_PHYS+E_VRING
        virtio_step 4, 28h, EBDA_PHYS+E_VAVAIL
        virtio_step 4, 30h, EBDA_PHYS+E_VUSED
        virtio_step 2, 1Ch, 1
        virtio_step 1, VIRTIO_STATUS, 0Fh
        virtio_step 2, VIRTIO_NOTIFY, 0
.steps_end:

; init_virtio: a record for each disk, behind those on IDE, while there is room.
init_virtio:
        push    ds
        push    es
        set_ds  EBDA
        cmp     byte [E_PCI], 0
        je      .none
        xor     ax, ax
        mov     es, ax
        mov     si, virtio_found
        call    pci_each
        mov     al, [E_NDISKS]
        mov     [es:400h+B_HDCOUNT], al
.none:  pop     es
        pop     ds
        ret

; One function of the bus. ES = 0.
virtio_found:
        cmp     byte [E_NDISKS], 4
        jae     .ret
        mov     cl, 0
        call    pci_read
        cmp     eax, VIRTIO_BLOCK
        jne     .ret
        mov     cl, 34h                 ; its capabilities, of which there are 48 at most
        call    pci_read_byte
        mov     si, 48
.cap:   mov     ch, al
        mov     cl, al
        test    al, al
        jz      .ret
        call    pci_read
        cmp     al, 9                   ; the vendor's
        jne     .other
        rol     eax, 8
        cmp     al, 5                   ; for configuration cycles
        je      .take
        ror     eax, 8
.other: mov     al, ah
        dec     si
        jnz     .cap
.ret:   ret
.take:  mov     di, bx
        mov     al, [E_NDISKS]
        mov     ah, D_SIZE
        mul     ah
        add     ax, E_DRIVES
        mov     si, ax
        mov     byte [si+D_FLAGS], 1|VIRTIO_FLAG
        mov     [si+D_BASE], bx
        mov     [si+D_CTRL], ch
        mov     cl, 4
        mov     ax, VIRTIO_OWN
        call    virtio_point
        call    pci_read
        mov     [si+D_TOTAL], eax
        mov     cl, 4
        mov     ax, VIRTIO_OWN+4
        call    virtio_point
        call    pci_read
        mov     [si+D_TOTAL+4], eax
        mov     bx, si
        xor     ebp, ebp                ; no geometry of its own
        call    set_geometry
        mov     ax, [bx+D_CYL]
        mov     [bx+D_PCYL], ax
        mov     ax, [bx+D_HEADS]
        mov     [bx+D_PHEADS], ax
        mov     ax, [bx+D_SPT]
        mov     [bx+D_PSPT], ax
        push    di
        call    fill_fdpt
        pop     di
        inc     byte [E_NDISKS]
        pushad
        mov     si, .label
        call    print_label
        mov     si, .model
        call    print
        call    print_size
        mov     si, .place
        call    print
        mov     ax, di
        shr     ax, 3
        call    print_hex8
        mov     si, .end
        call    print
        popad
        mov     bx, di
        ret
.label  db      "Disk", 0
.model  db      "virtio", 0
.place  db      " (virtio 00:", 0
.end    db      ".0)", 13, 10, 0
