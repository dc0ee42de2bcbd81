//! Pictures of the Bochs display interface, memory and its state.

use super::*;

/// Programs the Bochs display interface.
fn dispi(bus: &mut Bus, index: u16, value: u16) {
    bus.pio_write(0x1CE, 2, index.into());
    bus.pio_write(0x1CF, 2, value.into());
}

fn dispi_get(bus: &mut Bus, index: u16) -> u16 {
    bus.pio_write(0x1CE, 2, index.into());
    bus.pio_read(0x1CF, 2) as u16
}

/// Shows packed pixels, as a driver does; `set_mode` gave the palette before.
fn set_packed(bus: &mut Bus, width: u16, height: u16, bits: u16) {
    dispi(bus, 4, 0);
    for (index, value) in [(1, width), (2, height), (3, bits)] {
        dispi(bus, index, value);
    }
    dispi(bus, 4, 0x41);
}

fn fill(bus: &mut Bus, offset: u64, bytes: &[u8]) {
    bus.memory.write(PhysAddr(MEMORY_AT + offset), bytes);
}

#[test]
fn packed_pixels_of_every_depth_are_shown_in_their_colours() {
    let mut bus = bus();
    set_mode(&mut bus, &MODE_13);
    for (bits, bytes, colours) in [
        (8, &[1, 2, 3][..], [1, 2, 3].map(colour)),
        (
            15,
            &[0x00, 0x7C, 0xE0, 0x03, 0x1F, 0x00],
            [0xFF_0000, 0xFF00, 0xFF],
        ),
        (
            16,
            &[0x00, 0xF8, 0xE0, 0x07, 0x1F, 0x00],
            [0xFF_0000, 0xFF00, 0xFF],
        ),
        (
            24,
            &[1, 2, 3, 4, 5, 6, 7, 8, 9],
            [0x03_0201, 0x06_0504, 0x09_0807],
        ),
        (
            32,
            &[1, 2, 3, 0xFF, 4, 5, 6, 0, 7, 8, 9, 1],
            [0x03_0201, 0x06_0504, 0x09_0807],
        ),
    ] {
        set_packed(&mut bus, 800, 600, bits);
        let at = 599 * 800 * u64::from(bits.div_ceil(8));
        fill(&mut bus, at, bytes);
        let frame = render(&mut bus);
        assert_eq!((frame.width, frame.height), (800, 600));
        assert_eq!(frame.pixels[599 * 800..][..3], colours, "{bits} bits");
        assert_eq!(frame.pixels.len(), 800 * 600);
    }
    // A driver of a machine of the other byte order says so.
    bus.mmio_write(PhysAddr(REGISTERS_AT + 0x604), 4, 0xBEBE_BEBE);
    fill(&mut bus, 0, &[0, 1, 2, 3]);
    assert_eq!(render(&mut bus).pixels[0], 0x01_0203);
}

#[test]
fn the_largest_picture_fits_and_larger_ones_are_cut() {
    let mut bus = bus();
    set_mode(&mut bus, &MODE_3);
    set_packed(&mut bus, 2560, 1600, 32);
    fill(&mut bus, (2560 * 1600 - 1) * 4, &[0xFF; 4]);
    let frame = render(&mut bus);
    assert_eq!((frame.width, frame.height), (2560, 1600));
    assert_eq!(*frame.pixels.last().unwrap(), 0xFF_FFFF);
    set_packed(&mut bus, 0xFFFF, 0xFFFF, 32);
    assert_eq!([1, 2].map(|n| dispi_get(&mut bus, n)), [2560, 1600]);
    dispi(&mut bus, 6, 5120);
    assert_eq!(dispi_get(&mut bus, 2), 819, "wider rows leave fewer");
    set_packed(&mut bus, 1, 0, 7);
    assert_eq!([1, 2, 3].map(|n| dispi_get(&mut bus, n)), [8, 1, 8]);
}

#[test]
fn the_interface_says_what_it_can() {
    let mut bus = bus();
    assert_eq!(dispi_get(&mut bus, 0), 0xB0C5);
    dispi(&mut bus, 0, 0xB0C2);
    dispi(&mut bus, 0, 0x1234);
    assert_eq!(dispi_get(&mut bus, 0), 0xB0C2);
    assert_eq!(dispi_get(&mut bus, 0xA), 256);
    dispi(&mut bus, 4, 2);
    assert_eq!([1, 2, 3].map(|n| dispi_get(&mut bus, n)), [2560, 1600, 32]);
    set_packed(&mut bus, 1024, 768, 16);
    assert_eq!([6, 7].map(|n| dispi_get(&mut bus, n)), [1024, 8192]);
    assert_eq!(bus.mmio_read(PhysAddr(REGISTERS_AT + 0x502), 2), 1024);
    bus.mmio_write(PhysAddr(REGISTERS_AT + 0x512), 2, 100);
    assert_eq!(dispi_get(&mut bus, 9), 100);
    assert_eq!(
        bus.mmio_read(PhysAddr(REGISTERS_AT), 8),
        0x00FF_FFFF_FFFF_FF00
    );
    // Ports in memory: the miscellaneous output, written at 2 and read at C.
    bus.mmio_write(PhysAddr(REGISTERS_AT + 0x402), 1, 0x67);
    assert_eq!(bus.mmio_read(PhysAddr(REGISTERS_AT + 0x40C), 1), 0x67);
    bus.mmio_write(PhysAddr(REGISTERS_AT + 0x414), 2, 0x4213);
    assert_eq!(get(&mut bus, 0x3D4, 0x13), 0x42);
}

