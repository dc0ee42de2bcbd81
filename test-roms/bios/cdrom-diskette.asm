; cdrom-diskette.asm - booted from a diskette that a part of a CD stands for (El Torito 1.0), beside a real one.

%include "rom.inc"
BUFFER equ 0x3000                       ; segment
start:  title   "a diskette on a CD"
        mov     ax, BUFFER
        mov     gs, ax
        movzx   eax, byte [boot_drive]
        expect  eax, 0, "booted from drive 0, by INT 13h"
        push    es
        mov     ah, 8
        mov     dl, 0
        call    disk
        pop     es
        movzx   eax, cx
        expect  eax, 0x4F12, "08h: 80 tracks of 18 sectors"
        movzx   eax, dl
        expect  eax, 2, "08h: two drives, the real one behind it"
        mov     al, [0x410]
        and     eax, 0xC1
        expect  eax, 0x41, "so says the equipment word"
        mov     ax, 0x0201
        mov     cx, 1
        mov     dx, 1
        call    chs
        expect  dword [carry], 1, "02h: the real one is empty"
        movzx   eax, dl
        expect  eax, 1, "02h: DL is kept"
        mov     ax, 0x4B01
        mov     si, spec
        mov     dl, 0
        call    disk
        expect  dword [carry], 0, "4B01h: status"
        movzx   eax, word [spec + 1]
        expect  eax, 2, "1.44 MB, drive 0"
        mov     si, dap
        mov     ah, 0x42
        mov     dl, 0xE0
        call    disk
        expect  dword [carry], 0, "42h: the disc itself"
        expect  dword [gs:1], "CD00", "42h: its volume descriptor"
        mov     ax, 0x4B00
        mov     si, spec
        mov     dl, 0
        call    disk
        expect  dword [carry], 0, "4B00h: no emulation any more"
        push    es
        mov     ah, 8
        mov     dl, 0
        call    disk
        pop     es
        movzx   eax, dl
        expect  eax, 1, "08h: the real drive alone"
        done

disk:   int     0x13
        pushf
        mov     dword [carry], 0
        adc     byte [carry], 0
        popf
        ret
chs:    push    es
        push    gs
        pop     es
        xor     bx, bx
        call    disk
        pop     es
        ret
        align   4, db 0
carry:  dd      0
dap:    dw      16, 1, 0, BUFFER
        dq      16
spec:   times   20 db 0
rom_end
%include "iso.inc"
        iso     2, 1
