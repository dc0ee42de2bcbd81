; debug-registers.asm - hardware breakpoints: execution, write, read or write, I/O; DR6, RF,
; general detect. Intel SDM vol. 3B ch. 17.

%include "rom.inc"
start:  title   "debug registers"
        jmp     enter_pm
%include "pm.inc"

hit:    push    eax
        mov     eax, dr6
        mov     [dr6_seen], eax
        mov     eax, [esp + 4]
        mov     [eip_seen], eax
        mov     eax, [esp + 12]
        mov     [flags_seen], eax
        inc     dword [hits]
        xor     eax, eax
        mov     dr6, eax
        or      dword [esp + 12], RF    ; or an execution breakpoint would hit again
        pop     eax
        iretd

%macro armed 2                          ; DR0, DR7
        mov     dword [hits], 0
        mov     eax, %1
        mov     dr0, eax
        mov     eax, %2
        mov     dr7, eax
%endmacro

main:   gate    1, hit, INT_GATE
        xor     eax, eax
        mov     dr6, eax
        armed   .x1, 0x402              ; G0, execution
        xor     ebx, ebx
.x0:    inc     ebx
.x1:    inc     ebx
.x2:    expect  dword [hits], 1, "execution: once"
        expect  dword [eip_seen], .x1, "before the instruction"
        expect  ebx, 2, "RF lets it run then"
        mov     eax, [dr6_seen]
        and     eax, 15
        expect  eax, 1, "DR6.B0"
        mov     eax, [flags_seen]
        and     eax, RF
        expect  eax, 0, "RF is clear in the pushed flags, unlike for other faults"

        armed   variable, 0x000D0402    ; 4 bytes, write
        mov     eax, [variable]
        expect  dword [hits], 0, "write: not on a read"
.w0:    mov     [variable], eax
.w1:    expect  dword [hits], 1, "write: on a write"
        expect  dword [eip_seen], .w1, "after the instruction"
        mov     byte [variable + 3], 0
        expect  dword [hits], 2, "any byte of the four"
        mov     byte [variable + 4], 0
        expect  dword [hits], 2, "not the fifth"
        mov     dword [variable - 2], 0
        expect  dword [hits], 3, "an access that overlaps"

        armed   variable, 0x000F0402    ; 4 bytes, read or write
        mov     eax, [variable]
        expect  dword [hits], 1, "read or write: on a read"
        inc     dword [variable]
        expect  dword [hits], 2, "once for a read-modify-write"

        armed   variable, 0x00010402    ; 1 byte
        mov     byte [variable + 1], 0
        expect  dword [hits], 0, "one byte: not its neighbour"

        mov     eax, cr4
        or      eax, 8                  ; DE: I/O breakpoints
        mov     cr4, eax
        armed   0x80, 0x00020402
        out     0x80, al
.o1:    expect  dword [hits], 1, "I/O"
        expect  dword [eip_seen], .o1, "after the OUT"
        armed   variable, 0x000D0400
        mov     dword [variable], 1
        expect  dword [hits], 0, "disabled"
        try     .de
        mov     eax, dr4
.de:    caught  6, 0, "DR4 is undefined with CR4.DE"
        mov     eax, cr4
        and     eax, ~8
        mov     cr4, eax
        mov     eax, 0x12345678
        mov     dr3, eax
        xor     eax, eax
        mov     eax, dr3
        expect  eax, 0x12345678, "DR3 keeps its value"
        mov     eax, 0
        mov     dr7, eax
        mov     eax, dr7
        expect  eax, 0x400, "DR7 bit 10 reads 1"
        mov     dr6, eax
        mov     eax, dr6
        expect  eax, 0xFFFF0FF0, "DR6's fixed bits"
        try     .user
        to_ring3 .ring3
.user:  caught  13, 0, "MOV from DR7 in ring 3"
        done
.ring3: mov     eax, dr7
        ud2
        align   4, db 0
        dd      0
variable: dd    0, 0
hits:   dd      0
dr6_seen: dd    0
eip_seen: dd    0
flags_seen: dd  0
rom_end
