; call-gates.asm - 16-bit and 32-bit call gates: parameters, 0 to 31 of them, on the new stack and
; off both by RETF n; the stack that the TSS names and every way in which it can be wrong; the
; gate's own checks by DPL, RPL and CPL. Intel SDM vol. 3A §5.8.3-5.8.6, vol. 2A CALL, §6.13.

%include "rom.inc"
start:  title   "call gates"
        jmp     enter_pm
%include "pm.inc"

GATE    equ SPARE
GATE16  equ SPARE + 8
INNER   equ SPARE + 16                  ; code of DPL 1
INNER_SS equ SPARE + 24 | 1             ; data of DPL 1
BAD     equ SPARE + 32
TSS16   equ SPARE + 40
CONFORM equ SPARE + 48

; the_gate INDEX, TARGET, SELECTOR, COUNT, ACCESS
%macro the_gate 5
        mov     dword [gdt_spare + (%1) * 8], (%3) << 16
        mov     eax, %2
        mov     [gdt_spare + (%1) * 8], ax
        mov     dword [gdt_spare + (%1) * 8 + 4], (%5) << 8
        shr     eax, 16
        mov     [gdt_spare + (%1) * 8 + 6], ax
        mov     eax, %4
        mov     [gdt_spare + (%1) * 8 + 4], al
%endmacro
%macro named 1+
        text    esi, %1, 10
        call    print_32
%endmacro

main:   mov     byte [gdt + TSS_SEL], 0x68 + 0x20
        mov     byte [gdt + TSS_SEL + 5], 0x89
        mov     ax, TSS_SEL
        ltr     ax
        mov     byte [TSS_AT + 0x68 + 0x20], 0xFF
        gate    0x41, from_ring3, INT_GATE | DPL3
        spare   2, 0, 0xFFFFF, 0xBA, 12
        spare   3, 0, 0xFFFFF, 0xB2, 12
        mov     dword [TSS_AT + 12], KSTACK - 0x800     ; ESP1
        mov     dword [TSS_AT + 16], INNER_SS

        named   "32-bit gates, each count"
        mov     ebp, 0
.count: the_gate 0, to_ring0, CODE32, ebp, 0xEC
        mov     [count], ebp
        mov     ebx, ebp
        shl     ebx, 2
        mov     [return + 1], bx        ; RETF count * 4
        mov     dword [resume], .counted
        to_ring3 ring3_call
.counted:
        mov     eax, [esp_inside]
        lea     ecx, [ebx + 16]
        add     eax, ecx
        cmp     eax, KSTACK
        jne     .bad
        cmp     dword [esp_after], USTACK
        jne     .bad
        cmp     dword [copied_wrong], 0
        je      .good
.bad:   inc     dword [differences]
.good:  inc     ebp
        cmp     ebp, 32
        jb      .count
        expect  dword [differences], 0, "counts with a wrong stack or wrong parameters"

        named   "16-bit gates, each count"
        mov     ebp, 0
.count16:
        the_gate 1, to_ring0_16, CODE32, ebp, 0xE4
        mov     [count], ebp
        mov     ebx, ebp
        shl     ebx, 1
        mov     [return16 + 2], bx
        mov     dword [resume], .counted16
        to_ring3 ring3_call16
.counted16:
        mov     eax, [esp_inside]
        lea     ecx, [ebx + 8]
        add     eax, ecx
        cmp     eax, KSTACK
        jne     .bad16
        mov     eax, [esp_after]
        cmp     ax, USTACK & 0xFFFF
        jne     .bad16
        cmp     dword [copied_wrong], 0
        je      .good16
.bad16: inc     dword [differences]
.good16: inc    ebp
        cmp     ebp, 32
        jb      .count16
        expect  dword [differences], 0, "counts with a wrong stack or wrong parameters"

        named   "to ring 1, and conforming"
        mov     dword [count], 0
        mov     word [return + 1], 0
        the_gate 0, to_ring1, INNER, 0, 0xEC
        mov     dword [resume], .ring1
        to_ring3 ring3_call
.ring1: expect  dword [seen], INNER | 1, "CS in ring 1"
        expect  dword [seen + 4], INNER_SS, "SS from the TSS"
        expect  dword [esp_inside], KSTACK - 0x800 - 16, "ESP1"
        spare   6, 0, 0xFFFFF, 0x9E, 12
        the_gate 0, to_conforming, CONFORM, 5, 0xEC
        mov     dword [resume], .conforming
        to_ring3 ring3_call
