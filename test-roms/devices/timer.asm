; timer.asm - the 8254 and the MC146818 keep the same time; counter 2, latches, read-back;
; the RTC's periodic interrupt. Real mode, the BIOS's vectors.

%include "rom.inc"
start:  title   "PIT and RTC"
        ; BIOS ticks over two RTC seconds: 36.4.
        call    next_second
        mov     eax, [0x46C]
        mov     [from], eax
        call    next_second
        call    next_second
        mov     eax, [0x46C]
        sub     eax, [from]
        mov     ebx, 35
        mov     ecx, 38
        call    between
        expect  eax, 1, "36 ticks of 18.2 Hz in two seconds"

        ; 200 Hz, counted by our own handler.
        cli
        mov     eax, [8 * 4]
        mov     [old_8], eax
        mov     word [8 * 4], tick
        mov     word [8 * 4 + 2], cs
        mov     al, 0x34
        out     0x43, al
        mov     al, 5966 & 0xFF
        out     0x40, al
        mov     al, 5966 >> 8
        out     0x40, al
        sti
        call    next_second
        mov     dword [ticks], 0
        call    next_second
        mov     eax, [ticks]
        mov     ebx, 190
        mov     ecx, 210
        call    between
        expect  eax, 1, "200 Hz for a second"
        cli
        mov     eax, [old_8]
        mov     [8 * 4], eax
        mov     al, 0x34
        out     0x43, al
        xor     al, al
        out     0x40, al
        out     0x40, al
        sti

        ; Latched reads count down and stay within the divisor.
        mov     al, 0x34
        out     0x43, al
        mov     al, 0x00
        out     0x40, al
        mov     al, 0x40
        out     0x40, al
        mov     cx, 200
        xor     ebx, ebx
.latch: mov     al, 0
        out     0x43, al
        in      al, 0x40
        mov     dl, al
        in      al, 0x40
        mov     dh, al
        cmp     dx, 0x4000
        jbe     .fine
        inc     ebx
.fine:  loop    .latch
        expect  ebx, 0, "latched counts are within the divisor"
        mov     al, 0xC2                ; read back: count and status of counter 0
        out     0x43, al
        in      al, 0x40
        movzx   eax, al
        and     eax, 0x3F
        expect  eax, 0x34, "read-back: the status is the control word"
        in      al, 0x40
        in      al, 0x40
        mov     al, 0x34
        out     0x43, al
        xor     al, al
        out     0x40, al
        out     0x40, al

        ; Counter 2, one shot, gated by port 61h bit 0: its output is port 61h bit 5.
        in      al, 0x61
        and     al, 0xFC
        out     0x61, al
        mov     al, 0xB0
        out     0x43, al
        mov     al, 0xFF
        out     0x42, al
        out     0x42, al
        in      al, 0x61
        and     eax, 0x20
        expect  eax, 0, "counter 2: output low after the control word"
        in      al, 0x61
        or      al, 1
        out     0x61, al
        mov     dword [waits], 0
.wait:  in      al, 0x61
        test    al, 0x20
        jnz     .high
        hlt
        inc     dword [waits]
        cmp     dword [waits], 10
        jb      .wait
.high:  in      al, 0x61
        and     eax, 0x20
        expect  eax, 0x20, "counter 2: high when it has run out"

        ; The RTC: BCD time, and 1024 Hz on IRQ 8 for a second of ticks.
        mov     al, 0x0B
        call    cmos
        and     eax, 6
        expect  eax, 2, "register B: 24 hours, BCD"
        mov     al, 0x0D
        call    cmos
        and     eax, 0x80
        expect  eax, 0x80, "register D: the battery is good"
        mov     al, 0x00
        call    cmos
        mov     ebx, eax
        and     ebx, 15
        cmp     ebx, 9
        setbe   bl
        cmp     al, 0x59
        setbe   bh
        and     bl, bh
        movzx   ebx, bl
        expect  ebx, 1, "seconds are BCD"
        cli
        mov     eax, [0x70 * 4]
        mov     [old_70], eax
        mov     word [0x70 * 4], periodic
        mov     word [0x70 * 4 + 2], cs
        in      al, 0xA1
        and     al, 0xFE
        out     0xA1, al
        in      al, 0x21
        and     al, 0xFB
        out     0x21, al
        mov     al, 0x0A
        call    cmos
        mov     ah, 0x26                ; 1024 Hz
        mov     al, 0x0A
        call    cmos_set
        mov     al, 0x0B
        call    cmos
        or      al, 0x40                ; periodic interrupt on
        mov     ah, al
        mov     al, 0x0B
        call    cmos_set
        mov     al, 0x0C
        call    cmos
        sti
        hlt
        call    .tick
        mov     dword [periods], 0
        mov     cx, 18
.ticks: call    .tick
        loop    .ticks
        mov     eax, [periods]
        mov     ebx, 920
        mov     ecx, 1100
        call    between
        expect  eax, 1, "1024 Hz: about 1012 in 18 ticks"
        mov     al, 0x0B
        call    cmos
        and     al, 0xBF
        mov     ah, al
        mov     al, 0x0B
        call    cmos_set
        done
.tick:  mov     ebx, [0x46C]
.same:  hlt
        cmp     ebx, [0x46C]
        je      .same
        ret

next_second:                            ; sleeps until the RTC's second changes
        mov     al, 0
        call    cmos
        mov     ebx, eax
.wait:  hlt
        mov     al, 0x0A
        call    cmos
        test    al, 0x80                ; an update is in progress
        jnz     .wait
        mov     al, 0
        call    cmos
        cmp     eax, ebx
        je      .wait
        ret
cmos:   pushf
        cli
        out     0x70, al
        in      al, 0x71
        movzx   eax, al
        popf
        ret
cmos_set:
        out     0x70, al
        mov     al, ah
        out     0x71, al
        ret
between:                                ; EAX = 1 if EBX <= EAX <= ECX; else the value stays
        cmp     eax, ebx
        jb      .out
        cmp     eax, ecx
        ja      .out
        mov     eax, 1
.out:   ret
tick:   inc     dword [cs:ticks]
        push    ax
        mov     al, 0x20
        out     0x20, al
        pop     ax
        iret
periodic:
        inc     dword [cs:periods]
        push    ax
        mov     al, 0x0C                ; reading register C lets the next one come
        out     0x70, al
        in      al, 0x71
        mov     al, 0x20
        out     0xA0, al
        out     0x20, al
        pop     ax
        iret
        align   4, db 0
from:   dd      0
ticks:  dd      0
periods: dd     0
old_8:  dd      0
old_70: dd      0
waits:  dd      0
rom_end
