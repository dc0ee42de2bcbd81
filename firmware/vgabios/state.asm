; Glassbox VGA BIOS: AH=1Ch: saves and restores the video state.
; Source: Ralf Brown's Interrupt List, INT 10h/1Cxx; IBM VGA technical reference.
;
; CX says what: bit 0 the hardware, bit 1 the BIOS's data, bit 2 the DAC. Each part takes whole
; blocks of 64 bytes, one after the other. The display's memory is the program's to save, and the
; latches are not kept: they last for one access.

S_HARDWARE      equ 2                   ; blocks
S_DATA          equ 1
S_DAC           equ 13

; Places in the hardware's part.
H_SEQ_INDEX     equ 0
H_CRTC_INDEX    equ 1
H_GC_INDEX      equ 2
H_ATTR_INDEX    equ 3
H_MISC          equ 4
H_FEATURE       equ 5
H_SEQ           equ 6
H_CRTC          equ H_SEQ+5
H_ATTR          equ H_CRTC+25
H_GC            equ H_ATTR+21
H_END           equ H_GC+9

; AL=0: BX = blocks; AL=1 saves to ES:BX, AL=2 restores from there.
video_state:
        mov     di, bx
        cmp     al, 1
        jb      .size
        je      .save
        cmp     al, 2
        jne     nothing
        test    cl, 1
        jz      .no_hardware
        push    cx
        call    restore_hardware
        pop     cx
        add     di, 64*S_HARDWARE
.no_hardware:
        test    cl, 2
        jz      .no_data
        push    cx
        call    restore_data
        pop     cx
        add     di, 64*S_DATA
.no_data:
        test    cl, 4
        jz      .done
        call    restore_dac
.done:  mov     byte [bp+F_AL], 1Ch
        ret
.size:  xor     bx, bx
        test    cl, 1
        jz      .size1
        add     bx, S_HARDWARE
.size1: test    cl, 2
        jz      .size2
        add     bx, S_DATA
.size2: test    cl, 4
        jz      .size3
        add     bx, S_DAC
.size3: mov     [bp+F_BX], bx
        jmp     .done
.save:  test    cl, 1
        jz      .save1
        push    cx
        call    save_hardware
        pop     cx
        add     di, 64*S_HARDWARE
.save1: test    cl, 2
        jz      .save2
        push    cx
        call    save_data
        pop     cx
        add     di, 64*S_DATA
.save2: test    cl, 4
        jz      .done
        call    save_dac
        jmp     .done

; --- Hardware ----------------------------------------------------------------------------------------------------
save_hardware:                          ; ES:DI = its part
        mov     dx, 3C4h
        in      al, dx
        mov     [es:di+H_SEQ_INDEX], al
        mov     dl, 0CEh
        in      al, dx
        mov     [es:di+H_GC_INDEX], al
        mov     dl, 0CCh
        in      al, dx
        mov     [es:di+H_MISC], al
        mov     dl, 0CAh
        in      al, dx
        mov     [es:di+H_FEATURE], al
        mov     dx, [B_CRTC]
        in      al, dx
        mov     [es:di+H_CRTC_INDEX], al
        call    attr_reset
        mov     dx, 3C0h
        in      al, dx
        mov     [es:di+H_ATTR_INDEX], al
        mov     dl, 0C4h
        lea     si, [di+H_SEQ]
        mov     cx, 5
        call    .registers
        mov     dx, [B_CRTC]
        lea     si, [di+H_CRTC]
        mov     cx, 25
        call    .registers
        mov     dx, 3CEh
        lea     si, [di+H_GC]
        mov     cx, 9
        call    .registers
        lea     si, [di+H_ATTR]
        mov     bl, 0
.attr:  call    attr_reset
        mov     dx, 3C0h
        mov     al, bl
        out     dx, al
        inc     dx
        in      al, dx
        mov     [es:si], al
        inc     si
        inc     bl
        cmp     bl, 21
        jb      .attr
        jmp     restore_indexes
.registers:                             ; DX = index port, CX = count, ES:SI = where to
        mov     ah, 0
.next:  mov     al, ah
        out     dx, al
        inc     dx
        in      al, dx
        dec     dx
        mov     [es:si], al
        inc     si
        inc     ah
        loop    .next
        ret

restore_hardware:
        mov     dx, 3C4h
        mov     ax, 0100h               ; reset while the clocks change
        out     dx, ax
        mov     dl, 0C2h
        mov     al, [es:di+H_MISC]
        out     dx, al
        mov     dl, 0C4h
        lea     si, [di+H_SEQ+1]
        mov     cx, 4
        mov     al, 1
        call    .registers
        mov     ah, [es:di+H_SEQ]
        mov     al, 0
        out     dx, ax
        mov     dl, 0B4h                ; where the CRTC is from now on
        test    byte [es:di+H_MISC], 1
        jz      .mono
        mov     dl, 0D4h