#[test]
fn the_picture_moves_over_a_larger_one_but_not_beyond_memory() {
    let mut bus = bus();
    set_mode(&mut bus, &MODE_13);
    set_packed(&mut bus, 640, 480, 8);
    dispi(&mut bus, 6, 1024);
    dispi(&mut bus, 8, 100);
    dispi(&mut bus, 9, 200);
    fill(&mut bus, 200 * 1024 + 100, &[7]);
    assert_eq!(render(&mut bus).pixels[0], colour(7));
    dispi(&mut bus, 9, 0xFFFF);
    assert_eq!(dispi_get(&mut bus, 9), 0, "no picture is there");
    assert_eq!(dispi_get(&mut bus, 8), 100);
}

#[test]
fn a_bank_shows_in_the_aperture_and_clearing_is_a_choice() {
    let mut bus = bus();
    set_mode(&mut bus, &MODE_13);
    set_packed(&mut bus, 1024, 768, 8);
    dispi(&mut bus, 5, 3);
    bus.mmio_write(PhysAddr(0xA_FFFC), 8, 0x0807_0605_0403_0201);
    assert_eq!(
        bus.memory.read_array::<4>(PhysAddr(MEMORY_AT + 0x3_FFFC)),
        [1, 2, 3, 4]
    );
    assert_eq!(bus.mmio_read(PhysAddr(0xA_FFFD), 2), 0x0302);
    assert_eq!(peek(&mut bus, 0xB_8000), 0xFF);
    assert_eq!(render(&mut bus).pixels[0x3_FFFF], colour(4));
    dispi(&mut bus, 4, 0);
    dispi(&mut bus, 4, 0xC1);
    assert_eq!(render(&mut bus).pixels[0x3_FFFF], colour(4), "kept");
    dispi(&mut bus, 4, 0);
    dispi(&mut bus, 4, 0x41);
    assert_eq!(render(&mut bus).pixels[0x3_FFFF], colour(0), "cleared");
}

#[test]
fn four_bits_a_pixel_lie_in_planes_larger_than_the_vgas() {
    let mut bus = bus();
    set_mode(&mut bus, &MODE_12);
    set_packed(&mut bus, 1024, 768, 4);
    dispi(&mut bus, 5, 1);
    set(&mut bus, 0x3C4, 2, 0x05);
    poke(&mut bus, 0xA_0000, 0x80);
    let frame = render(&mut bus);
    assert_eq!((frame.width, frame.height), (1024, 768));
    assert_eq!(frame.mode, "graphics 1024x768x16");
    assert_eq!(frame.pixels[0x1_0000 * 8..][..2], [5, 0].map(colour));
    assert_eq!(
        bus.memory.device_ram(MEMORY)[0x4_0000..][..4],
        [0x80, 0, 0x80, 0]
    );
}

#[test]
fn a_dac_of_eight_bits_gives_all_of_them() {
    let mut bus = bus();
    set_mode(&mut bus, &MODE_13);
    dispi(&mut bus, 4, 0x20);
    outb(&mut bus, 0x3C8, 0);
    for byte in [0xFE, 0x80, 0x01] {
        outb(&mut bus, 0x3C9, byte);
    }
    assert_eq!(render(&mut bus).pixels[0], 0xFE_8001);
    outb(&mut bus, 0x3C7, 0);
    assert_eq!(inb(&mut bus, 0x3C9), 0xFE);
}

