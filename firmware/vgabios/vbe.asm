; Glassbox VGA BIOS: AH=4Fh, VESA BIOS extensions, over the Bochs display interface.
; Sources: VESA BIOS Extension Core Functions Standard 3.0; VESA VBE/DDC 1.1; VBE/PM 1.0; QEMU docs/specs/standard-vga.rst.
; Mode numbers beyond 11Bh are those that QEMU's and Bochs's video BIOSes have.
;
; Not here: the text modes 108h to 10Ch, refresh rates of one's choice (a timing in a mode is ignored), the second page of
; the palette, stereo, and the protected-mode entry point of VBE 3.0.

B_VBE           equ 0BAh                ; mode that was set, with bits 14 and 15; 0 for a mode of the VGA

D_ID            equ 0                   ; registers of the display interface
D_WIDTH         equ 1
D_HEIGHT        equ 2
D_BITS          equ 3
D_ENABLE        equ 4
D_BANK          equ 5
D_VIRT_WIDTH    equ 6
D_X             equ 8
D_Y             equ 9
D_MEMORY        equ 0Ah
D_ON            equ 01h                 ; of D_ENABLE
D_WIDE_DAC      equ 20h
D_LINEAR        equ 40h
D_KEEP          equ 80h

VBE_LAST        equ 15h

; Mode number, width, height, bits a pixel.
%macro vbe_modes 0
        vbe_mode 100h,  640,  400,  8
        vbe_mode 101h,  640,  480,  8
        vbe_mode 102h,  800,  600,  4
        vbe_mode 103h,  800,  600,  8
        vbe_mode 104h, 1024,  768,  4
        vbe_mode 105h, 1024,  768,  8
        vbe_mode 106h, 1280, 1024,  4
        vbe_mode 107h, 1280, 1024,  8
        vbe_mode 10Dh,  320,  200, 15
        vbe_mode 10Eh,  320,  200, 16
        vbe_mode 10Fh,  320,  200, 24
        vbe_mode 110h,  640,  480, 15
        vbe_mode 111h,  640,  480, 16
        vbe_mode 112h,  640,  480, 24
        vbe_mode 113h,  800,  600, 15
        vbe_mode 114h,  800,  600, 16
        vbe_mode 115h,  800,  600, 24
        vbe_mode 116h, 1024,  768, 15
        vbe_mode 117h, 1024,  768, 16
        vbe_mode 118h, 1024,  768, 24
        vbe_mode 119h, 1280, 1024, 15
        vbe_mode 11Ah, 1280, 1024, 16
        vbe_mode 11Bh, 1280, 1024, 24
        vbe_mode 11Ch, 1600, 1200,  8
        vbe_mode 11Dh, 1600, 1200, 15
        vbe_mode 11Eh, 1600, 1200, 16
        vbe_mode 11Fh, 1600, 1200, 24
        vbe_mode 140h,  320,  200, 32
        vbe_mode 141h,  640,  400, 32
        vbe_mode 142h,  640,  480, 32
        vbe_mode 143h,  800,  600, 32
        vbe_mode 144h, 1024,  768, 32
        vbe_mode 145h, 1280, 1024, 32
        vbe_mode 146h,  320,  200,  8
        vbe_mode 147h, 1600, 1200, 32
        vbe_mode 148h, 1152,  864,  8
        vbe_mode 149h, 1152,  864, 15
        vbe_mode 14Ah, 1152,  864, 16
        vbe_mode 14Bh, 1152,  864, 24
        vbe_mode 14Ch, 1152,  864, 32
        vbe_mode 175h, 1280,  768, 16
        vbe_mode 176h, 1280,  768, 24
        vbe_mode 177h, 1280,  768, 32
        vbe_mode 178h, 1280,  800, 16
        vbe_mode 179h, 1280,  800, 24
        vbe_mode 17Ah, 1280,  800, 32
        vbe_mode 17Bh, 1280,  960, 16
        vbe_mode 17Ch, 1280,  960, 24
        vbe_mode 17Dh, 1280,  960, 32
        vbe_mode 17Eh, 1440,  900, 16
        vbe_mode 17Fh, 1440,  900, 24
        vbe_mode 180h, 1440,  900, 32
        vbe_mode 181h, 1400, 1050, 16
        vbe_mode 182h, 1400, 1050, 24
        vbe_mode 183h, 1400, 1050, 32
        vbe_mode 184h, 1680, 1050, 16
        vbe_mode 185h, 1680, 1050, 24
        vbe_mode 186h, 1680, 1050, 32
        vbe_mode 187h, 1920, 1200, 16
        vbe_mode 188h, 1920, 1200, 24
        vbe_mode 189h, 1920, 1200, 32
        vbe_mode 18Ah, 2560, 1600, 16
        vbe_mode 18Bh, 2560, 1600, 24
        vbe_mode 18Ch, 2560, 1600, 32
        vbe_mode 18Dh, 1280,  720, 16
        vbe_mode 18Eh, 1280,  720, 24
        vbe_mode 18Fh, 1280,  720, 32
        vbe_mode 190h, 1920, 1080, 16
        vbe_mode 191h, 1920, 1080, 24
        vbe_mode 192h, 1920, 1080, 32
        vbe_mode 193h, 1600,  900, 16
        vbe_mode 194h, 1600,  900, 24
        vbe_mode 195h, 1600,  900, 32
        vbe_mode 196h, 2560, 1440, 16
        vbe_mode 197h, 2560, 1440, 24
        vbe_mode 198h, 2560, 1440, 32
%endmacro

%macro vbe_mode 4
        dw      %1, %2, %3
        db      %4, 0
%endmacro
M_NUMBER        equ 0
M_WIDTH         equ 2
M_HEIGHT        equ 4
M_BITS          equ 6
M_SIZE          equ 8
vbe_table:
        vbe_modes
vbe_table_end:

; The list of numbers that AL=00 points to.
%unmacro vbe_mode 4
%macro vbe_mode 4
        dw      %1
%endmacro
vbe_list:
        vbe_modes
        dw      0FFFFh

vbe_oem         db      "Glassbox", 0
vbe_vendor      db      "Glassbox", 0
vbe_product     db      "Glassbox VGA", 0
vbe_revision    db      "1", 0

; dispi_write: register AX = CX. dispi_read: AX = register AX. Both clobber DX alone.
dispi_write:
        mov     dx, 1CEh
        out     dx, ax
        inc     dx
        xchg    ax, cx
        out     dx, ax
        xchg    ax, cx
        ret
dispi_read:
        mov     dx, 1CEh
        out     dx, ax
        inc     dx
        in      ax, dx
        ret

%macro dispi_set 2                      ; register, what goes to CX
        mov     ax, %1
        mov     cx, %2
        call    dispi_write
%endmacro
%macro dispi_get 1
        mov     ax, %1
        call    dispi_read
%endmacro

; dispi_off: the VGA's own mode again. Called when one is set; keeps all registers.
dispi_off:
        push    ax
        push    cx
        push    dx
        dispi_set D_ENABLE, 0
        mov     word [B_VBE], 0
        pop     dx
        pop     cx
        pop     ax
        ret

; vbe: the caller's AL = function.
vbe:    movzx   si, al
        cmp     al, 0Ch
        jb      .known
        cmp     al, 10h
        je      .power
        cmp     al, 15h
        jne     .unknown
        jmp     .ddc
.known: push    ax
        push    dx
        dispi_get D_ID
        pop     dx
        and     ax, 0FFF0h
        cmp     ax, 0B0C0h
        pop     ax
        jne     .unknown
        shl     si, 1
        jmp     [cs:.table+si]
.table  dw      .info, .mode_info, .set, .get, .state, .window, .pitch, .start                  ; 00
        dw      .dac_width, .palette, .protected, .clock                                        ; 08
.power: jmp     vbe_power
.ddc:   jmp     vbe_ddc

.unknown:
        mov     word [bp+F_AX], 0100h
        ret
.failed:mov     word [bp+F_AX], 014Fh
        ret
