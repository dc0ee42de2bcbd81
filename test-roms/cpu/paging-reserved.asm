; paging-reserved.asm - reserved bits of 4-level paging: every bit of every entry, for pages of
; 4 KiB, 2 MiB and 1 GiB, with and without EFER.NXE, read, written, fetched and read in ring 3;
; the error code and CR2. Intel SDM vol. 3A §4.5 (tables 4-15 to 4-20), §4.7.
;
; QEMU's TCG fails: it forgets P beside RSVD.

%include "rom.inc"
start:  title   "4-level paging: reserved bits, exhaustively"
        jmp     enter_pm
%include "pm.inc"
%include "long.inc"
bits 32
LIN     equ 0x8000050000                ; PML4 entry 1, then entries 0, 0 and 50h
FRAME   equ 0x50000
T_PDPT  equ PAGES_AT + 0x6000
T_PD    equ PAGES_AT + 0x7000
T_PT    equ PAGES_AT + 0x8000
ALIAS   equ 0x800000
UCODE64 equ SPARE | 3
KINDS   equ 4
NO_FAULT equ -1

main:   spare   0, 0, 0xFFFFF, 0xFA, 10
        call    long_start
bits 64
        mov     eax, 0x80000008
        cpuid
        movzx   eax, al
        mov     [address_bits], eax
        mov     eax, 0x80000001
        cpuid
        shr     edx, 26
        and     edx, 1
        mov     [has_1g], edx
        gate64  14, page_fault, INT_GATE
        gate64  0x41, from_ring3, INT_GATE | DPL3
        mov     edi, T_PDPT
        xor     eax, eax
        mov     ecx, 0x3000 / 8
        rep     stosq
        mov     qword [PD + 4 * 8], P | W | U | PS
        mov     dword [FRAME], 0xC3     ; RET

        xor     r12d, r12d              ; 1: NXE off
.nxe:   mov     ecx, EFER
        rdmsr
        or      eax, 1 << 11
        test    r12d, r12d
        jz      .efer
        and     eax, ~(1 << 11)
.efer:  wrmsr
        xor     r13d, r13d              ; size
.size:  mov     r14d, r13d              ; level of the entry that gets the bit
.level: mov     ebx, 1                  ; the bit
.bit:   call    is_address
        test    eax, eax
        jnz     .skip
        xor     ebp, ebp                ; kind
.kind:  call    set_tables
        call    set_wanted
        jmp     access
compare:
        inc     dword [checks]
        mov     eax, [seen]
        cmp     eax, [wanted]
        jne     .differ
        cmp     eax, NO_FAULT
        je      main.next
        mov     rax, [seen_cr2]
        mov     rcx, LIN
        cmp     rax, rcx
        je      main.next
.differ:
        inc     dword [differences]
        cmp     dword [differences], 1
        jne     main.next
        call    show_difference
main.next:
        inc     ebp
        cmp     ebp, KINDS
        jb      main.kind
main.skip:
        inc     ebx
        cmp     ebx, 64
        jb      main.bit
        inc     r14d
        cmp     r14d, 4
        jb      main.level
        inc     r13d
        mov     eax, [has_1g]
        inc     eax
        cmp     r13d, eax
        jbe     main.size
        inc     r12d
        cmp     r12d, 2
        jb      main.nxe
        mov     r15d, [checks]
        cmp     r15d, 1000
        mov     eax, 0
        adc     eax, 0
        expect  rax, 0, "more than a thousand accesses"
        mov     r15d, [differences]
        expect  r15, 0, "accesses that differ from the rule"
        ; Without P no other bit counts.
        mov     ecx, EFER
        rdmsr
        and     eax, ~(1 << 11)
        wrmsr
        mov     r13d, 0
        mov     r14d, 9
        call    set_tables
        mov     rax, -2
        mov     [T_PT + 0x50 * 8], rax
        mov     rax, LIN
        invlpg  [rax]
        gate64  14, stubs64 + 14 * 16, INT_GATE
        try64   .absent
        mov     al, [rax]
.absent: caught64 14, 0, "an entry without P and all other bits set"
        done

