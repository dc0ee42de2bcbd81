; tlb.asm - what must make the processor forget a translation: INVLPG, MOV CR3, CR4.PGE, CR0.PG by
; way of compatibility mode, INVPCID of each type, for pages of 4 KiB and 2 MiB, global or not,
; for reads, writes and fetches; what needs no invalidation; PCIDs.
; Intel SDM vol. 3A §4.10.4.1, §4.10.4.3 (optional invalidation), §4.10.1, vol. 2A INVPCID.

%include "rom.inc"
start:  title   "translation look-aside buffers"
        jmp     enter_pm
%include "pm.inc"
%include "long.inc"
bits 32
G       equ 1 << 8
D       equ 1 << 6
A       equ 1 << 5
LIN     equ 0x8000001000                ; PML4 entry 1, then 0, 0 and 1
T_PDPT  equ PAGES_AT + 0x6000
T_PD    equ PAGES_AT + 0x7000
T_PT    equ PAGES_AT + 0x8000
METHODS equ 9

main:   call    long_start
bits 64
        mov     eax, 7
        xor     ecx, ecx
        cpuid
        shr     ebx, 10
        and     ebx, 1
        mov     [has_invpcid], ebx
        mov     eax, 1
        cpuid
        shr     ecx, 17
        and     ecx, 1
        mov     [has_pcid], ecx
        mov     edi, T_PDPT
        xor     eax, eax
        mov     ecx, 0x3000 / 8
        rep     stosq
        mov     qword [PML4 + 8], T_PDPT | P | W
        mov     qword [T_PDPT], T_PD | P | W
        mov     rax, cr4
        or      eax, 1 << 7             ; PGE
        mov     cr4, rax

        xor     r12d, r12d              ; method
.method: xor    r13d, r13d              ; 1: 2 MiB
.size:  xor     r14d, r14d              ; 1: global
.global:
        ; Methods 3 to 6 need INVPCID.
        cmp     r12d, 3
        jb      .go
        cmp     r12d, 6
        ja      .go
        cmp     dword [has_invpcid], 0
        je      .next
.go:    xor     ebp, ebp                ; 0 read, 1 write, 2 fetch
.kind:  call    fill
        xor     eax, eax
        call    map
        mov     rdi, LIN
        invlpg  [rdi]
        call    touch                   ; now it is known
        mov     eax, 1
        call    map
        mov     edx, r12d
        call    [methods + rdx * 8]
        call    touch
        ; Frame 1 must be seen, but a global page may stay known to all but INVLPG, CR4.PGE,
        ; CR0.PG and INVPCID of types 0 and 2. (Type 0 need not drop it either.)
        cmp     eax, 1
        je      .right
        test    r14d, r14d
        jz      .wrong
        mov     ecx, 1 << 1 | 1 << 3 | 1 << 4 | 1 << 6
        bt      ecx, r12d
        jc      .right
.wrong: inc     dword [differences]
        text    rsi, "method, 2 MiB, global, kind, frame: "
        call    print_64
        show64  r12
        show64  r13
        show64  r14
        show64  rbp
        show64  rax
        mov     al, 10
        out     0xE9, al
.right: inc     dword [checks]
        inc     ebp
        cmp     ebp, 3
        jb      .kind
.next:  inc     r14d
        cmp     r14d, 2
        jb      .global
        inc     r13d
        cmp     r13d, 2
        jb      .size
        inc     r12d
        cmp     r12d, METHODS
        jb      .method
        mov     r15d, [differences]
        expect  r15, 0, "translations that outlived their invalidation"

        ; What needs none: a translation that faulted is not kept.
        mov     rdi, LIN
        xor     r13d, r13d
        xor     r14d, r14d
        mov     qword [T_PD], T_PT | P | W
        mov     qword [T_PT + 8], 0
        invlpg  [rdi]
        try64   .absent
        mov     eax, [rdi]
.absent: caught64 14, 0, "an absent page"
        mov     rdi, LIN
        mov     qword [T_PT + 8], 0x50000 | P | W
        mov     eax, [rdi + 8]
        expect  rax, 0x100, "made present: no INVLPG is needed"
        mov     qword [T_PT + 8], 0x50000 | P
        invlpg  [rdi]
        mov     eax, [rdi + 8]
        try64   .write
        mov     [rdi + 16], eax
