; A guest for tests of machines that stay: what it is told on COM1 it counts, in memory and on its disk.
;
;   i   counts: one more in memory and in the disk's second sector
;   p   prints both, as `m=0003 d=0005`
;   o   powers off
;
; nasm -f bin counter.asm -o counter.img
        org     7C00h
        bits    16
start:  xor     ax, ax
        mov     ds, ax
        mov     es, ax
        mov     ss, ax
        mov     sp, 7C00h
        mov     [drive], dl
        mov     word [count], 0
        mov     ax, 0201h               ; INT 13h: read one sector
        call    disk
        mov     si, hello
        call    print
next:   sti
        hlt                             ; until the timer, at the latest
        mov     dx, 3FDh
        in      al, dx
        test    al, 1
        jz      next
        mov     dx, 3F8h
        in      al, dx
        cmp     al, 'i'
        je      more
        cmp     al, 'p'
        je      show
        cmp     al, 'o'
        jne     next
        mov     dx, 0B004h
        mov     ax, 2000h
        out     dx, ax
        jmp     next
more:   inc     word [count]
        inc     word [sector]
        mov     ax, 0301h               ; INT 13h: write one sector
        call    disk
        mov     al, '.'
        call    putc
        jmp     next
show:   mov     si, m
        call    print
        mov     ax, [count]
        call    hex
        mov     si, d
        call    print
        mov     ax, [sector]
        call    hex
        mov     si, line
        call    print
        jmp     next
disk:   mov     bx, sector
        mov     cx, 2                   ; cylinder 0, sector 2
        mov     dh, 0
        mov     dl, [drive]
        int     13h
        ret
hex:    mov     cx, 4
.digit: rol     ax, 4
        push    ax
        and     al, 0Fh
        add     al, '0'
        cmp     al, '9'
        jbe     .put
        add     al, 7
.put:   call    putc
        pop     ax
        loop    .digit
        ret
print:  lodsb
        test    al, al
        jz      .end
        call    putc
        jmp     print
.end:   ret
putc:   push    ax
        push    dx
        mov     ah, al
.wait:  mov     dx, 3FDh
        in      al, dx
        test    al, 20h
        jz      .wait
        mov     dx, 3F8h
        mov     al, ah
        out     dx, al
        pop     dx
        pop     ax
        ret
hello:  db      "counter", 13, 10, 0
m:      db      "m=", 0
d:      db      " d=", 0
line:   db      13, 10, 0
drive:  db      0
        times   510-($-$$) db 0
        dw      0AA55h
        times   65536-($-$$) db 0
count   equ     7E00h
sector  equ     8000h
