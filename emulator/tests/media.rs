//! A diskette is changed while the machine is on: the guest sees the change line, and the journal says when.

mod common;

use devices::boards::pc::PcConfig;
use emulator::{Event, Limit, Machine};
use platform::{MemoryDisk, NoSuchDrive};

const DISKETTE_BYTES: usize = 1_474_560;

/// A machine without firmware, which has drive A only.
fn machine() -> Machine {
    let (machine, _) = common::machine_on(PcConfig {
        floppies: vec![Some(Box::new(MemoryDisk::new(vec![0; DISKETTE_BYTES])))],
        ..PcConfig::new(2 << 20)
    });
    machine
}

/// The change line of drive A; `steps`: after a RECALIBRATE with the motor on.
fn changed(machine: &mut Machine, steps: bool) -> bool {
    let bus = machine.bus_mut();
    if steps {
        bus.pio_write(0x3F2, 1, 0x00);
        bus.pio_write(0x3F2, 1, 0x1C);
        let now_ns = bus.clock.now_ns();
        bus.clock.skip_to(now_ns + 1_000_000);
        bus.run_due_events();
        for byte in [0x07, 0x00] {
            bus.pio_write(0x3F5, 1, byte);
        }
    }
    bus.pio_read(0x3F7, 1) & 0x80 != 0
}

#[test]
fn a_change_is_seen_by_the_guest_and_noted_in_the_journal() {
    let mut machine = machine();
    machine.keep_journal(1 << 20);
    assert!(!changed(&mut machine, true));
    assert_eq!(machine.change_medium("i82077", 0, None), Ok(()));
    assert!(changed(&mut machine, true), "an empty drive holds the line");
    let other = MemoryDisk::new(vec![1; DISKETTE_BYTES]);
    let inserted = machine.change_medium("i82077", 0, Some(Box::new(other)));
    assert_eq!(inserted, Ok(()));
    assert!(changed(&mut machine, false));
    assert!(!changed(&mut machine, true));
    let drive_b = machine.change_medium("i82077", 1, None);
    assert_eq!(drive_b, Err(NoSuchDrive));
    let entries = machine.journal().entries().expect("it is kept");
    let noted = entries.iter().map(|entry| match &entry.event {
        Event::Medium {
            device,
            unit,
            inserted,
        } => (device.as_str(), *unit, *inserted),
        other => panic!("{other:?}"),
    });
    let expected = [("i82077", 0, false), ("i82077", 0, true)];
    assert_eq!(noted.collect::<Vec<_>>(), expected);
}

#[test]
fn a_replay_empties_the_drive_until_the_caller_brings_the_medium() {
    let mut first = machine();
    first.keep_journal(1 << 20);
    let limit = Limit {
        retired: 1000,
        now_ns: u64::MAX,
    };
    first.run_until(limit);
    let other = MemoryDisk::new(vec![1; DISKETTE_BYTES]);
    let inserted = first.change_medium("i82077", 0, Some(Box::new(other)));
    assert_eq!(inserted, Ok(()));
    let entries = first.journal().entries().expect("it is kept").to_vec();
    let mut second = machine();
    for entry in &entries {
        assert_eq!(second.replay(entry), None);
    }
    assert_eq!(second.retired(), first.retired());
    assert!(changed(&mut second, true), "empty");
}
