; vbe.asm - INT 10h/4Fh: VBE's calls keep the standard, and modes are what they say. VBE Core Functions 3.0.

%include "rom.inc"

BUFFER  equ 0x2000                      ; segment

%macro vbe 1                            ; AX = 4Fxx; EAX = what AX came back as
        mov     ax, %1
        int     0x10
        movzx   eax, ax
%endmacro

start:  title   "INT 10h/4Fh"
        push    BUFFER
        pop     es
        xor     di, di
        mov     dword [es:0], "VBE2"
        vbe     0x4F00
        expect  eax, 0x4F, "00: is there"
        expect  dword [es:0], 0x41534556, "00: VESA"
        cmp     word [es:4], 0x200
        setae   al
        movzx   eax, al
        expect  eax, 1, "00: version 2.0 at least"
        cmp     word [es:0x12], 64
        setae   al
        movzx   eax, al
        expect  eax, 1, "00: 4 MiB at least"

        lgs     si, [es:0x0E]           ; each mode of the list has what AL=01 wants
        xor     ebx, ebx
        mov     [linear], ebx
.modes: mov     cx, [gs:si]
        add     si, 2
        cmp     cx, 0xFFFF
        je      .listed
        inc     ebx
        push    si
        mov     di, 512
        vbe     0x4F01
        pop     si
        cmp     ax, 0x4F
        jne     .bad
        test    byte [es:512], 1
        jz      .next
        cmp     byte [es:512 + 0x1B], 4
        jb      .next
        movzx   eax, word [es:512 + 0x12]       ; a row holds its pixels
        movzx   edx, byte [es:512 + 0x19]
        add     edx, 7
        shr     edx, 3
        imul    eax, edx
        movzx   edx, word [es:512 + 0x10]
        cmp     edx, eax
        jb      .bad
        cmp     cx, 0x111
        jne     .next
        mov     eax, [es:512 + 0x28]
        mov     [linear], eax
.next:  jmp     .modes
.bad:   movzx   ecx, cx
        expect  ecx, 0, "01: a mode that is listed"
.listed:
        cmp     ebx, 20
        setae   al
        movzx   eax, al
        expect  eax, 1, "00: a list of modes"
        cmp     dword [linear], 0x100000
        seta    al
        movzx   eax, al
        expect  eax, 1, "01: mode 111h has linear memory"
        mov     cx, 0x1FE
        vbe     0x4F01
        movzx   eax, ah
        expect  eax, 1, "01: no such mode"

        mov     bx, 0x4111
        vbe     0x4F02
        expect  eax, 0x4F, "02: 640x480 with 16 bits, linear"
        vbe     0x4F03
        and     ebx, 0x41FF
        expect  ebx, 0x4111, "03: which is set"
        mov     bl, 1
        vbe     0x4F06
        movzx   ebx, bx
        expect  ebx, 1280, "06: bytes of a row"
        movzx   ecx, cx
        expect  ecx, 640, "06: pixels of a row"
        mov     bl, 0
        mov     cx, 1024
        vbe     0x4F06
        movzx   ebx, bx
        expect  ebx, 2048, "06: a longer row"
        mov     bx, 0
        mov     cx, 16
        mov     dx, 32
        vbe     0x4F07
        expect  eax, 0x4F, "07: the picture moves"
        mov     bx, 1
        vbe     0x4F07
        shl     ecx, 16
        mov     cx, dx
        expect  ecx, 0x0010_0020, "07: where it is"
        mov     bx, 0x0801
        vbe     0x4F08
        movzx   eax, ah
        cmp     eax, 0
        setne   al
        movzx   eax, al
        expect  eax, 1, "08: direct colours have no DAC"

        mov     bx, 0x0105
        vbe     0x4F02
        expect  eax, 0x4F, "02: 1024x768 with 8 bits, banked"
        push    0xA000
        pop     fs
        mov     byte [fs:0], 0x11
        mov     bx, 0
        mov     dx, 11
        vbe     0x4F05
        expect  eax, 0x4F, "05: another window"
        mov     byte [fs:0xFFFF], 0x5A
        mov     bx, 0x0100
        vbe     0x4F05
        movzx   edx, dx
        expect  edx, 11, "05: which one"
        mov     bx, 0
        mov     dx, 0
        vbe     0x4F05
        movzx   eax, byte [fs:0]
        expect  eax, 0x11, "05: the first window again"
        mov     di, 512
        mov     cx, 0x105
        vbe     0x4F01
        mov     bx, 0
        mov     dx, 11
        call    far [es:512 + 0x0C]
        movzx   eax, byte [fs:0xFFFF]
        expect  eax, 0x5A, "01: its function moves the window"
        mov     bx, 0x0800
        vbe     0x4F08
        movzx   ebx, bh
        expect  ebx, 8, "08: eight bits a colour"
        mov     di, 1024
        mov     dword [es:di], 0x00FE8001
        mov     bx, 0
        mov     cx, 1
        mov     dx, 7
        vbe     0x4F09
        mov     dword [es:di], 0
        mov     bx, 1
        vbe     0x4F09
        mov     ecx, [es:di]
        and     ecx, 0xFFFFFF
        expect  ecx, 0xFE8001, "09: a colour comes back"

        mov     dl, 0
        mov     cx, 15
        vbe     0x4F04
        expect  eax, 0x4F, "04: there"
        movzx   ebx, bx
        mov     [blocks], ebx
        cmp     bx, 64
        setbe   al
        movzx   eax, al
        expect  eax, 1, "04: a few blocks"
        mov     bx, 2048
        mov     dl, 1
        mov     cx, 15
        vbe     0x4F04
        mov     bx, 3
        vbe     0x4F02
        expect  eax, 0x4F, "02: text"
        vbe     0x4F03
        movzx   ebx, bl
        expect  ebx, 3, "03: text"
        mov     word [fs:0], 0
        mov     bx, 2048
        mov     dl, 2
        mov     cx, 15
        vbe     0x4F04
        vbe     0x4F03
        and     ebx, 0x1FF
        expect  ebx, 0x105, "04: the mode is back"
        mov     bl, 1
        vbe     0x4F06
        movzx   ebx, bx
        expect  ebx, 1024, "04: and its rows"

        mov     bx, 0
        vbe     0x4F0A
        mov     [protected], eax
        cmp     eax, 0x4F
        jne     .no_code
        movzx   eax, word [es:di]
        movzx   ecx, cx
        cmp     eax, ecx
        setb    al
        movzx   eax, al
        expect  eax, 1, "0A: the window's code lies in the block"
.no_code:
        push    BUFFER
        pop     es
        xor     bx, bx
        xor     cx, cx
        xor     dx, dx
        mov     bl, 1
        xor     di, di
        vbe     0x4F15
        cmp     ax, 0x4F
        jne     .no_edid
        expect  dword [es:0], 0xFFFFFF00, "15: a block of EDID"
        xor     eax, eax
        xor     di, di
.sum:   add     al, [es:di]
        inc     di
        cmp     di, 128
        jb      .sum
        expect  eax, 0, "15: sums to zero"
.no_edid:
        vbe     0x4FEE
        movzx   eax, al
        cmp     al, 0x4F
        setne   al
        expect  eax, 1, "EE: no such function"
        mov     ax, 3
        int     0x10
        done

        align   4, db 0
linear:    dd   0
blocks:    dd   0
protected: dd   0
rom_end
