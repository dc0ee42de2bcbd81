; reserved-registers.asm - 64-bit mode: every bit of CR0, CR3, CR4, CR8, EFER, DR6, DR7 and XCR0
; that may not be set is #GP(0) and changes nothing; the values that PAT, the MTRRs and the
; address registers refuse; registers that do not exist.
; Intel SDM vol. 3A §2.5, §2.6, §11.11-11.12, vol. 3B §17.2, vol. 4.
;
; Which bits exist is taken from CPUID. QEMU's TCG fails: it ignores reserved bits of CR0, CR3
; (in part), EFER and most MSRs. Bochs passes where it is told not to ignore unknown MSRs.

%include "rom.inc"
start:  title   "reserved bits of control registers and MSRs"
        jmp     enter_pm
%include "pm.inc"
%include "long.inc"
bits 32
main:   call    long_start
bits 64
        and     byte [PML4], ~U & 0xFF  ; SMEP and SMAP are going to be set
        mov     rax, cr3
        mov     cr3, rax
        mov     eax, 7
        xor     ecx, ecx
        cpuid
        mov     [leaf7_b], ebx
        mov     [leaf7_c], ecx
        mov     [leaf7_d], edx
        mov     eax, 1
        cpuid
        mov     [leaf1_c], ecx
        mov     [leaf1_d], edx
        mov     eax, 0x80000008
        cpuid
        movzx   eax, al
        mov     [address_bits], eax

        ; CR4: the bits that CPUID says are there.
        xor     r12d, r12d
        mov     esi, cr4_bits
.cr4_word:
        movzx   eax, byte [rsi]         ; bit of CR4
        cmp     al, 0xFF
        je      .cr4_known
        movzx   ebx, byte [rsi + 1]     ; where CPUID shows it
        movzx   ecx, byte [rsi + 2]
        bt      [leaf1_d + rbx * 4], ecx
        jnc     .cr4_no
        bts     r12, rax
.cr4_no: add    esi, 3
        jmp     .cr4_word
.cr4_known:
        mov     rax, cr4
        mov     [keep], rax
        xor     ebx, ebx
.cr4:   mov     rax, [keep]
        bts     rax, rbx
        try64   .cr4_done
        mov     cr4, rax
        mov     dword [t_vector], NONE
.cr4_done:
        mov     edx, NONE
        bt      r12, rbx
        jc      .cr4_ok
        mov     edx, 13
.cr4_ok: call   judge
        mov     rax, [keep]
        mov     cr4, rax
        inc     ebx
        cmp     ebx, 64
        jb      .cr4
        call    verdict
        expect  r13, 0, "CR4: all bits"

        ; CR0: bits 32-63 are refused, the lower ones ignored or known.
        mov     rax, cr0
        mov     [keep], rax
        mov     ebx, 32
.cr0:   mov     rax, [keep]
        bts     rax, rbx
        try64   .cr0_done
        mov     cr0, rax
        mov     dword [t_vector], NONE
.cr0_done:
        mov     edx, 13
        call    judge
        inc     ebx
        cmp     ebx, 64
        jb      .cr0
        call    verdict
        expect  r13, 0, "CR0: bits 32-63"
        mov     rax, [keep]
        mov     ebx, 0x1FFAFFC0         ; all that has no meaning
        or      rax, rbx
        try64   .cr0i
        mov     cr0, rax
        mov     dword [t_vector], NONE
.cr0i:  mov     r15d, [t_vector]
        expect  r15, NONE, "CR0: reserved bits below 32 are ignored"
        mov     rax, cr0
        and     rax, rbx
        expect  rax, 0, "and read 0"
        mov     rax, [keep]
        and     rax, ~(1 << 30)
        bts     rax, 29
        call    write_cr0
        expect  r15, 13, "CR0: NW without CD"
        mov     rax, [keep]
        and     rax, ~1
        call    write_cr0
        expect  r15, 13, "CR0: PG without PE"
        mov     rax, [keep]
        btr     rax, 4
        call    write_cr0
        mov     rax, cr0
        and     eax, 16
        expect  rax, 16, "CR0.ET cannot be cleared"
        mov     rax, [keep]
        mov     cr0, rax

        ; CR3: bits beyond the physical address.
        mov     rax, cr3
        mov     [keep], rax
        xor     ebx, ebx
.cr3:   cmp     ebx, 12
        jb      .cr3_try
        cmp     ebx, [address_bits]     ; address bits would lead elsewhere
        jb      .cr3_next
