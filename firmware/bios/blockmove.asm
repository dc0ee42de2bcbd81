; Glassbox BIOS: INT 15h/87: moves CX words by way of 16-bit protected mode.
; Source: IBM PC/AT Technical Reference (the layout of the caller's table); Intel 80386 Programmer's Reference Manual.
;
; ES:SI = six descriptors: 00 null, 08 this table, 10 source, 18 target, 20 code, 28 stack. The caller fills 10 and 18.
int15_move:
        mov     ah, 86h
        smsw    dx
        test    dl, 1
        jnz     .fail                   ; virtual 8086 mode: its monitor has to do this
        cli
        in      al, 92h
        push    ax
        or      al, 2
        and     al, 0FEh
        out     92h, al
        mov     es, [bp+F_ES]
        mov     si, [bp+F_SI]
        mov     cx, [bp+F_CX]
        movzx   eax, word [bp+F_ES]
        shl     eax, 4
        movzx   edx, si
        add     eax, edx
        mov     word [es:si+8], 2Fh
        mov     [es:si+0Ah], eax
        mov     byte [es:si+0Dh], 93h
        mov     word [es:si+0Eh], 0
        mov     dword [es:si+20h], 0000FFFFh
        mov     dword [es:si+24h], 00009B0Fh
        mov     dx, ss
        movzx   eax, dx
        shl     eax, 4
        mov     word [es:si+28h], 0FFFFh
        mov     [es:si+2Ah], eax
        mov     byte [es:si+2Dh], 93h
        mov     word [es:si+2Eh], 0
        lgdt    [es:si+8]               ; the 16-bit form takes 24 bits of base
        mov     eax, cr0
        or      al, 1
        mov     cr0, eax
        jmp     20h:.protected
.protected:
        mov     ax, 10h
        mov     ds, ax
        mov     al, 18h
        mov     es, ax
        mov     al, 28h
        mov     ss, ax
        xor     si, si
        xor     di, di
        shr     cx, 1
        rep     movsd
        adc     cx, cx
        rep     movsw
        mov     ds, ax                  ; limits that real mode expects
        mov     es, ax
        mov     eax, cr0
        and     al, 0FEh
        mov     cr0, eax
        jmp     0F000h:.real
.real:  mov     ss, dx
        pop     ax
        out     92h, al                 ; A20 as it was
        SET_ZF
        jmp     int15_ok
.fail:  mov     [bp+F_AH], ah
        jmp     int15_fail
