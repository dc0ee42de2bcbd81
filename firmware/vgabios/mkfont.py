#!/usr/bin/env python3
"""Makes font8x16.bin, font8x14.bin and font8x8.bin: 256 glyphs each, in code page 437 order.

Usage: mkfont.py DIRECTORY, where DIRECTORY holds 8x13B, 8x13, 5x8 (X.Org font-misc-misc) and clB8x8
(font-schumacher-misc) as .pcf.gz; see FONT.md for their terms. Letters come from there; box drawing, blocks, shades
and the small pictures of the control codes are drawn here. The images are committed: this runs only when the font is to change.
"""
import gzip
import struct
import sys

PICTURES = {  # control codes 01-1F, drawn for 8x8; the taller cells centre them
    0x263A: "01111110 10000001 10100101 10000001 10111101 10011001 10000001 01111110",
    0x263B: "01111110 11111111 11011011 11111111 11000011 11100111 11111111 01111110",
    0x2665: "01101100 11111110 11111110 11111110 01111100 00111000 00010000 00000000",
    0x2666: "00010000 00111000 01111100 11111110 01111100 00111000 00010000 00000000",
    0x2663: "00111000 00111000 11111110 11111110 11010110 00010000 00111000 00000000",
    0x2660: "00010000 00111000 01111100 11111110 11111110 01010100 00111000 00000000",
    0x2022: "00000000 00000000 00011000 00111100 00111100 00011000 00000000 00000000",
    0x25D8: "11111111 11111111 11100111 11000011 11000011 11100111 11111111 11111111",
    0x25CB: "00000000 00111100 01100110 01000010 01000010 01100110 00111100 00000000",
    0x25D9: "11111111 11000011 10011001 10111101 10111101 10011001 11000011 11111111",
    0x2642: "00001111 00000111 00001101 01111000 11001100 11001100 11001100 01111000",
    0x2640: "00111100 01100110 01100110 01100110 00111100 00011000 01111110 00011000",
    0x266A: "00111110 00110010 00111110 00110000 00110000 01110000 11110000 01100000",
    0x266B: "01111110 01100110 01111110 01100110 01100110 01100110 11101110 11001100",
    0x263C: "00011000 11011011 00111100 11100111 11100111 00111100 11011011 00011000",
    0x25BA: "10000000 11100000 11111000 11111110 11111000 11100000 10000000 00000000",
    0x25C4: "00000010 00001110 00111110 11111110 00111110 00001110 00000010 00000000",
    0x2195: "00011000 00111100 01111110 00011000 00011000 01111110 00111100 00011000",
    0x203C: "01100110 01100110 01100110 01100110 01100110 00000000 01100110 00000000",
    0x25AC: "00000000 00000000 00000000 00000000 01111110 01111110 01111110 00000000",
    0x21A8: "00011000 00111100 01111110 00011000 01111110 00111100 00011000 11111111",
    0x2191: "00011000 00111100 01111110 00011000 00011000 00011000 00011000 00000000",
    0x2193: "00011000 00011000 00011000 00011000 01111110 00111100 00011000 00000000",
    0x2192: "00000000 00001000 00001100 11111110 11111110 00001100 00001000 00000000",
    0x2190: "00000000 00100000 01100000 11111110 11111110 01100000 00100000 00000000",
    0x221F: "00000000 00000000 11000000 11000000 11000000 11111110 11111110 00000000",
    0x2194: "00000000 00100100 01100110 11111111 11111111 01100110 00100100 00000000",
    0x25B2: "00000000 00010000 00111000 00111000 01111100 01111100 11111110 00000000",
    0x25BC: "00000000 11111110 01111100 01111100 00111000 00111000 00010000 00000000",
    0x2302: "00000000 00010000 00111000 01101100 11000110 11000110 11111110 00000000",
    0x25A0: "00000000 00000000 00111100 00111100 00111100 00111100 00000000 00000000",
}
CONTROL = [0x20, 0x263A, 0x263B, 0x2665, 0x2666, 0x2663, 0x2660, 0x2022, 0x25D8, 0x25CB, 0x25D9, 0x2642, 0x2640, 0x266A,
           0x266B, 0x263C, 0x25BA, 0x25C4, 0x2195, 0x203C, 0xB6, 0xA7, 0x25AC, 0x21A8, 0x2191, 0x2193, 0x2192, 0x2190,
           0x221F, 0x2194, 0x25B2, 0x25BC]
LOOKALIKE = {0x03B1: 0x61, 0x0393: 0x0413, 0x03C0: 0x043F, 0x03A3: 0x2211, 0x00B5: 0x03BC, 0x2126: 0x03A9}

# Arms of the box characters B3-DA: up, right, down, left; 0 none, 1 single, 2 double.
BOX = dict(zip(range(0xB3, 0xDB), """1010 1011 1012 2021 0021 0012 2022 2020 0022 2002 2001 1002 0011 1100 1101 0111
1110 0101 1111 1210 2120 2200 0220 2202 0222 2220 0202 2222 1202 2101 0212 0121 2100 1200 0210 0120 2121 1212
1001 0110""".split()))


def read_pcf(path):
    """Gives {code point: (rows, ascent, left bearing, width)}; rows are integers of `width` bits."""
    data = gzip.open(path).read()
    tables = {}
    for i in range(struct.unpack_from("<I", data, 4)[0]):
        kind, _format, _size, offset = struct.unpack_from("<4I", data, 8 + 16 * i)
        tables[kind] = offset
    def order(offset):
        fmt = struct.unpack_from("<I", data, offset)[0]
        return fmt, ">" if fmt & 4 else "<"
    at = tables[4]
    fmt, e = order(at)
    metrics = []
    if fmt & 0x100:
        count = struct.unpack_from(e + "H", data, at + 4)[0]
        for i in range(count):
            left, right, width, up, down = (b - 0x80 for b in data[at + 6 + 5 * i:at + 11 + 5 * i])
            metrics.append((left, right, width, up, down))
    else:
        count = struct.unpack_from(e + "I", data, at + 4)[0]
        for i in range(count):
            metrics.append(struct.unpack_from(e + "5h", data, at + 8 + 12 * i))
    at = tables[8]
    fmt, e = order(at)
    pad = 1 << (fmt & 3)
    offsets = struct.unpack_from(f"{e}{count}I", data, at + 8)
    bits = at + 8 + 4 * count + 16
    at = tables[32]
    _fmt, e2 = order(at)
    low, high, row_low, row_high, _default = struct.unpack_from(e2 + "5h", data, at + 4)
    glyphs = {}
    index = at + 14
    for row in range(row_low, row_high + 1):
        for column in range(low, high + 1):
            glyph = struct.unpack_from(e2 + "H", data, index)[0]
            index += 2
            if glyph == 0xFFFF:
                continue
            left, right, width, up, down = metrics[glyph]
            stride = -(-(right - left) // (8 * pad)) * pad
            rows = []
            for y in range(up + down):
                raw = data[bits + offsets[glyph] + y * stride:bits + offsets[glyph] + (y + 1) * stride]
                if not fmt & 8:
                    raw = bytes(int(f"{b:08b}"[::-1], 2) for b in raw)
                if not fmt & 4 and (fmt >> 4 & 3):
                    unit = 1 << (fmt >> 4 & 3)
                    raw = b"".join(raw[i:i + unit][::-1] for i in range(0, len(raw), unit))
                rows.append(int.from_bytes(raw, "big") >> (8 * stride - (right - left)))
            glyphs[row << 8 | column] = (rows, up, left, right - left)
    return glyphs


def place(glyph, height, baseline, shift, smear):
    rows, up, left, width = glyph
    cell = [0] * height
    for i, row in enumerate(rows):
        y = baseline - up + i
        move = 8 - width - left - shift
        row = row << move if move >= 0 else row >> -move
        if smear:
            row |= row >> 1
        if 0 <= y < height:
            cell[y] |= row & 0xFF
    return cell


def box(arms, height):
    """Draws single lines 2 pixels wide upright and 1 or 2 high across; double lines as two of 1 or 2 with a gap."""
    up, right, down, left = map(int, arms)
    cell = [[0] * 8 for _ in range(height)]
    middle = height // 2 - 1
    thick = 2 if height >= 14 else 1
    singles = {"v": [(3, 4)], "h": [(middle, middle + thick - 1)]}
    gap = 1 if height < 14 else 2
    span = thick - 1 if height >= 14 else 0
    doubles = {"v": [(1, 2), (5, 6)],
               "h": [(middle - gap, middle - gap + span), (middle + gap, middle + gap + span)]}
    vertical = max(up, down)
    across = max(left, right)
    vs = {0: [], 1: singles["v"], 2: doubles["v"]}
    hs = {0: [], 1: singles["h"], 2: doubles["h"]}
    vbars, hbars = vs[vertical], hs[across]
    def fill(x0, x1, y0, y1):
        for y in range(y0, y1 + 1):
            for x in range(x0, x1 + 1):
                cell[y][x] = 1
    for n, (x0, x1) in enumerate(vbars):
        # Where an upright line of a double pair meets a double crossing, it stops at the nearer crossing line of the
        # side that has an arm, so that the inside stays open.
        side = None if vertical == 1 else (left if n == 0 else right)
        top_stop, bottom_stop = 0, height - 1
        if not up:
            top_stop = hbars[0][0] if across else middle
            if vertical == 2 and across == 2 and side:
                top_stop = hbars[1][0]
        if not down:
            bottom_stop = hbars[-1][1] if across else middle
            if vertical == 2 and across == 2 and side:
                bottom_stop = hbars[0][1]
        fill(x0, x1, top_stop, bottom_stop)
    for n, (y0, y1) in enumerate(hbars):
        side = None if across == 1 else (up if n == 0 else down)
        left_stop, right_stop = 0, 7
        if not left:
            left_stop = vbars[0][0] if vertical else 3
            if vertical == 2 and across == 2 and side:
                left_stop = vbars[1][0]
        if not right:
            right_stop = vbars[-1][1] if vertical else 4
            if vertical == 2 and across == 2 and side:
                right_stop = vbars[0][1]
        fill(left_stop, right_stop, y0, y1)
    # Open the middle of double crossings and tees.
    if vertical == 2 and across == 2:
        for y in range(hbars[0][1] + 1, hbars[1][0]):
            for x in range(8):
                if vbars[0][1] < x < vbars[1][0]:
                    cell[y][x] = 0
        if up:
            for y in range(0, hbars[0][1] + 1):
                for x in range(vbars[0][1] + 1, vbars[1][0]):
                    cell[y][x] = 0
        if down:
            for y in range(hbars[1][0], height):
                for x in range(vbars[0][1] + 1, vbars[1][0]):
                    cell[y][x] = 0
        if left:
            for y in range(hbars[0][1] + 1, hbars[1][0]):
                for x in range(0, vbars[0][1] + 1):
                    cell[y][x] = 0
        if right:
            for y in range(hbars[0][1] + 1, hbars[1][0]):
                for x in range(vbars[1][0], 8):
                    cell[y][x] = 0
    elif vertical == 2 and across == 1:
        # A single crossing goes through; a tee's arm ends at the near upright.
        through = (left and right) or not (up and down)
        for y in range(height):
            for x in range(vbars[0][1] + 1, vbars[1][0]):
                if not (through and hbars[0][0] <= y <= hbars[0][1]):
                    cell[y][x] = 0
    return [int("".join(map(str, row)), 2) for row in cell]


def block(code, height):
    if code == 0xB0:
        return [(0x22, 0x88)[y & 1] for y in range(height)]
    if code == 0xB1:
        return [(0x55, 0xAA)[y & 1] for y in range(height)]
    if code == 0xB2:
        return [(0xDD, 0x77)[y & 1] for y in range(height)]
    half = height // 2
    return {0xDB: [0xFF] * height, 0xDC: [0] * half + [0xFF] * (height - half), 0xDD: [0xF0] * height,
            0xDE: [0x0F] * height, 0xDF: [0xFF] * half + [0] * (height - half)}[code]


def make(height, baseline, sources, missing):
    out = bytearray()
    for code in range(256):
        point = CONTROL[code] if code < 32 else ord(bytes([code]).decode("cp437"))
        if code == 0x7F:
            point = 0x2302
        if code in BOX:
            out += bytes(box(BOX[code], height))
            continue
        if code in (0xB0, 0xB1, 0xB2, 0xDB, 0xDC, 0xDD, 0xDE, 0xDF):
            out += bytes(block(code, height))
            continue
        if point in PICTURES:
            rows = [int(r, 2) for r in PICTURES[point].split()]
            if point in (0x25D8, 0x25D9):
                fill = [0xFF] * ((height - 8) // 2)
                rows = fill + rows + fill
            else:
                top = (height - 8) // 2
                rows = [0] * top + rows + [0] * (height - 8 - top)
            out += bytes(rows)
            continue
        for glyphs, shift, smear in sources:
            found = glyphs.get(point) or glyphs.get(LOOKALIKE.get(point))
            if found:
                out += bytes(place(found, height, baseline, shift, smear))
                break
        else:
            missing.add((code, hex(point)))
            out += bytes(height)
    return bytes(out)


def main():
    folder = sys.argv[1]
    bold = read_pcf(f"{folder}/8x13B.pcf.gz")
    plain = read_pcf(f"{folder}/8x13.pcf.gz")
    small = read_pcf(f"{folder}/5x8.pcf.gz")
    clean = read_pcf(f"{folder}/clB8x8.pcf.gz")
    missing = set()
    tall = [(bold, 0, False), (plain, 0, True)]
    for height, baseline, sources in ((16, 12, tall), (14, 11, tall), (8, 7, [(clean, 0, False), (small, 1, False)])):
        with open(f"font8x{height}.bin", "wb") as out:
            out.write(make(height, baseline, sources, missing))
    if missing:
        print("no glyph for", sorted(missing))


main()
