//! Model-specific registers that are not architectural: each model has those of the processor whose family
//! and model it announces (SDM vol. 4), for system software reads them by that number and not by a feature.
//!
//! They answer as on an idle processor without a hypervisor: performance states never change, nothing is
//! counted or recorded, the processor is cool. Every model's time-stamp counter runs at 1 GHz, so the clock
//! ratios say 10 times 100 MHz, or 8 times 125 MHz where the bus clock is 133 MHz on the original.
//!
//! Left out, so that they raise #GP(0): what CPUID would have to announce, such as architectural performance
//! monitoring, machine-check banks, APERF and MPERF, the energy bias, debug store, VMX and SMRR; the uncore.

use crate::cpuid::Generation::{self, Core, Nehalem, P5, P6, Westmere};
use crate::exception::Exception;
use crate::vcpu::Vcpu;

/// What a register does.
#[derive(Clone, Copy)]
enum Kind {
    /// Reads as this; a write raises #GP(0).
    Fixed(u64),
    /// Reads as this; what is written is lost.
    Reads(u64),
    /// Keeps what is written; bits that are not writable must not change.
    Kept { reset: u64, writable: u64 },
}

use Kind::{Fixed, Reads};

const fn kept(reset: u64, writable: u64) -> Kind {
    Kind::Kept { reset, writable }
}

/// First and last number, first and last generation that has them, kind.
type Row = (u32, u32, Generation, Generation, Kind);

/// The bus's multiplier on a Nehalem.
const RATIO: u64 = 8;

#[rustfmt::skip]
const ROWS: &[Row] = &[
    // CESR, CTR0, CTR1.
    (0x011, 0x011, P5, P5, kept(0, 0x03FF_03FF)),
    (0x012, 0x013, P5, P5, Reads(0)),
    // PLATFORM_ID.
    (0x017, 0x017, P6, Westmere, Fixed(0)),
    // EBL_CR_POWERON: the ratio to the bus, on the P6 in the code of the Pentium III's data sheet (bit 27
    // and bits 25-22: 10; bits 19-18: 100 MHz).
    (0x02A, 0x02A, P6, P6, Reads(0x2B << 22 | 2 << 18)),
    (0x02A, 0x02A, Core, Core, Reads(10 << 22)),
    (0x02A, 0x02A, Nehalem, Westmere, Reads(0)),
    // TEST_CTL.
    (0x033, 0x033, P6, P6, kept(0, 0xC000_0000)),
    // SMI_COUNT; CORE_THREAD_COUNT: one of one.
    (0x034, 0x034, Nehalem, Westmere, Fixed(0)),
    (0x035, 0x035, Nehalem, Westmere, Fixed(1 << 16 | 1)),
    // IA32_FEATURE_CONTROL: locked, without VMX.
    (0x03A, 0x03A, Core, Westmere, Fixed(1)),
    // Last branches.
    (0x040, 0x043, Core, Core, Reads(0)),
    (0x060, 0x063, Core, Core, Reads(0)),
    // BBL_CR_D0 to D2.
    (0x088, 0x08A, P6, P6, kept(0, !0)),
    // PMC0 and on: they stand still.
    (0x0C1, 0x0C2, P6, Westmere, Reads(0)),
    (0x0C3, 0x0C4, Nehalem, Westmere, Reads(0)),
    // FSB_FREQ: 100 MHz.
    (0x0CD, 0x0CD, Core, Core, Fixed(5)),
    // PLATFORM_INFO: the highest ratio without turbo, and the most efficient one.
    (0x0CE, 0x0CE, Nehalem, Westmere, Fixed(RATIO << 8 | RATIO << 40)),
    // PKG_CST_CONFIG_CONTROL, PMG_IO_CAPTURE_BASE.
    (0x0E2, 0x0E2, Nehalem, Westmere, kept(0, 0x0700_8407)),
    (0x0E4, 0x0E4, Nehalem, Westmere, kept(0, 0x7_FFFF)),
    // BBL_CR_ADDR, DECC, CTL, TRIG, BUSY.
    (0x116, 0x116, P6, P6, kept(0, 0xFFFF_FFFF)),
    (0x118, 0x118, P6, P6, kept(0, 0xFF)),
    (0x119, 0x11A, P6, P6, Reads(0)),
    (0x11B, 0x11B, P6, P6, Fixed(0)),
    // BBL_CR_CTL3: the second-level cache is there and enabled.
    (0x11E, 0x11E, P6, Westmere, Reads(1 << 8 | 1)),
    // PERFEVTSEL0 and on.
    (0x186, 0x187, P6, Westmere, Reads(0)),
    (0x188, 0x189, Nehalem, Westmere, Reads(0)),
    // FLEX_RATIO, not enabled (bit 16).
    (0x194, 0x194, Nehalem, Westmere, kept(RATIO << 8, 0x1F_FF00)),
    // IA32_PERF_STATUS, IA32_PERF_CTL.
    (0x198, 0x198, Core, Core, Fixed(10 << 8 | 10 << 40)),
    (0x199, 0x199, Core, Core, kept(10 << 8, 0xFFFF)),
    (0x198, 0x198, Nehalem, Westmere, Fixed(RATIO)),
    (0x199, 0x199, Nehalem, Westmere, kept(RATIO, 1 << 32 | 0xFFFF)),
    // IA32_CLOCK_MODULATION, IA32_THERM_INTERRUPT, THERM2_CTL.
    (0x19A, 0x19A, Core, Westmere, kept(0, 0x1E)),
    (0x19B, 0x19B, Core, Westmere, kept(0, 0x00FF_FF1F)),
    (0x19D, 0x19D, Core, Core, kept(0, 1 << 16)),
    // IA32_THERM_STATUS: 60 degrees below TEMPERATURE_TARGET, in steps of 1. Its logs can only be cleared.
    (0x19C, 0x19C, Core, Westmere, Reads(1 << 31 | 1 << 27 | 60 << 16)),
    (0x1A2, 0x1A2, Nehalem, Westmere, Fixed(100 << 16)),
    // MISC_FEATURE_CONTROL: prefetchers. OFFCORE_RSP_0 and 1. MISC_PWR_MGMT.
    (0x1A4, 0x1A4, Nehalem, Westmere, kept(0, 0xF)),
    (0x1A6, 0x1A6, Nehalem, Westmere, kept(0, 0xFFFF)),
    (0x1A7, 0x1A7, Westmere, Westmere, kept(0, 0xFFFF)),
    (0x1AA, 0x1AA, Nehalem, Westmere, kept(0, 3)),
    // TURBO_POWER_CURRENT_LIMIT: 95 W and 95 A. TURBO_RATIO_LIMIT: no turbo, a byte a core.
    (0x1AC, 0x1AC, Nehalem, Westmere, Fixed((95 * 8) << 16 | (95 * 8))),
    (0x1AD, 0x1AD, Nehalem, Nehalem, Fixed(RATIO * 0x0101_0101)),
    (0x1AD, 0x1AD, Westmere, Westmere, Fixed(RATIO * 0x0101_0101_0101)),
    // LBR_SELECT; LASTBRANCH_TOS; last branches and last exceptions.
    (0x1C8, 0x1C8, Nehalem, Westmere, kept(0, 0x1FF)),
    (0x1C9, 0x1C9, Core, Westmere, Fixed(0)),
    (0x1DB, 0x1DC, P6, P6, Fixed(0)),
    (0x1DD, 0x1DE, P6, Westmere, Fixed(0)),
    (0x680, 0x68F, Nehalem, Westmere, Reads(0)),
    (0x6C0, 0x6CF, Nehalem, Westmere, Reads(0)),
    // ROB_CR_BKUPTMPDR6.
    (0x1E0, 0x1E0, P6, P6, kept(0, 1 << 2)),
    // POWER_CTL: C1E.
    (0x1FC, 0x1FC, Nehalem, Westmere, kept(0, 1 << 1)),
];

