; apm.asm - APM 1.2: the connection for 32-bit and 16-bit protected mode (INT 15h/5303h, 5302h),
; calls through both entry points, and power off by the former. APM BIOS specification 1.2.

%include "rom.inc"
start:  title   "APM from protected mode"
        mov     ax, 0x5300
        xor     bx, bx
        int     0x15
        movzx   eax, ax
        movzx   ebx, bx
        and     ecx, 3
        expect  eax, 0x102, "5300h: version 1.2"
        expect  ebx, 0x504D, "PM"
        expect  ecx, 3, "both protected mode interfaces"
        mov     ax, 0x5302
        xor     bx, bx
        mov     cx, 0
        int     0x15
        mov     [entry_16], bx
        setc    bl
        mov     [base_16], ax
        movzx   ebx, bl
        expect  ebx, 0, "5302h connects"
        mov     ax, 0x5304
        xor     bx, bx
        int     0x15
        setc    bl
        movzx   ebx, bl
        expect  ebx, 0, "5304h disconnects"
        mov     ax, 0x5303
        xor     ebx, ebx
        int     0x15
        mov     [entry_32], ebx
        setc    bl
        mov     [base_32], ax
        mov     [base_data], dx
        mov     [limits], esi
        movzx   ebx, bl
        expect  ebx, 0, "5303h connects"
        mov     ax, [base_32]           ; 48: 32-bit code, 50: 16-bit code, 58: data, in a row
        mov     di, gdt_spare
        mov     cl, 0x40
        mov     bx, 0x9A
        mov     dx, [limits]
        call    put
        mov     ax, [base_16]
        mov     cl, 0
        mov     dx, [limits + 2]
        call    put
        mov     ax, [base_data]
        mov     bx, 0x92
        call    put
        jmp     enter_pm
put:    movzx   eax, ax                 ; AX = segment, BL = access, CL = flags, DX = limit
        shl     eax, 4
        mov     [di], dx
        mov     [di + 2], eax
        mov     [di + 5], bl
        mov     [di + 6], cl
        add     di, 8
        ret
        align   4, db 0
entry_32: dd    0
          dw    SPARE
          dw    0
entry_16: dd    0
          dw    SPARE + 8
base_32: dw     0
base_16: dw     0
base_data: dw   0
limits: dd      0

%include "pm.inc"
main:   mov     eax, 0x530E
        call    far [entry_32]
        setc    cl
        movzx   ecx, cl
        movzx   eax, ax
        expect  ecx, 0, "530Eh through the 32-bit entry point"
        expect  eax, 0x102, "is version 1.2"
        mov     eax, 0x530A
        mov     ebx, 1
        call    far [entry_32]
        movzx   ebx, bx
        expect  ebx, 0x01FF, "530Ah: on line"
        mov     eax, 0x530B
        call    far [entry_32]
        setc    cl
        movzx   ecx, cl
        movzx   eax, ah
        expect  ecx, 1, "530Bh: no event"
        expect  eax, 0x80, "is pending"
        mov     eax, 0x5305
        call    far [entry_32]
        movzx   eax, ah
        expect  eax, 0, "5305h does not wait with interrupts off"
        mov     eax, 0x5377
        call    far [entry_32]
        movzx   eax, ah
        expect  eax, 0x0C, "5377h: not supported"
        mov     eax, [entry_16]         ; 16-bit far calls, from 16-bit code
        mov     [near_16], ax
        call    CODE16:from_16
        movzx   eax, ax
        expect  eax, 0x102, "530Eh through the 16-bit entry point"
        mov     eax, [t_number]
        call    FN(dec)
        mov     esi, finish_16.count
        call    FN(print)
        mov     eax, [t_failed]
        call    FN(dec)
        mov     esi, finish_16.end
        call    FN(print)
        mov     eax, 0x5307
        mov     ebx, 1
        mov     ecx, 3
        call    far [entry_32]
        mov     al, FAILED              ; it is still on
        out     0xF4, al
        bits    16
from_16:
        mov     eax, 0x530E
        call    far [near_16]
        o32 retf
near_16: dw     0, SPARE + 8
rom_end
