; paging.asm - 32-bit paging: rights, WP, Accessed and Dirty, #PF error codes, CR2, 4 MiB pages.
; Intel SDM vol. 3A §4.3, §4.6-4.8.

%include "rom.inc"
start:  title   "32-bit paging"
        jmp     enter_pm
%include "pm.inc"
%include "paging.inc"

WP equ 1 << 16
PSE equ 1 << 4

main:   call    paging_start
        mov     dword [0x50000], 0x11111111
        mov     dword [0x51000], 0x22222222
        map     0x400000, 0x50000 | P | W | U
        map     0x401000, 0x50000 | P | W | U
        mov     eax, [0x400000]
        expect  eax, 0x11111111, "a mapped page"
        mov     dword [0x400004], 0x33333333
        expect  dword [0x401004], 0x33333333, "two pages, one frame"
        map     0x401000, 0x51000 | P | W | U
        expect  dword [0x401000], 0x22222222, "remapped after a load of CR3"
        mov     pte(0x401000), 0x50000 | P | W | U
        invlpg  [0x401000]
        expect  dword [0x401000], 0x11111111, "remapped after INVLPG"

        ; Accessed and Dirty, in the table and in the directory.
        map     0x400000, 0x50000 | P | W | U
        and     dword [PAGE_DIR + 4], ~A
        flush
        expect  pte(0x400000), 0x50000 | P | W | U, "A and D are clear before"
        mov     eax, [0x400000]
        expect  pte(0x400000), 0x50000 | P | W | U | A, "a read sets A"
        mov     eax, [PAGE_DIR + 4]
        and     eax, A | D
        expect  eax, A, "and A in the directory, never D"
        mov     [0x400000], eax
        expect  pte(0x400000), 0x50000 | P | W | U | A | D, "a write sets D"
        and     pte(0x400000), ~D
        flush
        mov     eax, [0x400000]
        mov     [0x400008], eax
        mov     eax, pte(0x400000)
        and     eax, D
        expect  eax, D, "a write after a read sets D although the page is cached"
        map     0x400000, 0x50000 | P | U
        try     .a0
        to_ring3 user_write
.a0:    mov     eax, pte(0x400000)
        and     eax, D
        expect  eax, 0, "a write that faults does not set D"

        ; Error codes: bit 0 present, 1 write, 2 user. Ring 0 first.
        map     0x400000, 0
        try     .a
        mov     eax, [0x400123]
.a:     caught  14, 0, "read, not present"
        expect  dword [t_cr2], 0x400123, "CR2"
        try     .b
        mov     [0x400FFE], al
.b:     caught  14, 2, "write, not present"
        expect  dword [t_cr2], 0x400FFE, "CR2"
        mov     dword [PAGE_DIR + 4], 0
        flush
        try     .d
        mov     eax, [0x400000]
.d:     caught  14, 0, "no directory entry"
        mov     dword [PAGE_DIR + 4], PAGE_TABLE_1 | P | W | U
        try     .e
        mov     ecx, 0x40000 * 16
        jmp     ecx
.e:     caught  14, 0, "a jump to a page that is not present"
        expect  dword [t_eip], 0x400000, "EIP is the target"
        expect  dword [t_cr2], 0x400000, "and CR2 too"

        map     0x400000, 0x50000 | P | U
        mov     eax, cr0
        and     eax, ~WP
        mov     cr0, eax
        mov     dword [0x400000], 5
        expect  dword [0x50000], 5, "WP = 0: ring 0 writes read-only pages"
        mov     eax, cr0
        or      eax, WP
        mov     cr0, eax
        try     .f
        mov     dword [0x400000], 6
.f:     caught  14, 3, "WP = 1: it does not"
        expect  dword [0x50000], 5, "and nothing was written"

        ; Ring 3: the rights of directory and table are combined.
        map     0x400000, 0x50000 | P | W
        try     .g
        to_ring3 user_read
.g:     caught  14, 5, "ring 3 reads a supervisor page"
        try     .h
        to_ring3 user_write
.h:     caught  14, 7, "ring 3 writes a supervisor page"
        map     0x400000, 0x50000 | P | U
        try     .i
        to_ring3 user_write
.i:     caught  14, 7, "ring 3 writes a read-only page"
        map     0x400000, 0
        try     .j
        to_ring3 user_read
.j:     caught  14, 4, "ring 3, not present"
        map     0x400000, 0x50000 | P | W | U
        mov     dword [PAGE_DIR + 4], PAGE_TABLE_1 | P | W
        flush
        try     .k
        to_ring3 user_read
.k:     caught  14, 5, "U = 0 in the directory"
        mov     dword [PAGE_DIR + 4], PAGE_TABLE_1 | P | U
        flush
        try     .l
        to_ring3 user_write
.l:     caught  14, 7, "W = 0 in the directory"
        mov     dword [PAGE_DIR + 4], PAGE_TABLE_1 | P | W | U
        flush
        try     .m
        to_ring3 user_write
.m:     caught  6, 0, "all rights: the write goes through to the UD2"
        expect  dword [0x50000], 0x99, "and has written"

        ; The processor's own accesses are ring 0's even when CPL is 3.
        mov     eax, pte(0x10000)
        and     eax, ~U
        mov     pte(0x10000), eax       ; the IDT
        and     pte(TSS_AT), ~U
        flush
        try     .n
        to_ring3 user_ud2
.n:     caught  6, 0, "IDT and TSS in supervisor pages"
        or      pte(0x10000), U
        or      pte(TSS_AT), U

        ; 4 MiB pages.
        mov     eax, cr4
        or      eax, PSE
        mov     cr4, eax
        mov     dword [PAGE_DIR + 4], 0 | P | W | U | 0x80
        flush
        mov     dword [0x52000], 0x44444444
        expect  dword [0x452000], 0x44444444, "a 4 MiB page"
        mov     [0x452004], eax
        mov     eax, [PAGE_DIR + 4]
        expect  eax, P | W | U | 0x80 | A | D, "its A and D are in the directory"
        done

user_read:
        mov     eax, [0x400000]
        ud2
user_write:
        mov     dword [0x400000], 0x99
user_ud2:
        ud2
rom_end
