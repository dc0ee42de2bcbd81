; real-mode.asm - arithmetic, flags, shifts, strings and BCD in 16-bit real mode.
; Intel SDM vol. 2, each instruction's "Flags Affected". Undefined flags are not looked at.

%include "rom.inc"

; alu AX BEFORE, INSTRUCTION, WANTED AX, MASK, WANTED FLAGS, "what"
%macro alu 6
        mov     eax, %1
        %2
        pushfd
        expect  eax, %3, %6
        popfd
        expect_flags %4, %5, {%6, ": flags"}
%endmacro

start:  title   "real mode: ALU, flags, strings, BCD"
        alu     0x7F, {add al, 1}, 0x80, ARITH, SF | OF | AF, "ADD 7F + 1"
        alu     0xFF, {add al, 1}, 0x00, ARITH, ZF | CF | AF | PF, "ADD FF + 1"
        alu     0xFFFF, {add ax, 0xFFFF}, 0xFFFE, ARITH, SF | CF | AF, "ADD FFFF + FFFF"
        alu     0x7FFFFFFF, {add eax, 1}, 0x80000000, ARITH, SF | OF | AF | PF, "ADD 32 bit"
        alu     0x00, {sub al, 1}, 0xFF, ARITH, SF | CF | AF | PF, "SUB 0 - 1"
        alu     0x80, {sub al, 1}, 0x7F, ARITH, OF | AF, "SUB 80 - 1"
        alu     5, {cmp al, 5}, 5, ARITH, ZF | PF, "CMP equal"
        stc
        alu     0xFF, {adc al, 0}, 0x00, ARITH, ZF | CF | AF | PF, "ADC with carry in"
        stc
        alu     0, {sbb ax, 0}, 0xFFFF, ARITH, SF | CF | AF | PF, "SBB with borrow in"
        stc
        alu     0xFFFF, {inc ax}, 0x0000, ARITH, ZF | PF | AF | CF, "INC keeps CF"
        clc
        alu     0x8000, {dec ax}, 0x7FFF, ARITH, OF | AF | PF, "DEC keeps CF"
        alu     0x80, {neg al}, 0x80, ARITH, SF | OF | CF, "NEG 80"
        alu     0, {neg al}, 0, CF | ZF, ZF, "NEG 0 clears CF"
        alu     0xF0, {and al, 0x0F}, 0, CF | ZF | SF | PF | OF, ZF | PF, "AND"
        alu     0xF0, {xor al, 0x0F}, 0xFF, CF | ZF | SF | PF | OF, SF | PF, "XOR"
        alu     0x0F, {test al, 0xF0}, 0x0F, CF | ZF | SF | PF | OF, ZF | PF, "TEST"

        ; Shifts: the count is taken modulo 32, and a count of 0 leaves all flags.
        alu     0x81, {shl al, 1}, 0x02, CF | ZF | SF | OF, CF | OF, "SHL 1"
        alu     0x81, {shr al, 1}, 0x40, CF | ZF | SF | OF, CF | OF, "SHR 1"
        alu     0x81, {sar al, 1}, 0xC0, CF | ZF | SF | OF, CF | SF, "SAR 1"
        stc
        mov     cl, 32
        alu     0x1234, {shl ax, cl}, 0x1234, CF, CF, "SHL by 32 is by 0"
        mov     cl, 17
        alu     0x8001, {shl eax, cl}, 0x20000, CF, CF, "SHL 32 by 17"
        mov     cl, 9
        alu     0x80, {rol al, cl}, 0x01, CF, CF, "ROL 8 by 9"
        mov     cl, 9
        stc
        alu     0x55, {rcl al, cl}, 0x55, CF, CF, "RCL 8 by 9 is the identity"
        stc
        alu     0x01, {rcr al, 1}, 0x80, CF, CF, "RCR 1"
        mov     cx, 0xABCD
        alu     0x1234, {shld ax, cx, 4}, 0x234A, CF, CF, "SHLD"
        mov     cx, 0xABCD
        alu     0x1234, {shrd ax, cx, 4}, 0xD123, CF, 0, "SHRD"

        mov     bl, 0x80
        alu     0x80, {imul bl}, 0x4000, CF | OF, CF | OF, "IMUL 8"
        mov     bl, 2
        alu     0x3F, {mul bl}, 0x7E, CF | OF, 0, "MUL 8 fits"
        alu     0x7FFF, {imul ax, ax, 2}, 0xFFFE, CF | OF, CF | OF, "IMUL 16 overflows"
        mov     dx, 1
        mov     bx, 0x100
        mov     eax, 0x0023
        div     bx
        expect  eax, 0x100, "DIV quotient"
        movzx   edx, dx
        expect  edx, 0x23, "DIV remainder"
        mov     dx, -1
        mov     eax, 0xFFF9
        mov     bx, 2
        idiv    bx
        expect  eax, 0xFFFD, "IDIV rounds toward zero"
        movzx   edx, dx
        expect  edx, 0xFFFF, "IDIV remainder has the dividend's sign"
        mov     eax, 0xFF80
        cbw
        expect  eax, 0xFF80, "CBW"
        mov     ax, 0x8000
        cwde
        expect  eax, 0xFFFF8000, "CWDE"
        bsf     ecx, eax
        expect  ecx, 15, "BSF"
        bsr     ecx, eax
        expect  ecx, 31, "BSR"
        mov     dword [scratch], 0
        mov     dword [scratch + 4], 0
        mov     eax, 35
        bts     [scratch], eax
        expect  dword [scratch + 4], 8, "BTS with a bit offset beyond the operand"
        mov     eax, 0x11223344
        xchg    al, ah
        expect  eax, 0x11224433, "XCHG AL, AH"
        mov     eax, 0xAA55
        mov     bx, table
        mov     al, 3
        xlatb
        expect  eax, 0xAA33, "XLAT"

        ; BCD.
        alu     0x79, {add al, 0x35}, 0xAE, CF, 0, "before DAA"
        alu     0xAE, {daa}, 0x14, CF, CF, "DAA AE"
        mov     al, 0x15
        mov     eax, 0x15
        add     al, 0x27
        daa
        expect  eax, 0x42, "15 + 27 = 42 in BCD"
        mov     eax, 0x42
        sub     al, 0x15
        das
        expect  eax, 0x27, "42 - 15 = 27 in BCD"
        mov     eax, 0x0009
        add     al, 8
        aaa
        expect  eax, 0x0107, "AAA"
        mov     eax, 0x0103
        sub     al, 8
        aas
        expect  eax, 0x0005, "AAS"
        mov     eax, 63
        aam
        expect  eax, 0x0603, "AAM"
        aad
        expect  eax, 63, "AAD"
        db      0xD4, 16                ; AAM with another base
        expect  eax, 0x030F, "AAM 16"
        clc
        db      0xD6                    ; SALC, never documented, always there
        and     eax, 0xFF
        expect  eax, 0, "SALC"

        ; Strings.
        mov     esi, pattern
        mov     edi, scratch
        mov     ecx, 5
        rep     movsb
        expect  dword [scratch], 'Glas', "REP MOVSB"
        expect  ecx, 0, "REP leaves CX = 0"
        movzx   eax, di
        sub     eax, scratch
        expect  eax, 5, "DI moved on"
        std
        mov     esi, pattern + 3
        mov     edi, scratch + 7
        mov     cx, 2
        rep     movsw                   ; the words at +3 and +1, downwards
        cld
        expect  dword [scratch + 5], 'lass', "REP MOVSW down"
        mov     edi, pattern
        mov     al, 's'
        mov     ecx, 8
        repne   scasb
        expect  ecx, 4, "REPNE SCASB stops behind the match"
        mov     esi, pattern
        mov     edi, pattern2
        mov     ecx, 8
        repe    cmpsb
        expect  ecx, 2, "REPE CMPSB stops behind the difference"
        expect_flags ZF | CF, CF, "and has its flags"
        mov     ecx, 0
        mov     edi, scratch
        xor     eax, eax
        cmp     al, 0
        repne   scasb
        expect_flags ZF, ZF, "REPNE with CX = 0 leaves the flags"
        mov     esi, pattern
        lodsw
        movzx   eax, ax
        expect  eax, 'Gl', "LODSW"
        mov     di, 0xFFFF              ; a word at FFFF would straddle; bytes wrap
        push    es
        mov     ax, 0x2000
        mov     es, ax
        mov     byte [es:0], 0
        mov     ax, 0x5AA5
        stosb
        stosb
        cmp     byte [es:0], 0xA5
        sete    al
        movzx   eax, al
        pop     es
        expect  eax, 1, "STOSB wraps at 64 KiB"
        movzx   eax, di
        expect  eax, 1, "and so does DI"

        ; Control flow and stack.
        mov     ecx, 5
        xor     eax, eax
