//! The PHY behind MDIC: the registers of IEEE 802.3 clause 22, and a few of Marvell's 88E1011 (SDM
//! §13.4.5, appendix).
//!
//! The other end does 1 Gbit/s in full duplex, and negotiation is over as soon as it starts.

use serde::{Deserialize, Serialize};

const CONTROL: usize = 0;
const STATUS: usize = 1;

const RESTART: u16 = 1 << 9;
const LOOPBACK: u16 = 1 << 14;
const RESET: u16 = 1 << 15;

/// MDIC.
const READY: u32 = 1 << 28;
const ERROR: u32 = 1 << 30;
const WRITE: u32 = 1;
const READ: u32 = 2;

/// What the registers have after a reset.
const POWER_ON: [u16; 32] = {
    let mut registers = [0; 32];
    registers[CONTROL] = 0x1140;
    // All speeds, negotiation complete, link up.
    registers[STATUS] = 0x796D;
    registers[2] = 0x0141;
    registers[3] = 0x0C20;
    registers[4] = 0x0DE1;
    // The other end can do all, and acknowledges.
    registers[5] = 0x45E1;
    registers[6] = 0x000F;
    registers[9] = 0x0E00;
    // Both receivers are well, and the other end can do 1 Gbit/s in full duplex.
    registers[10] = 0x3C00;
    registers[15] = 0x3000;
    registers[16] = 0x0360;
    // 1 Gbit/s, full duplex, resolved, link up.
    registers[17] = 0xAC08;
    registers[20] = 0x0D60;
    registers
};

/// The bits of each register that software may write.
const WRITABLE: [u16; 32] = {
    let mut masks = [0; 32];
    masks[CONTROL] = 0x7FC0;
    masks[4] = 0xBFFF;
    masks[7] = 0xBFFF;
    masks[9] = 0xFF00;
    masks[16] = 0xFFFF;
    masks[18] = 0xFFFF;
    masks[20] = 0xFFFF;
    masks[24] = 0xFFFF;
    masks[29] = 0xFFFF;
    masks[30] = 0xFFFF;
    masks
};

/// The registers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Phy {
    registers: [u16; 32],
}

impl Default for Phy {
    fn default() -> Self {
        Self {
            registers: POWER_ON,
        }
    }
}

impl Phy {
    /// Does what MDIC says. Returns MDIC as it is read then, and whether the link was negotiated
    /// anew.
    pub fn access(&mut self, mdic: u32) -> (u32, bool) {
        let kept = mdic & 0x2FFF_FFFF & !READY;
        let register = (mdic >> 16 & 0x1F) as usize;
        // This PHY has number 1.
        if mdic >> 21 & 0x1F != 1 {
            return (kept | ERROR | READY, false);
        }
        match mdic >> 26 & 3 {
            READ => {
                let value = u32::from(self.registers[register]);
                (kept & !0xFFFF | value | READY, false)
            }
            WRITE => (kept | READY, self.write(register, mdic as u16)),
            _ => (kept | ERROR | READY, false),
        }
    }

    fn write(&mut self, register: usize, value: u16) -> bool {
        if register == CONTROL && value & RESET != 0 {
            *self = Self::default();
            return true;
        }
        let mask = WRITABLE[register];
        let kept = self.registers[register] & !mask;
        self.registers[register] = kept | value & mask;
        let restarts = register == CONTROL && value & RESTART != 0;
        if restarts {
            self.registers[CONTROL] &= !RESTART;
        }
        restarts
    }

    /// What is sent comes back.
    pub fn loops_back(&self) -> bool {
        self.registers[CONTROL] & LOOPBACK != 0
    }
}
