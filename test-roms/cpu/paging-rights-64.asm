; paging-rights-64.asm - 4-level paging: every combination of W, U and NX at every level, of
; CR0.WP, CR4.SMEP, CR4.SMAP and RFLAGS.AC, and of the kind of access: whether it faults, the
; error code, CR2, and the Accessed and Dirty bits afterwards.
; Intel SDM vol. 3A §4.6 (access rights), §4.7 (error codes), §4.8 (A and D).
; Needs CPUID features NX, SMEP and SMAP.
;
; That a faulting access leaves its leaf entry's A clear is stricter than §4.8, which lets a
; processor set it; all processors known leave it, but QEMU's TCG sets that of a 1 GiB page.
;
; A supervisor's implicit accesses under AC are in smap-implicit.asm, reserved bits in
; paging-reserved.asm. The first difference is printed with its combination:
; mode (1 WP, 2 SMEP, 4 SMAP, 8 AC), size (0 4 KiB, 1 2 MiB, 2 1 GiB), rights (three bits a
; level from the leaf up: 1 W, 2 U, 4 NX), kind (see kinds), what was seen and what was wanted.

%include "rom.inc"
start:  title   "4-level paging: access rights, exhaustively"
        jmp     enter_pm
%include "pm.inc"
%include "long.inc"
bits 32
A equ 32
D equ 64
LIN     equ 0x8000050000                ; PML4 entry 1, then entries 0, 0 and 50h
FRAME   equ 0x50000
T_PDPT  equ PAGES_AT + 0x6000
T_PD    equ PAGES_AT + 0x7000
T_PT    equ PAGES_AT + 0x8000
ALIAS   equ 0x800000                    ; low memory once more, for ring 3
LDT     equ SPARE + 4 * 8
KINDS   equ 8
NO_FAULT equ -1

main:   spare   0, 0, 0xFFFFF, 0xFA, 10
        spare   4, LIN & 0xFFFFFFFF, 0xFFF, 0x82, 0
        mov     dword [gdt_spare + 40], LIN >> 32
        mov     dword [gdt_spare + 44], 0
        call    long_start
bits 64
        mov     eax, 7
        xor     ecx, ecx
        cpuid
        and     ebx, 1 << 20 | 1 << 7
        expect  rbx, 1 << 20 | 1 << 7, "CPUID: SMAP and SMEP"
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
        ; The ROM is the supervisor's; ring 3 has it at another address.
        mov     qword [PD], P | W | PS
        mov     qword [PD + 8], 0x200000 | P | W | PS
        mov     qword [PD + 4 * 8], P | W | U | PS
        mov     rax, cr3
        mov     cr3, rax
        mov     ax, LDT
        lldt    ax
        mov     qword [FRAME], 0xC3     ; RET
        mov     byte [FRAME + 5], 0xF2  ; and a data segment

        xor     r12d, r12d              ; mode
.mode:  mov     rax, cr0
        and     eax, ~(1 << 16)
        mov     ecx, r12d
        and     ecx, 1
        shl     ecx, 16
        or      eax, ecx
        mov     cr0, rax
        mov     rax, cr4
        and     eax, ~(3 << 20)
        mov     ecx, r12d
        and     ecx, 6
        shl     ecx, 19
        or      eax, ecx
        mov     cr4, rax
        xor     r13d, r13d              ; size
.size:  xor     r14d, r14d              ; rights
.right: xor     ebp, ebp                ; kind
.kind:  cmp     ebp, 7                  ; implicit at CPL 0
        jne     .go
        test    r12d, 8
        jnz     .next
.go:    call    set_tables
        call    set_wanted
        jmp     access
compare:
        inc     dword [checks]
        mov     eax, [seen]
        cmp     eax, [wanted]
        jne     .differ
        cmp     eax, NO_FAULT
        je      .bits
        mov     rax, [seen_cr2]
        cmp     rax, [wanted_cr2]
        jne     .differ
.bits:  call    get_bits
        cmp     eax, [wanted_bits]
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
        inc     r14d
        mov     ecx, 4
        sub     ecx, r13d
        lea     ecx, [rcx + rcx * 2]    ; three bits a level
        mov     eax, r14d
        shr     eax, cl
        jz      main.right
        inc     r13d
        mov     eax, [has_1g]
        inc     eax
        cmp     r13d, eax
        jbe     main.size
        inc     r12d
        cmp     r12d, 16
        jb      main.mode

        mov     rax, cr4
        and     eax, ~(3 << 20)
        mov     cr4, rax
        mov     r15d, [checks]
        mov     eax, 16 * (4096 + 512) * KINDS - 8 * (4096 + 512)
        cmp     dword [has_1g], 0
        je      .all
        add     eax, 16 * 64 * KINDS - 8 * 64
.all:   expect  r15, rax, "accesses made"
        mov     r15d, [differences]
        expect  r15, 0, "accesses that differ from the rule"
        done

; The four entries for LIN, without A and D.
set_tables:
        mov     eax, r14d
        mov     ecx, r13d
.level: mov     edx, eax
        and     edx, 3
        lea     rdx, [rdx * 2 + P]
        mov     rbx, rax
        and     ebx, 4
        shl     rbx, 61
        or      rdx, rbx
        cmp     ecx, r13d
        jne     .upper
        test    ecx, ecx
        jnz     .large
        or      rdx, FRAME
        jmp     .store
.large: or      rdx, PS
        jmp     .store
