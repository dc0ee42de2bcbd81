; smap-implicit.asm - SMAP and the accesses that the processor makes by itself: to descriptor
; tables and the TSS with RFLAGS.AC set, in ring 0 too, which AC does not excuse; STAC and CLAC.
; Intel SDM vol. 3A §4.6 (explicit and implicit supervisor-mode accesses), vol. 2 STAC.
;
; QEMU's TCG and Bochs fail: to them an implicit access in ring 0 is like an explicit one.

%include "rom.inc"
start:  title   "SMAP: implicit accesses"
        jmp     enter_pm
%include "pm.inc"
%include "paging.inc"
SMAP equ 1 << 21
LDT equ SPARE

%macro ac_on 0
        pushfd
        or      dword [esp], AC
        popfd
%endmacro
%macro ac_off 0
        pushfd
        and     dword [esp], ~AC
        popfd
%endmacro

main:   mov     eax, 7
        xor     ecx, ecx
        cpuid
        shr     ebx, 20
        and     ebx, 1
        expect  ebx, 1, "CPUID: SMAP"
        spare   0, 0x400000, 0xFFF, 0x82, 0
        call    paging_start
        mov     edi, PAGE_TABLE_0       ; all is the supervisor's
        mov     ecx, 1024
.page:  and     dword [edi], ~U
        add     edi, 4
        loop    .page
        flush
        mov     dword [0x50000], 0x0000FFFF     ; descriptors in a user page
        mov     dword [0x50004], 0x00CF9300
        map     0x400000, 0x50000 | P | W | U
        mov     ax, LDT
        lldt    ax
        mov     eax, cr4
        or      eax, SMAP
        mov     cr4, eax

        ac_off
        try     .a
        mov     eax, [0x400000]
.a:     caught  14, 1, "a user page without AC"
        ac_on
        mov     eax, [0x400000]
        expect  eax, 0xFFFF, "and with AC"
        ac_on
        try     .b
        mov     eax, 4
        mov     fs, ax
.b:     ac_off
        caught  14, 1, "loading FS from a table in a user page, with AC"
        expect  dword [t_cr2], 0x400000, "CR2"
        ac_on
        try     .c
        mov     eax, 4
        lar     ebx, eax
.c:     ac_off
        caught  14, 1, "LAR"
        ; The IDT in a user page: #PF while delivering, which cannot be delivered either, unless the
        ; page fault's own gate is elsewhere; so only vectors above 1FFh * 8 are moved there.
        mov     esi, IDT_AT
        mov     edi, 0x51000
        mov     ecx, 0x1000 / 4
        rep     movsd
        map     0x401000, 0x51000 | P | W
        map     0x402000, 0x52000 | P | W | U
        mov     esi, IDT_AT
        mov     edi, 0x52000 - 0x100    ; vectors 0 to 1Fh in 401F00h-401FFFh, the rest above
        mov     ecx, 0x800 / 4
        rep     movsd
        lidt    [idt_moved]
        ac_on
        try     .d
        int     0x20
.d:     ac_off
        caught  14, 1, "INT by a gate in a user page, with AC"
        expect  dword [t_cr2], 0x402000, "CR2"
        lidt    [idt_pointer]
        ; The TSS in a user page: the stack for ring 0.
        mov     esi, TSS_AT
        mov     edi, 0x53000
        mov     ecx, 0x68 / 4
        rep     movsd
        map     0x403000, 0x53000 | P | W | U
        map     0x404000, 0x54000 | P | W | U
        spare   1, 0x403000, 0x67, 0x89, 0
        ac_on
        try     .e
        mov     ax, SPARE + 8
        ltr     ax                      ; reads the descriptor only
        mov     dword [t_resume], 0
        mov     ecx, 1
.e:     ac_off
        expect  ecx, 1, "LTR does not touch the TSS"
        mov     ax, TSS_SEL
        mov     byte [gdt + TSS_SEL + 5], 0x89
        ltr     ax
        ; SMAP off: all is allowed.
        mov     eax, cr4
        and     eax, ~SMAP
        mov     cr4, eax
        mov     eax, 4
        lar     ebx, eax
        expect_flags ZF, ZF, "without SMAP LAR reads it"
        mov     eax, cr4
        or      eax, SMAP
        mov     cr4, eax
        ; STAC, CLAC.
        stac
        expect_flags AC, AC, "STAC"
        clac
        expect_flags AC, 0, "CLAC"
        mov     eax, cr4
        and     eax, ~SMAP
        mov     cr4, eax
        stac
        expect_flags AC, AC, "STAC works with CR4.SMAP clear"
        clac
        or      dword [PAGE_TABLE_0 + 7 * 4], U ; the ROM and the user's stack
        or      dword [PAGE_TABLE_0 + 8 * 4], U
        or      dword [PAGE_TABLE_0 + 9 * 4], U
        or      dword [PAGE_TABLE_0 + 10 * 4], U
        or      dword [PAGE_TABLE_0 + 0x19 * 4], U
        flush
        try     .g
        to_ring3 ring3_stac
.g:     caught  6, 0, "STAC in ring 3"
        try     .h
        to_ring3 ring3_clac
.h:     caught  6, 0, "CLAC in ring 3"
        done
ring3_stac: stac
        int3
ring3_clac: clac
        int3
        align   4, db 0
        dw      0
idt_moved: dw   0x7FF
        dd      0x401F00
rom_end
