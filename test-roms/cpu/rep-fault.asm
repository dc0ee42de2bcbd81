; rep-fault.asm - a page fault in the middle of a repeated string instruction: the registers
; tell how far it came, EIP is the instruction's, and IRET goes on from there.
; Intel SDM vol. 2B, REP.

%include "rom.inc"
start:  title   "REP and page faults"
        jmp     enter_pm
%include "pm.inc"
%include "paging.inc"

; The handler notes the registers, maps the page that was missing, and returns.
missing:
        mov     [seen], ecx
        mov     [seen + 4], esi
        mov     [seen + 8], edi
        push    eax
        mov     eax, [esp + 8]
        mov     [seen + 12], eax
        mov     eax, [esp + 4]
        mov     [seen + 16], eax
        mov     eax, cr2
        mov     [seen + 20], eax
        shr     eax, 12
        and     eax, 0x3FF
        push    ebx
        mov     ebx, eax
        shl     ebx, 12
        or      ebx, 0x40000 | P | W | U ; page n of the second 4 MiB -> 40000h + n * 1000h
        mov     [PAGE_TABLE_1 + eax * 4], ebx
        pop     ebx
        inc     dword [faults]
        pop     eax
        add     esp, 4
        iretd

%macro noted 6+                         ; ECX, ESI, EDI, error, CR2, what
        expect  dword [seen], %1, %6, ": ECX"
        expect  dword [seen + 4], %2, %6, ": ESI"
        expect  dword [seen + 8], %3, %6, ": EDI"
        expect  dword [seen + 16], %4, %6, ": error code"
        expect  dword [seen + 20], %5, %6, ": CR2"
%endmacro

main:   call    paging_start
        gate    14, missing, INT_GATE
        mov     edi, 0x60000
        mov     ecx, 0x2000
.fill:  mov     [edi], cl
        inc     edi
        loop    .fill
        map     0x400000, 0x40000 | P | W | U

        mov     dword [faults], 0
        mov     esi, 0x60000
        mov     edi, 0x400FF0
        mov     ecx, 8
.movs:  rep     movsd
        expect  dword [faults], 1, "REP MOVSD: one fault"
        noted   4, 0x60010, 0x401000, 2, 0x401000, "REP MOVSD"
        expect  dword [seen + 12], .movs, "EIP is the instruction's, with its prefix"
        expect  ecx, 0, "and it went on to the end"
        mov     esi, 0x60000
        mov     edi, 0x40FF0
        mov     ecx, 8
        repe    cmpsd
        expect_flags ZF, ZF, "all was copied"

        mov     dword [faults], 0
        mov     dword [PAGE_TABLE_1 + 4], 0
        flush
        mov     esi, 0x60001
        mov     edi, 0x400FF1
        mov     ecx, 8
        rep     movsd                   ; the fourth dword straddles
        noted   5, 0x6000D, 0x400FFD, 2, 0x401000, "REP MOVSD, unaligned"
        mov     esi, 0x60001
        mov     edi, 0x40FF1
        mov     ecx, 32
        repe    cmpsb
        expect_flags ZF, ZF, "all was copied"

        mov     dword [PAGE_TABLE_1], 0
        flush
        std
        mov     esi, 0x6001C
        mov     edi, 0x401008
        mov     ecx, 8
        rep     movsd
        cld
        noted   5, 0x60010, 0x400FFC, 2, 0x400FFC, "REP MOVSD down"

        mov     dword [PAGE_TABLE_1 + 4], 0
        flush
        mov     edi, 0x400FFD
        mov     ecx, 0x100
        mov     al, 0x77
        rep     stosb
        noted   0xFD, 0x5FFFC, 0x401000, 2, 0x401000, "REP STOSB"

        mov     dword [PAGE_TABLE_1 + 4], 0
        flush
        mov     esi, 0x400FFE
        mov     ecx, 4
        rep     lodsb
        noted   2, 0x401000, 0x4010FD, 0, 0x401000, "REP LODSB"

        mov     dword [PAGE_TABLE_1 + 4], 0
        flush
        mov     edi, 0x400FF0
        mov     al, 0x12
        mov     ecx, 0x40
        mov     dword [0x40FF0], 0
        mov     dword [0x40FF4], 0
        mov     dword [0x40FF8], 0
        mov     dword [0x40FFC], 0
        mov     dword [0x41000], 0x00120000
        cmp     al, al
        repne   scasb
        noted   0x30, 0x401002, 0x401000, 0, 0x401000, "REPNE SCASB"
        expect  edi, 0x401003, "REPNE SCASB found it in the second page"

        ; The source faults, the destination is good: no element is half done.
        mov     dword [PAGE_TABLE_1 + 4], 0
        flush
        mov     esi, 0x400FFF
        mov     edi, 0x61000
        mov     ecx, 2
        rep     movsb
        noted   1, 0x401000, 0x61001, 0, 0x401000, "REP MOVSB, source"
        done
        align   4, db 0
faults: dd      0
seen:   times 8 dd 0
rom_end
