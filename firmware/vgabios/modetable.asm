; Glassbox VGA BIOS: the register values of each mode, in the 64-byte layout of IBM's video parameter table: columns,
; last row, character height, page size (word), sequencer 1-4, miscellaneous output, CRTC 0-18h, attribute 0-13h,
; graphics 0-8. Source: IBM VGA technical reference; the values are those that every VGA uses.

parameters:
; Mode 0, 1: text 40x25
        db      40, 24, 16
        dw      00800h
        db      008h, 003h, 000h, 002h, 067h
        db      02Dh, 027h, 028h, 090h, 02Bh, 0A0h, 0BFh, 01Fh, 000h, 04Fh, 00Dh, 00Eh, 000h
        db      000h, 000h, 000h, 09Ch, 08Eh, 08Fh, 014h, 01Fh, 096h, 0B9h, 0A3h, 0FFh
        db      000h, 001h, 002h, 003h, 004h, 005h, 014h, 007h, 038h, 039h, 03Ah, 03Bh, 03Ch, 03Dh, 03Eh, 03Fh, 00Ch, 000h, 00Fh, 008h
        db      000h, 000h, 000h, 000h, 000h, 010h, 00Eh, 000h, 0FFh
; Mode 2, 3: text 80x25
        db      80, 24, 16
        dw      01000h
        db      000h, 003h, 000h, 002h, 067h
        db      05Fh, 04Fh, 050h, 082h, 055h, 081h, 0BFh, 01Fh, 000h, 04Fh, 00Dh, 00Eh, 000h
        db      000h, 000h, 000h, 09Ch, 08Eh, 08Fh, 028h, 01Fh, 096h, 0B9h, 0A3h, 0FFh
        db      000h, 001h, 002h, 003h, 004h, 005h, 014h, 007h, 038h, 039h, 03Ah, 03Bh, 03Ch, 03Dh, 03Eh, 03Fh, 00Ch, 000h, 00Fh, 008h
        db      000h, 000h, 000h, 000h, 000h, 010h, 00Eh, 000h, 0FFh
; Mode 4, 5: 320x200, 4 colours
        db      40, 24, 8
        dw      04000h
        db      009h, 003h, 000h, 002h, 063h
        db      02Dh, 027h, 028h, 090h, 02Bh, 080h, 0BFh, 01Fh, 000h, 0C1h, 000h, 000h, 000h
        db      000h, 000h, 000h, 09Ch, 08Eh, 08Fh, 014h, 000h, 096h, 0B9h, 0A2h, 0FFh
        db      000h, 013h, 015h, 017h, 002h, 004h, 006h, 007h, 010h, 011h, 012h, 013h, 014h, 015h, 016h, 017h, 001h, 000h, 003h, 000h
        db      000h, 000h, 000h, 000h, 000h, 030h, 00Fh, 000h, 0FFh
; Mode 6: 640x200, 2 colours
        db      80, 24, 8
        dw      04000h
        db      001h, 001h, 000h, 006h, 063h
        db      05Fh, 04Fh, 050h, 082h, 054h, 080h, 0BFh, 01Fh, 000h, 0C1h, 000h, 000h, 000h
        db      000h, 000h, 000h, 09Ch, 08Eh, 08Fh, 028h, 000h, 096h, 0B9h, 0C2h, 0FFh
        db      000h, 017h, 017h, 017h, 017h, 017h, 017h, 017h, 017h, 017h, 017h, 017h, 017h, 017h, 017h, 017h, 001h, 000h, 001h, 000h
        db      000h, 000h, 000h, 000h, 000h, 000h, 00Dh, 000h, 0FFh
; Mode 7: text 80x25, monochrome
        db      80, 24, 16
        dw      01000h
        db      000h, 003h, 000h, 002h, 066h
        db      05Fh, 04Fh, 050h, 082h, 055h, 081h, 0BFh, 01Fh, 000h, 04Fh, 00Dh, 00Eh, 000h
        db      000h, 000h, 000h, 09Ch, 08Eh, 08Fh, 028h, 00Dh, 096h, 0B9h, 0A3h, 0FFh
        db      000h, 008h, 008h, 008h, 008h, 008h, 008h, 008h, 010h, 018h, 018h, 018h, 018h, 018h, 018h, 018h, 00Eh, 000h, 00Fh, 008h
        db      000h, 000h, 000h, 000h, 000h, 010h, 00Ah, 000h, 0FFh
; Mode 0D: 320x200, 16 colours
        db      40, 24, 8
        dw      02000h
        db      009h, 00Fh, 000h, 006h, 063h
        db      02Dh, 027h, 028h, 090h, 02Bh, 080h, 0BFh, 01Fh, 000h, 0C0h, 000h, 000h, 000h
        db      000h, 000h, 000h, 09Ch, 08Eh, 08Fh, 014h, 000h, 096h, 0B9h, 0E3h, 0FFh
        db      000h, 001h, 002h, 003h, 004h, 005h, 006h, 007h, 010h, 011h, 012h, 013h, 014h, 015h, 016h, 017h, 001h, 000h, 00Fh, 000h
        db      000h, 000h, 000h, 000h, 000h, 000h, 005h, 00Fh, 0FFh
; Mode 0E: 640x200, 16 colours
        db      80, 24, 8
        dw      04000h
        db      001h, 00Fh, 000h, 006h, 063h
        db      05Fh, 04Fh, 050h, 082h, 054h, 080h, 0BFh, 01Fh, 000h, 0C0h, 000h, 000h, 000h
        db      000h, 000h, 000h, 09Ch, 08Eh, 08Fh, 028h, 000h, 096h, 0B9h, 0E3h, 0FFh
        db      000h, 001h, 002h, 003h, 004h, 005h, 006h, 007h, 010h, 011h, 012h, 013h, 014h, 015h, 016h, 017h, 001h, 000h, 00Fh, 000h
        db      000h, 000h, 000h, 000h, 000h, 000h, 005h, 00Fh, 0FFh
