; floppy-change.asm - INT 13h when a diskette is changed while the machine is on: AH = 15h, 16h and status 06h.
; IBM PC/AT Technical Reference, BIOS. The script puts in the same image again.

%include "rom.inc"
BUFFER equ 0x3000                       ; segment
start:  title   "a change of diskettes"
        mov     ax, BUFFER
        mov     gs, ax
        mov     ah, 0x15
        mov     dl, 0
        call    disk
        movzx   eax, ah
        expect  eax, 2, "15h: a drive with change line"
        mov     ah, 0x16
        mov     dl, 0
        call    disk
        expect  dword [carry], 0, "16h: it is the one that was booted"
        title   "change it now"
        mov     ax, [0x46C]
        mov     [since], ax
.wait:  mov     ah, 0x16
        mov     dl, 0
        call    disk
        cmp     dword [carry], 0
        jne     .seen
        mov     ax, [0x46C]
        sub     ax, [since]
        cmp     ax, 180
        jb      .wait
.seen:  movzx   eax, ah
        expect  eax, 6, "16h: another one"
        call    read
        expect  dword [carry], 1, "02h: says it once more"
        movzx   eax, ah
        expect  eax, 6, "02h: status 06h"
        mov     ah, 0
        mov     dl, 0
        call    disk
        call    read
        expect  dword [carry], 0, "02h: then it reads"
        movzx   eax, word [gs:510]
        expect  eax, 0xAA55, "02h: the boot sector"
        mov     ah, 0x16
        mov     dl, 0
        call    disk
        expect  dword [carry], 0, "16h: the same one now"
        done

disk:   int     0x13
        pushf
        mov     dword [carry], 0
        adc     byte [carry], 0
        popf
        ret
read:   push    es
        push    gs
        pop     es
        xor     bx, bx
        mov     ax, 0x0201
        mov     cx, 1
        mov     dx, 0
        call    disk
        pop     es
        ret
        align   4, db 0
carry:  dd      0
since:  dw      0
rom_end
