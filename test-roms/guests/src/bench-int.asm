; bench-int: a fixed amount of integer work, as a static Linux program.
;
;   nasm -f bin -DWIDTH=32 -o bench-int bench-int.asm      (i386)
;   nasm -f bin -DWIDTH=64 -o bench-int bench-int.asm      (amd64)
;
; `bench-int [ROUNDS]` (default 4) prints one line a part and a last line with the total:
;
;   bench-int: sieve 0001a2b3 123456 us
;   bench-int: total 89abcdef 1234567 us
;
; The first number is a checksum. All values are 32 bits wide whatever WIDTH is, so it depends on ROUNDS
; alone: any two machines that disagree on it disagree on an instruction. The time is CLOCK_MONOTONIC's,
; the guest's own idea of it; a comparison of emulators should time the lines from outside.
;
; One round is about 130 million instructions, a rep string instruction being counted as one an element.
; The instructions are those of an 80386; the program makes only write, clock_gettime and exit calls.

%ifndef WIDTH
  %error "define WIDTH as 32 or 64"
%endif
        bits WIDTH

; Addresses and pushes use rN, the machine's width; data use the e registers, 32 bits on both.
%if WIDTH = 64
  %define rA rax
  %define rB rbx
  %define rC rcx
  %define rD rdx
  %define rSI rsi
  %define rDI rdi
  %define rBP rbp
  %define rSP rsp
  %define ptr_bytes 8
  base_address equ 0x400000
%else
  %define rA eax
  %define rB ebx
  %define rC ecx
  %define rD edx
  %define rSI esi
  %define rDI edi
  %define rBP ebp
  %define rSP esp
  %define ptr_bytes 4
  base_address equ 0x08048000
%endif

sieve_bytes     equ 256 * 1024
buffer_bytes    equ 256 * 1024
sort_count      equ 32 * 1024

        org base_address

; ---------------------------------------------------------------------------------------------------------
; The ELF header and two program headers: the file is its own only segment, readable, writable, executable;
; the second says that the stack is not executable.

%if WIDTH = 64
elf_header:
        db 0x7F, "ELF", 2, 1, 1, 0
        times 8 db 0
        dw 2, 62                        ; ET_EXEC, EM_X86_64
        dd 1
        dq start
        dq program_header - base_address
        dq 0
        dd 0
        dw elf_header_end - elf_header, program_header_end - program_header, 2, 0, 0, 0
elf_header_end:
program_header:
        dd 1, 7                         ; PT_LOAD, RWX
        dq 0, base_address, base_address
        dq file_end - base_address, bss_end - base_address
        dq 0x1000
program_header_end:
        dd 0x6474E551, 6                ; PT_GNU_STACK, RW
        dq 0, 0, 0, 0, 0, 16
%else
elf_header:
        db 0x7F, "ELF", 1, 1, 1, 0
        times 8 db 0
        dw 2, 3                         ; ET_EXEC, EM_386
        dd 1
        dd start
        dd program_header - base_address
        dd 0
        dd 0
        dw elf_header_end - elf_header, program_header_end - program_header, 2, 0, 0, 0
elf_header_end:
program_header:
        dd 1, 0, base_address, base_address
        dd file_end - base_address, bss_end - base_address
        dd 7, 0x1000
program_header_end:
        dd 0x6474E551, 0, 0, 0, 0, 0    ; PT_GNU_STACK
        dd 6, 16                        ; RW
%endif

; ---------------------------------------------------------------------------------------------------------

start:
        mov eax, 4
        cmp dword [rSP], 2              ; argc
        jb .have_rounds
        mov rSI, [rSP + 2 * ptr_bytes]  ; argv[1]
        call parse_number
        test eax, eax
        jnz .have_rounds
        mov eax, 4
.have_rounds:
        mov [rounds], eax

        call now_us
        mov [begin_us], eax
        mov dword [total_sum], 0

        mov rBP, parts
.next_part:
        cmp dword [rBP + part.name_bytes], 0
        je .done
        call now_us
        mov [part_us], eax
        mov dword [sum], 0x811C9DC5     ; FNV-1a's offset basis
        mov eax, [rounds]
        mov [rounds_left], eax
.again:
        push rBP
%if WIDTH = 64
        call [rbp + part.code]
%else
        call [ebp + part.code]