.wrong: mov     word [bp+F_AX], 034Fh   ; not in this mode
        ret
.good:  mov     word [bp+F_AX], 004Fh
        ret

; 00: ES:DI = 256 bytes, or 512 if they start with "VBE2".
.info:  push    di
        mov     cx, 128
        cmp     dword [es:di], "VBE2"
        jne     .info1
        mov     cx, 256
.info1: push    cx
        xor     ax, ax
        rep     stosw
        pop     cx
        pop     di
        mov     dword [es:di], "VESA"
        mov     word [es:di+4], 0300h
        mov     word [es:di+6], vbe_oem
        mov     [es:di+8], cs
        mov     byte [es:di+0Ah], 1     ; the DAC can be switched to 8 bits
        mov     word [es:di+0Eh], vbe_list
        mov     [es:di+10h], cs
        dispi_get D_MEMORY
        mov     [es:di+12h], ax
        cmp     cx, 256
        jne     .good
        mov     word [es:di+14h], 0100h
        mov     word [es:di+16h], vbe_vendor
        mov     [es:di+18h], cs
        mov     word [es:di+1Ah], vbe_product
        mov     [es:di+1Ch], cs
        mov     word [es:di+1Eh], vbe_revision
        mov     [es:di+20h], cs
        jmp     .good

; 01: CX = mode, ES:DI = 256 bytes.
.mode_info:
        mov     bx, cx
        call    vbe_find
        jc      .failed
        call    vbe_mode_info
        jmp     .good

; 02: BX = mode. Bit 11, a timing of one's own, makes no difference.
.set:   mov     ax, bx
        and     ax, 01FFh
        cmp     ax, 100h
        jae     .packed
        and     bx, 8000h               ; a mode of the VGA, with the bit that keeps memory
        shr     bx, 8
        or      al, bl
        mov     dl, al
        and     al, 7Fh
        call    lookup_mode
        jc      .failed
        mov     al, dl
        call    set_mode
        jmp     .good
.packed:call    vbe_find
        jc      .failed
        test    bh, 40h
        jz      .banked
        cmp     byte [cs:si+M_BITS], 4  ; planes are not linear
        je      .failed
        call    find_linear
        test    eax, eax
        jz      .failed
.banked:call    vbe_set
        jmp     .good

; 03: BX = mode.
.get:   call    vbe_current
        mov     [bp+F_BX], ax
        jmp     .good

; 04: CX = what, DL = 0: BX = blocks of 64 bytes; 1: saves to ES:BX; 2: restores. Bit 3 of CX: our own registers.
.state: cmp     dl, 2
        ja      .failed
        mov     al, dl
        push    word [bp+F_BX]
        push    cx
        cmp     al, 2
        jne     .state1
        call    dispi_off
.state1:push    ax
        call    video_state             ; the VGA's parts come first
        pop     ax
        pop     cx
        pop     di                      ; the caller's BX
        test    cl, 8
        jz      .good
        cmp     al, 1
        jb      .blocks
        push    ax
        push    cx
        and     cl, 7
        mov     al, 0
        push    di
        call    video_state
        pop     di
        mov     bx, [bp+F_BX]
        mov     [bp+F_BX], di           ; as it was
        shl     bx, 6
        add     di, bx
        pop     cx
        pop     ax
        cmp     al, 1
        jne     .put
        call    vbe_save
        jmp     .good
.put:   call    vbe_restore
        jmp     .good
.blocks:inc     word [bp+F_BX]
        jmp     .good

; 05: BH = 0 puts window BL at DX, in units of 64 KiB; BH = 1: DX = where it is.
.window:call    vbe_is_on
        jz      .wrong
        test    word [B_VBE], 4000h     ; there is none in a linear mode
        jnz     .wrong
        cmp     bl, 0
        jne     .failed
        cmp     bh, 1
        ja      .failed
        je      .window_get
        mov     cx, dx
        mov     ax, D_BANK
        call    dispi_write
        mov     ax, D_BANK              ; it has only so many
        call    dispi_read
        cmp     ax, cx
        jne     .failed
        jmp     .good
