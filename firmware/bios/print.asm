; Glassbox BIOS: text output by INT 10h, and debug text by port E9h.
; All routines keep every register unless they say otherwise. Strings are in the BIOS segment, ended by 0.

; print_char: AL = character, by teletype on page 0.
print_char:
        pusha
        mov     bx, 7
        mov     ah, 0Eh
        int     10h
        popa
        ret

; print: CS:SI = string.
print:
        push    ax
        push    si
.next:  mov     al, [cs:si]
        inc     si
        test    al, al
        jz      .end
        call    print_char
        jmp     .next
.end:   pop     si
        pop     ax
        ret

; print_attr: CS:SI = string, BL = attribute: colours each cell first, then lets teletype advance.
print_attr:
        pusha
.next:  mov     al, [cs:si]
        inc     si
        test    al, al
        jz      .end
        cmp     al, ' '
        jb      .tty
        push    bx
        push    si
        mov     ah, 09h
        mov     bh, 0
        mov     cx, 1
        int     10h
        pop     si
        pop     bx
.tty:   call    print_char
        jmp     .next
.end:   popa
        ret

; print_label: CS:SI = text, in the dim label column, padded to 14 columns.
print_label:
        push    ax
        push    bx
        push    cx
        push    si
        mov     cx, 13
        mov     al, ' '
        call    print_char
        mov     bl, 07h
        call    print_attr
.len:   cmp     byte [cs:si], 0
        je      .pad
        inc     si
        dec     cx
        jmp     .len
.pad:   mov     al, ' '
        call    print_char
        loop    .pad
        pop     si
        pop     cx
        pop     bx
        pop     ax
        ret

; print_dec: EAX = unsigned number.
print_dec:
        pushad
        mov     ebx, 10
        xor     cx, cx
.div:   xor     edx, edx
        div     ebx
        push    dx
        inc     cx
        test    eax, eax
        jnz     .div
.out:   pop     ax
        add     al, '0'
        call    print_char
        loop    .out
        popad
        ret

; print_hex16: AX = number, four digits. print_hex8: AL, two digits.
print_hex16:
        xchg    al, ah
        call    print_hex8
        xchg    al, ah
print_hex8:
        push    ax
        shr     al, 4
        call    .digit
        pop     ax
        push    ax
        and     al, 0Fh
        call    .digit
        pop     ax
        ret
.digit: add     al, '0'
        cmp     al, '9'
        jbe     .put
        add     al, 7
.put:   jmp     print_char

print_crlf:
        push    ax
        mov     al, 13
        call    print_char
        mov     al, 10
        call    print_char
        pop     ax
        ret

%ifdef DEBUG
; dbg_inline: writes the string that follows the call.
dbg_inline:
        xchg    si, [esp]
        push    ax
.next:  mov     al, [cs:si]
        inc     si
        test    al, al
        jz      .end
        out     0E9h, al
        jmp     .next
.end:   pop     ax
        xchg    si, [esp]
        ret
%endif
