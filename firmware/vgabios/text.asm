; Glassbox VGA BIOS: cursor, pages, scrolling, characters, teletype and strings (AH=01h-03h, 05h-0Ah, 0Eh, 13h).
; Source: Ralf Brown's Interrupt List, INT 10h.

; crtc_pair: AL = index of the high byte, BX = value for it and the next register. Clobbers AX, DX.
crtc_pair:
        mov     dx, [B_CRTC]
        mov     ah, bh
        out     dx, ax
        inc     al
        mov     ah, bl
        out     dx, ax
        ret

; AH=01: CX = start and end line. Values meant for a cell of 8 lines are scaled, unless emulation is off.
cursor_shape:
        mov     [B_SHAPE], cx
        mov     bx, cx
        test    byte [B_VIDEO], 1
        jnz     .set
        mov     dl, [B_HEIGHT]
        cmp     dl, 8
        jbe     .set
        test    bh, 60h
        jnz     .set
        cmp     bl, 8
        jae     .set
        cmp     bh, 8
        jae     .set
        mov     al, bl
        inc     al
        mul     dl
        shr     ax, 3
        mov     dh, al                  ; end + 1
        mov     cl, bh
        inc     cl
        cmp     cl, bl
        je      .line
        mov     al, cl
        mul     dl
        shr     ax, 3
        dec     al
        mov     bh, al
        jmp     .end
.line:  mov     bh, dh
        sub     bh, 2
.end:   mov     bl, dh
        dec     bl
.set:   mov     al, 0Ah
        jmp     crtc_pair

; AH=02: BH = page, DX = row and column.
cursor_set:
        movzx   si, bh
        and     si, 7
        shl     si, 1
        mov     [B_CURSOR+si], dx
        cmp     bh, [B_PAGE]
        jne     nothing
; cursor_show: DX = position on the active page, to the CRTC. Clobbers AX, BX, DX.
cursor_show:
        call    layout
        test    al, al
        jnz     nothing
        mov     al, [B_COLS]
        mul     dh
        mov     dh, 0
        add     ax, dx
        mov     bx, [B_START]
        shr     bx, 1
        add     bx, ax
        mov     al, 0Eh
        jmp     crtc_pair

; AH=03: BH = page; DX = position, CX = shape.
cursor_get:
        movzx   si, bh
        and     si, 7
        shl     si, 1
        mov     dx, [B_CURSOR+si]
        mov     [bp+F_DX], dx
        mov     dx, [B_SHAPE]
        mov     [bp+F_CX], dx
        ret

; AH=05: AL = page.
page_set:
        cmp     al, 7
        ja      nothing
        mov     [B_PAGE], al
        movzx   bx, al
        mov     ax, [B_PAGESIZE]
        mul     bx
        mov     [B_START], ax
        push    bx
        mov     bx, ax
        call    layout
        test    al, al
        jnz     .bytes
        shr     bx, 1
.bytes: mov     al, 0Ch
        call    crtc_pair
        pop     bx
        shl     bx, 1
        mov     dx, [B_CURSOR+bx]
        jmp     cursor_show

; text_seg: ES = text memory. Clobbers AX.
text_seg:
        mov     ax, 0B800h
        cmp     byte [B_MODE], 7
        jne     .set
        mov     ax, 0B000h
.set:   mov     es, ax
        ret

; page_start: BH = page; DI = where it starts. cell: DX = position on page BH; ES:DI = its cell. Clobber AX.
page_start:
        push    dx
        movzx   ax, bh
        mul     word [B_PAGESIZE]
        mov     di, ax
        pop     dx
        ret
cell:   call    page_start
        mov     al, [B_COLS]
        mul     dh
        add     al, dl
        adc     ah, 0
        add     ax, ax
        add     di, ax
        jmp     text_seg

; AH=06, 07: AL = lines (0: clear), BH = attribute, CX = top left, DX = bottom right; the active page.
scroll_up:
        xor     ah, ah
        jmp     scroll
scroll_down:
        mov     ah, 1
; scroll: the same, with AH = 1 for down.
scroll: cmp     dh, [B_ROWS]
        jbe     .row
        mov     dh, [B_ROWS]
.row:   cmp     dl, [B_COLS]
        jb      .col
        mov     dl, [B_COLS]
        dec     dl
.col:   cmp     ch, dh
        ja      nothing
        cmp     cl, dl
        ja      nothing
        push    ax
        call    layout
        cmp     al, 0
        pop     ax
        jne     gfx_scroll
        mov     bl, dh
        sub     bl, ch
        inc     bl                      ; rows in the window
        test    al, al
        jz      .all
        cmp     al, bl
        jb      .some
.all:   mov     al, bl
.some:  sub     bl, al                  ; rows to move
        mov     si, ax                  ; low: lines, high: direction
        sub     dl, cl
        inc     dl                      ; columns
        push    bx
        push    dx
        mov     bh, [B_PAGE]
        mov     dx, cx
        test    ah, ah
        jz      .from
        pop     dx
        push    dx
        mov     dl, cl
.from:  call    cell                    ; first row to fill from: the top, or the bottom when going down
        pop     dx
        pop     bx
        mov     cx, si                  ; CL = lines, CH = direction
        movzx   ax, byte [B_COLS]
        add     ax, ax                  ; bytes from a row to the next to be written
        push    ax
        mul     cl
        mov     si, ax                  ; distance from target to source
        pop     ax
        test    ch, ch
        jz      .rows
        neg     ax
        neg     si
.rows:  mov     dh, 0                   ; DX = columns, AX = step, SI = distance, BL = rows to move, CL = to fill
        push    ds
        push    es
        pop     ds
.move:  test    bl, bl
        jz      .fill
        push    cx
        push    si
        push    di
        add     si, di
        mov     cx, dx
        rep     movsw
        pop     di
        pop     si
        pop     cx
        add     di, ax
        dec     bl
        jmp     .move
.fill:  mov     bl, cl
.blank: push    di
        push    ax
        mov     al, ' '
        mov     ah, bh
        mov     cx, dx
        rep     stosw
        pop     ax
        pop     di
        add     di, ax
        dec     bl
        jnz     .blank
        pop     ds
        ret

; AH=08: BH = page; AX = attribute and character at the cursor.
char_read:
        movzx   si, bh
        and     si, 7
        shl     si, 1
        mov     dx, [B_CURSOR+si]
        call    layout
        test    al, al
        jnz     gfx_char_read
        call    cell
        mov     ax, [es:di]
        mov     [bp+F_AX], ax
        ret

; AH=09: AL = character, BL = attribute, BH = page, CX = count. AH=0A: the attribute stays.
char_attr:
        mov     ah, 0
        jmp     char_put
char_only:
        mov     ah, 1
char_put:
        test    cx, cx
        jz      nothing
        movzx   si, bh
        and     si, 7
        shl     si, 1
        mov     dx, [B_CURSOR+si]
; char_at: the same at DX; AH = 1 keeps the attribute.
char_at:
        push    ax
        call    layout
        cmp     al, 0
        pop     ax
        jne     gfx_char
        push    ax
        call    cell
        pop     ax
        test    ah, ah
        jnz     .only
        mov     ah, bl
        rep     stosw
.ret:   ret
.only:  stosb
        inc     di
        loop    .only
        ret

; AH=0E: AL = character, BL = colour in graphics modes; the active page.
teletype:
        mov     bh, [B_PAGE]
        mov     ah, 1
        call    tty
        jmp     cursor_show

; tty: AL = character on page BH; AH = 1 keeps the attribute, else BL. Gives DX = the new position, stored.
tty:    movzx   si, bh
        and     si, 7
        shl     si, 1
        mov     dx, [B_CURSOR+si]
        cmp     al, 13
        je      .cr
        cmp     al, 10
        je      .lf
        cmp     al, 8
        je      .bs
        cmp     al, 7
        je      beep
        push    dx
        push    si
        push    bx
        mov     cx, 1
        call    char_at
        pop     bx
        pop     si
        pop     dx
        inc     dl
        cmp     dl, [B_COLS]
        jb      .set
        mov     dl, 0
.lf:    cmp     dh, [B_ROWS]
        jae     .scroll
        inc     dh
        jmp     .set
.cr:    mov     dl, 0
        jmp     .set
.bs:    cmp     dl, 0
        je      .set
        dec     dl
.set:   mov     [B_CURSOR+si], dx
        ret
.scroll:push    dx
        push    si
        push    bx
        call    layout
        cmp     al, 0
        mov     al, 0                   ; black in graphics; in text the attribute that the line has
        jne     .attr
        call    cell
        mov     al, [es:di+1]
.attr:  mov     ah, al
        mov     bl, [B_PAGE]
        push    bx
        mov     [B_PAGE], bh            ; scrolling is of the active page
        mov     bh, ah
        mov     ax, 1
        xor     cx, cx
        mov     dh, [B_ROWS]
        mov     dl, [B_COLS]
        dec     dl
        call    scroll
        pop     bx
        mov     [B_PAGE], bl
        pop     bx
        pop     si
        pop     dx
        jmp     .set

; beep: about 800 Hz for a moment. DX and SI are kept.
beep:   push    dx
        push    cx
        mov     al, 0B6h
        out     43h, al
        mov     ax, 1193180/800
        out     42h, al
        mov     al, ah
        out     42h, al
        in      al, 61h
        or      al, 3
        out     61h, al
        mov     cx, 4000                ; refresh periods of 15 us
.next:  in      al, 61h
        and     al, 10h
        mov     ah, al
        mov     dx, 200
.edge:  in      al, 61h
        and     al, 10h
        cmp     al, ah
        jne     .turn
        dec     dx
        jnz     .edge
.turn:  loop    .next
        in      al, 61h
        and     al, 0FCh
        out     61h, al
        pop     cx
        pop     dx
        ret

; AH=13: AL bit 0: move the cursor, bit 1: attributes are in the string; BH = page, BL = attribute, CX = length,
; DX = position, ES:BP = string.
string: jcxz    .ret
        cmp     al, 3
        ja      .ret
        movzx   si, bh
        and     si, 7
        shl     si, 1
        push    word [B_CURSOR+si]
        cmp     dh, 0FFh                ; where the cursor is
        je      .here
        mov     [B_CURSOR+si], dx
.here:  mov     di, [bp+F_BP]           ; the caller's BP
.next:  mov     es, [bp+F_ES]
        mov     al, [es:di]
        inc     di
        test    byte [bp+F_AL], 2
        jz      .put
        mov     bl, [es:di]
        inc     di
.put:   push    cx
        push    di
        push    bx
        mov     ah, 0
        call    tty
        pop     bx
        pop     di
        pop     cx
        loop    .next
        pop     ax
        movzx   si, bh
        and     si, 7
        shl     si, 1
        test    byte [bp+F_AL], 1
        jnz     .show
        mov     [B_CURSOR+si], ax
.show:  cmp     bh, [B_PAGE]
        jne     .ret
        mov     dx, [B_CURSOR+si]
        jmp     cursor_show
.ret:   ret