.window_get:
        dispi_get D_BANK
        mov     [bp+F_DX], ax
        jmp     .good

; 06: BL = 0, 2: CX pixels, bytes a row; 1: what it is; 3: the most. BX = bytes, CX = pixels, DX = rows.
.pitch: call    vbe_is_on
        jz      .wrong
        cmp     bl, 3
        ja      .failed
        je      .pitch_most
        cmp     bl, 1
        je      .pitch_get
        jb      .pitch_set
        push    cx
        call    vbe_pixel               ; bytes: in pixels
        pop     cx
        jz      .pitch_planes
        movzx   si, al
        mov     ax, cx
        xor     dx, dx
        add     ax, si
        adc     dx, 0
        sub     ax, 1
        sbb     dx, 0
        div     si
        mov     cx, ax
        jmp     .pitch_set
.pitch_planes:
        cmp     cx, 1FFFh
        ja      .pitch_no
        shl     cx, 3
.pitch_set:
        add     cx, 7
        and     cx, 0FFF8h
        dispi_get D_WIDTH
        cmp     cx, ax
        jb      .pitch_no
        mov     ax, D_HEIGHT            ; rows must be there for a screen
        call    dispi_read
        mov     bx, ax
        mov     ax, D_VIRT_WIDTH
        call    dispi_read
        push    ax
        mov     ax, D_VIRT_WIDTH
        call    dispi_write
        call    vbe_rows
        cmp     ax, bx
        pop     ax
        jb      .pitch_back
.pitch_get:
        dispi_get D_VIRT_WIDTH
.pitch_out:
        mov     [bp+F_CX], ax
        call    vbe_row_bytes
        mov     [bp+F_BX], ax
        call    vbe_rows
        mov     [bp+F_DX], ax
        jmp     .good
.pitch_back:
        mov     cx, ax
        mov     ax, D_VIRT_WIDTH
        call    dispi_write
        mov     cx, bx                  ; the adapter has cut it
        mov     ax, D_HEIGHT
        call    dispi_write
.pitch_no:
        mov     word [bp+F_AX], 024Fh   ; more than there is
        ret
.pitch_most:
        mov     ax, 7FF8h
        call    vbe_pixel
        mov     ax, 7FF8h
        jz      .pitch_most1
        cmp     cl, 2
        jbe     .pitch_most1
        mov     ax, 3FF8h
.pitch_most1:
        mov     [bp+F_CX], ax
        call    vbe_row_bytes
        mov     [bp+F_BX], ax
        jmp     .good

; 07: BL = 0, 80h: the picture starts at CX, DX; 2, 82h: at byte ECX; 1: where it starts; 4: it does already.
.start: call    vbe_is_on
        jz      .wrong
        and     bl, 7Fh
        cmp     bl, 1
        je      .start_get
        jb      .start_set
        cmp     bl, 4
        je      .start_done
        cmp     bl, 2
        jne     .failed
        dispi_get D_VIRT_WIDTH          ; ECX is the caller's
        call    vbe_row_bytes
        movzx   esi, ax
        mov     eax, [bp+F_CX]
        xor     edx, edx
        div     esi
        cmp     eax, 0FFFFh
        ja      .failed
        push    ax
        push    dx
        call    vbe_pixel
        pop     ax
        mov     dx, 0
        jz      .start_planes
        movzx   bx, cl
        div     bx
        jmp     .start_x
.start_planes:
        shl     ax, 3
.start_x:
        mov     cx, ax
        pop     dx
.start_set:
        mov     bx, dx
        push    cx
        mov     ax, D_X
        call    dispi_write
        mov     cx, bx
        mov     ax, D_Y
        call    dispi_write
        pop     cx
        dispi_get D_X                   ; it does not go beyond memory
        cmp     ax, cx
        jne     .pitch_no
        dispi_get D_Y
        cmp     ax, bx
        jne     .pitch_no
        jmp     .good
.start_get:
        dispi_get D_X
        mov     [bp+F_CX], ax
        dispi_get D_Y
        mov     [bp+F_DX], ax
        mov     byte [bp+F_BH], 0
        jmp     .good
.start_done:
        mov     word [bp+F_CX], 1
        jmp     .good

; 08: BL = 0: the DAC has BH bits a colour; 1: BH = bits.
.dac_width:
        call    vbe_is_on
        jz      .dac_vga
        push    bx
        dispi_get D_BITS
        pop     bx
        cmp     al, 8
        ja      .wrong                  ; colours do not come from the DAC
.dac_vga:
        cmp     bl, 1
        ja      .failed
        je      .dac_get
        dispi_get D_ENABLE
        and     al, ~D_WIDE_DAC & 0FFh
        or      al, D_KEEP
        cmp     bh, 8
        jb      .dac_set
        or      al, D_WIDE_DAC
.dac_set:
        mov     cx, ax
        mov     ax, D_ENABLE
        call    dispi_write
.dac_get:
        dispi_get D_ENABLE
        mov     bh, 6
        test    al, D_WIDE_DAC
        jz      .dac_out
        mov     bh, 8
.dac_out:
        mov     [bp+F_BH], bh
        jmp     .good

; 09: BL = 0, 80h: CX colours from DX on = ES:DI, blue, green, red and a free byte each; 1: to there.
.palette:
        cmp     dx, 0FFh
        ja      .failed
        cmp     cx, 100h
        ja      .failed
        and     bl, 7Fh
        cmp     bl, 1
        ja      .pitch_no               ; there is no second one
        mov     al, dl
        je      .palette_get
        mov     dx, 3C8h
        out     dx, al
        inc     dx
        jcxz    .palette_end
.palette_out:
        mov     al, [es:di+2]
        out     dx, al
        mov     al, [es:di+1]
        out     dx, al
        mov     al, [es:di]
        out     dx, al
        add     di, 4
        loop    .palette_out
.palette_end:
        jmp     .good
.palette_get:
        mov     dx, 3C7h
        out     dx, al
        mov     dl, 0C9h
        jcxz    .palette_end
.palette_in:
        in      al, dx
        mov     [es:di+2], al
        in      al, dx
        mov     [es:di+1], al
        in      al, dx
        mov     [es:di], al
        mov     byte [es:di+3], 0
        add     di, 4
        loop    .palette_in
        jmp     .good

; 0A: ES:DI = table of code for protected mode, CX its length.
.protected:
        cmp     bl, 0
        jne     .failed
        mov     word [bp+F_ES], cs
        mov     word [bp+F_DI], pmi
        mov     word [bp+F_CX], pmi_end-pmi
        jmp     .good

; 0B: the pixel clock nearest to ECX Hz: any.
.clock: cmp     bl, 0
        jne     .failed
        jmp     .good

; vbe_find: BX = mode with its flags: SI = its entry; CF if there is none.
vbe_find:
        push    ax
        mov     ax, bx
        and     ax, 01FFh
        mov     si, vbe_table
.next:  cmp     [cs:si+M_NUMBER], ax
        je      .found
        add     si, M_SIZE
        cmp     si, vbe_table_end
        jb      .next
        pop     ax
        stc
        ret
.found: pop     ax
        clc
        ret

; vbe_is_on: ZF if a mode of the VGA is set. Keeps registers.
vbe_is_on:
        push    ax
        push    dx
        dispi_get D_ENABLE
        test    al, D_ON
        pop     dx
        pop     ax
        ret

; vbe_current: AX = the mode that is set. A driver may have set another than we did, or left it.
vbe_current:
        call    vbe_is_on
        jz      .vga
        mov     ax, [B_VBE]
        test    ax, ax
        jnz     .ret
.vga:   mov     al, [B_MODE]
        mov     ah, [B_VIDEO]
        and     ah, 80h
.ret:   ret

; vbe_pixel: CL = AL = bytes of a pixel, ZF set for planes (then 0). Clobbers DX, AX; CX but for CL is the caller's only
; where it is not planes.
vbe_pixel:
        dispi_get D_BITS
        cmp     al, 4
        jne     .bytes
        xor     al, al
        ret
.bytes: add     al, 7
        shr     al, 3
        mov     cl, al
        test    al, al
        ret

; vbe_row_bytes: AX = pixels: AX = bytes that they take, in a plane where there are planes. Clobbers DX.
vbe_row_bytes:
        push    cx
        push    ax
        call    vbe_pixel
        pop     ax
        jz      .planes
        mov     ch, 0
        mul     cx
        pop     cx
        ret
.planes:shr     ax, 3
        pop     cx
        ret

; vbe_rows: AX = rows of memory at the present width. Clobbers DX.
vbe_rows:
        dispi_get 7
        ret

; find_linear: EAX = address of memory, 0 if there is none. Keeps the other registers.
find_linear:
        push    ebx
        push    ecx
        push    dx
        mov     dx, 0CF8h
        in      eax, dx
        push    eax
        mov     ebx, 80000000h
.next:  mov     dx, 0CF8h
        mov     eax, ebx
        out     dx, eax
        mov     dl, 0FCh
        in      eax, dx
        cmp     eax, 11111234h
        je      .found
        add     ebx, 800h
        test    ebx, 10000h
        jz      .next
        xor     ecx, ecx
        jmp     .out
.found: mov     dl, 0F8h
        lea     eax, [ebx+10h]
        out     dx, eax
        mov     dl, 0FCh
        in      eax, dx
        and     al, 0F0h
        mov     ecx, eax
.out:   pop     eax
        mov     dx, 0CF8h
        out     dx, eax
        mov     eax, ecx
        pop     dx
        pop     ecx
        pop     ebx
        ret

; vbe_mode_info: CS:SI = mode, ES:DI = its 256 bytes.
vbe_mode_info:
        push    di
        mov     cx, 128
        xor     ax, ax
        rep     stosw
        pop     di
        call    find_linear
        mov     ebx, eax
        mov     ch, [cs:si+M_BITS]
        mov     ax, 001Bh               ; here, colour, graphics
        cmp     ch, 4
        je      .attributes
        test    ebx, ebx
        jz      .attributes
        or      al, 80h                 ; and linear
        mov     [es:di+28h], ebx
.attributes:
        mov     [es:di], ax
        mov     byte [es:di+2], 7       ; window A: there, readable, writable
        mov     word [es:di+4], 64
        mov     word [es:di+6], 64
        mov     word [es:di+8], 0A000h
        mov     word [es:di+0Ch], vbe_window
        mov     [es:di+0Eh], cs
        mov     ax, [cs:si+M_WIDTH]
        mov     [es:di+12h], ax
        mov     bx, ax
        mov     dx, [cs:si+M_HEIGHT]
        mov     [es:di+14h], dx
        mov     word [es:di+16h], 1008h ; characters of 8 by 16
        mov     byte [es:di+18h], 1     ; planes
        mov     [es:di+19h], ch
        mov     byte [es:di+1Ah], 1     ; banks
        mov     byte [es:di+1Bh], 4     ; a byte a pixel
        mov     byte [es:di+1Eh], 1
        cmp     ch, 8
        je      .pitch
        jb      .planar
        mov     byte [es:di+1Bh], 6     ; direct colour
        push    si
        mov     si, .masks
.masks1:cmp     [cs:si], ch
        je      .masks2
        add     si, 9
        jmp     .masks1
.masks2:inc     si
        mov     eax, [cs:si]
        mov     [es:di+1Fh], eax
        mov     [es:di+36h], eax
        mov     eax, [cs:si+4]
        mov     [es:di+23h], eax
        mov     [es:di+3Ah], eax
        pop     si
        cmp     ch, 32
        jne     .pitch
        mov     byte [es:di+27h], 2     ; software may use the rest of a pixel
.pitch: mov     al, ch
        add     al, 7
        shr     al, 3
        movzx   eax, al
        movzx   ebx, bx
        mul     ebx
        jmp     .rows
