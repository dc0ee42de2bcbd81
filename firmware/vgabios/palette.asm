; Glassbox VGA BIOS: AH=0Bh (CGA colours) and AH=10h (palette and DAC).
; Source: Ralf Brown's Interrupt List, INT 10h/0Bh and 10h/10xx; IBM VGA technical reference.

; attr_write: AL = index, AH = value; attr_read: AL = index, gives AH. The palette stays on the display.
attr_write:
        push    dx
        push    ax
        call    attr_reset
        pop     ax
        mov     dx, 3C0h
        out     dx, al
        xchg    al, ah
        out     dx, al
        xchg    al, ah
        push    ax
        mov     al, 20h
        out     dx, al
        pop     ax
        pop     dx
        ret
attr_read:
        push    dx
        push    ax
        call    attr_reset
        pop     ax
        push    ax
        mov     dx, 3C0h
        out     dx, al
        inc     dx
        in      al, dx
        mov     dl, al
        pop     ax
        mov     ah, dl
        push    ax
        call    attr_on
        pop     ax
        pop     dx
        ret

; AH=0B: BH=0: BL = border and background; BH=1: BL = CGA palette.
cga_palette:
        cmp     bh, 1
        ja      nothing
        mov     cl, [B_PALETTE]
        je      .select
        and     cl, 0E0h
        mov     al, bl
        and     al, 1Fh
        or      cl, al
        mov     [B_PALETTE], cl
        mov     ah, bl
        and     ah, 0Fh
        test    ah, 8
        jz      .border
        add     ah, 8                   ; intensity is bit 4 of a CGA colour
.border:mov     al, 11h
        call    attr_write
        call    layout
        test    al, al
        jz      nothing
        mov     al, 0
        call    attr_write
        call    .intense
        jmp     .colours
.select:and     cl, 0DFh
        test    bl, 1
        jz      .keep
        or      cl, 20h
.keep:  mov     [B_PALETTE], cl
.intense:
.colours:
        cmp     byte [B_MODE], 4        ; colours 1 to 3 of modes 4 and 5
        jb      nothing
        cmp     byte [B_MODE], 5
        ja      nothing
        mov     ah, 2                   ; green, red, brown; or cyan, magenta, white
        test    byte [B_PALETTE], 20h
        jz      .base
        inc     ah
.base:  test    byte [B_PALETTE], 10h
        jz      .dim
        or      ah, 10h
.dim:   mov     al, 1
.next:  call    attr_write
        add     ah, 2
        inc     al
        cmp     al, 4
        jb      .next
        ret

; AH=10.
palette:
        cmp     al, 1Bh
        ja      nothing
        movzx   si, al
        shl     si, 1
        jmp     [cs:.table+si]
.table  dw      .set, .overscan, .all, .blink, nothing, nothing, nothing, .get                  ; 00
        dw      .get_over, .get_all, nothing, nothing, nothing, nothing, nothing, nothing       ; 08
        dw      .dac, nothing, .dac_block, .page, nothing, .dac_get, nothing, .dac_get_block    ; 10
        dw      .mask, .get_mask, .get_page, .grey                                              ; 18

.overscan:
        mov     bl, 11h
.set:   cmp     bl, 14h
        ja      nothing
        mov     al, bl
        mov     ah, bh
        jmp     attr_write
.all:   mov     di, dx
        mov     al, 0
.all1:  mov     ah, [es:di]
        inc     di
        call    attr_write
        inc     al
        cmp     al, 10h
        jb      .all1
        mov     al, 11h
        mov     ah, [es:di]
        jmp     attr_write
.blink: mov     al, 10h
        call    attr_read
        and     ah, 0F7h
        and     byte [B_MODEREG], 0DFh
        test    bl, 1
        jz      .blink0
        or      ah, 8
        or      byte [B_MODEREG], 20h
.blink0:jmp     attr_write
.get:   mov     al, bl
        call    attr_read
        mov     [bp+F_BH], ah
        ret
.get_over:
        mov     al, 11h
        call    attr_read
        mov     [bp+F_BH], ah
        ret
.get_all:
        mov     di, dx
        mov     al, 0
.get1:  call    attr_read
        mov     [es:di], ah
        inc     di
        inc     al
        cmp     al, 10h
        jb      .get1
        mov     al, 11h
        call    attr_read
        mov     [es:di], ah
        ret

.dac:   mov     ah, dh                  ; BX = register; DH, CH, CL = red, green, blue
        mov     dx, 3C8h
        mov     al, bl
        out     dx, al
        inc     dx
        mov     al, ah
        out     dx, al
        mov     al, ch
        out     dx, al
        mov     al, cl
        out     dx, al
        ret
.dac_block:                             ; BX = first, CX = count, ES:DX = triples
        jcxz    .none
        mov     si, dx
        mov     dx, 3C8h
        mov     al, bl
        out     dx, al
        inc     dx
        mov     ax, cx
        add     cx, ax
        add     cx, ax
.out:   mov     al, [es:si]
        inc     si
        out     dx, al
        loop    .out
.none:  ret
.dac_get:
        mov     dx, 3C7h
        mov     al, bl
        out     dx, al
        mov     dl, 0C9h
        in      al, dx
        mov     [bp+F_DH], al
        in      al, dx
        mov     [bp+F_CH], al
        in      al, dx
        mov     [bp+F_CL], al
        ret
.dac_get_block:
        jcxz    .none
        mov     di, dx
        mov     dx, 3C7h
        mov     al, bl
        out     dx, al
        mov     dl, 0C9h
        mov     ax, cx
        add     cx, ax
        add     cx, ax
.in:    in      al, dx
        stosb
        loop    .in
        ret

.page:  mov     al, 10h                 ; BL=0: BH = paging mode; BL=1: BH = page
        call    attr_read
        cmp     bl, 1
        je      .page1
        ja      .none
        and     ah, 7Fh
        ror     bh, 1
        and     bh, 80h
        or      ah, bh
        jmp     attr_write
.page1: test    ah, 80h
        mov     ah, bh
        jnz     .page16
        shl     ah, 2
.page16:mov     al, 14h
        and     ah, 0Fh
        jmp     attr_write
.get_page:
        mov     al, 10h
        call    attr_read
        mov     bl, ah
        rol     bl, 1
        and     bl, 1
        mov     al, 14h
        call    attr_read
        test    bl, bl
        jnz     .got
        shr     ah, 2
.got:   mov     bh, ah
        mov     [bp+F_BX], bx
        ret

.mask:  mov     dx, 3C6h
        mov     al, bl
        out     dx, al
        ret
.get_mask:
        mov     dx, 3C6h
        in      al, dx
        mov     [bp+F_BL], al
        ret

.grey:  test    cx, cx                  ; BX = first, CX = count
        jz      nothing
.grey1: push    cx
        mov     dx, 3C7h
        mov     al, bl
        out     dx, al
        mov     dl, 0C9h
        in      al, dx                  ; 30 % red, 59 % green, 11 % blue
        mov     ah, 77
        mul     ah
        mov     cx, ax
        in      al, dx
        mov     ah, 151
        mul     ah
        add     cx, ax
        in      al, dx
        mov     ah, 28
        mul     ah
        add     ax, cx
        add     ax, 80h
        cmp     ah, 3Fh
        jbe     .level
        mov     ah, 3Fh
.level: mov     dl, 0C8h
        mov     al, bl
        out     dx, al
        inc     dx
        mov     al, ah
        out     dx, al
        out     dx, al
        out     dx, al
        inc     bl
        pop     cx
        loop    .grey1
        ret
