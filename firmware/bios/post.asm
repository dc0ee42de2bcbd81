; Glassbox BIOS: power-on self test, from reset to INT 19h.
;
; Initialises the chips of an AT (8237A, 8259A, 8254, 8042, MC146818), fills the interrupt vectors and data areas,
; runs option ROMs and looks for drives. Sources: chip data sheets; IBM PC/AT Technical Reference (shutdown codes).

post:
        cli
        cld
        mov     al, 8Fh                 ; shutdown code; NMI off
        out     70h, al
        in      al, 71h
        mov     bl, al
        mov     al, 8Fh
        out     70h, al
        mov     al, 0
        out     71h, al
        cmp     bl, 5
        je      .resume_eoi
        cmp     bl, 9
        je      .resume_move
        cmp     bl, 0Ah
        je      .resume
        jmp     post_cold
.resume_eoi:
        mov     al, 20h
        out     0A0h, al
        out     20h, al
.resume:
        xor     ax, ax
        mov     ds, ax
        jmp     far [400h+B_RESETVEC]
.resume_move:                           ; a block move that left protected mode by reset: its frame is at 40:67
        xor     ax, ax
        mov     ds, ax
        lss     sp, [400h+B_RESETVEC]
        pop     es
        pop     ds
        popa
        push    bp
        mov     bp, sp
        and     byte [bp+6], 0FEh
        pop     bp
        mov     ah, 0
        iret

post_cold:
        mov     al, 1
        out     80h, al
        in      al, 92h                 ; A20 on
        or      al, 2
        and     al, 0FEh
        out     92h, al
        xor     ax, ax
        mov     ss, ax
        mov     sp, 7C00h
        mov     ds, ax
        mov     es, ax
        mov     bp, [400h+B_WARM]
        xor     di, di                  ; clear vectors and BIOS data area
        mov     cx, 500h/2
        rep     stosw
        mov     [400h+B_WARM], bp
        DBG     "POST"
        call    init_dma
        call    init_pic
        call    init_apic
        call    init_pit
        call    init_vectors
        call    init_ebda
        call    init_bda
        mov     al, 2
        out     80h, al
        call    init_fpu
        call    init_rtc
        call    init_pci
        call    pci_setup
        call    build_memory_map
        call    init_ports
        mov     al, 3
        out     80h, al
        call    init_keyboard
        sti
        mov     al, 4
        out     80h, al
        DBG     "video ROM"
        mov     ax, 0C000h              ; video first, so that the rest can be seen
        call    run_rom
        call    banner
        mov     al, 5
        out     80h, al
        DBG     "drives"
        call    init_floppy
        call    init_ide
        call    init_virtio
        call    print_crlf
        mov     al, 6
        out     80h, al
        DBG     "option ROMs"
        call    scan_roms
        call    pci_roms
        mov     al, 7
        out     80h, al
        xor     ax, ax
        mov     ds, ax
        mov     word [400h+B_WARM], 0
        DBG     "INT 19"
        int     19h
        jmp     halt_forever

halt_forever:
        sti
        hlt
        jmp     halt_forever

; --- Chips ------------------------------------------------------------------------------------------------------
init_dma:
        out     0Dh, al                 ; master clear
        out     0DAh, al
        mov     al, 0C0h                ; channel 4: cascade
        out     0D6h, al
        mov     al, 0
        out     0D4h, al                ; and unmasked
        ret

init_pic:
        mov     al, 11h
        out     20h, al
        out     0A0h, al
        mov     al, 08h
        out     21h, al
        mov     al, 70h
        out     0A1h, al
        mov     al, 4
        out     21h, al
        mov     al, 2
        out     0A1h, al
        mov     al, 1
        out     21h, al
        out     0A1h, al
        mov     al, 0B8h                ; timer, keyboard, cascade, floppy
        out     21h, al
        mov     al, 01Eh                ; RTC, FPU, both IDE channels
        out     0A1h, al
        ret

init_pit:
        mov     al, 36h                 ; channel 0, mode 3, 65536: 18.2 Hz
        out     43h, al
        mov     al, 0
        out     40h, al
        out     40h, al
        mov     al, 54h                 ; channel 1, mode 2: refresh
        out     43h, al
        mov     al, 12h
        out     41h, al
        mov     al, 0B6h                ; channel 2, mode 3: speaker, off
        out     43h, al
        mov     al, 0A9h
        out     42h, al
        mov     al, 04h
        out     42h, al
        in      al, 61h
        and     al, 0FCh
        out     61h, al
        ret

init_fpu:                               ; sets equipment bit 1 when an x87 answers
        fninit
        mov     word [SCRATCH], 5A5Ah
        fnstsw  [SCRATCH]
        cmp     word [SCRATCH], 0
        jne     .none
        or      byte [400h+B_EQUIP], 2
.none:  ret

; --- Vectors and data areas ---------------------------------------------------------------------------------------
init_vectors:                           ; 20h-6Fh get a bare IRET, so that a stray INT is harmless; 60h-67h stay 0
        push    es
        xor     di, di
        mov     es, di
        mov     dx, cs
        mov     si, vector_table
        mov     cx, 20h
        call    .copy
        mov     cx, 50h
