; vm86.asm - virtual-8086 mode under a monitor that catches #GP. Intel SDM vol. 3A ch. 21.

%include "rom.inc"
start:  title   "virtual-8086 mode"
        jmp     enter_pm
%include "pm.inc"

; to_v86 EFLAGS, IP: CS 0, SS 3000, ES 2222, DS 3100, FS 3333, GS 4444.
%macro to_v86 2
        push    dword 0x4444
        push    dword 0x3333
        push    dword 0x3100
        push    dword 0x2222
        push    dword 0x3000
        push    dword 0x1000
        push    dword %1
        push    dword 0
        push    dword %2
        iretd
%endmacro

main:   gate    13, monitor, INT_GATE
        gate    3, leave_v86, INT_GATE | DPL3
        gate    0x21, int21, INT_GATE | DPL3
        mov     dword [resume], .a
        to_v86  VM | 2, v86_a
.a:     expect  dword [0x31000], 0x00010000, "segments are paragraphs: DS = 3100, CS = 0, CPL 3"
        expect  dword [0x31004], 0x22223000, "SS and ES"
        expect  dword [0x31008], 0x44443333, "FS and GS"
        expect  dword [count], 6, "sensitive instructions trapped with IOPL 0"
        expect  dword [opcodes], 0xCD9DFA9C, "PUSHF, CLI, POPF, INT"
        movzx   eax, word [opcodes + 4]
        expect  eax, 0xE4F4, "HLT and IN"
        expect  dword [seen_ds], 0, "DS is null in the monitor"
        mov     eax, [seen_flags]
        and     eax, VM
        expect  eax, VM, "EFLAGS.VM is in the pushed flags"
        expect  dword [seen_esp], KSTACK - 40, "ten dwords on ESP0's stack, with the error code"
        expect  dword [left_gs], 0x4444, "GS at the end of the frame"
        expect  dword [left_esp], 0x1000, "SP of the 8086 program"
        expect  dword [left_cs], 0, "CS of the 8086 program"

        ; With IOPL 3, CLI, PUSHF and POPF work; INT goes through the IDT.
        mov     dword [count], 0
        mov     dword [resume], .b
        to_v86  VM | 0x3002, v86_b
.b:     expect  dword [count], 0, "nothing trapped with IOPL 3"
        expect  dword [hits], 1, "INT 21h came by its gate"
        mov     eax, [0x31010]
        and     eax, 0x3200
        expect  eax, 0x3000, "PUSHF shows IOPL 3 and IF off"

        ; What VM86 mode does not know, and what it may not do.
        gate    13, exception_stubs + 13 * 16, INT_GATE
        try     .c
        to_v86  VM | 0x3002, v86_lgdt
.c:     caught  13, 0, "LGDT in VM86"
        try     .d
        to_v86  VM | 0x3002, v86_lldt
.d:     caught  6, 0, "LLDT is undefined in VM86"
        ; IRET from ring 3 cannot set VM.
        push    dword USER_DATA
        push    dword USTACK
        push    dword 2
        push    dword USER_CODE
        push    dword .ring3
        gate    0x50, .ring0, INT_GATE | DPL3
        iretd
.ring3: push    dword VM | 2
        popfd
        pushfd
        pop     ebx
        int     0x50
.ring0: and     ebx, VM
        mov     eax, DATA32
        mov     ds, eax
        expect  ebx, 0, "POPFD cannot set VM"
        done

monitor:                                ; error code, EIP, CS, EFLAGS, ESP, SS, ES, DS, FS, GS
        mov     ecx, ds
        mov     eax, DATA32
        mov     ds, eax
        mov     [seen_ds], ecx
        mov     [seen_esp], esp
        mov     eax, [esp + 12]
        mov     [seen_flags], eax
        mov     ebx, [esp + 8]
        shl     ebx, 4
        add     ebx, [esp + 4]
        mov     al, [ebx]               ; the instruction that trapped
        mov     ecx, [count]
        mov     [opcodes + ecx], al
        inc     dword [count]
        mov     ecx, 1
        cmp     al, 0xCD
        je      .two
        cmp     al, 0xE4
        jne     .skip
.two:   inc     ecx
.skip:  add     [esp + 4], ecx
        add     esp, 4
        iretd
int21:  push    ds
        mov     eax, DATA32
        mov     ds, eax
        inc     dword [hits]
        pop     ds
        iretd
leave_v86:
        mov     eax, DATA32
        mov     ds, eax
        mov     es, eax
        mov     eax, [esp + 4]
        mov     [left_cs], eax
        mov     eax, [esp + 12]
        mov     [left_esp], eax
        mov     eax, [esp + 32]
        mov     [left_gs], eax
        mov     esp, MSTACK
        jmp     [resume]

bits 16
v86_a:  mov     ax, cs
        mov     [0], ax
        mov     word [2], 1
        mov     ax, ss
        mov     [4], ax
        mov     ax, es
        mov     [6], ax
        mov     ax, fs
        mov     [8], ax
        mov     ax, gs
        mov     [10], ax
        pushf
        cli
        popf
        int     0x21
        hlt
        in      al, 0x80
        int3
v86_b:  cli
        int     0x21
        pushf
        pop     ax
        mov     [0x10], ax
        pushf
        popf
        int3
v86_lgdt:  lgdt [0]
v86_lldt:  lldt ax
bits 32
        align   4, db 0
resume: dd      0
count:  dd      0
hits:   dd      0
opcodes: times 16 db 0
seen_ds: dd     -1
seen_esp: dd    0
seen_flags: dd  0
left_cs: dd     -1
left_esp: dd    0
left_gs: dd     0
rom_end
