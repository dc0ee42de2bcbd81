; cdrom.asm - INT 13h for the CD-ROM drive that this ROM is booted from, and drives that El Torito emulates.
; Phoenix EDD 3.0; El Torito 1.0, which has 4Bh and 4Dh.

%define ON_CD
%include "rom.inc"
BUFFER equ 0x3000                       ; segment
start:  title   "INT 13h on a CD-ROM"
        mov     ax, BUFFER
        mov     gs, ax
        movzx   eax, byte [boot_drive]
        expect  eax, 0xE0, "booted from drive E0h"
        mov     ah, 0x41
        mov     bx, 0x55AA
        call    cd
        expect  dword [carry], 0, "41h: EDD is there"
        movzx   ebx, bx
        expect  ebx, 0xAA55, "41h: BX"
        and     ecx, 3
        expect  ecx, 3, "41h: packet access, locking and ejecting"
        mov     si, params
        mov     ah, 0x48
        call    cd
        expect  dword [carry], 0, "48h: drive parameters"
        expect  dword [params + 16], ISO_BLOCKS, "48h: as many sectors as the disc has"
        movzx   eax, word [params + 24]
        expect  eax, 2048, "48h: of 2048 bytes"
        mov     ah, 0x15
        call    cd
        movzx   eax, ah
        expect  eax, 2, "15h: a removable disk with change line"

        mov     dword [dap + 8], 16
        call    read
        expect  dword [carry], 0, "42h: read"
        expect  dword [gs:1], "CD00", "42h: the volume descriptor"
        mov     word [dap + 2], 3
        call    read
        expect  dword [carry], 0, "42h: three sectors"
        expect  dword [gs:2048 + 7], "EL T", "the second one is the boot record"
        expect  dword [gs:2 * 2048 + 1], "CD00", "the third one ends the descriptors"
        mov     dword [dap + 4], 0x2010FFE0     ; 300E0h, and the segment runs over
        call    read
        mov     dword [dap + 4], BUFFER << 16
        expect  dword [gs:0xE0 + 2 * 2048 + 1], "CD00", "42h: over the end of a segment"
        mov     word [dap + 2], 1
        mov     dword [dap + 8], ISO_BLOCKS
        call    read
        expect  dword [carry], 1, "42h: beyond the end fails"
        movzx   eax, word [dap + 2]
        expect  eax, 0, "and says that nothing was read"
        mov     word [dap + 2], 1
        mov     dword [dap + 8], 16
        mov     ax, 0x4300
        mov     si, dap
        call    cd
        movzx   eax, ah
        expect  eax, 3, "43h: write protected"
        mov     ah, 0x42
        mov     dl, 0xE1
        mov     si, dap
        call    disk
        expect  dword [carry], 1, "42h: no such drive fails"

        ; What was booted, and the catalogue that says so.
        mov     ax, 0x4B01
        mov     si, spec
        call    cd
        expect  dword [carry], 0, "4B01h: status"
        movzx   eax, byte [spec]
        expect  eax, 0x13, "the packet's size"
        movzx   eax, byte [spec + 1]
        expect  eax, 0, "no emulation"
        movzx   eax, byte [spec + 2]
        expect  eax, 0xE0, "the drive"
        expect  dword [spec + 4], 0, "where the image is"
        movzx   eax, word [spec + 12]
        expect  eax, 0x7C0, "the segment"
        movzx   eax, word [spec + 14]
        expect  eax, ROM_SECTORS, "how many sectors"
        mov     ax, 0x4D00
        mov     si, catalogue
        call    cd
        expect  dword [carry], 0, "4D00h: the boot catalogue"
        movzx   eax, word [gs:0x1E]
        expect  eax, 0xAA55, "its validation entry"
        movzx   eax, byte [gs:0x20]
        expect  eax, 0x88, "its initial entry"

        ; The disc's start as a diskette of 1.44 MiB.
        mov     byte [spec + 1], 2
        mov     word [spec + 14], 1
        mov     ax, 0x4B02
        mov     si, spec
        call    cd
        expect  dword [carry], 0, "4B02h: a diskette"
        test    byte [0x410], 1
        setnz   al
        movzx   eax, al
        expect  eax, 1, "the equipment word has it"
        push    es
        mov     ah, 8
        mov     dl, 0
        call    disk
        pop     es
        expect  dword [carry], 0, "08h: geometry"
        movzx   eax, bl
        expect  eax, 4, "08h: 1.44 MB"
        movzx   eax, cx
        expect  eax, 0x4F12, "08h: 80 tracks of 18 sectors"
        movzx   eax, dx
        expect  eax, 0x0101, "08h: two heads, one drive"
        mov     ax, 0x0201
        mov     cx, 1
        mov     dx, 0
        call    chs
        expect  dword [carry], 0, "02h: the first sector"
        movzx   eax, word [gs:510]
        expect  eax, 0xAA55, "it is the boot sector"
        mov     ax, 0x0203
        mov     cx, 0x010A              ; sector 63, in the middle of one of the disc
        mov     dx, 0x0100
        call    chs
        expect  dword [carry], 0, "02h: three sectors from within one"
        movzx   eax, al
        expect  eax, 3, "02h: AL"
        expect  dword [gs:512 + 1], "CD00", "the second one is the volume descriptor"
        mov     ax, 0x0201
        mov     cx, 0x0113
        mov     dx, 0
        call    chs
        expect  dword [carry], 1, "02h: a track has no sector 19"
        mov     ax, 0x0301
        mov     cx, 1
        mov     dx, 0
        call    chs
        movzx   eax, ah
        expect  eax, 3, "03h: write protected"
        mov     ax, 0x0401
        call    chs
        expect  dword [carry], 0, "04h: verify"
        mov     ax, 0x0201
        mov     dx, 1
        call    chs
        expect  dword [carry], 1, "there is no other diskette"
        mov     ax, 0x4B00
        mov     dl, 0x7F
        mov     si, other
        call    disk
        expect  dword [carry], 0, "4B00h: ends whatever is emulated"
        movzx   eax, byte [other + 1]
        expect  eax, 2, "and says what it was"
        mov     ax, 0x0201
        mov     dx, 0
        call    chs
        expect  dword [carry], 1, "the diskette is gone"
        test    byte [0x410], 1
        setnz   al
        movzx   eax, al
        expect  eax, 0, "from the equipment word too"

        ; And as a hard disk, with the geometry of the packet: 3 cylinders, 4 heads, 8 sectors.
        mov     byte [spec + 1], 4
        mov     word [spec + 16], 0x0802
        mov     byte [spec + 18], 3
        mov     ax, 0x4B02
        mov     si, spec
        call    cd
        expect  dword [carry], 0, "4B02h: a hard disk"
        movzx   eax, byte [0x475]
        expect  eax, 1, "the BIOS counts it"
        mov     ah, 8
        mov     dl, 0x80
        call    disk
        movzx   eax, cx
        expect  eax, 0x0208, "08h: cylinders and sectors"
        movzx   eax, dx
        expect  eax, 0x0301, "08h: heads, and one disk"
        mov     ah, 0x15
        mov     dl, 0x80
        call    disk
        movzx   eax, ah
        expect  eax, 3, "15h: a hard disk"
        movzx   edx, dx
        expect  edx, 96, "15h: its sectors"
        mov     ax, 0x0202
        mov     cx, 0x0201              ; sector 64
        mov     dx, 0x0080
        call    chs
        expect  dword [gs:1], "CD00", "02h: the volume descriptor"
        mov     ax, 0x0209
        mov     cx, 0x0208
        mov     dx, 0x0380
        call    chs
        expect  dword [carry], 1, "02h: beyond the end fails"
        mov     ax, 0x4B00
        mov     dl, 0x80
        mov     si, other
        call    disk
        movzx   eax, byte [0x475]
        expect  eax, 0, "4B00h: it is gone"

        ; The lock, and the tray.
        mov     ax, 0x4500
        call    cd
        expect  dword [carry], 0, "45h: lock"
        mov     ax, 0x4502
        call    cd
        movzx   eax, al
        expect  eax, 1, "45h: locked"
        mov     ax, 0x4600
        call    cd
        movzx   eax, ah
        expect  eax, 0xB1, "46h: it cannot be ejected"
        mov     ax, 0x4501
        call    cd
        movzx   eax, al
        expect  eax, 0, "45h: unlocked"
        mov     ax, 0x4600
        call    cd
        expect  dword [carry], 0, "46h: ejected"
        call    read
        movzx   eax, ah
        expect  eax, 0x31, "42h: there is no disc"
        mov     si, params
        mov     ah, 0x48
        call    cd
        expect  dword [params + 20], -1, "48h: nor a size"
        done

disk:   int     0x13
        pushf
        mov     dword [carry], 0
        adc     byte [carry], 0
        popf
        ret
cd:     mov     dl, [boot_drive]
        jmp     disk
read:   mov     si, dap
        mov     ah, 0x42
        jmp     cd
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
        dq      0
params: dw      30
        times   30 db 0
spec:   times   20 db 0
other:  times   20 db 0
catalogue: db   8, 1
        dw      0, BUFFER, 0
rom_end
%include "iso.inc"
        iso     0, ROM_SECTORS