.cr3_try:
        mov     rax, [keep]
        bts     rax, rbx
        try64   .cr3_done
        mov     cr3, rax
        mov     dword [t_vector], NONE
.cr3_done:
        mov     edx, NONE
        cmp     ebx, [address_bits]
        jb      .cr3_judge
        mov     edx, 13
.cr3_judge:
        call    judge
.cr3_next:
        inc     ebx
        cmp     ebx, 64
        jb      .cr3
        mov     rax, [keep]
        mov     cr3, rax
        call    verdict
        expect  r13, 0, "CR3: bits beyond the physical address, and the low ones"

        xor     ebx, ebx
.cr8:   xor     eax, eax
        bts     rax, rbx
        try64   .cr8_done
        mov     cr8, rax
        mov     dword [t_vector], NONE
.cr8_done:
        mov     edx, NONE
        cmp     ebx, 4
        jb      .cr8_judge
        mov     edx, 13
.cr8_judge:
        call    judge
        inc     ebx
        cmp     ebx, 64
        jb      .cr8
        xor     eax, eax
        mov     cr8, rax
        call    verdict
        expect  r13, 0, "CR8: 4 bits"

        ; DR6, DR7: the upper half.
        mov     ebx, 32
.dr:    xor     eax, eax
        bts     rax, rbx
        mov     rdi, rax
        try64   .dr6_done
        mov     dr6, rax
        mov     dword [t_vector], NONE
.dr6_done:
        mov     edx, 13
        call    judge
        mov     rax, rdi
        try64   .dr7_done
        mov     dr7, rax
        mov     dword [t_vector], NONE
.dr7_done:
        mov     edx, 13
        call    judge
        inc     ebx
        cmp     ebx, 64
        jb      .dr
        call    verdict
        expect  r13, 0, "DR6 and DR7: bits 32-63"
        mov     eax, 0xFFFFFFFF & ~(1 << 13)
        mov     dr7, rax
        mov     rax, dr7
        and     eax, 0x0000D400
        expect  rax, 0x400, "DR7: bits 10, 12, 14 and 15 are fixed"
        mov     eax, 0x400
        mov     dr7, rax
        xor     eax, eax
        mov     dr6, rax
        mov     rax, dr6
        mov     ecx, 0xFFFF0FF0
        expect  rax, rcx, "DR6: fixed bits"

        ; EFER: SCE, LME, LMA (read-only), NXE.
        mov     ecx, EFER
        rdmsr
        mov     [keep], rax
        mov     edi, EFER
        mov     r12d, 1 | 1 << 8 | 1 << 10 | 1 << 11
        call    msr_bits
        expect  r13, 0, "EFER: all bits"
        mov     ecx, EFER
        rdmsr
        and     eax, ~(1 << 10)
        xor     edx, edx
        try64   .lma
        wrmsr
        mov     dword [t_vector], NONE
.lma:   mov     r15d, [t_vector]
        expect  r15, NONE, "EFER.LMA cannot be written"
        mov     ecx, EFER
        rdmsr
        and     eax, 1 << 10
        expect  rax, 1 << 10, "and stays"
        mov     rax, [keep]
        and     eax, ~(1 << 8)
        xor     edx, edx
        mov     ecx, EFER
        try64   .lme
        wrmsr
        mov     dword [t_vector], NONE
.lme:   mov     r15d, [t_vector]
        expect  r15, 13, "EFER.LME cannot be changed with paging on"

        ; Address registers: what is not canonical.
        mov     esi, address_msrs
.address:
        mov     edi, [rsi]
        test    edi, edi
        jz      .addresses_done
        mov     ecx, edi
        rdmsr
        mov     [keep], eax
        mov     [keep + 4], edx
        mov     ebx, 47
.abit:  mov     rax, 1                  ; a single bit from 47 up is not canonical
        shl     rax, 32
        bts     rax, rbx
        mov     rdx, rax
        shr     rdx, 32
        mov     ecx, edi
        try64   .abit_done
        wrmsr
        mov     dword [t_vector], NONE
.abit_done:
        mov     edx, 13
        call    judge
        inc     ebx
        cmp     ebx, 64
        jb      .abit
        mov     eax, 0x12345678
        mov     edx, 0xFFFF8000
        mov     ecx, edi
        try64   .akernel
        wrmsr
        mov     dword [t_vector], NONE
