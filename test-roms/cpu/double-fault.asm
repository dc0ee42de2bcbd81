; double-fault.asm - when delivering a fault faults: #DF through a gate and through a task.
; Intel SDM vol. 3A §6.15 (interrupt 8), §7.3 (task switching).

%include "rom.inc"
start:  title   "double fault and hardware tasks"
        jmp     enter_pm
%include "pm.inc"
%include "paging.inc"

TASK     equ SPARE
TASK_TSS equ 0x12000
DF_STACK equ 0x1C000

main:   ; #GP whose gate is not present: #NP while delivering a #GP is a double fault.
        mov     byte [IDT_AT + 13 * 8 + 5], 0x0E
        try     .a
        mov     ax, 0x1000
        mov     fs, ax
.a:     caught  8, 0, "#NP on delivering #GP"
        ; A benign exception followed by a contributory one is no double fault.
        mov     byte [IDT_AT + 13 * 8 + 5], INT_GATE
        mov     byte [IDT_AT + 6 * 8 + 5], 0x0E
        try     .b
        ud2
.b:     or      dword [t_error], 1      ; EXT: see error-code-bits.asm
        caught  11, 6 * 8 + 3, "#NP on delivering #UD is #NP"
        mov     byte [IDT_AT + 6 * 8 + 5], INT_GATE

        ; A stack that has run into a page that is not present: the frame of the page fault cannot
        ; be pushed, and only a task, which brings its own stack, can help.
        call    paging_start
        spare   0, TASK_TSS, 0x67, 0x89, 0
        mov     edi, TASK_TSS
        mov     ecx, 26
        xor     eax, eax
        rep     stosd
        mov     dword [TASK_TSS + 28], PAGE_DIR ; CR3
        mov     dword [TSS_AT + 28], PAGE_DIR   ; a task switch loads it but does not save it
        mov     dword [TASK_TSS + 32], df_task
        mov     dword [TASK_TSS + 36], 2
        mov     dword [TASK_TSS + 56], DF_STACK
        mov     dword [TASK_TSS + 40], 0x1234   ; EAX
        mov     dword [TASK_TSS + 72], DATA32
        mov     dword [TASK_TSS + 76], CODE32
        mov     dword [TASK_TSS + 80], DATA32
        mov     dword [TASK_TSS + 84], DATA32
        mov     dword [TASK_TSS + 88], DATA32
        mov     dword [TASK_TSS + 92], DATA32
        mov     word [TASK_TSS + 0x66], 0x68
        mov     word [IDT_AT + 8 * 8 + 2], TASK
        mov     word [IDT_AT + 8 * 8 + 4], 0x8500
        mov     ebx, 0xB0B0B0B0
        mov     esi, esp
        mov     esp, 0x500000
.push:  push    eax                     ; #PF, then #PF on its frame: #DF, by task gate
        ud2
back:   mov     esp, esi                ; the task's IRET comes back here
        expect  dword [df_eax], 0x1234, "the task's EAX is from its TSS"
        expect  dword [df_error], 0, "its stack holds the error code"
        expect  dword [df_esp], DF_STACK - 4, "and nothing else"
        expect  dword [df_tr], TASK, "TR is the task's"
        expect  dword [df_link], TSS_SEL, "its link leads back"
        mov     eax, [df_flags]
        and     eax, NT
        expect  eax, NT, "NT is set in the task"
        expect  dword [TSS_AT + 32], back, "(EIP as we corrected it)"
        expect  dword [df_old_eip], main.push, "the old task's EIP is the PUSH"
        expect  dword [TSS_AT + 56], 0x500000, "and its ESP before the PUSH"
        expect  dword [TSS_AT + 52], 0xB0B0B0B0, "and its EBX"
        mov     eax, cr0
        and     eax, 8
        expect  eax, 8, "a task switch sets CR0.TS"
        clts
        movzx   eax, byte [gdt + TASK + 5]
        expect  eax, 0x89, "the task is not busy any more"
        str     eax
        and     eax, 0xFFFF
        expect  eax, TSS_SEL, "TR is ours again"

        ; The same task by a far call: it gets no error code.
        mov     dword [TASK_TSS + 32], called_task
        mov     dword [TASK_TSS + 56], DF_STACK
        call    TASK:0
        expect  dword [df_eax], 0x77, "CALL to a TSS runs it"
        pushfd
        pop     eax
        and     eax, NT
        expect  eax, 0, "NT is clear here"
        ; By a jump, back by a jump.
        jmp     TASK:0
        expect  dword [df_eax], 0x78, "a task goes on where it had left"
        done

df_task:
        mov     [df_eax], eax
        mov     [df_esp], esp
        pop     dword [df_error]
        str     eax
        and     eax, 0xFFFF
        mov     [df_tr], eax
        movzx   eax, word [TASK_TSS]
        mov     [df_link], eax
        pushfd
        pop     dword [df_flags]
        mov     eax, [TSS_AT + 32]
        mov     [df_old_eip], eax
        mov     dword [TSS_AT + 32], back
        iretd
called_task:
        mov     dword [df_eax], 0x77
        iretd                           ; NT: back to the caller
        mov     dword [df_eax], 0x78
        jmp     TSS_SEL:0
        align   4, db 0
df_eax: dd      0
df_esp: dd      0
df_error: dd    -1
df_tr:  dd      0
df_link: dd     0
df_flags: dd    0
df_old_eip: dd  0
rom_end
