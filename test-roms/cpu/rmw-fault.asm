; rmw-fault.asm - an instruction that reads, changes and writes memory faults as a write, at
; once: its #PF error code has the W bit even where the page is absent. Intel SDM vol. 3A §4.7
; ("the access causing the page fault was a write"); all Intel processors check for write first.
; QEMU's TCG reads first and fails here; Bochs passes.

%include "rom.inc"
start:  title   "read-modify-write faults are write faults"
        jmp     enter_pm
%include "pm.inc"
%include "paging.inc"

%macro rmw 2
        mov     eax, 1
        mov     ecx, 1
        try     %%there
        %2
%%there:
        caught  14, 2, %1
%endmacro

main:   call    paging_start
        mov     ebx, 0x400000
        rmw     "ADD", {add [ebx], ecx}
        rmw     "XOR 8", {xor [ebx], cl}
        rmw     "XCHG", {xchg [ebx], ecx}
        rmw     "LOCK XADD", {lock xadd [ebx], ecx}
        rmw     "CMPXCHG", {cmpxchg [ebx], ecx}
        rmw     "INC", {inc dword [ebx]}
        rmw     "NOT", {not word [ebx]}
        rmw     "SHL", {shl dword [ebx], 4}
        rmw     "RCR", {rcr dword [ebx], 1}
        rmw     "BTS", {bts dword [ebx], 3}
        rmw     "SHRD", {shrd [ebx], eax, 4}
        done
rom_end
