; cd-tray: opens or closes the tray of /dev/sr0, which the guests' busybox has no command for.
;
;   nasm -f bin -o cd-tray cd-tray.asm
;
; `cd-tray open`, `cd-tray close`; the exit status is the kernel's error number. A static 32-bit Linux program, which
; Debian's 64-bit kernels run too. Numbers from the kernel's <linux/cdrom.h>.

        bits 32
base_address    equ 0x08048000
        org base_address

CDROMEJECT      equ 0x5309
CDROMCLOSETRAY  equ 0x5319
O_NONBLOCK      equ 0x800               ; without it an empty drive cannot be opened

elf_header:
        db 0x7F, "ELF", 1, 1, 1, 0
        times 8 db 0
        dw 2, 3                         ; ET_EXEC, EM_386
        dd 1
        dd start
        dd program_header - base_address
        dd 0
        dd 0
        dw elf_header_end - elf_header, 32, 2, 0, 0, 0
elf_header_end:
program_header:
        dd 1, 0, base_address, base_address
        dd file_end - base_address, file_end - base_address
        dd 5, 0x1000
        dd 0x6474E551, 0, 0, 0, 0, 0    ; PT_GNU_STACK
        dd 6, 16                        ; RW

start:  mov esi, CDROMEJECT
        cmp dword [esp], 2              ; argc
        jb .open
        mov eax, [esp + 8]              ; argv[1]
        cmp byte [eax], 'c'
        jne .open
        mov esi, CDROMCLOSETRAY
.open:  mov eax, 5                      ; open
        mov ebx, device
        mov ecx, O_NONBLOCK
        xor edx, edx
        int 0x80
        test eax, eax
        js .exit
        mov ebx, eax
        mov eax, 54                     ; ioctl
        mov ecx, esi
        xor edx, edx
        int 0x80
        test eax, eax
        js .exit
        xor eax, eax
.exit:  mov ebx, eax
        neg ebx
        mov eax, 1                      ; exit
        int 0x80
device: db "/dev/sr0", 0
file_end:
