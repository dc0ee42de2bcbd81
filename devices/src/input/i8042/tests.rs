use super::*;
use crate::power::PortA;
use platform::testkit::{advance, bus_with_regions};
use platform::{Bus, DeviceId, Key};

const GATES: A20Gates = A20Gates {
    on: IrqLine(40),
    off: IrqLine(41),
};

platform::device_contract!(
    contract,
    I8042::new(GATES),
    [(I8042::DATA, 1, 1), (I8042::COMMAND, 1, 1)]
);

fn controller() -> Bus {
    let mut bus = bus_with_regions(Box::new(I8042::new(GATES)), I8042::MAP);
    let port_a = bus.add(Box::new(PortA::new(GATES)));
    bus.map_ports(port_a, PortA::PORT, 0x92, 1, 1);
    GATES.connect(&mut bus, port_a);
    bus.reset();
    bus
}

/// A controller as a BIOS leaves it: translating, both interrupts on, keyboard on.
fn ready() -> Bus {
    let mut bus = controller();
    command(&mut bus, 0x60);
    data(&mut bus, 0x47);
    bus
}

fn command(bus: &mut Bus, value: u32) {
    bus.pio_write(0x64, 1, value);
}

fn data(bus: &mut Bus, value: u32) {
    bus.pio_write(0x60, 1, value);
}

fn status(bus: &mut Bus) -> u8 {
    bus.pio_read(0x64, 1) as u8
}

fn read(bus: &mut Bus) -> u8 {
    assert_eq!(status(bus) & STATUS_OBF, STATUS_OBF, "nothing to read");
    bus.pio_read(0x60, 1) as u8
}

fn ask(bus: &mut Bus, value: u32) -> u8 {
    command(bus, value);
    read(bus)
}

/// All that arrives within 20 ms.
fn read_all(bus: &mut Bus) -> Vec<u8> {
    let mut bytes = Vec::new();
    for _ in 0..80 {
        while status(bus) & STATUS_OBF != 0 {
            bytes.push(read(bus));
        }
        advance(bus, BYTE_NS);
    }
    bytes
}

fn key(bus: &mut Bus, key: Key, pressed: bool) {
    bus.input(DeviceId(0), &Input::Key { key, pressed });
}

fn a20(bus: &Bus) -> bool {
    bus.lines.level(IrqLine::A20)
}

#[test]
fn the_self_test_and_both_interface_tests_pass() {
    let mut bus = controller();
    assert_eq!(status(&mut bus), STATUS_UNLOCKED);
    assert_eq!(ask(&mut bus, 0xAA), 0x55);
    assert_eq!(status(&mut bus), STATUS_UNLOCKED | STATUS_SYS | STATUS_A2);
    assert_eq!(ask(&mut bus, 0xAB), 0x00);
    assert_eq!(ask(&mut bus, 0xA9), 0x00);
    assert_eq!(bus.pio_read(0x60, 1), 0x00, "the last byte stays readable");
}

#[test]
fn the_command_byte_and_the_ram_read_back() {
    let mut bus = controller();
    for n in 0..32 {
        command(&mut bus, 0x60 + n);
        data(&mut bus, 0x40 + n);
    }
    for n in 0..32 {
        assert_eq!(ask(&mut bus, 0x20 + n), 0x40 + n as u8);
    }
    command(&mut bus, 0xA7);
    command(&mut bus, 0xAD);
    assert_eq!(ask(&mut bus, 0x20), 0x70);
    command(&mut bus, 0xA8);
    command(&mut bus, 0xAE);
    assert_eq!(ask(&mut bus, 0x20), 0x40);
}

