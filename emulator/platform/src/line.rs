//! Interrupt and other single-wire signals between devices and towards the processor.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use crate::bus::DeviceId;

/// One wire of the board.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct IrqLine(pub u8);

impl IrqLine {
    /// The ISA interrupt request `n`, 0 to 15.
    pub const fn isa(n: u8) -> Self {
        assert!(n < 16);
        Self(n)
    }
    /// The 8259A pair's INTR output, the processor's maskable interrupt pin.
    pub const INTR: Self = Self(16);
    /// The processor's non-maskable interrupt pin.
    pub const NMI: Self = Self(17);
    /// Address line 20 is let through while this is high.
    pub const A20: Self = Self(18);
    /// The processor's FERR# output (x87 error with CR0.NE = 0), wired to IRQ 13 by the board.
    pub const FERR: Self = Self(19);
    /// The first processor's system management interrupt pin, SMI#. It is high while an interrupt waits.
    pub const SMI: Self = Self(20);
    /// The first processor's SMIACT# output: it is in system management mode.
    pub const SMIACT: Self = Self(21);
    /// The names of the wires that every board has.
    pub(crate) fn names() -> Vec<String> {
        let fixed = ["intr", "nmi", "a20", "ferr", "smi", "smiact"].map(String::from);
        let isa = (0..16).map(|n| format!("irq{n}"));
        isa.chain(fixed).collect()
    }

    /// How many wires there can be.
    pub const COUNT: usize = 64;
}

/// All wires. A wire is high while at least one device holds it high.
#[derive(Clone, Debug)]
pub struct IrqLines {
    /// For each wire, a bit for each device that holds it high.
    pub(crate) holders: Vec<u64>,
    pub(crate) changes: VecDeque<(IrqLine, bool)>,
}

impl Default for IrqLines {
    fn default() -> Self {
        Self {
            holders: vec![0; IrqLine::COUNT],
            changes: VecDeque::new(),
        }
    }
}

impl IrqLines {
    /// Drives `line` on behalf of `device`; drivers of one line are OR-ed. Idempotent. Returns
    /// whether its level changed.
    pub fn set(&mut self, device: DeviceId, line: IrqLine, level: bool) -> bool {
        let bit = 1u64 << (device.0 & 63);
        let holders = &mut self.holders[usize::from(line.0)];
        let before = *holders != 0;
        if level {
            *holders |= bit;
        } else {
            *holders &= !bit;
        }
        let after = *holders != 0;
        if before != after {
            self.changes.push_back((line, after));
        }
        before != after
    }

    /// Whether `line` is high.
    #[inline]
    pub fn level(&self, line: IrqLine) -> bool {
        self.holders[usize::from(line.0)] != 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shared_line_stays_high_until_its_last_holder_lowers_it() {
        let mut lines = IrqLines::default();
        let line = IrqLine::isa(4);
        lines.set(DeviceId(1), line, true);
        lines.set(DeviceId(2), line, true);
        lines.set(DeviceId(1), line, true);
        lines.set(DeviceId(1), line, false);
        assert!(lines.level(line));
        lines.set(DeviceId(2), line, false);
        assert!(!lines.level(line));
        assert_eq!(lines.changes.len(), 2);
    }
}
