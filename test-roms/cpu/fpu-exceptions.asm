; fpu-exceptions.asm - how exceptions of the x87, MMX and SSE are delivered: deferred #MF, the
; instructions that do not wait, IRQ 13 with CR0.NE = 0, #NM and #UD by CR0 and CR4, #XM.
; Intel SDM vol. 1 §8.6-8.7, §11.5; vol. 3A §2.5, §12.1, §13.1, tables 12-1 and 13-1.
;
; QEMU's TCG fails: it reports a pending exception at few instructions only.

%include "rom.inc"
start:  title   "delivery of floating-point exceptions"
        jmp     enter_pm
%include "pm.inc"

NE equ 1 << 5
CR0_TS equ 8
CR0_EM equ 4
CR0_MP equ 2
OSFXSR equ 1 << 9
OSXMMEXCPT equ 1 << 10
SUMMARY equ 0x8080                           ; error summary and busy
ZE equ 4

%macro set_cr0 2                        ; bits to clear, bits to set
        push    eax
        mov     eax, cr0
        and     eax, ~(%1)
        or      eax, %2
        mov     cr0, eax
        pop     eax
%endmacro
%macro set_cr4 2
        push    eax
        mov     eax, cr4
        and     eax, ~(%1)
        or      eax, %2
        mov     cr4, eax
        pop     eax
%endmacro
%macro status 2+                        ; FSW under a mask of what matters here
        fnstsw  ax
        and     eax, SUMMARY | 0x7F
        expect  eax, %1, %2
%endmacro
; pend: an unmasked division by zero is pending afterwards.
%macro pend 0
        fninit
        fldcw   [unmask_zero]
        fld1
        fdiv    dword [zero]
%endmacro
; reports INSTRUCTION: what waits meets #MF. ignores INSTRUCTION: what does not goes on.
%macro reports 1+
        pend
        try     %%there
%%at:   %1
%%there: fnclex
        caught  16, 0, "#MF"
        expect  dword [t_eip], %%at, "EIP"
%endmacro
%macro ignores 1+
        pend
        try     %%there
        %1
        ud2
%%there: fnclex
        caught  6, 0, "no #MF"
%endmacro
%macro named 1+
        text    esi, %1, 10
        call    print_32
%endmacro

main:   set_cr0 CR0_TS | CR0_EM, NE | CR0_MP
        set_cr4 0, OSFXSR | OSXMMEXCPT
        pend
        status  SUMMARY | ZE, "an unmasked exception is pending, and nothing has happened"
        fnstenv [env]
        expect  dword [env + 20], zero, "FDP: the operand"
        fnclex
        fninit
        fldcw   [unmask_zero]
        fld1
.d:     fdiv    dword [zero]
        fnstenv [env]
        expect  dword [env + 12], .d, "FIP: the instruction"
        movzx   eax, word [env + 18]
        expect  eax, 0x035, "FOP: opcode and ModR/M"
        fnstcw  [word_]
        movzx   eax, word [word_]
        expect  eax, 0x37F, "FNSTENV masks all exceptions"
        named   "waiting instructions"
        reports fld1
        reports fwait
        reports fldcw [mask_all]
        reports fstp dword [env]
        reports fxch
        reports fldenv [env]
        reports emms
        reports movd mm0, eax
        reports paddb mm0, mm1
        reports cvtpi2ps xmm0, mm0
        reports cvttps2pi mm0, xmm0
        named   "the others"
        ignores fnstsw ax
        ignores fnstcw [word_]
        ignores fnstenv [env]
        ignores fnsave [env]
        ignores fnclex
        ignores fninit
        ignores fxsave [area]
        ignores addps xmm0, xmm1
        ignores cvtsi2ss xmm0, eax
        ignores stmxcsr [word_]
        ignores movaps xmm0, xmm1

        named   "what makes an exception pending"
        fninit
        fld1
        fdiv    dword [zero]
        status  ZE, "a masked one is only noted"
        try     .a
        fldcw   [unmask_zero]
