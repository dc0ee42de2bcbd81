; Glassbox VGA BIOS: AH=00h, setting a mode.
; Source: IBM VGA technical reference.

; lookup_mode: AL = mode; out SI = its entry in mode_index, CF set if there is none.
lookup_mode:
        cmp     al, 13h
        ja      .none
        movzx   si, al
        imul    si, si, 3
        add     si, mode_index
        cmp     byte [cs:si], 0FFh
        je      .none
        clc
        ret
.none:  stc
        ret

; layout: out AL = memory layout of the present mode.
layout: push    si
        mov     al, [B_MODE]
        call    lookup_mode
        mov     al, [cs:si+1]
        pop     si
        ret

; set_mode: AL = mode; bit 7 keeps the display memory.
set_mode:
        mov     ah, al
        and     al, 7Fh
        call    lookup_mode
        jnc     .known
        ret
.known: call    dispi_off
        and     byte [B_VIDEO], 7Fh
        and     ah, 80h
        or      [B_VIDEO], ah
        mov     [B_MODE], al
        mov     cl, 30h                 ; what AL returns
        cmp     al, 6
        jb      .al
        mov     cl, 3Fh
        je      .al
        mov     cl, 30h
        cmp     al, 7
        je      .al
        mov     cl, 20h
.al:    mov     [bp+F_AL], cl
        push    si
        movzx   bx, byte [cs:si]
        shl     bx, 6
        add     bx, parameters          ; CS:BX = table
        mov     dx, 3D4h
        mov     ch, 20h
        test    byte [cs:bx+9], 1
        jnz     .colour
        mov     dl, 0B4h
        mov     ch, 30h
.colour:mov     [B_CRTC], dx
        mov     al, [B_EQUIP]
        and     al, 0CFh
        or      al, ch
        mov     [B_EQUIP], al
        mov     al, [cs:bx]
        mov     ah, 0
        mov     [B_COLS], ax
        mov     al, [cs:bx+1]
        mov     [B_ROWS], al
        mov     al, [cs:bx+2]
        mov     [B_HEIGHT], ax
        mov     ax, [cs:bx+3]
        mov     [B_PAGESIZE], ax
        xor     eax, eax
        mov     [B_START], ax
        mov     [B_PAGE], al
        mov     [B_CURSOR], eax
        mov     [B_CURSOR+4], eax
        mov     [B_CURSOR+8], eax
        mov     [B_CURSOR+12], eax
        mov     ah, [cs:bx+10+0Ah]
        mov     al, [cs:bx+10+0Bh]
        mov     [B_SHAPE], ax
        mov     byte [B_PALETTE], 30h
        call    program
        pop     si
        test    byte [B_VGA], 8         ; default palette loading is off?
        jnz     .clear
        push    bx
        push    si
        call    load_dac
        pop     si
        pop     bx
.clear: mov     al, [B_VIDEO]
        test    al, al
        js      .fonts
        call    clear_memory
.fonts: cmp     byte [cs:si+1], 0
        jne     .graphics
        mov     al, 8                   ; mode control register as the CGA had it
        mov     si, font16
        mov     cl, 16
        push    bx
        mov     bl, 0
        call    load_rom_font
        pop     bx
.graphics:
        movzx   bx, byte [B_MODE]
        cmp     bl, 8
        jae     .vectors
        mov     al, [cs:.modereg+bx]
        mov     [B_MODEREG], al
.vectors:
        push    ds
        xor     ax, ax
        mov     dx, font16
        cmp     byte [B_HEIGHT], 16
        je      .set
        mov     dx, font14
        cmp     byte [B_HEIGHT], 14
        je      .set
        mov     dx, font8
.set:   mov     ds, ax
        mov     [43h*4], dx
        mov     [43h*4+2], cs
        mov     word [1Fh*4], font8+1024
        mov     [1Fh*4+2], cs
        pop     ds
        mov     dx, 3C6h
        mov     al, 0FFh
        out     dx, al
        call    attr_on
        mov     dx, 3C4h                ; screen on
        mov     al, 1
        out     dx, al
        inc     dx
        in      al, dx
        and     al, 0DFh
        out     dx, al
        ret
.modereg db     2Ch, 28h, 2Dh, 29h, 2Ah, 2Eh, 1Eh, 29h

; program: CS:BX = parameters: writes every register. The screen stays off (sequencer 1, bit 5).
program:
        push    bx
        mov     dx, 3C4h
        mov     ax, 0100h               ; synchronous reset
        out     dx, ax
        mov     ah, [cs:bx+5]
        or      ah, 20h
        mov     al, 1
        out     dx, ax
        mov     si, 6
        mov     al, 2
.seq:   mov     ah, [cs:bx+si]
        out     dx, ax
        inc     si
        inc     al
        cmp     al, 5
        jb      .seq
        mov     al, [cs:bx+9]
        mov     dl, 0C2h
        out     dx, al
        mov     dl, 0C4h
        mov     ax, 0300h
        out     dx, ax
        mov     dx, [B_CRTC]
        mov     ah, [cs:bx+10+11h]      ; unlock CRTC 0-7
        and     ah, 7Fh
        mov     al, 11h
        out     dx, ax
        mov     si, 10
        mov     al, 0
.crtc:  mov     ah, [cs:bx+si]
        out     dx, ax
        inc     si
        inc     al
        cmp     al, 19h
        jb      .crtc
        call    attr_reset
        mov     dx, 3C0h
        mov     ah, 0