#[test]
fn keys_arrive_translated_one_interrupt_a_byte() {
    let mut bus = ready();
    key(&mut bus, Key::A, true);
    assert!(!bus.lines.level(IrqLine::isa(1)));
    advance(&mut bus, BYTE_NS);
    assert!(bus.lines.level(IrqLine::isa(1)));
    key(&mut bus, Key::A, false);
    assert_eq!(read(&mut bus), 0x1E);
    assert!(!bus.lines.level(IrqLine::isa(1)));
    advance(&mut bus, 2 * BYTE_NS);
    assert_eq!(read(&mut bus), 0x9E);
}

#[test]
fn extended_keys_pause_and_print_screen_translate_to_set_1() {
    let mut bus = ready();
    for (pressed, bytes) in [(true, [0xE0, 0x48]), (false, [0xE0, 0xC8])] {
        key(&mut bus, Key::ArrowUp, pressed);
        assert_eq!(read_all(&mut bus), bytes);
    }
    key(&mut bus, Key::Pause, true);
    assert_eq!(read_all(&mut bus), [0xE1, 0x1D, 0x45, 0xE1, 0x9D, 0xC5]);
    key(&mut bus, Key::PrintScreen, true);
    assert_eq!(read_all(&mut bus), [0xE0, 0x2A, 0xE0, 0x37]);
    key(&mut bus, Key::PrintScreen, false);
    assert_eq!(read_all(&mut bus), [0xE0, 0xB7, 0xE0, 0xAA]);
}

#[test]
fn without_translation_set_2_comes_through() {
    let mut bus = ready();
    command(&mut bus, 0x60);
    data(&mut bus, 0x05);
    key(&mut bus, Key::A, true);
    key(&mut bus, Key::A, false);
    assert_eq!(read_all(&mut bus), [0x1C, 0xF0, 0x1C]);
}

#[test]
fn the_keyboard_answers_commands_and_its_id_is_translated() {
    let mut bus = ready();
    data(&mut bus, 0xF2);
    assert_eq!(read_all(&mut bus), [0xFA, 0xAB, 0x41]);
    data(&mut bus, 0xFF);
    assert_eq!(read_all(&mut bus), [0xFA, 0xAA]);
}

#[test]
fn a_disabled_keyboard_holds_its_bytes_and_a_command_enables_it() {
    let mut bus = ready();
    command(&mut bus, 0xAD);
    key(&mut bus, Key::A, true);
    assert_eq!(read_all(&mut bus), []);
    data(&mut bus, 0xEE);
    assert_eq!(read_all(&mut bus), [0xEE, 0x1E]);
    assert_eq!(ask(&mut bus, 0x20) & CB_KEYBOARD_OFF, 0);
}

#[test]
fn the_output_port_and_its_shortcuts_drive_a20() {
    let mut bus = controller();
    assert!(a20(&bus), "all lines of the port are high after a reset");
    command(&mut bus, 0xD1);
    data(&mut bus, 0xDD);
    assert!(!a20(&bus));
    assert_eq!(ask(&mut bus, 0xD0) & 3, 1);
    command(&mut bus, 0xDF);
    assert!(a20(&bus));
    command(&mut bus, 0xDD);
    assert!(!a20(&bus));
}

#[test]
fn of_both_a20_gates_the_one_written_last_decides() {
    let mut bus = controller();
    bus.pio_write(0x92, 1, 0x02);
    command(&mut bus, 0xDD);
    assert!(!a20(&bus));
    assert_eq!(bus.pio_read(0x92, 1), 0);
    bus.pio_write(0x92, 1, 0x02);
    assert!(a20(&bus));
    assert_eq!(ask(&mut bus, 0xD0) & 3, 3);
    command(&mut bus, 0xDF);
    bus.pio_write(0x92, 1, 0x00);
    assert!(!a20(&bus));
    assert_eq!(ask(&mut bus, 0xD0) & 3, 1);
    // The same value as it wrote before counts as well.
    command(&mut bus, 0xDF);
    assert!(a20(&bus));
}

#[test]
fn pulsing_bit_0_and_writing_it_low_reset_the_machine() {
    for value in 0xF0..=0xFF {
        let mut bus = controller();
        command(&mut bus, value);
        let wanted = (value & 1 == 0).then_some(MachineRequest::Reset);
        assert_eq!(bus.request, wanted, "{value:x}");
    }
    let mut bus = controller();
    command(&mut bus, 0xD1);
    data(&mut bus, 0x02);
    assert_eq!(bus.request, Some(MachineRequest::Reset));
}

#[test]
fn loop_backs_appear_as_the_devices_bytes() {
    let mut bus = ready();
    command(&mut bus, 0xD2);
    data(&mut bus, 0x12);
    assert_eq!(status(&mut bus) & STATUS_AUX_OBF, 0);
    assert!(bus.lines.level(IrqLine::isa(1)));
    assert_eq!(read(&mut bus), 0x12, "not translated");
    command(&mut bus, 0xD3);
    data(&mut bus, 0x5A);
    assert_eq!(status(&mut bus) & STATUS_AUX_OBF, STATUS_AUX_OBF);
    assert!(bus.lines.level(IrqLine::isa(12)));
    assert!(!bus.lines.level(IrqLine::isa(1)));
    assert_eq!(read(&mut bus), 0x5A);
}

#[test]
fn a_held_key_repeats_in_virtual_time() {
    let mut bus = ready();
    key(&mut bus, Key::A, true);
    advance(&mut bus, 1_000_000);
    read(&mut bus);
    advance(&mut bus, 499_000_000);
    assert_eq!(status(&mut bus) & STATUS_OBF, 0);
    advance(&mut bus, 1_000_000);
    assert_eq!(read(&mut bus), 0x1E);
}

/// A controller as a driver of both devices leaves it, and a mouse that reports.
fn with_mouse() -> Bus {
    let mut bus = controller();
    command(&mut bus, 0x60);
    data(&mut bus, 0x47);
    command(&mut bus, 0xA8);
    assert_eq!(to_mouse(&mut bus, 0xF4), [0xFA]);
    bus
}

fn to_mouse(bus: &mut Bus, byte: u32) -> Vec<u8> {
    command(bus, 0xD4);
    data(bus, byte);
    read_all(bus)
}

fn motion(bus: &mut Bus, dx: i32, dy: i32, buttons: u8) {
    let input = Input::Mouse {
        dx,
        dy,
        dz: 0,
        buttons,
    };
    bus.input(DeviceId(0), &input);
}

fn irqs(bus: &Bus) -> [bool; 2] {
    [1, 12].map(|n| bus.lines.level(IrqLine::isa(n)))
}

#[test]
fn the_mouse_answers_through_d4_and_enables_its_port() {
    let mut bus = controller();
    assert_eq!(ask(&mut bus, 0x20) & CB_AUX_OFF, CB_AUX_OFF);
    assert_eq!(to_mouse(&mut bus, 0xFF), [0xFA, 0xAA, 0x00]);
    assert_eq!(ask(&mut bus, 0x20) & CB_AUX_OFF, 0);
    for rate in [200, 100, 80] {
        assert_eq!(to_mouse(&mut bus, 0xF3), [0xFA]);
        assert_eq!(to_mouse(&mut bus, rate), [0xFA]);
    }
    assert_eq!(to_mouse(&mut bus, 0xF2), [0xFA, 0x03]);
}

#[test]
fn a_packet_is_three_aux_bytes_with_an_edge_of_irq_12_each() {
    let mut bus = with_mouse();
    motion(&mut bus, 5, -3, 1);
    for byte in [0x29, 0x05, 0xFD] {
        assert_eq!(irqs(&bus), [false, false]);
        advance(&mut bus, BYTE_NS);
        assert_eq!(irqs(&bus), [false, true]);
        assert_eq!(status(&mut bus) & STATUS_AUX_OBF, STATUS_AUX_OBF);
        assert_eq!(read(&mut bus), byte, "not translated");
    }
    assert_eq!(read_all(&mut bus), []);
    assert_eq!(status(&mut bus) & STATUS_AUX_OBF, 0);
}

