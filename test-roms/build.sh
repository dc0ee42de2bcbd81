#!/bin/sh
# Assembles every test ROM and the tour. The images are committed beside their sources, so this
# is needed only after a change; it writes a file only when its content would differ.
#
#   test-roms/build.sh            assemble all
#   test-roms/build.sh --check    assemble nothing, exit 1 if an image is out of date
set -eu
cd "$(dirname "$0")"
command -v nasm >/dev/null || { echo "build.sh: nasm is needed (apt-get install nasm)" >&2; exit 1; }
check=${1:-}
work=$(mktemp)
trap 'rm -f "$work" "$work.err"' EXIT
stale=0

assemble() { # SOURCE IMAGE MULTIPLE: pad the image to a multiple of that many bytes
    if ! nasm -f bin -I "$(dirname "$1")/" -I lib/ "$1" -o "$work" 2>"$work.err"; then
        cat "$work.err" >&2
        exit 1
    fi
    cat "$work.err" >&2
    size=$(wc -c <"$work")
    truncate -s $(((size + $3 - 1) / $3 * $3)) "$work"
    cmp -s "$work" "$2" && return
    if [ "$check" = --check ]; then
        echo "$2 is not what $1 assembles to" >&2
        stale=1
    else
        cat "$work" >"$2"              # not cp: that would copy mktemp's mode 600
        echo "$2"
    fi
}

assemble tour/tour.asm tour/tour.img 65536
for source in */*.asm; do
    case $source in tour/* | guests/*) continue ;; esac
    assemble "$source" "${source%.asm}.img" 512
done
exit $stale
