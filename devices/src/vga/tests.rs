use platform::testkit::Rng;
use platform::{Clock, Frame, GuestMemory};

use super::*;

platform::device_contract!(
    contract,
    Vga::new(),
    [
        (PORTS_3B4, 2, 1),
        (PORT_3BA, 1, 1),
        (PORTS_3C0, 16, 1),
        (PORTS_3D4, 2, 1),
        (PORT_3DA, 1, 1),
        (APERTURE, 0x2_0000, 8),
        (PORTS_1CE, 3, 2),
        (REGISTERS, 4096, 8),
    ]
);

const VGA: DeviceId = DeviceId(0);

/// Registers of a mode: miscellaneous output, sequencer 1-4, CRTC, attribute controller, graphics
/// controller.
struct Mode(u8, [u8; 4], [u8; 25], [u8; 21], [u8; 9]);

const MODE_3: Mode = Mode(
    0x67,
    [0x00, 0x03, 0x00, 0x02],
    [
        0x5F, 0x4F, 0x50, 0x82, 0x55, 0x81, 0xBF, 0x1F, 0x00, 0x4F, 0x0D, 0x0E, 0x00, 0x00, 0x00,
        0x00, 0x9C, 0x8E, 0x8F, 0x28, 0x1F, 0x96, 0xB9, 0xA3, 0xFF,
    ],
    [
        0x00, 0x01, 0x02, 0x03, 0x04, 0x05, 0x14, 0x07, 0x38, 0x39, 0x3A, 0x3B, 0x3C, 0x3D, 0x3E,
        0x3F, 0x0C, 0x00, 0x0F, 0x08, 0x00,
    ],
    [0x00, 0x00, 0x00, 0x00, 0x00, 0x10, 0x0E, 0x00, 0xFF],
);

const MODE_4: Mode = Mode(
    0x63,
    [0x09, 0x03, 0x00, 0x02],
    [
        0x2D, 0x27, 0x28, 0x90, 0x2B, 0x80, 0xBF, 0x1F, 0x00, 0xC1, 0x00, 0x00, 0x00, 0x00, 0x00,
        0x00, 0x9C, 0x8E, 0x8F, 0x14, 0x00, 0x96, 0xB9, 0xA2, 0xFF,
    ],
    [
        0x00, 0x13, 0x15, 0x17, 0x02, 0x04, 0x06, 0x07, 0x10, 0x11, 0x12, 0x13, 0x14, 0x15, 0x16,
        0x17, 0x01, 0x00, 0x03, 0x00, 0x00,
    ],
    [0x00, 0x00, 0x00, 0x00, 0x00, 0x30, 0x0F, 0x0F, 0xFF],
);

const MODE_6: Mode = Mode(
    0x63,
    [0x01, 0x01, 0x00, 0x06],
    [
        0x5F, 0x4F, 0x50, 0x82, 0x54, 0x80, 0xBF, 0x1F, 0x00, 0xC1, 0x00, 0x00, 0x00, 0x00, 0x00,
        0x00, 0x9C, 0x8E, 0x8F, 0x28, 0x00, 0x96, 0xB9, 0xC2, 0xFF,
    ],
    [
        0x00, 0x17, 0x17, 0x17, 0x17, 0x17, 0x17, 0x17, 0x17, 0x17, 0x17, 0x17, 0x17, 0x17, 0x17,
        0x17, 0x01, 0x00, 0x01, 0x00, 0x00,
    ],
    [0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x0D, 0x0F, 0xFF],
);

const MODE_12: Mode = Mode(
    0xE3,
    [0x01, 0x0F, 0x00, 0x06],
    [
        0x5F, 0x4F, 0x50, 0x82, 0x54, 0x80, 0x0B, 0x3E, 0x00, 0x40, 0x00, 0x00, 0x00, 0x00, 0x00,
        0x00, 0xEA, 0x8C, 0xDF, 0x28, 0x00, 0x96, 0xB9, 0xE3, 0xFF,
    ],
    [
        0x00, 0x01, 0x02, 0x03, 0x04, 0x05, 0x14, 0x07, 0x38, 0x39, 0x3A, 0x3B, 0x3C, 0x3D, 0x3E,
        0x3F, 0x01, 0x00, 0x0F, 0x00, 0x00,
    ],
    [0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x05, 0x0F, 0xFF],
);

const MODE_13: Mode = Mode(
    0x63,
    [0x01, 0x0F, 0x00, 0x0E],
    [
        0x5F, 0x4F, 0x50, 0x82, 0x54, 0x80, 0xBF, 0x1F, 0x00, 0x41, 0x00, 0x00, 0x00, 0x00, 0x00,
        0x00, 0x9C, 0x8E, 0x8F, 0x28, 0x40, 0x96, 0xB9, 0xA3, 0xFF,
    ],
    [
        0x00, 0x01, 0x02, 0x03, 0x04, 0x05, 0x06, 0x07, 0x08, 0x09, 0x0A, 0x0B, 0x0C, 0x0D, 0x0E,
        0x0F, 0x41, 0x00, 0x0F, 0x00, 0x00,
    ],
    [0x00, 0x00, 0x00, 0x00, 0x00, 0x40, 0x05, 0x0F, 0xFF],
);