.write: caught64 14, 3, "a write to a read-only page that is known"
        mov     rdi, LIN
        mov     qword [T_PT + 8], 0x50000 | P | W
        try64   .again                  ; one more #PF is allowed (§4.10.4.3)
        mov     dword [rdi + 16], 7
        mov     dword [t_vector], 0x77
.again: mov     qword [t_resume], 0
        mov     rdi, LIN
        mov     dword [rdi + 16], 8
        mov     eax, [0x50010]
        expect  rax, 8, "made writable: at most one fault, which forgets the page"
        mov     rax, [T_PT + 8]
        and     eax, A | D
        expect  rax, A | D, "D is set by the write although the page was known"
        ; A and D that software clears come again after INVLPG.
        and     qword [T_PT + 8], ~(A | D)
        invlpg  [rdi]
        mov     eax, [rdi]
        mov     rax, [T_PT + 8]
        and     eax, A | D
        expect  rax, A, "A after INVLPG and a read"
        mov     dword [rdi], 1
        mov     rax, [T_PT + 8]
        and     eax, A | D
        expect  rax, A | D, "D after a write"
        ; INVLPG of any address in a large page drops it whole.
        mov     r13d, 1
        call    fill
        xor     eax, eax
        call    map
        invlpg  [rdi]
        mov     eax, [rdi + 8]
        mov     eax, [rdi + 0x100000]
        mov     eax, 1
        call    map
        mov     rax, LIN + 0x1F0000
        invlpg  [rax]
        mov     rdi, LIN
        mov     eax, [rdi + 8]
        expect  rax, 0x101, "INVLPG elsewhere in a 2 MiB page"
        mov     eax, [rdi + 0x100000]
        expect  rax, 0x301, "for all of it"
        ; A directory entry that changes from a large page to a table.
        mov     qword [T_PD], T_PT | P | W
        mov     qword [T_PT + 8], 0x50000 | P | W
        invlpg  [rdi]
        mov     r13d, 0
        call    fill
        mov     eax, [rdi + 8]
        expect  rax, 0x100, "a large page becomes a table"

        ; PCIDs.
        cmp     dword [has_pcid], 0
        je      .no_pcid
        mov     rax, cr4
        or      eax, 1 << 17
        mov     cr4, rax
        xor     r13d, r13d
        xor     r14d, r14d
        xor     eax, eax
        call    map
        mov     rdi, LIN
        invlpg  [rdi]
        mov     rax, cr3
        or      eax, 5
        mov     cr3, rax
        mov     rcx, cr3
        and     ecx, 0xFFF
        expect  rcx, 5, "CR3 holds the PCID"
        mov     eax, [rdi + 8]
        mov     rax, cr3
        xor     eax, 5 ^ 6              ; PCID 6
        mov     cr3, rax
        mov     eax, 1
        call    map
        mov     eax, [rdi + 8]
        expect  rax, 0x101, "another PCID does not know the translation"
        mov     rax, cr3
        xor     eax, 5 ^ 6
        mov     cr3, rax                ; without bit 63: forgets those of PCID 5
        mov     eax, [rdi + 8]
        expect  rax, 0x101, "MOV CR3 forgets those of its PCID"
        mov     rax, cr3
        bts     rax, 63
        mov     cr3, rax
        mov     rcx, cr3
        shr     rcx, 63
        expect  rcx, 0, "bit 63 of CR3 is not kept"
        mov     eax, [rdi + 8]
        expect  rax, 0x101, "what it spares is right as well"
        try64   .pg
        mov     rax, cr0
        btr     rax, 31
        mov     cr0, rax
.pg:    caught64 13, 0, "CR0.PG with PCIDE"
        mov     rax, cr4
        btr     rax, 17
        mov     cr4, rax
        try64   .low
        mov     rax, cr4
        bts     rax, 17
        mov     cr4, rax
.low:   caught64 13, 0, "CR4.PCIDE with a PCID in CR3"
        mov     rax, cr3
        and     rax, ~0xFFF
        mov     cr3, rax
.no_pcid:
        cmp     dword [has_invpcid], 0
        je      .no_invpcid
%macro invpcid_fault 4                  ; type, PCID word, address, what
        mov     rax, %2
        mov     [descriptor_], rax
        mov     rax, %3
        mov     [descriptor_ + 8], rax
        mov     eax, %1
        try64   %%there
        invpcid rax, [descriptor_]