%endif
        pop rBP
        call mix
        dec dword [rounds_left]
        jnz .again

        call now_us
        sub eax, [part_us]
        mov edx, [sum]
        lea rSI, [rBP + part.name]
        mov ecx, [rBP + part.name_bytes]
        call report
        mov eax, [sum]
        xor eax, [total_sum]
        rol eax, 5
        mov [total_sum], eax
        add rBP, part_size
        jmp .next_part
.done:
        call now_us
        sub eax, [begin_us]
        mov edx, [total_sum]
        mov rSI, total_name
        mov ecx, total_name_end - total_name
        call report

%if WIDTH = 64
        mov eax, 60
        xor edi, edi
        syscall
%else
        mov eax, 1
        xor ebx, ebx
        int 0x80
%endif

; Folds EAX, a part's result, into its checksum (FNV-1a, a dword at a time).
mix:
        xor eax, [sum]
        imul eax, eax, 0x01000193
        mov [sum], eax
        ret

; ---------------------------------------------------------------------------------------------------------
; The parts. Each returns its result in EAX and may change every other register.

; Sieve of Eratosthenes: byte stores at growing strides, short loops. Returns the number of primes.
part_sieve:
        mov dword [repeat], 8
.repeat:
        mov rDI, buffer
        mov eax, 0x01010101
        mov ecx, sieve_bytes / 4
        cld
        rep stosd
        mov rSI, buffer
        mov ecx, 2
.candidate:
        cmp byte [rSI + rC], 0
        je .next
        mov eax, ecx
        mul ecx
        cmp eax, sieve_bytes
        jae .next
.strike:
        mov byte [rSI + rA], 0
        add eax, ecx
        cmp eax, sieve_bytes
        jb .strike
.next:
        inc ecx
        cmp ecx, 512                    ; the square root of sieve_bytes
        jb .candidate

        xor eax, eax
        mov ecx, 2
.count:
        movzx edx, byte [rSI + rC]
        add eax, edx
        inc ecx
        cmp ecx, sieve_bytes
        jb .count
        dec dword [repeat]
        jnz .repeat
        ret

; CRC-32 by table over pseudo-random bytes: byte loads, shifts, dependent table look-ups.
part_crc:
        mov rDI, table
        xor ecx, ecx
.entry:
        mov eax, ecx
        mov edx, 8
.bit:
        shr eax, 1
        jnc .no_xor
        xor eax, 0xEDB88320
.no_xor:
        dec edx
        jnz .bit
        mov [rDI + rC * 4], eax
        inc ecx
        cmp ecx, 256
        jb .entry

        call fill_buffer
        mov rDI, table
        mov ebp, 7
        mov eax, ~0
.pass:
        mov rSI, buffer
        mov ecx, buffer_bytes
.byte:
        movzx edx, byte [rSI]
        xor dl, al
        shr eax, 8
        xor eax, [rDI + rD * 4]
        inc rSI
        dec ecx
        jnz .byte
        dec ebp
        jnz .pass
        not eax
        ret

; Shell sort of pseudo-random dwords: unpredictable branches, loads and stores. Returns a hash of the order.
part_sort:
        call fill_buffer
        mov rSI, buffer
        mov ebp, sort_count / 2         ; the gap
.gap:
        mov ecx, ebp
.insert:
        mov eax, [rSI + rC * 4]
        mov edi, ecx
.shift:
        mov edx, edi
        sub edx, ebp
        jb .place
        mov ebx, [rSI + rD * 4]
        cmp ebx, eax
        jbe .place
        mov [rSI + rDI * 4], ebx
        mov edi, edx
        jmp .shift
.place:
        mov [rSI + rDI * 4], eax
        inc ecx
        cmp ecx, sort_count
        jb .insert
        shr ebp, 1
        jnz .gap

        xor eax, eax
        xor ecx, ecx
.hash:
        rol eax, 7
        add eax, [rSI + rC * 4]
        inc ecx
        cmp ecx, sort_count
        jb .hash
        ret

; Copies by string instruction in each width and by a loop, forwards, then compares and scans.
part_copy:
        call fill_buffer
        mov dword [repeat], 12
        cld
