; modes.asm - every way between the modes: real, 16-bit and 32-bit protected, 32-bit and PAE
; paging, 64-bit and compatibility mode, out of long mode to PAE and 32-bit paging and back to
; real mode; what each step leaves in CR0, CR4, EFER and the segment registers; unreal mode.
; Intel SDM vol. 3A §9.8.5, §9.9, §4.1.1. QEMU's TCG checks no limit in real mode.

%include "rom.inc"
start:  title   "mode switches"
        jmp     real_part
%include "pm.inc"
P equ 1
W equ 2
U equ 4
PS equ 0x80
PML4    equ PAGES_AT
PDPT    equ PAGES_AT + 0x1000
PD      equ PAGES_AT + 0x2000
DIR32   equ PAGES_AT + 0x4000
EFER    equ 0xC0000080
SMALL16 equ SPARE                       ; 16-bit data of 64 KiB less one byte
HIGH16  equ SPARE + 8                   ; 16-bit code, based at 10000h
PE equ 1
PG equ 1 << 31

bits 16
real_part:
        cli
        lgdt    [gdt_pointer]
        ; Real mode to 16-bit protected mode, and back, with the segments as they were.
        mov     eax, cr0
        or      al, 1
        mov     cr0, eax                ; no jump: CS is still 0, its descriptor that of real mode
        mov     ax, cs
        movzx   eax, ax
        expect  eax, 0, "PE without a far jump: CS is as before"
        mov     ax, DATA16
        mov     ds, ax
        mov     eax, cr0
        and     al, 0xFE
        mov     cr0, eax
        mov     ax, ds
        movzx   eax, ax
        expect  eax, DATA16, "back in real mode: DS holds its selector"
        mov     dword [seen], 0x12345678
        expect  dword [seen], 0x12345678, "and base 0, not 200h"
        xor     ax, ax
        mov     ds, ax
        jmp     0:.real
.real:  smsw    ax
        and     eax, 1
        expect  eax, 0, "PE is clear"

        ; Unreal mode: limits stay when real mode loads the register anew.
        mov     eax, cr0
        or      al, 1
        mov     cr0, eax
        mov     bx, DATA32
        mov     fs, bx
        and     al, 0xFE
        mov     cr0, eax
        mov     dword [dword fs:0x200000], 0xCAFEBABE
        expect  dword [dword fs:0x200000], 0xCAFEBABE, "unreal mode: beyond 64 KiB and 1 MiB"
        mov     ax, 0x1000
        mov     fs, ax
        mov     eax, [dword fs:0x1F0000]
        expect  eax, 0xCAFEBABE, "a new selector gives a new base, and leaves the limit"
        ; A limit of real mode is not checked against FFFFh either: 16-bit protected mode's counts.
        mov     eax, cr0
        or      al, 1
        mov     cr0, eax
        mov     bx, DATA16
        mov     fs, bx
        and     al, 0xFE
        mov     cr0, eax
        mov     word [0x13 * 4], .limit
        mov     word [0x13 * 4 + 2], 0
        mov     word [0xD * 4], .limit
        mov     word [0xD * 4 + 2], 0
        mov     ebx, esp
        mov     al, [dword fs:0x10000]
        expect  eax, 0xFFFFFFFF, "beyond the limit there is no access"
.limit: mov     esp, ebx
        mov     eax, 1
        expect  eax, 1, "a limit of 64 KiB is back: #GP"
        xor     ax, ax
        mov     fs, ax

        ; 16-bit protected mode with its own code segment base.
        mov     dword [gdt_spare], 0x0000FFFE
        mov     dword [gdt_spare + 4], 0x00009200
        mov     dword [gdt_spare + 8], 0x0000FFFF
        mov     dword [gdt_spare + 12], 0x00009A01
        mov     ax, 0x1000
        mov     es, ax
        mov     si, copy
        mov     di, copy
        mov     cx, copy_end - copy
        cld
        rep     movsb
        mov     eax, cr0
        or      al, 1
        mov     cr0, eax
        jmp     HIGH16:copy
copy:   mov     ax, SMALL16
        mov     ds, ax
        mov     [seen], cs
        mov     ax, DATA16
        mov     ds, ax
        jmp     CODE16:copy_end
copy_end:
        movzx   eax, word [seen]
        expect  eax, HIGH16, "16-bit protected mode at another base"
        jmp     enter_pm
bits 32

main:   ; 32-bit protected mode to 16-bit and back, with the upper halves.
        mov     esi, 0x12345678
        mov     ebx, 0xFFFF0001
        jmp     CODE16:.w16
bits 16
.w16:   inc     bx
        mov     cx, 0xFFFF
        inc     cx
        jmp     dword CODE32:.w32
