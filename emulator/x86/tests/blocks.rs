//! The block cache: what must stay correct while code changes under it.

mod common;

use x86::Exit;
use x86::cpu::Reg;

#[test]
fn a_loop_counts_to_the_instruction() {
    // mov ecx, 10; l: inc eax; dec ecx; jnz l; jmp $
    let code = [0xB9, 10, 0, 0, 0, 0x40, 0x49, 0x75, 0xFC, 0xEB, 0xFE];
    let mut vcpu = common::flat32(&code);
    assert_eq!(vcpu.run(1 + 3 * 10), Exit::Budget);
    assert_eq!(vcpu.cpu.regs[Reg::RAX], 10);
    assert_eq!(vcpu.cpu.regs[Reg::RIP], 0x1009);
    let mut vcpu = common::flat32(&code);
    assert_eq!(vcpu.run(6), Exit::Budget);
    assert_eq!(
        (vcpu.cpu.regs[Reg::RAX], vcpu.cpu.regs[Reg::RIP]),
        (2, 0x1007)
    );
}

#[test]
fn an_instruction_may_rewrite_the_next_one() {
    // mov byte [0x100C], 0x48 (dec eax); mov al, 5; nop; inc eax -> dec eax; jmp $
    let code = [
        0xC6, 0x05, 0x0A, 0x10, 0, 0, 0x48, 0xB0, 5, 0x90, 0x40, 0xEB, 0xFE,
    ];
    let mut vcpu = common::flat32(&code);
    vcpu.run(4);
    assert_eq!(vcpu.cpu.regs[Reg::RAX], 4);
}

#[test]
fn a_loop_may_rewrite_its_own_immediate() {
    // l: add eax, 1 (imm8 at 0x1002); inc byte [0x1002]; dec ecx; jnz l; jmp $
    let code = [
        0x83, 0xC0, 1, 0xFE, 0x05, 0x02, 0x10, 0, 0, 0x49, 0x75, 0xF4, 0xEB, 0xFE,
    ];
    let mut vcpu = common::flat32(&code);
    vcpu.cpu.regs[Reg::RCX] = 10;
    vcpu.run(4 * 10);
    assert_eq!(vcpu.cpu.regs[Reg::RAX], 55);
}

#[test]
fn data_beside_code_does_not_drop_it() {
    // l: inc dword [0x1800]; dec ecx; jnz l; jmp $
    let code = [0xFF, 0x05, 0x00, 0x18, 0, 0, 0x49, 0x75, 0xF7, 0xEB, 0xFE];
    let mut vcpu = common::flat32(&code);
    vcpu.cpu.regs[Reg::RCX] = 1000;
    vcpu.run(3000);
    assert_eq!(
        vcpu.bus()
            .memory
            .read_array::<4>(platform::PhysAddr(0x1800)),
        1000u32.to_le_bytes()
    );
    assert_eq!(vcpu.cpu.regs[Reg::RIP], 0x1009);
}

#[test]
fn a_bus_masters_write_drops_code() {
    // l: inc eax; jmp l
    let mut vcpu = common::flat32(&[0x40, 0xEB, 0xFD]);
    vcpu.run(20);
    assert_eq!(vcpu.cpu.regs[Reg::RAX], 10);
    vcpu.bus().memory.write(platform::PhysAddr(0x1000), &[0x48]);
    vcpu.run(40);
    assert_eq!(vcpu.cpu.regs[Reg::RAX], 0);
}

#[test]
fn an_instruction_may_cross_a_page() {
    // At 0x1FFE: mov eax, 0x12345678; jmp $
    let mut code = vec![0x90; 0xFFE];
    code.extend([0xB8, 0x78, 0x56, 0x34, 0x12, 0xEB, 0xFE]);
    let mut vcpu = common::flat32(&code);
    vcpu.run(0xFFE + 1);
    assert_eq!(vcpu.cpu.regs[Reg::RAX], 0x1234_5678);
    assert_eq!(vcpu.cpu.regs[Reg::RIP], 0x2003);
}

