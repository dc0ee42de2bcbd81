; video-state.asm - INT 10h/1Ch saves the video state and restores it. Ralf Brown's Interrupt List.

%include "rom.inc"
start:  title   "INT 10h/1Ch"
        mov     ax, 0x1C00
        mov     cx, 7
        xor     bx, bx
        int     0x10
        movzx   eax, al
        mov     [blocks], bx
        expect  eax, 0x1C, "the function is there"
        cmp     word [blocks], 13
        setae   al
        cmp     word [blocks], 32
        setbe   ah
        and     al, ah
        movzx   eax, al
        expect  eax, 1, "the state takes 13 to 32 blocks"
        mov     word [blocks], 0        ; each part alone
        mov     cx, 1
.part:  mov     ax, 0x1C00
        int     0x10
        add     [blocks], bx
        add     cx, cx
        cmp     cx, 8
        jb      .part
        mov     ax, 0x1C00
        mov     cx, 7
        int     0x10
        movzx   ebx, bx
        movzx   eax, word [blocks]
        expect  eax, ebx, "which is the sum of its parts"

        mov     ax, 3
        int     0x10
        mov     ax, 0x1001              ; border
        mov     bx, 0x0500
        int     0x10
        mov     ax, 0x1010              ; colour 7
        mov     bx, 7
        mov     dx, 0x1100
        mov     cx, 0x2233
        int     0x10
        mov     ah, 1                   ; cursor shape and place
        mov     cx, 0x0307
        int     0x10
        mov     ah, 2
        mov     bh, 0
        mov     dx, 0x0A14
        int     0x10
        mov     di, before
        call    registers
        push    0x1000
        pop     es
        mov     ax, 0x1C01
        mov     cx, 7
        xor     bx, bx
        int     0x10
        mov     di, saved
        call    registers
        mov     si, before
        mov     di, saved
        call    compare
        expect  eax, 0, "saving changes nothing"
        mov     ax, 0x13
        int     0x10
        mov     di, saved
        call    registers
        mov     si, before
        mov     di, saved
        call    compare
        cmp     eax, 20
        seta    al
        movzx   eax, al
        expect  eax, 1, "mode 13h has other registers"
        push    0x1000
        pop     es
        mov     ax, 0x1C02
        mov     cx, 7
        xor     bx, bx
        int     0x10
        mov     di, saved
        call    registers
        mov     si, before
        mov     di, saved
        call    compare
        expect  eax, 0, "restoring brings them all back"
        mov     ah, 0x0F
        int     0x10
        movzx   eax, ax
        expect  eax, 0x5003, "the mode is 3"
        mov     ah, 3
        mov     bh, 0
        int     0x10
        movzx   ecx, cx
        movzx   edx, dx
        expect  ecx, 0x0307, "the cursor has its shape"
        expect  edx, 0x0A14, "and its place"
        mov     ax, 0x1015
        mov     bx, 7
        int     0x10
        movzx   edx, dh
        movzx   ecx, cx
        expect  edx, 0x11, "colour 7 has its red"
        expect  ecx, 0x2233, "green and blue"
        mov     ah, 0x0E                ; and the display works
        mov     al, '*'
        mov     bx, 7
        int     0x10
        push    0xB800
        pop     es
        movzx   eax, byte [es:0x0A * 160 + 0x14 * 2]
        expect  eax, '*', "a character lands where the cursor was"
        done

registers:                              ; the VGA's registers, to ES:DI, ES = DS
        push    ds
        pop     es
        mov     dx, 0x3CC
        in      al, dx
        stosb
        mov     dx, 0x3C4
        mov     cx, 5
        call    .block
        mov     dx, 0x3D4
        mov     cx, 25
        call    .block
        mov     dx, 0x3CE
        mov     cx, 9
        call    .block
        mov     ah, 0
.attr:  mov     dx, 0x3DA
        in      al, dx
        mov     dx, 0x3C0
        mov     al, ah
        out     dx, al
        inc     dx
        in      al, dx
        stosb
        inc     ah
        cmp     ah, 21
        jb      .attr
        mov     dx, 0x3DA
        in      al, dx
        mov     dx, 0x3C0
        mov     al, 0x20
        out     dx, al
        ret
.block: mov     ah, 0
.next:  mov     al, ah
        out     dx, al
        inc     dx
        in      al, dx
        dec     dx
        stosb
        inc     ah
        loop    .next
        ret

compare:                                ; EAX = how many differ
        xor     eax, eax
        mov     cx, 61
.next:  cmpsb
        je      .same
        inc     eax
.same:  loop    .next
        ret

        align   4, db 0
blocks: dd      0
before: times   64 db 0
saved:  times   64 db 0
rom_end