bits 32
.w32:   expect  ebx, 0xFFFF0002, "16-bit code leaves upper halves"
        ; 32-bit paging.
        call    tables
        mov     eax, DIR32
        mov     cr3, eax
        mov     eax, cr4
        or      eax, 1 << 4             ; PSE
        mov     cr4, eax
        mov     eax, cr0
        or      eax, PG
        mov     cr0, eax
        expect  dword [0x800000 + gdt], 0, "32-bit paging: a second mapping"
        ; Straight to PAE, which needs paging off.
        mov     eax, cr0
        and     eax, ~PG
        mov     cr0, eax
        mov     eax, cr4
        or      eax, 1 << 5
        mov     cr4, eax
        mov     eax, PDPT
        mov     cr3, eax
        mov     eax, cr0
        or      eax, PG
        mov     cr0, eax
        expect  dword [0x600000 + gdt], 0, "PAE paging: another second mapping"
        mov     ecx, EFER
        rdmsr
        and     eax, 1 << 10
        expect  eax, 0, "LMA is clear"
        mov     eax, cr0
        and     eax, ~PG
        mov     cr0, eax
        ; Long mode.
        mov     eax, cr4
        or      eax, 1 << 5
        mov     cr4, eax
        mov     eax, PML4
        mov     cr3, eax
        mov     ecx, EFER
        rdmsr
        or      eax, 1 << 8
        wrmsr
        rdmsr
        and     eax, 1 << 10
        expect  eax, 0, "EFER.LME alone does not make LMA"
        mov     eax, cr0
        or      eax, PG
        mov     cr0, eax
        mov     ecx, EFER
        rdmsr
        and     eax, 1 << 10
        expect  eax, 1 << 10, "LMA with paging: compatibility mode"
        mov     eax, 0x12345678         ; registers of 32 bits here
        dec     eax                     ; 48h is DEC EAX
        expect  eax, 0x12345677, "48h is DEC EAX"
        jmp     CODE64:.long
bits 64
.long:  mov     rax, 0x123456789ABCDEF0
        mov     r9, rax
        mov     rsp, MSTACK
        ; To 16-bit compatibility mode, and to 32-bit, keeping R9 and the upper halves.
        mov     dword [far_target], .c16
        mov     word [far_target + 4], CODE16
        jmp     far dword [far_target]
bits 16
.c16:   mov     ax, DATA16
        mov     ds, ax
        mov     dword [seen], 16
        inc     cx
        jmp     dword CODE32:.c32
bits 32
.c32:   mov     eax, DATA32
        mov     ds, eax
        mov     ss, eax
        mov     esp, MSTACK
        expect  dword [seen], 16, "16-bit compatibility mode"
        jmp     CODE64:.long2
bits 64
.long2: mov     rax, 0x123456789ABCDEF0
        expect  r9, rax, "R9 survives compatibility mode"
        ; Out of long mode: from compatibility mode, paging off.
        mov     dword [far_target], .leave
        mov     word [far_target + 4], CODE32
        jmp     far dword [far_target]
bits 32
.leave: mov     eax, cr0
        and     eax, ~PG
        mov     cr0, eax
        mov     eax, DATA32
        mov     ds, eax
        mov     ss, eax
        mov     ecx, EFER
        rdmsr
        mov     ebx, eax
        and     eax, 1 << 10
        expect  eax, 0, "paging off: LMA is clear"
        and     ebx, 1 << 8
        expect  ebx, 1 << 8, "LME is still set"
        ; In again at once, then out for good.
        mov     eax, cr0
        or      eax, PG
        mov     cr0, eax
        jmp     CODE64:.long3
bits 64
.long3: mov     dword [seen], 64
        mov     dword [far_target], .leave2
        jmp     far dword [far_target]
bits 32
.leave2:
        expect  dword [seen], 64, "into 64-bit mode a second time"
        mov     eax, cr0
        and     eax, ~PG
        mov     cr0, eax
        mov     ecx, EFER
        rdmsr
        and     eax, ~(1 << 8)
        wrmsr
        mov     dword [PDPT], PD | P    ; without A, which is reserved in PAE paging
        mov     eax, PDPT
        mov     cr3, eax
        mov     eax, cr0
        or      eax, PG
        mov     cr0, eax
        expect  dword [0x600000 + gdt], 0, "from long mode to PAE paging"
        mov     eax, cr0
        and     eax, ~PG
        mov     cr0, eax
        mov     eax, cr4
        and     eax, ~(1 << 5)
        mov     cr4, eax
        mov     eax, DIR32
        mov     cr3, eax
        mov     eax, cr0
        or      eax, PG
        mov     cr0, eax
        expect  dword [0x800000 + gdt], 0, "to 32-bit paging"
        mov     eax, cr0
        and     eax, ~PG
        mov     cr0, eax
        ; And all the way to real mode, where an interrupt goes by the vector table.
        jmp     CODE16:.to_real
bits 16
.to_real:
        mov     ax, DATA16
        mov     ds, ax
        mov     es, ax
        mov     ss, ax
        mov     eax, cr0
        and     al, 0xFE
        mov     cr0, eax
        jmp     0:.really
.really: xor    ax, ax
        mov     ds, ax
        mov     es, ax
        mov     ss, ax
        mov     sp, 0x7C00
        lidt    [real_idt]
        mov     word [0x60 * 4], .int60
        mov     word [0x60 * 4 + 2], 0
        mov     dword [seen], 0
        int     0x60
        expect  dword [seen], 60, "real mode after long mode: INT by the vector table"
        mov     eax, cr0
        and     eax, PE | PG
        expect  eax, 0, "PE and PG are clear"
        done
.int60: mov     dword [seen], 60
        iret

bits 32
tables: mov     edi, PAGES_AT
        mov     ecx, 0x7000 / 4
        xor     eax, eax
        rep     stosd
        mov     dword [PML4], PDPT | 7
        mov     dword [PDPT], PD | P    ; good for PAE and for 4 levels
        mov     dword [PD], P | W | PS
        mov     dword [PD + 8], 0x200000 | P | W | PS
        mov     dword [PD + 3 * 8], P | W | PS
        mov     dword [DIR32], P | W | PS
        mov     dword [DIR32 + 2 * 4], P | W | PS
        ret
        align   8, db 0
far_target: dd  0
        dw      0
real_idt: dw    0x3FF
        dd      0
        align   4, db 0
seen:   dd      0
rom_end
