; long-mode-checks.asm - refusals of long mode that QEMU's TCG does not make; Bochs passes.
; Intel SDM vol. 3A §9.8.5 (mode consistency), vol. 1 §3.3.7.1 (canonical addresses and #SS).

%include "rom.inc"
start:  title   "long mode: consistency checks"
        jmp     enter_pm
%include "pm.inc"
%include "long.inc"
bits 32
main:
        ; Paging on with LME needs PAE: #GP, and all stays as it was.
        mov     ecx, EFER
        rdmsr
        or      eax, 1 << 8
        wrmsr
        try     .no_pae
        mov     eax, cr0
        or      eax, 0x80000000
        mov     cr0, eax
.no_pae: caught 13, 0, "CR0.PG with LME but without PAE"
        call    long_start
bits 64
        try64   .b2
        mov     rbp, 0x0000800000000000
        mov     rax, [rbp]
.b2:    caught64 12, 0, "the same through RBP: #SS"
        try64   .h
        mov     rax, cr0
        and     eax, 0x7FFFFFFF
        mov     cr0, rax
.h:     caught64 13, 0, "paging cannot be switched off from 64-bit code"
        try64   .i
        mov     rax, cr4
        and     eax, ~(1 << 5)
        mov     cr4, rax
.i:     caught64 13, 0, "PAE cannot be switched off in long mode"
        try64   .j
        mov     ecx, EFER
        rdmsr
        and     eax, ~(1 << 8)
        wrmsr
.j:     caught64 13, 0, "nor can EFER.LME"
        done
rom_end
