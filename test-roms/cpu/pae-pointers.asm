; pae-pointers.asm - PAE's four page-directory-pointer entries: they are read when CR3 is loaded
; and by certain writes of CR0 and CR4, not when translating; every reserved bit of each is
; #GP(0) then, and nothing has changed. Also the reserved bits 52-62 of the other PAE entries and
; those of a 2 MiB page. Intel SDM vol. 3A §4.4.1, §4.4.2 (tables 4-8 to 4-11).
;
; QEMU's TCG fails: it reads them when translating. So does Bochs, in that it reads them when
; CR0.WP changes.

%include "rom.inc"
start:  title   "PAE: page-directory pointers and reserved bits"
        jmp     enter_pm
%include "pm.inc"

P equ 1
W equ 2
U equ 4
PS equ 0x80
PDPT    equ PAGES_AT
PDPT_2  equ PAGES_AT + 0x20             ; 32-byte alignment is enough
PD_LOW  equ PAGES_AT + 0x1000
PD_A    equ PAGES_AT + 0x2000
PD_B    equ PAGES_AT + 0x3000
PT_A    equ PAGES_AT + 0x4000
EFER    equ 0xC0000080
CR4_PSE equ 1 << 4
CR4_PAE equ 1 << 5
CR4_PGE equ 1 << 7
CR4_SMEP equ 1 << 20

%macro reload 0
        mov     eax, cr3
        mov     cr3, eax
%endmacro

main:   mov     eax, 0x80000000
        cpuid
        mov     ecx, 36
        cmp     eax, 0x80000008
        jb      .width
        mov     eax, 0x80000008
        cpuid
        movzx   ecx, al
.width: mov     [address_bits], ecx
        mov     edi, PAGES_AT
        mov     ecx, 0x5000 / 4
        xor     eax, eax
        rep     stosd
        mov     dword [PDPT], PD_LOW | P
        mov     dword [PD_LOW], P | W | U | PS
        mov     dword [PD_LOW + 8], 0x200000 | P | W | U | PS
        mov     dword [PD_A], PT_A | P | W | U
        mov     dword [PD_B], PT_A | P | W | U
        mov     dword [PD_B], P | W | U | PS    ; 0 again, so 50000h is there too
        mov     dword [PT_A + 0x50 * 8], 0x60000 | P | W | U
        mov     dword [0x50000], 0x11111111
        mov     dword [0x60000], 0x22222222
        mov     eax, cr4
        or      eax, CR4_PAE
        mov     cr4, eax
        mov     eax, PDPT
        mov     cr3, eax
        mov     eax, cr0
        and     eax, ~(3 << 29)         ; CD and NW, which a BIOS may have left set
        or      eax, 0x80010000
        mov     cr0, eax

        ; When they are read.
        mov     dword [PDPT + 8], PD_A | P
        try     .a
        mov     eax, [0x40050000]
.a:     caught  14, 0, "a pointer written after the load of CR3 does not count"
        invlpg  [0x40050000]
        try     .b
        mov     eax, [0x40050000]
.b:     caught  14, 0, "nor does INVLPG read it"
        reload
        expect  dword [0x40050000], 0x22222222, "MOV CR3 does"
        mov     dword [PDPT + 8], PD_B | P
        expect  dword [0x40050000], 0x22222222, "the pointer's copy stays"
        mov     eax, cr4
        xor     eax, CR4_PSE
        mov     cr4, eax
        expect  dword [0x40050000], 0x11111111, "a change of CR4.PSE reads them"
        mov     dword [PDPT + 8], PD_A | P
        mov     eax, cr4
        xor     eax, CR4_PGE
        mov     cr4, eax
        expect  dword [0x40050000], 0x22222222, "a change of CR4.PGE too"
        mov     dword [PDPT + 8], PD_B | P
        mov     eax, cr4
        xor     eax, 1 << 3             ; DE
        mov     cr4, eax
        invlpg  [0x40050000]            ; what is cached may stay
        expect  dword [0x40050000], 0x22222222, "one of CR4.DE does not"
        mov     eax, cr0
        xor     eax, 1 << 16            ; WP
        mov     cr0, eax
        invlpg  [0x40050000]
        expect  dword [0x40050000], 0x22222222, "nor does one of CR0.WP"
        mov     eax, cr0
        xor     eax, 1 << 30            ; CD
        mov     cr0, eax
        invlpg  [0x40050000]
        expect  dword [0x40050000], 0x11111111, "one of CR0.CD does"
        mov     eax, cr0
        xor     eax, 1 << 30
        mov     cr0, eax
        mov     dword [PDPT + 8], PD_A | P
        mov     eax, cr0
        and     eax, 0x7FFFFFFF
        mov     cr0, eax
        or      eax, 0x80000000
        mov     cr0, eax
        expect  dword [0x40050000], 0x22222222, "and paging being switched on"
        mov     dword [PDPT_2], PD_LOW | P
        mov     dword [PDPT_2 + 8], PD_B | P
        mov     dword [PDPT_2 + 16], 0
        mov     eax, PDPT_2 | 0x18
        mov     cr3, eax
        expect  dword [0x40050000], 0x11111111, "CR3 points to 32 bytes, PWT and PCD aside"
        mov     eax, PDPT
        mov     cr3, eax

        ; Each bit of each pointer.
        xor     ebp, ebp                ; the pointer
.pointer:
        xor     ebx, ebx                ; the bit