.upper: or      rdx, [table_below + rcx * 8]
.store: mov     rbx, [entry_at + rcx * 8]
        mov     [rbx], rdx
        shr     eax, 3
        inc     ecx
        cmp     ecx, 4
        jb      .level
        mov     rax, LIN
        invlpg  [rax]
        ret

; What the manual's rules say of this access, from the combination alone.
set_wanted:
        mov     esi, 3                  ; W and U of all levels
        xor     edi, edi                ; NX of any
        mov     eax, r14d
        mov     ecx, 4
        sub     ecx, r13d
.level: mov     edx, eax
        and     esi, edx
        or      edi, edx
        shr     eax, 3
        dec     ecx
        jnz     .level
        mov     eax, [kinds + rbp * 4]
        test    al, K_USER
        jz      .supervisor
        test    esi, 2                  ; ring 3 reaches no supervisor page
        jz      .fault
        test    al, K_WRITE
        jz      .not_write
        test    esi, 1
        jz      .fault
.not_write:
        test    al, K_FETCH
        jz      .none
        test    edi, 4
        jnz     .fault
        jmp     .none
.supervisor:
        test    al, K_FETCH
        jnz     .fetch
        test    esi, 2                  ; SMAP: data of a user page only with AC, and never implicitly
        jz      .smap_passed
        test    r12d, 4
        jz      .smap_passed
        test    al, K_IMPLICIT
        jnz     .fault
        test    r12d, 8
        jz      .fault
.smap_passed:
        test    al, K_WRITE
        jz      .none
        test    esi, 1
        jnz     .none
        test    r12d, 1                 ; WP
        jnz     .fault
        jmp     .none
.fetch: test    edi, 4
        jnz     .fault
        test    esi, 2
        jz      .none
        test    r12d, 2                 ; SMEP
        jnz     .fault
.none:  mov     dword [wanted], NO_FAULT
        mov     dword [wanted_bits], A
        test    al, K_WRITE
        jz      .done
        mov     dword [wanted_bits], A | D
.done:  ret
.fault: mov     ecx, 1                  ; present
        mov     edx, eax
        and     edx, K_WRITE | K_USER | K_FETCH
        or      ecx, edx
        mov     [wanted], ecx
        mov     dword [wanted_bits], 0
        mov     rcx, LIN
        test    al, K_WRITE
        jz      .cr2
        add     rcx, 8
.cr2:   mov     [wanted_cr2], rcx
        ret

; The kinds: their bits are those of the error code.
K_WRITE equ 2
K_USER  equ 4
K_FETCH equ 16
K_RING3 equ 32                          ; made in ring 3
K_IMPLICIT equ 64
        align   8, db 0
kinds:  dd      0, K_WRITE, K_FETCH
        dd      K_USER | K_RING3, K_USER | K_WRITE | K_RING3, K_USER | K_FETCH | K_RING3
        dd      K_IMPLICIT | K_RING3, K_IMPLICIT
codes:  dd      read, write, fetch, read, write, fetch, verify, verify

access: mov     dword [seen], NO_FAULT
        mov     [saved_rsp], rsp
        mov     edx, [codes + rbp * 4]
        mov     ecx, r12d
        and     ecx, 8
        shl     ecx, 15                 ; RFLAGS.AC
        or      ecx, 2
        mov     rax, LIN
        mov     ebx, 4                  ; the first selector of the LDT
        test    dword [kinds + rbp * 4], K_RING3
        jnz     .ring3
        push    rcx
        popfq
        jmp     rdx
.ring3: push    USER_DATA
        push    USTACK + ALIAS
        push    rcx
        push    UCODE64
        add     edx, ALIAS
        push    rdx
        iretq
UCODE64 equ SPARE | 3
read:   mov     cl, [rax]
        int     0x41
write:  mov     [rax + 8], cl
        int     0x41
fetch:  call    rax
        int     0x41
verify: verr    bx
        int     0x41
page_fault:
        pop     rcx
        mov     [seen], ecx
        mov     rcx, cr2
        mov     [seen_cr2], rcx
from_ring3:
        mov     rsp, [saved_rsp]
        jmp     compare

; A of all levels, or of the leaf only where the access faulted (an entry above may have it
; either way then), and D of the leaf.
get_bits:
        mov     rbx, [entry_at + r13 * 8]
        mov     eax, [rbx]
        cmp     dword [seen], NO_FAULT
        jne     .leaf
        mov     ecx, r13d
.level: mov     rbx, [entry_at + rcx * 8]
        mov     edx, [rbx]
        or      edx, ~A
        and     eax, edx
        inc     ecx
        cmp     ecx, 4
        jb      .level
.leaf:  and     eax, A | D
        ret

show_difference:
        text    rsi, "mode, size, rights, kind, seen, CR2, A|D, wanted, CR2, A|D: "
        call    print_64
        show64  r12
        show64  r13
        show64  r14
        show64  rbp
        mov     edx, [seen]
        call    hex_64
        show64  [seen_cr2]
        call    get_bits
        show64  rax
        mov     edx, [wanted]
        call    hex_64
        show64  [wanted_cr2]
        mov     eax, [wanted_bits]
        show64  rax
        mov     al, 10
        out     0xE9, al
        ret

        align   8, db 0
entry_at: dq    T_PT + 0x50 * 8, T_PD, T_PDPT, PML4 + 8
table_below: dq 0, T_PT, T_PD, T_PDPT
saved_rsp: dq   0
seen_cr2: dq    0
wanted_cr2: dq  0
seen:   dd      0
wanted: dd      0
wanted_bits: dd 0
checks: dd      0
differences: dd 0
has_1g: dd      0
rom_end