.mono:  mov     [B_CRTC], dx
        mov     ah, [es:di+H_CRTC+11h]  ; unlock CRTC 0-7
        and     ah, 7Fh
        mov     al, 11h
        out     dx, ax
        lea     si, [di+H_CRTC]
        mov     cx, 11h
        mov     al, 0
        call    .registers
        inc     si
        inc     al
        mov     cx, 25-12h
        call    .registers
        mov     ah, [es:di+H_CRTC+11h]
        mov     al, 11h
        out     dx, ax
        add     dx, 6
        mov     al, [es:di+H_FEATURE]
        out     dx, al
        mov     dx, 3CEh
        lea     si, [di+H_GC]
        mov     cx, 9
        mov     al, 0
        call    .registers
        call    attr_reset
        mov     dx, 3C0h
        lea     si, [di+H_ATTR]
        mov     ah, 0
.attr:  mov     al, ah
        out     dx, al
        mov     al, [es:si]
        out     dx, al
        inc     si
        inc     ah
        cmp     ah, 21
        jb      .attr
restore_indexes:
        call    attr_reset
        mov     dx, 3C0h
        mov     al, [es:di+H_ATTR_INDEX]
        out     dx, al                  ; with the bit that gives the display its palette
        call    attr_reset
        mov     dx, 3C4h
        mov     al, [es:di+H_SEQ_INDEX]
        out     dx, al
        mov     dl, 0CEh
        mov     al, [es:di+H_GC_INDEX]
        out     dx, al
        mov     dx, [B_CRTC]
        mov     al, [es:di+H_CRTC_INDEX]
        out     dx, al
        ret
restore_hardware.registers:             ; DX = index port, AL = first, CX = count, ES:SI = where from
        mov     ah, [es:si]
        out     dx, ax
        inc     si
        inc     al
        loop    restore_hardware.registers
        ret

; --- The BIOS's data ---------------------------------------------------------------------------------------------
; A list of pieces in segment 0: address, bytes.
data_pieces:
        dw      400h+B_EQUIP, 1
        dw      400h+B_MODE, 30
        dw      400h+B_ROWS, 7
        dw      400h+B_SAVEPTR, 4
        dw      1Fh*4, 4
        dw      43h*4, 4
data_pieces_end:

save_data:
        push    ds
        push    di
        xor     ax, ax
        mov     ds, ax
        mov     bx, data_pieces
.next:  mov     si, [cs:bx]
        mov     cx, [cs:bx+2]
        rep     movsb
        add     bx, 4
        cmp     bx, data_pieces_end
        jb      .next
        pop     di
        pop     ds
        ret

restore_data:
        push    ds
        push    es
        push    di
        mov     si, di
        push    es
        pop     ds
        xor     ax, ax
        mov     es, ax
        mov     ah, [es:400h+B_EQUIP]   ; only the display's bits of the equipment word
        and     ah, 0CFh
        mov     bx, data_pieces
.next:  mov     di, [cs:bx]
        mov     cx, [cs:bx+2]
        rep     movsb
        add     bx, 4
        cmp     bx, data_pieces_end
        jb      .next
        mov     al, [es:400h+B_EQUIP]
        and     al, 30h
        or      al, ah
        mov     [es:400h+B_EQUIP], al
        pop     di
        pop     es
        pop     ds
        ret

; --- The DAC -----------------------------------------------------------------------------------------------------
; Mask, write index, and 256 triples.
save_dac:
        push    di
        mov     dx, 3C6h
        in      al, dx
        stosb
        mov     dl, 0C8h
        in      al, dx
        stosb
        mov     ah, al
        mov     dl, 0C7h
        mov     al, 0
        out     dx, al
        mov     dl, 0C9h
        mov     cx, 768
.next:  in      al, dx
        stosb
        loop    .next
        dec     dx
        mov     al, ah
        out     dx, al
        pop     di
        ret

restore_dac:
        mov     si, di
        mov     dx, 3C6h
        es lodsb
        out     dx, al
        es lodsb
        mov     ah, al
        mov     dl, 0C8h
        mov     al, 0
        out     dx, al
        inc     dx
        mov     cx, 768
.next:  es lodsb
        out     dx, al
        loop    .next
        dec     dx
        mov     al, ah
        out     dx, al
        ret
