//! One instruction by itself, for debuggers and for comparing with a processor.

use platform::PhysAddr;

use crate::cpu::{Mode, Reg, SegmentRegister};
use crate::decode::{self, Decoded, MAX_LEN};
use crate::exception::Exception;
use crate::flags::bits;
use crate::insn::flag;
use crate::table::Ends;
use crate::vcpu::{Vcpu, attention, is_canonical};

impl Vcpu {
    /// Executes the instruction at the instruction pointer, a REP to its end (with TF, one iteration), and nothing
    /// beside it: no interrupt, no single-step trap, no breakpoint. INT n enters its handler, as that is what it does.
    ///
    /// # Errors
    /// What the fetch or the instruction raised. It has not been delivered: the state is as the handler would find
    /// it, and the instruction pointer is what would be pushed.
    pub fn execute_one(&mut self) -> Result<(), Exception> {
        self.cpu.shadow = 0;
        self.cpu.rflags &= !bits::RF;
        self.slice_end = !0;
        self.due = !0;
        self.due_ns = !0;
        let ip = self.cpu.regs[Reg::RIP];
        let (insn, ends) = self.fetch_one(ip)?;
        // What waits for attention would end a REP early. With TF each iteration is one by itself.
        let waiting = std::mem::take(&mut self.attention);
        let single = self.cpu.rflags & bits::TF != 0;
        if single {
            self.attention = attention::STEP;
        }
        let mut result = (insn.exec)(self, &insn);
        // An iteration may ask for attention itself, which ends a REP for the run loop to look around.
        while !single
            && insn.has(flag::REP | flag::REPNE)
            && insn.iced_code().is_string_instruction()
            && result.is_ok()
            && self.cpu.regs[Reg::RIP] == ip
        {
            result = (insn.exec)(self, &insn);
        }
        self.attention |= waiting;
        self.retired += std::mem::take(&mut self.extra_retired);
        match result {
            Ok(()) => {
                self.retired += 1;
                if ends != Ends::Branch {
                    let next = self.next_ip(&insn);
                    self.set_ip(next);
                }
                Ok(())
            }
            Err(exception) => {
                if exception.is_trap() {
                    self.retired += 1;
                    let next = self.next_ip(&insn);
                    self.set_ip(next);
                }
                Err(exception)
            }
        }
    }

    /// Delivers what [`execute_one`](Self::execute_one) raised, as the run loop would.
    pub fn deliver_exception(&mut self, exception: Exception) {
        self.raise(exception);
    }

    /// Fetches and decodes one instruction.
    fn fetch_one(&mut self, ip: u64) -> Result<(crate::insn::Insn, Ends), Exception> {
        let lin = self.fetch_linear();
        let long = self.cpu.mode() == Mode::Long;
        if long && !is_canonical(lin) {
            return Err(Exception::gp(0));
        }
        // How many bytes the code segment has left.
        let limit = u64::from(self.cpu.segs[SegmentRegister::CS].limit);
        let inside = if long {
            MAX_LEN
        } else if ip > limit {
            return Err(Exception::gp(0));
        } else {
            (limit - ip + 1).min(MAX_LEN as u64) as usize
        };
        let mut bytes = [0; MAX_LEN];
        let phys = self.translate_fetch(lin)?.0;
        let first = ((4096 - (lin & 0xFFF)) as usize).min(MAX_LEN);
        self.bus()
            .memory
            .read_as_processor(PhysAddr(phys), &mut bytes[..first]);
        let mut decoded = self.decode_one(&bytes[..first]);
        if matches!(decoded, Decoded::Incomplete) {
            if inside <= first {
                return Err(Exception::gp(0));
            }
            let next = lin.wrapping_add(first as u64) & self.linear_mask();
            let phys = self.translate_fetch(next)?.0;
            self.bus()
                .memory
                .read_as_processor(PhysAddr(phys), &mut bytes[first..]);
            decoded = self.decode_one(&bytes);
        }
        match decoded {
            Decoded::Insn(insn, _) if usize::from(insn.len) > inside => Err(Exception::gp(0)),
            Decoded::Insn(insn, ends) => Ok((insn, ends)),
            Decoded::Incomplete => unreachable!("{MAX_LEN} bytes hold any instruction"),
        }
    }

    fn decode_one(&self, bytes: &[u8]) -> Decoded {
        decode::decode(bytes, 0, self.mode_key, &self.model)
    }
}