#[test]
fn without_bit_1_of_the_command_byte_irq_12_stays_low() {
    let mut bus = with_mouse();
    command(&mut bus, 0x60);
    data(&mut bus, 0x45);
    motion(&mut bus, 1, 0, 0);
    advance(&mut bus, BYTE_NS);
    assert_eq!(irqs(&bus), [false, false]);
    assert_eq!(read_all(&mut bus), [0x08, 1, 0]);
}

#[test]
fn a_disabled_mouse_holds_its_packet() {
    let mut bus = with_mouse();
    command(&mut bus, 0xA7);
    motion(&mut bus, 1, 2, 0);
    motion(&mut bus, 1, 2, 0);
    assert_eq!(read_all(&mut bus), []);
    assert_eq!(ask(&mut bus, 0x20) & CB_AUX_OFF, CB_AUX_OFF);
    command(&mut bus, 0xA8);
    assert_eq!(read_all(&mut bus), [0x08, 1, 2, 0x08, 1, 2]);
}

#[test]
fn keyboard_and_mouse_take_turns_in_the_output_buffer() {
    let mut bus = with_mouse();
    motion(&mut bus, 1, 2, 0);
    advance(&mut bus, BYTE_NS);
    key(&mut bus, Key::A, true);
    advance(&mut bus, 10 * BYTE_NS);
    assert_eq!(irqs(&bus), [false, true], "the mouse's byte was first");
    assert_eq!(read(&mut bus), 0x08);
    advance(&mut bus, BYTE_NS);
    assert_eq!(irqs(&bus), [true, false]);
    assert_eq!(status(&mut bus) & STATUS_AUX_OBF, 0);
    assert_eq!(read(&mut bus), 0x1E);
    assert_eq!(read_all(&mut bus), [1, 2]);
}

#[test]
fn a_byte_that_waits_while_the_controller_answers_is_not_lost() {
    let mut bus = with_mouse();
    motion(&mut bus, 1, 2, 0);
    assert_eq!(ask(&mut bus, 0x20), 0x47);
    assert_eq!(read_all(&mut bus), [0x08, 1, 2]);
}

#[test]
fn the_mouse_keeps_its_sample_rate_in_virtual_time() {
    let mut bus = with_mouse();
    motion(&mut bus, 1, 0, 0);
    advance(&mut bus, 1_000_000);
    motion(&mut bus, 2, 0, 0);
    for byte in [0x08, 1, 0] {
        assert_eq!(read(&mut bus), byte);
        advance(&mut bus, BYTE_NS);
    }
    assert_eq!(status(&mut bus) & STATUS_OBF, 0);
    advance(&mut bus, 9_000_000);
    assert_eq!(read(&mut bus), 0x08);
}

#[test]
fn more_keys_are_taken_once_the_guest_has_read_the_last_byte() {
    let mut bus = ready();
    let takes = |bus: &Bus| {
        let (key, pressed) = (Key::A, true);
        bus.takes_input(DeviceId(0), &Input::Key { key, pressed })
    };
    assert!(takes(&bus));
    key(&mut bus, Key::A, true);
    key(&mut bus, Key::A, false);
    assert!(!takes(&bus), "on its way");
    advance(&mut bus, BYTE_NS);
    assert!(!takes(&bus), "not read");
    assert_eq!(read(&mut bus), 0x1E);
    assert!(!takes(&bus), "the release is on its way");
    assert_eq!(read_all(&mut bus), [0x9E]);
    assert!(takes(&bus));
    // A keyboard that is told not to scan ignores keys.
    data(&mut bus, 0xF5);
    read_all(&mut bus);
    assert!(!takes(&bus));
    data(&mut bus, 0xF4);
    read_all(&mut bus);
    assert!(takes(&bus));
}