.repeat:
        mov rSI, buffer
        mov rDI, second
        mov ecx, buffer_bytes / 4
        rep movsd
        mov rSI, second + 1   ; unaligned, overlapping itself by all but a byte
        mov rDI, second
        mov ecx, buffer_bytes - 1
        rep movsb
        mov rSI, second
        mov rDI, buffer
        mov ecx, buffer_bytes / 8
.pair:
        mov eax, [rSI]
        mov edx, [rSI + 4]
        mov [rDI], eax
        mov [rDI + 4], edx
        add rSI, 8
        add rDI, 8
        dec ecx
        jnz .pair
        mov rSI, buffer
        mov rDI, second
        mov ecx, buffer_bytes / 4
        repe cmpsd
        jne .differs
        dec dword [repeat]
        jnz .repeat

        mov rSI, buffer
        xor eax, eax
        mov ecx, buffer_bytes / 4
.hash:
        add eax, [rSI]
        rol eax, 3
        add rSI, 4
        dec ecx
        jnz .hash
        ret
.differs:
        xor eax, eax
        ret

; fib(27), the naive way: calls, returns, pushes, pops.
part_calls:
        mov eax, 27
.fib:
        cmp eax, 2
        jb .leaf
        push rA
        dec eax
        call .fib
        pop rD
        push rA
        lea eax, [rD - 2]
        call .fib
        pop rD
        add eax, edx
.leaf:
        ret

; Multiplies, divisions, carries, rotates, bit tests and flags turned into values.
part_arithmetic:
        mov ebx, 0x2545F491
        mov esi, 0x9E3779B9
        xor edi, edi
        mov ebp, 450000
.loop:
        mov eax, ebx                    ; xorshift32
        shl eax, 13
        xor ebx, eax
        mov eax, ebx
        shr eax, 17
        xor ebx, eax
        mov eax, ebx
        shl eax, 5
        xor ebx, eax

        mov eax, ebx
        mul esi                         ; 64-bit product, summed with carry
        add edi, eax
        adc esi, edx

        mov eax, esi
        xor edx, edx
        mov ecx, ebx
        or ecx, 1
        div ecx
        add edi, edx
        sbb edi, eax

        mov ecx, ebx
        shld edi, esi, 9
        ror edi, cl
        bt esi, ecx
        setc al
        movzx eax, al
        sub edi, eax
        bsr eax, ecx
        imul eax, eax, 0x55
        cmp eax, edi
        setg dl
        movsx edx, dl
        neg edx
        xor edi, edx
        xchg bl, bh
        dec ebp
        jnz .loop
        lea eax, [rSI + rDI]
        ret

; A toy bytecode interpreter: indirect jumps that only the bytecode predicts, and partial registers.
part_dispatch:
        mov rSI, bytecode
        mov rDI, handlers
        mov eax, 1
        xor ebx, ebx
        mov ecx, 330000                 ; rounds through the bytecode
.next:
        movzx edx, byte [rSI]
        inc rSI
        jmp [rDI + rD * ptr_bytes]
.op_add:
        add eax, ecx
        jmp .next
.op_xor:
        xor ebx, eax
        jmp .next
.op_rotate:
        rol eax, 3
        jmp .next
.op_swap:
        xchg eax, ebx
        jmp .next
.op_byte:
        add al, bl
        sub ah, bl
        jmp .next
.op_word:
        imul ax, bx, 77
        jmp .next
.op_skip:
        test bl, 4
        jz .next
        inc rSI
        jmp .next
.op_loop:
        mov rSI, bytecode
        dec ecx
        jnz .next
        xor eax, ebx
        ret

; Fills `buffer` with the same pseudo-random dwords each time (a linear congruential generator).
fill_buffer:
        mov rDI, buffer
        mov eax, 12345
        mov ecx, buffer_bytes / 4
.next:
        imul eax, eax, 1103515245
        add eax, 12345
        mov edx, eax
        shr edx, 16
        xor edx, eax
        mov [rDI], edx
        add rDI, 4
        dec ecx
        jnz .next
        ret

; ---------------------------------------------------------------------------------------------------------
; Support.

; The number at RSI, decimal, in EAX; 0 when there is none.
parse_number:
        xor eax, eax
.next:
        movzx edx, byte [rSI]
        sub edx, '0'
        cmp edx, 9
        ja .end
        imul eax, eax, 10
        add eax, edx
        inc rSI
        jmp .next
.end:
        ret

; Microseconds on CLOCK_MONOTONIC, modulo 2^32, in EAX. Keeps RBP.
now_us:
%if WIDTH = 64
        mov eax, 228                    ; clock_gettime
        mov edi, 1
        mov esi, timespec
        syscall
        imul ecx, [timespec], 1000000
        mov eax, [timespec + 8]
%else
        mov eax, 265                    ; clock_gettime
        mov ebx, 1
        mov ecx, timespec
        int 0x80
        imul ecx, [timespec], 1000000
        mov eax, [timespec + 4]
%endif
        xor edx, edx
        mov ebx, 1000
        div ebx
        add eax, ecx
        ret

; Writes "bench-int: NAME CHECKSUM TIME us": ECX bytes of name at RSI, EDX = checksum, EAX = microseconds.
report:
        push rBP
        push rA
        push rD
        push rC
        push rSI
        mov rDI, line
        mov rSI, prefix
        mov ecx, prefix_end - prefix
        cld
        rep movsb
        pop rSI
        pop rC
        rep movsb
        mov byte [rDI], ' '
        inc rDI
        pop rD
        mov ecx, 8
.hex:
        rol edx, 4
        mov eax, edx
        and eax, 15
        add al, '0'
        cmp al, '9'
        jbe .digit
        add al, 'a' - '9' - 1
.digit:
        stosb
        dec ecx
        jnz .hex
        mov byte [rDI], ' '
        inc rDI
        pop rA
        call write_decimal
        mov rSI, suffix
        mov ecx, suffix_end - suffix
        rep movsb
        mov rC, line
        mov edx, edi
        sub edx, ecx
%if WIDTH = 64
        mov rsi, rcx
        mov edi, 1
        mov eax, 1                      ; write
        syscall
%else
        mov ebx, 1
        mov eax, 4                      ; write
        int 0x80
%endif
        pop rBP
        ret

; Writes EAX in decimal at RDI, and moves RDI past it.
write_decimal:
        xor edx, edx
        mov ecx, 10
        div ecx
        push rD
        test eax, eax
        jz .last
        call write_decimal
.last:
        pop rA
        add al, '0'
        stosb
        ret

; ---------------------------------------------------------------------------------------------------------

struc part
  .code:        resb ptr_bytes
  .name_bytes:  resd 1
  .name:        resb 16
endstruc

%macro part_row 2
  %if WIDTH = 64
        dq %1
  %else
        dd %1
  %endif
  %strlen %%bytes %2
        dd %%bytes
  %%name:
        db %2
        times 16 - ($ - %%name) db 0
%endmacro

        align 8
parts:
        part_row part_sieve, "sieve"
        part_row part_crc, "crc"
        part_row part_sort, "sort"
        part_row part_copy, "copy"
        part_row part_calls, "calls"
        part_row part_arithmetic, "arithmetic"
        part_row part_dispatch, "dispatch"
        times part_size db 0

handlers:
%if WIDTH = 64
        dq part_dispatch.op_add, part_dispatch.op_xor, part_dispatch.op_rotate, part_dispatch.op_swap
        dq part_dispatch.op_byte, part_dispatch.op_word, part_dispatch.op_skip, part_dispatch.op_loop
%else
        dd part_dispatch.op_add, part_dispatch.op_xor, part_dispatch.op_rotate, part_dispatch.op_swap
        dd part_dispatch.op_byte, part_dispatch.op_word, part_dispatch.op_skip, part_dispatch.op_loop
%endif
bytecode:
        db 0, 2, 1, 4, 6, 3, 5, 0, 1, 2, 6, 4, 2, 3, 0, 7

prefix:         db "bench-int: "
prefix_end:
suffix:         db " us", 10
suffix_end:
total_name:     db "total"
total_name_end:

file_end:

; What is written lies in other pages than code, so that no emulator takes it for self-modifying code.
%if file_end - elf_header > 0x2000
  %error "the file has grown into the data's pages"
%endif
        absolute base_address + 0x2000
timespec:       resb 16
rounds:         resd 1
rounds_left:    resd 1
repeat:         resd 1
sum:            resd 1
total_sum:      resd 1
begin_us:       resd 1
part_us:        resd 1
line:           resb 64
        alignb 64
table:          resd 256
        alignb 4096
buffer:         resb buffer_bytes
second:         resb buffer_bytes
        resb 64
bss_end:
