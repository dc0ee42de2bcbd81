; triple-fault.asm - an exception that nobody can take: the processor shuts down. The run must
; end with cause "triple-fault"; a "2" on the console, or a debug exit, is a failure.

%include "rom.inc"
start:  title   "triple fault"
        jmp     enter_pm
%include "pm.inc"
main:   mov     al, '1'
        out     0xE9, al
        lidt    [.nothing]
        ud2
        mov     al, '2'
        out     0xE9, al
        mov     al, FAILED
        out     0xF4, al
        cli
        hlt
.nothing: dw    0
        dd      0
rom_end
