//! What every device's tests share.

use crate::bus::{Bus, DeviceId};
use crate::clock::Clock;
use crate::device::Device;
use crate::input::{Input, Key};
use crate::line::IrqLine;
use crate::memory::GuestMemory;

/// A bus with 1 MiB of RAM and `device` on ports 0 to 0xFFF as region `region`, for a device's unit
/// tests.
pub fn bus_with(device: Box<dyn Device>, region: u8, width: u8) -> Bus {
    bus_with_regions(device, &[(region, 0, 0x1000, width)])
}

/// A bus with 1 MiB of RAM and `device` on the ports of each `(region, base, length, width)`. There
/// are 16 MiB more for a device that has memory of its own.
///
/// Virtual time passes at one nanosecond per retired instruction, so [`advance`] counts
/// nanoseconds.
pub fn bus_with_regions(device: Box<dyn Device>, regions: &[(u8, u16, u16, u8)]) -> Bus {
    let memory = GuestMemory::with_device_ram(1 << 20, &[16 << 20]);
    let memory = memory.expect("a host has a few megabytes");
    let mut bus = Bus::new(memory, Clock::new(1, 1));
    let id = bus.add(device);
    for &(region, base, len, width) in regions {
        bus.map_ports(id, region, base, len, width);
    }
    bus
}

/// Lets `ns` nanoseconds of virtual time pass on a bus of [`bus_with`], firing timers as they fall
/// due.
pub fn advance(bus: &mut Bus, ns: u64) {
    let end_ns = bus.clock.now_ns() + ns;
    while let Some(deadline_ns) = bus.events.next_deadline_ns() {
        if deadline_ns > end_ns {
            break;
        }
        bus.clock.skip_to(deadline_ns);
        bus.run_due_events();
    }
    bus.clock.skip_to(end_ns);
}

/// The state of the only device of a bus of [`bus_with`].
pub fn saved(bus: &mut Bus) -> crate::SavedState {
    let (_, device) = bus.devices().next().expect("the bus has a device");
    device.save()
}

/// SplitMix64 (Steele, Lea and Flood, 2014): numbers that are the same in every run. Every seed
/// gives a good sequence.
#[derive(Clone, Debug)]
pub struct Rng(u64);

impl Rng {
    /// A generator that starts from `seed`.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next 64 bits.
    pub fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ z >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ z >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ z >> 31
    }

    /// A number below `bound`; 0 for 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        ((u128::from(self.next_u64()) * u128::from(bound)) >> 64) as u64
    }
}

/// A range of a device: region, length in bytes, widest access in bytes.
pub type ContractRegion = (u8, u64, u8);

const ACCESSES: usize = 20_000;

/// Resetting a new device changes nothing and, unless something `survives` by design, so does
/// resetting a used one.
pub fn contract_reset(
    new: impl Fn() -> Box<dyn Device>,
    regions: &[ContractRegion],
    survives: bool,
) {
    let fresh = new().save();
    let mut bus = bus_with_regions(new(), &[]);
    bus.reset();
    assert_eq!(saved(&mut bus), fresh, "a reset changes a new device");
    if !survives {
        abuse(&mut bus, regions, 0x5EED_0001);
        bus.reset();
        assert_eq!(
            saved(&mut bus),
            fresh,
            "a used device differs after a reset"
        );
    }
}

/// What is saved, restored into a new device and saved again is the same; damage is refused.
pub fn contract_save(new: impl Fn() -> Box<dyn Device>, regions: &[ContractRegion]) {
    let mut bus = bus_with_regions(new(), &[]);
    for round in 0..8 {
        abuse(&mut bus, regions, 0x5EED_0100 + round);
        let first = saved(&mut bus);
        let mut copy = new();
        copy.restore(&first)
            .expect("a state just saved is restorable");
        assert_eq!(copy.save(), first, "save, restore, save differs");
        let mut other = first.clone();
        other.version += 1;
        assert!(
            copy.restore(&other).is_err(),
            "another version was accepted"
        );
        assert_eq!(copy.save(), first, "a refused state left traces");
    }
}

/// No access, timer or input panics, and the state stays savable and restorable.
pub fn contract_abuse(new: impl Fn() -> Box<dyn Device>, regions: &[ContractRegion]) {
    let mut bus = bus_with_regions(new(), &[]);
    abuse(&mut bus, regions, 0x5EED_0200);
    let state = saved(&mut bus);
    let mut copy = new();
    copy.restore(&state)
        .expect("a state after random accesses is restorable");
}

/// Random reads, writes, inputs and steps of time.
fn abuse(bus: &mut Bus, regions: &[ContractRegion], seed: u64) {
    let mut rng = Rng::new(seed);
    let device = DeviceId(0);
    for _ in 0..ACCESSES {
        let (region, len, width) = match regions.len() {
            0 => (0, 1, 4),
            count => regions[rng.below(count as u64) as usize],
        };
        let sizes = 1 + u64::from(width.trailing_zeros());
        let (mut region, mut size) = (region, 1u8 << rng.below(sizes));
        let mut offset = rng.below(len);
        let mut value = rng.next_u64();
        match rng.below(16) {
            0 => value = 0,
            1 => value = !0,
            2..6 => value >>= rng.below(64),
            _ => {}
        }
        if rng.below(64) == 0 {
            region = value as u8;
            offset = rng.next_u64() >> rng.below(64);
            size = 1 << rng.below(4);
        }
        if size < 8 {
            value &= (1 << (size * 8)) - 1;
        }
        match rng.below(8) {
            0..4 => {
                bus.call(device, |device, ctx| {
                    device.write(ctx, region, offset, size, value)
                });
            }
            4..7 => {
                bus.call(device, |device, ctx| device.read(ctx, region, offset, size));
            }
            _ => {
                if let Some(input) = random_input(&mut rng) {
                    bus.input(device, &input);
                }
            }
        }
        if rng.below(4) == 0 {
            let ns = rng.next_u64() >> (32 + rng.below(32));
            let most_ns = if rng.below(2048) == 0 {
                1_500_000_000
            } else {
                1_000_000
            };
            advance(bus, ns.min(most_ns));
        }
    }
    bus.outputs.clear();
}