.a0:    fld1
.a:     caught  16, 0, "FLDCW that unmasks it makes it pending"
        expect  dword [t_eip], .a0, "for the next one"
        fnclex
        fninit
        fnstenv [env]
        mov     word [env], 0x37B
        mov     word [env + 4], ZE
        fldenv  [env]
        status  SUMMARY | ZE, "FLDENV too"
        fnclex
        status  0, "FNCLEX takes it back"
        fninit
        fldcw   [unmask_all]
        fstp    dword [env]
        status  SUMMARY | 0x41, "a stack underflow: IE and SF"
        fnclex
        fld1
        fdiv    dword [zero]
        fnstsw  ax
        shr     eax, 11
        and     eax, 7
        expect  eax, 7, "with ZE unmasked the operands stay: TOP"
        fnclex
        fst     dword [word_]
        expect  dword [word_], 0x3F800000, "and ST(0)"
        fninit
        fldcw   [unmask_all]
        mov     dword [word_], 0x12345678
        fld     dword [tiny]
        fnclex
        fmul    st0, st0
        fnclex
        fnclex
        fld     tword [huge]
        fstp    dword [word_]
        fnclex
        expect  dword [word_], 0x12345678, "an unmasked overflow of a store: nothing is stored"
        fninit

        named   "CR0.EM, MP, TS and CR4.OSFXSR"
        xor     ebp, ebp                ; 1 MP, 2 EM, 4 TS, 8 OSFXSR
.combo: xor     edi, edi
.class: mov     eax, cr0
        and     eax, ~14
        mov     ecx, ebp
        and     ecx, 7
        lea     eax, [eax + ecx * 2]
        mov     edx, cr4
        and     edx, ~OSFXSR
        mov     ecx, ebp
        and     ecx, 8
        shl     ecx, 6
        or      edx, ecx
        mov     cr4, edx
        mov     cr0, eax
        try     .seen
        jmp     [codes + edi * 4]
.seen:  set_cr0 CR0_TS | CR0_EM, 0
        mov     dword [t_resume], 0
        ; The rule: #UD where a bit of the first mask is set (OSFXSR counts as set when clear),
        ; then #NM where one of the second is, and for FWAIT where both of MP and TS are.
        mov     ecx, ebp
        xor     ecx, 8
        mov     edx, 6
        test    cl, [rules + edi * 2]
        jnz     .want
        mov     edx, 7
        test    cl, [rules + edi * 2 + 1]
        jnz     .want
        cmp     edi, WAIT_CLASS
        jne     .none
        mov     al, cl
        and     al, 5
        cmp     al, 5
        je      .want
.none:  mov     edx, 3                  ; the INT3 behind
.want:  inc     dword [checks]
        cmp     edx, [t_vector]
        je      .same
        inc     dword [differences]
        push    edx
        text    esi, "combination, class, seen, wanted: "
        call    print_32
        show    ebp
        show    edi
        show    [t_vector]
        pop     edx
        call    hex_32
        mov     al, 10
        out     0xE9, al
.same:  inc     edi
        cmp     edi, CLASSES
        jb      .class
        inc     ebp
        cmp     ebp, 16
        jb      .combo
        expect  dword [checks], 16 * CLASSES, "instructions tried"
        expect  dword [differences], 0, "that differ from the rule"
        set_cr0 CR0_TS | CR0_EM, CR0_MP
        set_cr4 0, OSFXSR

        named   "SSE"
        ldmxcsr [mxcsr_zero]
        movaps  xmm0, [ones]
        xorps   xmm1, xmm1
        try     .x
.x0:    divps   xmm0, xmm1
.x:     caught  19, 0, "an unmasked exception of SSE: #XM"
        expect  dword [t_eip], .x0, "at once"
        stmxcsr [word_]
        mov     eax, [word_]
        and     eax, 0x3F
        expect  eax, ZE, "its flag is set"
        movd    eax, xmm0
        expect  eax, 0x3F800000, "the destination is as before"
        set_cr4 OSXMMEXCPT, 0
        try     .y
        divps   xmm0, xmm1
.y:     caught  6, 0, "without CR4.OSXMMEXCPT: #UD"
        set_cr4 0, OSXMMEXCPT
        ldmxcsr [mxcsr_zero]
        try     .z
        divps   xmm0, xmm1
.z:     caught  19, 0, "a flag that is set already does not matter"
        ldmxcsr [mxcsr_default]
        try     .r
        ldmxcsr [mxcsr_bad]
