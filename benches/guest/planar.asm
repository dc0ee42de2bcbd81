; planar.asm - 16 colours in four planes: map mask, set/reset, bit mask, latches
;
; Each round fills by set/reset, draws planes one by one through the map mask, draws pixels in write mode 2
; with the bit mask and a read that loads the latches, scrolls in write mode 1, and sums what it reads back
; plane by plane.

%define KIND "planar"
%include "real.inc"

STRIDE  equ     80
HEIGHT  equ     480
SEQUENCER equ   0x3C4
GRAPHICS equ    0x3CE

%macro sequencer 2
        mov     dx, SEQUENCER
        mov     ax, %1 | (%2 << 8)
        out     dx, ax
%endmacro
%macro graphics 2
        mov     dx, GRAPHICS
        mov     ax, %1 | (%2 << 8)
        out     dx, ax
%endmacro

work:   mov     ax, 0x0012
        int     0x10
        push    word 0xA000
        pop     es
        rounds  40
.round: call    fill
        call    planes
        call    pixels
        call    scroll
        call    add_up
        again   .round
        mov     ax, [sum]
        ret

; Set/reset gives the colour, whatever is written.
fill:   graphics 0, 5
        graphics 1, 15
        xor     di, di
        mov     cx, STRIDE * HEIGHT / 2
        rep     stosw
        graphics 1, 0
        ret

        boot_signature

; A band of a pattern in each plane.
planes: mov     cl, 0
.plane: mov     ah, 1
        shl     ah, cl
        mov     al, 2
        mov     dx, SEQUENCER
        out     dx, ax
        mov     al, [left]
        add     al, cl
        mov     di, STRIDE * 40
.byte:  mov     [es:di], al
        add     al, 29
        inc     di
        cmp     di, STRIDE * 140
        jb      .byte
        inc     cl
        cmp     cl, 4
        jb      .plane
        sequencer 2, 15
        ret

; Diagonals, a pixel at a time: the mask in the index register's data, a read, a colour.
pixels: graphics 5, 2
        xor     bx, bx
.pixel: mov     ax, bx                  ; x = bx % 512, y = bx / 64
        and     ax, 511
        mov     cl, al
        and     cl, 7
        shr     ax, 3
        mov     di, ax
        mov     ax, bx
        shr     ax, 6
        imul    ax, STRIDE
        add     di, ax
        mov     ah, 0x80
        shr     ah, cl
        mov     al, 8
        mov     dx, GRAPHICS
        out     dx, ax
        mov     al, [es:di]
        mov     [es:di], bl
        add     bx, 3
        cmp     bx, 24000
        jb      .pixel
        graphics 8, 0xFF
        graphics 5, 0
        ret

; Latches carry all four planes of a byte.
scroll: graphics 5, 1
        push    ds
        push    es
        pop     ds
        mov     si, STRIDE
        xor     di, di
        mov     cx, STRIDE * (HEIGHT - 1)
        rep     movsb
        pop     ds
        graphics 5, 0
        ret

add_up: mov     cl, 0
.plane: mov     ah, cl
        mov     al, 4
        mov     dx, GRAPHICS
        out     dx, ax
        mov     ax, [sum]
        xor     di, di
.byte:  add     al, [es:di]
        rol     ax, 1
        add     di, 3
        cmp     di, STRIDE * HEIGHT
        jb      .byte
        mov     [sum], ax
        inc     cl
        cmp     cl, 4
        jb      .plane
        ret

        image_end
