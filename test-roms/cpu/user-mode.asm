; user-mode.asm - what ring 3 may not do, instruction by instruction: the privileged ones, those
; that UMIP, TSD and PCE forbid, those that depend on IOPL; alignment checks by CR0.AM, AC and
; CPL for each width and offset; SYSENTER and SYSEXIT of 32-bit mode.
; Intel SDM vol. 3A §2.8, §2.5 (CR4), §5.9, §6.15 (#AC, table 6-7), vol. 1 §18.5.
;
; QEMU's TCG fails: it makes few alignment checks. Bochs lets an access of the x87 pass.

%include "rom.inc"
start:  title   "ring 3"
        jmp     enter_pm
%include "pm.inc"
UMIP equ 1 << 11
TSD equ 4
PCE equ 1 << 8
AM equ 1 << 18
SYS_CS  equ SPARE                       ; CS, SS, user CS, user SS

; ring3 ADDRESS (a register), FLAGS (a register)
%macro ring3 2
        push    dword USER_DATA
        push    dword USTACK
        push    %2
        push    dword USER_CODE
        push    %1
        mov     ax, USER_DATA
        mov     ds, ax
        mov     es, ax
        iretd
%endmacro

main:   mov     eax, 7
        xor     ecx, ecx
        cpuid
        shr     ecx, 2
        and     ecx, 1
        mov     [has_umip], ecx
        gate    3, exception_stubs + 3 * 16, INT_GATE | DPL3
        mov     word [TSS_AT + 0x66], 0xFFFF

        ; Each instruction with IOPL 0 and 3, UMIP, TSD and PCE clear and set, in rings 0 and 3.
        xor     ebp, ebp                ; 1 UMIP, TSD; 2 IOPL 3; 4 PCE
.combo: mov     eax, cr4
        and     eax, ~(UMIP | TSD | PCE)
        test    ebp, 1
        jz      .no_umip
        or      eax, TSD
        cmp     dword [has_umip], 0
        je      .no_umip
        or      eax, UMIP
.no_umip: test  ebp, 4
        jz      .no_pce
        or      eax, PCE
.no_pce: mov    cr4, eax
        mov     edi, instructions
.each:  mov     ebx, [edi]
        test    ebx, ebx
        jz      .next_combo
        mov     esi, 2
        test    ebp, 2
        jz      .iopl0
        mov     esi, 0x3002
.iopl0: try     .seen
        ring3   ebx, esi
.seen:  mov     dword [t_resume], 0
        mov     edx, 3
        mov     ecx, [edi + 4]          ; the combinations in which it faults
        bt      ecx, ebp
        jnc     .judge
        mov     edx, 13
        cmp     dword [has_umip], 1
        je      .judge
        test    ecx, 1 << 31            ; a matter of UMIP, which there is not
        jz      .judge
        mov     edx, 3
.judge: inc     dword [checks]
        cmp     edx, [t_vector]
        jne     .bad
        cmp     edx, 13
        jne     .good
        cmp     dword [t_error], 0
        jne     .bad
        cmp     [t_eip], ebx
        je      .good
.bad:   inc     dword [differences]
        push    edx
        mov     eax, edi
        sub     eax, instructions
        shr     eax, 3
        mov     [seen], eax
        text    esi, "combination, instruction, vector, wanted: "
        call    print_32
        show    ebp
        show    [seen]
        show    [t_vector]
        pop     edx
        call    hex_32
        mov     al, 10
        out     0xE9, al
.good:  add     edi, 8
        jmp     .each
.next_combo:
        inc     ebp
        cmp     ebp, 8
        jb      .combo
        expect  dword [checks], 8 * INSTRUCTIONS, "instructions tried in ring 3"
        expect  dword [differences], 0, "that differ from the rule"
        mov     eax, cr4
        and     eax, ~(TSD | PCE)
        mov     cr4, eax
        sldt    eax
        str     eax
        smsw    eax
        sgdt    [seen]
        expect  eax, eax, "UMIP leaves ring 0 alone"

        ; Alignment checks: width 1, 2, 4, 8 x offset 0-7 x read, write x AM x AC x ring.
        mov     dword [checks], 0
        mov     dword [differences], 0
        xor     ebp, ebp                ; 1 AM, 2 AC, 4 ring 3
.ac:    mov     eax, cr0
        and     eax, ~AM
        test    ebp, 1
        jz      .no_am
        or      eax, AM
.no_am: mov     cr0, eax
        xor     edi, edi                ; access
.access: xor    ebx, ebx                ; offset
.offset: mov    [offset], ebx
        mov     esi, 2
        test    ebp, 2
        jz      .no_ac
        or      esi, AC
.no_ac: mov     ecx, [accesses + edi * 4]
        lea     edx, [0x50000 + ebx]
        try     .ac_seen
        test    ebp, 4
        jz      .ring0
        ring3   ecx, esi
.ring0: push    esi
        popfd
        jmp     ecx
.ac_seen:
        mov     dword [t_resume], 0
        push    dword 2
        popfd
        mov     edx, 3
        cmp     ebp, 7
        jne     .ac_judge
        mov     ecx, edi
        and     ecx, 3
        mov     eax, 1
        shl     eax, cl
        dec     eax
        mov     edx, 3
        test    [offset], eax
        jz      .ac_judge
        mov     edx, 17
.ac_judge:
        inc     dword [checks]
        cmp     edx, [t_vector]
        jne     .ac_bad
        cmp     edx, 17
        jne     .ac_good
        cmp     dword [t_error], 0
        je      .ac_good
.ac_bad: inc    dword [differences]
.ac_good:
        inc     ebx
        cmp     ebx, 8
        jb      .offset
        inc     edi
        cmp     edi, 8
        jb      .access
        inc     ebp
        cmp     ebp, 8
        jb      .ac
        expect  dword [checks], 8 * 8 * 8, "accesses with and without alignment checks"
        expect  dword [differences], 0, "that differ from the rule"
        mov     eax, cr0
        or      eax, AM
        mov     cr0, eax
        mov     esi, 2 | AC
        try     .push
        mov     ecx, odd_push
        ring3   ecx, esi
.push:  caught  17, 0, "PUSH on an odd stack"
        try     .int
        mov     ecx, odd_int
        ring3   ecx, esi
.int:   caught  3, 0, "INT3 pushes on ring 0's stack: no check"
        try     .seg
        mov     ecx, odd_far
        ring3   ecx, esi
.seg:   caught  17, 0, "LES from an odd place"
        mov     eax, cr0
        and     eax, ~AM
        mov     cr0, eax

        ; SYSENTER, SYSEXIT.
        spare   0, 0, 0xFFFFF, 0x9A, 12
        spare   1, 0, 0xFFFFF, 0x92, 12
        spare   2, 0, 0xFFFFF, 0xFA, 12
        spare   3, 0, 0xFFFFF, 0xF2, 12
        mov     ecx, 0x174
        mov     eax, 3
        xor     edx, edx
        wrmsr
        try     .se
        sysenter
.se:    caught  13, 0, "SYSENTER with a null CS"
        mov     ecx, 0x174
        mov     eax, SYS_CS
        xor     edx, edx
        wrmsr
        inc     ecx
        mov     eax, KSTACK - 0x200
        wrmsr
        inc     ecx
        mov     eax, entered
        wrmsr
        try     .sx
        mov     ecx, do_sysexit
        mov     esi, 2
        ring3   ecx, esi
.sx:    caught  13, 0, "SYSEXIT in ring 3"
        mov     [saved_esp], esp
        mov     ecx, USTACK
        mov     edx, ring3_sysenter
        sysexit
back:   expect  dword [seen], SYS_CS + 16 | 3, "SYSEXIT: CS + 16"
        expect  dword [seen + 4], SYS_CS + 24 | 3, "SS + 24"
        expect  dword [seen + 8], SYS_CS, "SYSENTER: CS"
        expect  dword [seen + 12], SYS_CS + 8, "SS"
        expect  dword [seen + 16], KSTACK - 0x200, "ESP"
        mov     eax, [seen + 20]
        and     eax, IF | VM
        expect  eax, 0, "IF is clear"
        done

ring3_sysenter:
        mov     ax, USER_DATA
        mov     ds, ax
        mov     eax, cs
        mov     [seen], eax
        mov     eax, ss
        mov     [seen + 4], eax
        sysenter
entered: mov    eax, cs
        mov     [seen + 8], eax
        mov     eax, ss
        mov     [seen + 12], eax
        mov     [seen + 16], esp
        pushfd
        pop     dword [seen + 20]
        mov     eax, DATA32
        mov     ds, eax
        mov     es, eax
        mov     ss, eax
        mov     esp, [saved_esp]
        jmp     back
do_sysexit: sysexit
odd_push: dec   esp
        push    eax
        int3
odd_int: dec    esp
        int3
odd_far: les    eax, [0x50001]
        int3

%macro instruction 1+
        %1
        int3
%endmacro
i_0:    instruction hlt
i_1:    instruction clts
i_2:    instruction mov eax, cr0
i_3:    instruction mov cr3, eax
i_4:    instruction mov eax, dr0
i_5:    instruction lgdt [seen]
i_6:    instruction lidt [seen]
i_7:    instruction lldt ax
i_8:    instruction ltr ax
i_9:    instruction lmsw ax
i_10:   instruction invd
i_11:   instruction wbinvd
i_12:   instruction invlpg [seen]
i_13:   instruction rdmsr
i_14:   instruction wrmsr
i_15:   instruction cli
i_16:   instruction sti
i_17:   instruction in al, 0x80
i_18:   instruction out 0x80, al
i_19:   instruction smsw eax
i_20:   instruction sldt eax
i_21:   instruction str eax
i_22:   instruction sgdt [seen + 8]
i_23:   instruction sidt [seen + 8]
i_24:   instruction rdtsc
i_25:   instruction pushfd
        instruction popfd
i_26:   instruction cpuid
i_27:   instruction mov eax, cr4
i_28:   instruction in eax, dx
i_29:   instruction smsw [seen + 8]
        align   4, db 0
ALL     equ 0xFF
ODD     equ 0xAA                        ; with TSD
UMIPPED equ 0xAA | 1 << 31
IOPL0   equ 0x33
instructions:
        dd      i_0, ALL, i_1, ALL, i_2, ALL, i_3, ALL, i_4, ALL, i_5, ALL, i_6, ALL, i_7, ALL
        dd      i_8, ALL, i_9, ALL, i_10, ALL, i_11, ALL, i_12, ALL, i_13, ALL, i_14, ALL
        dd      i_15, IOPL0, i_16, IOPL0, i_17, IOPL0, i_18, IOPL0
        dd      i_19, UMIPPED, i_20, UMIPPED, i_21, UMIPPED, i_22, UMIPPED, i_23, UMIPPED
        dd      i_24, ODD, i_26, 0, i_27, ALL, i_28, IOPL0, i_29, UMIPPED
INSTRUCTIONS equ ($ - instructions) / 8
        dd      0
read8:  mov     al, [edx]
        int3
read16: mov     ax, [edx]
        int3
read32: mov     eax, [edx]
        int3
read64: fild    qword [edx]
        int3
write8: mov     [edx], al
        int3
write16: mov    [edx], ax
        int3
write32: mov    [edx], eax
        int3
write64: fistp  qword [edx]
        int3
        align   4, db 0
accesses: dd    read8, read16, read32, read64, write8, write16, write32, write64
offset: dd      0
saved_esp: dd   0
has_umip: dd    0
checks: dd      0
differences: dd 0
seen:   times   8 dd 0
rom_end
