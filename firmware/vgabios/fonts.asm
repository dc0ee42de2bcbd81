; Glassbox VGA BIOS: AH=11h: character generator.
; Source: Ralf Brown's Interrupt List, INT 10h/11xx; IBM VGA technical reference.

fonts:  mov     ah, al
        and     al, 0Fh
        test    ah, 0C0h
        jnz     nothing
        test    ah, 20h
        jnz     .graphics
        cmp     al, 3
        je      .blocks
        ja      .maybe16
        cmp     al, 1
        je      .rom14
        ja      .rom8
; 00, 10: BH = bytes a character, BL = block, CX = count, DX = first, ES:BP = glyphs.
        push    ax
        push    es
        mov     si, [bp+F_BP]
        call    load_font
        pop     es
        pop     ax
        mov     cl, bh
        jmp     .height
.rom14: mov     si, font14
        mov     cl, 14
        jmp     .rom
.rom8:  mov     si, font8
        mov     cl, 8
        jmp     .rom
.maybe16:
        cmp     al, 4
        ja      nothing
        mov     si, font16
        mov     cl, 16
.rom:   push    ax
        push    cx
        call    load_rom_font
        pop     cx
        pop     ax
.height:test    ah, 10h                 ; 1x also makes the mode fit the height
        jz      nothing
        jmp     set_height
.blocks:mov     dx, 3C4h
        mov     al, 3
        mov     ah, bl
        out     dx, ax
        ret

.graphics:
        cmp     ah, 30h
        je      font_info
        cmp     al, 4
        ja      nothing
        movzx   si, al
        shl     si, 1
        push    ds
        push    word 0
        pop     ds
        call    [cs:.table+si]
        pop     ds
        test    al, al
        jz      nothing
        mov     [B_HEIGHT], cx
        cmp     bl, 3
        ja      nothing
        mov     al, dl                  ; rows: BL = 0: DL, 1: 14, 2: 25, 3: 43
        test    bl, bl
        jz      .rows
        movzx   si, bl
        mov     al, [cs:.counts+si]
.rows:  dec     al
        mov     [B_ROWS], al
        ret
.counts db      25, 14, 25, 43
.table  dw      .upper, .user, .g14, .g8, .g16
.upper: mov     si, [bp+F_BP]
        mov     [1Fh*4], si
        mov     [1Fh*4+2], es
        ret
.user:  mov     si, [bp+F_BP]
        mov     [43h*4], si
        mov     [43h*4+2], es
        ret
.g14:   mov     si, font14
        mov     cx, 14
        jmp     .g
.g8:    mov     si, font8
        mov     cx, 8
        jmp     .g
.g16:   mov     si, font16
        mov     cx, 16
.g:     mov     [43h*4], si
        mov     [43h*4+2], cs
        ret

; AH=1130: BH = which; out ES:BP = glyphs, CX = height on the screen, DL = last row.
font_info:
        mov     ax, [B_HEIGHT]
        mov     [bp+F_CX], ax
        mov     al, [B_ROWS]
        mov     [bp+F_DL], al
        cmp     bh, 7
        ja      nothing
        cmp     bh, 1
        ja      .rom
        push    ds
        mov     si, 1Fh*4
        jb      .vector
        mov     si, 43h*4
.vector:push    word 0
        pop     ds
        les     ax, [si]
        pop     ds
        mov     [bp+F_ES], es
        mov     [bp+F_BP], ax
        ret
.rom:   movzx   si, bh
        shl     si, 1
        mov     ax, [cs:.fonts-4+si]
        mov     [bp+F_BP], ax
        mov     [bp+F_ES], cs
        ret
.fonts  dw      font14, font8, font8+1024, font14_alt, font16, font14_alt
font14_alt:                             ; no characters differ for cells of 9 pixels
        db      0

; load_rom_font: CS:SI = 256 glyphs of CL lines, BL = block. load_font: ES:SI = glyphs of BH lines, CX = count,
; DX = first character, BL = block. Clobber AX, CX, DX, SI, DI, ES.
load_rom_font:
        push    bx
        mov     bh, cl
        push    cs
        pop     es
        mov     cx, 256
        xor     dx, dx
        call    load_font
        pop     bx
        ret
load_font:
        test    cx, cx
        jz      nothing
        push    ds
        push    bx
        push    dx
        mov     dx, 3C4h                ; plane 2 alone, at A0000
        mov     ax, 0100h
        out     dx, ax
        mov     ax, 0402h
        out     dx, ax
        mov     ax, 0704h
        out     dx, ax
        mov     ax, 0300h
        out     dx, ax
        mov     dl, 0CEh
        mov     ax, 0204h
        out     dx, ax
        mov     ax, 0005h
        out     dx, ax
        mov     ax, 0406h
        out     dx, ax
        pop     di
        shl     di, 5
        mov     al, bl                  ; blocks 0-3 lie at 0, 4000h, 8000h, C000h; 4-7 2000h further
        and     ax, 3
        ror     ax, 2
        add     di, ax
        test    bl, 4
        jz      .block
        add     di, 2000h
.block: push    ds
        push    es
        pop     ds
        mov     ax, 0A000h
        mov     es, ax
        movzx   bx, bh
        mov     dx, cx
.next:  push    di
        mov     cx, bx
        rep     movsb
        mov     cx, 32                  ; the rest of a cell is blank
        sub     cx, bx
        mov     al, 0
        rep     stosb
        pop     di
        add     di, 32
        dec     dx
        jnz     .next
        pop     ds
        mov     dx, 3C4h                ; back to text
        mov     ax, 0100h
        out     dx, ax
        mov     ax, 0302h
        out     dx, ax
        mov     ax, 0304h
        out     dx, ax
        mov     ax, 0300h
        out     dx, ax
        mov     dl, 0CEh
        mov     ax, 0004h
        out     dx, ax
        mov     ax, 1005h
        out     dx, ax
        mov     ax, 0E06h
        cmp     byte [B_MODE], 7
        jne     .map
        mov     ah, 0Ah
.map:   out     dx, ax
        pop     bx
        pop     ds
.none:  ret

; set_height: CL = lines of a character: rows, cursor, page size and CRTC follow.
set_height:
        movzx   bx, cl
        test    bl, bl
        jz      nothing
        mov     [B_HEIGHT], bx
        mov     dx, [B_CRTC]
        mov     al, 9                   ; maximum scan line, with the double-scan and line-compare bits kept
        out     dx, al
        inc     dx
        in      al, dx
        and     al, 0E0h
        dec     bl
        or      al, bl
        inc     bl
        out     dx, al
        dec     dx
        mov     ax, 400                 ; scan lines of text modes
        div     bl
        mov     cl, al
        dec     al
        mov     [B_ROWS], al
        mov     al, cl
        mul     bl
        dec     ax                      ; vertical display end; bits 8 and 9 in the overflow register stay as they are
        mov     ch, al
        mov     al, 12h
        mov     ah, ch
        out     dx, ax
        movzx   ax, cl
        mul     byte [B_COLS]
        add     ax, ax
        add     ax, 255
        mov     al, 0
        mov     [B_PAGESIZE], ax
        mov     cl, bl                  ; the cursor becomes an underline
        dec     cl
        mov     ch, cl
        dec     ch
        cmp     bl, 14
        jb      .shape
        dec     cl
        dec     ch
.shape: mov     [B_SHAPE], cx
        mov     bx, cx
        mov     al, 0Ah
        jmp     crtc_pair
