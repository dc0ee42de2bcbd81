; Glassbox BIOS: APM 1.2: INT 15h/53, and the entry points for protected mode.
; Source: APM BIOS specification 1.2.
;
; There is nothing to manage but power-off and the idle processor. The entry points keep nothing in
; memory, so the data segment that they are given is never used; a disconnection through them is
; taken without a trace.

APM_FLAGS       equ 3                   ; protected mode with 16 and with 32 bits

int15_apm:
        cmp     al, 0
        je      .check
        cmp     al, 1
        je      .connect
        cmp     al, 2
        je      .pm16
        cmp     al, 3
        je      .pm32
        push    ds
        set_ds  EBDA
        test    byte [E_APM], 1
        pop     ds
        mov     ah, 3                   ; not connected
        mov     al, [bp+F_AL]
        jz      .error
        cmp     al, 4
        je      .disconnect
        cmp     al, 5
        je      .idle
        cmp     al, 6
        je      int15_ok
        cmp     al, 7
        je      .state
        cmp     al, 8
        je      int15_ok
        cmp     al, 0Ah
        je      .power
        cmp     al, 0Bh
        je      .event
        cmp     al, 0Dh
        je      int15_ok
        cmp     al, 0Eh
        je      .version
        cmp     al, 0Fh
        je      int15_ok
        mov     ah, 0Ch                 ; not supported
.error: mov     [bp+F_AH], ah
        jmp     int15_fail
.check: cmp     word [bp+F_BX], 0
        mov     ah, 9
        jne     .error
        mov     word [bp+F_BX], 504Dh   ; "PM"
        mov     word [bp+F_CX], APM_FLAGS
.version:
        mov     word [bp+F_AX], 0102h
        jmp     int15_good
.connect:
        call    .connected
        jmp     int15_ok
.connected:
        mov     ah, 1
.set:   push    ds
        push    word EBDA
        pop     ds
        mov     [E_APM], ah
        pop     ds
        ret
.disconnect:
        mov     ah, 0
        call    .set
        jmp     int15_ok
.pm16:  call    .connected
        mov     word [bp+F_AX], 0F000h  ; code, entry, data, and their lengths
        mov     word [bp+F_BX], apm_entry_16
        mov     word [bp+F_CX], 0F000h
        mov     word [bp+F_SI], 0FFF0h
        mov     word [bp+F_DI], 0FFF0h
        jmp     int15_good
.pm32:  call    .connected
        mov     word [bp+F_AX], 0F000h  ; 32-bit code, entry, 16-bit code, data, and their lengths
        mov     dword [bp+F_BX], apm_entry_32
        mov     word [bp+F_CX], 0F000h
        mov     word [bp+F_DX], 0F000h
        mov     dword [bp+F_SI], 0FFF0FFF0h
        mov     word [bp+F_DI], 0FFF0h
        jmp     int15_good
.idle:  sti
        hlt
        jmp     int15_ok
.power: mov     word [bp+F_BX], 01FFh   ; on line, battery unknown
        mov     word [bp+F_CX], 0FFFFh
        mov     word [bp+F_DX], 0FFFFh
        jmp     int15_ok
.event: mov     ah, 80h                 ; none pending
        jmp     .error
.state: cmp     word [bp+F_CX], 3       ; off
        jne     int15_ok
        cmp     word [bp+F_BX], 1       ; all devices
        jne     int15_ok
        mov     dx, 604h                ; PM1a control: SLP_TYP 0, SLP_EN
        mov     ax, 2000h
        out     dx, ax
        jmp     int15_ok

; --- Protected mode ----------------------------------------------------------------------------------------------
; AH = 53h, AL = function, called far from code of the same width; CF, AX, BX, CX and DX answer as
; for INT 15h. The interface's stack may be 16 or 32 bits wide.
%macro apm_entry 1
        bits    %1
apm_entry_%1:
        cmp     ah, 53h
        jne     .unsupported
        cmp     al, 0
        je      .check
        cmp     al, 4
        jb      .unsupported
        cmp     al, 5
        je      .idle
        cmp     al, 7
        je      .state
        cmp     al, 9
        jb      .ok
        cmp     al, 0Ah
        je      .power
        cmp     al, 0Bh
        je      .event
        cmp     al, 0Dh
        je      .ok
        cmp     al, 0Eh
        je      .version
        cmp     al, 0Fh
        je      .ok
.unsupported:
        mov     ah, 0Ch
        stc
        retf
.event: mov     ah, 80h                 ; none pending
        stc
        retf
.check: mov     bx, 504Dh
        mov     cx, APM_FLAGS
.version:
        mov     ax, 0102h
        clc
        retf
.power: mov     bx, 01FFh               ; on line, battery unknown
        mov     cx, 0FFFFh
        mov     dx, cx
        jmp     .ok
.idle:  push    eax                     ; HLT is for ring 0, and returns only with interrupts on
        pushfd
        pop     eax
        test    ah, 2
        jz      .awake
        mov     ax, cs
        test    al, 3
        jnz     .awake
        hlt
.awake: pop     eax
.ok:    mov     ah, 0
        clc
        retf
.state: cmp     bx, 1                   ; all devices
        jne     .ok
        cmp     cx, 3                   ; off
        jne     .ok
        mov     dx, 604h
        mov     ax, 2000h
        out     dx, ax
        jmp     .ok
%endmacro

        apm_entry 16
        apm_entry 32
        bits    16