%%there: caught64 13, 0, %4
%endmacro
        invpcid_fault 4, 0, 0, "INVPCID: type 4"
        invpcid_fault 0, 1, 0, "INVPCID type 0: a PCID without PCIDE"
        invpcid_fault 1, 1, 0, "type 1 too"
        invpcid_fault 0, 0x1000, 0, "INVPCID: a reserved bit"
        invpcid_fault 2, 0x1000, 0, "INVPCID type 2: a reserved bit"
        invpcid_fault 0, 0, 0x0000800000000000, "INVPCID type 0: an address that is not canonical"
.no_invpcid:
        done

; Frames: dword +8 is 100h + n, and at their start MOV EAX, n; RET. At +100000h: 300h + n.
fill:   mov     edx, 0x50000
        mov     ecx, 0x51000
        test    r13d, r13d
        jz      .frames
        mov     edx, 0x801000
        mov     ecx, 0xA01000
.frames: mov    dword [rdx], 0x000000B8
        mov     dword [rdx + 4], 0xC300
        mov     dword [rcx], 0x000001B8
        mov     dword [rcx + 4], 0xC300
        mov     dword [rdx + 8], 0x100
        mov     dword [rcx + 8], 0x101
        mov     dword [rdx + 16], 0
        mov     dword [rcx + 16], 0
        test    r13d, r13d
        jz      .done
        mov     dword [rdx + 0x100000], 0x300
        mov     dword [rcx + 0x100000], 0x301
.done:  ret
map:    mov     ecx, r14d               ; frame EAX
        shl     ecx, 8                  ; G
        or      ecx, P | W
        test    r13d, r13d
        jnz     .large
        shl     eax, 12
        lea     rcx, [rcx + rax + 0x50000]
        mov     [T_PT + 8], rcx
        mov     qword [T_PD], T_PT | P | W
        ret
.large: shl     eax, 21
        lea     rcx, [rcx + rax + 0x800000 + PS]
        mov     [T_PD], rcx
        ret
touch:  mov     rdi, LIN                ; EAX: the frame that was met
        cmp     ebp, 1
        je      .write
        ja      .fetch
        mov     eax, [rdi + 8]
        and     eax, 0xFF
        ret
.write: mov     dword [rdi + 16], 0x5A
        mov     edx, 0x51000
        test    r13d, r13d
        jz      .frame
        mov     edx, 0xA01000
.frame: xor     eax, eax
        cmp     dword [rdx + 16], 0x5A
        sete    al
        ret
.fetch: call    rdi
        ret

by_invlpg:
        invlpg  [rdi]
        ret
by_cr3: mov     rax, cr3
        mov     cr3, rax
        ret
by_pge: mov     rax, cr4
        btr     rax, 7
        mov     cr4, rax
        bts     rax, 7
        mov     cr4, rax
        ret
by_type_0: mov  qword [descriptor_], 0
        mov     [descriptor_ + 8], rdi
        xor     eax, eax
        jmp     by_type
by_type_1: mov  eax, 1
        jmp     by_type
by_type_2: mov  eax, 2
        jmp     by_type
by_type_3: mov  eax, 3
by_type: mov    qword [descriptor_], 0
        invpcid rax, [descriptor_]
        ret
by_pge_twice:                           ; set to clear only
        mov     rax, cr4
        btr     rax, 7
        mov     cr4, rax
        push    rax
        mov     rax, cr3
        mov     cr3, rax
        pop     rax
        bts     rax, 7
        mov     cr4, rax
        ret
by_pg:  mov     [saved_rsp], rsp
        jmp     far dword [to_compat]
bits 32
compat: mov     eax, cr0
        btr     eax, 31
        mov     cr0, eax
        bts     eax, 31
        mov     cr0, eax
        jmp     CODE64:.long
bits 64
.long:  mov     rsp, [saved_rsp]
        mov     rdi, LIN
        ret
        align   8, db 0
methods: dq     by_invlpg, by_cr3, by_pge, by_type_0, by_type_1, by_type_2, by_type_3, by_pge_twice
        dq      by_pg
descriptor_: dq 0, 0
saved_rsp: dq   0
to_compat: dd   compat
        dw      CODE32
        align   4, db 0
has_invpcid: dd 0
has_pcid: dd    0
checks: dd      0
differences: dd 0
rom_end
