; paging-rights-32.asm - 32-bit paging: every combination of rights, mode and access; see
; lib/paging-rights.inc. Needs CPUID features PSE, SMEP and SMAP.

%include "rom.inc"
start:  title   "32-bit paging: access rights, exhaustively"
        jmp     enter_pm
%include "pm.inc"
%include "paging-rights.inc"