fn find(generation: Generation, register: u32) -> Result<Kind, Exception> {
    ROWS.iter()
        .find(|(first, last, from, to, _)| {
            (*first..=*last).contains(&register) && (*from..=*to).contains(&generation)
        })
        .map(|row| row.4)
        .ok_or(Exception::gp(0))
}

impl Vcpu {
    /// Reads a register of the announced model.
    ///
    /// # Errors
    /// #GP(0) for one that it has not.
    pub(super) fn read_model_register(&self, register: u32) -> Result<u64, Exception> {
        Ok(match find(self.model.generation(), register)? {
            Fixed(value) | Reads(value) => value,
            Kind::Kept { reset, .. } => {
                let written = self.cpu.msr.of_model.get(&register);
                written.copied().unwrap_or(reset)
            }
        })
    }

    /// Writes a register of the announced model.
    ///
    /// # Errors
    /// #GP(0) for one that it has not or that is read-only, and for a change of reserved bits.
    pub(super) fn write_model_register(
        &mut self,
        register: u32,
        value: u64,
    ) -> Result<(), Exception> {
        match find(self.model.generation(), register)? {
            Fixed(_) => return Err(Exception::gp(0)),
            Reads(_) => {}
            Kind::Kept { reset, writable } => {
                if (value ^ reset) & !writable != 0 {
                    return Err(Exception::gp(0));
                }
                self.cpu.msr.of_model.insert(register, value);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_generation_has_a_register_twice() {
        for (n, (first, last, from, to, _)) in ROWS.iter().enumerate() {
            assert!(first <= last && from <= to);
            assert!(
                !ROWS[..n]
                    .iter()
                    .any(|(f, l, g, t, _)| f <= last && l >= first && g <= to && t >= from),
                "{first:x}"
            );
        }
    }
}
