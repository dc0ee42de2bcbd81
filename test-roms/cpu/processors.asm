; processors.asm - the other processors start by INIT and SIPI, share memory by LOCK, progress alike, and are
; woken from HLT by an interrupt. Real mode; ES is flat.
; Source: Intel SDM vol. 3A, "Multiple-Processor Management" (MP initialisation protocol) and "APIC".

%include "rom.inc"
APIC    equ     0xFEE00000
ROUNDS  equ     5000
%macro ipi 1                            ; sends %1 to all others, and waits until it is sent
        cli
        call    flat                    ; a BIOS may have loaded ES
        mov     dword [es:dword APIC+0x300], %1
%%wait: test    dword [es:dword APIC+0x300], 1 << 12
        jnz     %%wait
        sti
%endmacro

start:  title   "processors"
        mov     dx, 0x510               ; how many there are
        mov     ax, 5
        out     dx, ax
        inc     dx
        in      al, dx
        movzx   eax, al
        dec     eax
        mov     [others], eax
        expect  eax, 3, "this ROM is for four processors"

        cli
        call    flat
        mov     byte [es:dword 0x10000], 0xEA   ; JMP FAR, where SIPI vector 10h starts
        mov     word [es:dword 0x10001], other
        mov     [es:dword 0x10003], cs
        mov     word [0x40 * 4], wake   ; the interrupt that wakes
        mov     [0x40 * 4 + 2], cs
        sti

        mov     eax, [es:dword APIC+0x20]
        shr     eax, 24
        expect  eax, 0, "the first processor's APIC ID is 0"
        ipi     0x000C4500              ; INIT
        mov     cx, 2
        call    ticks
        mov     eax, [alive]
        expect  eax, 0, "INIT alone starts nobody"
        ipi     0x000C4610              ; SIPI
        mov     cx, 2
        call    ticks
        mov     eax, [alive]
        expect  eax, 3, "INIT and SIPI start all others"
        ipi     0x000C4610
        mov     cx, 2
        call    ticks
        mov     eax, [alive]
        expect  eax, 3, "a second SIPI starts nobody again"

        mov     dword [phase], 1
        mov     ecx, ROUNDS
.add:   lock inc dword [sum]
        dec     ecx
        jnz     .add
.done:  pause
        cmp     dword [finished], 3
        jne     .done
        mov     eax, [sum]
        expect  eax, 4 * ROUNDS, "no locked increment is lost"

        mov     dword [phase], 2        ; each counts for itself
        mov     cx, 3
        call    ticks
        mov     dword [phase], 3
        mov     cx, 1
        call    ticks
        mov     eax, [count]
        mov     ebx, eax
        mov     si, 1
.next:  movzx   edi, si
        mov     ecx, [count+edi*4]
        cmp     ecx, eax
        jae     .not_less
        mov     eax, ecx
.not_less:
        cmp     ecx, ebx
        jbe     .not_more
        mov     ebx, ecx
.not_more:
        inc     si
        cmp     si, 3
        jb      .next
        imul    eax, eax, 10
        imul    ebx, ebx, 9
        cmp     eax, ebx
        setae   al
        movzx   eax, al
        expect  eax, 1, "three busy processors progress alike, within a tenth"

        mov     cx, 1                   ; they halt now
        call    ticks
        mov     eax, [woken]
        expect  eax, 0, "halted processors stay halted"
        ipi     0x000C4040              ; fixed, vector 40h
        mov     cx, 1
        call    ticks
        mov     eax, [woken]
        expect  eax, 3, "an interrupt wakes each"
        ipi     0x000C4500              ; INIT again: they wait for a SIPI
        mov     cx, 1
        call    ticks
        ipi     0x000C4040
        mov     cx, 1
        call    ticks
        mov     eax, [woken]
        expect  eax, 3, "after INIT an interrupt wakes nobody"
        done

; Waits CX ticks of the BIOS's clock.
ticks:  mov     eax, [0x46C]
.same:  hlt
        cmp     eax, [0x46C]
        je      .same
        loop    ticks
        ret

; ES = flat data, in real mode. Interrupts are off.
flat:   push    eax
        push    bx
        lgdt    [gdt.pointer]
        mov     eax, cr0
        or      al, 1
        mov     cr0, eax
        mov     bx, 8
        mov     es, bx
        and     al, 0xFE
        mov     cr0, eax
        pop     bx
        pop     eax
        ret

; The other processors.
other:  cli
        xor     ax, ax
        mov     ds, ax
        mov     ss, ax
        mov     edi, 1
        lock xadd [alive], edi          ; EDI = 0, 1, 2
        mov     sp, di
        shl     sp, 8
        add     sp, 0xE100
        call    flat
        mov     dword [es:dword APIC+0xF0], 0x1FF       ; software enabled
.first: pause
        cmp     dword [phase], 1
        jb      .first
        mov     ecx, ROUNDS
.add:   lock inc dword [sum]
        dec     ecx
        jnz     .add
        lock inc dword [finished]
.second: pause
        cmp     dword [phase], 2
        jb      .second
.count: inc     dword [count+edi*4]
        cmp     dword [phase], 2
        je      .count
        sti
.halt:  hlt
        jmp     .halt
wake:   lock inc dword [woken]
        mov     dword [es:dword APIC+0xB0], 0
        iret

        align   8, db 0
gdt:    dq      0
        dq      0x00CF93000000FFFF      ; 08: flat data
.pointer:
        dw      15
        dd      gdt
others: dd      0
alive:  dd      0
phase:  dd      0
sum:    dd      0
finished: dd    0
woken:  dd      0
count:  dd      0, 0, 0
rom_end
