; keyboard.asm - INT 16h, with keys typed by the harness when "ready" is on the screen:
; a Z 9 Enter F1 Up, and x.

%include "rom.inc"
start:  title   "INT 16h"
        mov     ah, 1
        int     0x16
        setz    al
        movzx   eax, al
        expect  eax, 1, "01h: no key at first"
        mov     si, .ready
.say:   lodsb
        test    al, al
        jz      .keys
        mov     ah, 0x0E
        mov     bx, 7
        int     0x10
        jmp     .say
.ready: db      "ready", 13, 10, 0
.keys:  mov     ah, 1                   ; peek, then read: the same key
        int     0x16
        jnz     .first
        hlt
        jmp     .keys
.first: movzx   ebx, ax
        expect  ebx, 0x1E61, "01h: a, and it stays"
        call    key
        expect  eax, 0x1E61, "00h: a"
        call    key
        expect  eax, 0x2C5A, "Z, with Shift"
        call    key
        expect  eax, 0x0A39, "9"
        call    key
        expect  eax, 0x1C0D, "Enter"
        call    key
        expect  eax, 0x3B00, "F1"
        mov     ah, 0x10
        int     0x16
        movzx   eax, ax
        expect  eax, 0x48E0, "10h: the grey Up key"
        mov     ah, 0x10
        int     0x16
        movzx   eax, ax
        expect  eax, 0x2D78, "10h: x"
        mov     ah, 2
        int     0x16
        and     eax, 0x0F
        expect  eax, 0, "02h: no Shift, Ctrl or Alt is down"
        movzx   eax, word [0x41A]
        movzx   ebx, word [0x41C]
        expect  eax, ebx, "the buffer in the BIOS data area is empty"
        mov     ah, 5
        mov     cx, 0x1234
        int     0x16
        call    key
        expect  eax, 0x1234, "05h puts a key into the buffer"
        done
key:    xor     ah, ah
        int     0x16
        movzx   eax, ax
        ret
rom_end