#[test]
fn only_what_was_drawn_is_painted_again() {
    let mut bus = bus();
    set_mode(&mut bus, &MODE_13);
    set_packed(&mut bus, 1024, 768, 32);
    let changed = |bus: &mut Bus| {
        bus.input(VGA, &Input::RenderChanged);
        bus.frame.take()
    };
    assert_eq!(changed(&mut bus), Some(render(&mut bus)));
    assert_eq!(changed(&mut bus), None);
    fill(&mut bus, 500 * 4096 - 2, &[0xFF; 6]);
    assert_eq!(changed(&mut bus), Some(render(&mut bus)));
    assert_eq!(changed(&mut bus), None);
    fill(&mut bus, 800 * 4096, &[0xFF]);
    assert_eq!(changed(&mut bus), None, "below the picture");
    dispi(&mut bus, 5, 7);
    assert_eq!(changed(&mut bus), None, "a bank is not shown");
    bus.mmio_write(PhysAddr(0xA_0000), 4, 0x1234_5678);
    assert_eq!(
        changed(&mut bus),
        Some(render(&mut bus)),
        "what was drawn in it is"
    );
    dispi(&mut bus, 9, 1);
    assert_eq!(
        changed(&mut bus),
        Some(render(&mut bus)),
        "the picture moved"
    );
    // The screen is switched off and on as drivers do it.
    inb(&mut bus, 0x3DA);
    outb(&mut bus, 0x3C0, 0);
    assert_eq!(changed(&mut bus).unwrap().mode, "blank");
    outb(&mut bus, 0x3C0, 0x20);
    assert_eq!(changed(&mut bus), Some(render(&mut bus)));
}

#[test]
fn a_retrace_comes_in_packed_modes_without_a_programmed_raster() {
    let mut bus = bus();
    outb(&mut bus, 0x3C2, 0x67);
    set_packed(&mut bus, 640, 480, 32);
    let mut edges = 0;
    let mut before = 0;
    for step in 0..100_000 {
        bus.clock.skip_to(step * 10_000);
        let status = inb(&mut bus, 0x3DA);
        edges += u32::from(status & 8 != 0 && before & 8 == 0);
        before = status;
    }
    assert_eq!(edges, 60);
}

#[test]
fn blinking_in_a_planar_mode_changes_bit_3() {
    let mut bus = bus();
    set_mode(&mut bus, &MODE_12);
    set_attribute_mode(&mut bus, 0x09);
    set(&mut bus, 0x3C4, 2, 0x04);
    poke(&mut bus, 0xA_0000, 0x80);
    assert_eq!(render(&mut bus).pixels[0], colour(4));
    bus.clock.skip_to(20 * 1_000_000_000 / 60);
    assert_eq!(render(&mut bus).pixels[0], colour(0x3C));
}

#[test]
fn memory_outlives_a_reset_and_its_content_is_found_by_its_pages() {
    let mut bus = bus();
    set_mode(&mut bus, &MODE_13);
    poke(&mut bus, 0xA_0000, 9);
    assert_eq!(bus.memory.read_array::<1>(PhysAddr(MEMORY_AT)), [9]);
    bus.memory.take_dirty(MEMORY);
    poke(&mut bus, 0xA_4000, 1);
    assert_eq!(bus.memory.take_dirty(MEMORY), [0x1_0000 / 4096]);
    bus.reset();
    assert_eq!(bus.memory.read_array::<1>(PhysAddr(MEMORY_AT)), [9]);
}

#[test]
fn a_state_of_version_1_brings_its_planes_along() {
    let mut old = bus();
    set_mode(&mut old, &MODE_13);
    let registers = {
        let state = old.devices().next().unwrap().1.save();
        let state: State = state.decode(STATE_VERSION).unwrap();
        state.registers
    };
    let mut planes = vec![0u8; VGA_BYTES];
    planes[..4].copy_from_slice(&[1, 2, 3, 4]);
    let saved = SavedState::encode(1, &(registers, planes, 0xAA55_u32));
    let mut bus = bus();
    bus.devices().next().unwrap().1.restore(&saved).unwrap();
    let shown = [1, 2, 3, 4].map(colour);
    assert_eq!(
        render(&mut bus).pixels[..4],
        shown,
        "before anybody touches it"
    );
    let again = bus.devices().next().unwrap().1.save();
    bus.devices().next().unwrap().1.restore(&again).unwrap();
    assert_eq!(peek(&mut bus, 0xA_0002), 3);
    assert_eq!(bus.memory.device_ram(MEMORY)[..4], [1, 2, 3, 4]);
    assert_eq!(render(&mut bus).pixels[..4], shown);
}

#[test]
fn a_state_with_a_picture_beyond_memory_is_refused() {
    let mut vga = Vga::new();
    vga.state.dispi.write(4, 1, MEMORY_BYTES);
    let mut state = vga.state.clone();
    state.dispi = postcard_of([0, 0xB0C5, 0xFFFF, 0xFFFF, 32, 1, 0, 0xFFFF, 0, 0]);
    let saved = SavedState::encode(STATE_VERSION, &state);
    assert!(Vga::new().restore(&saved).is_err());
}

/// The registers of the Bochs display interface in their order.
fn postcard_of(registers: [u16; 10]) -> Dispi {
    SavedState::encode(1, &registers).decode(1).unwrap()
}
