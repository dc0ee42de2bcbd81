; Glassbox BIOS: constants and macros shared by every part.
;
; Holds the saved-register frame, the BIOS data area (segment 40h), the layout of our extended BIOS data area
; (EBDA, 1 KiB at 9FC00) and the debug macro. Sources: IBM PC/AT Technical Reference (data areas), Ralf Brown's
; Interrupt List (MEMORY.LST), and the board's table in ARCHITECTURE.md.

; --- Saved-register frame -------------------------------------------------------------------------------------
; `enter_service` pushes everything in this order, so that [bp+F_xx] is the caller's register; a service returns a
; value by writing it there. 36 bytes, plus the 6 of the INT itself.
F_ES    equ 0
F_DS    equ 2
F_DI    equ 4                           ; also EDI
F_SI    equ 8
F_BP    equ 12
F_BX    equ 20
F_BL    equ 20
F_BH    equ 21
F_DX    equ 24
F_DL    equ 24
F_DH    equ 25
F_CX    equ 28
F_CL    equ 28
F_CH    equ 29
F_AX    equ 32
F_AL    equ 32
F_AH    equ 33
F_IP    equ 36
F_CS    equ 38
F_FL    equ 40

%macro enter_service 0
        cld
        pushad
        push    ds
        push    es
        mov     bp, sp
%endmacro

%macro leave_service 0
        pop     es
        pop     ds
        popad
        iret
%endmacro

%define SET_CF  or  byte [bp+F_FL], 1
%define CLR_CF  and byte [bp+F_FL], 0FEh
%define SET_ZF  or  byte [bp+F_FL], 40h
%define CLR_ZF  and byte [bp+F_FL], 0BFh

; A program that calls on a device does something else than waiting for a key: see `poll_empty` of
; keyboard.asm.
%macro poll_reset 0
        push    ds
        push    word EBDA
        pop     ds
        mov     byte [E_POLL], POLL_START
        pop     ds
%endmacro

; Loads a data segment through AX.
%macro set_ds 1
        mov     ax, %1
        mov     ds, ax
%endmacro

; Pads with FFh up to an offset of the ROM that the PC/AT made an entry point.
%macro fixed 1
        %if ($-$$) > (%1)
                %error "code runs past a fixed entry point"
        %endif
        times (%1)-($-$$) db 0FFh
%endmacro

; DBG "text": writes text and a newline to port E9h; nothing unless assembled with -DDEBUG.
%macro DBG 1
%ifdef DEBUG
        call    dbg_inline
        db      %1, 10, 0
%endif
%endmacro

; --- BIOS data area ---------------------------------------------------------------------------------------------
BDA             equ 40h
B_COM           equ 00h
B_LPT           equ 08h
B_EBDA          equ 0Eh
B_EQUIP         equ 10h
B_MEMKB         equ 13h
B_KBF0          equ 17h                 ; shift state as INT 16h/02 gives it
B_KBF1          equ 18h                 ; which keys are down
B_ALTNUM        equ 19h
B_KBHEAD        equ 1Ah
B_KBTAIL        equ 1Ch
B_KBBUF         equ 1Eh
B_FDRECAL       equ 3Eh                 ; bits 0-3: drive calibrated; bit 7: IRQ 6 seen
B_FDMOTOR       equ 3Fh
B_FDTIMER       equ 40h
B_FDSTATUS      equ 41h
B_FDRESULT      equ 42h                 ; 7 result bytes
B_CRTC          equ 63h
B_RESETVEC      equ 67h
B_IRQ           equ 6Bh
B_TICKS         equ 6Ch
B_MIDNIGHT      equ 70h
B_BREAK         equ 71h
B_WARM          equ 72h
B_HDSTATUS      equ 74h
B_HDCOUNT       equ 75h
B_LPTTIME       equ 78h
B_COMTIME       equ 7Ch
B_KBSTART       equ 80h
B_KBEND         equ 82h
B_FDRATE        equ 8Bh
B_HDFLAG        equ 8Eh                 ; FFh once IRQ 14 or 15 came
B_FDCAPS        equ 8Fh
B_FDMEDIA       equ 90h                 ; a byte a drive
B_FDTRACK       equ 94h                 ; a byte a drive
B_KBF3          equ 96h                 ; E0/E1 prefixes, right Ctrl and Alt, 101 keys
B_KBLED         equ 97h
B_WAITPTR       equ 98h
B_WAITCNT       equ 9Ch
B_WAITACT       equ 0A0h

