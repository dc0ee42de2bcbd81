; The diskette parameter table that INT 1Eh points to (F000:EFC7), for 1.44 MB. Source: IBM PC/AT Technical Reference.
dpt:
        db      0DFh                    ; SRT 3 ms, HUT 240 ms
        db      02h                     ; HLT 4 ms, DMA
        db      25h                     ; motor off after 37 ticks
        db      02h                     ; 512 bytes a sector
        db      18                      ; sectors a track
        db      1Bh                     ; gap
        db      0FFh                    ; data length
        db      6Ch                     ; gap when formatting
        db      0F6h                    ; fill byte
        db      0Fh                     ; head settle, ms
        db      08h                     ; motor start, 1/8 s
