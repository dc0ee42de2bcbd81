//! IN, OUT, INS, OUTS (SDM vol. 2; vol. 1 chapter 19 for the permissions).

use iced_x86::{Code, Mnemonic};

use crate::cpu::{Mode, Reg, SegmentRegister, control};
use crate::exception::Exception;
use crate::flags::bits;
use crate::insn::{Insn, flag};
use crate::smm::io;
use crate::table::Row;
use crate::vcpu::{Vcpu, attention};
use crate::width::{B, D, W16, Width};

/// The rows.
pub const ROWS: &[Row] = &[
    Row::plain(Mnemonic::In, input).ends_block(),
    Row::plain(Mnemonic::Out, output).ends_block(),
    Row::plain(Mnemonic::Insb, ins).branches(),
    Row::plain(Mnemonic::Insw, ins).branches(),
    Row::plain(Mnemonic::Insd, ins).branches(),
    Row::plain(Mnemonic::Outsb, outs).branches(),
    Row::plain(Mnemonic::Outsw, outs).branches(),
    Row::plain(Mnemonic::Outsd, outs).branches(),
];

impl Vcpu {
    /// Checks that the program may access `size` ports at `port`: by IOPL, else by the TSS's bitmap.
    ///
    /// # Errors
    /// #GP(0), #PF.
    pub(crate) fn check_io(&mut self, port: u16, size: u8) -> Result<(), Exception> {
        let virtual8086 = self.cpu.mode() == Mode::Virtual8086;
        if !virtual8086 && self.cpu.cpl <= self.cpu.iopl() {
            return Ok(());
        }
        let tr = self.cpu.segs[SegmentRegister::TR];
        // Only the TSS of the 386 and later has a bitmap.
        if !tr.present() || tr.attributes & 0x1D != 9 || tr.limit < 103 {
            return Err(Exception::gp(0));
        }
        let map = self.sys_load::<W16>(tr.base.wrapping_add(102))?;
        let at = map + u64::from(port / 8);
        // Two bytes are always read, so the bitmap ends with a byte of ones inside the limit.
        if at + 1 > tr.limit.into() {
            return Err(Exception::gp(0));
        }
        let word = self.sys_load::<W16>(tr.base.wrapping_add(at))?;
        let mask = (1 << size) - 1;
        if word >> (port & 7) & mask != 0 {
            return Err(Exception::gp(0));
        }
        Ok(())
    }
}

impl Vcpu {
    /// Notes which I/O breakpoints an access meets (SDM vol. 3B §17.2.4, with CR4.DE); #DB is raised
    /// after the instruction. Ports are looked at only while debug registers are armed.
    fn check_io_breakpoints(&mut self, port: u16, size: u8) {
        let dr7 = self.cpu.dr[7];
        if dr7 & 0xFF == 0 || self.cpu.cr4 & control::CR4_DE == 0 {
            return;
        }
        let (first, last) = (u64::from(port), u64::from(port) + u64::from(size) - 1);
        for n in 0..4 {
            let kind = dr7 >> (16 + 4 * n) & 3;
            let len = [1, 2, 8, 4][(dr7 >> (18 + 4 * n) & 3) as usize];
            let start = self.cpu.dr[n] & !(len - 1);
            if kind == 2 && first < start + len && start <= last {
                self.cpu.pending_debug |= 1 << n;
            }
        }
    }

    fn read_port(&mut self, number: u16, port: u16, size: u8) -> u64 {
        self.check_io_breakpoints(port, size);
        let (value, _) = self.access_bus(number, |bus| bus.pio_read(port, size));
        value.into()
    }

    fn write_port(&mut self, number: u16, port: u16, size: u8, value: u64) {
        self.check_io_breakpoints(port, size);
        self.access_bus(number, |bus| bus.pio_write(port, size, value as u32));
    }
}

/// Operand size in bytes, and whether the port is in DX.
fn form(insn: &Insn) -> (u8, bool) {
    match insn.iced_code() {
        Code::In_AL_imm8 | Code::Out_imm8_AL => (1, false),
        Code::In_AX_imm8 | Code::Out_imm8_AX => (2, false),
        Code::In_EAX_imm8 | Code::Out_imm8_EAX => (4, false),
        Code::In_AL_DX | Code::Out_DX_AL | Code::Insb_m8_DX | Code::Outsb_DX_m8 => (1, true),
        Code::In_AX_DX | Code::Out_DX_AX | Code::Insw_m16_DX | Code::Outsw_DX_m16 => (2, true),
        _ => (4, true),
    }
}

fn port(v: &Vcpu, insn: &Insn, in_dx: bool) -> u16 {
    if in_dx {
        v.cpu.regs[Reg::RDX] as u16
    } else {
        insn.imm as u8 as u16
    }
}

fn input(v: &mut Vcpu, insn: &Insn) -> Result<(), Exception> {
    let (size, in_dx) = form(insn);
    let port = port(v, insn, in_dx);
    v.check_io(port, size)?;
    v.note_io(insn, insn.number, port, size, io::INPUT);
    let value = v.read_port(insn.number, port, size);
    match size {
        1 => v.set::<B>(Reg::RAX as u8, value),
        2 => v.set::<W16>(Reg::RAX as u8, value),
        _ => v.set::<D>(Reg::RAX as u8, value),
    }
    Ok(())
}

