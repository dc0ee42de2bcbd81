; tasks.asm - task switches: JMP, CALL, IRET, task gates in the GDT and the IDT, to 32-bit and
; 16-bit TSSs; what is saved and loaded, busy bits, links and NT; the faults of the old task and
; those of the new one; the T bit, CR3, LDT, virtual-8086 tasks.
; Intel SDM vol. 3A §7.2-7.4 (tables 7-1, 7-2), §6.12.2, §6.13, vol. 3B §17.2.4, §17.3.1.5.
;
; QEMU's TCG fails: it saves flags that it has not evaluated, knows no EXT, RF and T bit here,
; takes a task gate to the LDT for #TS, and #NP for #SS. Bochs passes.

%include "rom.inc"
start:  title   "task switches"
        jmp     enter_pm
%include "pm.inc"

TASK    equ SPARE                       ; a 32-bit TSS
TASK16  equ SPARE + 8                   ; a 16-bit one
GATE    equ SPARE + 16                  ; a task gate to TASK
LDT     equ SPARE + 24
FAULTER equ SPARE + 32                  ; four tasks for vectors 10 to 13
BAD     equ SPARE + 64                  ; a descriptor that a test makes up
BAD2    equ SPARE + 72
GATE3   equ SPARE + 80                  ; a task gate for ring 3

TSS_B   equ 0x50000
TSS_C   equ 0x51000
LDT_AT  equ 0x52000
FAULT_TSS equ 0x53000                   ; 100h each
STACK_B equ 0x60000
STACK_C equ 0x61000
STACK_F equ 0x62000
AVAILABLE equ 0x89
BUSY    equ 0x8B
CR0_TS  equ 8

; Offsets in a 32-bit TSS
T_LINK equ 0
T_ESP0 equ 4
T_CR3 equ 0x1C
T_EIP equ 0x20
T_EFLAGS equ 0x24
T_EAX equ 0x28
T_ECX equ 0x2C
T_ESP equ 0x38
T_EDI equ 0x44
T_ES equ 0x48
T_CS equ 0x4C
T_SS equ 0x50
T_DS equ 0x54
T_FS equ 0x58
T_GS equ 0x5C
T_LDT equ 0x60
T_TRAP equ 0x64

; access SELECTOR, WANTED, "what": the access byte of a descriptor
%macro access 3+
        movzx   eax, byte [gdt + (%1) + 5]
        expect  eax, %2, %3
%endmacro
%macro task_gate 3                      ; index, TSS selector, access
        mov     dword [gdt_spare + (%1) * 8], (%2) << 16
        mov     dword [gdt_spare + (%1) * 8 + 4], (%3) << 8
%endmacro
%macro idt_task 3                       ; vector, TSS selector, access
        mov     dword [IDT_AT + (%1) * 8], (%2) << 16
        mov     dword [IDT_AT + (%1) * 8 + 4], (%3) << 8
%endmacro
%macro task 1                           ; TASK anew, to start at %1
        mov     eax, %1
        call    new_task
%endmacro
%macro named 1+
        text    esi, %1, 10
        call    print_32
%endmacro

main:   mov     dword [TSS_AT + T_CR3], 0
        task    b_jumped
        task_gate 2, TASK, 0x85
        task_gate 10, TASK, 0xE5
        spare   3, LDT_AT, 0xFF, 0x82, 0
        mov     dword [LDT_AT + 8], 0x0000FFFF
        mov     dword [LDT_AT + 12], 0x00CF9200

        named   "JMP"
        mov     dword [TSS_B + T_EAX], 0x11111111
        mov     dword [TSS_B + T_ECX], 0x22222222
        mov     dword [TSS_B + T_EDI], 0x33333333
        mov     dword [TSS_B + T_EFLAGS], 2 | CF | DF
        mov     dword [TSS_B + T_LINK], 0x5A5A5A5A
        mov     dword [TSS_B + T_LDT], LDT
        mov     dword [TSS_B + T_FS], 8 | 4
        mov     eax, cr0
        and     eax, ~CR0_TS
        mov     cr0, eax
        mov     eax, 0x4FF              ; all breakpoints enabled, locally and globally
        mov     ebx, 0x7FFFFFFF
        mov     dr0, ebx
        mov     dr1, ebx
        mov     dr2, ebx
        mov     dr3, ebx
        mov     dr7, eax
        mov     esi, 0x44444444
        mov     ebp, 0x55555555
        stc
        jmp     TASK:0xF4F4F4F4
back_1: mov     eax, dr7
        mov     [seen_dr7 + 4], eax
        xor     eax, eax
        mov     dr7, eax
        expect  dword [seen + 4], TASK, "TR in the new task"
        expect  dword [seen + 8], 0x11111111, "EAX"
        expect  dword [seen + 12], 0x22222222, "ECX"
        expect  dword [seen + 16], 0x33333333, "EDI"
        expect  dword [seen + 20], STACK_B, "ESP"
        mov     eax, [seen + 24]
        and     eax, CF | DF | NT
        expect  eax, CF | DF, "EFLAGS, without NT"
        expect  dword [seen + 28], CR0_TS, "CR0.TS is set"
        expect  dword [seen + 32], LDT, "LDTR"
        expect  dword [seen + 36], 8 | 4, "FS, from the LDT"
        expect  dword [seen_dr7], 0x4AA, "DR7: the local enables are cleared"
        expect  dword [seen + 40], BUSY << 8 | AVAILABLE, "the new TSS is busy, the old one is not"
        expect  dword [TSS_AT + T_EIP], back_1, "saved EIP"
        expect  dword [TSS_AT + 0x40], 0x44444444, "saved ESI"
        expect  dword [TSS_AT + 0x3C], 0x55555555, "saved EBP"
        expect  dword [TSS_AT + T_ESP], MSTACK, "saved ESP"
        expect  dword [TSS_AT + T_CS], CODE32, "saved CS"
        expect  dword [TSS_AT + T_DS], DATA32, "saved DS"
        mov     eax, [TSS_AT + T_EFLAGS]
        and     eax, CF
        expect  eax, CF, "saved EFLAGS"
        expect  dword [TSS_B + T_LINK], 0x5A5A5A5A, "JMP writes no link"
        access  TSS_SEL, BUSY, "after the way back the old task is busy"
        access  TASK, AVAILABLE, "and the other one is not"
        sldt    eax
        and     eax, 0xFFFF
        expect  eax, 0, "LDTR is the old task's again"

        named   "CALL and IRET"
        task    b_called
        call    TASK:0xF4F4F4F4
        expect  dword [seen + 4], TASK, "TR"
        expect  dword [seen + 8], TSS_SEL, "the link"
        mov     eax, [seen + 12]
        and     eax, NT
        expect  eax, NT, "NT is set"
        expect  dword [seen + 16], BUSY << 8 | BUSY, "both are busy"
        access  TASK, AVAILABLE, "IRET leaves the task available"
        access  TSS_SEL, BUSY, "and the caller busy"
        mov     eax, [TSS_B + T_EFLAGS]
        and     eax, NT
        expect  eax, 0, "NT is clear in what IRET saved"
        expect_flags NT, 0, "and in the caller"
        expect  dword [TSS_B + T_EIP], b_called.again, "saved EIP is behind the IRET"
        mov     dword [seen], 0
        call    TASK:0
        expect  dword [seen], 2, "a second CALL goes on there"

        named   "task gates"
        task    b_called
        call    GATE:0xF4F4F4F4
        expect  dword [seen + 4], TASK, "CALL through a task gate"
        idt_task 0x40, TASK, 0xE5
        task    b_called
        int     0x40
        expect  dword [seen + 4], TASK, "INT through a task gate"
        expect  dword [seen + 8], TSS_SEL, "the link"
        mov     eax, [TSS_B + T_ESP]
        expect  eax, STACK_B, "no error code"
        task    b_called
        to_ring3_task:
        gate    0x41, .from_ring3, INT_GATE | DPL3
        push    dword USER_DATA
        push    dword USTACK
        push    dword 2
        push    dword USER_CODE
        push    dword .ring3
        iretd
.ring3: call    GATE3 | 3:0
        int     0x40
        mov     eax, cs
        int     0x41
.from_ring3:
        mov     ecx, DATA32
        mov     ds, ecx
        mov     es, ecx
        mov     esp, MSTACK
        expect  eax, USER_CODE, "from ring 3 and back, by CALL and by INT"
        expect  dword [seen], 3, "both came"
        expect  dword [TSS_AT + T_CS], USER_CODE, "the saved CS was ring 3's"
        mov     eax, [TSS_AT + T_ESP]
        expect  eax, USTACK, "and its ESP"

        named   "exceptions through a task gate"
        idt_task 13, TASK, 0x85
        task    b_fault
        mov     eax, 0x1230