.akernel:
        mov     edx, NONE
        call    judge
        mov     ecx, edi
        rdmsr
        mov     r15d, edx
        cmp     eax, 0x12345678
        jne     .akept
        cmp     edx, 0xFFFF8000
        je      .arestore
.akept: mov     dword [t_vector], 99
        mov     edx, 98
        call    judge
.arestore:
        mov     ecx, edi
        mov     eax, [keep]
        mov     edx, [keep + 4]
        wrmsr
        add     esi, 4
        jmp     .address
.addresses_done:
        call    verdict
        expect  r13, 0, "address registers take canonical addresses only"

        ; PAT: every value of every byte.
        mov     ecx, 0x277
        rdmsr
        mov     [keep], eax
        mov     [keep + 4], edx
        xor     ebp, ebp
.pat:   xor     ebx, ebx
.pat_value:
        mov     rax, [keep]
        mov     [value], rax
        mov     [value + rbp], bl
        mov     eax, [value]
        mov     edx, [value + 4]
        mov     ecx, 0x277
        try64   .pat_done
        wrmsr
        mov     dword [t_vector], NONE
.pat_done:
        mov     edx, NONE
        cmp     ebx, 7
        ja      .pat_bad
        mov     eax, 0xF3               ; 0, 1, 4 to 7
        bt      eax, ebx
        jc      .pat_judge
.pat_bad: mov   edx, 13
.pat_judge:
        call    judge
        inc     ebx
        cmp     ebx, 256
        jb      .pat_value
        inc     ebp
        cmp     ebp, 8
        jb      .pat
        mov     ecx, 0x277
        mov     eax, [keep]
        mov     edx, [keep + 4]
        wrmsr
        call    verdict
        expect  r13, 0, "PAT: 2048 values"

        ; MTRRs: types.
        xor     ebx, ebx
.mtrr:  mov     eax, ebx
        xor     edx, edx
        mov     ecx, 0x2FF
        rdmsr
        mov     [keep], eax
        mov     eax, ebx
        xor     edx, edx
        try64   .mtrr_done
        wrmsr
        mov     dword [t_vector], NONE
.mtrr_done:
        mov     edx, NONE
        cmp     ebx, 6
        ja      .mtrr_bad
        mov     eax, 0x73
        bt      eax, ebx
        jc      .mtrr_judge
.mtrr_bad: mov  edx, 13
.mtrr_judge:
        call    judge
        mov     ecx, 0x2FF
        mov     eax, [keep]
        xor     edx, edx
        wrmsr
        inc     ebx
        cmp     ebx, 256
        jb      .mtrr
        call    verdict
        expect  r13, 0, "MTRR default type: 256 values"

        ; Registers that do not exist.
        mov     esi, absent_msrs
.absent: mov    ebx, [rsi]
        cmp     ebx, -1
        je      .absent_done
        mov     ecx, ebx
        try64   .absent_read
        rdmsr
        mov     dword [t_vector], NONE
.absent_read:
        mov     edx, 13
        call    judge
        mov     ecx, ebx
        xor     eax, eax
        xor     edx, edx
        try64   .absent_write
        wrmsr
        mov     dword [t_vector], NONE
.absent_write:
        mov     edx, 13
        call    judge
        add     esi, 4
        jmp     .absent
.absent_done:
        call    verdict
        expect  r13, 0, "MSRs that do not exist"

        ; XCR0.
        bt      dword [leaf1_c], 26
        jnc     .no_xsave
        try64   .xs1
        xor     ecx, ecx
        xgetbv
.xs1:   caught64 6, 0, "XGETBV without CR4.OSXSAVE"
        mov     rax, cr4
        or      eax, 1 << 18
        mov     cr4, rax
        mov     eax, 1
        cpuid
        shr     ecx, 27
        and     ecx, 1
        expect  rcx, 1, "CPUID shows OSXSAVE"
        mov     eax, 0xD
        xor     ecx, ecx
        cpuid
        mov     r12d, eax
        shl     rdx, 32
        or      r12, rdx
        mov     ebx, 3
.xcr0:  mov     eax, 1                  ; x87 is always on; a bit needs what it builds on
        bts     rax, rbx
        mov     rdx, rax
        shr     rdx, 32
        xor     ecx, ecx
        try64   .xcr0_done
        xsetbv
        mov     dword [t_vector], NONE
