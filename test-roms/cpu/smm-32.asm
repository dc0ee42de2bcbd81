; smm-32.asm - smm.asm on a processor without long mode, whose state save map is another one.

%define WITHOUT_LONG_MODE
%include "smm.asm"
