; Glassbox BIOS: what the functions of PCI bus 0 get from POST: addresses, interrupts, and their expansion ROMs run.
; Sources: PCI Local Bus Specification 3.0, chapter 6 (base address registers §6.2.5, expansion ROMs §6.3); PCI BIOS
; Specification 2.1; Intel 82371SB PIIX3 (290550) for the routing of PIRQs, 82441FX (290549) for PAM.

PCI_FIRST_PORT  equ 0C000h              ; as other firmware of such boards has it
PCI_LAST_PORT   equ 0FFFFh
PCI_FIRST_MEM   equ 0E0000000h          ; above all RAM below 4 GiB, below the I/O APIC
PCI_LAST_MEM    equ 0FEBFFFFFh
PCI_ROM_SEG     equ 0CC00h              ; where copies of expansion ROMs go, in shadow RAM
PCI_ROM_END     equ 0E000h
PCI_ROM_MOST    equ (PCI_ROM_END-PCI_ROM_SEG)/20h       ; in units of 512 bytes

; Each routine has BX = device and function, and keeps it.

; pci_select: selects register CL. Clobbers EAX, DX; DX is then the data port for it.
pci_select:
        movzx   eax, bx
        shl     eax, 8
        mov     al, cl
        and     al, 0FCh
        or      eax, 80000000h
        mov     dx, 0CF8h
        out     dx, eax
        mov     dl, cl
        and     dx, 3
        add     dx, 0CFCh
        ret

pci_read:                               ; EAX = register CL
        call    pci_select
        in      eax, dx
        ret

pci_write:                              ; register CL = EAX
        push    eax
        call    pci_select
        pop     eax
        out     dx, eax
        ret

pci_read_byte:                          ; AL = register CL
        call    pci_select
        in      al, dx
        ret

pci_write_byte:                         ; register CL = AL
        push    ax
        call    pci_select
        pop     ax
        out     dx, al
        ret

; Calls the routine at SI for each function of bus 0.
pci_each:
        xor     bx, bx
.next:  mov     cl, 0
        call    pci_read
        inc     ax
        jz      .absent
        push    si
        call    si
        pop     si
.absent:
        test    bl, 7                   ; function 0 tells whether there are others
        jnz     .step
        mov     cl, 0
        call    pci_read
        inc     ax
        jz      .skip
        mov     cl, 0Eh
        call    pci_read_byte
        test    al, 80h
        jnz     .step
.skip:  or      bl, 7
.step:  inc     bx
        test    bh, bh
        jz      .next
        ret

; pci_setup: gives every function of bus 0 addresses and its interrupt, and lets it answer. Ports and memory are
; handed out upwards, each at a multiple of its size.
pci_setup:
        push    es
        mov     ax, EBDA
        mov     es, ax
        cmp     byte [es:E_PCI], 0
        je      .none
        mov     word [es:E_PCIPORT], PCI_FIRST_PORT
        mov     dword [es:E_PCIMEM], PCI_FIRST_MEM
        mov     si, pci_place
        call    pci_each
.none:  pop     es
        ret

; One function. ES = EBDA.
pci_place:
        mov     cl, 08h
        call    pci_read
        cmp     eax, 06010000h          ; a bridge to ISA: PIRQs go to IRQ 10, 10, 11, 11
        jb      .no_router
        cmp     eax, 060100FFh
        ja      .no_router
        mov     cl, 60h
        mov     eax, 0B0B0A0Ah
        call    pci_write
        mov     dx, 4D1h                ; and those are levels
        in      al, dx
        or      al, 0Ch
        out     dx, al
.no_router:
        mov     cl, 0Eh
        call    pci_read_byte
        and     al, 7Fh
        jnz     .ret                    ; a bridge has other registers
        mov     cl, 04h
        call    pci_read_byte
        push    ax
        and     al, 0FCh                ; silent while it is moved
        call    pci_write_byte
        mov     cl, 10h
