; memory-map.asm - INT 15h E820h, E801h and 88h, and INT 12h agree with each other and with
; a machine of 16 MiB. ACPI specification, "System Address Map Interfaces".

%include "rom.inc"
start:  title   "memory map of 16 MiB"
        int     0x12
        movzx   eax, ax
        mov     [low_kib], eax
        expect  eax, 639, "INT 12h: 640 KiB less the EBDA"
        xor     ebx, ebx
        mov     di, map
.next:  mov     eax, 0xE820
        mov     edx, 'PAMS'
        mov     ecx, 20
        int     0x15
        jc      .end
        cmp     eax, 'PAMS'
        jne     .end
        inc     dword [entries]
        add     di, 20
        cmp     di, map + 20 * 32
        jae     .end
        test    ebx, ebx
        jnz     .next
.end:   cmp     dword [entries], 3
        setae   al
        movzx   eax, al
        expect  eax, 1, "E820h: at least three entries"
        expect  dword [map], 0, "the first begins at 0"
        expect  dword [map + 16], 1, "and is RAM"
        mov     eax, [low_kib]
        shl     eax, 10
        expect  dword [map + 8], eax, "as much as INT 12h says"
        ; Over all entries: RAM above 1 MiB, overlaps, RAM where the ROM is.
        mov     cx, [entries]
        mov     si, map
.entry: cmp     dword [si + 16], 1
        jne     .skip
        cmp     dword [si + 4], 0
        jne     .skip
        mov     eax, [si]
        mov     edx, eax
        add     edx, [si + 8]
        cmp     eax, 0x100000
        jne     .low
        mov     [high_end], edx
        inc     dword [high_entries]
.low:   cmp     eax, 0xF0000
        ja      .skip
        cmp     edx, 0xA0000
        jbe     .skip
        inc     dword [wrong]
.skip:  add     si, 20
        loop    .entry
        expect  dword [wrong], 0, "no RAM between A0000h and FFFFFh"
        expect  dword [high_entries], 1, "RAM from 1 MiB on"
        mov     eax, [high_end]
        cmp     eax, 0x01000000
        setbe   al
        cmp     dword [high_end], 0x00F00000
        setae   ah
        and     al, ah
        movzx   eax, al
        expect  eax, 1, "to between 15 and 16 MiB"
        mov     ah, 0x88
        int     0x15
        movzx   eax, ax
        mov     ebx, eax
        cmp     eax, 15 * 1024
        setbe   al
        cmp     bx, 14 * 1024
        setae   ah
        and     al, ah
        movzx   eax, al
        expect  eax, 1, "88h: about 15 MiB above 1 MiB"
        mov     ax, 0xE801
        xor     cx, cx
        xor     dx, dx
        int     0x15
        setc    bl
        movzx   ebx, bl
        expect  ebx, 0, "E801h is there"
        movzx   ecx, cx
        movzx   eax, ax
        mov     ebx, [high_end]
        sub     ebx, 0x100000
        shr     ebx, 10
        cmp     ebx, 15 * 1024
        jbe     .whole
        mov     ebx, 15 * 1024
.whole: expect  eax, ebx, "E801h: KiB between 1 and 16 MiB, as E820h has it"
        mov     eax, 0xE820
        mov     edx, 'PAMS'
        mov     ecx, 20
        mov     ebx, 0
        mov     di, map
        int     0x15
        expect  ecx, 20, "E820h returns the size of an entry"
        mov     eax, 0xDEAD
        int     0x15
        setc    al
        movzx   eax, al
        expect  eax, 1, "an unknown function sets carry"
        done
        align   4, db 0
low_kib: dd     0
entries: dd     0
high_entries: dd 0
high_end: dd    0
wrong:  dd      0
map:    times   20 * 33 db 0
rom_end
