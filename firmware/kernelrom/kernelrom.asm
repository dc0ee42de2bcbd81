; Glassbox kernel loader ROM: the 2 KiB option ROM at CA000 that starts a kernel put into RAM by the machine.
;
; POST calls the init routine, which takes INT 19h; INT 19h then enters the kernel with the
; registers of the parameter block at offset 20h, which `firmware::kernel_rom` fills in: magic
; "GBKE", then EIP, ESP, EAX, EBX, ECX, EDX, ESI, EDI, EBP, a segment, a video mode, the address of
; a palette, and source, target and length of a copy. Where the segment is 0, the kernel starts in
; 32-bit flat protected mode, CS = 10h and the others 18h. Else it starts in real mode, at CS:IP =
; EIP's halves, with the segment in DS, ES, FS, GS and SS, SP, and zeros, as Linux's boot protocol
; wants (Documentation/arch/x86/boot.rst). Paging and interrupts are off, A20 is on.
;
; For kernels in protected mode only: a video mode other than 0 is set; where the palette's address
; is not 0, the 256 colours of the display are written there, in 8 bits each of red, green and blue;
; then the copy is made, for the parts of a kernel that lie where POST and this ROM's stack are. The
; build sets the last byte so that all bytes sum to 0.

        cpu     386
        bits    16
        org     0

BASE    equ     0CA000h                 ; where the board puts this ROM

        db      55h, 0AAh, 4            ; 2 KiB
        jmp     init
        times   20h-($-$$) db 0
parameters:
        db      "GBKE"
p_eip:  dd      0
p_esp:  dd      0
p_eax:  dd      0
p_ebx:  dd      0
p_ecx:  dd      0
p_edx:  dd      0
p_esi:  dd      0
p_edi:  dd      0
p_ebp:  dd      0
p_seg:  dd      0
p_mode: dd      0
p_palette:
        dd      0
p_from: dd      0
p_to:   dd      0
p_len:  dd      0

init:   push    ds
        push    word 0
        pop     ds
        mov     word [19h*4], boot
        mov     [19h*4+2], cs
        pop     ds
        retf

boot:   cli
        cld
        xor     ax, ax
        mov     ss, ax
        mov     sp, 7C00h
        mov     si, message
.next:  mov     al, [cs:si]
        inc     si
        test    al, al
        jz      .enter
        mov     ah, 0Eh
        mov     bx, 7
        int     10h
        jmp     .next
.enter: cli
        in      al, 92h                 ; A20
        or      al, 2
        and     al, 0FEh
        out     92h, al
        mov     ax, [cs:p_seg]
        test    ax, ax
        jnz     real
        mov     ax, [cs:p_mode]
        test    ax, ax
        jz      .protect
        int     10h
        cli
.protect:
        o32 lgdt [cs:gdt_pointer]
        mov     eax, cr0
        or      al, 1
        mov     cr0, eax
        jmp     dword 10h:BASE+protected

real:   mov     esp, [cs:p_esp]
        mov     ss, ax
        mov     ds, ax
        mov     es, ax
        mov     fs, ax
        mov     gs, ax
        push    dword 2                 ; every flag clear
        popfd
        push    dword [cs:p_eip]
        xor     eax, eax
        xor     ebx, ebx
        xor     ecx, ecx
        xor     edx, edx
        xor     esi, esi
        xor     edi, edi
        xor     ebp, ebp
        retf

        bits    32
protected:
        mov     ax, 18h
        mov     ds, ax
        mov     es, ax
        mov     ss, ax
        mov     fs, ax
        mov     gs, ax
        push    dword 2                 ; every flag clear
        popfd
        mov     edi, [BASE+p_palette]
        test    edi, edi
        jz      .copy
        mov     edx, 3C7h
        mov     al, 0
        out     dx, al
        mov     dl, 0C9h
        mov     ecx, 3*256
.colour:in      al, dx                  ; 6 bits: the upper ones come again below, so that white is white
        mov     ah, al
        shl     al, 2
        shr     ah, 4
        and     ah, 3
        or      al, ah
        stosb
        loop    .colour
.copy:  mov     esi, [BASE+p_from]      ; the stack may be overwritten now
        mov     edi, [BASE+p_to]
        mov     ecx, [BASE+p_len]
        rep     movsb
        mov     eax, [BASE+p_eax]
        mov     ebx, [BASE+p_ebx]
        mov     ecx, [BASE+p_ecx]
        mov     edx, [BASE+p_edx]
        mov     esi, [BASE+p_esi]
        mov     edi, [BASE+p_edi]
        mov     ebp, [BASE+p_ebp]
        mov     esp, [BASE+p_esp]
        jmp     [BASE+p_eip]

        align   8, db 0
gdt:    dq      0
        dq      0
        dq      00CF9B000000FFFFh       ; 10: code
        dq      00CF93000000FFFFh       ; 18: data (accessed already: the processor must not write to ROM)
gdt_end:
gdt_pointer:
        dw      gdt_end-gdt-1
        dd      BASE+gdt
message db      " Starting the kernel...", 13, 10, 0
        times   2048-($-$$) db 0
