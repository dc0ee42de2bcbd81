; Glassbox BIOS: the 64 KiB image at F0000 (and FFFF0000).
;
; Assembles to exactly 64 KiB. Code fills the segment from offset 0; the offsets that the PC/AT fixed (and that old
; programs call directly) hold jumps and tables. Sources: IBM PC/AT Technical Reference, Ralf Brown's Interrupt List.

        cpu     386
        bits    16
        org     0

%define VERSION "0.1.0"

%include "defs.asm"
%include "post.asm"
%include "apic.asm"
%include "print.asm"
%include "irq.asm"
%include "kbdtable.asm"
%include "keyboard.asm"
%include "mouse.asm"
%include "ide.asm"
%include "disk.asm"
%include "edd.asm"
%include "cdrom.asm"
%include "eltorito.asm"
%include "floppy.asm"
%include "system.asm"
%include "apm.asm"
%include "blockmove.asm"
%include "time.asm"
%include "pci.asm"
%include "pcisetup.asm"
%include "virtio.asm"
%include "ports.asm"
%include "bootmenu.asm"
%include "boot.asm"

; --- Fixed entry points -----------------------------------------------------------------------------------------
        fixed   0E000h                  ; `firmware::bios_for` puts the SMBIOS entry point here, and the MP pointer
        times   30h db 0                ; behind it: both are only looked for from F0000 on
mp_pointer:
        times   20h db 0
        fixed   0E050h
pnp_entry:                              ; every function of the plug and play BIOS: not supported
        mov     ax, 82h
        retf
        fixed   0E05Bh
        jmp     post
; For option ROMs alone, which get its address: not at a multiple of 16, where systems would look for it, as there is
; no plug and play BIOS behind it (Plug and Play BIOS Specification 1.0A, 4.4).
        %if (($-$$) % 16) == 0
        db      0
        %endif
pnp_check:
        db      "$PnP", 10h, 21h
        dw      0                       ; no events
        db      03Fh                     ; checksum
        dd      0
        dw      0E050h, 0F000h          ; real mode entry
        dw      0E050h                  ; protected mode entry, and its base
        dd      0F0000h
        dd      0
        dw      0F000h                  ; data segments
        dd      0F0000h
        fixed   0E2C3h
        jmp     int02
        fixed   0E3FEh
        jmp     int13
        fixed   0E6F2h
        jmp     int19
        fixed   0E6F5h
config_table:                           ; INT 15h/C0
        dw      8                       ; bytes that follow
        db      0FCh, 1, 0              ; model AT, submodel 1, revision 0
        db      74h                     ; second PIC, RTC, INT 15h/4F called, EBDA
        db      40h                     ; INT 16h/09 present
        db      0, 0, 0
        fixed   0E729h
        dw      1047, 768, 384, 192, 96, 48, 24, 12     ; INT 14h divisors
        fixed   0E739h
        jmp     int14
        fixed   0E82Eh
        jmp     int16
        fixed   0E987h
        jmp     int09
        fixed   0EC59h
        jmp     int40
        fixed   0EF57h
        jmp     int0e
        fixed   0EFC7h
%include "dpt.asm"
        fixed   0EFD2h
        jmp     int17
        fixed   0F045h
        iret
        fixed   0F065h
int10:  iret                            ; until a video ROM takes INT 10h
        fixed   0F0A4h
        ; INT 1Dh: 6845 parameters for 40x25, 80x25, CGA graphics, MDA; then lengths, columns and mode bytes.
        db      38h,28h,2Dh,0Ah,1Fh,06h,19h,1Ch,02h,07h,06h,07h,0,0,0,0
        db      71h,50h,5Ah,0Ah,1Fh,06h,19h,1Ch,02h,07h,06h,07h,0,0,0,0
        db      38h,28h,2Dh,0Ah,7Fh,06h,64h,70h,02h,01h,06h,07h,0,0,0,0
        db      61h,50h,52h,0Fh,19h,06h,19h,19h,02h,0Dh,0Bh,0Ch,0,0,0,0
        dw      0800h, 1000h, 4000h, 4000h
        db      40,40,80,80,40,40,80,80
        db      2Ch,28h,2Dh,29h,2Ah,2Eh,1Eh,29h
        fixed   0F841h
        jmp     int12
        fixed   0F84Dh
        jmp     int11
        fixed   0F859h
        jmp     int15
        fixed   0FA6Eh
        incbin  "../vgabios/font8x8.bin", 0, 1024
        fixed   0FE6Eh
        jmp     int1a
        fixed   0FEA5h
        jmp     int08
        fixed   0FEF3h
        db      0
        fixed   0FF53h
dummy_iret:
        iret
        fixed   0FF54h
        jmp     int05
        fixed   0FFF0h
        jmp     0F000h:0E05Bh
        db      "11/23/26"
        db      0
        db      0FCh                    ; model: AT
        db      0
