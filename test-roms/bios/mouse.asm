; mouse.asm - INT 15h/C2, the BIOS's services for a PS/2 mouse, and its handler of IRQ 12. The
; packets are the ROM's own: command D3h of the 8042 puts a byte into the output buffer as if the
; mouse had sent it. IBM PS/2 and PC BIOS Interface Technical Reference; Ralf Brown's Interrupt
; List.

%include "rom.inc"

; c2 AX, BX: calls; leaves AX and BX there, and CF in [carry].
%macro c2 2
        mov     ax, %1
        mov     bx, %2
        int     0x15
        setc    [carry]
%endmacro
; status WANTED, "what": AH, with CF in bit 8.
%macro status 2+
        movzx   eax, ah
        mov     ah, [carry]
        expect  eax, %1, %2
%endmacro

start:  title   "PS/2 mouse by INT 15h/C2"
        int     0x11
        movzx   eax, ax
        and     eax, 4
        expect  eax, 4, "INT 11h: there is a pointing device"
        c2      0xC205, 0x0300
        status  0, "C205h: packets of 3 bytes"
        c2      0xC200, 0x0100
        status  0x105, "C200h: not without a handler"
        push    cs
        pop     es
        c2      0xC207, handler
        status  0, "C207h: a handler"
        c2      0xC201, 0
        mov     [saved_bx], bx
        status  0, "C201h: reset"
        movzx   ebx, word [saved_bx]
        expect  ebx, 0x00AA, "which gives the ID and AAh"
        c2      0xC202, 0x0600
        status  0, "C202h: 200 samples a second"
        c2      0xC203, 0x0300
        status  0, "C203h: 8 counts a millimetre"
        c2      0xC206, 0x0200
        status  0, "C206h: scaling 2:1"
        xor     ecx, ecx
        xor     edx, edx
        c2      0xC206, 0
        mov     [saved_bx], bx
        status  0, "C206h: status"
        movzx   ebx, byte [saved_bx]
        expect  ebx, 0x10, "scaling 2:1, not enabled"
        expect  ecx, 3, "resolution"
        expect  edx, 200, "rate"
        c2      0xC204, 0xFFFF
        mov     [saved_bx], bx
        status  0, "C204h: type"
        movzx   ebx, byte [saved_bx + 1]
        expect  ebx, 0, "a mouse without a wheel"
        c2      0xC202, 0x0700
        status  0x102, "C202h: a rate that is none"
        c2      0xC203, 0x0400
        status  0x102, "C203h: a resolution that is none"
        c2      0xC205, 0x0900
        status  0x102, "C205h: packets of 9 bytes"
        c2      0xC208, 0
        status  0x101, "C208h: no such function"

        c2      0xC200, 0x0100
        status  0, "C200h: enabled"
        mov     al, 0x09
        call    send
        mov     al, 0x05
        call    send
        movzx   eax, word [calls]
        expect  eax, 0, "no call before the packet is whole"
        mov     al, 0xFE
        call    send
        movzx   eax, word [calls]
        expect  eax, 1, "the handler is called once a packet"
        expect  dword [got + 4], 0x00090005, "status and X on its stack"
        expect  dword [got], 0x00FE0000, "Y, and no wheel"
        mov     al, 0x08
        call    send
        c2      0xC203, 0x0200
        status  0, "a command between two bytes of a packet"
        mov     al, 0x0A
        call    send
        mov     al, 0x01
        call    send
        mov     al, 0x02
        call    send
        expect  dword [got + 4], 0x000A0001, "starts a packet anew"

        c2      0xC205, 0x0400
        status  0, "C205h: packets of 4 bytes"
        c2      0xC204, 0
        mov     [saved_bx], bx
        movzx   ebx, byte [saved_bx + 1]
        expect  ebx, 3, "turn the wheel on"
        c2      0xC200, 0x0100
        status  0, "and the handler stays"
        mov     word [calls], 0
        mov     al, 0x08
        call    send
        mov     al, 0x00
        call    send
        call    send
        mov     al, 0x0F
        call    send
        movzx   eax, word [calls]
        expect  eax, 1, "four bytes are one packet"
        expect  dword [got], 0x0000000F, "the wheel is the last word"

        c2      0xC200, 0
        status  0, "C200h: disabled"
        mov     word [calls], 0
        xor     bx, bx
        mov     es, bx
        c2      0xC207, 0
        status  0, "C207h: no handler any more"
        c2      0xC200, 0x0100
        status  0x105, "so it cannot be enabled"
        mov     ah, 5                   ; the keyboard is as it was
        mov     cx, 0x1E61
        int     0x16
        mov     ah, 0
        int     0x16
        movzx   eax, ax
        expect  eax, 0x1E61, "INT 16h goes on"
        in      al, 0x21
        and     eax, 2
        expect  eax, 0, "and so does IRQ 1"
        done

send:   push    ax                      ; AL from the mouse; waits until IRQ 12 has been served
.full:  in      al, 0x64
        test    al, 3
        jnz     .full
        mov     al, 0xD3
        out     0x64, al
.busy:  in      al, 0x64
        test    al, 2
        jnz     .busy
        pop     ax
        out     0x60, al
        push    ax
.taken: in      al, 0x64
        test    al, 1
        jnz     .taken
        pop     ax
        ret

handler:
        push    bp
        push    eax
        mov     bp, sp
        mov     eax, [bp + 10]
        mov     [cs:got], eax
        mov     eax, [bp + 14]
        mov     [cs:got + 4], eax
        inc     word [cs:calls]
        pop     eax
        pop     bp
        retf

        align   4, db 0
carry:  dd      0
saved_bx: dd    0
calls:  dd      0
got:    dq      0
rom_end
