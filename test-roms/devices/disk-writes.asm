; disk-writes.asm - writes sectors 8 to 71 over and over by PIO, in commands of eight sectors. Every
; dword of a sector is its generation << 16 | its number, so that a torn sector shows; after each
; generation the drive's cache is flushed and a dot goes to the debug console.
; ATA/ATAPI-6 (T13 1410D) §9.6 (PIO data-out), §8.11 (FLUSH CACHE), §8.62 (WRITE SECTORS).
;
; Ends after as many generations as the word at `limit` says (0: never) with 10h, or 11h after an error.
; frontend/tests/disks.rs kills the emulator in the middle of it.

FIRST   equ 8
SECTORS equ 64
BATCH   equ 8
BUFFER  equ 0x8000

        bits    16
        org     0x7C00
start:  cli
        cld
        xor     ax, ax
        mov     ds, ax
        mov     es, ax
        mov     ss, ax
        mov     sp, 0x7C00

generation:
        inc     dword [count]
        mov     dword [lba], FIRST
.batch: mov     di, BUFFER
        mov     edx, [lba]
        mov     bl, BATCH
.fill:  mov     eax, [count]
        shl     eax, 16
        or      eax, edx
        mov     cx, 128
        rep     stosd
        inc     edx
        dec     bl
        jnz     .fill

        mov     dx, 0x1F6               ; LBA, drive 0
        mov     al, 0xE0
        out     dx, al
        mov     dx, 0x1F2
        mov     al, BATCH
        out     dx, al
        mov     eax, [lba]
        inc     dx
        out     dx, al
        shr     eax, 8
        inc     dx
        out     dx, al
        shr     eax, 8
        inc     dx
        out     dx, al
        mov     dx, 0x1F7
        mov     al, 0x30                ; WRITE SECTORS
        out     dx, al
        mov     si, BUFFER
        mov     bl, BATCH
.sector:
        call    ready
        test    al, 8                   ; DRQ
        jz      failed
        mov     dx, 0x1F0
        mov     cx, 256
        rep     outsw
        dec     bl
        jnz     .sector
        call    ready
        add     dword [lba], BATCH
        cmp     dword [lba], FIRST + SECTORS
        jb      .batch

        mov     dx, 0x1F7
        mov     al, 0xE7                ; FLUSH CACHE
        out     dx, al
        call    ready
        mov     al, '.'
        out     0xE9, al
        mov     ax, [limit]
        test    ax, ax
        jz      generation
        cmp     [count], ax
        jb      generation
        mov     al, 0x10
        jmp     quit

; Waits until the drive is not busy; its status is in AL.
ready:  mov     dx, 0x1F7
.wait:  in      al, dx
        test    al, 0x80
        jnz     .wait
        test    al, 0x21                ; ERR, DF
        jnz     failed
        ret

failed: mov     al, 0x11
quit:   out     0xF4, al
        hlt
        jmp     quit

count:  dd      0
lba:    dd      0
        times   506 - ($ - $$) db 0
limit:  dw      3                       ; at offset 506, where the test finds it
        dw      0
        dw      0xAA55
        times   (FIRST + SECTORS + 8) * 512 - ($ - $$) db 0
