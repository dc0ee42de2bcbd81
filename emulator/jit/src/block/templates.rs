//! What each instruction becomes that is not a branch.

use super::*;

impl Translator<'_> {
    /// An instruction that is not the block's last, or does not branch.
    pub(super) fn one(&mut self, n: usize, step: &Step) {
        let insn = self.insn(n);
        match step.kind {
            Kind::Nothing => {}
            Kind::Same | Kind::Vector => self.same(n, step),
            Kind::Lea => {
                let to = self.target(insn.r[0].into(), RAX);
                self.address(insn);
                let wide = plan::bits(&step.iced) == 64;
                if wide {
                    self.asm.mov(to, RAX);
                } else {
                    self.asm.mov32(to, RAX);
                }
                self.put(insn.r[0].into(), to);
            }
            Kind::Push => self.push(n, step),
            Kind::Pop => self.pop(n, step),
            Kind::Leave => self.leave(n, step),
            Kind::ShiftBy(count) => self.shift_by(n, step, count),
            Kind::ShiftByCl => self.shift_by_cl(n, step),
            Kind::MultiplyInto => self.multiply_into(n, step),
            Kind::Multiply => self.multiply(n, step),
            Kind::Divide => self.divide(n, step),
            Kind::Scan => self.scan(n, step),
            Kind::Count => self.count(n, step),
            Kind::Extract => self.extract(n, step),
            Kind::MultiplyTwice => self.multiply_twice(n, step),
            Kind::Extend => self.extend(&step.iced),
            Kind::CompareExchange => self.compare_exchange(n, step),
            _ => self.call_in_place(n),
        }
    }

    /// Makes a host instruction of `iced`: `operands` are the registers of its register operands,
    /// where they are others than the guest's, and its memory operand is `[rax + rcx]`. `None`
    /// where there is no such instruction.
    pub(super) fn encoded(
        &mut self,
        iced: &Instruction,
        operands: &[Option<Host>; 4],
    ) -> Option<Vec<u8>> {
        let mut iced = *iced;
        iced.set_has_lock_prefix(false);
        iced.set_segment_prefix(Register::None);
        for n in 0..iced.op_count().min(4) {
            match iced.op_kind(n) {
                OpKind::Register => {
                    if let Some(host) = operands[n as usize] {
                        let old = iced.op_register(n);
                        let new = if plan::is_high_byte(old) {
                            high_byte(host)?
                        } else {
                            register(host, old.size())
                        };
                        iced.set_op_register(n, new);
                    }
                }
                OpKind::Memory => {
                    iced.set_memory_base(Register::RAX);
                    iced.set_memory_index(Register::RCX);
                    iced.set_memory_index_scale(1);
                    iced.set_memory_displacement64(0);
                    iced.set_memory_displ_size(0);
                }
                _ => {}
            }
        }
        let encoded = self.encoder.encode(&iced, 0);
        let bytes = self.encoder.take_buffer();
        match encoded {
            Ok(_) => Some(bytes),
            Err(error) => {
                log::debug!(target: "jit", "{:?}: {error}", iced.code());
                None
            }
        }
    }

    /// The same, at once; a block in which there is no such instruction is given up.
    pub(super) fn encode(&mut self, iced: &Instruction, operands: &[Option<Host>; 4]) {
        match self.encoded(iced, operands) {
            Some(code) => self.asm.bytes(&code),
            None => self.failed = true,
        }
    }

    pub(super) fn same(&mut self, n: usize, step: &Step) {
        let insn = self.insn(n);
        let iced = &step.iced;
        let high = plan::has_high_byte(iced);
        let scratch = if step.memory != 0 {
            [RDX; 4]
        } else {
            [RDX, RCX, RAX, RAX]
        };
        let mut operands = [None; 4];
        for op in 0..iced.op_count().min(4) {
            if iced.op_kind(op) == OpKind::Register && iced.op_register(op).is_gpr() {
                let guest = usize::from(insn.r[op as usize] & 0x1F);
                let scratch = scratch[op as usize];
                // Beside one of AH to BH there can be no register that needs a REX prefix.
                let host = if high {
                    scratch
                } else {
                    self.target(guest, scratch)
                };
                operands[op as usize] = Some(host);
            }
        }
        let Some(code) = self.encoded(iced, &operands) else {
            self.call_in_place(n);
            return;
        };
        self.begin(step);
        if step.kind == Kind::Vector {
            self.want_vectors(n);
        }
        if step.memory != 0 {
            self.linear(insn);
            if step.kind == Kind::Vector && plan::wants_alignment(iced, step.memory) {
                self.asm.pext(RCX, RAX, frame!(vector_mask));
                self.slow_unless_zero();
            }
            self.probe(step, step.memory, step.writes_memory);
        }
        for (op, host) in operands.iter().enumerate() {
            let Some(host) = *host else { continue };
            let guest = usize::from(insn.r[op] & 0x1F);
            if HOST[guest] != Some(host) {
                let from = self.get(guest, host);
                self.asm.mov(host, from);
            }
        }
        self.asm.bytes(&code);
        let mnemonic = iced.mnemonic();
        // Of XADD's two the sum, operand 0, is written last.
        let order = if mnemonic == Mnemonic::Xadd {
            [1, 0]
        } else {
            [0, 1]
        };
        for op in order {
            let written = match op {
                0 => plan::writes_first(mnemonic),
                _ => matches!(mnemonic, Mnemonic::Xchg | Mnemonic::Xadd),
            };
            if let (true, Some(from)) = (written, operands[op]) {
                let guest = usize::from(insn.r[op] & 0x1F);
                match HOST[guest] {
                    Some(host) => self.asm.mov(host, from),
                    None => self.asm.store(slot(guest), from),
                }
            }
        }
        if step.kills || step.reads && iced.rflags_modified() != 0 {
            self.only_in_host();
        }
        self.done(n);
    }

    pub(super) fn call_in_place(&mut self, n: usize) {
        self.save_flags();
        self.emit_call(n);
        self.only_in_frame();
        self.vectors = false;
    }

    /// The vector registers are in the host's own behind this, or the slow path was taken.
    pub(super) fn want_vectors(&mut self, n: usize) {
        if self.vectors {
            return;
        }
        self.vectors = true;
        // mov ecx, vectors_away
        self.asm.rm(false, &[0x8B], RCX, frame!(vectors_away));
        let here = self.asm.jrcxz_ahead();
        let aim = self.asm.jmp_ahead();
        self.asm.aim_short(here);
        self.fetches.push(Fetch {
            aim,
            insn: n,
            save: self.in_host && !self.in_frame,
            restore: self.in_host,
            resume: self.asm.here(),
        });
    }

    /// Bytes that PUSH and its like move.
    pub(super) fn word(&self) -> u64 {
        if self.long { 8 } else { 4 }
    }

    /// Puts the address that a PUSH writes to into RAX.
    pub(super) fn push_address(&mut self) {
        let below = at(host(GUEST_RSP), -(self.word() as i32));
        self.asm.lea(self.long, RAX, below);
    }

    pub(super) fn move_sp(&mut self, by: i32) {
        let sp = host(GUEST_RSP);
        self.asm.lea(self.long, sp, at(sp, by));
    }

    pub(super) fn store_word(&mut self, from: Host) {
        let place = indexed(RAX, RCX, 0, 0);
        if self.long {
            self.asm.store(place, from);
        } else {
            self.asm.store32(place, from);
        }
    }

    pub(super) fn load_word(&mut self, to: Host) {
        let place = indexed(RAX, RCX, 0, 0);
        if self.long {
            self.asm.load(to, place);
        } else {
            self.asm.load32(to, place);
        }
    }

    pub(super) fn push(&mut self, n: usize, step: &Step) {
        let insn = self.insn(n);
        let word = self.word();
        self.begin(step);
        if step.memory != 0 {
            self.linear(insn);
            self.probe(step, word, false);
            self.load_word(RDX);
            self.asm.store(frame!(scratch), RDX);
        }
        self.push_address();
        self.probe(step, word, true);
        match step.iced.op0_kind() {
            OpKind::Memory => {
                self.asm.load(RDX, frame!(scratch));
                self.store_word(RDX);
            }
            OpKind::Register => {
                let from = self.get(insn.r[0].into(), RDX);
                self.store_word(from);
            }
            _ => {
                self.asm.constant(RDX, insn.imm);
                self.store_word(RDX);
            }
        }
        self.move_sp(-(word as i32));
        self.done(n);
    }

    pub(super) fn pop(&mut self, n: usize, step: &Step) {
        let guest = usize::from(self.insn(n).r[0]);
        let word = self.word();
        self.begin(step);
        self.asm.lea(self.long, RAX, at(host(GUEST_RSP), 0));
        self.probe(step, word, false);
        let to = self.target(guest, RDX);
        if guest == GUEST_RSP {
            self.load_word(to);
        } else {
            self.load_word(to);
            self.move_sp(word as i32);
        }
        self.put(guest, to);
        self.done(n);
    }

    pub(super) fn leave(&mut self, n: usize, step: &Step) {
        let word = self.word();
        self.begin(step);
        self.asm.lea(self.long, RAX, at(host(GUEST_RBP), 0));
        self.probe(step, word, false);
        self.load_word(RDX);
        let (sp, bp) = (host(GUEST_RSP), host(GUEST_RBP));
        self.asm.lea(self.long, sp, at(bp, word as i32));
        self.asm.mov(bp, RDX);
        self.done(n);
    }

    /// A shift or rotate by a constant of a register. What the manual leaves open is as the
    /// interpreter has it: AF is 0, and OF for any count as for 1, but for SAR's, which is 0.
    pub(super) fn shift_by(&mut self, n: usize, step: &Step, count: u8) {
        let insn = self.insn(n);
        let guest = usize::from(insn.r[0]);
        let width = plan::bits(&step.iced);
        if count == 0 {
            if width == 32 {
                let to = self.get(guest, RDX);
                self.asm.mov32(to, to);
                self.put(guest, to);
            }
            return;
        }
        let rotates = matches!(step.iced.mnemonic(), Mnemonic::Rol | Mnemonic::Ror);
        if rotates && step.live_after {
            self.save_flags();
        }
        let to = self.get(guest, RDX);
        self.encode(&step.iced, &[Some(to), None, None, None]);
        self.put(guest, to);
        if step.live_after {
            self.mend_shift(&step.iced, to, width);
            self.only_in_frame();
        } else {
            self.nowhere();
        }
    }

    /// Saves the flags of a shift or rotate, whose result is in `to`, for the first time or over those of before.
    pub(super) fn mend_shift(&mut self, iced: &Instruction, result: Host, width: u32) {
        let (wide, top) = (width == 64, width as u8 - 1);
        // The result with nothing above it.
        let low = |asm: &mut Asm, to: Host| match width {
            8 => asm.rr_byte(&[0x0F, 0xB6], to, result),
            16 => asm.rr(false, &[0x0F, 0xB7], to, result),
            _ => asm.mov(to, result),
        };
        match iced.mnemonic() {
            Mnemonic::Rol | Mnemonic::Ror => {
                // setc cl; movzx eax, word flags; and ah, FEh; or ah, cl
                self.asm.bytes(&[0x0F, 0x92, 0xC1]);
                self.asm.rm(false, &[0x0F, 0xB7], RAX, frame!(flags));
                self.asm.bytes(&[0x80, 0xE4, 0xFE, 0x08, 0xCC]);
                // OF: the top bit against CF or the bit below it.
                if iced.mnemonic() == Mnemonic::Rol {
                    low(self.asm, RDX);
                    self.asm.shift(wide, 5, RDX, top);
                    // xor dl, cl
                    self.asm.bytes(&[0x30, 0xCA]);
                } else {
                    // CF is the top bit.
                    low(self.asm, RDX);
                    self.asm.shift(wide, 5, RDX, top - 1);
                    // xor dl, cl; and dl, 1
                    self.asm.bytes(&[0x30, 0xCA, 0x80, 0xE2, 0x01]);
                }
                // mov al, dl
                self.asm.bytes(&[0x88, 0xD0]);
            }
            // lahf; and ah, EFh; mov al, 0
            Mnemonic::Sar => self.asm.bytes(&[0x9F, 0x80, 0xE4, 0xEF, 0xB0, 0x00]),
            Mnemonic::Shr => {
                // lahf; and ah, EFh
                self.asm.bytes(&[0x9F, 0x80, 0xE4, 0xEF]);
                low(self.asm, RCX);
                self.asm.shift(wide, 5, RCX, top - 1);
                // mov al, cl; and al, 1
                self.asm.bytes(&[0x88, 0xC8, 0x24, 0x01]);
            }
            // lahf; mov al, ah; shr al, 7; xor al, ah; and al, 1; and ah, EFh
            _ => self.asm.bytes(&[
                0x9F, 0x88, 0xE0, 0xC0, 0xE8, 0x07, 0x30, 0xE0, 0x24, 0x01, 0x80, 0xE4, 0xEF,
            ]),
        }
        self.store_saved();
    }

    pub(super) fn shift_by_cl(&mut self, n: usize, step: &Step) {
        let insn = self.insn(n);
        let guest = usize::from(insn.r[0]);
        let wide = plan::bits(&step.iced) == 64;
        if step.live_after {
            self.save_flags();
        }
        let to = self.get(guest, RDX);
        self.asm.mov32(RCX, host(GUEST_RCX));
        if !step.live_after {
            self.encode(&step.iced, &[Some(to), None, None, None]);
            self.put(guest, to);
            self.nowhere();
            return;
        }
        if !wide {
            self.asm.mov32(to, to);
        }
        self.asm.alu(false, 4, RCX, if wide { 63 } else { 31 });
        let none = self.asm.jcc_ahead(Cond::E);
        self.encode(&step.iced, &[Some(to), None, None, None]);
        self.mend_shift(&step.iced, to, if wide { 64 } else { 32 });
        self.asm.aim(none);
        self.put(guest, to);
        self.only_in_frame();
    }

    /// IMUL with two or three operands: CF and OF are the host's, the others as of the product.
    pub(super) fn multiply_into(&mut self, n: usize, step: &Step) {
        let insn = self.insn(n);
        let guest = usize::from(insn.r[0]);
        let wide = plan::bits(&step.iced) == 64;
        self.begin(step);
        if step.memory != 0 {
            self.linear(insn);
            self.probe(step, step.memory, false);
        }
        let to = self.get(guest, RDX);
        let second = if step.iced.op1_kind() == OpKind::Register {
            Some(self.get(insn.r[1].into(), RCX))
        } else {
            None
        };
        self.encode(&step.iced, &[Some(to), second, None, None]);
        self.put(guest, to);
        self.mend_product(step, to, wide);
        self.done(n);
    }

    pub(super) fn mend_product(&mut self, step: &Step, low: Host, wide: bool) {
        if !step.live_after {
            self.nowhere();
            return;
        }
        // seto cl; test low, low; lahf; or ah, cl; mov al, cl
        self.asm.bytes(&[0x0F, 0x90, 0xC1]);
        self.asm.rr(wide, &[0x85], low, low);
        self.asm.bytes(&[0x9F, 0x08, 0xCC, 0x88, 0xC8]);
        self.store_saved();
        self.only_in_frame();
    }

    /// The operand of an instruction that has RAX and RDX implied: in RCX.
    pub(super) fn sole_operand(&mut self, n: usize, step: &Step, wide: bool) {
        let insn = self.insn(n);
        if step.memory != 0 {
            self.linear(insn);
            self.probe(step, step.memory, false);
            let place = indexed(RAX, RCX, 0, 0);
            self.asm.rm(wide, &[0x8B], RCX, place);
        } else {
            self.copy(wide, RCX, insn.r[0].into());
        }
    }

    pub(super) fn multiply(&mut self, n: usize, step: &Step) {
        let wide = plan::bits(&step.iced) == 64;
        self.begin(step);
        self.sole_operand(n, step, wide);
        self.copy(wide, RAX, GUEST_RAX);
        let op = if step.iced.mnemonic() == Mnemonic::Mul {
            4
        } else {
            5
        };
        self.asm.rr(wide, &[0xF7], op, RCX);
        let (low, high) = (host(GUEST_RAX), host(GUEST_RDX));
        self.asm.mov(low, RAX);
        self.asm.mov(high, RDX);
        self.mend_product(step, low, wide);
        self.done(n);
    }

    /// DIV and IDIV, where it is clear that the quotient fits. The flags stay.
    pub(super) fn divide(&mut self, n: usize, step: &Step) {
        let wide = plan::bits(&step.iced) == 64;
        self.begin(step);
        self.save_flags();
        self.sole_operand(n, step, wide);
        if step.iced.mnemonic() == Mnemonic::Div {
            self.copy(wide, RDX, GUEST_RDX);
            // cmp rdx, rcx
            self.asm.rr(wide, &[0x3B], RDX, RCX);
            let aim = self.asm.jcc_ahead(Cond::AE);
            self.aims.push(aim);
            self.copy(wide, RAX, GUEST_RAX);
            self.asm.rr(wide, &[0xF7], 6, RCX);
        } else {
            // Neither by 0 nor by -1, and the dividend is but a sign extended.
            self.asm.lea(wide, RAX, at(RCX, 1));
            self.asm.alu(wide, 7, RAX, 1);
            // jbe
            let aim = self.asm.jcc_ahead(Cond(6));
            self.aims.push(aim);
            self.copy(wide, RAX, GUEST_RAX);
            self.asm.mov(RDX, RAX);
            self.asm.shift(wide, 7, RDX, if wide { 63 } else { 31 });
            self.asm.rr(wide, &[0x3B], RDX, host(GUEST_RDX));
            let aim = self.asm.jcc_ahead(Cond::NE);
            self.aims.push(aim);
            self.asm.rr(wide, &[0xF7], 7, RCX);
        }
        self.asm.mov(host(GUEST_RAX), RAX);
        self.asm.mov(host(GUEST_RDX), RDX);
        self.only_in_frame();
        self.done(n);
    }

    /// BSF and BSR: a source of zero leaves the target, and the flags are those of TEST.
    pub(super) fn scan(&mut self, n: usize, step: &Step) {
        let insn = self.insn(n);
        let wide = plan::bits(&step.iced) == 64;
        self.begin(step);
        if step.memory != 0 {
            self.linear(insn);
            self.probe(step, step.memory, false);
            self.asm.rm(wide, &[0x8B], RDX, indexed(RAX, RCX, 0, 0));
        } else {
            self.copy(wide, RDX, insn.r[1].into());
        }
        let upward = matches!(step.iced.mnemonic(), Mnemonic::Bsf | Mnemonic::Tzcnt);
        let opcode = if upward { 0xBC } else { 0xBD };
        self.asm.rr(wide, &[0x0F, opcode], RCX, RDX);
        self.asm.rr(wide, &[0x85], RDX, RDX);
        let zero = self.asm.jcc_ahead(Cond::E);
        let guest = usize::from(insn.r[0]);
        match HOST[guest] {
            Some(host) if wide => self.asm.mov(host, RCX),
            Some(host) => self.asm.mov32(host, RCX),
            None => {
                self.asm.mov32(RCX, RCX);
                self.asm.store(slot(guest), RCX);
            }
        }
        self.asm.aim(zero);
        self.only_in_host();
        self.done(n);
    }

    /// TZCNT and LZCNT: CF and ZF are the host's, the others stay.
    pub(super) fn count(&mut self, n: usize, step: &Step) {
        let insn = self.insn(n);
        let wide = plan::bits(&step.iced) == 64;
        self.begin(step);
        if step.live_after {
            self.save_flags();
        }
        if step.memory != 0 {
            self.linear(insn);
            self.probe(step, step.memory, false);
            self.asm.rm(wide, &[0x8B], RDX, indexed(RAX, RCX, 0, 0));
        } else {
            self.copy(wide, RDX, insn.r[1].into());
        }
        let to = self.target(insn.r[0].into(), RCX);
        let opcode = if step.iced.mnemonic() == Mnemonic::Tzcnt {
            0xBC
        } else {
            0xBD
        };
        self.asm.bytes(&[0xF3]);
        self.asm.rr(wide, &[0x0F, opcode], to, RDX);
        self.put(insn.r[0].into(), to);
        if step.live_after {
            // lahf; mov cl, ah; and cl, 41h; movzx eax, word flags; and ah, BEh; or ah, cl
            self.asm.bytes(&[0x9F, 0x88, 0xE1, 0x80, 0xE1, 0x41]);
            self.asm.rm(false, &[0x0F, 0xB7], RAX, frame!(flags));
            self.asm.bytes(&[0x80, 0xE4, 0xBE, 0x08, 0xCC]);
            self.store_saved();
            self.only_in_frame();
        } else {
            self.nowhere();
        }
        self.done(n);
    }

    /// ANDN and its like on registers: CF and ZF are the host's, SF and PF as of the result, OF and
    /// AF 0; after BEXTR all but ZF are 0.
    pub(super) fn extract(&mut self, n: usize, step: &Step) {
        let insn = self.insn(n);
        let wide = plan::bits(&step.iced) == 64;
        let to = self.target(insn.r[0].into(), RDX);
        let mut operands = [Some(to), None, None, None];
        for (op, scratch) in [(1, RCX), (2, RAX)] {
            if op < step.iced.op_count() as usize {
                operands[op] = Some(self.get(insn.r[op].into(), scratch));
            }
        }
        self.encode(&step.iced, &operands);
        self.put(insn.r[0].into(), to);
        if !step.live_after {
            self.nowhere();
            return;
        }
        if step.iced.mnemonic() == Mnemonic::Bextr {
            // lahf; and ah, 40h
            self.asm.bytes(&[0x9F, 0x80, 0xE4, 0x40]);
        } else {
            // setc cl; test to, to; lahf; or ah, cl
            self.asm.bytes(&[0x0F, 0x92, 0xC1]);
            self.asm.rr(wide, &[0x85], to, to);
            self.asm.bytes(&[0x9F, 0x08, 0xCC]);
        }
        // mov al, 0
        self.asm.bytes(&[0xB0, 0x00]);
        self.store_saved();
        self.only_in_frame();
    }

    /// MULX: no flags. Of one target twice the high half stays.
    pub(super) fn multiply_twice(&mut self, n: usize, step: &Step) {
        let insn = self.insn(n);
        let wide = plan::bits(&step.iced) == 64;
        self.begin(step);
        if step.memory != 0 {
            self.linear(insn);
            self.probe(step, step.memory, false);
            self.asm.rm(wide, &[0x8B], RCX, indexed(RAX, RCX, 0, 0));
        } else {
            self.copy(wide, RCX, insn.r[2].into());
        }
        self.asm.mov(RDX, host(GUEST_RDX));
        let mut iced = step.iced;
        iced.set_op2_kind(OpKind::Register);
        let size = if wide { 8 } else { 4 };
        iced.set_op2_register(register(RCX, size));
        self.encode(&iced, &[Some(RAX), Some(RCX), Some(RCX), None]);
        for (op, from) in [(1, RCX), (0, RAX)] {
            let guest = usize::from(insn.r[op]);
            match HOST[guest] {
                Some(host) => self.asm.mov(host, from),
                None => self.asm.store(slot(guest), from),
            }
        }
        self.done(n);
    }

    pub(super) fn extend(&mut self, iced: &Instruction) {
        let (a, d) = (host(GUEST_RAX), host(GUEST_RDX));
        match iced.mnemonic() {
            Mnemonic::Cbw => {
                self.asm.bytes(&[0x66]);
                self.asm.rr(false, &[0x0F, 0xBE], a, a);
            }
            Mnemonic::Cwde => self.asm.rr(false, &[0x0F, 0xBF], a, a),
            Mnemonic::Cdqe => self.asm.rr(true, &[0x63], a, a),
            Mnemonic::Cdq => {
                self.asm.mov32(RAX, a);
                self.asm.bytes(&[0x99]);
                self.asm.mov32(d, RDX);
            }
            _ => {
                self.asm.mov(RAX, a);
                self.asm.bytes(&[0x48, 0x99]);
                self.asm.mov(d, RDX);
            }
        }
    }

    pub(super) fn compare_exchange(&mut self, n: usize, step: &Step) {
        let insn = self.insn(n);
        let wide = plan::bits(&step.iced) == 64;
        self.begin(step);
        self.linear(insn);
        self.probe(step, step.memory, true);
        self.asm.lea(true, RCX, indexed(RAX, RCX, 0, 0));
        let a = host(GUEST_RAX);
        self.asm.mov(RAX, a);
        let new = self.get(insn.r[1].into(), RDX);
        self.asm.rm(wide, &[0x0F, 0xB1], new, at(RCX, 0));
        let equal = self.asm.jcc_ahead(Cond::E);
        if wide {
            self.asm.mov(a, RAX);
        } else {
            self.asm.mov32(a, RAX);
        }
        self.asm.aim(equal);
        self.only_in_host();
        self.done(n);
    }
}