fn bus() -> Bus {
    let memory = GuestMemory::with_device_ram(1 << 20, &[MEMORY_BYTES as u64]).unwrap();
    let mut bus = Bus::new(memory, Clock::new(1, 1));
    let id = bus.add(Box::new(Vga::new()));
    map(&mut bus, id);
    let registers = bus.add_memory_window(id, REGISTERS, REGISTERS_BYTES);
    bus.windows.set_memory(registers, Some(REGISTERS_AT));
    bus.memory.place(MEMORY, Some(MEMORY_AT));
    bus
}

/// Where tests have memory and registers.
const MEMORY_AT: u64 = 0xE000_0000;
const REGISTERS_AT: u64 = 0xFEB0_0000;

fn outb(bus: &mut Bus, port: u16, value: u8) {
    bus.pio_write(port, 1, value.into());
}

fn inb(bus: &mut Bus, port: u16) -> u8 {
    bus.pio_read(port, 1) as u8
}

fn set(bus: &mut Bus, port: u16, index: u8, value: u8) {
    bus.pio_write(port, 2, u32::from(value) << 8 | u32::from(index));
}

fn get(bus: &mut Bus, port: u16, index: u8) -> u8 {
    outb(bus, port, index);
    inb(bus, port + 1)
}

fn poke(bus: &mut Bus, addr: u64, value: u8) {
    bus.mmio_write(PhysAddr(addr), 1, value.into());
}

fn peek(bus: &mut Bus, addr: u64) -> u8 {
    bus.mmio_read(PhysAddr(addr), 1) as u8
}

/// Programs a mode, and the DAC so that entry n is red n, green 2n, blue 63 - n (of 63).
fn set_mode(bus: &mut Bus, mode: &Mode) {
    outb(bus, 0x3C2, mode.0);
    set(bus, 0x3C4, 0, 0x03);
    for (index, value) in (1..).zip(mode.1) {
        set(bus, 0x3C4, index, value);
    }
    set(bus, 0x3D4, 0x11, 0);
    for (index, value) in (0..).zip(mode.2) {
        set(bus, 0x3D4, index, value);
    }
    for (index, value) in (0..).zip(mode.4) {
        set(bus, 0x3CE, index, value);
    }
    inb(bus, 0x3DA);
    for (index, value) in (0..).zip(mode.3) {
        outb(bus, 0x3C0, index);
        outb(bus, 0x3C0, value);
    }
    outb(bus, 0x3C0, 0x20);
    outb(bus, 0x3C8, 0);
    for n in 0..=255u8 {
        for part in [n, n.wrapping_mul(2), 63u8.wrapping_sub(n)] {
            outb(bus, 0x3C9, part);
        }
    }
}

/// The colour that `set_mode` gives to DAC entry `n`.
fn colour(n: u8) -> u32 {
    [n, n.wrapping_mul(2), 63u8.wrapping_sub(n)]
        .iter()
        .map(|six| six & 63)
        .fold(0, |rgb, six| rgb << 8 | u32::from(six << 2 | six >> 4))
}

fn render(bus: &mut Bus) -> Frame {
    bus.input(VGA, &Input::ReadText);
    let text = bus.frame.take().unwrap().text;
    bus.input(VGA, &Input::Render);
    let frame = bus.frame.take().unwrap();
    assert_eq!(text, frame.text, "both ways to read the characters");
    frame
}

/// Puts a glyph into the font at `offset` of plane 2, as a BIOS does.
fn load_glyph(bus: &mut Bus, offset: u64, code: u8, glyph: &[u8]) {
    set(bus, 0x3C4, 2, 4);
    set(bus, 0x3C4, 4, 6);
    set(bus, 0x3CE, 5, 0);
    set(bus, 0x3CE, 6, 4);
    for (row, byte) in (0..).zip(glyph) {
        poke(bus, 0xA_0000 + offset + u64::from(code) * 32 + row, *byte);
    }
    set(bus, 0x3C4, 2, 3);
    set(bus, 0x3C4, 4, 2);
    set(bus, 0x3CE, 5, 0x10);
    set(bus, 0x3CE, 6, 0x0E);
}

#[test]
fn before_a_bios_has_run_the_screen_is_blank() {
    let frame = render(&mut bus());
    assert_eq!((frame.width, frame.height), (720, 400));
    assert_eq!(frame.mode, "blank");
    assert!(frame.pixels.iter().all(|&pixel| pixel == 0) && frame.text.is_none());
}

