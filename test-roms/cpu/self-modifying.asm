; self-modifying.asm - stores to code take effect at the next instruction (Intel SDM vol. 3A
; §8.1.3 asks for a jump; real processors since the Pentium, and all that run old software, need none).

%include "rom.inc"
start:  title   "self-modifying code"
        ; In real mode: the very next instruction, in the same block.
        mov     ecx, 3
        xor     edx, edx
.again: inc     byte [.next + 2]
.next:  mov     eax, 0                  ; 66 B8 imm32
        add     edx, eax
        loop    .again
        expect  edx, 1 + 2 + 3, "the immediate of the next instruction"
        mov     byte [.op], 0x90
        xor     eax, eax
        mov     byte [.op], 0x40        ; NOP -> INC AX
.op:    nop
        expect  eax, 1, "the opcode of the next instruction"
        jmp     enter_pm
%include "pm.inc"
%include "paging.inc"

main:   call    paging_start
        ; A REP MOVSB that overwrites the code behind itself.
        mov     esi, .new
        mov     edi, .old
        mov     ecx, 5
        xor     eax, eax
        rep     movsb
.old:   mov     eax, 1
        expect  eax, 2, "REP MOVSB over the next instruction"

        ; A routine built in data, changed and called many times.
        mov     edi, 0x50000
        mov     byte [edi], 0xB8        ; MOV EAX, imm32; RET
        mov     byte [edi + 5], 0xC3
        xor     ebx, ebx
        mov     ecx, 1000
.loop:  mov     [edi + 1], ecx
        call    edi
        add     ebx, eax
        loop    .loop
        expect  ebx, 500500, "a routine rewritten 1000 times"

        ; Code and a counter in the same page, in a hot loop.
        mov     ecx, 100000
        mov     dword [.counter], 0
.hot:   inc     dword [.counter]
        dec     ecx
        jnz     .hot
        expect  dword [.counter], 100000, "data beside the code"
        jmp     .on
.counter: dd    0
.on:
        ; Through another linear address of the same page.
        map     0x400000, 0x50000 | P | W | U
        mov     dword [0x50001], 1
        call    edi
        mov     dword [0x400001], 2
        call    edi
        expect  eax, 2, "written through an alias, run at its own address"
        mov     ebx, 0x400000
        call    ebx
        mov     dword [0x50001], 3
        call    ebx
        expect  eax, 3, "and the other way round"
        ; Another frame at the same linear address.
        mov     dword [0x51000], 0x000007B8
        mov     word [0x51004], 0xC300
        map     0x400000, 0x51000 | P | W | U
        call    ebx
        expect  eax, 7, "another frame: other code"
        map     0x400000, 0x50000 | P | W | U
        call    ebx
        expect  eax, 3, "and back"

        ; An instruction that lies across two pages; its second half changes, then its frame.
        map     0x401000, 0x53000 | P | W | U
        mov     byte [0x50FFE], 0xB8    ; MOV EAX, imm32: B8 xx | xx xx xx C3
        mov     byte [0x50FFF], 1
        mov     dword [0x53000], 0xC3000000
        mov     ebx, 0x400FFE
        call    ebx
        expect  eax, 1, "an instruction across two pages"
        mov     byte [0x53000], 1
        call    ebx
        expect  eax, 0x101, "its second half changed"
        mov     byte [0x401001], 1
        call    ebx
        expect  eax, 0x10101, "its second half changed through the mapping"
        mov     dword [0x54000], 0xC3050505
        map     0x401000, 0x54000 | P | W | U
        call    ebx
        expect  eax, 0x5050501, "its second page mapped to another frame"
        map     0x401000, 0
        try     .gone
        call    ebx
.gone:  caught  14, 0, "its second page gone"
        expect  dword [t_eip], 0x400FFE, "EIP is where it begins"
        expect  dword [t_cr2], 0x401000, "CR2 is where it goes on"
        add     esp, 0

        ; A store by the instruction that straddles, into its own bytes to come.
        map     0x401000, 0x53000 | P | W | U
        mov     edi, 0x53100
        mov     dword [edi], 0x000105C6 ; MOV BYTE [53107h], 42h ; MOV AL, 0 ; RET
        mov     byte [edi + 2], 0x08
        mov     byte [edi + 3], 0x31
        mov     byte [edi + 4], 0x05
        mov     byte [edi + 5], 0x00
        mov     byte [edi + 6], 0x42
        mov     byte [edi + 7], 0xB0
        mov     byte [edi + 8], 0x00
        mov     byte [edi + 9], 0xC3
        call    edi
        movzx   eax, al
        expect  eax, 0x42, "one block changes its own next instruction"
        ; The same code, run often enough to be compiled, then changed by ring 0 data writes of 1 byte.
        mov     edi, 0x55000
        mov     dword [edi], 0x00C3C083 ; ADD EAX, imm8 ; RET
        mov     byte [edi + 2], 1
        mov     byte [edi + 3], 0xC3
        xor     eax, eax
        mov     ecx, 50000
.warm:  call    edi
        loop    .warm
        mov     byte [edi + 2], 2
        mov     ecx, 50000
.warm2: call    edi
        loop    .warm2
        expect  eax, 150000, "hot code changed once"
        done
.new:   mov     eax, 2
rom_end