.r:     caught  13, 0, "LDMXCSR: a reserved bit"
        mov     dword [word_], 4
        try     .m
        movaps  xmm0, [ones + 4]
.m:     caught  13, 0, "MOVAPS from an odd place"
        fld1
        fdiv    dword [zero]
        fninit

        named   "CR0.NE = 0: FERR# and IRQ 13"
        gate    0x25 + 8, irq13, INT_GATE
        mov     al, 0x11                ; vectors 20h and 28h, open IRQ 2 and 13
        out     0x20, al
        out     0xA0, al
        mov     al, 0x20
        out     0x21, al
        mov     al, 0x28
        out     0xA1, al
        mov     al, 4
        out     0x21, al
        mov     al, 2
        out     0xA1, al
        mov     al, 1
        out     0x21, al
        out     0xA1, al
        mov     al, ~4 & 0xFF
        out     0x21, al
        mov     al, ~(1 << 5) & 0xFF
        out     0xA1, al
        set_cr0 NE, 0
        fninit
        fldcw   [unmask_zero]
        fld1
        cli
        fdiv    dword [zero]
        sti
.irq0:  fld1
.irq1:  cli
        expect  dword [irqs], 1, "IRQ 13 came once"
        status  0, "the handler cleared the exception"
        mov     al, 0x0B
        out     0xA0, al
        in      al, 0xA0
        movzx   eax, al
        expect  eax, 0, "no interrupt is in service"
        mov     al, 0x0A
        out     0xA0, al
        in      al, 0xA0
        and     eax, 1 << 5
        expect  eax, 0, "nor requested"
        fninit
        fldcw   [unmask_zero]
        fld1
        sti
        fdiv    dword [zero]
        fld1
        fdiv    dword [zero]
        fld1
        cli
        expect  dword [irqs], 3, "and again"
        set_cr0 0, NE
        done

irq13:  inc     dword [irqs]
        push    eax
        xor     al, al
        out     0xF0, al
        fnclex
        mov     al, 0x20
        out     0xA0, al
        out     0x20, al
        pop     eax
        iretd

        ; The classes of the table: an instruction, then INT3.
%macro class 1+
        %1
        int3
%endmacro
c_x87:  class   fnop
c_fninit: class fninit
c_wait: class   fwait
c_mmx:  class   movd mm0, eax
c_emms: class   emms
c_sse:  class   xorps xmm0, xmm1
c_mxcsr: class  stmxcsr [word_]
c_fxsave: class fxsave [area]
c_sse2: class   paddb xmm0, xmm1
c_convert: class cvtpi2ps xmm0, mm0
c_fence: class  sfence
c_hint: class   prefetcht0 [area]
c_nti:  class   movnti [word_], eax
        align   16, db 0
codes:  dd      c_x87, c_fninit, c_wait, c_mmx, c_emms, c_sse, c_mxcsr, c_fxsave, c_sse2, c_convert
        dd      c_fence, c_hint, c_nti
WAIT_CLASS equ 2
CLASSES equ 13
EM_ equ 2
TS_ equ 4
FX_ equ 8                               ; OSFXSR clear
rules:  db      0, EM_ | TS_            ; x87
        db      0, EM_ | TS_
        db      0, 0                    ; FWAIT
        db      EM_, TS_                ; MMX
        db      EM_, TS_
        db      EM_ | FX_, TS_          ; SSE
        db      EM_ | FX_, TS_
        db      0, EM_ | TS_            ; FXSAVE
        db      EM_ | FX_, TS_          ; SSE2
        db      EM_ | FX_, TS_          ; both MMX and SSE
        db      0, 0, 0, 0, 0, 0
        align   16, db 0
ones:   dd      1.0, 1.0, 1.0, 1.0, 1.0
mxcsr_zero: dd  0x1F80 & ~(1 << 9)
mxcsr_default: dd 0x1F80
mxcsr_bad: dd   0x10000
zero:   dd      0.0
tiny:   dd      0x00000001
unmask_zero: dw 0x37B
unmask_all: dw  0x340
mask_all: dw    0x37F
huge:   dt      1.0e4000
        align   4, db 0
word_:  dd      0
irqs:   dd      0
checks: dd      0
differences: dd 0
        align   16, db 0
env:    times   32 dd 0
area    equ     0x60000
rom_end
