; ports.asm - a loop of port reads and writes: the POST code latch (80h) and port B (61h)

%define KIND "ports"
%include "real.inc"

work:   xor     bx, bx
        rounds  3000000
.round: mov     al, bl
        out     0x80, al
        in      al, 0x61                ; bits change with time
        and     al, 0x0C                ; but not these two, which enable checks
        out     0x61, al
        add     bl, al
        inc     bx
        again   .round
        mov     ax, bx
        ret

        boot_signature
        image_end
