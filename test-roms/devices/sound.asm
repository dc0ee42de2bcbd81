; sound.asm - a tone each from the PC's speaker, a Sound Blaster 16 (DMA), its YMF262 and an 82801AA AC'97; each lasts
; four ticks of 18.2 Hz, with two of silence behind it. Real mode, the BIOS's vectors and PCI services.
;
;   1000 Hz  speaker, counter 2 in mode 3
;    500 Hz  SB16: bytes on channel 1, 20 kHz, one block, interrupt 5
;   1500 Hz  SB16: words on channel 5, stereo, 24 kHz, auto-initialised, an interrupt each eighth of it
;    700 Hz  YMF262 at 388h: a sine of one operator
;    300 Hz  AC'97: 48 kHz, two buffers
;
; Sources: Creative, Sound Blaster Series Hardware Programming Guide; Yamaha, YMF262; Intel 82801AA (290655), chapter 13.

%include "rom.inc"
start:  title   "sound"
        fninit

        ; --- the speaker
        call    next_tick
        mov     al, 0xB6
        out     0x43, al
        mov     ax, 1193
        out     0x42, al
        mov     al, ah
        out     0x42, al
        in      al, 0x61
        or      al, 3
        out     0x61, al
        mov     cx, 4
        call    wait_ticks
        in      al, 0x61
        and     al, 0xFC
        out     0x61, al
        mov     cx, 2
        call    wait_ticks

        ; --- the DSP is found as drivers find it
        mov     dx, 0x226
        mov     al, 1
        out     dx, al
        mov     cx, 100
.hold:  in      al, 0x61
        loop    .hold
        xor     al, al
        out     dx, al
        call    dsp_read
        movzx   eax, al
        expect  eax, 0xAA, "the DSP answers a reset"
        cmp     al, 0xAA
        je      .there
        done                            ; without a card
.there:
        mov     al, 0xE1
        call    dsp
        call    dsp_read
        mov     bh, al
        call    dsp_read
        mov     bl, al
        movzx   ebx, bx
        expect  ebx, 0x0405, "its version is 4.05"
        mov     al, 0x80
        call    mixer_read
        and     eax, 15
        expect  eax, 2, "interrupt 5"
        mov     al, 0x81
        call    mixer_read
        movzx   eax, al
        expect  eax, 0x22, "DMA channels 1 and 5"
        mov     ax, 0xFF30
        call    mixer
        mov     ax, 0xFF31
        call    mixer
        mov     ax, 0xFF32
        call    mixer
        mov     ax, 0xFF33
        call    mixer
        mov     ax, 0xFF34
        call    mixer
        mov     ax, 0xFF35
        call    mixer
        cli
        mov     word [0x0D * 4], interrupt
        mov     [0x0D * 4 + 2], cs
        in      al, 0x21
        and     al, 0xDF
        out     0x21, al
        sti

        ; --- bytes: 40 of them are a turn of the sine, 4394 last 4 ticks
        mov     word [turn], 40
        mov     word [loudness], 100
        call    sines
        push    es
        push    word 0x2000
        pop     es
        xor     di, di
        mov     si, 0x9000
        mov     cx, 4394
.bytes: mov     ax, [si]
        add     al, 0x80
        stosb
        add     si, 2
        cmp     si, 0x9000 + 80
        jb      .same
        mov     si, 0x9000
.same:  loop    .bytes
        pop     es
        mov     al, 5                   ; channel 1: single, to the device
        out     0x0A, al
        out     0x0C, al
        mov     al, 0x49
        out     0x0B, al
        xor     al, al
        out     0x02, al
        out     0x02, al
        mov     ax, 4394 - 1
        out     0x03, al
        mov     al, ah
        out     0x03, al
        mov     al, 2
        out     0x83, al
        mov     al, 1
        out     0x0A, al
        mov     word [interrupts], 0
        call    next_tick
        mov     al, 0xD1
        call    dsp
        mov     al, 0x40                ; 20 kHz: 256 less 50 us
        call    dsp
        mov     al, 206
        call    dsp
        mov     al, 0x14
        call    dsp
        mov     al, (4394 - 1) & 0xFF
        call    dsp
        mov     al, (4394 - 1) >> 8
        call    dsp
        mov     cx, 3
        call    wait_ticks
        movzx   eax, word [interrupts]
        expect  eax, 0, "the block of bytes takes its time"
        mov     cx, 3
        call    wait_ticks
        movzx   eax, word [interrupts]
        expect  eax, 1, "one interrupt at its end"

        ; --- words: 16 frames are a turn of the sine; 640 frames are the buffer, played over and over
        mov     word [turn], 16
        mov     word [loudness], 16000
        call    sines
        push    es
        push    word 0x3000
        pop     es
        xor     di, di
        mov     bp, 40
