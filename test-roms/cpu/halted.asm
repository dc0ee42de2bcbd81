; halted.asm - HLT with interrupts off rests for ever. The run must end with cause "halted".

%include "rom.inc"
start:  title   "halted for ever"
        mov     ebx, 0x12345678         ; the expectation looks for it in the report
        mov     al, '1'
        out     0xE9, al
        cli
        hlt
        mov     al, '2'
        out     0xE9, al
        mov     al, FAILED
        out     0xF4, al
.stop:  hlt
        jmp     .stop
rom_end