#[test]
fn mode_3_shows_a_glyph_in_its_cell() {
    let mut bus = bus();
    set_mode(&mut bus, &MODE_3);
    load_glyph(&mut bus, 0, b'A', &[0x81, 0x01]);
    bus.mmio_write(PhysAddr(0xB_8000 + 2 * (80 + 3)), 2, 0x1E41);
    let frame = render(&mut bus);
    assert_eq!((frame.width, frame.height), (720, 400));
    assert_eq!(frame.mode, "text 80x25");
    let row = &frame.pixels[16 * 720 + 27..][..9];
    let (fore, back) = (colour(0x3E), colour(1));
    assert_eq!(row, [fore, back, back, back, back, back, back, fore, back]);
    assert_eq!(frame.pixels[17 * 720 + 27], back);
    assert_eq!(frame.pixels[17 * 720 + 34], fore);
    let text = frame.text.unwrap();
    assert_eq!((text.columns, text.rows), (80, 25));
    assert_eq!(text.cells[83], (b'A', 0x1E));
    assert_eq!(text.cursor, Some((0, 0)));
}

#[test]
fn the_ninth_dot_repeats_for_line_drawing_characters_only() {
    let mut bus = bus();
    set_mode(&mut bus, &MODE_3);
    for code in [0xC4, 0xB0] {
        load_glyph(&mut bus, 0, code, &[0xFF; 16]);
    }
    bus.mmio_write(PhysAddr(0xB_8000 + 160), 4, 0x0FB0_0FC4);
    let frame = render(&mut bus);
    assert_eq!(frame.pixels[16 * 720 + 8], colour(0x3F));
    assert_eq!(frame.pixels[16 * 720 + 17], colour(0));
}

#[test]
fn attribute_bit_3_selects_the_second_font_and_bit_7_blinks() {
    let mut bus = bus();
    set_mode(&mut bus, &MODE_3);
    load_glyph(&mut bus, 0x4000, b'B', &[0x80]);
    set(&mut bus, 0x3C4, 3, 0x04);
    bus.mmio_write(PhysAddr(0xB_8000 + 160), 4, 0x8F42_0742);
    let frame = render(&mut bus);
    assert_eq!(frame.pixels[16 * 720], colour(0));
    assert_eq!(frame.pixels[16 * 720 + 9], colour(0x3F));
    // 70 frames a second: after 20 of them the character is in its dark half.
    bus.clock.skip_to(20 * 1_000_000_000 / 70);
    let frame = render(&mut bus);
    assert_eq!(frame.pixels[16 * 720 + 9], colour(0));
    inb(&mut bus, 0x3DA);
    outb(&mut bus, 0x3C0, 0x30);
    outb(&mut bus, 0x3C0, 0x04);
    let frame = render(&mut bus);
    assert_eq!(
        frame.pixels[16 * 720 + 10],
        colour(0x38),
        "intense background"
    );
}

#[test]
fn the_cursor_fills_its_lines_blinks_and_can_be_switched_off() {
    let mut bus = bus();
    set_mode(&mut bus, &MODE_3);
    set(&mut bus, 0x3D4, 0x0E, 0);
    set(&mut bus, 0x3D4, 0x0F, 81);
    bus.mmio_write(PhysAddr(0xB_8000 + 162), 2, 0x0700);
    let lit = |frame: &Frame, line: usize| frame.pixels[(16 + line) * 720 + 9] == colour(7);
    let frame = render(&mut bus);
    assert!(!lit(&frame, 12) && lit(&frame, 13) && lit(&frame, 14) && !lit(&frame, 15));
    assert_eq!(frame.text.unwrap().cursor, Some((1, 1)));
    bus.clock.skip_to(10 * 1_000_000_000 / 70);
    let frame = render(&mut bus);
    assert!(!lit(&frame, 13));
    assert_eq!(frame.text.unwrap().cursor, Some((1, 1)));
    set(&mut bus, 0x3D4, 0x0A, 0x2D);
    assert_eq!(render(&mut bus).text.unwrap().cursor, None);
}

#[test]
fn underline_shows_on_monochrome_attributes() {
    let mut bus = bus();
    set_mode(&mut bus, &MODE_3);
    set(&mut bus, 0x3D4, 0x14, 0x0D);
    bus.mmio_write(PhysAddr(0xB_8000 + 160), 4, 0x0700_0100);
    let frame = render(&mut bus);
    assert_eq!(frame.pixels[(16 + 13) * 720 + 8], colour(1));
    assert_eq!(frame.pixels[(16 + 13) * 720 + 9], colour(0));
}

