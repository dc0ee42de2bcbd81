#!/bin/sh
# Assembles the firmware images beside their sources. Needs nasm 2.16 or later; the output depends on nothing else.
# Usage: firmware/build.sh [OUTPUT-DIRECTORY]   (default: in place)
set -eu
here=$(cd "$(dirname "$0")" && pwd)
out=${1:-}

assemble() { # directory, source, image
    (cd "$here/$1" && nasm -f bin -O9 -w+all -o "${out:-.}/$3" "$2")
}

# Makes the bytes of an option ROM sum to 0 by its last byte.
checksum() { # image
    sum=$(od -An -v -tu1 "$1" | awk '{ for (i = 1; i <= NF; i++) s += $i } END { print s % 256 }')
    size=$(wc -c < "$1")
    byte=$(((256 - sum) % 256))
    printf "$(printf '\\%03o' "$byte")" | dd of="$1" bs=1 seek=$((size - 1)) conv=notrunc 2> /dev/null
}

if [ -n "$out" ]; then mkdir -p "$out"; out=$(cd "$out" && pwd); fi
assemble bios bios.asm bios.bin
assemble vgabios vgabios.asm vgabios.bin
checksum "${out:-$here/vgabios}/vgabios.bin"
if [ -f "$here/kernelrom/kernelrom.asm" ]; then
    assemble kernelrom kernelrom.asm kernelrom.bin
    checksum "${out:-$here/kernelrom}/kernelrom.bin"
fi