.turns: mov     si, 0x9000
        mov     cx, 16
.words: lodsw
        stosw
        stosw
        loop    .words
        dec     bp
        jnz     .turns
        pop     es
        mov     al, 5                   ; channel 5: auto-initialised, to the device
        out     0xD4, al
        out     0xD8, al
        mov     al, 0x59
        out     0xD6, al
        mov     ax, 0x8000              ; 30000h in words, without the page's lowest bit
        out     0xC4, al
        mov     al, ah
        out     0xC4, al
        mov     ax, 1280 - 1
        out     0xC6, al
        mov     al, ah
        out     0xC6, al
        mov     al, 2
        out     0x8B, al
        mov     al, 1
        out     0xD4, al
        mov     word [interrupts], 0
        call    next_tick
        mov     al, 0x41
        call    dsp
        mov     al, 24000 >> 8
        call    dsp
        mov     al, 24000 & 0xFF
        call    dsp
        mov     al, 0xB6                ; words, output, auto-initialised
        call    dsp
        mov     al, 0x30                ; stereo, signed
        call    dsp
        mov     al, (1280 - 1) & 0xFF   ; 26.7 ms
        call    dsp
        mov     al, (1280 - 1) >> 8
        call    dsp
        mov     cx, 4
        call    wait_ticks
        mov     al, 0xD9
        call    dsp
        movzx   eax, word [interrupts]
        expect  eax, 8, "eight interrupts of auto-initialised words"
        mov     cx, 2
        call    wait_ticks
        movzx   eax, word [interrupts]
        expect  eax, 9, "and one more at the end"
        in      al, 0x21
        or      al, 0x20
        out     0x21, al

        ; --- the YMF262 is found by its timer
        mov     ax, 0x6004
        call    opl
        mov     ax, 0x8004
        call    opl
        in      al, dx
        and     eax, 0xE0
        expect  eax, 0, "no timer has gone round"
        mov     ax, 0xFF02
        call    opl
        mov     ax, 0x2104
        call    opl
        mov     cx, 200
.timer: in      al, dx
        loop    .timer
        in      al, dx
        movzx   eax, al
        expect  eax, 0xC0, "timer 1 has, and this is an OPL3"
        mov     ax, 0x6004
        call    opl
        mov     ax, 0x8004
        call    opl
        ; The first operator is silent, the second a sine that stays while its key is down.
        mov     si, note
        mov     cx, (note_end - note) / 2
        call    next_tick
.note:  lodsw
        call    opl
        loop    .note
        mov     cx, 4
        call    wait_ticks
        mov     ax, 0x13B0
        call    opl
        mov     cx, 2
        call    wait_ticks

        ; --- AC'97: 160 frames are a turn of the sine
        mov     ax, 0xB102
        mov     dx, 0x8086
        mov     cx, 0x2415
        xor     si, si
        int     0x1A
        movzx   eax, ah
        expect  eax, 0, "there is an 82801AA"
        mov     ax, 0xB10A              ; base address 0
        mov     di, 0x10
        int     0x1A
        and     cx, 0xFFFC
        mov     [mixer_base], cx
        mov     ax, 0xB10A
        mov     di, 0x14
        int     0x1A
        and     cx, 0xFFFC
        mov     [master_base], cx
        mov     ax, 0xB10C              ; ports and bus mastering on
        mov     cx, 5
        mov     di, 4
        int     0x1A
        mov     dx, [master_base]
        add     dx, 0x2C
        mov     eax, 2
        out     dx, eax
        add     dx, 4
        in      eax, dx
        and     eax, 0x100
        expect  eax, 0x100, "its codec is ready"
        mov     dx, [mixer_base]
        xor     ax, ax
        out     dx, ax                  ; reset
        add     dx, 2
        out     dx, ax                  ; volumes
        add     dx, 0x16
        mov     ax, 0x0808
        out     dx, ax
        mov     word [turn], 160
        mov     word [loudness], 12000
        call    sines
        push    es
        push    word 0x4000
        pop     es
        xor     di, di
        mov     bp, 33                  ; turns: 5280 frames are a buffer, 110 ms