#[test]
fn rep_movs_stops_at_the_budget_and_goes_on() {
    // rep movsb; jmp $
    let mut vcpu = common::flat32(&[0xF3, 0xA4, 0xEB, 0xFE]);
    vcpu.bus()
        .memory
        .write(platform::PhysAddr(0x5000), &[1, 2, 3, 4, 5, 6, 7, 8]);
    vcpu.cpu.regs[Reg::RSI] = 0x5000;
    vcpu.cpu.regs[Reg::RDI] = 0x6000;
    vcpu.cpu.regs[Reg::RCX] = 8;
    vcpu.run(3);
    assert_eq!(
        (vcpu.cpu.regs[Reg::RCX], vcpu.cpu.regs[Reg::RIP]),
        (5, 0x1000)
    );
    vcpu.run(8);
    assert_eq!(
        (vcpu.cpu.regs[Reg::RCX], vcpu.cpu.regs[Reg::RIP]),
        (0, 0x1002)
    );
    assert_eq!(
        vcpu.bus()
            .memory
            .read_array::<8>(platform::PhysAddr(0x6000)),
        [1, 2, 3, 4, 5, 6, 7, 8]
    );
}

/// Bytes behind the bus, as of a display adapter.
struct DeviceMemory(Vec<u8>);

impl platform::Device for DeviceMemory {
    fn name(&self) -> &'static str {
        "memory"
    }
    fn read(&mut self, _: &mut platform::DeviceCtx<'_>, _: u8, offset: u64, _: u8) -> u64 {
        self.0[offset as usize].into()
    }
    fn write(&mut self, _: &mut platform::DeviceCtx<'_>, _: u8, offset: u64, _: u8, value: u64) {
        self.0[offset as usize] = value as u8;
    }
    fn reset(&mut self, _: &mut platform::DeviceCtx<'_>) {}
    fn state(&self) -> platform::StateView<'_> {
        platform::StateView::of(1, &self.0)
    }
    fn restore(&mut self, state: &platform::SavedState) -> Result<(), platform::StateError> {
        self.0 = state.decode(1)?;
        Ok(())
    }
}

#[test]
fn code_in_a_devices_memory_is_never_stale() {
    // mov edi, 0xA0000; call edi; call edi; mov byte [edi], 0x48 (dec eax); call edi; jmp $
    let code = [
        0xBF, 0, 0, 0x0A, 0, 0xFF, 0xD7, 0xFF, 0xD7, 0xC6, 0x07, 0x48, 0xFF, 0xD7, 0xEB, 0xFE,
    ];
    let mut vcpu = common::flat32(&code);
    vcpu.cpu.regs[Reg::RSP] = 0x8000;
    // inc eax; ret
    let mut bytes = vec![0x90; 4096];
    bytes[..2].copy_from_slice(&[0x40, 0xC3]);
    let device = vcpu.bus().add(Box::new(DeviceMemory(bytes)));
    vcpu.bus()
        .map_mmio(device, 0, platform::PhysAddr(0xA_0000), 4096);
    vcpu.run(20);
    assert_eq!(vcpu.cpu.regs[Reg::RIP], 0x100E);
    assert_eq!(vcpu.cpu.regs[Reg::RAX], 1);
}

#[test]
fn a_handler_that_faults_for_ever_uses_up_the_slice() {
    // ud2, which is its own handler; the stack wraps around.
    let mut vcpu = common::real_mode(&[0x0F, 0x0B]);
    vcpu.bus()
        .memory
        .write(platform::PhysAddr(4 * 6), &[0x00, 0x10, 0, 0]);
    assert_eq!(vcpu.run(100_000), Exit::Budget);
    assert_eq!(vcpu.bus().clock.retired(), 100_000);
}

#[test]
fn an_instruction_across_the_end_of_the_code_segment_faults() {
    // 0:FFFF holds the first byte of ADD [BX+SI], AL; #GP leads to 0:2000.
    let mut vcpu = common::real_mode(&[]);
    vcpu.bus()
        .memory
        .write(platform::PhysAddr(4 * 13), &[0x00, 0x20, 0, 0]);
    vcpu.bus()
        .memory
        .write(platform::PhysAddr(0x2000), &[0xEB, 0xFE]);
    vcpu.cpu.regs[Reg::RIP] = 0xFFFF;
    vcpu.cpu.regs[Reg::RSP] = 0x8000;
    vcpu.run(3);
    assert_eq!(vcpu.cpu.regs[Reg::RIP], 0x2000);
    let stack = vcpu
        .bus()
        .memory
        .read_array::<2>(platform::PhysAddr(0x7FFA));
    assert_eq!(stack, [0xFF, 0xFF]);
}

#[test]
fn a_page_at_two_addresses_does_not_mix_up_indirect_jumps() {
    // At physical 1000h: jmp ax. At 1010h: inc bx; jmp $. At 10h: inc cx; jmp $.
    let mut vcpu = common::real_mode(&[0xFF, 0xE0]);
    let memory = &mut vcpu.bus().memory;
    memory.write(platform::PhysAddr(0x1010), &[0x43, 0xEB, 0xFE]);
    memory.write(platform::PhysAddr(0x10), &[0x41, 0xEB, 0xFE]);
    let mut retired = 0;
    for (base, ip) in [(0x1000, 0), (0, 0x1000)] {
        let cs = x86::Segment {
            base,
            ..vcpu.cpu.segs[x86::SegmentRegister::CS]
        };
        vcpu.set_segment(x86::SegmentRegister::CS, cs);
        vcpu.cpu.regs[Reg::RIP] = ip;
        vcpu.cpu.regs[Reg::RAX] = 0x10;
        vcpu.update_mode();
        retired += 3;
        vcpu.run(retired);
    }
    assert_eq!((vcpu.cpu.regs[Reg::RBX], vcpu.cpu.regs[Reg::RCX]), (1, 1));
}

#[test]
fn a_store_that_needs_the_slow_way_leaves_the_rest_of_the_block_to_it() {
    // l: inc eax; mov [0x1800], eax; add ebx, [0x1800]; cmp eax, 100; jne l; jmp $
    let code = [
        0x40, 0xA3, 0x00, 0x18, 0, 0, 0x03, 0x1D, 0x00, 0x18, 0, 0, 0x83, 0xF8, 100, 0x75, 0xEF,
        0xEB, 0xFE,
    ];
    let mut vcpu = common::flat32(&code);
    vcpu.run(5 * 100);
    assert_eq!(
        (vcpu.cpu.regs[Reg::RBX], vcpu.cpu.regs[Reg::RIP]),
        (5050, 0x1011)
    );
}

#[test]
fn a_comparison_and_its_jump_are_two_instructions_at_the_budget() {
    // l: cmp eax, 3; jb l
    let mut vcpu = common::flat32(&[0x83, 0xF8, 3, 0x72, 0xFB]);
    for until in 1..20 {
        vcpu.run(until);
        let ip = if until % 2 == 1 { 0x1003 } else { 0x1000 };
        assert_eq!(vcpu.cpu.regs[Reg::RIP], ip);
    }
}

#[test]
fn the_cache_is_bounded_whatever_the_sizes_of_blocks() {
    // Blocks of ever other lengths all over memory: n times INC EAX, JMP to the next.
    const BYTES: usize = 256 << 10;
    let mut vcpu = common::flat32(&[0xEB, 0xFE]);
    vcpu.code_mut().set_max_bytes(BYTES);
    let mut retired = 0;
    for round in 0..40u64 {
        let mut at = 0x2000u64;
        while at < 0x8_0000 {
            let len = 1 + (at / 64 + round * 7) % 40;
            let mut code = vec![0x40; len as usize];
            let to = at + 64;
            code.push(0xE9);
            code.extend(((to - (at + len + 5)) as u32).to_le_bytes());
            vcpu.bus().memory.write(platform::PhysAddr(at), &code);
            at = to;
        }
        vcpu.bus()
            .memory
            .write(platform::PhysAddr(at), &[0xEB, 0xFE]);
        vcpu.cpu.regs[Reg::RIP] = 0x2000;
        retired += 200_000;
        vcpu.run(retired);
        assert_eq!(vcpu.cpu.regs[Reg::RIP], 0x8_0000);
        let (blocks, kept) = vcpu.code_mut().bytes();
        assert!(blocks <= BYTES + BYTES / 4, "{blocks}");
        // A mapping at a time.
        assert!(kept <= 2 * BYTES + (4 << 20), "{kept}");
    }
    assert!(vcpu.code_mut().evicted > 1000);
}

/// A page of shadowed ROM, of which a device says what it is: 0 ROM, 1 writes to RAM, 2 RAM.
struct Bridge;

