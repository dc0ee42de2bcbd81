; straddle.asm - stores that cross from a good page into one that faults write nothing at all,
; and leave all registers as they were. Intel SDM vol. 3A §6.5 (faults restart), §4.7.

%include "rom.inc"
start:  title   "accesses across a page border"
        jmp     enter_pm
%include "pm.inc"
%include "paging.inc"

; store "what", INSTRUCTION: at 400FFEh, half of it in a page that is not present.
%macro store 2
        mov     dword [0x50FFC], 0xAAAAAAAA
        mov     eax, 0x11223344
        mov     ecx, 0x11223344
        mov     edx, 0x55667788
        mov     ebx, 0x400FFE
        try     %%there
        %2
%%there:
        or      dword [t_error], 2      ; see rmw-fault.asm
        caught  14, 2, %1
        expect  dword [t_cr2], 0x401000, {%1, ": CR2 is where the second page begins"}
        expect  dword [0x50FFC], 0xAAAAAAAA, {%1, ": nothing was written"}
        expect  ecx, 0x11223344, {%1, ": ECX"}
%endmacro

main:   call    paging_start
        mov     eax, cr0
        or      eax, 1 << 16            ; WP
        mov     cr0, eax
        map     0x400000, 0x50000 | P | W | U
        map     0x401000, 0
        store   "MOV", {mov [ebx], ecx}
        store   "ADD", {add [ebx], ecx}
        store   "XCHG", {xchg [ebx], ecx}
        store   "LOCK XADD", {lock xadd [ebx], ecx}
        store   "INC", {inc dword [ebx]}
        store   "BTS", {bts dword [ebx], 20}
        store   "SHLD", {shld [ebx], edx, 4}
        store   "CMPXCHG", {cmpxchg [ebx], edx}
        store   "MOV imm32", {mov dword [ebx], 0x12345678}
        store   "FNSTCW at the border", {fnstcw [ebx + 1]}

        ; Stack pushes: ESP must not have moved.
        mov     dword [0x50FFC], 0xAAAAAAAA
        try     .push
        to_ring3 do_push
.push:  caught  14, 6, "PUSH"
        expect  dword [t_esp], 0x401002, "PUSH: ESP has not moved"
        expect  dword [0x50FFC], 0xAAAAAAAA, "PUSH: nothing was written"

        ; The first page faults, the second is good: CR2 is the operand's own address.
        map     0x402000, 0x52000 | P | W | U
        mov     dword [0x52000], 0xBBBBBBBB
        mov     ebx, 0x401FFE
        try     .first
        mov     [ebx], ecx
.first: caught  14, 2, "the first page faults"
        expect  dword [t_cr2], 0x401FFE, "CR2 is the operand's address"
        expect  dword [0x52000], 0xBBBBBBBB, "the second page is untouched"

        ; Read-only second page.
        map     0x401000, 0x51000 | P | U
        mov     dword [0x51000], 0xCCCCCCCC
        mov     dword [0x50FFC], 0xAAAAAAAA
        try     .ro
        mov     [0x400FFE], ecx
.ro:    caught  14, 3, "the second page is read-only"
        expect  dword [t_cr2], 0x401000, "CR2"
        expect  dword [0x50FFC], 0xAAAAAAAA, "nothing in the first"
        expect  dword [0x51000], 0xCCCCCCCC, "nothing in the second"
        mov     eax, [0x400FFE]
        expect  eax, 0xCCCCAAAA, "but it can be read across"
        map     0x401000, 0x53000 | P | W | U
        mov     dword [0x400FFE], 0x12345678
        movzx   eax, word [0x50FFE]
        expect  eax, 0x5678, "a good store: the first half"
        movzx   eax, word [0x53000]
        expect  eax, 0x1234, "and the second, in another frame"

        ; A far pointer and a PUSHAD that cross.
        map     0x401000, 0
        try     .les
        les     eax, [0x400FFC]
.les:   caught  14, 0, "LES across"
        mov     eax, es
        expect  eax, DATA32, "ES as it was"
        try     .pusha
        to_ring3 do_pushad
.pusha: caught  14, 6, "PUSHAD"
        expect  dword [t_esp], 0x401018, "PUSHAD: ESP has not moved"
        try     .call
        to_ring3 do_call
.call:  caught  14, 6, "CALL"
        expect  dword [t_esp], 0x401002, "CALL: ESP has not moved"
        expect  dword [t_eip], do_call.call, "CALL: EIP is its own"
        done
do_push:
        mov     esp, 0x401002
        push    dword 0x12345678
        ud2
do_pushad:
        mov     esp, 0x401018
        pushad
        ud2
do_call:
        mov     esp, 0x401002
.call:  call    $ + 5
        ud2
rom_end