fn random_input(rng: &mut Rng) -> Option<Input> {
    const KEYS: [Key; 8] = [
        Key::A,
        Key::ShiftLeft,
        Key::ControlRight,
        Key::AltLeft,
        Key::Pause,
        Key::PrintScreen,
        Key::ArrowUp,
        Key::NumpadEnter,
    ];
    Some(match rng.below(8) {
        0 => Input::Line {
            line: IrqLine(rng.below(IrqLine::COUNT as u64) as u8),
            level: rng.below(2) != 0,
        },
        1 => Input::Key {
            key: KEYS[rng.below(8) as usize],
            pressed: rng.below(2) != 0,
        },
        2 => Input::Serial {
            port: rng.below(4) as u8,
            bytes: (0..rng.below(20)).map(|n| n as u8).collect(),
        },
        3 => match rng.below(3) {
            0 => Input::ReadText,
            1 => Input::RenderChanged,
            _ => Input::Render,
        },
        4 => Input::EndOfInterrupt {
            vector: rng.below(256) as u8,
        },
        5 => Input::Mouse {
            dx: rng.next_u64() as i32 >> rng.below(32),
            dy: rng.next_u64() as i32 >> rng.below(32),
            dz: rng.next_u64() as i32 >> rng.below(32),
            buttons: rng.next_u64() as u8,
        },
        6 => Input::Frame(random_frame(rng)),
        _ => return None,
    })
}

/// A frame of any length, to anybody.
fn random_frame(rng: &mut Rng) -> Vec<u8> {
    let most = [70, 1600, 20_000][rng.below(3) as usize];
    let mut frame: Vec<u8> = (0..rng.below(most)).map(|n| n as u8).collect();
    if rng.below(2) == 0 {
        let len = frame.len().min(6);
        frame[..len].fill(0xFF);
    }
    frame
}

/// Makes the tests that every device has to pass.
///
/// `device_contract!(name, constructor, [(region, length, width), …])`; add `survives_reset` at the
/// end for a device of which something outlives the reset wire on hardware too.
#[macro_export]
macro_rules! device_contract {
    ($name:ident, $new:expr, [$($region:expr),* $(,)?]) => {
        $crate::device_contract!(@tests $name, $new, [$($region),*], false);
    };
    ($name:ident, $new:expr, [$($region:expr),* $(,)?], survives_reset) => {
        $crate::device_contract!(@tests $name, $new, [$($region),*], true);
    };
    (@tests $name:ident, $new:expr, [$($region:expr),*], $survives:expr) => {
        mod $name {
            #[allow(unused_imports)]
            use super::*;

            fn new() -> Box<dyn $crate::Device> {
                Box::new($new)
            }

            #[test]
            fn a_reset_device_equals_a_new_one() {
                $crate::testkit::contract_reset(new, &[$($region),*], $survives);
            }

            #[test]
            fn save_restore_save_is_identical() {
                $crate::testkit::contract_save(new, &[$($region),*]);
            }

            #[test]
            fn no_region_offset_width_or_value_panics() {
                $crate::testkit::contract_abuse(new, &[$($region),*]);
            }
        }
    };
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::DeviceCtx;
    use crate::state::{SavedState, StateError, StateView};

    /// A register that neither a reset nor a restore gets right, and that may panic in one access.
    struct Faulty {
        value: u64,
        panics: bool,
    }

    impl Device for Faulty {
        fn name(&self) -> &'static str {
            "faulty"
        }
        fn read(&mut self, _: &mut DeviceCtx<'_>, _: u8, offset: u64, size: u8) -> u64 {
            assert!(!self.panics || (offset, size) != (3, 2), "no word at 3");
            self.value
        }
        fn write(&mut self, _: &mut DeviceCtx<'_>, _: u8, _: u64, _: u8, value: u64) {
            self.value = value;
        }
        fn reset(&mut self, _: &mut DeviceCtx<'_>) {}
        fn state(&self) -> StateView<'_> {
            StateView::of(1, self.value as u8)
        }
        fn restore(&mut self, state: &SavedState) -> Result<(), StateError> {
            self.value = u64::from(state.decode::<u8>(1)? & 0x7F);
            Ok(())
        }
    }

    fn faulty(panics: bool) -> Box<dyn Device> {
        Box::new(Faulty { value: 0, panics })
    }

    #[test]
    #[should_panic(expected = "no word at 3")]
    fn a_panic_in_a_rare_access_is_found() {
        contract_abuse(|| faulty(true), &[(0, 4, 4)]);
    }

    #[test]
    #[should_panic(expected = "differs after a reset")]
    fn what_a_reset_forgets_is_found() {
        contract_reset(|| faulty(false), &[(0, 2, 1)], false);
    }

    #[test]
    #[should_panic(expected = "save, restore, save differs")]
    fn what_a_restore_forgets_is_found() {
        contract_save(|| faulty(false), &[(0, 2, 1)]);
    }
}