.conforming:
        expect  dword [seen], CONFORM | 3, "a gate to conforming code: CPL stays"
        expect  dword [esp_inside], USTACK - 8, "the stack too, and no parameters are copied"
        the_gate 0, to_conforming, CONFORM, 0, 0xEC
        mov     dword [resume], .jumped
        to_ring3 ring3_jump
.jumped: expect dword [seen], CONFORM | 3, "JMP through a gate to conforming code"
        the_gate 0, to_ring0, CODE32, 0, 0xEC
        try     .jmp
        to_ring3 ring3_jump
.jmp:   caught  13, CODE32, "JMP through a gate to more privilege"

        named   "privilege of the gate"
        ; CPL 3 and RPL 0 to 3 against DPL 0 to 3.
        xor     ebp, ebp                ; DPL * 4 + RPL
.dpl:   mov     eax, ebp
        shr     eax, 2
        shl     eax, 5
        or      eax, 0x8C
        mov     [gdt_spare + 5], al
        mov     ecx, ebp
        and     ecx, 3
        or      ecx, GATE
        mov     [far_gate + 4], cx
        try     .dpl_seen
        mov     dword [resume], .dpl_seen
        to_ring3 ring3_far
.dpl_seen:
        mov     dword [t_resume], 0
        mov     edx, -1
        cmp     ebp, 12                 ; DPL 3
        jae     .dpl_judge
        mov     edx, 13
.dpl_judge:
        cmp     edx, [t_vector]
        jne     .dpl_bad
        cmp     edx, -1
        je      .dpl_good
        cmp     dword [t_error], GATE
        je      .dpl_good
.dpl_bad: inc   dword [differences]
.dpl_good: inc  ebp
        cmp     ebp, 16
        jb      .dpl
        ; And from ring 0: RPL against DPL.
        xor     ebp, ebp
        mov     dword [resume], .zero_seen
.zero:  mov     eax, ebp
        shr     eax, 2
        shl     eax, 5
        or      eax, 0x8C
        mov     [gdt_spare + 5], al
        mov     ecx, ebp
        and     ecx, 3
        mov     edi, ecx                ; RPL
        or      ecx, GATE
        mov     [far_gate + 4], cx
        try     .zero_seen
        mov     [zero_esp], esp
        mov     word [gdt_spare], to_zero
        call    far [far_gate]
.zero_seen:
        mov     esp, [zero_esp]
        mov     dword [t_resume], 0
        mov     edx, -1
        mov     eax, ebp
        shr     eax, 2
        cmp     eax, edi
        jae     .zero_judge
        mov     edx, 13
.zero_judge:
        cmp     edx, [t_vector]
        je      .zero_good
        inc     dword [differences]
.zero_good:
        inc     ebp
        cmp     ebp, 16
        jb      .zero
        expect  dword [differences], 0, "combinations of DPL, RPL and CPL that differ from the rule"

        named   "faults"
%macro gate_fault 3+
        try     %%there
        to_ring3 ring3_call
%%there: caught %1, %2, %3
%endmacro
        the_gate 0, to_ring0, CODE32, 0, 0x6C
        gate_fault 11, GATE, "a gate that is not present"
        the_gate 0, to_ring0, 0, 0, 0xEC
        gate_fault 13, 0, "a gate to the null selector"
        the_gate 0, to_ring0, DATA32, 0, 0xEC
        gate_fault 13, DATA32, "a gate to data"
        the_gate 0, to_ring0, 0xFFF8, 0, 0xEC
        gate_fault 13, 0xFFF8, "a gate beyond the table"
        spare   4, 0, 0xFFFFF, 0x1A, 12
        the_gate 0, to_ring0, BAD, 0, 0xEC
        gate_fault 11, BAD, "a gate to code that is not present"
        spare   4, 0, 0xF, 0x9A, 4
        gate_fault 13, 0, "a gate beyond the code's limit"
        the_gate 0, to_ring0, CODE32, 0, 0xEC
        ; The stack in the TSS; faults from ring 3 need it too, so they come on a task's own.
%macro stack_fault 4+                   ; SS0, vector, error, what
        mov     dword [TSS_AT + 16], %1
        the_gate 0, to_ring1, INNER, 0, 0xEC
        gate_fault %2, %3, %4
%endmacro
        stack_fault 0, 10, 0, "a null stack: #TS(0)"
        stack_fault 3, 10, 0, "a null stack with an RPL too"
        stack_fault DATA32 | 1, 10, DATA32, "a stack of another DPL"
        stack_fault INNER_SS & ~3, 10, INNER_SS & ~3, "one with another RPL"
        stack_fault INNER | 1, 10, INNER, "one that is code"
        stack_fault 0xFFF9, 10, 0xFFF8, "one beyond the table"
        spare   4, 0, 0xFFFFF, 0xB0, 12
        stack_fault BAD | 1, 10, BAD, "one that is read-only"
        spare   4, 0, 0xFFFFF, 0x32, 12
        stack_fault BAD | 1, 12, BAD, "one that is not present: #SS"
        spare   4, 0, 0xFF, 0xB2, 4
        stack_fault BAD | 1, 12, BAD, "one without room: #SS with its selector"
        mov     dword [TSS_AT + 16], INNER_SS
        mov     byte [gdt + TSS_SEL], 0x0F
        mov     byte [gdt + TSS_SEL + 5], 0x89
        mov     ax, TSS_SEL
        ltr     ax
        gate_fault 10, TSS_SEL, "a TSS that ends before SS1"
        mov     byte [gdt + TSS_SEL], 0x67
        mov     byte [gdt + TSS_SEL + 5], 0x89
        mov     ax, TSS_SEL
        ltr     ax

        named   "a 16-bit TSS"
        spare   5, 0x50000, 0x2B, 0x81, 0
        mov     word [0x50002], KSTACK & 0xFFFF
        mov     word [0x50004], BAD
        mov     word [0x50006], (KSTACK - 0x800) & 0xFFFF
        mov     word [0x50008], INNER_SS
        spare   4, KSTACK & 0xF0000, 0xFFFF, 0x92, 0
        mov     ax, TSS16
        ltr     ax
        the_gate 0, to_ring1, INNER, 0, 0xEC
        spare   3, KSTACK & 0xF0000, 0xFFFF, 0xB2, 0
        mov     dword [resume], .tss16
        to_ring3 ring3_call
.tss16: expect  dword [seen + 4], INNER_SS, "SS1 of a 16-bit TSS"
        mov     eax, [esp_inside]
        and     eax, 0xFFFF
        expect  eax, (KSTACK - 0x800 - 16) & 0xFFFF, "and SP1"
        done

ring3_call:                             ; pushes 31 parameters, of which the gate copies some
        mov     ecx, [count]
        test    ecx, ecx
        jz      .none
.push:  push    ecx
        loop    .push
.none:  call    GATE | 3:0xF4F4F4F4
        mov     [esp_after], esp
        int     0x41
ring3_call16:
        mov     ecx, [count]
        test    ecx, ecx
        jz      .none
.push:  push    cx
        loop    .push
.none:  call    GATE16 | 3:0xF4F4F4F4
        mov     [esp_after], esp
        int     0x41
ring3_jump: jmp GATE | 3:0
ring3_far:
        call    far [far_gate]
        int     0x41
to_ring0:
        mov     [esp_inside], esp
        mov     dword [copied_wrong], 0
        xor     ecx, ecx                ; the last pushed is 1, and lies lowest
.next:  cmp     ecx, [count]
        je      .done
        mov     eax, [esp + 8 + ecx * 4]
        inc     ecx
        cmp     eax, ecx
        je      .next
        inc     dword [copied_wrong]
        jmp     .next
.done:
return: retf    0
to_ring0_16:
        mov     [esp_inside], esp
        mov     dword [copied_wrong], 0
        xor     ecx, ecx
.next:  cmp     ecx, [count]
        je      .done
        movzx   eax, word [esp + 4 + ecx * 2]
        inc     ecx
        cmp     eax, ecx
        je      .next
        inc     dword [copied_wrong]
        jmp     .next
.done:
return16: o16 retf 0
to_ring1:
        mov     eax, cs
        mov     [seen], eax
        mov     eax, ss
        mov     [seen + 4], eax
        mov     [esp_inside], esp
        int     0x41
to_conforming:
        mov     eax, cs
        mov     [seen], eax
        mov     [esp_inside], esp
        int     0x41
to_zero: jmp    [resume]
from_ring3:
        mov     eax, DATA32
        mov     ds, eax
        mov     es, eax
        mov     ss, eax
        mov     esp, MSTACK
        jmp     [resume]
        align   4, db 0
far_gate: dd    0
        dw      GATE, 0
zero_esp: dd    0
resume: dd      0
count:  dd      0
esp_inside: dd  0
esp_after: dd   0
copied_wrong: dd 0
differences: dd 0
seen:   dd      0, 0
rom_end