impl platform::Device for Bridge {
    fn name(&self) -> &'static str {
        "bridge"
    }
    fn read(&mut self, _: &mut platform::DeviceCtx<'_>, _: u8, _: u64, _: u8) -> u64 {
        0
    }
    fn write(&mut self, ctx: &mut platform::DeviceCtx<'_>, _: u8, _: u64, _: u8, value: u64) {
        let shadow = [
            platform::Shadow::Off,
            platform::Shadow::Write,
            platform::Shadow::Ram,
        ][value as usize % 3];
        ctx.shadow(platform::PhysAddr(0xF_0000), shadow);
    }
    fn reset(&mut self, _: &mut platform::DeviceCtx<'_>) {}
    fn state(&self) -> platform::StateView<'_> {
        platform::StateView::of(1, ())
    }
    fn restore(&mut self, state: &platform::SavedState) -> Result<(), platform::StateError> {
        state.decode(1)
    }
}

#[test]
fn code_in_a_shadowed_page_is_what_the_map_says() {
    // mov edi, 0xF0000; call edi (ROM: inc eax); out 0x10, 1; call edi; mov byte [edi], 0x48 (dec eax);
    // call edi; out 0x10, 2; mov word [edi], 0xC348; call edi; call edi; out 0x10, 0; call edi; jmp $
    let out = |value: u8| vec![0xB9, value, 0, 0, 0, 0x91, 0xE6, 0x10, 0x91];
    let call = vec![0xFF, 0xD7];
    let mut code = vec![0xBF, 0, 0, 0x0F, 0];
    code.extend(&call);
    code.extend(out(1));
    code.extend(&call);
    code.extend([0xC6, 0x07, 0x48]);
    code.extend(&call);
    code.extend(out(2));
    code.extend([0x66, 0xC7, 0x07, 0x48, 0xC3]);
    code.extend(&call);
    code.extend(&call);
    code.extend(out(0));
    code.extend(&call);
    code.extend([0xEB, 0xFE]);
    let mut vcpu = common::flat32(&code);
    vcpu.cpu.regs[Reg::RSP] = 0x8000;
    vcpu.cpu.regs[Reg::RAX] = 0x100;
    let bus = vcpu.bus();
    bus.memory
        .add_rom(platform::PhysAddr(0xF_0000), &[0x40, 0xC3])
        .unwrap();
    let bridge = bus.add(Box::new(Bridge));
    bus.map_ports(bridge, 0, 0x10, 1, 1);
    vcpu.run(60);
    // Three times up from ROM, twice down from RAM, once up again.
    assert_eq!(vcpu.cpu.regs[Reg::RAX], 0x100 + 3 - 2 + 1);
}

#[test]
fn stores_of_a_program_make_clean_pages_dirty_once_they_are_watched() {
    let mut vcpu = common::flat32(&[
        // mov edi, 0xE0000000; mov [edi], eax; mov [edi+0x1000], eax; mov [edi+0x1004], eax; jmp back
        0xBF, 0, 0, 0, 0xE0, 0x89, 0x07, 0x89, 0x87, 0x00, 0x10, 0, 0, 0x89, 0x87, 0x04, 0x10, 0, 0,
        0xEB, 0xF0,
    ]);
    let ram = platform::DeviceRam(0);
    let mut memory = platform::GuestMemory::with_device_ram(1 << 20, &[0x4000]).unwrap();
    memory.place(ram, Some(0xE000_0000));
    let mut code = [0; 64];
    vcpu.bus()
        .memory
        .read(platform::PhysAddr(0x1000), &mut code);
    memory.write(platform::PhysAddr(0x1000), &code);
    vcpu.bus().memory = memory;
    vcpu.run(50);
    let dirty = |vcpu: &mut x86::Vcpu| {
        let dirty = vcpu.bus().memory.take_dirty(ram);
        // As the machine does between two slices.
        let bus = vcpu.detach();
        vcpu.attach(bus);
        dirty
    };
    assert_eq!(dirty(&mut vcpu), [0, 1, 2, 3], "nobody watched until now");
    assert_eq!(dirty(&mut vcpu), []);
    let until = vcpu.bus().clock.retired() + 50;
    vcpu.run(until);
    assert_eq!(dirty(&mut vcpu), [0, 1]);
    let until = vcpu.bus().clock.retired() + 50;
    vcpu.run(until);
    assert_eq!(dirty(&mut vcpu), [0, 1]);
}
