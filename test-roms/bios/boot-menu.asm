; boot-menu.asm - the BIOS's boot menu. The expectation asks for it, types, what is not there first, and looks at the screen.

%include "rom.inc"
start:  title   "the boot menu"
        xor     ebx, ebx
        mov     ah, 1                   ; INT 16h: is there a key?
        int     0x16
        setnz   bl
        expect  ebx, 0, "the menu has taken its keys"
        done
rom_end