.loop:  inc     eax
        loop    .loop
        expect  eax, 5, "LOOP"
        xor     cx, cx
        mov     eax, 1
        jcxz    .taken
        mov     eax, 0
.taken: expect  eax, 1, "JCXZ"
        mov     eax, esp
        push    sp
        pop     bx
        movzx   ebx, bx
        expect  ebx, eax, "PUSH SP stores the old SP (286 and later)"
        mov     bp, 0x1111
        mov     ax, sp
        enter   4, 0
        sub     ax, sp
        movzx   eax, ax
        leave
        expect  eax, 6, "ENTER 4, 0"
        call    far [pointer]
        expect  eax, 0x1234, "CALL FAR and RETF 4"
        movzx   eax, sp
        expect  eax, 0x7C00, "RETF 4 takes its arguments"
        mov     word [0x60 * 4], handler
        mov     word [0x60 * 4 + 2], 0
        stc
        int     0x60
        expect  eax, 0x4321, "INT and IRET"
        expect_flags CF, CF, "IRET restores the flags"
        mov     word [0 * 4], divide
        mov     word [0 * 4 + 2], 0
        xor     cx, cx
        xor     dx, dx
        mov     ax, 1
fault:  div     cx
        expect  eax, fault, "#DE pushes the address of the DIV"
        mov     word [6 * 4], undefined
        mov     word [6 * 4 + 2], 0
        xor     eax, eax
        ud2
        expect  eax, 6, "#UD through vector 6"
        mov     word [5 * 4], bounds
        mov     word [5 * 4 + 2], 0
        mov     ax, 9
        bound   ax, [limits]
        mov     eax, 0
        mov     ax, 10
        bound   ax, [limits]
        expect  eax, 5, "BOUND raises #BR outside"
        done

handler:
        mov     eax, 0x4321
        clc
        iret
divide: mov     bp, sp
        movzx   eax, word [bp]
        add     word [bp], 2
        iret
undefined:
        mov     eax, 6
        mov     bp, sp
        add     word [bp], 2
        iret
bounds: mov     eax, 5
        mov     bp, sp
        add     word [bp], 4            ; BOUND AX, [disp16]
        iret
far_routine:
        mov     eax, 0x1234
        sub     sp, 4                   ; so that RETF 4 has something to drop
        mov     bp, sp
        mov     ebx, [bp + 4]
        mov     [bp], ebx
        retf    4
pointer: dw     far_routine, 0
limits: dw      0, 9
table:  db      0x00, 0x11, 0x22, 0x33
pattern: db     "Glassbox"
pattern2: db    "Glassfox"
scratch: times 16 db 0
rom_end
