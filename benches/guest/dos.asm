; dos.asm - a mix like a DOS program's, with code, variables and stack in one page
;
; All of it lies between 7A00h and 8000h: a store to a variable or to the stack is a store to a page that
; holds code, and some variables share sixteen bytes with instructions that run, as in a .COM file. Each round
; prints through a software interrupt to text memory, converts a number by recursion, sorts, looks up, sums,
; and asks the BIOS for keys and the time, whose answers do not enter the checksum.

%define KIND "dos"
%define STACK 0x7C00
%include "real.inc"

BYTES   equ     24                      ; sorted a round
CELLS   equ     80 * 25

work:   mov     word [0x21 * 4], dos
        mov     word [0x21 * 4 + 2], cs
        rounds  8000
.round: mov     ah, 9
        mov     dx, hello
        int     0x21

        mov     ax, [seed]
        mov     di, digits
        call    decimal
        mov     al, '$'
        stosb
        mov     ah, 9
        mov     dx, digits
        int     0x21

        call    shuffle
        call    sort
        call    look_up
        call    add_up

        mov     ah, 1                   ; is there a key?
        int     0x16
        mov     ah, 0                   ; what time is it?
        int     0x1A
        again   .round
        mov     ax, [total]
        ret

seed:   dw      12345

; Writes AX to DI in decimal, first digit first, so by recursion.
decimal:
        xor     dx, dx
        div     word [.ten]
        push    dx
        test    ax, ax
        jz      .last
        call    decimal
.last:  pop     ax
        add     al, '0'
        stosb
        ret
.ten:   dw      10

        boot_signature

; What INT 21h does here: 2 prints DL, 9 the string at DX up to "$".
dos:    push    si
        push    di
        push    es
        push    ax
        cmp     ah, 9
        jne     .one
        mov     si, dx
.char:  lodsb
        cmp     al, '$'
        je      .done
        call    cell
        jmp     .char
.one:   mov     al, dl
        call    cell
.done:  pop     ax
        pop     es
        pop     di
        pop     si
        iret

; Puts AL into text memory and moves on.
cell:   push    word 0xB800
        pop     es
        mov     di, [.column]
        shl     di, 1
        mov     ah, [.colour]
        stosw
        inc     word [.column]
        cmp     word [.column], CELLS
        jb      .within
        mov     word [.column], 0
        inc     byte [.colour]
.within:
        ret
.column: dw     0
.colour: db     7

; Fills the array with the next numbers.
shuffle:
        mov     di, array
        mov     cx, BYTES
.next:  push    cx
        mov     ax, [seed]
        mov     dx, 25173
        mul     dx
        add     ax, 13849
        mov     [seed], ax
        mov     al, ah
        stosb
        pop     cx
        loop    .next
        ret

; Bubble sort, until a pass swaps nothing.
sort:   mov     byte [.swapped], 0
        mov     si, array
        mov     cx, BYTES - 1
.pair:  mov     ax, [si]
        cmp     al, ah
        jbe     .fine
        xchg    al, ah
        mov     [si], ax
        mov     byte [.swapped], 1
.fine:  inc     si
        loop    .pair
        cmp     byte [.swapped], 0
        jne     sort
        ret
.swapped: db    0

; Replaces each byte's low digit through a table.
look_up:
        mov     si, array
        mov     di, array
        mov     bx, table
        mov     cx, BYTES
.next:  lodsb
        mov     ah, al
        and     al, 15
        xlat
        and     ah, 0xF0
        or      al, ah
        stosb
        loop    .next
        ret

; Adds the array and the digits to the checksum.
add_up: mov     si, array
        mov     cx, BYTES + DIGITS
.next:  lodsb
        xor     ah, ah
        add     [total], ax
        rol     word [total], 1
        loop    .next
        ret

total:  dw      0
table:  db      7, 3, 12, 0, 9, 15, 1, 6, 11, 4, 14, 2, 10, 5, 13, 8
array:  times BYTES db 0
DIGITS  equ     6
digits: times DIGITS db 0
hello:  db      "The quick brown fox has read $"

        image_end