fn output(v: &mut Vcpu, insn: &Insn) -> Result<(), Exception> {
    let (size, in_dx) = form(insn);
    let port = port(v, insn, in_dx);
    v.check_io(port, size)?;
    let value = v.cpu.regs[Reg::RAX] & (!0 >> (64 - 8 * u32::from(size)));
    v.note_io(insn, insn.number, port, size, 0);
    v.write_port(insn.number, port, size, value);
    Ok(())
}

fn ins(v: &mut Vcpu, insn: &Insn) -> Result<(), Exception> {
    match form(insn).0 {
        1 => repeat(v, insn, ins_once::<B>),
        2 => repeat(v, insn, ins_once::<W16>),
        _ => repeat(v, insn, ins_once::<D>),
    }
}

fn outs(v: &mut Vcpu, insn: &Insn) -> Result<(), Exception> {
    match form(insn).0 {
        1 => repeat(v, insn, outs_once::<B>),
        2 => repeat(v, insn, outs_once::<W16>),
        _ => repeat(v, insn, outs_once::<D>),
    }
}

/// Writes a register in the width of the address size.
fn set_indexed(v: &mut Vcpu, reg: usize, mask: u64, value: u64) {
    let slot = &mut v.cpu.regs[reg];
    *slot = match mask {
        0xFFFF => (*slot & !0xFFFF) | (value & 0xFFFF),
        mask => value & mask,
    };
}

fn advance<W: Width>(v: &mut Vcpu, insn: &Insn, reg: usize) {
    let step = if v.cpu.rflags & bits::DF != 0 {
        W::BYTES.wrapping_neg()
    } else {
        W::BYTES
    };
    let value = v.cpu.regs[reg].wrapping_add(step);
    set_indexed(v, reg, insn.addr_mask, value);
}

/// One INS: the destination is checked before the device is asked.
fn ins_once<W: Width>(v: &mut Vcpu, insn: &Insn, number: u16) -> Result<(), Exception> {
    let port = v.cpu.regs[Reg::RDX] as u16;
    v.check_io(port, W::BYTES as u8)?;
    let at = v.cpu.regs[Reg::RDI] & insn.addr_mask;
    let lin = v.checked_linear(SegmentRegister::ES, at, W::BYTES, true)?;
    if v.direct_write::<W>(lin).is_none() {
        v.touch_for_update(SegmentRegister::ES as u8, lin, W::BYTES)?;
    }
    v.note_io(insn, number, port, W::BYTES as u8, io::INPUT | io::STRING);
    let value = v.read_port(number, port, W::BYTES as u8);
    v.store_at::<W>(insn.number, SegmentRegister::ES as u8, lin, value)?;
    advance::<W>(v, insn, Reg::RDI);
    Ok(())
}

fn outs_once<W: Width>(v: &mut Vcpu, insn: &Insn, number: u16) -> Result<(), Exception> {
    let port = v.cpu.regs[Reg::RDX] as u16;
    v.check_io(port, W::BYTES as u8)?;
    let at = v.cpu.regs[Reg::RSI] & insn.addr_mask;
    let value = v.load_operand::<W>(insn, at)?;
    v.note_io(insn, number, port, W::BYTES as u8, io::STRING);
    v.write_port(number, port, W::BYTES as u8, value);
    advance::<W>(v, insn, Reg::RSI);
    Ok(())
}

/// Runs `once` once, or with REP as often as the count and the slice allow. An interrupt that comes
/// on the way, from a device or the local APIC, is taken between two iterations.
fn repeat(
    v: &mut Vcpu,
    insn: &Insn,
    once: fn(&mut Vcpu, &Insn, u16) -> Result<(), Exception>,
) -> Result<(), Exception> {
    if !insn.has(flag::REP | flag::REPNE) {
        once(v, insn, insn.number)?;
        let next = v.next_ip(insn);
        v.set_ip(next);
        return Ok(());
    }
    // Time goes on with each iteration: `bus_at` counts from the block's start, in sixteen bits.
    let countable = u64::from((u16::MAX - insn.number).max(1));
    let begun = v.retired + u64::from(insn.number);
    let mut done = 0;
    loop {
        let count = v.cpu.regs[Reg::RCX] & insn.addr_mask;
        if count == 0 {
            let next = v.next_ip(insn);
            v.set_ip(next);
            return Ok(());
        }
        let interrupt = done > 0 && v.wants_interruption();
        // With TF or a breakpoint armed there is a trap after every iteration.
        let single_step = done > 0 && v.attention & attention::STEP != 0;
        // The slice's end draws nearer by what an access takes.
        let over = done > 0 && begun + done >= v.slice_end || done == countable;
        if over || interrupt || single_step {
            v.stop_repeat(insn, done);
            return Ok(());
        }
        let number = insn.number.saturating_add(done as u16);
        once(v, insn, number)?;
        set_indexed(v, Reg::RCX, insn.addr_mask, count.wrapping_sub(1));
        if done > 0 {
            v.extra_retired += 1;
        }
        done += 1;
    }
}