.fill:  mov     ax, dummy_iret
        stosw
        mov     ax, dx
        stosw
        loop    .fill
        mov     cx, 8
        call    .copy
        mov     di, 60h*4               ; free for programs
        xor     ax, ax
        mov     cx, 8*2
        rep     stosw
        mov     word [es:28h*4], int28
        mov     word [es:2Fh*4], int2f
        mov     word [es:40h*4], 0EC59h
        mov     word [es:41h*4], E_HDPT
        mov     word [es:41h*4+2], EBDA
        mov     word [es:46h*4], E_HDPT+16
        mov     word [es:46h*4+2], EBDA
        mov     word [es:42h*4], 0F065h
        mov     word [es:0FFh*4], dummy_iret    ; the local APIC's spurious vector
        mov     [es:0FFh*4+2], cs
        mov     word [es:43h*4], 0FA6Eh
        pop     es
        ret
.copy:  mov     ax, [cs:si]
        add     si, 2
        stosw
        mov     ax, dx
        stosw
        loop    .copy
        ret

vector_table:
        dw      dummy_iret, dummy_iret, 0E2C3h, dummy_iret      ; 00
        dw      dummy_iret, 0FF54h, dummy_iret, dummy_iret
        dw      0FEA5h, 0E987h, irq_master, irq_master          ; 08
        dw      irq_master, irq_master, 0EF57h, irq_master
        dw      0F065h, 0F84Dh, 0F841h, 0E3FEh                  ; 10
        dw      0E739h, 0F859h, 0E82Eh, 0EFD2h
        dw      int18, 0E6F2h, 0FE6Eh, dummy_iret               ; 18
        dw      dummy_iret, 0F0A4h, 0EFC7h, 0FA6Eh
vector_table_end:
vector_table_70:
        dw      int70, int71, irq_slave, irq_slave
        dw      int74, int75, int76, int76

init_ebda:
        push    es
        mov     ax, EBDA
        mov     es, ax
        xor     di, di
        xor     ax, ax
        mov     cx, 512
        rep     stosw
        mov     byte [es:0], 1          ; KiB
        pop     es
        ret

init_bda:                               ; DS = 0
        mov     word [400h+B_EBDA], EBDA
        mov     word [400h+B_MEMKB], 639
        mov     word [400h+B_EQUIP], 0020h      ; 80x25 colour
        mov     word [400h+B_KBHEAD], B_KBBUF
        mov     word [400h+B_KBTAIL], B_KBBUF
        mov     word [400h+B_KBSTART], B_KBBUF
        mov     word [400h+B_KBEND], B_KBBUF+32
        mov     dword [400h+B_LPTTIME], 14141414h
        mov     dword [400h+B_COMTIME], 01010101h
        mov     byte [400h+B_KBF0], 0
        mov     byte [400h+B_KBF3], 10h         ; 101-key keyboard
        ret

; --- Option ROMs --------------------------------------------------------------------------------------------------
; run_rom: AX = segment. If a ROM with a good checksum is there, calls its init routine.
; run_rom_of: the same for the ROM of the PCI function DX.
; out: CF clear and AX = first segment after it (2 KiB granularity), by the size that it has then; CF set if there is none.
run_rom:
        xor     dx, dx
run_rom_of:
        push    ds
        push    dx
        mov     ds, ax
        mov     bx, ax
        cmp     word [0], 0AA55h
        jne     .none
        movzx   cx, byte [2]            ; 512-byte units
        jcxz    .none
        mov     dl, 0
.block: push    cx
        mov     cx, 512
        xor     si, si
.sum:   lodsb
        add     dl, al
        loop    .sum
        mov     ax, ds
        add     ax, 20h
        mov     ds, ax
        pop     cx
        loop    .block
        test    dl, dl
        jnz     .none
        pop     ax                      ; the PCI function
        push    bx
        push    bp
        push    es
        mov     ds, bx
        push    cs                      ; far return address, then the target
        push    word .back
        push    bx
        push    word 3
        xor     dx, dx
        push    cs                      ; ES:DI = the installation check of a plug and play BIOS
        pop     es
        mov     di, pnp_check
        retf
.back:  cld
        cli
        pop     es                      ; an option ROM may leave anything in the segment registers
        pop     bp
        pop     ds
        mov     ax, ds
        movzx   cx, byte [2]
        shl     cx, 5                   ; paragraphs
        add     ax, cx
        add     ax, 7Fh
        and     al, 80h
        sti
        pop     ds
        clc
        ret
.none:  pop     dx
        pop     ds
        stc
        ret

; Looks for option ROMs from C8000 (or the end of the video ROM, if that is later) to DFFFF.
scan_roms:
        mov     ax, 0C800h
.next:  push    ax
        call    run_rom
        pop     bx
        jnc     .step
        mov     ax, bx
        add     ax, 80h
.step:  cmp     ax, 0E000h
        jb      .next
        ret

; --- Banner -------------------------------------------------------------------------------------------------------
banner:
        mov     si, .title
        mov     bl, 0Fh
        call    print_attr
        mov     si, .version
        mov     bl, 0Bh
        call    print_attr
        call    print_crlf
        mov     si, .rule
        mov     bl, 03h
        call    print_attr
        call    print_crlf
        mov     si, .mem
        call    print_label
        call    memory_kib              ; EAX = KiB in all
        shr     eax, 10
        call    print_dec
        mov     si, .mib
        jmp     print
.title  db      " Glassbox BIOS ", 0
.version db     VERSION, 0
.rule   db      " "
        times 62 db 0C4h
        db      0
.mem    db      "Memory", 0
.mib    db      " MiB", 13, 10, 0