.xcr0_done:
        mov     edx, 13
        call    judge                   ; all of them: bit 2 and those above need SSE or each other
        inc     ebx
        cmp     ebx, 64
        jb      .xcr0
        call    verdict
        expect  r13, 0, "XCR0: bits 3-63 alone"
        xor     eax, eax
        xor     edx, edx
        xor     ecx, ecx
        try64   .xs2
        xsetbv
.xs2:   caught64 13, 0, "XCR0 without x87"
        mov     eax, 2
        xor     edx, edx
        xor     ecx, ecx
        try64   .xs3
        xsetbv
.xs3:   caught64 13, 0, "XCR0: SSE without x87"
        mov     eax, 3
        xor     edx, edx
        mov     ecx, 1
        try64   .xs4
        xsetbv
.xs4:   caught64 13, 0, "XSETBV of register 1"
        mov     eax, 3
        xor     edx, edx
        mov     rcx, 5 << 32            ; only ECX counts
        try64   .xs5
        xsetbv
        mov     dword [t_vector], NONE
.xs5:   mov     r15d, [t_vector]
        expect  r15, NONE, "XSETBV ignores the upper half of RCX"
        mov     ecx, 2
        try64   .xs6
        xgetbv
.xs6:   caught64 13, 0, "XGETBV of register 2"
.no_xsave:
        done

write_cr0:
        try64   .done
        mov     cr0, rax
        mov     dword [t_vector], NONE
.done:  mov     qword [t_resume], 0
        mov     r15d, [t_vector]
        ret
; Each bit of MSR EDI beside [keep]; R12: those that may be set.
msr_bits:
        xor     ebx, ebx
.bit:   mov     rax, [keep]
        bts     rax, rbx
        mov     rdx, rax
        shr     rdx, 32
        mov     ecx, edi
        try64   .done
        wrmsr
        mov     dword [t_vector], NONE
.done:  mov     edx, NONE
        bt      r12, rbx
        jc      .judge
        mov     edx, 13
.judge: call    judge
        mov     rax, [keep]
        mov     rdx, rax
        shr     rdx, 32
        mov     ecx, edi
        wrmsr
        inc     ebx
        cmp     ebx, 64
        jb      .bit
verdict:                                ; R13: how many differed since the last one
        mov     r13d, [differences]
        mov     dword [differences], 0
        ret
; Compares the vector seen with EDX; EBX is what to print.
judge:  mov     qword [t_resume], 0
        cmp     edx, [t_vector]
        jne     .differs
        cmp     edx, 13
        jne     .same
        cmp     dword [t_error], 0
        je      .same
.differs:
        inc     dword [differences]
        push    rax
        push    rdx
        push    rsi
        text    rsi, "bit or value, vector, wanted: "
        call    print_64
        show64  rbx
        mov     edx, [t_vector]
        call    hex_64
        mov     al, ' '
        out     0xE9, al
        mov     rdx, [rsp + 8]
        call    hex_64
        mov     al, 10
        out     0xE9, al
        pop     rsi
        pop     rdx
        pop     rax
.same:  ret

NONE    equ 0x77
        align   8, db 0
keep:   dq      0
value:  dq      0
differences: dd 0
address_bits: dd 0
        ; Words that CR4's table points into.
leaf1_d: dd     0
leaf1_c: dd     0
leaf7_b: dd     0
leaf7_c: dd     0
leaf7_d: dd     0
        dd      -1                      ; 5: always there
D1 equ 0
C1 equ 1
B7 equ 2
C7 equ 3
ALWAYS equ 5
cr4_bits:
        db      0, D1, 1, 1, D1, 1, 2, D1, 4, 3, D1, 2, 4, D1, 3, 5, D1, 6, 6, D1, 7, 7, D1, 13
        db      8, ALWAYS, 0, 9, D1, 24, 10, D1, 25, 11, C7, 2
        db      13, C1, 5, 14, C1, 6, 16, B7, 0, 17, C1, 17, 18, C1, 26, 20, B7, 7, 21, B7, 20
        db      22, C7, 3, 23, C7, 7, 0xFF
        align   4, db 0
address_msrs: dd 0x175, 0x176, 0xC0000082, 0xC0000083, 0xC0000100, 0xC0000101, 0xC0000102, 0
absent_msrs: dd 0x2, 0x3, 0x400, 0x401, 0x47F, 0x4D0, 0xFFF, 0x1FFF, 0x40000000, 0x80000000
        dd      0xC0000085, 0xC0000104, 0xC0010000, 0xFFFFFFFE, -1
rom_end