; --- EBDA -------------------------------------------------------------------------------------------------------
EBDA            equ 9FC0h
E_MOUSEPTR      equ 22h                 ; the mouse handler's far address; here and below as on a PS/2
E_MOUSE1        equ 26h                 ; bits 0-2: bytes of a packet so far
E_MOUSE2        equ 27h                 ; bits 0-2: bytes a packet; bit 7: there is a handler
E_MOUSEBUF      equ 28h                 ; 8 bytes
E_MOUSECB       equ 30h                 ; what the 8042's command byte has, as the BIOS last wrote it
E_POLL          equ 31h                 ; what is known of polls for a key
POLL_START      equ 0                   ; nothing
POLL_COUNTS     equ 1                   ; they are counted since a tick began
POLL_IDLE       equ 2                   ; the tick before was one of polls only
E_POLLTICK      equ 32h                 ; the tick in which they are counted
E_POLLS         equ 34h                 ; and how many there were in it
E_BOOT          equ 36h                 ; why drives did not boot, two bits each: see boot.asm
E_BOOTSHIFT     equ 38h                 ; where the bits of the drive are that is being tried
E_HDPT          equ 3Dh                 ; two 16-byte fixed disk parameter tables (INT 41h, INT 46h)
E_DRIVES        equ 100h                ; four drive records of D_SIZE
E_DPTE          equ 1A0h                ; four 16-byte EDD device parameter table extensions
E_NDISKS        equ 1E0h
E_BOOTDRV       equ 1E2h
E_NMAP          equ 1E4h                ; number of E820 entries
E_APM           equ 1E7h                ; bit 0: real-mode APM connected
E_PCI           equ 1E8h                ; 1: configuration mechanism 1 answers
E_CD            equ 1ECh                ; the CD-ROM drive that is spoken to: a record as in E_CDS
E_PCIMEM        equ 1F4h                ; while POST hands out addresses: the next one, the next port, and the
E_PCIPORT       equ 1F8h                ; segment for the next expansion ROM
E_PCIROM        equ 1FAh
E_NETDONE       equ 1F4h                ; after POST: 1 once booting by network was tried,
E_BEVPCI        equ 1F8h                ; the PCI function of the card that can, and its ROM's bootstrap entry
E_BEV           equ 1FCh                ; vector (0: none)
E_MAP           equ 200h                ; E820 entries of 20 bytes, 12 at most
E_PACKET        equ 2F0h                ; 12-byte ATAPI packet
E_VHEAD         equ 2F0h                ; virtio: the header of a request, 16 bytes
E_CDS           equ 300h                ; four CD-ROM records: base word, control word, select byte, lock byte
E_NCDS          equ 318h
E_CDSKIP        equ 31Ah                ; bytes of the data to leave out (word), and then to take (dword)
E_CDTAKE        equ 31Ch
E_CDDATA        equ 320h                ; 18 bytes: sense data, or a capacity
E_EMU           equ 334h                ; El Torito: the specification packet of what was booted, 13h bytes
E_EMUON         equ 347h                ; 1: the drive of that packet is a part of the disc
E_EMUSPT        equ 348h                ; its sectors a track, heads, cylinders and sectors
E_EMUHEADS      equ 34Ah
E_EMUCYL        equ 34Ch
E_EMUTOTAL      equ 350h
E_VSTATUS       equ 358h                ; virtio: the status of a request; four descriptors; available and used ring
E_VRING         equ 360h
E_VAVAIL        equ 3A0h
E_VUSED         equ 3B0h
E_RQLBA         equ 3E0h                ; disk request: LBA (8 bytes), sectors, sectors done, operation
E_RQCNT         equ 3E8h
E_RQDONE        equ 3EAh
E_RQOP          equ 3ECh                ; 0 read, 1 write, 2 verify

; A drive record.
D_FLAGS         equ 0                   ; bit 0 present, bit 1 LBA48, bit 2 LBA, bit 3 on virtio
D_SELECT        equ 1                   ; A0h or B0h
D_BASE          equ 2
D_CTRL          equ 4
D_TOTAL         equ 6                   ; sectors, 64 bits
D_PCYL          equ 14
D_PHEADS        equ 16
D_PSPT          equ 18
D_CYL           equ 20                  ; geometry that INT 13h shows
D_HEADS         equ 22
D_SPT           equ 24
D_IRQ           equ 26
D_SIZE          equ 40

SCRATCH         equ 600h                ; POST's sector buffer in segment 0; POST writes no RAM from 8000h to the EBDA
