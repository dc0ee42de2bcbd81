; pae-nx.asm - PAE paging with 64-bit entries, execute-disable.
; Intel SDM vol. 3A §4.4, §4.6, §4.7. Needs CPUID features PAE and NX.

%include "rom.inc"
start:  title   "PAE and NX"
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

main:   mov     eax, 1
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

        mov     byte [0x50000], 0xC3    ; RET
        mov     dword [0x50004], 0x12345678
        map64   0, 0x50000 | P | W | U, 0
        mov     eax, [0x400004]
        expect  eax, 0x12345678, "a page of 4 KiB"
        mov     ebx, 0x400000
        call    ebx
        expect  ebx, 0x400000, "it can be executed"
        mov     eax, [PT_2]
        and     eax, 0x20
        expect  eax, 0x20, "Accessed was set"

        map64   0, 0x50000 | P | W | U, NX_HIGH
        mov     ecx, EFER
        rdmsr
        or      eax, 1 << 11            ; NXE
        wrmsr
        flush
        mov     eax, [0x400004]
        expect  eax, 0x12345678, "NX page: data can be read"
        try     .b
        call    ebx
.b:     caught  14, 0x11, "an instruction fetch from it: I/D, present"
        expect  dword [t_cr2], 0x400000, "CR2"
        expect  dword [t_eip], 0x400000, "EIP"
        try     .c
        to_ring3 0x400000
.c:     caught  14, 0x15, "the same in ring 3"
        map64   0, 0, 0
        try     .d
        call    ebx
.d:     caught  14, 0x10, "a fetch from an absent page: I/D is reported with NXE"
        ; NX in the directory covers all below.
        map64   0, 0x50000 | P | W | U, 0
        mov     dword [PD_0 + 20], NX_HIGH
        flush
        try     .e
        call    ebx
.e:     caught  14, 0x11, "NX in the directory entry"
        mov     dword [PD_0 + 20], 0
        ; An instruction whose second half is in an NX page.
        map64   0, 0x50000 | P | W | U, 0
        map64   1, 0x51000 | P | W | U, NX_HIGH
        mov     byte [0x50FFE], 0xB8
        mov     ebx, 0x400FFE
        try     .f
        call    ebx
.f:     caught  14, 0x11, "an instruction that runs into an NX page"
        expect  dword [t_cr2], 0x401000, "CR2 is the second page"
        expect  dword [t_eip], 0x400FFE, "EIP the first"
        ; The four PDPTEs are read when CR3 is loaded, not before.
        map64   0, 0x50000 | P | W | U, 0
        mov     dword [PDPT + 8], PD_0 | P
        mov     eax, cr3
        mov     cr3, eax
        mov     eax, [0x40400004]
        expect  eax, 0x12345678, "a second PDPT entry, after a load of CR3"
        done
rom_end