.attr:  mov     al, ah
        out     dx, al
        mov     al, [cs:bx+si]
        out     dx, al
        inc     si
        inc     ah
        cmp     ah, 14h
        jb      .attr
        mov     al, 14h                 ; colour select
        out     dx, al
        mov     al, 0
        out     dx, al
        mov     dl, 0CEh
        mov     al, 0
.gr:    mov     ah, [cs:bx+si]
        out     dx, ax
        inc     si
        inc     al
        cmp     al, 9
        jb      .gr
        pop     bx
        ret

; attr_reset: the attribute controller expects an index next. attr_on: palette back to the display. Clobber AX, DX.
attr_reset:
        mov     dx, [B_CRTC]
        add     dx, 6
        in      al, dx
        ret
attr_on:call    attr_reset
        mov     dx, 3C0h
        mov     al, 20h
        out     dx, al
        ret

; clear_memory: CS:SI = mode_index entry.
clear_memory:
        push    es
        mov     di, 0B800h
        mov     ax, 0720h
        mov     cx, 4000h
        cmp     byte [cs:si+1], 1
        jb      .text
        xor     ax, ax
        cmp     byte [cs:si+1], 3
        jb      .fill
        mov     di, 0A000h
        mov     cx, 8000h
        jmp     .fill
.text:  cmp     byte [B_MODE], 7
        jne     .fill
        mov     di, 0B000h
.fill:  mov     es, di
        xor     di, di
        rep     stosw
        pop     es
        ret

; load_dac: CS:SI = mode_index entry: the mode's palette.
load_dac:
        mov     dx, 3C8h
        mov     al, 0
        out     dx, al
        inc     dx
        mov     al, [cs:si+2]
        cmp     al, 3
        je      .vga
        xor     cx, cx
        cmp     al, 1
        je      .cga
        ja      .grey
; EGA: bits 0-2 are two thirds of blue, green, red; bits 3-5 one third.
.ega:   mov     ax, 0420h
        call    .part
        mov     ax, 0210h
        call    .part
        mov     ax, 0108h
        call    .part
        inc     cl
        cmp     cl, 64
        jb      .ega
        jmp     .rest
; AH = mask of the two thirds, AL = of the third, in CL.
.part:  xor     bl, bl
        test    cl, ah
        jz      .p1
        mov     bl, 2Ah
.p1:    test    cl, al
        jz      .p2
        add     bl, 15h
.p2:    mov     al, bl
        out     dx, al
        ret
; CGA: bits 0-2 blue, green, red, bit 4 intensity; 6 is brown.
.cga:   mov     ax, 0410h
        call    .part
        mov     ax, 0210h
        mov     bl, cl
        and     bl, 17h
        cmp     bl, 6
        jne     .green
        mov     al, 15h
        out     dx, al
        jmp     .blue
.green: call    .part
.blue:  mov     ax, 0110h
        call    .part
        inc     cl
        cmp     cl, 64
        jb      .cga
        jmp     .rest
; Monochrome: 08 and 10 give normal and bright.
.grey:  mov     al, 0
        test    cl, 18h
        jz      .g1
        mov     al, 2Ah
        test    cl, 10h
        jz      .g1
        mov     al, 3Fh
.g1:    out     dx, al
        out     dx, al
        out     dx, al
        inc     cl
        cmp     cl, 64
        jb      .grey
.rest:  mov     cx, 192*3               ; the rest of the DAC is black
        mov     al, 0
.zero:  out     dx, al
        loop    .zero
        ret
; Mode 13h: 16 CGA colours, 16 greys, then nine rings of 24 hues: three brightnesses of three saturations.
.vga:   xor     cx, cx
.v16:   mov     ax, 0408h
        call    .part
        mov     ax, 0208h
        cmp     cl, 6
        jne     .vg
        mov     al, 15h
        out     dx, al
        jmp     .vb
.vg:    call    .part
.vb:    mov     ax, 0108h
        call    .part
        inc     cl
        cmp     cl, 16
        jb      .v16
        mov     si, .greys
.v32:   mov     al, [cs:si]
        out     dx, al
        out     dx, al
        out     dx, al
        inc     si
        cmp     si, .greys+16
        jb      .v32
        mov     di, .levels             ; five levels a ring
.ring:  xor     bx, bx
.hue:   mov     al, [cs:.wheel+bx]
        call    .level
        lea     si, [bx+16]             ; green follows red by 8 of 24 hues
        call    .wrap
        lea     si, [bx+8]
        call    .wrap
        inc     bx
        cmp     bx, 24
        jb      .hue
        add     di, 5
        cmp     di, .levels_end
        jb      .ring
        mov     cx, 8*3
        mov     al, 0
        jmp     .zero
.wrap:  cmp     si, 24
        jb      .in
        sub     si, 24
.in:    mov     al, [cs:.wheel+si]
.level: movzx   si, al
        add     si, di
        mov     al, [cs:si]
        out     dx, al
        ret
.greys  db      00h,05h,08h,0Bh,0Eh,11h,14h,18h,1Ch,20h,24h,28h,2Dh,32h,38h,3Fh
.wheel  db      0,1,2,3,4,4,4,4,4,4,4,4,4,3,2,1,0,0,0,0,0,0,0,0
.levels db      00h,10h,1Fh,2Fh,3Fh, 1Fh,27h,2Fh,37h,3Fh, 2Dh,31h,36h,3Ah,3Fh
        db      00h,07h,0Eh,15h,1Ch, 0Eh,11h,15h,18h,1Ch, 14h,16h,18h,1Ah,1Ch
        db      00h,04h,08h,0Ch,10h, 08h,0Ah,0Ch,0Eh,10h, 0Bh,0Ch,0Dh,0Fh,10h
.levels_end:
