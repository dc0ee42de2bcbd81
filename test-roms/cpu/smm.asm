; smm.asm - system management mode: the SMI by the APM control port, the state on entry, both state
; save maps, RSM, SMBASE moved to A0000h, and the memory there that nobody else sees. From 32-bit
; and from 64-bit code. Intel SDM vol. 3C §32.2-32.5, §32.11; 82371AB §7.1.10, §7.2; 82441FX §3.2.19.
;
; A BIOS may have moved SMBASE to A0000h before: the handler is put at both places.

%include "rom.inc"
start:  title   "system management mode"
        jmp     enter_pm
%include "pm.inc"
%include "long.inc"
bits 32

BRIDGE  equ 0x80000000                  ; configuration space of the host bridge
POWER   equ 0x80000B00                  ; and of the power function
SMRAM   equ BRIDGE | 0x70               ; in its third byte
OPENED  equ 0x4A
CLOSED  equ 0x0A
CLOSED_TO_DATA equ 0x2A
LOCKED  equ 0x1A

INFO    equ 0x40000                     ; what the handler saw
struc info
.count: resd    1
.command: resd  1
.cs:    resd    1
.ip:    resd    1
.cr0:   resd    1
.cr4:   resd    1
.eflags: resd   1
.dr7:   resd    1
.ss:    resd    1
.ds:    resd    1
.far:   resd    1
.revision: resd 1
.base:  resd    1
.eip:   resd    1
.map_cr0: resd  1
.efer:  resd    1
.own:   resd    1
endstruc
%define seen(field) dword [INFO + info. %+ field]

%macro smram 1
        mov     eax, SMRAM
        mov     ebx, %1
        call    configure
%endmacro
%macro smi 1
        mov     al, %1
        call    raise
%endmacro

; The byte BL goes to the third byte of register EAX of a configuration space.
configure:
        mov     dx, 0xCF8
        out     dx, eax
        mov     dx, 0xCFE
        mov     al, bl
        out     dx, al
        in      al, dx
        movzx   eax, al
        ret

; Writes AL to the APM control port, and waits for the handler.
raise:  mov     edx, seen(count)
        mov     ecx, 1000000
        out     0xB2, al
.wait:  cmp     seen(count), edx
        jne     .came
        loop    .wait
.came:  ret

install:                                ; the handler, at ESI + 8000h
        lea     edi, [esi + 0x8000]
        mov     esi, handler
        mov     ecx, handler_end - handler
        rep     movsb
        ret

main:   try     .no_rsm
        rsm
.no_rsm:
        caught  6, 0, "RSM outside of the mode"

        mov     edi, INFO
        mov     ecx, 0x1000 / 4
        xor     eax, eax
        rep     stosd
        mov     dword [0x200000], 0x12345678
        mov     esi, 0x30000
        call    install
        smram   OPENED
        mov     esi, 0xA0000
        call    install
        smram   CLOSED
        mov     eax, POWER | 0x58       ; DEVACTB.APMC_EN
        mov     dx, 0xCF8
        out     dx, eax
        mov     dx, 0xCFC
        in      eax, dx
        or      eax, 1 << 25
        out     dx, eax
        mov     eax, POWER | 0x40       ; GLBCTL.SMI_EN
        mov     dx, 0xCF8
        out     dx, eax
        mov     dx, 0xCFC
        in      eax, dx
        and     eax, 0xFFC0
        lea     edx, [eax + 0x28]
        in      eax, dx
        or      al, 1
        out     dx, eax

        mov     dword [t_got], 0
        mov     eax, cr4
        or      eax, 1 << 9             ; OSFXSR, so that CR4 is not 0
        mov     cr4, eax
        smi     1
        expect  seen(count), 1, "an SMI comes of a write to the APM control port"
        expect  seen(command), 1, "the handler reads it"
        mov     eax, seen(base)
        shr     eax, 4
        expect  seen(cs), eax, "CS is SMBASE / 16"
        expect  seen(ip), 0x8000, "IP"
        mov     eax, seen(cr0)
        and     eax, 0x8000000D
        expect  eax, 0, "CR0: PE, EM, TS and PG are clear"
        expect  seen(cr4), 0, "CR4"
        mov     eax, seen(eflags)
        and     eax, 0x3F7FD7 & ~ARITH
        expect  eax, 2, "EFLAGS"
        expect  seen(dr7), 0x400, "DR7"
        expect  seen(ss), 0, "SS"
        expect  seen(ds), 0, "DS"
        expect  seen(far), 0x12345678, "DS reaches beyond 64 KiB and 1 MiB"
        mov     eax, seen(revision)
        and     eax, 0x20000
        expect  eax, 0x20000, "the revision says that SMBASE can be moved"
        mov     eax, seen(eip)
        sub     eax, raise
        cmp     eax, raise.came - raise
        sbb     eax, eax
        expect  eax, -1, "the saved EIP"
        mov     eax, cr0
        expect  seen(map_cr0), eax, "the saved CR0"
        mov     eax, cr4
        and     eax, 1 << 9
        expect  eax, 1 << 9, "RSM: CR4 is as before"
        mov     eax, cs
        expect  eax, CODE32, "RSM: CS"

        mov     [.esp], esp             ; every register comes back
        mov     eax, 0x11111101
        mov     ebx, 0x22222222
        mov     ecx, 0x33333333
        mov     edx, 0x44444444
        mov     esi, 0x55555555
        mov     edi, 0x66666666
        mov     ebp, 0x77777777
        stc
        out     0xB2, al
        call    settle
        pushfd
        expect  eax, 0x11111101, "RSM: EAX"
        expect  ebx, 0x22222222, "RSM: EBX"
        expect  ecx, 0x33333333, "RSM: ECX"
        expect  edx, 0x44444444, "RSM: EDX"
        expect  esi, 0x55555555, "RSM: ESI"
        expect  edi, 0x66666666, "RSM: EDI"
        expect  ebp, 0x77777777, "RSM: EBP"
        pop     eax
        and     eax, 1
        expect  eax, 1, "RSM: CF"
        mov     eax, esp
        expect  eax, [.esp], "RSM: ESP"
        expect  seen(count), 2, "that was one SMI"

        mov     al, 2                   ; the handler changes EAX in the map
        out     0xB2, al
        call    settle
        expect  eax, 0xCAFEBABE, "RSM loads what the handler wrote into the map"

        smi     3                       ; it moves SMBASE
        smi     1
        expect  seen(base), 0xA0000, "SMBASE is at A0000"
        expect  seen(cs), 0xA000, "and so is CS"
        expect  seen(ip), 0x8000, "IP"

        mov     ebx, seen(own)          ; what the handler counts in its own memory
        smi     1
        inc     ebx
        expect  seen(own), ebx, "the handler's own memory keeps its content"
        mov     dword [0xA9000], 0x13131313
        smi     1
        inc     ebx
        expect  seen(own), ebx, "writes from outside do not reach it"
        xor     eax, eax
        cmp     [0xA9000], ebx
        setne   al
        expect  eax, 1, "reads neither"
        push    ebx
        smram   OPENED
        pop     ebx
        expect  dword [0xA9000], ebx, "open, it is seen from outside"
        mov     dword [0xA9000], 0x1000
        smram   CLOSED
        smi     1
        expect  seen(own), 0x1001, "and written"

        smram   OPENED
        mov     byte [0xAA000], 0xB8    ; code there: MOV EAX, 5; RET
        mov     dword [0xAA001], 5
        mov     byte [0xAA005], 0xC3
        mov     ebp, 0xAA000
        call    ebp
        expect  eax, 5, "code runs there, open"
        mov     dword [0xAA001], 6
        call    ebp
        expect  eax, 6, "and is changed"
        smram   CLOSED
%ifdef WITHOUT_LONG_MODE
        mov     eax, seen(revision)
        and     eax, 0xFFFF
        expect  eax, 0, "the revision is that of the 32-bit map"
        done
%endif

        call    long_start
bits 64
        mov     rax, 0x1234567800000001 ; from 64-bit code
        mov     rbx, 0x2222222222222222
        mov     rbp, 0x7777777777777777
        mov     r8,  0x8888888888888888
        mov     r15, 0xFFFFFFFFFFFFFFF0
        mov     [.rsp], rsp
        out     0xB2, al
        call    settle_64
        mov     rcx, 0x1234567800000001
        expect  rax, rcx, "RSM to 64-bit mode: RAX"
        mov     rcx, 0x2222222222222222
        expect  rbx, rcx, "RBX"
        mov     rcx, 0x7777777777777777
        expect  rbp, rcx, "RBP"
        mov     rcx, 0x8888888888888888
        expect  r8, rcx, "R8"
        expect  r15, -16, "R15"
        mov     rcx, rsp
        expect  rcx, [.rsp], "RSP"
        mov     eax, seen(revision)
        and     eax, 0xFFFF
        expect  rax, 0x64, "the revision is that of the 64-bit map"
        mov     eax, seen(map_cr0)
        and     eax, 0x80000001
        mov     ebx, 0x80000001
        expect  rax, rbx, "the saved CR0 has PE and PG"
        mov     eax, seen(efer)
        and     eax, 0x500
        expect  rax, 0x500, "the saved EFER has LME and LMA"
        mov     eax, seen(cr0)
        and     eax, 0x80000001
        expect  rax, 0, "the handler ran without them"
        mov     ecx, EFER
        rdmsr
        and     eax, 0x500
        expect  rax, 0x500, "EFER is as before"
        try64   .no_rsm_64
        rsm