.bit:   mov     dword [PDPT + 8 * 1], PD_A | P
        mov     dword [PDPT + 8 * 1 + 4], 0
        mov     dword [PDPT + 8 * 2], PD_A | P
        mov     dword [PDPT + 8 * 2 + 4], 0
        mov     dword [PDPT + 8 * 3], PD_A | P
        mov     dword [PDPT + 8 * 3 + 4], 0
        mov     dword [PDPT], PD_LOW | P
        mov     dword [PDPT + 4], 0
        cmp     ebx, 12
        jb      .try
        cmp     ebx, [address_bits]
        jb      .next
.try:   bts     [PDPT + ebp * 8], ebx   ; bit 0 is set already
        try     .done_
        reload
        int3
.done_: mov     dword [t_resume], 0
        mov     edx, 13
        cmp     ebx, [address_bits]
        jae     .compare
        cmp     ebx, 1
        je      .compare
        cmp     ebx, 2
        je      .compare
        cmp     ebx, 5
        jb      .none
        cmp     ebx, 8
        jbe     .compare
.none:  mov     edx, 3
.compare:
        inc     dword [checks]
        cmp     edx, [t_vector]
        je      .absent
        call    difference
.absent: ; Without P nothing is reserved.
        test    ebp, ebp
        jz      .next
        and     dword [PDPT + ebp * 8], ~P
        try     .done2
        reload
        int3
.done2: mov     dword [t_resume], 0
        mov     edx, 3
        inc     dword [checks]
        cmp     edx, [t_vector]
        je      .next
        call    difference
.next:  inc     ebx
        cmp     ebx, 64
        jb      .bit
        inc     ebp
        cmp     ebp, 4
        jb      .pointer
        mov     dword [PDPT], PD_LOW | P
        mov     dword [PDPT + 4], 0
        mov     dword [PDPT + 8 * 3 + 4], 0
        reload
        expect  dword [differences], 0, "loads of CR3 that differ from the rule"
        mov     dword [PDPT + 8], PD_A | P
        reload
        mov     dword [PDPT + 8], PD_B | P | W
        try     .gp
        mov     eax, PDPT
        mov     cr3, eax
.gp:    caught  13, 0, "#GP(0) on MOV CR3"
        expect  dword [0x40050000], 0x22222222, "the old pointers are still in use"
        try     .gp4
        mov     eax, cr4
        xor     eax, CR4_PGE
        mov     ecx, eax
        mov     cr4, eax
.gp4:   caught  13, 0, "#GP(0) on MOV CR4"
        mov     eax, cr4
        xor     eax, ecx
        expect  eax, CR4_PGE, "CR4 is as before"
        mov     dword [PDPT + 8], PD_A | P
        reload

        ; Bits 52 to 62 and those beyond the address of PTE and PDE, and of a 2 MiB page.
        mov     ecx, EFER
        rdmsr
        or      eax, 1 << 11
        wrmsr
        mov     dword [checks], 0
        mov     dword [differences], 0
        mov     dword [entry], PT_A + 0x50 * 8
        mov     dword [plain], 0x60000 | P | W | U
        call    sweep
        mov     dword [PT_A + 0x50 * 8], 0x60000 | P | W | U
        mov     dword [PT_A + 0x50 * 8 + 4], 0
        mov     dword [entry], PD_A
        mov     dword [plain], PT_A | P | W | U
        call    sweep
        mov     dword [plain], P | W | U | PS
        mov     dword [large], 1
        call    sweep
        expect  dword [differences], 0, "entries that differ from the rule"
        expect  dword [checks_enough], 1, "many were tried"
        done

; Each bit of [entry], a value of [plain] else.
sweep:  mov     ebx, 1
.bit:   cmp     ebx, [address_bits]
        jae     .try
        cmp     ebx, 12
        jb      .try
        cmp     dword [large], 0
        je      .next
        cmp     ebx, 21
        jae     .next
.try:   mov     edi, [entry]
        mov     eax, [plain]
        mov     [edi], eax
        mov     dword [edi + 4], 0
        bts     [edi], ebx
        invlpg  [0x40050000]
        try     .done
        mov     eax, [0x40050000]
        int3
.done:  mov     dword [t_resume], 0
        mov     edx, 3
        cmp     ebx, 63
        je      .compare
        cmp     ebx, [address_bits]
        jae     .reserved
        cmp     ebx, 7
        jne     .not_ps
        cmp     edi, PD_A
        jne     .compare
        cmp     dword [large], 0
        je      .reserved               ; the table's address sets reserved bits of a 2 MiB page
        jmp     .compare
.not_ps: cmp    ebx, 13
        jb      .compare
.reserved:
        mov     edx, 14
.compare:
        inc     dword [checks]
        cmp     dword [checks], 60
        jne     .few
        mov     dword [checks_enough], 1
.few:   cmp     edx, [t_vector]
        jne     .differ
        cmp     edx, 14
        jne     .next
        cmp     dword [t_error], 9
        je      .next
.differ: call   difference
.next:  inc     ebx
        cmp     ebx, 64
        jb      .bit
        mov     edi, [entry]
        mov     eax, [plain]
        mov     [edi], eax
        mov     dword [edi + 4], 0
        invlpg  [0x40050000]
        ret
difference:
        inc     dword [differences]
        push    edx
        text    esi, "pointer or entry, bit, vector, error code, wanted: "
        call    print_32
        show    ebp
        show    ebx
        show    [t_vector]
        show    [t_error]
        pop     edx
        call    hex_32
        mov     al, 10
        out     0xE9, al
        ret
        align   4, db 0
address_bits: dd 0
entry:  dd      0
plain:  dd      0
large:  dd      0
checks: dd      0
checks_enough: dd 0
differences: dd 0
rom_end