#[test]
fn start_address_panning_and_line_compare_move_text() {
    let mut bus = bus();
    set_mode(&mut bus, &MODE_3);
    set(&mut bus, 0x3D4, 0x0A, 0x20);
    load_glyph(&mut bus, 0, b'#', &[0x80; 16]);
    bus.mmio_write(PhysAddr(0xB_8000), 2, 0x0723);
    bus.mmio_write(PhysAddr(0xB_8000 + 2 * 80), 2, 0x0141);
    set(&mut bus, 0x3D4, 0x0D, 80);
    set(&mut bus, 0x3D4, 0x07, 0x0F);
    set(&mut bus, 0x3D4, 0x09, 0x0F);
    set(&mut bus, 0x3D4, 0x07, 0x1F);
    set(&mut bus, 0x3D4, 0x18, (319 - 256) as u8);
    let frame = render(&mut bus);
    let text = frame.text.as_ref().unwrap();
    assert_eq!(text.cells[0], (b'A', 1));
    assert_eq!(
        text.cells[20 * 80],
        (b'#', 7),
        "below the split is address 0"
    );
    assert_eq!(frame.pixels[320 * 720], colour(7));
    // One dot of panning moves the picture, below the split too, until attribute mode bit 5 stops
    // it.
    inb(&mut bus, 0x3DA);
    for byte in [0x33, 0x00] {
        outb(&mut bus, 0x3C0, byte);
    }
    assert_eq!(render(&mut bus).pixels[320 * 720], colour(0));
    for byte in [0x30, 0x2C] {
        outb(&mut bus, 0x3C0, byte);
    }
    assert_eq!(render(&mut bus).pixels[320 * 720], colour(7));
}

#[test]
fn forty_columns_of_eight_dots_and_fifty_rows() {
    let mut bus = bus();
    set_mode(&mut bus, &MODE_3);
    set(&mut bus, 0x3C4, 1, 0x09);
    set(&mut bus, 0x3D4, 0x11, 0x0E);
    set(&mut bus, 0x3D4, 1, 39);
    set(&mut bus, 0x3D4, 9, 0x47);
    let frame = render(&mut bus);
    assert_eq!((frame.width, frame.height), (320, 400));
    assert_eq!(frame.mode, "text 40x50");
}

#[test]
fn mode_13h_is_one_byte_a_pixel() {
    let mut bus = bus();
    set_mode(&mut bus, &MODE_13);
    bus.mmio_write(PhysAddr(0xA_0000 + 320 + 5), 4, 0x0403_0201);
    poke(&mut bus, 0xA_0000 + 199 * 320 + 319, 0x3F);
    assert_eq!(peek(&mut bus, 0xA_0000 + 320 + 7), 3);
    let frame = render(&mut bus);
    assert_eq!((frame.width, frame.height), (320, 200));
    assert_eq!(frame.mode, "graphics 320x200x256");
    let expected: Vec<u32> = (0..=4).map(colour).collect();
    assert_eq!(&frame.pixels[320 + 4..][..5], expected);
    assert_eq!(frame.pixels[199 * 320 + 319], colour(0x3F));
}

#[test]
fn mode_x_puts_pixels_into_planes() {
    let mut bus = bus();
    set_mode(&mut bus, &MODE_13);
    set(&mut bus, 0x3C4, 4, 0x06);
    set(&mut bus, 0x3D4, 0x14, 0x00);
    set(&mut bus, 0x3D4, 0x17, 0xE3);
    // 240 lines: the timing of 480 lines, each pixel on two.
    outb(&mut bus, 0x3C2, 0xE3);
    set(&mut bus, 0x3D4, 0x11, 0x00);
    for (index, value) in [
        (6, 0x0D),
        (7, 0x3E),
        (0x10, 0xEA),
        (0x11, 0xAC),
        (0x12, 0xDF),
    ] {
        set(&mut bus, 0x3D4, index, value);
    }
    set(&mut bus, 0x3C4, 2, 0x04);
    poke(&mut bus, 0xA_0000 + 239 * 80 + 1, 9);
    set(&mut bus, 0x3C4, 2, 0x0F);
    poke(&mut bus, 0xA_0000, 7);
    let frame = render(&mut bus);
    assert_eq!((frame.width, frame.height), (320, 240));
    assert_eq!(frame.mode, "graphics 320x240x256");
    assert_eq!(frame.pixels[..5], [7, 7, 7, 7, 0].map(colour));
    assert_eq!(frame.pixels[239 * 320 + 6], colour(9));
    // Page flipping: the second page starts at 80 * 240.
    set(&mut bus, 0x3D4, 0x0C, 0x4B);
    assert_eq!(render(&mut bus).pixels[0], colour(0));
}

#[test]
fn mode_12h_has_a_bit_of_the_colour_in_each_plane() {
    let mut bus = bus();
    set_mode(&mut bus, &MODE_12);
    for plane in [1, 8] {
        set(&mut bus, 0x3C4, 2, plane);
        poke(&mut bus, 0xA_0000 + 479 * 80 + 79, plane | 1);
    }
    let frame = render(&mut bus);
    assert_eq!((frame.width, frame.height), (640, 480));
    assert_eq!(frame.mode, "graphics 640x480x16");
    let last = &frame.pixels[640 * 480 - 4..];
    assert_eq!(last, [0x38, 0, 0, 0x39].map(colour));
}

#[test]
fn the_cga_modes_interleave_their_lines() {
    let mut bus = bus();
    set_mode(&mut bus, &MODE_4);
    bus.mmio_write(PhysAddr(0xB_8000), 2, 0x1B1B);
    poke(&mut bus, 0xB_A000, 0xC0);
    poke(&mut bus, 0xB_8000 + 80, 0x40);
    let frame = render(&mut bus);
    assert_eq!((frame.width, frame.height), (320, 200));
    assert_eq!(frame.mode, "graphics 320x200x4");
    assert_eq!(
        frame.pixels[..8],
        [0, 0x13, 0x15, 0x17, 0, 0x13, 0x15, 0x17].map(colour)
    );
    assert_eq!(frame.pixels[320], colour(0x17));
    assert_eq!(frame.pixels[640], colour(0x13));

    set_mode(&mut bus, &MODE_6);
    for addr in [0xB_8000, 0xB_A000] {
        bus.mmio_write(PhysAddr(addr), 2, 0);
    }
    poke(&mut bus, 0xB_8001, 0x80);
    poke(&mut bus, 0xB_A000, 0x01);
    let frame = render(&mut bus);
    assert_eq!((frame.width, frame.height), (640, 200));
    assert_eq!(frame.mode, "graphics 640x200x2");
    assert_eq!(frame.pixels[8], colour(0x17));
    assert_eq!(frame.pixels[640 + 7], colour(0x17));
    assert_eq!(frame.pixels[9], colour(0));
}

#[test]
fn write_modes_use_latches_set_reset_rotation_and_masks() {
    let mut bus = bus();
    set_mode(&mut bus, &MODE_12);
    let at = 0xA_0000;
    let planes = |bus: &mut Bus| {
        [0u8, 1, 2, 3].map(|plane| {
            set(bus, 0x3CE, 4, plane);
            peek(bus, at)
        })
    };
    // Write mode 0: set/reset in planes 0 and 1, the rotated byte in the others.
    set(&mut bus, 0x3CE, 0, 0x01);
    set(&mut bus, 0x3CE, 1, 0x03);
    set(&mut bus, 0x3CE, 3, 0x04);
    poke(&mut bus, at, 0x12);
    assert_eq!(planes(&mut bus), [0xFF, 0x00, 0x21, 0x21]);
    // XOR with the latches, in the upper half of the bits.
    set(&mut bus, 0x3CE, 1, 0x00);
    set(&mut bus, 0x3CE, 3, 0x18);
    set(&mut bus, 0x3CE, 8, 0xF0);
    poke(&mut bus, at, 0xFF);
    assert_eq!(planes(&mut bus), [0x0F, 0xF0, 0xD1, 0xD1]);
    // Write mode 1 copies the latches.
    set(&mut bus, 0x3CE, 5, 1);
    peek(&mut bus, at);
    poke(&mut bus, at + 1, 0x00);
    peek(&mut bus, at + 2);
    poke(&mut bus, at, 0x00);
    assert_eq!(planes(&mut bus), [0, 0, 0, 0]);
    peek(&mut bus, at + 1);
    poke(&mut bus, at, 0x00);
    assert_eq!(planes(&mut bus), [0x0F, 0xF0, 0xD1, 0xD1]);
    // Write mode 2: a colour, in the bits of the mask.
    set(&mut bus, 0x3CE, 5, 2);
    set(&mut bus, 0x3CE, 3, 0);
    set(&mut bus, 0x3CE, 8, 0x81);
    poke(&mut bus, at, 0x0A);
    assert_eq!(planes(&mut bus), [0x0E, 0xF1, 0x50, 0xD1]);
    // Write mode 3: set/reset in the bits of the mask and the byte.
    set(&mut bus, 0x3CE, 5, 3);
    set(&mut bus, 0x3CE, 0, 0x0F);
    poke(&mut bus, at, 0x80);
    assert_eq!(planes(&mut bus), [0x8E, 0xF1, 0xD0, 0xD1]);
    // The map mask keeps planes out.
    set(&mut bus, 0x3CE, 5, 0);
    set(&mut bus, 0x3CE, 8, 0xFF);
    set(&mut bus, 0x3C4, 2, 0x02);
    poke(&mut bus, at, 0x55);
    assert_eq!(planes(&mut bus), [0x8E, 0x55, 0xD0, 0xD1]);
}