.bar:   call    .place
        add     cl, 4
        cmp     cl, 24h
        jbe     .bar
        mov     cl, 30h
        call    .rom
        pop     ax
        or      al, 3
        mov     cl, 04h
        call    pci_write_byte
        mov     cl, 3Dh                 ; the interrupt: pin and device choose the PIRQ
        call    pci_read_byte
        test    al, al
        jz      .ret
        mov     ah, bl
        shr     ah, 3
        add     al, ah
        and     al, 3                   ; PIRQA# for pin 1 of device 1: 2 = A, 3 = B, 0 = C, 1 = D
        cmp     al, 2
        mov     al, 10
        jae     .line
        mov     al, 11
.line:  mov     cl, 3Ch
        call    pci_write_byte
.ret:   ret

; One base address register, CL; CL is the last one that belongs to it on return.
.place: mov     eax, 0FFFFFFFFh
        call    pci_write
        call    pci_read
        test    eax, eax
        jz      .ret
        test    al, 1
        jnz     .ports
        mov     ch, al
        and     al, 0F0h
        call    .memory
        call    pci_write
        and     ch, 6
        cmp     ch, 4                   ; 64 bits: the upper half is 0
        jne     .ret
        add     cl, 4
        xor     eax, eax
        jmp     pci_write

.ports: and     al, 0FCh
        movzx   eax, ax
        neg     ax                      ; the size
        jz      .ret
        mov     dx, ax
        dec     ax
        add     ax, [es:E_PCIPORT]
        jc      .no_ports
        dec     dx
        not     dx
        and     ax, dx                  ; at a multiple of it
        not     dx
        mov     bp, ax
        add     bp, dx
        jc      .no_ports
        inc     bp
        jz      .no_ports
        mov     [es:E_PCIPORT], bp
        jmp     pci_write
.no_ports:
        xor     eax, eax
        jmp     pci_write

; EAX = what was read of a register after ones were written, without its low bits: EAX = an address of that size, 0 if
; there is no room.
.memory:
        neg     eax
        jz      .no_memory
        mov     edx, eax
        dec     edx
        mov     eax, [es:E_PCIMEM]
        add     eax, edx
        jc      .no_memory
        not     edx
        and     eax, edx
        not     edx
        push    eax
        add     eax, edx
        jc      .full
        cmp     eax, PCI_LAST_MEM
        ja      .full
        inc     eax
        mov     [es:E_PCIMEM], eax
        pop     eax
        ret
.full:  pop     eax
.no_memory:
        xor     eax, eax
        ret

.rom:   mov     eax, 0FFFFF800h
        call    pci_write
        call    pci_read
        and     eax, 0FFFFF800h
        jz      .ret
        call    .memory
        jmp     pci_write               ; it does not answer yet

; pci_roms: copies the expansion ROMs of functions into shadow RAM from CC000 on and runs them, but for those of displays,
; whose ROM the board has at C0000. Only what lies there as RAM is used: a board without PAM gets none.
pci_roms:
        push    es
        mov     ax, EBDA
        mov     es, ax
        cmp     byte [es:E_PCI], 0
        je      .none
        mov     word [es:E_PCIROM], PCI_ROM_SEG
        mov     si, pci_rom
        call    pci_each
.none:  pop     es
        ret

pci_shadow:                             ; the PAM registers of CC000-DFFFF = AX, which has equal halved bytes
        push    bx
        xor     bx, bx
        mov     cl, 5Ch
        push    ax
        call    pci_select
        pop     ax
        out     dx, ax
        push    ax
        mov     cl, 5Bh                 ; only the upper half: the lower one is C8000-CBFFF
        call    pci_read_byte
        pop     bx
        xor     al, bl
        and     al, 0Fh
        xor     al, bl
        out     dx, al
        pop     bx
        ret