.planar:mov     byte [es:di+18h], 4
        mov     byte [es:di+1Bh], 3
        movzx   eax, bx
        shr     eax, 3
.rows:  mov     [es:di+10h], ax
        mov     [es:di+32h], ax
        movzx   ecx, word [cs:si+M_HEIGHT]
        mul     ecx                     ; bytes of a picture
        mov     ecx, eax
        dispi_get D_MEMORY
        movzx   eax, ax
        shl     eax, 16
        cmp     byte [es:di+18h], 4
        jne     .pages
        shr     eax, 2                  ; of a plane
.pages: xor     edx, edx
        div     ecx
        dec     eax                     ; beside the one that is shown
        cmp     eax, 255
        jbe     .pages1
        mov     al, 255
.pages1:mov     [es:di+1Dh], al
        mov     [es:di+34h], al
        mov     [es:di+35h], al
        mov     dword [es:di+3Eh], 400000000    ; Hz
        ret
.masks  db      15, 5, 10, 5, 5, 5, 0, 1, 15
        db      16, 5, 11, 6, 5, 5, 0, 0, 0
        db      24, 8, 16, 8, 8, 8, 0, 0, 0
        db      32, 8, 16, 8, 8, 8, 0, 8, 24

; vbe_window: what programs call in place of AL=05: far, the same registers.
vbe_window:
        push    ax
        push    cx
        push    dx
        cmp     bh, 1
        je      .get
        mov     cx, dx
        mov     ax, D_BANK
        call    dispi_write
        pop     dx
        jmp     .end
.get:   dispi_get D_BANK
        pop     dx
        mov     dx, ax
.end:   pop     cx
        pop     ax
        retf

; vbe_set: CS:SI = mode, BX = its number with bits 14 (linear) and 15 (memory is kept).
vbe_set:
        push    bx
        push    si
        mov     al, 93h                 ; the VGA's registers are as for 13h, or 12h
        cmp     byte [cs:si+M_BITS], 4
        jne     .base
        mov     al, 92h
.base:  call    set_mode
        pop     si
        pop     bx
        and     byte [B_VIDEO], 7Fh
        dispi_set D_WIDTH, [cs:si+M_WIDTH]
        dispi_set D_HEIGHT, [cs:si+M_HEIGHT]
        movzx   di, byte [cs:si+M_BITS]
        dispi_set D_BITS, di
        mov     cx, D_ON
        test    bh, 40h
        jz      .banked
        or      cl, D_LINEAR
.banked:test    bh, 80h
        jz      .clear
        or      cl, D_KEEP
        or      byte [B_VIDEO], 80h
.clear: mov     ax, D_ENABLE
        call    dispi_write
        and     bx, 0C1FFh
        mov     [B_VBE], bx
        mov     ax, [cs:si+M_WIDTH]
        shr     ax, 3
        mov     [B_COLS], ax
        mov     ax, [cs:si+M_HEIGHT]
        shr     ax, 4
        dec     ax
        mov     [B_ROWS], al
        mov     word [B_HEIGHT], 16
        ret

; vbe_save: to ES:DI, a block of 64 bytes; vbe_restore: from there.
vbe_save:
        mov     ax, [B_VBE]
        stosw
        mov     si, .list
.next:  movzx   ax, byte [cs:si]
        cmp     al, 0FFh
        je      .ret
        call    dispi_read
        stosw
        inc     si
        jmp     .next
.ret:   ret
; Width, height and depth, then the switch, then what it clears.
.list   db      D_WIDTH, D_HEIGHT, D_BITS, D_ENABLE, D_BANK, D_VIRT_WIDTH, D_X, D_Y, 0FFh
vbe_restore:
        push    word [es:di]
        mov     si, vbe_save.list
        inc     di
        inc     di
.next:  movzx   ax, byte [cs:si]
        cmp     al, 0FFh
        je      .ret
        mov     cx, [es:di]
        cmp     al, D_ENABLE
        jne     .write
        or      cl, D_KEEP
.write: call    dispi_write
        inc     si
        inc     di
        inc     di
        jmp     .next
.ret:   pop     word [B_VBE]
        ret