; EAX: 1 where bit EBX of the entry at level R14 is a bit of the address it holds.
is_address:
        xor     eax, eax
        mov     ecx, 12
        cmp     r14d, r13d
        jne     .from
        test    r13d, r13d
        jz      .from
        mov     ecx, 21                 ; a large page
        cmp     r13d, 1
        je      .from
        mov     ecx, 30
.from:  cmp     ebx, ecx
        jb      .no
        cmp     ebx, [address_bits]
        jae     .no
        inc     eax
.no:    ret

set_tables:
        mov     ecx, r13d
.level: mov     rdx, P | W | U
        cmp     ecx, r13d
        jne     .upper
        test    ecx, ecx
        jnz     .large
        or      rdx, FRAME
        jmp     .store
.large: or      rdx, PS
        jmp     .store
.upper: or      rdx, [table_below + rcx * 8]
.store: cmp     ecx, r14d
        jne     .plain
        bts     rdx, rbx
.plain: mov     rdi, [entry_at + rcx * 8]
        mov     [rdi], rdx
        inc     ecx
        cmp     ecx, 4
        jb      .level
        mov     rax, LIN
        invlpg  [rax]
        ret

; Whether bit EBX is reserved there, from the tables of the manual.
set_wanted:
        mov     dword [wanted], NO_FAULT
        cmp     ebx, 63
        je      .nx
        cmp     ebx, 52                 ; 52-62 are ignored
        jae     .done
        cmp     ebx, [address_bits]
        jae     .reserved
        cmp     r14d, r13d
        jne     .not_leaf
        cmp     ebx, 13                 ; in a large page 12 is PAT, what follows up to the address
        jb      .done                   ; is reserved
        test    r13d, r13d
        jnz     .reserved
        jmp     .done
.not_leaf:                              ; PS at level 4; below it makes a large page, whose
        cmp     ebx, 7                  ; reserved bits the address of the table sets
        je      .reserved
        jmp     .done
.nx:    test    r12d, r12d
        jnz     .reserved
        cmp     ebp, 2
        jne     .done
        mov     dword [wanted], 0x11    ; a fetch: forbidden, not reserved
        jmp     .done
.reserved:
        mov     eax, [kinds + rbp * 4]
        test    r12d, r12d
        jz      .store
        and     eax, ~0x10              ; I/D is not reported without NXE
.store: mov     [wanted], eax
.done:  ret
        align   8, db 0
kinds:  dd      0x09, 0x0B, 0x19, 0x0D
codes:  dd      read, write, fetch, read

access: mov     dword [seen], NO_FAULT
        mov     [saved_rsp], rsp
        mov     edx, [codes + rbp * 4]
        mov     rax, LIN
        cmp     ebp, 3
        je      .ring3
        jmp     rdx
.ring3: push    USER_DATA
        push    USTACK + ALIAS
        push    2
        push    UCODE64
        add     edx, ALIAS
        push    rdx
        iretq
read:   mov     cl, [rax]
        int     0x41
write:  mov     byte [rax], 0xC3
        int     0x41
fetch:  call    rax
        int     0x41
page_fault:
        pop     rcx
        mov     [seen], ecx
        mov     rcx, cr2
        mov     [seen_cr2], rcx
from_ring3:
        mov     rsp, [saved_rsp]
        jmp     compare

show_difference:
        text    rsi, "NXE off, size, level, bit, kind, seen, CR2, wanted: "
        call    print_64
        show64  r12
        show64  r13
        show64  r14
        show64  rbx
        show64  rbp
        mov     edx, [seen]
        call    hex_64
        show64  [seen_cr2]
        mov     edx, [wanted]
        call    hex_64
        mov     al, 10
        out     0xE9, al
        ret

        align   8, db 0
entry_at: dq    T_PT + 0x50 * 8, T_PD, T_PDPT, PML4 + 8
table_below: dq 0, T_PT, T_PD, T_PDPT
saved_rsp: dq   0
seen_cr2: dq    0
seen:   dd      0
wanted: dd      0
checks: dd      0
differences: dd 0
has_1g: dd      0
address_bits: dd 0
rom_end
