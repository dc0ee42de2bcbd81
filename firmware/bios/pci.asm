; Glassbox BIOS: PCI BIOS 2.1 (INT 1Ah, AH=B1h) in real mode, over configuration mechanism 1.
; Source: PCI BIOS Specification 2.1.

; init_pci: E_PCI = 1 if the configuration registers answer and bus 0 has a host bridge.
init_pci:
        push    es
        mov     ax, EBDA
        mov     es, ax
        mov     dx, 0CF8h
        mov     eax, 80000000h
        out     dx, eax
        in      eax, dx
        cmp     eax, 80000000h
        jne     .none
        mov     dx, 0CFCh
        in      ax, dx
        cmp     ax, 0FFFFh
        je      .none
        mov     byte [es:E_PCI], 1
.none:  pop     es
        ret

; Inside: the caller's BH = bus, BL = device and function, DI = register.
pci_bios:
        enter_service
        set_ds  EBDA
        mov     ah, 81h                 ; function not supported
        cmp     byte [E_PCI], 0
        je      .absent
        mov     al, [bp+F_AL]
        cmp     al, 1
        je      .present
        cmp     al, 2
        je      .find_device
        cmp     al, 3
        je      .find_class
        cmp     al, 8
        jb      .end
        cmp     al, 0Dh
        ja      .end
        jmp     .access
.absent:
        SET_CF
        leave_service
.good:  mov     ah, 0
.end:   mov     [bp+F_AH], ah
        CLR_CF
        test    ah, ah
        jz      .ret
        SET_CF
.ret:   leave_service

.present:
        mov     dword [bp+F_DX], 20494350h      ; "PCI "
        mov     word [bp+F_BX], 0210h
        mov     byte [bp+F_AL], 1       ; mechanism 1, no special cycles
        mov     byte [bp+F_CL], 0       ; last bus
        mov     dword [bp+F_DI], 0      ; no protected-mode entry
        jmp     .good

.find_device:
        mov     bx, [bp+F_DX]
        mov     ax, [bp+F_CX]
        shl     eax, 16
        mov     ax, bx
        mov     edi, eax                ; device << 16 | vendor
        cmp     ax, 0FFFFh
        mov     ah, 83h                 ; bad vendor
        je      .end
        mov     esi, 0FFFFFFFFh
        mov     cl, 0
        jmp     .scan
.find_class:
        mov     edi, [bp+F_CX]
        shl     edi, 8
        mov     esi, 0FFFFFF00h
        mov     cl, 8
; Looks on bus 0 for functions whose register CL, masked by ESI, is EDI; the caller's SI counts.
.scan:  mov     dx, [bp+F_SI]
        mov     bx, 0
.next:  push    dx
        call    .address
        mov     dx, 0CFCh
        in      eax, dx
        pop     dx
        and     eax, esi
        cmp     eax, edi
        jne     .step
        test    dx, dx
        jz      .found
        dec     dx
.step:  inc     bl
        jnz     .next
        mov     ah, 86h                 ; not found
        jmp     .end
.found: mov     [bp+F_BX], bx
        jmp     .good
; BX = bus, device, function; CL = register: selects it. Clobbers EAX, DX.
.address:
        movzx   eax, bx
        shl     eax, 8
        mov     al, cl
        and     al, 0FCh
        or      eax, 80000000h
        mov     dx, 0CF8h
        out     dx, eax
        ret

; 08/09/0A read byte, word, dword; 0B/0C/0D write.
.access:
        mov     bx, [bp+F_BX]
        mov     cx, [bp+F_DI]
        mov     ah, 87h                 ; bad register number
        cmp     al, 8
        je      .aligned
        cmp     al, 0Bh
        je      .aligned
        test    cl, 1
        jnz     .end
        cmp     al, 9
        je      .aligned
        cmp     al, 0Ch
        je      .aligned
        test    cl, 2
        jnz     .end
.aligned:
        cmp     cx, 0FFh
        ja      .end
        push    ax
        call    .address
        pop     ax
        mov     dx, cx
        and     dx, 3
        add     dx, 0CFCh
        sub     al, 8
        movzx   si, al
        shl     si, 1
        jmp     [cs:.ops+si]
.ops    dw      .rb, .rw, .rd, .wb, .ww, .wd
.rb:    in      al, dx
        mov     [bp+F_CL], al
        jmp     .good
.rw:    in      ax, dx
        mov     [bp+F_CX], ax
        jmp     .good
.rd:    in      eax, dx
        mov     [bp+F_CX], eax
        jmp     .good
.wb:    mov     al, [bp+F_CL]
        out     dx, al
        jmp     .good
.ww:    mov     ax, [bp+F_CX]
        out     dx, ax
        jmp     .good
.wd:    mov     eax, [bp+F_CX]
        out     dx, eax
        jmp     .good
