; segments.asm - loading segment registers: type, presence and privilege checks, with their
; error codes. Intel SDM vol. 3A §5.4-5.6, §6.13. Accesses are in segment-limits.asm.

%include "rom.inc"
start:  title   "protected mode: loading segments"
        jmp     enter_pm
%include "pm.inc"

S0      equ SPARE
S1      equ SPARE + 8
S2      equ SPARE + 16
S3      equ SPARE + 24
S4      equ SPARE + 32

main:   spare   0, 0x50000, 0x0FF, 0x92, 4      ; 256 bytes, writable
        spare   1, 0x50000, 0xFFF, 0x96, 4      ; expand-down: above FFFh only
        spare   2, 0x50000, 0x0FF, 0x90, 4      ; read-only
        spare   3, 0, 0xFFFFF, 0x12, 12         ; not present
        spare   4, 0, 0xFFFFF, 0x98, 12         ; code, execute only
        try     .e
        mov     ax, S4
        mov     fs, ax
.e:     caught  13, S4, "execute-only code into FS"
        try     .g
        mov     ax, S3
        mov     fs, ax
.g:     caught  11, S3, "#NP on loading a segment that is not present"
        try     .h
        mov     ax, S3
        mov     ss, ax
.h:     caught  12, S3, "#SS on loading SS with it"
        try     .i
        mov     ax, 0x1000
        mov     fs, ax
.i:     caught  13, 0x1000, "a selector beyond the table"
        try     .j
        xor     eax, eax
        mov     ss, ax
.j:     caught  13, 0, "null into SS"
        try     .k
        mov     ax, S2
        mov     ss, ax
.k:     caught  13, S2, "a read-only segment into SS"
        try     .l
        mov     ax, CODE32
        mov     ss, ax
.l:     caught  13, CODE32, "a code segment into SS"
        try     .m
        mov     ax, DATA32 | 3
        mov     ss, ax
.m:     caught  13, DATA32, "SS with RPL 3 in ring 0"
        try     .n
        mov     ax, TSS_SEL
        mov     ds, ax
.n:     caught  13, TSS_SEL, "a system segment into DS"
        try     .n2
        mov     ax, SPARE + 5 * 8
        lldt    ax
.n2:    caught  13, SPARE + 5 * 8, "LLDT of something that is no LDT"
        try     .o
        jmp     DATA32:0
.o:     caught  13, DATA32, "a far jump to a data segment"
        try     .p
        jmp     0:0
.p:     caught  13, 0, "a far jump to the null selector"
        try     .q
        jmp     S3:0
.q:     caught  13, S3, "a far jump to data that is not present: type first"
        spare   3, 0, 0xFFFFF, 0x1A, 12
        try     .r
        jmp     S3:0
.r:     caught  11, S3, "a far jump to code that is not present"
        spare   3, 0, 0xF, 0x9A, 4
        try     .r2
        jmp     S3:0x10
.r2:    caught  13, 0, "a far jump beyond the limit"

        ; The stack segment has an exception of its own.
        spare   0, 0x50000, 0x0FFF, 0x92, 4
        mov     ax, S0
        mov     ebx, esp
        mov     ss, ax
        mov     esp, 0x1000
        push    dword 0x12345678
        pop     ecx
        mov     ax, DATA32
        mov     ss, ax
        mov     esp, ebx
        expect  ecx, 0x12345678, "a stack in a small segment"

        ; Descriptors are read once: what is in the table later does not matter until reload.
        spare   0, 0x50000, 0x0FF, 0x92, 4
        mov     ax, S0
        mov     fs, ax
        spare   0, 0x60000, 0x0FF, 0x92, 4
        mov     dword [0x50000], 1
        mov     dword [0x60000], 2
        expect  dword [fs:0], 1, "the hidden part of FS stays"
        mov     fs, ax
        expect  dword [fs:0], 2, "until it is loaded again"
        mov     al, [gdt_spare + 5]
        movzx   eax, al
        expect  eax, 0x93, "loading a segment sets its Accessed bit"

        ; LAR, LSL, VERR, VERW.
        mov     eax, S2
        lar     ebx, eax
        expect_flags ZF, ZF, "LAR sets ZF"
        and     ebx, 0xFF00
        expect  ebx, 0x9000, "LAR gives the access byte"
        mov     eax, CODE32
        lsl     ebx, eax
        expect  ebx, 0xFFFFFFFF, "LSL scales pages"
        verr    ax
        expect_flags ZF, ZF, "VERR of readable code"
        verw    ax
        expect_flags ZF, 0, "VERW of code"
        mov     eax, 0xFFF8
        lar     ebx, eax
        expect_flags ZF, 0, "LAR of a selector beyond the table"
        str     eax
        and     eax, 0xFFFF
        expect  eax, TSS_SEL, "STR"
        movzx   eax, byte [gdt + TSS_SEL + 5]
        expect  eax, 0x8B, "LTR marked the TSS busy"
        try     .t
        mov     ax, TSS_SEL
        ltr     ax
.t:     caught  13, TSS_SEL, "LTR of a busy TSS"
        mov     eax, 0x10003
        mov     ebx, 0x10000
        arpl    bx, ax
        expect  ebx, 0x10003, "ARPL raises RPL"

        ; Addressing of 16 bits in 32-bit code, and a 16-bit code segment.
        mov     ebx, 0x1F000
        mov     esi, 0x18000
        mov     word [0x7000], 0xBEEF
        a16 mov ax, [bx + si]
        movzx   eax, ax
        expect  eax, 0xBEEF, "16-bit addresses wrap at 64 KiB"
        jmp     CODE16:.small
bits 16
.small: mov     ax, sp                  ; SP, as the stack segment is still 32 bits wide
        mov     ebx, esp
        push    ax
        sub     ebx, esp
        pop     ax
        jmp     dword CODE32:.big
bits 32
.big:   expect  ebx, 2, "PUSH AX from 16-bit code on a 32-bit stack"
        done
rom_end
