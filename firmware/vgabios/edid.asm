; Glassbox VGA BIOS: what the monitor says of itself, the bytes of `devices::vga::edid`; a test of the crate `spec`
; compares them.

        db      000h, 0FFh, 0FFh, 0FFh, 0FFh, 0FFh, 0FFh, 000h, 01Ch, 058h, 001h, 000h, 000h, 000h, 000h, 000h
        db      001h, 024h, 001h, 004h, 0A0h, 022h, 015h, 078h, 006h, 0EEh, 091h, 0A3h, 054h, 04Ch, 099h, 026h
        db      00Fh, 050h, 054h, 0A1h, 008h, 000h, 061h, 040h, 071h, 040h, 081h, 080h, 081h, 0C0h, 095h, 000h
        db      0A9h, 040h, 0B3h, 000h, 0D1h, 0C0h, 0BCh, 01Bh, 000h, 0A0h, 050h, 020h, 017h, 030h, 030h, 020h
        db      036h, 000h, 058h, 0D7h, 010h, 000h, 000h, 01Ah, 0E2h, 068h, 000h, 0A0h, 0A0h, 040h, 02Eh, 060h
        db      030h, 020h, 036h, 000h, 058h, 0D7h, 010h, 000h, 000h, 01Ah, 000h, 000h, 000h, 0FDh, 000h, 032h
        db      055h, 01Eh, 06Eh, 01Ch, 001h, 00Ah, 020h, 020h, 020h, 020h, 020h, 020h, 000h, 000h, 000h, 0FCh
        db      000h, 047h, 06Ch, 061h, 073h, 073h, 062h, 06Fh, 078h, 00Ah, 020h, 020h, 020h, 020h, 000h, 0DBh