; 10: power management. BL = 0: what there is; 1: BH = state; 2: BH = it.
vbe_power:
        cmp     bl, 1
        jb      .report
        je      .set
        cmp     bl, 2
        ja      vbe.failed
        mov     dx, 3C4h
        mov     al, 1
        out     dx, al
        inc     dx
        in      al, dx
        mov     bh, 0
        test    al, 20h
        jz      .state
        mov     bh, 4                   ; off
.state: mov     [bp+F_BH], bh
        jmp     vbe.good
.report:mov     word [bp+F_BX], 0710h   ; standby, suspend, off; version 1.0
        jmp     vbe.good
.set:   mov     ah, 0
        test    bh, bh
        jz      .set1
        mov     ah, 20h                 ; a dark screen is all that there is
.set1:  mov     dx, 3C4h
        mov     al, 1
        out     dx, al
        inc     dx
        in      al, dx
        and     al, 0DFh
        or      al, ah
        out     dx, al
        jmp     vbe.good

; 15: what the monitor says. BL = 0: what there is; 1: block DX to ES:DI.
vbe_ddc:
        cmp     bl, 1
        ja      vbe.failed
        je      .read
        mov     word [bp+F_BX], 0102h   ; a second at most; DDC2
        jmp     vbe.good
.read:  test    dx, dx
        jnz     vbe.failed
        mov     si, edid
        mov     cx, 64
        cs rep  movsw
        jmp     vbe.good
edid:
%include "edid.asm"

; What protected mode has in place of AL=05, 07 and 09: code that may lie anywhere and reaches ports only, called near with
; 32 bits.
        align   4, db 0
pmi:    dw      .window-pmi, .start-pmi, .palette-pmi, .ports-pmi
.ports  dw      1CEh, 1CFh, 3C8h, 3C9h, 0FFFFh, 0FFFFh
        bits    32
.window:push    eax                     ; BX = 0, DX = window
        push    ecx
        push    edx
        mov     ecx, edx
        mov     eax, D_BANK
        call    .write
        pop     edx
        pop     ecx
        pop     eax
        mov     ax, 4Fh
        ret
.start: push    ebx                     ; DX:CX = units of four bytes
        push    ecx
        push    edx
        push    esi
        push    edi
        shl     edx, 16
        mov     dx, cx
        mov     ebx, edx
        shl     ebx, 2
        mov     eax, D_BITS
        call    .read
        add     eax, 7
        shr     eax, 3
        mov     edi, eax                ; bytes of a pixel
        mov     eax, D_VIRT_WIDTH
        call    .read
        imul    eax, edi
        jz      .start1
        mov     esi, eax
        mov     eax, ebx
        xor     edx, edx
        div     esi
        push    eax
        mov     eax, edx
        xor     edx, edx
        div     edi
        mov     ecx, eax
        mov     eax, D_X
        call    .write
        pop     ecx
        mov     eax, D_Y
        call    .write
.start1:pop     edi
        pop     esi
        pop     edx
        pop     ecx
        pop     ebx
        mov     ax, 4Fh
        ret
.palette:                               ; CX colours from DX on at ES:EDI
        push    ecx
        push    edx
        push    edi
        movzx   ecx, cx
        mov     al, dl
        mov     dx, 3C8h
        out     dx, al
        inc     edx
        jecxz   .palette2
.palette1:
        mov     al, [es:edi+2]
        out     dx, al
        mov     al, [es:edi+1]
        out     dx, al
        mov     al, [es:edi]
        out     dx, al
        add     edi, 4
        loop    .palette1
.palette2:
        pop     edi
        pop     edx
        pop     ecx
        mov     ax, 4Fh
        ret
.write: mov     dx, 1CEh                ; register AX = CX
        out     dx, ax
        inc     edx
        mov     eax, ecx
        out     dx, ax
        ret
.read:  mov     dx, 1CEh                ; EAX = register AX
        out     dx, ax
        inc     edx
        in      ax, dx
        movzx   eax, ax
        ret
        bits    16
pmi_end:
