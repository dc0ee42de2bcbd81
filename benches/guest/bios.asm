; bios.asm - a loop of BIOS interrupts: cursor (INT 10h), keyboard (INT 16h), time (INT 1Ah)

%define KIND "bios"
%include "real.inc"

work:   rounds  120000
.round: mov     ah, 2                   ; the cursor goes to a row of 25
        mov     bh, 0
        mov     dl, [left]
        and     dl, 63
        mov     dh, 7
        int     0x10
        mov     ah, 3                   ; and is found there
        mov     bh, 0
        int     0x10
        add     [sum], dx
        rol     word [sum], 1
        mov     ah, 1
        int     0x16
        mov     ah, 0
        int     0x1A
        again   .round
        mov     ax, [sum]
        ret

        boot_signature
        image_end
