; Glassbox VGA BIOS: the 32 KiB option ROM at C0000: header, initialisation, INT 10h dispatch.
; Sources: IBM VGA technical reference (registers, parameter table); Ralf Brown's Interrupt List, INT 10h.
; The build sets the last byte so that all bytes sum to 0.

        cpu     386
        bits    16
        org     0

%include "../bios/defs.asm"

; More of the BIOS data area.
B_MODE          equ 49h
B_COLS          equ 4Ah
B_PAGESIZE      equ 4Ch
B_START         equ 4Eh
B_CURSOR        equ 50h                 ; eight positions
B_SHAPE         equ 60h
B_PAGE          equ 62h
B_MODEREG       equ 65h
B_PALETTE       equ 66h
B_ROWS          equ 84h                 ; last row
B_HEIGHT        equ 85h                 ; scan lines of a character, word
B_VIDEO         equ 87h
B_SWITCHES      equ 88h
B_VGA           equ 89h
B_DCC           equ 8Ah
B_SAVEPTR       equ 0A8h

        db      55h, 0AAh, 64           ; 32 KiB
        jmp     init
        times   18h-($-$$) db 0
        dw      pci_data
        db      0, 0
        db      "Glassbox VGA BIOS", 0
        align   4, db 0
pci_data:                               ; for firmware that finds us in an expansion ROM (PCI 3.0 §6.3.1.2)
        db      "PCIR"
        dw      1234h, 1111h
        dw      0                       ; no device list
        dw      18h
        db      0                       ; revision of this structure
        db      0, 0, 3                 ; class
        dw      64                      ; length in units of 512 bytes
        dw      1                       ; revision of the image
        db      0, 80h                  ; for PCs; the last image
        dw      0

init:   push    ds
        push    es
        pushad
        xor     ax, ax
        mov     ds, ax
        mov     word [10h*4], int10
        mov     [10h*4+2], cs
        mov     word [1Fh*4], font8+1024
        mov     [1Fh*4+2], cs
        mov     word [43h*4], font16
        mov     [43h*4+2], cs
        set_ds  BDA
        mov     al, [B_EQUIP]
        and     al, 0CFh
        or      al, 20h                 ; 80x25 colour
        mov     [B_EQUIP], al
        mov     byte [B_VIDEO], 60h     ; 256 KiB
        mov     byte [B_SWITCHES], 0F9h
        mov     byte [B_VGA], 11h       ; 400 lines, VGA
        mov     byte [B_DCC], 0Bh
        mov     word [B_SAVEPTR], save_pointers
        mov     [B_SAVEPTR+2], cs
        mov     dx, 3C3h                ; video subsystem on
        mov     al, 1
        out     dx, al
        mov     ax, 3
        int     10h
        popad
        pop     es
        pop     ds
        retf

; Handlers run with DS = 40h, the other registers as the caller gave them (SI apart), and may change any.
int10:
        sti
        enter_service
        poll_reset
        mov     si, BDA
        mov     ds, si
        movzx   si, ah
        cmp     si, 1Ch
        ja      .extended
        shl     si, 1
        call    [cs:.table+si]
.ret:   leave_service
.extended:
        cmp     ah, 4Fh
        jne     .ret
        call    vbe
        leave_service
.table  dw      set_mode, cursor_shape, cursor_set, cursor_get, light_pen, page_set, scroll_up, scroll_down     ; 00
        dw      char_read, char_attr, char_only, cga_palette, pixel_write, pixel_read, teletype, mode_get       ; 08
        dw      palette, fonts, alternate, string, nothing, nothing, nothing, nothing                           ; 10
        dw      nothing, nothing, display_code, state_info, video_state                                         ; 18

nothing:ret

light_pen:
        mov     byte [bp+F_AH], 0
        ret

mode_get:
        mov     al, [B_VIDEO]
        and     al, 80h
        or      al, [B_MODE]
        mov     [bp+F_AL], al
        mov     al, [B_COLS]
        mov     [bp+F_AH], al
        mov     al, [B_PAGE]
        mov     [bp+F_BH], al
        ret

%include "modes.asm"
%include "modetable.asm"
%include "text.asm"
%include "graphics.asm"
%include "palette.asm"
%include "fonts.asm"
%include "info.asm"
%include "state.asm"
%include "vbe.asm"

        align   16, db 0
font16: incbin  "font8x16.bin"
font14: incbin  "font8x14.bin"
font8:  incbin  "font8x8.bin"
        %if ($-$$) > 32767
                %error "the VGA BIOS has outgrown 32 KiB"
        %endif
        times   32768-($-$$) db 0
