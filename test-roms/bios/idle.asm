; idle.asm - a program that does nothing but poll for a key lets the host rest: INT 16h/01h waits
; for an interrupt then, and so do INT 28h and INT 2Fh/1680h, which are DOS's to hook. A program
; that does something else between its polls, or cannot be woken by the timer, is left alone.

%include "rom.inc"
start:  title   "waiting for a key"
        mov     al, 0x34                ; ticks of 3.4 ms, so that the test is short
        out     0x43, al
        mov     al, 0
        out     0x40, al
        mov     al, 0x10
        out     0x40, al
        mov     cx, 5
        call    ticks                   ; the first ones tell that it is a loop
        call    polls
        cmp     eax, 100
        setb    al
        movzx   eax, al
        expect  eax, 1, "INT 16h/01h: a few polls a tick"
        mov     byte [function], 0x11
        call    polls
        cmp     eax, 100
        setb    al
        movzx   eax, al
        expect  eax, 1, "INT 16h/11h: likewise"
        mov     byte [function], 1
        mov     ax, 0x0F00              ; one call of another service
        int     0x10
        call    polls_of_two
        cmp     eax, 2000
        seta    al
        movzx   eax, al
        expect  eax, 1, "after another service it polls at full speed"
        call    polls
        mov     ah, 5                   ; a key ends the wait
        mov     cx, 0x1E61
        int     0x16
        mov     ah, 1
        int     0x16
        setnz   bl
        movzx   ebx, bl
        expect  ebx, 1, "a key is seen"
        mov     ah, 0
        int     0x16
        call    polls_of_two
        cmp     eax, 2000
        seta    al
        movzx   eax, al
        expect  eax, 1, "and polls at full speed follow"

        call    polls                   ; a byte at a serial port that is polled, by its loopback
        mov     dx, 0x3FC
        mov     al, 0x10
        out     dx, al
        mov     dl, 0xF8
        mov     al, 'a'
        out     dx, al
        mov     cx, 2
        call    ticks
        call    polls
        mov     dx, 0x3F8
        mov     ecx, eax
        in      al, dx
        cmp     ecx, 2000
        seta    al
        movzx   eax, al
        expect  eax, 1, "no wait while a serial port has a byte for a program that polls it"
        mov     dl, 0xFC
        mov     al, 0
        out     dx, al

        mov     cx, 4                   ; without the timer's interrupt a wait would never end
        call    ticks
        mov     al, 0xB9
        out     0x21, al
        mov     ecx, 3000
.masked:mov     ah, 1
        int     0x16
        loop    .masked
        mov     al, 0xB8
        out     0x21, al
        expect  ecx, 0, "no wait while IRQ 0 is masked"
        mov     cx, 4
        call    ticks
        mov     ecx, 3000
.off:   cli
        mov     ah, 1
        int     0x16
        loop    .off
        sti
        expect  ecx, 0, "nor where the caller has interrupts off"

        mov     ecx, 0                  ; a program that computes 100,000 instructions between its polls
        call    tick
.slow:  mov     edx, 50000
.work:  dec     edx
        jnz     .work
        mov     ah, 1
        int     0x16
        inc     ecx
        mov     eax, [0x46C]
        sub     eax, [first]
        cmp     eax, 4
        jb      .slow
        cmp     ecx, 30                 ; there are 1.7 million instructions a tick
        seta    al
        movzx   eax, al
        expect  eax, 1, "a program that computes between its polls is not slowed down"

        call    tick
        int     0x28
        mov     eax, [0x46C]
        sub     eax, [first]
        expect  eax, 1, "INT 28h waits for the next tick"
        call    tick
        mov     ax, 0x1680
        int     0x2F
        movzx   ebx, al
        mov     eax, [0x46C]
        sub     eax, [first]
        expect  eax, 1, "INT 2Fh/1680h likewise"
        expect  ebx, 0, "and says that it did"
        mov     ax, 0x1234
        int     0x2F
        movzx   eax, ax
        expect  eax, 0x1234, "INT 2Fh leaves other calls alone"
        done

tick:   mov     eax, [0x46C]            ; until a tick has just begun
.same:  cmp     eax, [0x46C]
        je      .same
        mov     eax, [0x46C]
        mov     [first], eax
        ret

polls_of_two:                           ; EAX = polls in the rest of this tick and in the next one
        call    poll_tick
        push    eax
        call    poll_tick
        pop     ecx
        add     eax, ecx
        ret

polls:  call    poll_tick               ; EAX = polls in the next whole tick
poll_tick:
        mov     edx, [0x46C]
        xor     ecx, ecx
.next:  mov     ah, [function]
        int     0x16
        inc     ecx
        cmp     edx, [0x46C]
        je      .next
        mov     eax, ecx
        ret

ticks:  push    cx                      ; polls for CX ticks
        call    poll_tick
        pop     cx
        loop    ticks
        ret

        align   4, db 0
first:  dd      0
function: db    1
rom_end