#[test]
fn read_mode_1_compares_colours_in_the_planes_that_matter() {
    let mut bus = bus();
    set_mode(&mut bus, &MODE_12);
    set(&mut bus, 0x3C4, 2, 0x05);
    poke(&mut bus, 0xA_0000, 0x3C);
    set(&mut bus, 0x3C4, 2, 0x08);
    poke(&mut bus, 0xA_0000, 0x0F);
    set(&mut bus, 0x3CE, 5, 0x08);
    set(&mut bus, 0x3CE, 2, 0x05);
    assert_eq!(peek(&mut bus, 0xA_0000), 0x30);
    set(&mut bus, 0x3CE, 7, 0x07);
    assert_eq!(peek(&mut bus, 0xA_0000), 0x3C);
    set(&mut bus, 0x3CE, 7, 0x00);
    assert_eq!(peek(&mut bus, 0xA_0000), 0xFF);
}

#[test]
fn the_window_moves_and_memory_can_be_disabled() {
    let mut bus = bus();
    set_mode(&mut bus, &MODE_3);
    poke(&mut bus, 0xB_8000, 0x41);
    assert_eq!(peek(&mut bus, 0xB_8000), 0x41);
    assert_eq!(peek(&mut bus, 0xB_0000), 0xFF);
    assert_eq!(peek(&mut bus, 0xA_0000), 0xFF);
    set(&mut bus, 0x3CE, 6, 0x0A);
    assert_eq!(peek(&mut bus, 0xB_0000), 0x41);
    assert_eq!(peek(&mut bus, 0xB_8000), 0xFF);
    set(&mut bus, 0x3CE, 6, 0x02);
    assert_eq!(peek(&mut bus, 0xA_0000), 0x41);
    outb(&mut bus, 0x3C2, 0x65);
    assert_eq!(peek(&mut bus, 0xA_0000), 0xFF);
}

#[test]
fn odd_addresses_are_plane_1_in_odd_even_mode() {
    let mut bus = bus();
    set_mode(&mut bus, &MODE_3);
    bus.mmio_write(PhysAddr(0xB_8000), 4, 0x4433_2211);
    assert_eq!(bus.mmio_read(PhysAddr(0xB_8000), 4), 0x4433_2211);
    set(&mut bus, 0x3CE, 5, 0);
    set(&mut bus, 0x3CE, 6, 0x04);
    set(&mut bus, 0x3CE, 4, 1);
    assert_eq!(peek(&mut bus, 0xA_0000), 0x22);
    assert_eq!(peek(&mut bus, 0xA_0002), 0x44);
    assert_eq!(peek(&mut bus, 0xA_0001), 0x00);
}

#[test]
fn crtc_registers_move_with_the_misc_output_and_can_be_protected() {
    let mut bus = bus();
    set_mode(&mut bus, &MODE_3);
    assert_eq!(get(&mut bus, 0x3D4, 0x01), 0x4F);
    assert_eq!(inb(&mut bus, 0x3B5), 0xFF);
    assert_eq!(inb(&mut bus, 0x3CC), 0x67);
    outb(&mut bus, 0x3C2, 0x66);
    assert_eq!(get(&mut bus, 0x3B4, 0x01), 0x4F);
    assert_eq!(inb(&mut bus, 0x3D5), 0xFF);
    outb(&mut bus, 0x3C2, 0x67);
    set(&mut bus, 0x3D4, 0x11, 0x8E);
    set(&mut bus, 0x3D4, 0x01, 0x12);
    set(&mut bus, 0x3D4, 0x07, 0x00);
    assert_eq!(get(&mut bus, 0x3D4, 0x01), 0x4F);
    assert_eq!(
        get(&mut bus, 0x3D4, 0x07),
        0x0F,
        "the line compare bit is open"
    );
}

#[test]
fn input_status_1_resets_the_attribute_flip_flop() {
    let mut bus = bus();
    set_mode(&mut bus, &MODE_3);
    outb(&mut bus, 0x3C0, 0x31);
    inb(&mut bus, 0x3DA);
    outb(&mut bus, 0x3C0, 0x33);
    assert_eq!(inb(&mut bus, 0x3C0), 0x33);
    assert_eq!(inb(&mut bus, 0x3C1), 0x08);
    outb(&mut bus, 0x3C0, 0x05);
    assert_eq!(inb(&mut bus, 0x3C1), 0x05);
}

#[test]
fn the_dac_counts_components_and_reports_its_state() {
    let mut bus = bus();
    outb(&mut bus, 0x3C8, 254);
    for byte in [1, 2, 0xC3, 4, 5, 6, 7, 8, 9] {
        outb(&mut bus, 0x3C9, byte);
    }
    assert_eq!(inb(&mut bus, 0x3C7), 0);
    assert_eq!(inb(&mut bus, 0x3C8), 1);
    outb(&mut bus, 0x3C7, 254);
    assert_eq!(inb(&mut bus, 0x3C7), 3);
    let read: Vec<u8> = (0..9).map(|_| inb(&mut bus, 0x3C9)).collect();
    assert_eq!(read, [1, 2, 3, 4, 5, 6, 7, 8, 9]);
}

#[test]
fn vertical_retrace_comes_seventy_times_a_second_for_two_lines() {
    let mut bus = bus();
    set_mode(&mut bus, &MODE_3);
    let (mut edges, mut retrace, mut shown) = (0, 0, 0);
    let mut before = 0;
    for step in 0..1_000_000 {
        bus.clock.skip_to(step * 1_000);
        let status = inb(&mut bus, 0x3DA);
        edges += u32::from(status & 8 != 0 && before & 8 == 0);
        retrace += u32::from(status & 8 != 0);
        shown += u32::from(status & 1 == 0);
        before = status;
    }
    assert_eq!(edges, 70);
    // 2 of 449 lines; 720 of 900 dots in 400 of 449 lines.
    assert!((4_300..4_600).contains(&retrace), "{retrace}");
    assert!((711_000..714_000).contains(&shown), "{shown}");
}

#[test]
fn screen_off_blanks_and_rendering_changes_nothing() {
    let mut bus = bus();
    set_mode(&mut bus, &MODE_3);
    let state = |bus: &mut Bus| bus.devices().next().unwrap().1.save();
    let before = state(&mut bus);
    render(&mut bus);
    assert_eq!(state(&mut bus), before);
    set(&mut bus, 0x3C4, 1, 0x20);
    assert_eq!(render(&mut bus).mode, "blank");
}

#[test]
fn random_accesses_never_panic_and_state_survives_a_round_trip() {
    let mut bus = bus();
    let mut rng = Rng::new(7);
    let mut next = || rng.next_u64() >> 31;
    for round in 0..60_000 {
        let size = 1 << (next() % 4);
        match next() % 12 {
            8 => {
                bus.pio_write(0x1CE, 2, next() as u32 % 12);
                bus.pio_write(0x1CF, 2, next() as u32 & 0xFFF);
            }
            9 => drop(bus.pio_read(0x1CE + next() as u16 % 3, 2)),
            10 => drop(bus.mmio_read(PhysAddr(REGISTERS_AT + next() % 0x620), size)),
            11 => bus.mmio_write(PhysAddr(REGISTERS_AT + next() % 0x620), size, next()),
            0 => drop(bus.pio_read(0x3B0 + next() as u16 % 48, size.min(4))),
            1..=4 => bus.pio_write(0x3B0 + next() as u16 % 48, size.min(4), next() as u32),
            5 => drop(bus.mmio_read(PhysAddr(0xA_0000 + next() % 0x2_0000), size)),
            _ => bus.mmio_write(PhysAddr(0xA_0000 + next() % 0x2_0000), size, next()),
        }
        if round % 500 == 0 {
            bus.clock.skip_to(next());
            // Half of the frames are of a screen that is on.
            if round % 1000 == 0 {
                set(&mut bus, 0x3C4, 0, 3);
                outb(&mut bus, 0x3C3, 1);
                let index = if inb(&mut bus, 0x3CC) & 1 != 0 {
                    0x3D4
                } else {
                    0x3B4
                };
                set(&mut bus, index, 0x17, next() as u8 | 0x80);
                inb(&mut bus, index + 6);
                outb(&mut bus, 0x3C0, 0x20);
            }
            let frame = render(&mut bus);
            assert_eq!(frame.pixels.len(), frame.width * frame.height);
        }
    }
    let (_, vga) = bus.devices().next().unwrap();
    let saved = vga.save();
    let mut other = Vga::new();
    other.restore(&saved).unwrap();
    assert_eq!(other.save(), saved);
    bus.reset();
    let (_, vga) = bus.devices().next().unwrap();
    assert_eq!(vga.save(), Vga::new().save());
}

#[test]
fn a_damaged_state_is_refused_and_changes_nothing() {
    let mut vga = Vga::new();
    let mut saved = vga.save();
    saved.bytes.truncate(100);
    assert!(vga.restore(&saved).is_err());
    saved.version += 1;
    assert!(vga.restore(&saved).is_err());
    assert_eq!(vga.save(), Vga::new().save());
}

