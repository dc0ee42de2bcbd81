#!/bin/sh
# Runs the self-checking ROMs under QEMU's TCG, as a check on the ROMs; README.md lists where QEMU
# is known to fail. Prints one line a ROM, and the failed checks.
#
#   test-roms/qemu.sh [NAME.img ...]
set -u
[ $# -gt 0 ] || { cd "$(dirname "$0")" && set -- cpu/*.img bios/*.img devices/*.img; }
passed=0 failed=0
for image; do
    case $image in
    *triple-fault* | *halted* | *keyboard*) # no debug exit, or wants somebody to type
        echo "skip $image"
        continue
        ;;
    esac
    more=
    case $image in
    *sound*) more='-audiodev none,id=a -device sb16,audiodev=a -device adlib,audiodev=a -device AC97,audiodev=a' ;;
    esac
    # shellcheck disable=SC2086 # words are what is wanted
    output=$(timeout 60 qemu-system-x86_64 -accel tcg -cpu max -m 16 -display none -no-reboot -snapshot \
        -drive "file=$image,format=raw" -device isa-debug-exit,iobase=0xf4,iosize=4 -device pc-testdev -debugcon stdio $more)
    if [ $? -eq 33 ]; then
        passed=$((passed + 1))
        echo "ok   $image"
    else
        failed=$((failed + 1))
        echo "FAIL $image"
        echo "$output" | grep -v ' ok ' | sed 's/^/     /'
    fi
done
echo "$passed passed, $failed failed"
[ $failed -eq 0 ]
