; paging-rights-pae.asm - PAE paging: every combination of rights, mode and access; see
; lib/paging-rights.inc. Needs CPUID features PAE, NX, SMEP and SMAP.

%include "rom.inc"
start:  title   "PAE paging: access rights, exhaustively"
        jmp     enter_pm
%include "pm.inc"
%define PAE
%include "paging-rights.inc"