; Mode 0F: 640x350, monochrome
        db      80, 24, 14
        dw      08000h
        db      001h, 00Fh, 000h, 006h, 0A2h
        db      05Fh, 04Fh, 050h, 082h, 054h, 080h, 0BFh, 01Fh, 000h, 040h, 000h, 000h, 000h
        db      000h, 000h, 000h, 083h, 085h, 05Dh, 028h, 00Fh, 063h, 0BAh, 0E3h, 0FFh
        db      000h, 008h, 000h, 000h, 018h, 018h, 000h, 000h, 000h, 008h, 000h, 000h, 000h, 018h, 000h, 000h, 00Bh, 000h, 005h, 000h
        db      000h, 000h, 000h, 000h, 000h, 000h, 005h, 005h, 0FFh
; Mode 10: 640x350, 16 colours
        db      80, 24, 14
        dw      08000h
        db      001h, 00Fh, 000h, 006h, 0A3h
        db      05Fh, 04Fh, 050h, 082h, 054h, 080h, 0BFh, 01Fh, 000h, 040h, 000h, 000h, 000h
        db      000h, 000h, 000h, 083h, 085h, 05Dh, 028h, 00Fh, 063h, 0BAh, 0E3h, 0FFh
        db      000h, 001h, 002h, 003h, 004h, 005h, 014h, 007h, 038h, 039h, 03Ah, 03Bh, 03Ch, 03Dh, 03Eh, 03Fh, 001h, 000h, 00Fh, 000h
        db      000h, 000h, 000h, 000h, 000h, 000h, 005h, 00Fh, 0FFh
; Mode 11: 640x480, 2 colours
        db      80, 29, 16
        dw      0A000h
        db      001h, 00Fh, 000h, 006h, 0E3h
        db      05Fh, 04Fh, 050h, 082h, 054h, 080h, 00Bh, 03Eh, 000h, 040h, 000h, 000h, 000h
        db      000h, 000h, 000h, 0EAh, 08Ch, 0DFh, 028h, 000h, 0E7h, 004h, 0E3h, 0FFh
        db      000h, 03Fh, 03Fh, 03Fh, 03Fh, 03Fh, 03Fh, 03Fh, 03Fh, 03Fh, 03Fh, 03Fh, 03Fh, 03Fh, 03Fh, 03Fh, 001h, 000h, 00Fh, 000h
        db      000h, 000h, 000h, 000h, 000h, 000h, 005h, 001h, 0FFh
; Mode 12: 640x480, 16 colours
        db      80, 29, 16
        dw      0A000h
        db      001h, 00Fh, 000h, 006h, 0E3h
        db      05Fh, 04Fh, 050h, 082h, 054h, 080h, 00Bh, 03Eh, 000h, 040h, 000h, 000h, 000h
        db      000h, 000h, 000h, 0EAh, 08Ch, 0DFh, 028h, 000h, 0E7h, 004h, 0E3h, 0FFh
        db      000h, 001h, 002h, 003h, 004h, 005h, 014h, 007h, 038h, 039h, 03Ah, 03Bh, 03Ch, 03Dh, 03Eh, 03Fh, 001h, 000h, 00Fh, 000h
        db      000h, 000h, 000h, 000h, 000h, 000h, 005h, 00Fh, 0FFh
; Mode 13: 320x200, 256 colours
        db      40, 24, 8
        dw      00000h
        db      001h, 00Fh, 000h, 00Eh, 063h
        db      05Fh, 04Fh, 050h, 082h, 054h, 080h, 0BFh, 01Fh, 000h, 041h, 000h, 000h, 000h
        db      000h, 000h, 000h, 09Ch, 08Eh, 08Fh, 028h, 040h, 096h, 0B9h, 0A3h, 0FFh
        db      000h, 001h, 002h, 003h, 004h, 005h, 006h, 007h, 008h, 009h, 00Ah, 00Bh, 00Ch, 00Dh, 00Eh, 00Fh, 041h, 000h, 00Fh, 000h
        db      000h, 000h, 000h, 000h, 000h, 040h, 005h, 00Fh, 0FFh

; By mode number: index into the table above (FFh: no such mode), memory layout, palette.
; Layouts: 0 text, 1 CGA two bits a pixel, 2 CGA one bit, 3 planar, 4 a byte a pixel.
; Palettes: 0 the 64 colours of the EGA, 1 the 16 of the CGA, 2 greys, 3 the 256 of mode 13h.
mode_index:
        db      0, 0, 0            ; 00
        db      0, 0, 0            ; 01
        db      1, 0, 0            ; 02
        db      1, 0, 0            ; 03
        db      2, 1, 1            ; 04
        db      2, 1, 1            ; 05
        db      3, 2, 1            ; 06
        db      4, 0, 2            ; 07
        db      0FFh, 0, 0            ; 08
        db      0FFh, 0, 0            ; 09
        db      0FFh, 0, 0            ; 0A
        db      0FFh, 0, 0            ; 0B
        db      0FFh, 0, 0            ; 0C
        db      5, 3, 1            ; 0D
        db      6, 3, 1            ; 0E
        db      7, 3, 2            ; 0F
        db      8, 3, 0            ; 10
        db      9, 3, 0            ; 11
        db      10, 3, 0            ; 12
        db      11, 4, 3            ; 13
