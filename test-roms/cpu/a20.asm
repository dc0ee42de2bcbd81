; a20.asm - address line 20: off, the second MiB is the first again. Port 92h bit 1.

%include "rom.inc"
start:  title   "the A20 gate"
        cli
        mov     ax, 0xFFFF
        mov     fs, ax                  ; FFFF:xxxx reaches 100000h + xxxx - 10h
        mov     dword [0x600], 0x11111111
        call    on
        mov     dword [fs:0x610], 0x22222222
        expect  dword [0x600], 0x11111111, "on: 100600h is not 600h"
        call    off
        expect  dword [fs:0x610], 0x11111111, "off: a read of 100600h is one of 600h"
        mov     dword [fs:0x610], 0x33333333
        expect  dword [0x600], 0x33333333, "off: so is a write"
        in      al, 0x92
        movzx   eax, al
        and     eax, 2
        expect  eax, 0, "port 92h tells"
        call    on
        expect  dword [fs:0x610], 0x22222222, "on again: the second MiB is as it was"
        expect  dword [0x600], 0x33333333, "and the first has what was written"

        ; A cached translation must not outlive the gate's change.
        mov     cx, 100
.flip:  call    off
        mov     eax, [fs:0x610]
        cmp     eax, 0x33333333
        jne     .bad
        call    on
        mov     eax, [fs:0x610]
        cmp     eax, 0x22222222
        jne     .bad
        loop    .flip
.bad:   movzx   ecx, cx
        expect  ecx, 0, "a hundred changes"

        ; The keyboard controller's output port, bit 1, by command D1h.
        mov     al, 0xDD
        call    output_port
        mov     eax, [fs:0x610]
        expect  eax, 0x33333333, "off by the keyboard controller"
        mov     al, 0xDF
        call    output_port
        mov     eax, [fs:0x610]
        expect  eax, 0x22222222, "on by the keyboard controller"
        done

on:     in      al, 0x92
        or      al, 2
        and     al, 0xFE                ; bit 0 would reset
        out     0x92, al
        ret
off:    in      al, 0x92
        and     al, 0xFC
        out     0x92, al
        ret
output_port:
        mov     ah, al
        call    .ready
        mov     al, 0xD1
        out     0x64, al
        call    .ready
        mov     al, ah
        out     0x60, al
.ready: in      al, 0x64
        test    al, 2
        jnz     .ready
        ret
rom_end
