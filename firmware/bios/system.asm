; Glassbox BIOS: INT 15h and the memory map. Sources: Ralf Brown's Interrupt List, INT 15h; ACPI
; specification, "System Address Map Interfaces" (E820).

SMAP    equ 534D4150h

int15:
        cmp     ah, 4Fh                 ; keyboard intercept: the key is kept as it is
        je      .keep
        cmp     ah, 90h                 ; device busy, device post
        je      .post
        cmp     ah, 91h
        je      .post
        sti
        enter_service
        set_ds  BDA
        mov     si, .table
        mov     ax, [bp+F_AX]
.find:  cmp     ah, [cs:si]
        je      .found
        add     si, 3
        cmp     si, .table_end
        jb      .find
int15_unsupported:
        mov     byte [bp+F_AH], 86h
int15_fail:
        SET_CF
        leave_service
int15.found:
        jmp     [cs:si+1]
int15.keep:
        push    bp
        mov     bp, sp
        or      byte [bp+6], 1
        pop     bp
        iret
int15.post:
        mov     ah, 0
        push    bp
        mov     bp, sp
        and     byte [bp+6], 0FEh
        pop     bp
        iret
int15.table:
        db      24h
        dw      int15_a20
        db      53h
        dw      int15_apm
        db      80h
        dw      int15_ok
        db      81h
        dw      int15_ok
        db      82h
        dw      int15_ok
        db      83h
        dw      int15_event
        db      85h
        dw      int15_ok
        db      86h
        dw      int15_wait
        db      87h
        dw      int15_move
        db      88h
        dw      int15_ext
        db      0C0h
        dw      int15_config
        db      0C1h
        dw      int15_ebda
        db      0C2h
        dw      int15_mouse
        db      0E8h
        dw      int15_e8
int15.table_end:

int15_ok:
        mov     byte [bp+F_AH], 0
int15_good:
        CLR_CF
        leave_service

; --- A20 gate: AL = 0 off, 1 on, 2 status, 3 support ---------------------------------------------------------------
int15_a20:
        cmp     al, 1
        jb      .off
        je      .on
        cmp     al, 3
        ja      int15_unsupported
        je      .support
        in      al, 92h
        shr     al, 1
        and     al, 1
        mov     [bp+F_AL], al
        jmp     int15_ok
.support:
        mov     word [bp+F_BX], 2       ; by port 92h
        jmp     int15_ok
.off:   in      al, 92h
        and     al, 0FCh
        out     92h, al
        jmp     int15_ok
.on:    in      al, 92h
        or      al, 2
        and     al, 0FEh
        out     92h, al
        jmp     int15_ok

; --- Waits, by the RTC's periodic interrupt of 976 us --------------------------------------------------------------
; 83: AL=0 sets bit 7 of the byte at ES:BX after CX:DX us; AL=1 cancels.
int15_event:
        cmp     al, 1
        je      .cancel
        ja      int15_unsupported
        cli
        test    byte [B_WAITACT], 1
        jnz     wait_busy
        mov     ax, [bp+F_BX]
        mov     dx, [bp+F_ES]
        call    wait_start
        jmp     int15_ok
.cancel:mov     byte [B_WAITACT], 0
        mov     al, 0Bh
        call    cmos_read
        and     al, 0BFh
        mov     ah, al
        mov     al, 0Bh
        call    cmos_write
        jmp     int15_ok
wait_busy:
        mov     byte [bp+F_AH], 83h
        jmp     int15_fail

; 86: waits CX:DX us.
int15_wait:
        cli
        test    byte [B_WAITACT], 1
        jnz     wait_busy
        mov     ax, B_WAITACT
        mov     dx, BDA
        call    wait_start
.wait:  sti
        hlt
        cli
        test    byte [B_WAITACT], 80h
        jz      .wait
        mov     byte [B_WAITACT], 0
        jmp     int15_ok

; DX:AX = flag byte, the caller's CX:DX = microseconds.
wait_start:
        mov     [B_WAITPTR], ax
        mov     [B_WAITPTR+2], dx
        mov     ax, [bp+F_DX]
        mov     [B_WAITCNT], ax
        mov     ax, [bp+F_CX]
        mov     [B_WAITCNT+2], ax
        mov     byte [B_WAITACT], 1
        in      al, 0A1h
        and     al, 0FEh
        out     0A1h, al
        in      al, 21h
        and     al, 0FBh
        out     21h, al
        mov     al, 0Ch
        call    cmos_read
        mov     al, 0Bh
        call    cmos_read
        or      al, 40h
        mov     ah, al
        mov     al, 0Bh
        jmp     cmos_write

; --- Memory size and configuration ---------------------------------------------------------------------------------
int15_ext:                              ; 88: KiB above 1 MiB, 63 MiB at most
        mov     al, 30h
        call    cmos_word
        mov     [bp+F_AX], ax
        jmp     int15_good

int15_config:
        mov     word [bp+F_BX], config_table
        mov     word [bp+F_ES], 0F000h
        jmp     int15_ok

int15_ebda:
        mov     word [bp+F_ES], EBDA
        jmp     int15_good

int15_e8:
        cmp     al, 1
        je      .e801
        cmp     al, 20h
        je      .e820
        cmp     al, 81h
        je      .e881
        jmp     int15_unsupported
.e801:  call    memory_split
        mov     [bp+F_AX], ax
        mov     [bp+F_CX], ax
        mov     [bp+F_BX], dx
        mov     [bp+F_DX], dx
        jmp     int15_good
.e881:  call    memory_split
        movzx   eax, ax
        movzx   edx, dx
        mov     [bp+F_AX], eax
        mov     [bp+F_CX], eax
        mov     [bp+F_BX], edx
        mov     [bp+F_DX], edx
        jmp     int15_good
.e820:  cmp     dword [bp+F_DX], SMAP
        jne     int15_unsupported
        mov     ecx, [bp+F_CX]
        cmp     ecx, 20
        jb      int15_unsupported
        set_ds  EBDA
        mov     ebx, [bp+F_BX]
        movzx   eax, byte [E_NMAP]
        cmp     ebx, eax
        jae     int15_unsupported
        imul    si, bx, 20
        add     si, E_MAP
        mov     es, [bp+F_ES]
        mov     di, [bp+F_DI]
        cmp     ecx, 24
        mov     cx, 5
        rep     movsd
        mov     ecx, 20
        jb      .copied                 ; flags of the comparison: MOVS changes none
        mov     eax, 1                  ; ACPI 3.0 attribute: entry is valid
        stosd
        mov     ecx, 24
.copied:mov     [bp+F_CX], ecx
        inc     bx
        cmp     bl, [E_NMAP]
        jb      .more
        xor     bx, bx
.more:  movzx   ebx, bx
        mov     [bp+F_BX], ebx
        mov     dword [bp+F_AX], SMAP
        jmp     int15_good

; memory_split: AX = KiB from 1 to 16 MiB, DX = 64 KiB units from 16 MiB on (below 4 GiB).
memory_split:
        mov     al, 34h
        call    cmos_word
        mov     dx, ax
        mov     al, 30h
        call    cmos_word
        cmp     ax, 3C00h
        jbe     .end
        test    dx, dx
        jnz     .cap
        mov     dx, ax                  ; only the small count is filled in
        sub     dx, 3C00h
        shr     dx, 6
.cap:   mov     ax, 3C00h
.end:   ret

; memory_top: EAX = end of RAM below 4 GiB.
memory_top:
        push    edx
        call    memory_split
        test    dx, dx
        jnz     .large
        movzx   eax, ax
        shl     eax, 10
        add     eax, 100000h
        pop     edx
        ret
.large: movzx   eax, dx
        shl     eax, 16
        add     eax, 1000000h
        pop     edx
        ret

; memory_high: EAX = 64 KiB units above 4 GiB.
memory_high:
        mov     al, 5Dh
        call    cmos_read
        movzx   eax, al
        shl     eax, 16
        push    eax
        mov     al, 5Bh
        call    cmos_word
        movzx   eax, ax
        add     eax, [esp]
        add     sp, 4
        ret

; memory_kib: EAX = KiB of RAM in all.
memory_kib:
        push    edx
        call    memory_high
        shl     eax, 6
        mov     edx, eax
        call    memory_top
        shr     eax, 10
        add     eax, edx
        pop     edx
        ret

; build_memory_map: the E820 entries in the EBDA.
build_memory_map:
        push    ds
        push    es
        mov     ax, EBDA
        mov     es, ax
        push    cs
        pop     ds
        mov     si, .fixed
        mov     di, E_MAP
        mov     cx, (.fixed_end-.fixed)/4
        rep     movsd
        mov     byte [es:E_NMAP], 7
        call    memory_top
        sub     eax, 100000h
        mov     [es:E_MAP+3*20+8], eax
        call    memory_high
        test    eax, eax
        jz      .end
        mov     ebx, eax
        xor     eax, eax
        stosd
        inc     eax
        stosd                           ; from 4 GiB
        mov     eax, ebx
        shl     eax, 16
        stosd
        mov     eax, ebx
        shr     eax, 16
        stosd
        mov     eax, 1
        stosd
        inc     byte [es:E_NMAP]
.end:   pop     es
        pop     ds
        ret
        align   4, db 0
.fixed: dd      0, 0, 9FC00h, 0, 1
        dd      9FC00h, 0, 400h, 0, 2
        dd      0E0000h, 0, 20000h, 0, 2
        dd      100000h, 0, 0, 0, 1
        dd      0FEC00000h, 0, 1000h, 0, 2
        dd      0FEE00000h, 0, 1000h, 0, 2
        dd      0FFFC0000h, 0, 40000h, 0, 2
.fixed_end:
