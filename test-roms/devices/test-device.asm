; test-device.asm - fw_cfg and the test device as QEMU has them, and with the latter's wires the
; I/O APIC and the local APIC: edge and level, priorities, the task priority, the APIC moved,
; switched off and on again. QEMU docs/specs/fw_cfg.rst, hw/misc/pc-testdev.c; Intel 82093AA
; datasheet; MultiProcessor Specification 1.4 §4.3.3; Intel SDM vol. 3A §10.4.3-10.4.5, §10.8.

%include "rom.inc"
start:  title   "fw_cfg, test device, APICs"
        jmp     enter_pm
%include "pm.inc"
LAPIC   equ 0xFEE00000
IOAPIC  equ 0xFEC00000
MOVED   equ 0xFED40000
MEMORY  equ 0xFF000000

%macro redirect 3                       ; input, low, high
        mov     dword [IOAPIC], 0x10 + (%1) * 2
        mov     dword [IOAPIC + 0x10], %2
        mov     dword [IOAPIC], 0x11 + (%1) * 2
        mov     dword [IOAPIC + 0x10], %3
%endmacro
%macro wire 2
        mov     dx, 0x2000 + %1
        mov     al, %2
        out     dx, al
%endmacro
; item NUMBER, BYTES: into EDX:EAX
%macro item 2
        mov     eax, %1
        mov     ecx, %2
        call    read_item
%endmacro

main:   item    0, 4
        expect  eax, "QEMU", "fw_cfg: the signature"
        item    5, 2
        expect  eax, 1, "processors"
        item    3, 8
        expect  eax, 16 << 20, "memory"
        expect  edx, 0, "its upper half"
        item    0x0F, 2
        cmp     eax, 1
        jae     .most
        mov     eax, 0
        jmp     .most2
.most:  mov     eax, 1
.most2: expect  eax, 1, "processors at most: at least one"

        mov     eax, 0x12345678
        out     0xE0, eax
        in      al, 0xE0
        movzx   eax, al
        expect  eax, 0x78, "the latch keeps a doubleword"
        mov     al, 0xAB
        out     0xE0, al
        in      al, 0xE0
        movzx   eax, al
        expect  eax, 0xAB, "and a byte"
        mov     esi, letters
        mov     ecx, 5
        mov     dx, 0xE0
        rep     outsb
        in      al, 0xE0
        movzx   eax, al
        expect  eax, 'e', "REP OUTSB: the last byte stays"
        mov     dword [MEMORY + 0x100], 0xCAFEBABE
        expect  dword [MEMORY + 0x100], 0xCAFEBABE, "its memory"
        movzx   eax, word [MEMORY + 0x101]
        expect  eax, 0xFEBA, "unaligned"
        xor     byte [MEMORY + 0x103], 0xFF
        expect  dword [MEMORY + 0x100], 0x35FEBABE, "read-modify-write"
        mov     esi, MEMORY + 0x100
        mov     edi, MEMORY + 0x200
        mov     ecx, 2
        mov     dword [MEMORY + 0x104], 0x11223344
        rep     movsd
        expect  dword [MEMORY + 0x204], 0x11223344, "REP MOVSD within it"

        mov     ebx, esp                ; a stack there
        mov     esp, MEMORY + 0x1000
        push    dword 0x87654321
        pushad
        popad
        pop     ecx
        mov     esp, ebx
        expect  ecx, 0x87654321, "PUSH, PUSHAD, POPAD, POP"
        mov     dword [MEMORY], 41
        lock inc dword [MEMORY]
        mov     eax, 42
        mov     ecx, 7
        lock cmpxchg [MEMORY], ecx
        mov     eax, 1
        xadd    [MEMORY], eax
        add     eax, [MEMORY]
        expect  eax, 15, "LOCK INC, CMPXCHG, XADD"
        mov     dword [MEMORY + 0x40], 0
        mov     ecx, 0x200
        bts     [MEMORY], ecx           ; that of MEMORY + 40h
        expect  dword [MEMORY + 0x40], 1, "BTS with a bit string"
        mov     esi, MEMORY + 0x300
        mov     edi, MEMORY + 0x400
        mov     byte [MEMORY + 0x303], 1
        mov     byte [MEMORY + 0x403], 2
        mov     ecx, 8
        repe    cmpsb
        expect  ecx, 4, "REPE CMPSB"
        mov     eax, cr4
        or      eax, 1 << 9             ; OSFXSR
        mov     cr4, eax
        mov     eax, cr0
        and     eax, ~12
        mov     cr0, eax
        movups  xmm0, [letters]
        movups  [MEMORY + 0x501], xmm0
        movups  xmm1, [MEMORY + 0x501]
        movups  [0x50000], xmm1
        mov     eax, [0x50000]
        expect  eax, "abcd", "MOVUPS, unaligned"
        mov     eax, 0x99999999
        out     0xE0, ax
        mov     edi, MEMORY + 0xFC0
        mov     ecx, 0x80
        mov     dx, 0xE0
        rep     insb
        movzx   eax, byte [MEMORY + 0x103F]
        expect  eax, 0x99, "REP INSB over a page's end"

        ; The I/O APIC has the ID that the MP table says.
        mov     esi, 0xF0000
.mp:    cmp     dword [esi], "_MP_"
        je      .mp_found
        add     esi, 16
        cmp     esi, 0x100000
        jb      .mp
.mp_found:
        mov     ebx, [esi+4]
        movzx   ecx, word [ebx+0x22]    ; entries
        add     ebx, 0x2C
.entry: cmp     byte [ebx], 2
        je      .io_apic
        mov     edx, 8
        cmp     byte [ebx], 0           ; those of processors are longer
        jne     .next
        mov     edx, 20
.next:  add     ebx, edx
        loop    .entry
.io_apic:
        movzx   edx, byte [ebx+1]
        shl     edx, 24
        mov     dword [IOAPIC], 0
        mov     eax, [IOAPIC + 0x10]
        expect  eax, edx, "the I/O APIC's ID"

        ; The APICs.
        mov     dword [LAPIC + 0xF0], 0x1FF     ; on
        gate    0x77, edge, INT_GATE
        gate    0x78, high, INT_GATE
        gate    0x66, low, INT_GATE
        gate    0x55, level, INT_GATE
        redirect 14, 0x77, 0
        sti
        wire    14, 1
        wire    14, 0
        nop
        cli
        expect  dword [count], 1, "an edge through the I/O APIC"
        redirect 14, 0x78, 0
        redirect 15, 0x66, 0
        wire    15, 1
        wire    15, 0
        wire    14, 1
        wire    14, 0
        sti
        nop
        cli
        expect  dword [order], 0x7866, "two at once: the higher vector first"
        mov     eax, [eip_high]
        expect  eax, [eip_low], "both before the same instruction"
        mov     dword [order], 0
        mov     dword [LAPIC + 0x80], 0x70      ; TPR
        wire    15, 1
        wire    15, 0
        wire    14, 1
        wire    14, 0
        sti
        nop
        cli
        expect  dword [order], 0, "TPR 70h holds 66h and 78h back"
        mov     dword [LAPIC + 0x80], 0x60
        sti
        nop
        cli
        expect  dword [order], 0x78, "TPR 60h lets 78h through"
        mov     dword [LAPIC + 0x80], 0
        sti
        nop
        cli
        expect  dword [order], 0x7866, "TPR 0 the other"
        redirect 10, 0x8055, 0          ; level
        wire    10, 1
        sti
        nop
        nop
        cli
        expect  dword [levels], 3, "a level asks again until the handler lowers it"
        redirect 10, 0x10000, 0
        redirect 14, 0x10000, 0
        redirect 15, 0x10000, 0

        ; Its timer, changed between one-shot and periodic while it counts and after it has ended.
TIMER   equ LAPIC + 0x320
INITIAL equ LAPIC + 0x380
CURRENT equ LAPIC + 0x390
        mov     dword [LAPIC + 0x3E0], 0xB      ; divided by 1
        mov     dword [TIMER], 0x100EE          ; one-shot, masked
        mov     dword [INITIAL], 100000
.half:  mov     eax, [CURRENT]
        cmp     eax, 50000
        ja      .half
        mov     dword [TIMER], 0x300EE          ; periodic
        mov     eax, [CURRENT]
        mov     ecx, 1
        cmp     eax, 50000
        jbe     .goes_on
        xor     ecx, ecx
.goes_on:
        expect  ecx, 1, "one-shot to periodic: the count goes on"
.wrap:  mov     eax, [CURRENT]
        cmp     eax, 50000
        jbe     .wrap
        expect  dword [INITIAL], 100000, "and begins again at the initial count"
.half2: mov     eax, [CURRENT]
        cmp     eax, 50000
        ja      .half2
        mov     dword [TIMER], 0x100EE
.zero:  mov     eax, [CURRENT]
        test    eax, eax
        jnz     .zero
        mov     dword [TIMER], 0x300EE
        mov     ecx, 1000
.still: mov     eax, [CURRENT]
        test    eax, eax
        jnz     .moved
        loop    .still
.moved: expect  eax, 0, "one-shot has ended: periodic does not start it"
        mov     dword [INITIAL], 0
        mov     dword [TIMER], 0x100EE
        mov     eax, 1
        cpuid
        bt      ecx, 24
        jnc     .no_deadline
        gate    0x79, edge, INT_GATE
        mov     dword [count], 0
        mov     dword [TIMER], 0x40079          ; TSC deadline
        sti
        rdtsc
        mov     ecx, 0x6E0
        wrmsr                                   ; a deadline that has passed
        nop
        cli
        expect  dword [count], 1, "a TSC deadline in the past: at once"
        rdmsr
        or      eax, edx
        expect  eax, 0, "and the deadline is cleared"
        mov     dword [TIMER], 0x100EE
.no_deadline:

        ; The local APIC's own registers.
        mov     ecx, 0x1B
        rdmsr
        mov     [base], eax
        mov     eax, [LAPIC + 0x30]
        mov     [version], eax
        mov     dword [LAPIC + 0x80], 0x50
        mov     eax, [base]
        and     eax, ~(1 << 11)
        xor     edx, edx
        wrmsr
        mov     eax, 1
        cpuid
        shr     edx, 9
        and     edx, 1
        expect  edx, 0, "APIC off: CPUID hides it"
        expect  dword [LAPIC + 0x30], -1, "its page is empty"
        mov     dword [LAPIC + 0x80], 0
        mov     ecx, 0x1B
        mov     eax, [base]
        xor     edx, edx
        wrmsr
        mov     eax, 1
        cpuid
        shr     edx, 9
        and     edx, 1
        expect  edx, 1, "on again"
        mov     eax, [LAPIC + 0x30]
        expect  eax, [version], "its page is back"
        mov     eax, [LAPIC + 0xF0]
        and     eax, 0x100
        expect  eax, 0, "and reset: switched off by software"
        mov     ecx, 0x1B
        mov     eax, [base]
        and     eax, 0xFFF
        or      eax, MOVED
        xor     edx, edx
        wrmsr
        mov     eax, [MOVED + 0x30]
        expect  eax, [version], "moved to FED40000"
        expect  dword [LAPIC + 0x30], -1, "and gone from FEE00000"
        mov     eax, [base]
        wrmsr
%macro refused 3
        mov     ecx, 0x1B
        mov     eax, [base]
        or      eax, %1
        mov     edx, %2
        try     %%there
        wrmsr
%%there: caught 13, 0, %3
%endmacro
        refused 1, 0, "IA32_APIC_BASE: a low bit"
        refused 0, 1 << 20, "a bit beyond the physical address"
        mov     eax, 1
        cpuid
        test    ecx, 1 << 21
        jnz     .x2apic
        refused 1 << 10, 0, "x2APIC mode, which CPUID does not show"
.x2apic:
        done

read_item:
        push    ecx
        mov     dx, 0x510
        out     dx, ax
        xor     ebx, ebx
        mov     [value], ebx
        mov     [value + 4], ebx
        mov     dx, 0x511
.byte:  in      al, dx
        mov     [value + ebx], al
        inc     ebx
        cmp     ebx, ecx
        jb      .byte
        pop     ecx
        mov     eax, [value]
        mov     edx, [value + 4]
        ret
edge:   inc     dword [count]
        mov     dword [LAPIC + 0xB0], 0
        iretd
high:   push    eax
        mov     eax, [esp + 4]
        mov     [eip_high], eax
        shl     dword [order], 8
        or      dword [order], 0x78
        pop     eax
        mov     dword [LAPIC + 0xB0], 0
        iretd
low:    push    eax
        mov     eax, [esp + 4]
        mov     [eip_low], eax
        shl     dword [order], 8
        or      dword [order], 0x66
        pop     eax
        mov     dword [LAPIC + 0xB0], 0
        iretd
level:  push    eax
        push    edx
        inc     dword [levels]
        cmp     dword [levels], 3
        jb      .again
        wire    10, 0
.again: mov     dword [LAPIC + 0xB0], 0
        pop     edx
        pop     eax
        iretd
letters: db     "abcdefghijklmnopqrst"
        align   8, db 0
value:  dq      0
base:   dd      0
version: dd     0
count:  dd      0
order:  dd      0
levels: dd      0
eip_high: dd    0
eip_low: dd     0
rom_end
