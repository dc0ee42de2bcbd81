; lar-lsl.asm - LAR, LSL, VERR and VERW for every access byte of a descriptor, every RPL, at CPL 0
; and 3, in protected mode and (at CPL 0) in 64-bit mode; what is loaded, and ZF.
; Intel SDM vol. 2A LAR (table 3-53), LSL (table 3-55), vol. 2B VERR.
; QEMU's TCG takes types in 64-bit mode that are valid in protected mode only.

%include "rom.inc"
start:  title   "LAR, LSL, VERR, VERW: every descriptor"
        jmp     enter_pm
%include "pm.inc"
%include "long.inc"
bits 32
TESTED  equ SPARE + 8
LAR32   equ 0x1A3E                      ; types of system descriptors that are valid
LSL32   equ 0x0A0E
LAR64   equ 0x1A04
LSL64   equ 0x0A04

; all_bytes: every access byte and RPL at the current CPL ([level]); [lar_types], [lsl_types]
%macro all_bytes 0
        mov     dword [rpl], 0
%%rpl:  mov     ebp, 0
%%byte: mov     dword [gdt_spare + 8], 0x00005678
        mov     eax, ebp
        shl     eax, 8
        or      eax, 0x00C50000         ; G; limit 55678h
        mov     [gdt_spare + 12], eax
        mov     ebx, TESTED
        or      ebx, [rpl]
        ; the rule
        mov     esi, 0                  ; visible
        mov     eax, ebp
        and     eax, 0x1C
        cmp     eax, 0x1C               ; conforming code
        je      %%visible
        mov     eax, ebp
        shr     eax, 5
        and     eax, 3
        cmp     eax, [level]
        jb      %%hidden
        cmp     eax, [rpl]
        jb      %%hidden
%%visible:
        inc     esi
%%hidden:
        xor     edx, edx                ; 1 LAR, 2 LSL, 4 VERR, 8 VERW
        test    esi, esi
        jz      %%ruled
        mov     ecx, ebp
        and     ecx, 15
        mov     eax, 3
        test    ebp, 0x10
        jnz     %%loads
        xor     eax, eax
        bt      [lar_types], ecx
        adc     eax, 0
        bt      [lsl_types], ecx
        jnc     %%loads
        or      eax, 2
%%loads:
        or      edx, eax
        test    ebp, 0x10
        jz      %%ruled
        test    cl, 8
        jnz     %%code
        or      edx, 4
        test    cl, 2
        jz      %%ruled
        or      edx, 8
        jmp     %%ruled
%%code: test    cl, 2
        jz      %%ruled
        or      edx, 4
%%ruled:
        ; the processor
        xor     edi, edi
        mov     ecx, 0x5A5A5A5A
        lar     ecx, ebx
        jnz     %%no_lar
        or      edi, 1
        mov     eax, [gdt_spare + 12]
        and     eax, 0x00F0FF00
        and     ecx, 0xFFF0FFFF         ; bits 16-19 are undefined
        cmp     eax, ecx
        je      %%lsl
        or      edi, 0x100
%%no_lar:
        test    edi, edi
        jnz     %%lsl
        cmp     ecx, 0x5A5A5A5A
        je      %%lsl
        or      edi, 0x100              ; it was written
%%lsl:  mov     ecx, 0x5A5A5A5A
        lsl     ecx, ebx
        jnz     %%no_lsl
        or      edi, 2
        cmp     ecx, 0x55678FFF
        je      %%verr
        or      edi, 0x200
        jmp     %%verr
%%no_lsl:
        cmp     ecx, 0x5A5A5A5A
        je      %%verr
        or      edi, 0x200
%%verr: verr    bx
        jnz     %%verw
        or      edi, 4
%%verw: verw    bx
        jnz     %%compare
        or      edi, 8
%%compare:
        inc     dword [checks]
        cmp     edx, edi
        je      %%same
        inc     dword [differences]
        cmp     dword [differences], 1
        jne     %%same
        mov     [bad], ebp
        mov     eax, [rpl]
        mov     [bad + 4], eax
        mov     [bad + 8], edi
        mov     [bad + 12], edx
%%same: inc     ebp
        cmp     ebp, 256
        jb      %%byte
        inc     dword [rpl]
        cmp     dword [rpl], 4
        jb      %%rpl
%endmacro
%macro report 2                         ; checks so far, what
        expect  dword [checks], %1, %2
        expect  dword [differences], 0, "differences"
        cmp     dword [differences], 0
        je      %%none
        text    esi, "access byte, RPL, result, wanted: "
        call    print_32
        show    [bad]
        show    [bad + 4]
        show    [bad + 8]
        show    [bad + 12]
        mov     al, 10
        out     0xE9, al
        mov     dword [differences], 0
%%none:
%endmacro

main:   all_bytes
        report  1024, "protected mode, CPL 0"
        ; Null and beyond the table.
        mov     eax, 3
        lar     ebx, eax
        expect_flags ZF, 0, "LAR of a null selector"
        verr    ax
        expect_flags ZF, 0, "VERR of one"
        mov     eax, gdt_end - gdt
        lsl     ebx, eax
        expect_flags ZF, 0, "LSL of the first selector beyond the table"
        xor     eax, eax
        lldt    ax                      ; out of reset LDTR is usable
        mov     eax, 12                 ; TI
        lar     ebx, eax
        expect_flags ZF, 0, "LAR of a selector of an absent LDT"
        mov     dword [level], 3
        gate    0x40, .back, INT_GATE | DPL3
        to_ring3 .ring3
.ring3: all_bytes
        int     0x40
.back:  mov     eax, DATA32
        mov     ds, eax
        mov     es, eax
        mov     esp, MSTACK
        report  2048, "protected mode, CPL 3"
        mov     dword [level], 0
        mov     dword [lar_types], LAR64
        mov     dword [lsl_types], LSL64
        call    long_start
bits 64
        all_bytes
        expect  qword [checks], 3072, "64-bit mode, CPL 0"
        expect  qword [differences], 0, "differences"
        done
        align   8, db 0
checks: dq      0
differences: dq 0
level:  dd      0
rpl:    dd      0
lar_types: dd   LAR32
lsl_types: dd   LSL32
bad:    dd      0, 0, 0, 0
rom_end
