; mode13h.asm - 256 colours, a byte a pixel: fills, single pixels, sprites, scrolling
;
; Each round fills the screen with words, draws a pattern pixel by pixel from coordinates, draws sprites with a
; transparent colour, scrolls by a line, and sums some of what it reads back.

%define KIND "mode13h"
%include "real.inc"

WIDTH   equ     320
HEIGHT  equ     200
SPRITE  equ     16
x       equ     free
y       equ     free + 2

work:   mov     ax, 0x0013
        int     0x10
        push    word 0xA000
        pop     es
        rounds  15
.round: call    fill
        call    pixels
        call    sprites
        call    scroll
        call    add_up
        again   .round
        mov     ax, [sum]
        ret

fill:   xor     di, di
        mov     al, [left]
        mov     ah, al
        mov     cx, WIDTH * HEIGHT / 2
        rep     stosw
        ret

        boot_signature

pixels: mov     word [y], 0
.row:   mov     word [x], 0
.pixel: mov     ax, [y]
        mov     bx, WIDTH
        mul     bx
        add     ax, [x]
        mov     di, ax
        mov     al, [x]
        xor     al, [y]
        add     al, [left]
        mov     [es:di], al
        inc     word [x]
        cmp     word [x], WIDTH
        jb      .pixel
        inc     word [y]
        cmp     word [y], HEIGHT
        jb      .row
        ret

; Sprites in a row every 20 lines; colours with the low two bits clear are transparent.
sprites:
        mov     bx, 5
.one:   mov     di, bx
        mov     si, 0x7C00              ; any bytes will do
        mov     dx, SPRITE
.line:  mov     cx, SPRITE
.pixel: lodsb
        test    al, 3
        jz      .clear
        mov     [es:di], al
.clear: inc     di
        loop    .pixel
        add     di, WIDTH - SPRITE
        dec     dx
        jnz     .line
        add     bx, 20
        cmp     bx, WIDTH * 180
        jb      .one
        ret

scroll: push    ds
        push    es
        pop     ds
        mov     si, WIDTH
        xor     di, di
        mov     cx, WIDTH * (HEIGHT - 1) / 4
        rep     movsd
        pop     ds
        ret

add_up: xor     di, di
        mov     ax, [sum]
.next:  add     al, [es:di]
        rol     ax, 1
        add     di, 7
        cmp     di, WIDTH * HEIGHT
        jb      .next
        mov     [sum], ax
        ret

        image_end
