; disk.asm - INT 13h on the boot disk, by CHS and by EDD: geometry, reads, writes, errors.
; Phoenix EDD 1.1. The image is 128 sectors; sectors 64-127 are free to write.

%include "rom.inc"
BUFFER equ 0x3000                       ; segment
start:  title   "INT 13h"
        mov     ax, BUFFER
        mov     gs, ax
        mov     ah, 0x08
        mov     dl, [boot_drive]
        push    es
        call    disk
        pop     es
        expect  dword [carry], 0, "08h: geometry"
        movzx   eax, cl
        and     eax, 63
        mov     [spt], eax
        movzx   eax, dh
        inc     eax
        mov     [head_count], eax
        movzx   edx, dl
        expect  edx, 1, "08h: one hard disk"
        mov     ah, 0x15
        mov     dl, [boot_drive]
        call    disk
        movzx   eax, ah
        expect  eax, 3, "15h: a hard disk"
        mov     ah, 0x41
        mov     bx, 0x55AA
        mov     dl, [boot_drive]
        call    disk
        expect  dword [carry], 0, "41h: EDD is there"
        movzx   ebx, bx
        expect  ebx, 0xAA55, "41h: BX"
        and     ecx, 1
        expect  ecx, 1, "41h: CX bit 0, packet access"
        mov     si, params
        mov     ah, 0x48
        mov     dl, [boot_drive]
        call    disk
        expect  dword [carry], 0, "48h: drive parameters"
        expect  dword [params + 16], 128, "48h: 128 sectors"
        movzx   eax, word [params + 24]
        expect  eax, 512, "48h: of 512 bytes"

        call    read_lba0
        expect  dword [carry], 0, "42h: read"
        movzx   eax, word [gs:510]
        expect  eax, 0xAA55, "42h: the boot sector's signature"
        mov     word [gs:510], 0
        mov     ax, 0x0201              ; CHS 0/0/1
        mov     cx, 1
        mov     dh, 0
        call    chs
        expect  dword [carry], 0, "02h: read"
        movzx   eax, al
        expect  eax, 1, "02h: AL is how many"
        movzx   eax, word [gs:510]
        expect  eax, 0xAA55, "02h: the same sector"

        ; Write sector 100 by EDD, read it by CHS; the other way round with 101.
        mov     eax, 100
        call    fill
        mov     dword [dap + 8], 100
        mov     ah, 0x43
        mov     al, 0
        call    edd
        expect  dword [carry], 0, "43h: write"
        mov     dword [gs:0], 0
        mov     eax, 100
        call    to_chs
        mov     ax, 0x0201
        call    chs
        expect  dword [carry], 0, "02h: read it"
        mov     eax, 100
        call    verify
        expect  eax, 0, "what 43h wrote, 02h reads"
        mov     eax, 101
        call    fill
        mov     eax, 101
        call    to_chs
        mov     ax, 0x0301
        call    chs
        expect  dword [carry], 0, "03h: write"
        mov     dword [gs:0], 0
        mov     dword [dap + 8], 101
        mov     ah, 0x42
        call    edd
        mov     eax, 101
        call    verify
        expect  eax, 0, "what 03h wrote, 42h reads"

        ; Eight sectors at once, across a track's end if tracks are short.
        mov     word [dap + 2], 8
        mov     dword [dap + 8], 96
        mov     ah, 0x42
        call    edd
        expect  dword [carry], 0, "42h: eight sectors"
        mov     eax, [gs:4 * 512 + 4]
        expect  eax, 100 * 0x01010101 + 1, "the fifth is what was written"
        mov     ax, 0x0208
        push    ax
        mov     eax, 60
        call    to_chs
        pop     ax
        call    chs
        expect  dword [carry], 0, "02h: eight sectors"

        mov     dword [dap + 8], 0x100000
        mov     word [dap + 2], 1
        mov     ah, 0x42
        call    edd
        expect  dword [carry], 1, "42h: beyond the end fails"
        mov     dl, 0x9F
        mov     ax, 0x0201
        mov     cx, 1
        mov     dh, 0
        call    disk
        expect  dword [carry], 1, "02h: no such drive fails"
        mov     dl, [boot_drive]
        xor     ah, ah
        call    disk
        expect  dword [carry], 0, "00h: reset"
        mov     ax, 0x0401
        mov     cx, 1
        mov     dh, 0
        call    chs
        expect  dword [carry], 0, "04h: verify"

        ; Code that a disk read replaces: DMA or PIO, the processor must see the new code.
        mov     byte [gs:0], 0xCB       ; RETF
        mov     eax, 0x1111
        call    BUFFER:0
        expect  eax, 0x1111, "a routine in the buffer"
        mov     dword [gs:0], 0x4444B866        ; MOV EAX, 4444h ; RETF
        mov     dword [gs:4], 0x00CB0000
        mov     dword [dap + 8], 102
        mov     ax, 0x4300
        call    edd
        mov     byte [gs:0], 0xCB
        call    BUFFER:0
        mov     ah, 0x42
        call    edd
        call    BUFFER:0
        expect  eax, 0x4444, "replaced by a disk read"
        done

disk:   int     0x13
        pushf
        mov     dword [carry], 0
        adc     byte [carry], 0
        popf
        ret
chs:    mov     dl, [boot_drive]
        push    es
        push    gs
        pop     es
        xor     bx, bx
        call    disk
        pop     es
        ret
read_lba0:
        mov     ah, 0x42
edd:    mov     dl, [boot_drive]
        mov     si, dap
        jmp     disk
to_chs: xor     edx, edx                ; EAX = sector number -> CX, DH
        div     dword [spt]
        mov     cl, dl
        inc     cl
        xor     edx, edx
        div     dword [head_count]
        mov     ch, al
        mov     dh, dl
        ret
fill:   imul    eax, 0x01010101         ; the sector's number in all bytes, but each dword differs
        xor     di, di
.next:  mov     [gs:di], eax
        inc     eax
        add     di, 4
        cmp     di, 512
        jb      .next
        ret
verify: imul    eax, 0x01010101
        xor     di, di
.next:  cmp     [gs:di], eax
        jne     .bad
        inc     eax
        add     di, 4
        cmp     di, 512
        jb      .next
        xor     eax, eax
.bad:   ret
        align   4, db 0
carry:  dd      0
spt:    dd      0
head_count: dd  0
dap:    dw      16, 1, 0, BUFFER
        dq      0
params: dw      30
        times   30 db 0
rom_end
        times   0x10000 - ($ - boot) db 0
