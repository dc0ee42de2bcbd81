; vme.asm - virtual-8086 mode with CR4.VME: the interrupt redirection bitmap, VIF and VIP by CLI,
; STI, PUSHF, POPF and IRET at every IOPL, INT n by the program's own vector table; PVI in ring 3
; of protected mode. Intel SDM vol. 3A §20.3 (tables 20-1, 20-2), §20.4.
;
; QEMU's TCG fails: it has no VME in this form. See also vm86.asm.

%include "rom.inc"
start:  title   "virtual-8086 mode extensions"
        jmp     enter_pm
%include "pm.inc"

VIF equ 1 << 19
VIP equ 1 << 20
VME equ 1
PVI equ 2
MAP     equ TSS_AT + 0x68               ; the redirection bitmap, then the I/O bitmap
PARAGRAPH equ 0x3000

; to_v86 FLAGS, ADDRESS: 16-bit code at 0:ADDRESS
%macro to_v86 2
        push    dword PARAGRAPH           ; GS, FS, DS, ES
        push    dword PARAGRAPH
        push    dword PARAGRAPH
        push    dword PARAGRAPH
        push    dword PARAGRAPH           ; SS:SP
        push    dword 0x1000
        push    dword (%1) | VM | 2
        push    dword 0
        push    dword %2
        iretd
%endmacro
%macro run 3                            ; flags, code, vector wanted (3: INT3, its end)
        try     %%there
        to_v86  %1, %2
%%there: mov    dword [t_resume], 0
%endmacro

main:   mov     eax, cr4
        or      eax, VME
        mov     cr4, eax
        mov     word [TSS_AT + 0x66], 0x68 + 32
        mov     byte [gdt + TSS_SEL], 0x68 + 32 + 0x20
        mov     byte [gdt + TSS_SEL + 5], 0x89
        mov     ax, TSS_SEL
        ltr     ax
        mov     edi, MAP
        mov     ecx, 8
        xor     eax, eax
        rep     stosd                   ; all interrupts to the program
        mov     byte [MAP + 0x21 / 8], 1 << (0x21 & 7)  ; but 21h
        mov     byte [MAP + 3 / 8], 1 << 3              ; and INT3 does not ask
        mov     byte [MAP + 32 + 0x20], 0xFF
        gate    3, exception_stubs + 3 * 16, INT_GATE | DPL3
        gate    0x21, exception_stubs + 4 * 16, INT_GATE | DPL3
        mov     word [0x80 * 4], v86_handler
        mov     word [0x80 * 4 + 2], 0

        ; INT n by the program's table, IOPL 0: the pushed IF is VIF, IOPL 3.
        run     VIF, v86_int80, 3
        expect  dword [t_vector], 3, "INT 80h came back by itself"
        expect  dword [PARAGRAPH * 16], 0x80, "its handler ran"
        mov     eax, [PARAGRAPH * 16 + 4]
        and     eax, 0x3300
        expect  eax, 0x3200, "the pushed FLAGS: IF as VIF, IOPL 3, TF clear"
        mov     eax, [PARAGRAPH * 16 + 8]
        and     eax, 0x200
        expect  eax, 0, "VIF is clear in the handler, as PUSHF shows"
        mov     eax, [t_eflags]
        and     eax, VIF
        expect  eax, VIF, "IRET set it again"
        run     IF, v86_int80, 3
        mov     eax, [PARAGRAPH * 16 + 4]
        and     eax, 0x200
        expect  eax, 0, "with VIF clear the pushed IF is clear, whatever IF"
        mov     eax, [t_eflags]
        and     eax, IF
        expect  eax, IF, "IF stays"
        ; IOPL 3: IF itself.
        run     0x3000 | IF, v86_int80, 3
        mov     eax, [PARAGRAPH * 16 + 4]
        and     eax, 0x200
        expect  eax, 0x200, "IOPL 3: the pushed IF is IF"
        mov     eax, [PARAGRAPH * 16 + 8]
        and     eax, 0x200
        expect  eax, 0, "IF is clear in the handler"
        ; Redirected to the monitor: #GP at IOPL 0, the gate at IOPL 3.
        run     0, v86_int21, 13
        expect  dword [t_vector], 13, "INT 21h with its bit set, IOPL 0: #GP"
        expect  dword [t_error], 0, "error code 0"
        run     0x3000, v86_int21, 4
        expect  dword [t_vector], 4, "IOPL 3: through its gate"

        ; CLI, STI, PUSHF and POPF at each IOPL with and without VIP.
        ; VIP and VIF together do not come up, and the manual is silent on them (AMD's raises #GP).
        xor     ebp, ebp                ; IOPL * 4 + VIP * 2 + VIF
.sweep: mov     ebx, ebp
        and     ebx, 3
        cmp     ebx, 3
        je      .next
        mov     ebx, ebp
        shr     ebx, 2
        shl     ebx, 12
        test    ebp, 2
        jz      .no_vip
        or      ebx, VIP
.no_vip: test   ebp, 1
        jz      .no_vif
        or      ebx, VIF
.no_vif: xor    edi, edi                ; the program
.program:
        try     .seen
        push    dword PARAGRAPH
        push    dword PARAGRAPH
        push    dword PARAGRAPH
        push    dword PARAGRAPH
        push    dword PARAGRAPH
        push    dword 0x1000
        mov     eax, ebx
        or      eax, VM | 2
        push    eax
        push    dword 0
        push    dword [programs + edi * 4]
        iretd
.seen:  mov     dword [t_resume], 0
        ; The rule: at IOPL 3 all work on IF. Below, CLI clears VIF; STI sets it, unless VIP: #GP;
        ; POPF with IF set likewise; POPF with IF clear clears it; POPF with TF, PUSHFD, POPFD: #GP.
        mov     edx, 3
        mov     esi, ebx
        and     esi, VIF
        cmp     ebp, 12
        jae     .judge
        cmp     edi, 0
        je      .clears
        cmp     edi, 1
        je      .sets
        cmp     edi, 2
        je      .sets
        cmp     edi, 3
        je      .clears
        jmp     .faults
.sets:  test    ebx, VIP
        jnz     .faults
        mov     esi, VIF
        jmp     .judge
.clears: xor    esi, esi
        jmp     .judge
.faults: mov    edx, 13
.judge: inc     dword [checks]
        cmp     edx, [t_vector]
        jne     .bad
        mov     eax, [t_eflags]
        and     eax, VIF
        cmp     eax, esi
        je      .good
.bad:   inc     dword [differences]
        push    edx
        push    esi
        text    esi, "IOPL-VIP-VIF, program, vector, flags, wanted: "
        call    print_32
        show    ebp
        show    edi
        show    [t_vector]
        show    [t_eflags]
        pop     esi
        pop     edx
        push    edx
        call    hex_32
        mov     al, 10
        out     0xE9, al
        pop     edx
.good:  inc     edi
        cmp     edi, PROGRAMS
        jb      .program
.next:  inc     ebp
        cmp     ebp, 16
        jb      .sweep
        expect  dword [checks], 12 * PROGRAMS, "programs run"
        expect  dword [differences], 0, "that differ from the rule"

        ; Without VME they all fault below IOPL 3.
        mov     eax, cr4
        and     eax, ~VME
        mov     cr4, eax
        run     0, v86_cli, 13
        expect  dword [t_vector], 13, "CLI without VME: #GP"
        run     0, v86_int80, 13
        expect  dword [t_vector], 13, "INT 80h without VME: #GP"

        ; PVI: ring 3 of protected mode.
        mov     eax, cr4
        or      eax, PVI
        mov     cr4, eax
%macro pvi 5                            ; flags, code, vector, VIF afterwards, what
        try     %%there
        push    dword USER_DATA
        push    dword USTACK
        push    dword (%1) | 2
        push    dword USER_CODE
        push    dword %2
        mov     ax, USER_DATA
        mov     ds, ax
        iretd
%%there: mov    dword [t_resume], 0
        expect  dword [t_vector], %3, %5
        mov     eax, [t_eflags]
        and     eax, VIF
        expect  eax, %4, %5, ": VIF"
%endmacro
        pvi     0, p_sti, 3, VIF, "PVI: STI"
        pvi     VIF, p_cli, 3, 0, "PVI: CLI"
        pvi     VIP, p_sti, 13, 0, "PVI: STI with VIP"
        pvi     VIF, p_pushf, 3, VIF, "PVI: PUSHF"
        expect  dword [seen], 0, "which shows IF, not VIF"
        mov     eax, cr4
        and     eax, ~PVI
        mov     cr4, eax
        pvi     0, p_sti, 13, 0, "without PVI: STI"
        done

p_sti:  sti
        int3
p_cli:  cli
        int3
p_pushf: pushfd
        pop     eax
        and     eax, IF
        mov     [seen], eax
        int3
bits 16
v86_int80:
        mov     dword [0], 0
        int     0x80
        int3
v86_int21:
        int     0x21
        int3
v86_handler:
        mov     dword [0], 0x80
        mov     bp, sp
        mov     ax, [bp + 4]
        mov     [4], ax
        pushf
        pop     ax
        mov     [8], ax
        iret
v86_cli: cli
        int3
v86_sti: sti
        int3
v86_popf_if:
        push    0x0202
        popf
        int3
v86_popf_0:
        push    2
        popf
        int3
v86_popf_tf:
        push    0x0102
        popf
        nop
        int3
v86_pushfd:
        pushfd
        popfd
        int3
v86_iretd:
        pushfd
        push    dword 0
        push    dword v86_iretd.after
        iretd
.after: int3
bits 32
        align   4, db 0
programs: dd    v86_cli, v86_sti, v86_popf_if, v86_popf_0, v86_pushfd, v86_iretd
PROGRAMS equ 6
checks: dd      0
differences: dd 0
seen:   dd      0
rom_end