.no_rsm_64:
        caught64 6, 0, "RSM outside of the mode, 64-bit"

        ; The rest of the bridge's register.
        mov     r14d, seen(own)
        mov     al, 4
        out     0xB2, al
        call    settle_64
        inc     r14d
        cmp     seen(own), r14d
        setne   al
        movzx   eax, al
        expect  rax, 1, "D_CLS: data accesses of the handler go elsewhere"
        mov     al, 1
        out     0xB2, al
        call    settle_64
        inc     r14d
        mov     eax, seen(own)
        expect  rax, r14, "until it is clear again"
        mov     bl, LOCKED
        call    configure_64
        mov     bl, OPENED
        call    configure_64
        expect  rax, LOCKED, "D_LCK: the register keeps its value"
        done

bits 32
        align   8, db 0
.esp:   dd      0
        dd      0
.rsp:   dq      0

; Some instructions, for a processor that takes the SMI a little later. Keeps everything.
settle:
        pushfd
        push    ecx
        mov     ecx, 1000
        loop    $
        pop     ecx
        popfd
        ret
bits 64
settle_64:
        pushfq
        push    rcx
        mov     ecx, 1000
        loop    $
        pop     rcx
        popfq
        ret
configure_64:
        mov     eax, SMRAM
        mov     dx, 0xCF8
        out     dx, eax
        mov     dx, 0xCFE
        mov     al, bl
        out     dx, al
        in      al, dx
        movzx   eax, al
        ret

bits 16
; Runs at CS:8000 in the mode. The map's last word is at CS:FFFF.
handler:
        mov     eax, esp
        mov     esp, INFO + 0x1000
        pushfd
        pop     dword [dword INFO + info.eflags]
        call    .here
.here:  pop     ax
        sub     ax, .here - handler
        movzx   eax, ax
        mov     [dword INFO + info.ip], eax
        in      al, 0xB2
        movzx   ebx, al
        mov     [dword INFO + info.command], ebx
        mov     eax, cs
        movzx   eax, ax
        mov     [dword INFO + info.cs], eax
        mov     eax, cr0
        mov     [dword INFO + info.cr0], eax
        mov     eax, cr4
        mov     [dword INFO + info.cr4], eax
        mov     eax, dr7
        mov     [dword INFO + info.dr7], eax
        mov     eax, ss
        movzx   eax, ax
        mov     [dword INFO + info.ss], eax
        mov     eax, ds
        movzx   eax, ax
        mov     [dword INFO + info.ds], eax
        mov     eax, [dword 0x200000]
        mov     [dword INFO + info.far], eax
        mov     eax, [cs:0xFEFC]
        mov     [dword INFO + info.revision], eax
        inc     dword [cs:0x9000]
        cmp     bl, 4
        jne     .not_4
        mov     eax, SMRAM
        mov     dx, 0xCF8
        out     dx, eax
        mov     dx, 0xCFE
        mov     al, CLOSED_TO_DATA
        out     dx, al
.not_4: mov     ecx, [cs:0x9000]
        mov     [dword INFO + info.own], ecx
        cmp     bl, 4
        jne     .own
        mov     al, CLOSED
        out     dx, al
.own:   mov     eax, [dword INFO + info.revision]
        cmp     ax, 0x64
        je      .wide

        mov     eax, [cs:0xFEF8]
        mov     [dword INFO + info.base], eax
        mov     eax, [cs:0xFFF0]
        mov     [dword INFO + info.eip], eax
        mov     eax, [cs:0xFFFC]
        mov     [dword INFO + info.map_cr0], eax
        cmp     bl, 2
        jne     .not_2
        mov     dword [cs:0xFFD0], 0xCAFEBABE
.not_2: cmp     bl, 3
        jne     .out
        mov     dword [cs:0xFEF8], 0xA0000
        jmp     .out

.wide:  mov     eax, [cs:0xFF00]
        mov     [dword INFO + info.base], eax
        mov     eax, [cs:0xFF78]
        mov     [dword INFO + info.eip], eax
        mov     eax, [cs:0xFF58]
        mov     [dword INFO + info.map_cr0], eax
        mov     eax, [cs:0xFED0]
        mov     [dword INFO + info.efer], eax
        cmp     bl, 2
        jne     .wide_not_2
        mov     dword [cs:0xFFF8], 0xCAFEBABE
.wide_not_2:
        cmp     bl, 3
        jne     .out
        mov     dword [cs:0xFF00], 0xA0000

.out:   inc     dword [dword INFO + info.count]
        mov     eax, 0xDEAD0000         ; nothing of this is to be seen afterwards
        mov     ebx, eax
        mov     ecx, eax
        mov     edx, eax
        mov     esi, eax
        mov     edi, eax
        mov     ebp, eax
        mov     ds, ax
        mov     es, ax
        rsm
handler_end:
rom_end
