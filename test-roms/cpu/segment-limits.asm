; segment-limits.asm - every access is checked against its segment's limit and type.
; Intel SDM vol. 3A §5.3 (limits), §5.4 (types). QEMU's TCG leaves these checks out and fails
; here; Bochs passes.

%include "rom.inc"
start:  title   "limits and types on each access"
        ; Real mode has limits too: 64 KiB, always.
        mov     dword [13 * 4], real_gp
        mov     dword [12 * 4], real_ss
        mov     bx, 0xFFFF
        xor     edx, edx
        mov     ax, [bx]
        expect  edx, 13, "real mode: a word at offset FFFF"
        xor     edx, edx
        mov     eax, [dword 0x10000]
        expect  edx, 13, "real mode: a 32-bit offset beyond FFFF"
        mov     bp, 0xFFFF
        xor     edx, edx
        mov     ax, [bp]
        expect  edx, 12, "real mode: the same in the stack segment"
        jmp     enter_pm
real_gp:                                ; notes the vector and skips the instruction, whose
        mov     dx, 13                  ;   length is 2, or 6 with a prefix 67h
        jmp     real_ss.skip
real_ss:
        mov     dx, 12
.skip:  push    bp
        push    bx
        mov     bp, sp
        mov     bx, [bp + 4]
        add     word [bp + 4], 2
        cmp     word [cs:bx], 0x6766
        je      .long
        cmp     word [cs:bx], 0x6667
        je      .long
        cmp     word [bx], 0x468B       ; MOV AX, [BP + 0]
        jne     .out
        inc     word [bp + 4]
.out:   pop     bx
        pop     bp
        iret
.long:  add     word [bp + 4], 5        ; 66 67 A1 and 32 bits
        jmp     .out
%include "pm.inc"

S0      equ SPARE
S1      equ SPARE + 8
S2      equ SPARE + 16

main:   spare   0, 0x50000, 0x0FF, 0x92, 4      ; 256 bytes, writable
        spare   1, 0x50000, 0xFFF, 0x96, 4      ; expand-down: above FFFh only
        spare   2, 0x50000, 0x0FF, 0x90, 4      ; read-only
        mov     dword [0x500FC], 0x11223344
        mov     ax, S0
        mov     fs, ax
        mov     eax, [fs:0xFC]
        expect  eax, 0x11223344, "the last dword inside the limit"
        try     .a
        mov     eax, [fs:0xFD]
.a:     caught  13, 0, "a dword over the limit"
        expect  dword [t_count], 1, "one exception"
        mov     ax, S0
        mov     fs, ax
        try     .b
        mov     byte [fs:0x100], 1
.b:     caught  13, 0, "a byte over the limit"
        try     .b2
        mov     ax, S0
        mov     fs, ax
        mov     eax, [fs:0xFFFFFFFE]
.b2:    caught  13, 0, "an offset that wraps"

        mov     ax, S1
        mov     fs, ax
        mov     dword [0x51000], 0x55667788
        mov     eax, [fs:0x1000]
        expect  eax, 0x55667788, "expand-down: above the limit"
        try     .c
        mov     al, [fs:0xFFF]
.c:     caught  13, 0, "expand-down: at the limit"

        mov     ax, S2
        mov     fs, ax
        mov     eax, [fs:0]
        try     .d
        mov     [fs:0], eax
.d:     caught  13, 0, "a write to a read-only segment"
        mov     byte [.code_write], 0
        try     .e
        mov     byte [cs:.code_write], 1
.e:     caught  13, 0, "a write to a code segment"
        movzx   eax, byte [.code_write]
        expect  eax, 0, "and nothing was written"
        xor     eax, eax
        mov     fs, ax
        try     .f
        mov     eax, [fs:0]
.f:     caught  13, 0, "an access through the null selector"

        spare   0, 0x50000, 0x0FFF, 0x92, 4
        try     .s
        mov     ebp, 0x2000
        mov     ax, S0
        mov     ss, ax
        mov     esp, 0x1000
        mov     eax, [ebp]
.s:     caught  12, 0, "#SS on [EBP] over the limit of SS"

        try     .u
        jmp     CODE16:.wide
bits 16
.wide:  jmp     dword 0x20000           ; beyond the 64 KiB of CODE16
bits 32
.u:     caught  13, 0, "a near jump beyond the limit of CS"
        done
.code_write: db 0
rom_end
