; Glassbox BIOS: CD-ROM.
ide_found_cdrom:
        ret
cd_int13:
        jmp     int13.bad
boot_cdrom:
        ret
