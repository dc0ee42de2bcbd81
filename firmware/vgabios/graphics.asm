; Glassbox VGA BIOS: graphics modes: characters, scrolling, pixels (AH=0Ch, 0Dh).
; Source: IBM VGA technical reference (write modes, set/reset, colour compare).
;
; Layouts: 1 CGA two bits a pixel, 2 CGA one bit, 3 planar, 4 a byte a pixel.

; GR n, v: writes a graphics controller register. Clobbers AX, DX.
%macro GR 2
        mov     dx, 3CEh
        mov     ax, (%2) << 8 | (%1)
        out     dx, ax
%endmacro

; line: AX = y, CH = layout, BH = page; out ES:DI = its first byte. Keeps all else.
line:   push    ax
        push    bx
        push    dx
        mov     dx, 0B800h
        cmp     ch, 3
        jae     .linear
        mov     es, dx
        mov     bl, al
        shr     ax, 1                   ; even lines first, odd ones 2000h later
        imul    di, ax, 80
        test    bl, 1
        jz      .end
        add     di, 2000h
        jmp     .end
.linear:mov     dx, 0A000h
        mov     es, dx
        movzx   di, byte [B_COLS]
        je      .planar                 ; flags of the comparison
        shl     di, 3
.planar:imul    di, ax
        movzx   ax, bh
        mul     word [B_PAGESIZE]
        add     di, ax
.end:   pop     dx
        pop     bx
        pop     ax
        ret

; glyph: AL = character, CH = layout; out FS:SI = its rows. Clobbers AX.
glyph:  push    ds
        movzx   si, byte [B_HEIGHT]
        mov     ah, 0
        push    word 0
        pop     ds
        cmp     ch, 2
        ja      .full
        test    al, al
        jns     .full
        and     al, 7Fh
        shl     ax, 3
        lfs     si, [1Fh*4]
        add     si, ax
        pop     ds
        ret
.full:  push    dx
        mul     si
        pop     dx
        lfs     si, [43h*4]
        add     si, ax
        pop     ds
        ret

; gfx_char: AL = character, BL = colour (bit 7: XOR), BH = page, CX = count, DX = row and column.
gfx_char:
        push    fs
        push    ax
        call    layout
        mov     ah, al
        pop     si                      ; SI low = character
        push    dx
        push    ax
        cmp     ah, 3
        jne     .ready
        GR      5, 2                    ; write mode 2: the byte is a colour
        test    bl, 80h
        jz      .ready
        GR      3, 18h                  ; XOR
.ready: pop     ax
        pop     dx
.next:  push    cx
        push    dx
        push    si
        mov     ch, ah
        push    ax
        mov     ax, si
        call    glyph
        mov     cl, [B_HEIGHT]
        mov     al, dh
        mul     cl
.row:   call    line
        call    put8
        inc     ax
        inc     si
        dec     cl
        jnz     .row
        pop     ax
        pop     si
        pop     dx
        pop     cx
        inc     dl
        loop    .next
        cmp     ah, 3
        jne     .end
        GR      5, 0
        GR      3, 0
        GR      8, 0FFh
.end:   pop     fs
        ret

; put8: eight pixels of FS:[SI] in colour BL at column DL of the line at ES:DI. Keeps all but DI.
put8:   pusha
        mov     dh, 0
        mov     ah, [fs:si]
        cmp     ch, 3
        je      .planar
        ja      .bytes
        cmp     ch, 2
        je      .mono
        add     di, dx                  ; two bits a pixel: a word of eight pixels
        add     di, dx
        mov     al, bl
        and     al, 3
        mov     cx, 8
        xor     dx, dx
.pair:  shl     dx, 2
        shl     ah, 1
        jnc     .pair0
        or      dl, al
.pair0: loop    .pair
        xchg    dh, dl                  ; the left pixels are the low byte
        test    bl, 80h
        jz      .pairs
        xor     dx, [es:di]
.pairs: mov     [es:di], dx
        jmp     .end
.mono:  add     di, dx
        test    bl, 1
        jnz     .mono1
        mov     ah, 0
.mono1: test    bl, 80h
        jz      .mono2
        xor     ah, [es:di]
.mono2: mov     [es:di], ah
        jmp     .end
.bytes: shl     dx, 3
        add     di, dx
        mov     cx, 8
.byte:  mov     al, 0
        shl     ah, 1
        jnc     .back
        mov     al, bl
.back:  stosb
        loop    .byte
        jmp     .end
.planar:add     di, dx
        mov     dx, 3CEh
        mov     al, 8                   ; bit mask: the glyph in the colour
        out     dx, ax
        mov     cl, [es:di]             ; load the latches
        mov     [es:di], bl
        test    bl, 80h
        jnz     .end
        not     ah                      ; and the rest in black
        out     dx, ax
        mov     cl, [es:di]
        mov     byte [es:di], 0
.end:   popa
        ret

; gfx_scroll: AL = lines, AH = 1 for down, BH = fill, CX = top left, DX = bottom right (checked).
gfx_scroll:
        push    bp
        mov     bp, sp
        sub     sp, 14                  ; -2 layout, -4 width, -6 left byte, -8 lines to move, -10 lines to fill,
        mov     [bp-12], ax             ; -12 direction in the high byte, -14 fill
        mov     [bp-14], bx
        call    layout
        mov     ah, 0
        mov     [bp-2], ax
        mov     si, ax
        mov     bl, [cs:.width-1+si]    ; bytes a character
        mov     al, cl
        mul     bl
        mov     [bp-6], ax
        mov     al, dl
        sub     al, cl
        inc     al
        mul     bl
        mov     [bp-4], ax
        mov     al, dh
        sub     al, ch
        inc     al
        mov     bl, [bp-12]
        test    bl, bl
        jz      .all
        cmp     bl, al
        jbe     .some
.all:   mov     bl, al
.some:  mov     bh, [B_HEIGHT]
        mul     bh                      ; lines of the window
        push    ax
        mov     al, bl
        mul     bh
        mov     [bp-10], ax
        pop     si
        sub     si, ax
        mov     [bp-8], si
        mov     si, ax                  ; SI = distance, DI = step, AX = first target line
        mov     al, ch
        mul     bh
        mov     di, 1
        cmp     byte [bp-11], 0
        je      .go
        mov     al, dh
        inc     al
        mul     bh
        dec     ax
        neg     di
        neg     si
.go:    mov     bh, [B_PAGE]
        mov     ch, [bp-2]
        cmp     ch, 3
        jne     .move
        push    ax
        GR      5, 1                    ; write mode 1: the latches
        pop     ax
.move:  cmp     word [bp-8], 0
        je      .fill
        dec     word [bp-8]
        push    di
        push    ax
        add     ax, si
        call    line
        mov     bx, di                  ; source offset; DS is set below
        pop     ax
        push    bx
        mov     bh, [B_PAGE]
        call    line
        pop     bx
        push    si
        push    cx
        push    ds
        mov     si, bx
        mov     cx, [bp-6]
        add     si, cx
        add     di, cx
        mov     cx, [bp-4]
        push    es
        pop     ds
        rep     movsb
        pop     ds
        pop     cx
        pop     si
        pop     di
        add     ax, di
        mov     bh, [B_PAGE]
        jmp     .move
.fill:  cmp     ch, 3
        jne     .blank
        push    ax
        GR      5, 2
        GR      8, 0FFh
        pop     ax
.blank: push    di
        push    ax
        mov     bh, [B_PAGE]
        call    line
        add     di, [bp-6]
        push    cx
        mov     al, [bp-13]
        mov     cx, [bp-4]
        rep     stosb
        pop     cx
        pop     ax
        pop     di
        add     ax, di
        dec     word [bp-10]
        jnz     .blank
        cmp     ch, 3
        jne     .end
        GR      5, 0
.end:   mov     sp, bp
        pop     bp
        ret
.width  db      2, 1, 1, 8

; gfx_char_read: BH = page, DX = position: AL = the character whose shape is there, 0 if none; AH = 0.
gfx_char_read:
        push    fs
        push    bp
        mov     bp, sp
        sub     sp, 16                  ; what is on the screen
        call    layout
        mov     ch, al
        cmp     al, 3
        jne     .ready
        push    dx
        GR      5, 8                    ; read mode 1: which pixels are colour 0
        GR      2, 0
        GR      7, 0Fh
        pop     dx
.ready: mov     al, dh
        mov     cl, [B_HEIGHT]
        mul     cl
        mov     si, 0
.row:   call    line
        call    get8
        mov     [bp+si-16], bl
        inc     ax
        inc     si
        dec     cl
        jnz     .row
        cmp     ch, 3
        jne     .find
        GR      5, 0
.find:  push    ss
        pop     es
        xor     ax, ax
.try:   push    ax
        call    glyph
        pop     ax
        lea     di, [bp-16]
        mov     cl, [B_HEIGHT]
.cmp:   mov     ah, [fs:si]
        cmp     ah, [es:di]
        jne     .next
        inc     si
        inc     di
        dec     cl
        jnz     .cmp
        jmp     .found
.next:  inc     al
        jnz     .try
.found: mov     sp, bp
        pop     bp
        pop     fs
        mov     ah, 0
        mov     [bp+F_AX], ax
        ret

; get8: BL = the pixels at column DL of the line at ES:DI that are not colour 0. Keeps all else but DI.
get8:   push    ax
        push    cx
        push    dx
        mov     dh, 0
        cmp     ch, 3
        je      .planar
        ja      .bytes
        cmp     ch, 2
        je      .mono
        add     di, dx
        add     di, dx
        mov     dx, [es:di]
        xchg    dh, dl
        mov     cx, 8
.pair:  mov     al, dh
        and     al, 0C0h
        cmp     al, 1                   ; CF when it is 0
        cmc
        rcl     bl, 1
        shl     dx, 2
        loop    .pair
        jmp     .end
.bytes: shl     dx, 3
        add     di, dx
        mov     cx, 8
.byte:  cmp     byte [es:di], 1
        cmc
        rcl     bl, 1
        inc     di
        loop    .byte
        jmp     .end
.mono:  add     di, dx
        mov     bl, [es:di]
        jmp     .end
.planar:add     di, dx
        mov     bl, [es:di]
        not     bl
.end:   pop     dx
        pop     cx
        pop     ax
        ret

; pixel: BH = page, CX = x, DX = y; out ES:DI = byte, CL = shift or bit mask in AH, CH = layout.
pixel:  push    ax
        mov     si, cx
        call    layout
        mov     ch, al
        mov     ax, dx
        call    line
        pop     ax
        mov     dx, si
        cmp     ch, 4
        je      .byte
        cmp     ch, 1
        je      .pair
        mov     cl, dl
        and     cl, 7
        shr     dx, 3
        add     di, dx
        mov     ah, 80h
        shr     ah, cl
        ret
.pair:  shr     dx, 2
        add     di, dx
        mov     dx, si
        not     dl
        and     dl, 3
        shl     dl, 1
        mov     cl, dl
        mov     ah, 3
        shl     ah, cl
        ret
.byte:  add     di, dx
        ret

; AH=0C: AL = colour (bit 7: XOR, but in mode 13h), BH = page, CX, DX = x, y.
pixel_write:
        push    ax
        call    layout
        test    al, al
        pop     ax
        jz      nothing
        call    pixel
        cmp     ch, 3
        je      .planar
        ja      .byte
        cmp     ch, 1
        je      .pair
        test    al, 1                   ; one bit: colour 1 sets it
        mov     bl, 0
        jz      .merge
        mov     bl, ah
        jmp     .merge
.pair:  mov     bl, al
        and     bl, 3
        shl     bl, cl
.merge: test    al, 80h
        jnz     .xor
        not     ah
        and     [es:di], ah
        or      [es:di], bl
        ret
.xor:   xor     [es:di], bl
        ret
.byte:  mov     [es:di], al
        ret
.planar:mov     bl, al
        mov     bh, ah
        GR      5, 2
        test    bl, 80h
        jz      .mask
        GR      3, 18h
.mask:  mov     al, 8
        mov     ah, bh
        out     dx, ax
        mov     al, [es:di]
        mov     [es:di], bl
        GR      5, 0
        GR      3, 0
        GR      8, 0FFh
        ret

; AH=0D: AL = colour at CX, DX of page BH.
pixel_read:
        call    layout
        test    al, al
        jz      nothing
        call    pixel
        mov     al, [es:di]
        cmp     ch, 3
        je      .planar
        ja      .end
        and     al, ah
        cmp     ch, 1
        je      .pair
        cmp     al, 1
        sbb     al, al
        inc     al
        jmp     .end
.pair:  shr     al, cl
.end:   mov     [bp+F_AL], al
        ret
.planar:mov     bh, ah
        mov     bl, 0
        mov     cx, 3
        mov     dx, 3CEh
.plane: mov     ah, cl
        mov     al, 4                   ; read map select
        out     dx, ax
        shl     bl, 1
        test    [es:di], bh
        jz      .zero
        or      bl, 1
.zero:  dec     cx
        jns     .plane
        mov     al, bl
        jmp     .end
