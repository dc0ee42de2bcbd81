; tour.asm - the Glassbox tour, a small program that shows what a virtual machine does.
;
; Assemble with test-roms/build.sh, or by hand: nasm -f bin tour.asm -o tour.img
;
; The image is a raw hard disk. It needs an i386, a VGA and a BIOS, and it shows nothing
; that it has not just read from the machine it runs on. Start reading here, then:
;
;   layout.inc    the memory map and the variables
;   boot.inc      the first sector
;   macros.inc    say, panel, page, keys: what screens are written in
;   text.inc      text output for both modes;  palette.inc  the colours
;   cube.inc      the turning glass cube
;   welcome.inc   screen 0, the menu
;   real.inc      screen 1, segments and memory
;   pm.inc        into protected mode and back: GDT, IDT, paging, user mode
;   irq.inc       what happens on an interrupt, a fault or a system call
;   protect.inc   screen 2, protected mode and paging, step by step
;   timer.inc     screen 3, the timer and the keyboard
;   user.inc      screen 4, a user program;  faults.inc  screen 5, faults
;   pixels.inc    screen 6, graphics;  finish.inc  screen 7, the end

%include "layout.inc"
%include "macros.inc"
%include "boot.inc"

section tour start=512 vstart=TOUR_AT
        ; Two more sections: the strings that macros.inc puts aside, and the programs that
        ; run in ring 3, which are linked for their own page and are copied there.
section strings follows=tour vfollows=tour align=16 valign=16
section user follows=strings vstart=USER_CODE_AT align=16
section tour
bits 16
tour:
        ; Clear the variables, but not the drive number that the boot sector left there.
        mov     di, VARS_AT + 1
        mov     cx, vars_end - VARS_AT - 1
        xor     al, al
        rep     stosb
        mov     eax, [0x46C]            ; the BIOS counts timer ticks here
        mov     [start_ticks], eax
        mov     dword [angle], 24
        call    set_text_mode

; The screens, each a routine that returns the number of the screen to go to in AL.
main:   movzx   bx, byte [screen_now]
        add     bx, bx
        call    [bx + .screens]
        mov     [screen_now], al
        jmp     main
.screens:
        dw      welcome, real, protect, timer, user, faults, pixels, finish
SCREENS equ 8

; wait_16: sleep until a key or the next timer tick. AX = the key as INT 16h gives it, or 0.
; HLT stops the processor until an interrupt; on a virtual machine the host rests too.
wait_16: mov     ah, 1
        int     0x16
        jnz     .key
        hlt
        mov     ah, 1
        int     0x16
        jnz     .key
        xor     ax, ax
        ret
.key:   xor     ah, ah
        int     0x16
        ret

%include "palette.inc"
%include "text.inc"
%include "nav.inc"
%include "state.inc"
%include "welcome.inc"
%include "real.inc"
%include "pm.inc"
%include "irq.inc"
bits 32
%include "text.inc"
%include "nav.inc"
%include "state.inc"
%include "protect.inc"
%include "timer.inc"
%include "user.inc"
%include "faults.inc"
%include "cube.inc"
%include "pixels.inc"
%include "finish.inc"

section user
user_end:
