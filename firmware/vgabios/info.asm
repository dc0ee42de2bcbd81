; Glassbox VGA BIOS: AH=12h (alternate select), 1Ah (display combination), 1Bh (state), save pointer table.
; Source: Ralf Brown's Interrupt List, INT 10h/12xx, 1Axx, 1Bxx (tables 00037-00041).

alternate:
        cmp     bl, 10h
        je      .info
        cmp     bl, 20h
        je      .done
        cmp     bl, 30h
        jb      nothing
        cmp     bl, 36h
        ja      nothing
        movzx   si, bl
        sub     si, 30h
        shl     si, 1
        jmp     [cs:.table+si]
.table  dw      .lines, .palette, .access, .summing, .emulation, .done, .refresh
.info:  mov     byte [bp+F_BH], 0       ; colour
        cmp     byte [B_CRTC], 0D4h
        je      .size
        inc     byte [bp+F_BH]
.size:  mov     byte [bp+F_BL], 3       ; 256 KiB
        mov     byte [bp+F_CH], 0       ; feature bits
        mov     al, [B_SWITCHES]
        and     al, 0Fh
        mov     [bp+F_CL], al
        ret
.done:  mov     byte [bp+F_AL], 12h
        ret
.lines: mov     ah, 80h                 ; 200
        cmp     al, 1
        jb      .lines1
        mov     ah, 0                   ; 350
        je      .lines1
        mov     ah, 10h                 ; 400
.lines1:and     byte [B_VGA], 6Fh
        or      [B_VGA], ah
        jmp     .done
.palette:
        mov     ah, 8                   ; AL=1: no palette with a mode
        jmp     .bit
.summing:
        xor     al, 1
        mov     ah, 2
.bit:   not     ah
        and     [B_VGA], ah
        not     ah
        test    al, 1
        jz      .done
        or      [B_VGA], ah
        jmp     .done
.access:mov     dx, 3CCh                ; AL=0: CPU may reach display memory
        mov     ah, al
        in      al, dx
        and     al, 0FDh
        test    ah, 1
        jnz     .misc
        or      al, 2
.misc:  mov     dl, 0C2h
        out     dx, al
        jmp     .done
.emulation:
        and     byte [B_VIDEO], 0FEh
        and     al, 1
        or      [B_VIDEO], al
        jmp     .done
.refresh:                               ; AL=1: screen off
        mov     ah, al
        mov     dx, 3C4h
        mov     al, 1
        out     dx, al
        inc     dx
        in      al, dx
        and     al, 0DFh
        test    ah, 1
        jz      .screen
        or      al, 20h
.screen:out     dx, al
        jmp     .done

; AH=1A: AL=0: BL = active display code; AL=1: sets it.
display_code:
        cmp     al, 1
        ja      nothing
        je      .set
        mov     al, [B_DCC]
        cmp     al, 0Bh
        jne     .code
        mov     al, 8                   ; VGA with a colour display
.code:  mov     ah, 0
        mov     [bp+F_BX], ax
        jmp     .done
.set:   mov     [B_DCC], bl
.done:  mov     byte [bp+F_AL], 1Ah
        ret

; AH=1B, BX=0: 64 bytes at ES:DI.
state_info:
        test    bx, bx
        jnz     nothing
        mov     bx, di
        mov     ax, static_table
        stosw
        mov     ax, cs
        stosw
        mov     si, B_MODE              ; 04-21h: 40:49 to 40:66
        mov     cx, 30
        rep     movsb
        mov     al, [B_ROWS]            ; 22h
        inc     al
        stosb
        mov     ax, [B_HEIGHT]
        stosw
        mov     al, 8                   ; 25h: active display, 26h: the other
        stosb
        mov     al, 0
        stosb
        movzx   si, byte [B_MODE]
        shl     si, 1
        mov     ax, [cs:.colours+si]    ; 27h: colours (0 for monochrome)
        stosw
        mov     al, [B_MODE]            ; 29h: pages
        mov     cl, 8
        cmp     al, 4
        jb      .pages
        cmp     al, 7
        je      .pages
        cmp     al, 0Dh
        je      .pages
        mov     cl, 4
        cmp     al, 0Eh
        je      .pages
        mov     cl, 2
        cmp     al, 0Fh
        je      .pages
        cmp     al, 10h
        je      .pages
        mov     cl, 1
.pages: mov     al, cl
        stosb
        mov     ax, [B_HEIGHT]          ; 2Ah: scan lines: 0 = 200, 1 = 350, 2 = 400, 3 = 480
        mov     cl, [B_ROWS]
        inc     cl
        mul     cl
        mov     cl, 0
        cmp     ax, 200
        jbe     .scan
        inc     cx
        cmp     ax, 350
        jbe     .scan
        inc     cx
        cmp     ax, 400
        jbe     .scan
        inc     cx
.scan:  mov     al, cl
        stosb
        xor     ax, ax                  ; 2Bh, 2Ch: character blocks
        stosw
        mov     al, [B_VGA]             ; 2Dh: state
        and     al, 0Fh
        or      al, 20h                 ; blinking
        stosb
        mov     al, 0
        stosb
        stosb
        stosb
        mov     al, 3                   ; 31h: 256 KiB
        stosb
        mov     cx, 14                  ; 32h-3Fh
        mov     al, 0
        rep     stosb
        mov     byte [bp+F_AL], 1Bh
        ret
.colours dw     16, 16, 16, 16, 4, 4, 2, 0, 0, 0, 0, 0, 0, 16, 16, 0, 16, 2, 16, 256

static_table:
        db      0FFh, 0E0h, 0Fh, 0      ; modes 0-7, 0D-0F, 10-13
        db      0, 0, 0
        db      7                       ; 200, 350, 400 lines
        db      2                       ; character blocks at once
        db      8                       ; and in all
        db      0FFh, 0Eh               ; functions
        dw      0
        db      0, 0

save_pointers:                          ; 40:A8
        dw      parameters, 0C000h
        dw      0, 0, 0, 0, 0, 0
        dw      secondary, 0C000h
        dw      0, 0, 0, 0
secondary:
        dw      26
        dw      dcc_table, 0C000h
        times   10 dw 0
dcc_table:
        db      16, 1, 8, 0
        dw      0, 0100h, 0200h, 0102h, 0400h, 0104h, 0500h, 0502h
        dw      0600h, 0601h, 0605h, 0800h, 0801h, 0700h, 0702h, 0706h