.gp:    mov     fs, ax
.gp2:   expect  dword [seen], 0x1230, "#GP: the error code is on the new task's stack"
        expect  dword [seen + 4], STACK_B - 4, "a doubleword"
        expect  dword [seen + 8], .gp, "the old task's EIP is the instruction's"
        mov     eax, [seen + 12]
        and     eax, RF
        expect  eax, RF, "with RF"
        gate    13, exception_stubs + 13 * 16, INT_GATE
        ; EXT in the error code when the gate of an exception is at fault.
        idt_task 6, BAD, 0x85
        spare   8, TSS_B, 0x67, 0x09, 0
        try     .np
        ud2
.np:    caught  11, BAD | 1, "a task gate for #UD to an absent TSS: #NP with EXT"
        spare   8, TSS_B, 0x67, BUSY, 0
        try     .gb
        ud2
.gb:    caught  13, BAD | 1, "to a busy one: #GP with EXT"
        spare   8, TSS_B, 0x66, AVAILABLE, 0
        try     .ts
        ud2
.ts:    caught  10, BAD | 1, "to one that is too short: #TS with EXT"
        gate    6, exception_stubs + 6 * 16, INT_GATE
        idt_task 0x40, BAD, 0xE5
        try     .ti
        int     0x40
.ti:    caught  10, BAD, "INT through such a gate: without EXT"
        idt_task 0x40, 8 | 4, 0xE5
        try     .tl
        int     0x40
.tl:    caught  13, 8 | 4, "a task gate to a selector of the LDT: #GP"
        idt_task 0x40, 0, 0xE5
        try     .tn
        int     0x40
.tn:    caught  13, 0, "to the null selector: #GP(0)"
        idt_task 0x40, CODE32, 0xE5
        try     .tc
        int     0x40
.tc:    caught  13, CODE32, "to a code segment: #GP"
        idt_task 0x40, TASK, 0x65
        try     .tp
        int     0x40
.tp:    caught  11, 0x40 * 8 + 2, "a gate that is not present: #NP"
        idt_task 0x40, TASK, 0x85
        try     .td
        to_ring3 int_40
.td:    caught  13, 0x40 * 8 + 2, "a gate of DPL 0 in ring 3: #GP"

        named   "faults of the old task"
%macro refused 4+                       ; instruction operand, vector, error, what
        try     %%there
        jmp     %1:0
%%there: caught %2, %3, %4
        try     %%called
        call    %1:0
%%called: caught %2, %3, %4, " (CALL)"
%endmacro
        spare   8, TSS_B, 0x67, BUSY, 0
        refused BAD, 13, BAD, "a busy TSS"
        spare   8, TSS_B, 0x67, 0x09, 0
        refused BAD, 11, BAD, "a TSS that is not present"
        spare   8, TSS_B, 0x66, AVAILABLE, 0
        refused BAD, 10, BAD, "a TSS of 103 bytes"
        spare   8, TSS_C, 0x2A, 0x81, 0
        refused BAD, 10, BAD, "a 16-bit TSS of 43 bytes"
        refused TSS_SEL, 13, TSS_SEL, "the running task"
        task_gate 8, TSS_SEL, 0x85
        refused BAD, 13, TSS_SEL, "a task gate to the running task"
        task_gate 8, TASK, 0x05
        refused BAD, 11, BAD, "a task gate that is not present"
        task_gate 8, 0, 0x85
        refused BAD, 13, 0, "a task gate to the null selector"
        try     .r3
        to_ring3 jump_task
.r3:    caught  13, TASK, "a TSS of DPL 0 in ring 3"
        ; A short TSS of the old task.
        spare   9, TSS_AT, 0x67, AVAILABLE, 0
        mov     ax, BAD2
        ltr     ax
        access  BAD2, BUSY, "LTR made it busy"
        mov     byte [gdt + TSS_SEL + 5], AVAILABLE
        mov     ax, TSS_SEL
        ltr     ax

%macro nested_return 0
        pushfd
        or      dword [esp], NT
        popfd
        iretd
%endmacro
        mov     dword [TSS_AT + T_LINK], TASK
        try     .i1
        nested_return
.i1:    caught  10, TASK, "IRET to an available TSS: #TS"
        mov     dword [TSS_AT + T_LINK], 0
        try     .i2
        nested_return
.i2:    caught  10, 0, "to the null selector: #TS(0)"
        mov     dword [TSS_AT + T_LINK], 8 | 4
        try     .i3
        nested_return
.i3:    caught  10, 8 | 4, "to a selector of the LDT: #TS"
        spare   8, TSS_B, 0x67, 0x0B, 0
        mov     dword [TSS_AT + T_LINK], BAD
        try     .i4
        nested_return
.i4:    caught  11, BAD, "to a TSS that is not present: #NP"
        mov     eax, [t_eflags]
        and     eax, NT
        expect  eax, NT, "NT is still set in the fault's frame"
        task    b_returned
        mov     byte [gdt + TASK + 5], BUSY
        mov     dword [TSS_AT + T_LINK], TASK
        pushfd
        or      dword [esp], NT
        popfd
        iretd
.i5:    expect  dword [seen + 4], TASK, "to a busy TSS"
        expect  dword [seen + 8], BUSY << 8 | AVAILABLE, "which stays busy"
        mov     eax, [TSS_AT + T_EFLAGS]
        and     eax, NT
        expect  eax, 0, "NT is clear in what was saved"

        named   "faults of the new task"
        call    fault_tasks
        mov     esi, new_task_faults
.fault: cmp     dword [esi], 0
        je      .faults_done
        push    esi
        task    b_never
        pop     esi
        spare   8, 0, 0xFFFFF, 0x1A, 12         ; BAD: code, not present
        spare   9, 0, 0xFFFFF, 0x12, 12         ; BAD2: data, not present
        mov     edi, [esi]
        mov     eax, [esi + 4]
        mov     [TSS_B + edi], eax
        mov     dword [seen], 0
        mov     dword [seen + 4], 0
        mov     dword [seen + 8], 0
        mov     ebp, esi
        jmp     TASK:0
.resumed:
        mov     eax, [ebp]
        shl     eax, 16
        mov     ax, [ebp + 4]
        mov     [t_case], eax
        mov     eax, [seen]
        cmp     eax, [ebp + 8]
        jne     .wrong
        mov     eax, [seen + 4]
        cmp     eax, [ebp + 12]
        jne     .wrong
        cmp     dword [seen + 8], TASK
        je      .right
.wrong: show    [t_case]
.right: expect  dword [seen], [ebp + 8], "vector of a fault in the new task"
        expect  dword [seen + 4], [ebp + 12], "its error code"
        expect  dword [seen + 8], TASK, "the link: it was the new task's"
        mov     byte [gdt + TASK + 5], AVAILABLE
        lea     esi, [ebp + 16]
        jmp     .fault
.faults_done:
        gate    10, exception_stubs + 10 * 16, INT_GATE
        gate    11, exception_stubs + 11 * 16, INT_GATE
        gate    12, exception_stubs + 12 * 16, INT_GATE
        gate    13, exception_stubs + 13 * 16, INT_GATE

        named   "the T bit"
        xor     eax, eax
        mov     dr6, eax
        task    b_jumped
        mov     dword [TSS_B + T_TRAP], 1 | 0x68 << 16
        try     .trap
        jmp     TASK:0
.trap:  caught  1, 0, "#DB in the new task"
        expect  dword [t_eip], b_jumped, "before its first instruction"
        mov     eax, dr6
        and     eax, 0xE00F
        expect  eax, 1 << 15, "DR6.BT"
        str     eax
        and     eax, 0xFFFF
        expect  eax, TASK, "TR"
        call    own_task

        named   "16-bit TSS"
        call    new_task16
        mov     eax, 0x12345678
        mov     ebx, 0x9ABCDEF0
        mov     ebp, esp
        call    TASK16:0
        expect  eax, 0x12345678, "back from a 16-bit task: EAX"
        expect  ebx, 0x9ABCDEF0, "and EBX, whole"
        mov     ecx, esp
        expect  ecx, ebp, "and ESP"
        expect  dword [seen + 4], TASK16, "TR in it"
        expect  dword [seen + 8], 0x1111, "AX"
        expect  dword [seen + 12], STACK_C & 0xFFFF, "SP"
        expect  dword [seen + 16], TSS_SEL, "the link"
        mov     eax, [seen + 20]
        and     eax, NT
        expect  eax, NT, "NT"
        movzx   eax, word [TSS_C + 0x0E]
        expect  eax, c_called.again, "its saved IP"
        movzx   eax, byte [gdt + TASK16 + 5]
        expect  eax, 0x81, "it is available again"
        ; An error code is a word on the stack of a 16-bit task, whatever the gate.
        call    new_task16
        mov     word [TSS_C + 0x0E], c_fault
        idt_task 13, TASK16, 0x85
        mov     eax, 0x1230
        mov     fs, ax
        gate    13, exception_stubs + 13 * 16, INT_GATE
        expect  dword [seen], 0x1230, "the error code in a 16-bit task"
        expect  dword [seen + 4], (STACK_C & 0xFFFF) - 2, "a word"

        named   "a virtual-8086 task"
        task    0x10
        mov     dword [TSS_B + T_EFLAGS], VM | 2
        mov     dword [TSS_B + T_CS], 0x7000
        mov     dword [TSS_B + T_DS], 0x7100
        mov     dword [TSS_B + T_ES], 0x7200
        mov     dword [TSS_B + T_SS], 0x7300
        mov     dword [TSS_B + T_ESP], 0x100
        mov     dword [TSS_B + T_ESP0], STACK_B
        mov     dword [TSS_B + 8], DATA32
        mov     dword [0x70010], 0x0B0FD98C     ; MOV CX, DS and UD2
        idt_task 6, TASK16, 0x85
        call    new_task16
        mov     word [TSS_C + 0x0E], c_ud
        try     .v86
        jmp     TASK:0
.v86:   ; TASK16 came here by JMP to this task, whose EIP is behind the JMP
        expect  dword [TSS_B + T_ECX], 0x7100, "a virtual-8086 task ran, with DS a paragraph"
        expect  dword [TSS_B + T_EIP], 0x12, "and #UD took it to another task"
        mov     eax, [TSS_B + T_EFLAGS]
        and     eax, VM | RF
        expect  eax, VM | RF, "its saved EFLAGS"
        gate    6, exception_stubs + 6 * 16, INT_GATE
        mov     dword [t_resume], 0

        named   "with paging"
        call    paging_on
        task    b_paged
        mov     dword [TSS_B + T_CR3], DIR_B
        mov     eax, PAGES_AT
        mov     [TSS_AT + T_CR3], eax
        call    TASK:0
        expect  dword [seen], 0x22222222, "CR3 is the new task's"
        expect  dword [0x400000], 0x11111111, "and the old task's again"
        expect  dword [TSS_AT + T_CR3], PAGES_AT, "a switch does not save CR3"
        mov     dword [PT_LOW + (TSS_B >> 12) * 4], 0
        mov     eax, cr3
        mov     cr3, eax
        try     .pf
        jmp     TASK:0
.pf:    caught  14, 0, "the new TSS in an absent page: #PF in the old task"
        mov     eax, [t_cr2]
        and     eax, ~0xFFF
        expect  eax, TSS_B, "CR2"
        expect  dword [t_cs], CODE32, "CS is the old task's"
        str     eax
        and     eax, 0xFFFF
        expect  eax, TSS_SEL, "TR too"
        access  TASK, AVAILABLE, "and the TSS is not busy"
        done

; Tables and tasks.
new_task:                               ; EAX: where TASK starts. All else is as a task of ring 0 has it.
        mov     edi, TSS_B
        mov     ecx, 0x68 / 4
        push    eax
        xor     eax, eax
        rep     stosd
        pop     eax
        mov     [TSS_B + T_EIP], eax
        mov     dword [TSS_B + T_EFLAGS], 2
        mov     dword [TSS_B + T_ESP], STACK_B
        mov     dword [TSS_B + T_CS], CODE32
        mov     eax, DATA32
        mov     [TSS_B + T_SS], eax
        mov     [TSS_B + T_DS], eax
        mov     [TSS_B + T_ES], eax
        mov     [TSS_B + T_FS], eax
        mov     [TSS_B + T_GS], eax
        mov     dword [TSS_B + T_TRAP], 0x68 << 16
        mov     eax, cr3
        mov     [TSS_B + T_CR3], eax
        spare   0, TSS_B, 0x67, AVAILABLE, 0
        mov     dword [seen], 0
        ret
new_task16:
        mov     edi, TSS_C
        mov     ecx, 0x2C / 4
        xor     eax, eax
        rep     stosd
        mov     word [TSS_C + 0x0E], c_called
        mov     word [TSS_C + 0x10], 2
        mov     word [TSS_C + 0x12], 0x1111
        mov     word [TSS_C + 0x1A], STACK_C & 0xFFFF
        mov     word [TSS_C + 0x22], DATA32
        mov     word [TSS_C + 0x24], CODE32
        mov     word [TSS_C + 0x26], BAD2
        mov     word [TSS_C + 0x28], DATA32
        spare   9, STACK_C & 0xF0000, 0xFFFF, 0x92, 0
        spare   1, TSS_C, 0x2B, 0x81, 0
        ret
own_task:                               ; TR is TSS_SEL again
        mov     byte [gdt + TASK + 5], AVAILABLE
        mov     byte [gdt + TSS_SEL + 5], AVAILABLE
        mov     ax, TSS_SEL
        ltr     ax
        ret
fault_tasks:                            ; tasks for vectors 10 to 13
        xor     ebx, ebx
.next:  mov     eax, ebx
        shl     eax, 8
        add     eax, FAULT_TSS
        mov     edi, eax
        push    edi
        mov     ecx, 0x68 / 4
        xor     eax, eax
        rep     stosd
        pop     edi
        mov     eax, [.entries + ebx * 4]
        mov     [edi + T_EIP], eax
        mov     dword [edi + T_EFLAGS], 2
        mov     dword [edi + T_ESP], STACK_F
        mov     dword [edi + T_CS], CODE32
        mov     eax, DATA32
        mov     [edi + T_SS], eax
        mov     [edi + T_DS], eax
        mov     [edi + T_ES], eax
        mov     eax, edi
        shl     eax, 16
        or      eax, 0x67
        mov     [gdt_spare + 32 + ebx * 8], eax
        mov     eax, edi
        shr     eax, 16
        or      eax, AVAILABLE << 8
        mov     [gdt_spare + 36 + ebx * 8], eax
        lea     eax, [FAULTER + ebx * 8]
        shl     eax, 16
        mov     [IDT_AT + 10 * 8 + ebx * 8], eax
        mov     dword [IDT_AT + 10 * 8 + ebx * 8 + 4], 0x8500
        inc     ebx
        cmp     ebx, 4
        jb      .next
        ret
.entries: dd    fault_10, fault_11, fault_12, fault_13

%macro fault_task 1
fault_%1:
        pop     dword [seen + 4]
        mov     dword [seen], %1
        movzx   eax, word [FAULT_TSS + (%1 - 10) * 0x100]
        mov     [seen + 8], eax
        jmp     TSS_SEL:0
        jmp     fault_%1
%endmacro
        fault_task 10
        fault_task 11
        fault_task 12
        fault_task 13

; Field of the TSS, value, vector, error code.
new_task_faults:
        dd      T_LDT, CODE32, 10, CODE32       ; no LDT
        dd      T_LDT, 8 | 4, 10, 8 | 4
        dd      T_LDT, 0xFFF8, 10, 0xFFF8
        dd      T_CS, 0, 10, 0
        dd      T_CS, DATA32, 10, DATA32
        dd      T_CS, USER_CODE & ~3, 10, USER_CODE & ~3        ; RPL is not DPL
        dd      T_CS, 0xFFF8, 10, 0xFFF8
        dd      T_CS, BAD, 11, BAD
        dd      T_SS, 0, 10, 0
        dd      T_SS, CODE32, 10, CODE32
        dd      T_SS, DATA32 | 1, 10, DATA32
        dd      T_SS, USER_DATA, 10, USER_DATA & ~3
        dd      T_SS, BAD2, 12, BAD2
        dd      T_DS, TSS_SEL, 10, TSS_SEL
        dd      T_DS, 0xFFF8, 10, 0xFFF8
        dd      T_DS, BAD2, 11, BAD2
        dd      T_DS, DATA32 | 3, 10, DATA32    ; RPL 3 in DPL 0
        dd      T_ES, BAD2, 11, BAD2
        dd      T_FS, BAD2, 11, BAD2
        dd      T_GS, BAD2, 11, BAD2
        dd      0

b_jumped:                               ; by JMP; goes back likewise
        mov     [seen + 8], eax
        mov     [seen + 12], ecx
        mov     [seen + 16], edi
        mov     [seen + 20], esp
        pushfd
        pop     dword [seen + 24]
        cld
        str     eax
        and     eax, 0xFFFF
        mov     [seen + 4], eax
        mov     eax, cr0
        and     eax, CR0_TS
        mov     [seen + 28], eax
        sldt    eax
        and     eax, 0xFFFF
        mov     [seen + 32], eax
        mov     eax, fs
        mov     [seen + 36], eax
        mov     eax, dr7
        mov     [seen_dr7], eax
        mov     ah, [gdt + TASK + 5]
        mov     al, [gdt + TSS_SEL + 5]
        movzx   eax, ax
        mov     [seen + 40], eax
        jmp     TSS_SEL:0xF4F4F4F4
b_called:
        inc     dword [seen]
        str     eax
        and     eax, 0xFFFF
        mov     [seen + 4], eax
        movzx   eax, word [TSS_B]
        mov     [seen + 8], eax
        pushfd
        pop     dword [seen + 12]
        mov     ah, [gdt + TASK + 5]
        mov     al, [gdt + TSS_SEL + 5]
        movzx   eax, ax
        mov     [seen + 16], eax
        iretd
.again: inc     dword [seen]
        jmp     b_called
b_fault:
        mov     [seen + 4], esp
        pop     dword [seen]
        mov     eax, [TSS_AT + T_EIP]
        mov     [seen + 8], eax
        mov     eax, [TSS_AT + T_EFLAGS]
        mov     [seen + 12], eax
        mov     dword [TSS_AT + T_EIP], to_ring3_task.gp2
        iretd
b_returned:
        str     eax
        and     eax, 0xFFFF
        mov     [seen + 4], eax
        mov     ah, [gdt + TASK + 5]
        mov     al, [gdt + TSS_SEL + 5]
        movzx   eax, ax
        mov     [seen + 8], eax
        jmp     TSS_SEL:0
b_never:
        mov     dword [seen], -1
        jmp     TSS_SEL:0
b_paged:
        mov     eax, [0x400000]
        mov     [seen], eax
        iretd
c_called:                               ; in a 16-bit task, but 32-bit code
        movzx   eax, ax
        mov     [seen + 8], eax
        movzx   eax, sp
        mov     [seen + 12], eax
        str     eax
        and     eax, 0xFFFF
        mov     [seen + 4], eax
        movzx   eax, word [TSS_C]
        mov     [seen + 16], eax
        pushfd
        pop     dword [seen + 20]
        iretd
.again: jmp     c_called
c_fault:
        movzx   eax, sp
        mov     [seen + 4], eax
        xor     eax, eax
        pop     ax
        mov     [seen], eax
        add     dword [TSS_AT + T_EIP], 2       ; over the MOV FS, AX
        iretd
c_ud:   jmp     TSS_SEL:0
int_40: int     0x40
jump_task: jmp  TASK:0

PT_LOW  equ PAGES_AT + 0x1000
PT_A    equ PAGES_AT + 0x2000
PT_B    equ PAGES_AT + 0x3000
DIR_B   equ PAGES_AT + 0x4000
paging_on:
        mov     edi, PAGES_AT
        mov     ecx, 0x5000 / 4
        xor     eax, eax
        rep     stosd
        mov     dword [PAGES_AT], PT_LOW | 7
        mov     dword [DIR_B], PT_LOW | 7
        mov     dword [PAGES_AT + 4], PT_A | 7
        mov     dword [DIR_B + 4], PT_B | 7
        mov     dword [PT_A], 0x71000 | 7
        mov     dword [PT_B], 0x72000 | 7
        mov     edi, PT_LOW
        mov     eax, 7
.page:  stosd
        add     eax, 0x1000
        cmp     eax, 0x400000
        jb      .page
        mov     dword [0x71000], 0x11111111
        mov     dword [0x72000], 0x22222222
        mov     eax, PAGES_AT
        mov     cr3, eax
        mov     eax, cr0
        or      eax, 0x80000000
        mov     cr0, eax
        ret
        align   4, db 0
t_case: dd      0
seen_dr7: dd    0, 0
seen:   times   16 dd 0
rom_end