; One function. ES = EBDA.
pci_rom:
        mov     cl, 0Bh
        call    pci_read_byte
        cmp     al, 3
        je      .ret                    ; a display
        mov     cl, 0Eh
        call    pci_read_byte
        and     al, 7Fh
        jnz     .ret
        mov     cl, 30h
        call    pci_read
        and     eax, 0FFFFF800h
        jz      .ret
        mov     edi, eax
        or      al, 1
        call    pci_write               ; it answers
        mov     cx, 1                   ; its head, into the place of its copy
        call    .copy
        jc      .off
        push    ds
        mov     ds, [es:E_PCIROM]
        cmp     word [0], 0AA55h
        movzx   cx, byte [2]
        pop     ds
        jne     .off
        jcxz    .off
        call    .copy
        jc      .off
        mov     ax, [es:E_PCIROM]
        mov     dx, bx
        push    bx
        call    run_rom_of              ; AX = the segment behind it
        pop     bx
        jc      .off
        call    .bootstrap
        cmp     ax, PCI_ROM_END
        jbe     .keep
        mov     ax, PCI_ROM_END
.keep:  mov     [es:E_PCIROM], ax
.off:   mov     cl, 30h
        call    pci_read
        and     al, 0FEh
        call    pci_write
        mov     ax, 1111h               ; shadow RAM that is only read
        call    pci_shadow
.ret:   ret

; Notes the bootstrap entry vector of the ROM that was just run, if it has one and is the first (BIOS Boot
; Specification 1.01, 3.3). Keeps AX.
.bootstrap:
        cmp     dword [es:E_BEV], 0
        jne     .ret
        push    ds
        mov     ds, [es:E_PCIROM]
        mov     di, [1Ah]               ; the expansion header
        cmp     dword [di], '$PnP'
        jne     .no_vector
        mov     cx, [di+1Ah]
        jcxz    .no_vector
        mov     [es:E_BEV], cx
        mov     [es:E_BEV+2], ds
        mov     [es:E_BEVPCI], bx
.no_vector:
        pop     ds
        ret

; Copies CX units of 512 bytes from EDI to the segment E_PCIROM. CF set if they do not fit.
.copy:  push    cx
        mov     ax, 3333h
        call    pci_shadow
        pop     cx
        mov     dx, [es:E_PCIROM]
        mov     ax, cx
        shl     ax, 5
        add     ax, dx
        jc      .ret                    ; the last sizes that a byte can say are beyond a segment's end
        cmp     ax, PCI_ROM_END+1
        cmc
        jc      .ret
        push    ds
        push    es
        xor     ax, ax
        mov     ds, ax
        mov     es, ax
        push    edi
.piece: push    cx                      ; at most 32 KiB at once
        cmp     cx, 40h
        jbe     .size
        mov     cx, 40h
.size:  push    cx
        push    cx
        push    edi
        mov     di, SCRATCH             ; the table of INT 15h, AH=87h: source at 10h, target at 18h
        mov     cx, 24
        xor     ax, ax
        rep     stosw
        pop     edi
        mov     eax, edi
        rol     eax, 8
        mov     [SCRATCH+12h], edi
        mov     word [SCRATCH+10h], 0FFFFh
        mov     word [SCRATCH+15h], 93h
        mov     [SCRATCH+17h], al
        movzx   eax, dx
        shl     eax, 4
        mov     [SCRATCH+1Ah], eax
        mov     word [SCRATCH+18h], 0FFFFh
        mov     byte [SCRATCH+1Dh], 93h
        mov     si, SCRATCH
        pop     cx
        shl     cx, 8                   ; words
        mov     ah, 87h
        push    edi
        push    dx
        int     15h
        pop     dx
        pop     edi
        pop     ax                      ; the units of this piece
        pop     cx
        jc      .end
        movzx   esi, ax
        shl     si, 5
        add     dx, si
        shl     esi, 4
        add     edi, esi
        sub     cx, ax
        jnz     .piece                  ; CF is clear at the end
.end:   pop     edi
        pop     es
        pop     ds
        ret