#[test]
fn a_wide_access_is_its_bytes_in_turn() {
    let mut rng = Rng::new(11);
    let mut next = || rng.next_u64() >> 20;
    for mode in [&MODE_3, &MODE_4, &MODE_6, &MODE_12, &MODE_13] {
        let (mut wide, mut bytes) = (bus(), bus());
        for bus in [&mut wide, &mut bytes] {
            set_mode(bus, mode);
        }
        for round in 0..20_000 {
            if round % 100 == 0 {
                let (index, value) = ([0u8, 1, 3, 4, 5, 6][next() as usize % 6], next() as u8);
                for bus in [&mut wide, &mut bytes] {
                    set(bus, 0x3CE, index, value);
                }
            }
            // Often at the edges of a window.
            let near = [0, 0x8000, 0x1_0000, 0x1_8000][next() as usize % 4];
            let offset = (near + next() % 64).saturating_sub(32);
            let size = 1 << (next() % 4);
            let each = (0..u64::from(size)).map(|n| (n, PhysAddr(0xA_0000 + offset + n)));
            let addr = PhysAddr(0xA_0000 + offset);
            if next() % 2 == 0 {
                let value = next() << 30 ^ next();
                wide.mmio_write(addr, size, value);
                each.for_each(|(n, addr)| bytes.mmio_write(addr, 1, value >> (8 * n)));
            } else {
                let read = wide.mmio_read(addr, size);
                let parts = each.map(|(n, addr)| bytes.mmio_read(addr, 1) << (8 * n));
                assert_eq!(read, parts.sum::<u64>());
            }
        }
        let saved = [&mut wide, &mut bytes].map(|bus| {
            let state = bus.devices().next().unwrap().1.save();
            (state, bus.memory.device_ram(MEMORY).to_vec())
        });
        assert!(saved[0] == saved[1]);
    }
}

#[test]
fn the_short_way_to_memory_writes_what_the_long_one_does() {
    for mode in [&MODE_3, &MODE_13] {
        let (mut short, mut long) = (bus(), bus());
        for bus in [&mut short, &mut long] {
            set_mode(bus, mode);
        }
        // OR with latches that are still clear stores the plain byte, and is not on the short way.
        set(&mut long, 0x3CE, 3, 0x10);
        for n in 0..0x1_0000u64 {
            let addr = PhysAddr(0xA_0000 + n * 37 % 0x2_0000);
            let value = n.wrapping_mul(0x9E37_79B9_7F4A_7C15);
            for bus in [&mut short, &mut long] {
                bus.mmio_write(addr, 1 << (n % 4), value);
            }
        }
        let memory = [&mut short, &mut long].map(|bus| bus.memory.device_ram(MEMORY).to_vec());
        assert!(memory[0] == memory[1]);
    }
}

#[test]
fn a_display_that_keeps_its_picture_is_given_a_new_one_only_when_it_changed() {
    let mut bus = bus();
    set_mode(&mut bus, &MODE_3);
    let changed = |bus: &mut Bus| {
        bus.input(VGA, &Input::RenderChanged);
        bus.frame.take()
    };
    assert_eq!(changed(&mut bus), Some(render(&mut bus)));
    assert_eq!(changed(&mut bus), None);
    inb(&mut bus, 0x3DA);
    assert_eq!(changed(&mut bus), None, "a read");
    poke(&mut bus, 0xB_8000, b'A');
    assert_eq!(changed(&mut bus), Some(render(&mut bus)), "video memory");
    outb(&mut bus, 0x3C8, 0);
    assert!(changed(&mut bus).is_some(), "a register");
    // The cursor blinks every 8 frames of 1/70 second.
    bus.clock.skip_to(bus.clock.now_ns() + 120_000_000);
    assert_eq!(changed(&mut bus), Some(render(&mut bus)), "the cursor");
    for _ in 0..9 {
        bus.clock.skip_to(bus.clock.now_ns() + 114_000_000);
        assert_eq!(
            changed(&mut bus),
            Some(render(&mut bus)),
            "each phase again"
        );
    }
    poke(&mut bus, 0xB_8000, b'B');
    bus.clock.skip_to(bus.clock.now_ns() + 114_000_000);
    assert_eq!(
        changed(&mut bus),
        Some(render(&mut bus)),
        "a phase with news"
    );
    // Without it, characters may still blink, every 16 frames; without both nothing moves.
    set(&mut bus, 0x3D4, 0x0A, 0x20);
    set_attribute_mode(&mut bus, 0x04);
    assert!(changed(&mut bus).is_some());
    bus.clock.skip_to(bus.clock.now_ns() + 1_000_000_000);
    assert_eq!(changed(&mut bus), None, "nothing blinks");
}

#[test]
fn text_carries_the_colours_that_the_dac_gives_its_attributes() {
    let mut bus = bus();
    set_mode(&mut bus, &MODE_3);
    let text = render(&mut bus).text.unwrap();
    // The palette of mode 3 sends attribute 6 to entry 14h, and 8 to 38h.
    assert_eq!(text.palette[6], colour(0x14));
    assert_eq!(text.palette[8], colour(0x38));
    assert!(!text.bright_backgrounds);
    set_attribute_mode(&mut bus, 0x04);
    assert!(render(&mut bus).text.unwrap().bright_backgrounds);
}

fn set_attribute_mode(bus: &mut Bus, value: u8) {
    inb(bus, 0x3DA);
    outb(bus, 0x3C0, 0x30);
    outb(bus, 0x3C0, value);
}

mod packed;
