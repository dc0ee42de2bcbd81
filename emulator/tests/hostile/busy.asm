; Keeps every device of the board busy, in real mode, straight from the reset vector at F000:0000.
; The first processor starts the others there too (a start-up message has a page, F0 is F000:0000): they share the work.
; nasm -f bin busy.asm -o busy.bin
        bits 16
        org 0
start:  cli
        xor ax, ax
        mov ds, ax
        mov es, ax
        mov ss, ax
        ; Each processor has a number, and a stack by that.
        mov bx, 1
        lock xadd [530h], bx
        and bx, 7
        mov sp, bx
        shl sp, 8
        add sp, 7000h
        ; A segment of 4 GiB in FS, for the local APIC.
        o32 lgdt [cs:gdtr]
        mov eax, cr0
        or al, 1
        mov cr0, eax
        mov cx, 8
        mov fs, cx
        and al, 0FEh
        mov cr0, eax
        mov edi, 0FEE00000h
        mov dword [fs:edi + 0F0h], 1FFh
        test bx, bx
        jz first
        ; Its own timer, periodic, at vector 40h.
        mov dword [fs:edi + 3E0h], 0Bh
        mov dword [fs:edi + 320h], 20040h
        mov dword [fs:edi + 380h], 50000
        sti
        jmp main

gdtr:   dw 15
        dd 0F0000h + gdt
        align 8
gdt:    dq 0
        dq 00CF92000000FFFFh

first:  ; INIT and start-up to all others.
        mov dword [fs:edi + 300h], 000C4500h
        mov dword [fs:edi + 300h], 000C46F0h
        ; All vectors to one handler, which counts and acknowledges.
        xor di, di
        mov cx, 256
.vector:
        mov word [di], handler
        mov word [di + 2], 0F000h
        add di, 4
        loop .vector
        ; 8259A pair at 20h and 28h, all let through.
        mov al, 11h
        out 20h, al
        out 0A0h, al
        mov al, 20h
        out 21h, al
        mov al, 28h
        out 0A1h, al
        mov al, 4
        out 21h, al
        mov al, 2
        out 0A1h, al
        mov al, 1
        out 21h, al
        out 0A1h, al
        xor al, al
        out 21h, al
        out 0A1h, al
        ; Interval timer 0 at about 10 kHz, timer 2 to the speaker.
        mov al, 34h
        out 43h, al
        mov al, 119
        out 40h, al
        xor al, al
        out 40h, al
        mov al, 0B6h
        out 43h, al
        mov al, 50
        out 42h, al
        xor al, al
        out 42h, al
        mov al, 3
        out 61h, al
        ; Clock: periodic interrupt at 1 kHz.
        mov al, 0Bh
        out 70h, al
        mov al, 42h
        out 71h, al
        mov al, 0Ah
        out 70h, al
        mov al, 26h
        out 71h, al
        ; Keyboard controller: both interrupts, both devices on; mouse reporting.
        mov al, 60h
        out 64h, al
        mov al, 47h
        out 60h, al
        mov al, 0D4h
        out 64h, al
        mov al, 0F4h
        out 60h, al
        ; COM1 and COM2 in loopback with FIFOs, all interrupts.
        mov dx, 3F8h
        call serial
        mov dx, 2F8h
        call serial
        ; Display: mode 13h-like chain-4 graphics.
        mov dx, 3C4h
        mov ax, 0E04h
        out dx, ax
        mov dx, 3CEh
        mov ax, 0506h
        out dx, ax
        ; Primary drive: DMA of 8 sectors to 2000:0, over and over.
        mov dword [500h], 20000h
        mov dword [504h], 80001000h
        call disk
        ; Sound Blaster: bytes from 1000:0 by channel 1, for ever; a note that stays.
        mov si, sounds
        mov cx, (sounds_end - sounds) / 3
.sound: mov dx, [cs:si]
        mov al, [cs:si + 2]
        out dx, al
        add si, 3
        loop .sound
        ; AC'97: its ports, a list at 540h of one buffer.
        mov eax, 80008014h
        mov dx, 0CF8h
        out dx, eax
        mov eax, 0C400h
        mov dx, 0CFCh
        out dx, eax
        mov eax, 80008004h
        mov dx, 0CF8h
        out dx, eax
        mov eax, 5
        mov dx, 0CFCh
        out dx, eax
        mov di, 540h
        mov cx, 32
.list:  mov dword [di], 10000h
        mov dword [di + 4], 80000200h
        add di, 8
        loop .list
        mov dx, 0C410h
        mov eax, 540h
        out dx, eax
        call music
        ; Floppy: recalibrate and seek.
        mov dx, 3F2h
        mov al, 1Ch
        out dx, al
        sti
main:   inc dword [510h]
        mov ax, [510h]
        ; The display's memory.
        mov bx, 0A000h
        mov es, bx
        mov di, ax
        stosw
        stosw
        ; A byte through each serial port.
        mov dx, 3F8h
        out dx, al
        in al, dx
        mov dx, 2FDh
        in al, dx
        mov dx, 2F8h
        out dx, al
        ; PCI: read through the bridge's registers.
        mov eax, 80000800h
        mov dx, 0CF8h
        out dx, eax
        mov dx, 0CFCh
        in eax, dx
        ; DMA controller, channel 2: set up a transfer for the floppy's sake.
        mov al, 46h
        out 0Bh, al
        out 0Ch, al
        mov al, 2
        out 0Ah, al
        in al, 40h
        in al, 40h
        add [514h], al
        ; The ACPI timer, and the palette.
        mov dx, 608h
        in eax, dx
        add [518h], eax
        mov dx, 3C8h
        mov al, [510h]
        out dx, al
        inc dx
        out dx, al
        out dx, al
        out dx, al
        test byte [510h], 0Fh
        jnz main
        hlt
        test byte [510h], 0FFh
        jnz main
        call disk
        call music
        mov dx, 3F5h
        mov al, 7
        out dx, al
        xor al, al
        out dx, al
        jmp main

serial: add dx, 4
        mov al, 1Bh
        out dx, al
        sub dx, 3
        mov al, 0Fh
        out dx, al
        inc dx
        mov al, 0C7h
        out dx, al
        ret

        ; Buffers up to the one before the current one are the AC'97 controller's.
music:  mov dx, 0C414h
        in al, dx
        dec al
        inc dx
        out dx, al
        mov al, 1Dh
        mov dx, 0C41Bh
        out dx, al
        ret

        ; Ports and bytes: the DMA controller's channel 1 from 10000h, 100h bytes; the DSP at 22 kHz in blocks of
        ; 80h; the YMF262.
sounds:
%macro bytes_to 2-*
%define to %1
%rotate 1
%rep %0 - 1
        dw to
        db %1
%rotate 1
%endrep
%endmacro
        bytes_to 0Bh, 59h
        bytes_to 0Ch, 0
        bytes_to 2, 0, 0
        bytes_to 3, 0FFh, 0
        bytes_to 83h, 1
        bytes_to 0Ah, 1
        bytes_to 22Ch, 41h, 56h, 22h, 0C6h, 0, 7Fh, 0
        bytes_to 388h, 23h
        bytes_to 389h, 61h
        bytes_to 388h, 63h
        bytes_to 389h, 0F0h
        bytes_to 388h, 83h
        bytes_to 389h, 0Fh
        bytes_to 388h, 0A0h
        bytes_to 389h, 44h
        bytes_to 388h, 0B0h
        bytes_to 389h, 32h
sounds_end:

disk:   mov dx, 0C000h
        xor al, al
        out dx, al
        mov dx, 0C004h
        mov eax, 500h
        out dx, eax
        mov dx, 0C002h
        mov al, 6
        out dx, al
        mov dx, 1F6h
        mov al, 0E0h
        out dx, al
        mov dx, 1F2h
        mov al, 8
        out dx, al
        inc dx
        mov al, [511h]
        and al, 31
        out dx, al
        inc dx
        xor al, al
        out dx, al
        inc dx
        out dx, al
        mov dx, 1F7h
        mov al, 0C8h
        out dx, al
        mov dx, 0C000h
        mov al, 9
        out dx, al
        ret

handler:
        push ax
        push dx
        inc dword [520h]
        in al, 60h
        mov dx, 1F7h
        in al, dx
        mov dx, 3FAh
        in al, dx
        mov dx, 3F8h
        in al, dx
        mov dx, 2FAh
        in al, dx
        mov dx, 3F5h
        in al, dx
        mov dx, 22Eh
        in al, dx
        mov dx, 0C416h
        mov al, 1Ch
        out dx, al
        mov al, 0Ch
        out 70h, al
        in al, 71h
        mov al, 20h
        out 0A0h, al
        out 20h, al
        push edi
        mov edi, 0FEE000B0h
        mov dword [fs:edi], 0
        pop edi
        pop dx
        pop ax
        iret
