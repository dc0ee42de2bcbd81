; Glassbox BIOS: the local APIC, where the processor has one, and the I/O APIC.
; Source: Intel SDM vol. 3A, "Local APIC"; MultiProcessor Specification 1.4, virtual wire mode, and chapter 4 for the
; table; Intel 82093AA datasheet.

; init_apic: after reset the APIC masks LINT0, and so the 8259A's interrupts: makes LINT0 ExtINT and LINT1 NMI. Gives the
; I/O APIC, whose ID is 0 after reset, the one of the MP table. Interrupts are off. Keeps DS and ES.
init_apic:
        pushfd                          ; CPUID is there if EFLAGS.ID can be changed
        pop     eax
        mov     ecx, eax
        xor     eax, 200000h
        push    eax
        popfd
        pushfd
        pop     eax
        xor     eax, ecx
        test    eax, 200000h
        jz      .none
        mov     eax, 1
        db      0Fh, 0A2h               ; CPUID
        test    dh, 2                   ; EDX bit 9
        jz      .none
        push    es
        o32 lgdt [cs:.pointer]
        mov     eax, cr0
        or      al, 1
        mov     cr0, eax
        mov     cx, 8                   ; flat; CS keeps its real-mode base
        mov     es, cx
        mov     edx, 0FEE00000h
        mov     dword [es:edx+0F0h], 1FFh       ; software enabled, spurious vector FFh
        mov     dword [es:edx+350h], 700h
        mov     dword [es:edx+360h], 400h
        call    init_io_apic
        mov     cx, 10h                 ; a limit that real mode expects
        mov     es, cx
        and     al, 0FEh
        mov     cr0, eax
        pop     es
.none:  ret
        align   8, db 0
.gdt:   dq      0
        dq      00CF93000000FFFFh       ; 08: 4 GiB data
        dq      000093000000FFFFh       ; 10: 64 KiB data
.pointer:
        dw      23
        dd      0F0000h+.gdt

; ES is flat. Keeps EAX.
init_io_apic:
        cmp     dword [es:dword 0F0000h+mp_pointer], '_MP_'
        jne     .none
        mov     ebx, [es:dword 0F0000h+mp_pointer+4]
        movzx   ecx, word [es:ebx+22h]  ; entries
        add     ebx, 2Ch
.entry: jcxz    .none
        mov     edx, 8                  ; bytes of an entry
        cmp     byte [es:ebx], 2
        je      .found
        cmp     byte [es:ebx], 0        ; a processor
        jne     .next
        mov     dl, 20
.next:  add     ebx, edx
        dec     cx
        jmp     .entry
.found: movzx   ecx, byte [es:ebx+1]
        shl     ecx, 24
        mov     edx, [es:ebx+4]
        mov     dword [es:edx], 0
        mov     [es:edx+10h], ecx
.none:  ret