.again: mov     si, 0x9000
        mov     cx, 160
.frame: lodsw
        stosw
        stosw
        loop    .frame
        dec     bp
        jnz     .again
        pop     es
        mov     dword [0x8000], 0x40000
        mov     dword [0x8004], 0x80000000 | 10560
        mov     dword [0x8008], 0x40000
        mov     dword [0x800C], 0x80000000 | 10560
        mov     dx, [master_base]
        add     dx, 0x10
        mov     eax, 0x8000
        out     dx, eax
        add     dx, 5
        mov     al, 1
        out     dx, al
        call    next_tick
        add     dx, 6
        mov     al, 1
        out     dx, al
        sub     dx, 5
        mov     cx, 3
        call    wait_ticks
        in      ax, dx
        and     eax, 0x1F
        expect  eax, 8, "the first buffer is done"
        mov     cx, 3
        call    wait_ticks
        in      ax, dx
        and     eax, 0x1F
        expect  eax, 0x0F, "both are, and the channel halts"
        done

interrupt:
        push    ax
        push    dx
        push    ds
        push    word 0
        pop     ds
        inc     word [interrupts]
        mov     dx, 0x22E
        in      al, dx
        inc     dx
        in      al, dx
        mov     al, 0x20
        out     0x20, al
        pop     ds
        pop     dx
        pop     ax
        iret

; Waits for the start of a tick of 18.2 Hz.
next_tick:
        push    cx
        mov     cx, 1
        call    wait_ticks
        pop     cx
        ret

; Waits for CX more of them.
wait_ticks:
        push    eax
.tick:  mov     eax, [0x46C]
.same:  hlt
        cmp     eax, [0x46C]
        je      .same
        loop    .tick
        pop     eax
        ret

; AL to the DSP.
dsp:    push    dx
        push    ax
        mov     dx, 0x22C
.busy:  in      al, dx
        test    al, al
        js      .busy
        pop     ax
        out     dx, al
        pop     dx
        ret

; AL from the DSP.
dsp_read:
        push    dx
        push    cx
        mov     dx, 0x22E
        mov     cx, 1000
.none:  in      al, dx
        test    al, al
        js      .there
        loop    .none
.there: mov     dx, 0x22A
        in      al, dx
        pop     cx
        pop     dx
        ret

; AH to register AL of the card's mixer.
mixer:  mov     dx, 0x224
        out     dx, ax
        ret

; AL = register AL of the card's mixer.
mixer_read:
        mov     dx, 0x224
        out     dx, al
        inc     dx
        in      al, dx
        ret

; AH to register AL of the YMF262. Leaves DX at its status.
opl:    mov     dx, 0x388
        push    ax
        out     dx, al
        inc     dx
        mov     al, ah
        out     dx, al
        dec     dx
        pop     ax
        ret

; A turn of a sine of [turn] words around 0, as loud as [loudness], at 9000h.
sines:  mov     di, 0x9000
        mov     word [place], 0
.next:  fldpi
        fadd    st0, st0
        fimul   word [place]
        fidiv   word [turn]
        fsin
        fimul   word [loudness]
        fistp   word [di]
        add     di, 2
        inc     word [place]
        mov     ax, [place]
        cmp     ax, [turn]
        jb      .next
        ret

        align   2, db 0
; Register and value: 923 in block 4 is 700.2 Hz.
note:   db      0x20, 0x21, 0x40, 0x3F, 0x60, 0xF0, 0x80, 0x0F
        db      0x23, 0x21, 0x43, 0x00, 0x63, 0xF0, 0x83, 0x0F
        db      0xC0, 0x30, 0xA0, 923 & 0xFF, 0xB0, 0x20 | 4 << 2 | 923 >> 8
note_end:
turn:   dw      0
loudness: dw    0
place:  dw      0
interrupts: dw  0
mixer_base: dw  0
master_base: dw 0
rom_end
