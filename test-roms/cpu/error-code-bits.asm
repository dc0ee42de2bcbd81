; error-code-bits.asm - error code bits that emulators tend to forget: EXT, and RSVD together
; with P. Intel SDM vol. 3A §6.13, §4.7. QEMU's TCG fails here; Bochs passes.

%include "rom.inc"
start:  title   "error codes: EXT and RSVD"
        jmp     enter_pm
%include "pm.inc"

P equ 1
W equ 2
U equ 4
PS equ 0x80
NX_HIGH equ 0x80000000                  ; bit 63, in the upper half
PDPT equ PAGES_AT
PD_0 equ PAGES_AT + 0x1000
PT_2 equ PAGES_AT + 0x2000
EFER equ 0xC0000080

%macro flush 0
        push    eax
        mov     eax, cr3
        mov     cr3, eax
        pop     eax
%endmacro
; map64 INDEX, LOW, HIGH: an entry of the table for 400000h-5FFFFFh
%macro map64 3
        mov     dword [PT_2 + (%1) * 8], %2
        mov     dword [PT_2 + (%1) * 8 + 4], %3
        flush
%endmacro

main:   ; A fault on delivering an exception: EXT says that no INT instruction is to blame.
        mov     byte [IDT_AT + 6 * 8 + 5], 0x0E
        try     .ext
        ud2
.ext:   caught  11, 6 * 8 + 3, "#NP on delivering #UD has EXT set"
        mov     byte [IDT_AT + 6 * 8 + 5], INT_GATE
        mov     byte [IDT_AT + 0x40 * 8 + 5], 0x0E
        try     .int
        int     0x40
.int:   caught  11, 0x40 * 8 + 2, "#NP on INT 40h has it clear"

        mov     eax, 1
        cpuid
        shr     edx, 6
        and     edx, 1
        expect  edx, 1, "CPUID: PAE"
        mov     eax, 0x80000001
        cpuid
        shr     edx, 20
        and     edx, 1
        expect  edx, 1, "CPUID: NX"
        mov     edi, PDPT
        mov     ecx, 0x3000 / 4
        xor     eax, eax
        rep     stosd
        mov     dword [PDPT], PD_0 | P
        mov     dword [PD_0], 0 | P | W | U | PS            ; 0-2 MiB
        mov     dword [PD_0 + 8], 0x200000 | P | W | U | PS ; 2-4 MiB
        mov     dword [PD_0 + 16], PT_2 | P | W | U
        mov     eax, PDPT
        mov     cr3, eax
        mov     eax, cr4
        or      eax, 1 << 5             ; PAE
        mov     cr4, eax
        mov     eax, cr0
        or      eax, 0x80010000         ; PG, WP
        mov     cr0, eax
        expect  ebp, ebp, "still alive with PAE"

        mov     dword [0x50004], 0x12345678
        ; Without EFER.NXE bit 63 is reserved.
        map64   0, 0x50000 | P | W | U, NX_HIGH
        try     .a
        mov     eax, [0x400004]
.a:     caught  14, 9, "NX without NXE: reserved bit, present"
        ; Physical address bits beyond the processor's.
        map64   0, 0x50000 | P | W | U, 0x00080000      ; bit 51
        try     .g
        mov     eax, [0x400004]
.g:     caught  14, 9, "a physical address bit that the processor has not"
        map64   0, 0x50000 | P | W | U, 0
        try     .h
        mov     dword [PDPT + 8], PD_0 | P | W  ; W is reserved in a PDPTE
        mov     eax, cr3
        mov     cr3, eax
.h:     caught  13, 0, "a reserved bit in a PDPTE: #GP on MOV CR3"
        done
rom_end
