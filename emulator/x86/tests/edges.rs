//! The edges of decoded code and of the MMU: programs that rewrite, remap and cut themselves in the worst places.

mod common;

use platform::{Device, DeviceCtx, IrqLine, PhysAddr, SavedState, StateError, StateView};
use x86::Vcpu;
use x86::cpu::{Reg, control};

struct Chip {
    bytes: Vec<u8>,
    raise: bool,
    times: std::sync::Arc<std::sync::Mutex<Vec<u64>>>,
}
impl Device for Chip {
    fn name(&self) -> &'static str {
        "chip"
    }
    fn read(&mut self, _: &mut DeviceCtx<'_>, _: u8, offset: u64, size: u8) -> u64 {
        (0..u64::from(size))
            .map(|i| u64::from(self.bytes[(offset + i) as usize]) << (8 * i))
            .sum()
    }
    fn write(&mut self, ctx: &mut DeviceCtx<'_>, _: u8, _: u64, _: u8, _: u64) {
        self.times.lock().unwrap().push(ctx.now_ns());
        if self.raise {
            ctx.set_line(IrqLine::INTR, true);
        }
    }
    fn reset(&mut self, _: &mut DeviceCtx<'_>) {}
    fn state(&self) -> StateView<'_> {
        StateView::of(1, &self.bytes)
    }
    fn restore(&mut self, state: &SavedState) -> Result<(), StateError> {
        self.bytes = state.decode(1)?;
        Ok(())
    }
}

fn put(v: &mut Vcpu, at: u64, bytes: &[u8]) {
    v.bus().memory.write(PhysAddr(at), bytes);
}
fn put32(v: &mut Vcpu, at: u64, value: u32) {
    put(v, at, &value.to_le_bytes());
}
fn chip(v: &mut Vcpu, bytes: &[u8], raise: bool) -> std::sync::Arc<std::sync::Mutex<Vec<u64>>> {
    let mut all = vec![0x90; 0x2000];
    all[..bytes.len()].copy_from_slice(bytes);
    let times = std::sync::Arc::default();
    let device = v.bus().add(Box::new(Chip {
        bytes: all,
        raise,
        times: std::sync::Arc::clone(&times),
    }));
    v.bus().map_mmio(device, 0, PhysAddr(0xA_0000), 0x2000);
    times
}
/// jmp from `at` to `to`.
fn jmp(at: u64, to: u64) -> [u8; 5] {
    let [a, b, c, d] = (to.wrapping_sub(at + 5) as u32).to_le_bytes();
    [0xE9, a, b, c, d]
}
/// Identity-maps 1 MiB by 4-KiB pages: directory 40000h, table 41000h.
fn paged() -> Vcpu {
    let mut v = common::flat32(&[]);
    put32(&mut v, 0x4_0000, 0x4_1003);
    for n in 0..256u32 {
        put32(&mut v, 0x4_1000 + 4 * u64::from(n), n << 12 | 3);
    }
    v.cpu.cr4 |= control::CR4_PSE;
    v.cpu.cr3 = 0x4_0000;
    v.cpu.cr0 |= control::CR0_PG;
    v.flush_tlb();
    v.update_mode();
    v
}

#[test]
fn a_second_page_that_is_remapped_is_fetched_anew_by_a_linked_block() {
    second_page(100..=100);
}
#[test]
fn control_second_page_one_by_one() {
    second_page(1..=100);
}
fn second_page(pieces: std::ops::RangeInclusive<u64>) {
    let mut v = paged();
    // 2FF0: nops; 2FFE: mov eax, imm32 across the page; 3003: jmp ebx
    put(&mut v, 0x2FF0, &[0x90; 14]);
    put(&mut v, 0x2FFE, &[0xB8, 0x11, 0x11, 0x11, 0x11, 0xFF, 0xE3]);
    put(&mut v, 0x5000, &[0x22, 0x22, 0x22, 0xFF, 0xE3]);
    // 2000: mov dword [4100C], 5003h; invlpg [3000]; mov ebx, 2800; jmp 2FF0. 2800: jmp $
    let mut code = vec![0xC7, 0x05, 0x0C, 0x10, 0x04, 0, 0x03, 0x50, 0, 0];
    code.extend([0x0F, 0x01, 0x3D, 0, 0x30, 0, 0]);
    code.extend([0xBB, 0, 0x28, 0, 0]);
    let at = 0x2000 + code.len() as u64;
    code.extend(jmp(at, 0x2FF0));
    put(&mut v, 0x2000, &code);
    put(&mut v, 0x2800, &[0xEB, 0xFE]);
    v.cpu.regs[Reg::RIP] = 0x2FF0;
    v.cpu.regs[Reg::RBX] = 0x2000;
    for until in pieces {
        v.run(until);
    }
    assert_eq!(v.cpu.regs[Reg::RIP], 0x2800);
    assert_eq!(v.cpu.regs[Reg::RAX], 0x2222_2211);
}

#[test]
fn invlpg_drops_a_large_pages_device_pieces() {
    let mut v = paged();
    chip(&mut v, &[0x55; 0x2000], false);
    // Linear 400000h: a page of 4 MiB at 0; later a table, in which 4A1000 is 6000h.
    put32(&mut v, 0x4_0004, 0x83);
    put32(&mut v, 0x4_2000 + 4 * 0xA1, 0x6003);
    put32(&mut v, 0x6000, 0x1234_5678);
    // mov eax,[4A1000]; mov dword [40004], 42003; invlpg [400000]; mov ebx,[4A1000]; jmp $
    let code = [
        0xA1, 0x00, 0x10, 0x4A, 0, 0xC7, 0x05, 0x04, 0, 0x04, 0, 0x03, 0x20, 0x04, 0, 0x0F, 0x01,
        0x3D, 0, 0, 0x40, 0, 0x8B, 0x1D, 0x00, 0x10, 0x4A, 0, 0xEB, 0xFE,
    ];
    put(&mut v, 0x1000, &code);
    v.run(50);
    assert_eq!(v.cpu.regs[Reg::RAX], 0x5555_5555);
    assert_eq!(v.cpu.regs[Reg::RBX], 0x1234_5678);
}

/// mov ds, ax; mov ebx, [7000h]; jmp $, with DS based at 10000h by it.
fn loads_ds(at: u64) -> u64 {
    let code = [0x8E, 0xD8, 0x8B, 0x1D, 0, 0x70, 0, 0, 0xEB, 0xFE];
    let mut v = common::flat32(&[]);
    chip(&mut v, &code, false);
    put(&mut v, 0x2000, &code);
    put(&mut v, 0x6008, &[0xFF, 0xFF, 0, 0, 1, 0x93, 0xCF, 0]);
    v.cpu.gdtr.base = 0x6000;
    v.cpu.gdtr.limit = 0xFF;
    put32(&mut v, 0x7000, 0x2222_2222);
    put32(&mut v, 0x1_7000, 0x1111_1111);
    v.cpu.regs[Reg::RAX] = 8;
    v.cpu.regs[Reg::RIP] = at;
    v.run(50);
    v.cpu.regs[Reg::RBX]
}

#[test]
fn a_segment_load_in_ram_ends_its_block() {
    assert_eq!(loads_ds(0x2000), 0x1111_1111);
}

#[test]
fn a_segment_load_in_a_devices_memory_ends_its_block() {
    assert_eq!(loads_ds(0xA_0000), 0x1111_1111);
}

#[test]
fn tidying_gives_nothing_back_to_an_arena_that_was_cleared() {
    let mut v = common::flat32(&[]);
    v.code_mut().set_max_bytes(1 << 20);
    // 124 blocks of 33 instructions fill the first mapping but for four.
    let chain = |v: &mut Vcpu| {
        for n in 0..124u64 {
            let at = 0x1_0000 + 64 * n;
            let mut code = vec![0x40; 32];
            code.extend(jmp(at + 32, if n == 123 { 0x9000 } else { at + 64 }));
            put(v, at, &code);
        }
    };
    chain(&mut v);
    v.cpu.regs[Reg::RIP] = 0x1_0000;
    // Not to the very end, so that what follows is not looked for yet.
    v.run(124 * 33 - 1);
    v.cpu.regs[Reg::RIP] = 0x9000;
    // A bus master drops them all.
    chain(&mut v);
    // mov byte [9010h], 42h (where 40h was); 46 times inc eax; jmp: overwrites itself, the only live block.
    let mut code = vec![0xC6, 0x05, 0x10, 0x90, 0, 0, 0x42];
    code.extend([0x40; 46]);
    let at = 0x9000 + code.len() as u64;
    code.extend(jmp(at, 0x1_0000));
    put(&mut v, 0x9000, &code);
    v.run(124 * 33 + 20_000);
    let (blocks, kept) = v.code_mut().bytes();
    assert!(
        kept > 0 && blocks > 0,
        "{blocks} {kept} {}",
        v.code_mut().evicted
    );
}

#[test]
fn a_cut_at_the_wrong_instruction_outlives_its_block() {
    let mut v = common::flat32(&[]);
    chip(&mut v, &[], true);
    // X 2000: nop; nop; pushfd (a device's memory: INTR rises); jmp Y
    let mut x = vec![0x90, 0x90, 0x9C];
    x.extend(jmp(0x2003, 0x3000));
    put(&mut v, 0x2000, &x);
    // Y 3000: mov byte [2000], F8; jmp Z
    let mut y = vec![0xC6, 0x05, 0, 0x20, 0, 0, 0xF8];
    y.extend(jmp(0x3007, 0x4000));
    put(&mut v, 0x3000, &y);
    // Z 4000: nop; inc eax; nop; jmp W
    let mut z = vec![0x90, 0x40, 0x90];
    z.extend(jmp(0x4003, 0x5000));
    put(&mut v, 0x4000, &z);
    // W 5000: mov byte [5008], 90; nop; inc ebx -> nop; jmp Z
    let mut w = vec![0xC6, 0x05, 0x08, 0x50, 0, 0, 0x90, 0x90, 0x43];
    w.extend(jmp(0x5009, 0x4000));
    put(&mut v, 0x5000, &w);
    v.cpu.regs[Reg::RIP] = 0x2000;
    v.cpu.regs[Reg::RSP] = 0xA_0104;
    v.run(4 + 2 + 8 * 10);
    assert_eq!(v.cpu.regs[Reg::RIP], 0x4000);
    assert_eq!(v.cpu.regs[Reg::RAX], 10);
}

#[test]
fn a_device_sees_the_time_of_the_instruction_that_stores() {
    let seen = |pieces: &[u64]| {
        // Nine nops; pushfd; jmp $
        let mut code = vec![0x90; 9];
        code.extend([0x9C, 0xEB, 0xFE]);
        let mut v = common::flat32(&code);
        let times = chip(&mut v, &[], false);
        v.cpu.regs[Reg::RSP] = 0xA_0104;
        for &until in pieces {
            v.run(until);
        }
        times.lock().unwrap().clone()
    };
    assert_eq!(seen(&[50]), seen(&[9, 50]));
}

#[test]
fn the_second_pages_walk_may_change_the_first_pages_bytes() {
    let mut v = paged();
    // Linear 3FE000 is the page table itself; its last entry, for 3FF000, is code: ADD EAX, [2], with A set: AND.
    put32(&mut v, 0x4_1000 + 4 * 0x3FE, 0x4_1003);
    put32(&mut v, 0x4_1FFC, 0x0002_0503);
    put(&mut v, 0x2_0000, &[0, 0, 0xFF, 0xE3]);
    put32(&mut v, 2, 0x10);
    // 1000: dec ecx; jne 3FEFFC; jmp $
    let [a, b, c, d] = (0x3F_EFFCu32 - 0x1007).to_le_bytes();
    put(&mut v, 0x1000, &[0x49, 0x0F, 0x85, a, b, c, d, 0xEB, 0xFE]);
    v.cpu.regs[Reg::RIP] = 0x3F_EFFC;
    v.cpu.regs[Reg::RBX] = 0x1000;
    v.cpu.regs[Reg::RCX] = 3;
    v.cpu.regs[Reg::RAX] = 1;
    v.run(100);
    assert_eq!(v.cpu.regs[Reg::RIP], 0x1007);
    assert_eq!(v.bus().memory.read_array::<1>(PhysAddr(0x4_1FFC)), [0x23]);
    assert!(
        [0, 0x10].contains(&v.cpu.regs[Reg::RAX]),
        "{:x}",
        v.cpu.regs[Reg::RAX]
    );
}

#[test]
fn two_cuts_of_one_block_the_first_by_a_push() {
    // In one block: pushfd to a device (INTR rises: cut at index 1, which has run), then mov ds, ax (not flat).
    let mut v = common::flat32(&[]);
    chip(&mut v, &[], true);
    // nop; pushfd; mov ds, ax; mov ebx, [7000h]; jmp $
    let code = [
        0x90, 0x90, 0x9C, 0x8E, 0xD8, 0x8B, 0x1D, 0, 0x70, 0, 0, 0xEB, 0xFE,
    ];
    put(&mut v, 0x1000, &code);
    put(&mut v, 0x6008, &[0xFF, 0xFF, 0, 0, 1, 0x93, 0xCF, 0]);
    v.cpu.gdtr.base = 0x6000;
    v.cpu.gdtr.limit = 0xFF;
    put32(&mut v, 0x7000, 0x2222_2222);
    put32(&mut v, 0x1_7000, 0x1111_1111);
    v.cpu.regs[Reg::RAX] = 8;
    v.cpu.regs[Reg::RSP] = 0xA_0104;
    v.run(50);
    assert_eq!(v.cpu.regs[Reg::RBX], 0x1111_1111);
}

#[test]
fn an_instruction_that_ends_its_block_and_cuts_it_still_steps() {
    // With TF: LSS ESP, [3000h] (the stack segment then is not flat); MOV BYTE [here], 90h across
    // pages, which drops its block.
    for (at, code) in [
        (0x1000u64, &[0x0F, 0xB2, 0x25, 0x00, 0x30, 0, 0, 0x90][..]),
        (0x1FFC, &[0xC6, 0x05, 0xFC, 0x1F, 0, 0, 0xC6, 0x90]),
    ] {
        let mut v = common::flat32(&[0x90]);
        put(&mut v, at, code);
        // A stack segment of 64 KiB at 4000h in the GDT; the handler of #DB is HLT.
        put(&mut v, 0x4010, &[0xFF, 0xFF, 0, 0, 0, 0x93, 0x40, 0]);
        put(&mut v, 0x4008, &[0xFF, 0xFF, 0, 0, 0, 0x9B, 0xCF, 0]);
        put(&mut v, 0x3000, &[0, 0x80, 0, 0, 0x10, 0]);
        put(&mut v, 0x5008, &[0, 0x60, 8, 0, 0, 0x8E, 0, 0]);
        put(&mut v, 0x6000, &[0xF4]);
        v.cpu.gdtr.base = 0x4000;
        v.cpu.idtr.base = 0x5000;
        v.cpu.regs[Reg::RSP] = 0x9000;
        v.cpu.regs[Reg::RIP] = at;
        v.write_rflags(x86::flags::bits::TF, x86::flags::bits::TF);
        assert_eq!(v.run(100), x86::Exit::Halted, "{at:x}");
        let pushed = v.cpu.regs[Reg::RSP];
        let back = v.bus().memory.read_array::<4>(PhysAddr(pushed));
        assert_eq!(
            u64::from(u32::from_le_bytes(back)),
            at + 7,
            "trapped behind it"
        );
    }
}

#[test]
fn a_walk_that_ends_in_a_fault_sets_no_accessed_bit() {
    // mov eax, [7000h], whose directory entry is present and whose page is not; then it is.
    let mut v = paged();
    put(&mut v, 0x1000, &[0xA1, 0x00, 0x70, 0, 0, 0xEB, 0xFE]);
    put32(&mut v, 0x4_0000, 0x4_1003);
    put32(&mut v, 0x4_1000 + 4 * 7, 0x7002);
    let entry =
        |v: &mut Vcpu, at: u64| u32::from_le_bytes(v.bus().memory.read_array::<4>(PhysAddr(at)));
    v.cpu.regs[Reg::RIP] = 0x1000;
    // The fetch itself walks by another directory entry's page: look at the data's walk alone.
    assert!(v.execute_one().is_err());
    assert_eq!(v.cpu.cr2, 0x7000);
    assert_eq!(entry(&mut v, 0x4_1000 + 4 * 7), 0x7002);
    put32(&mut v, 0x4_0000, 0x4_1003);
    assert!(v.execute_one().is_err());
    assert_eq!(
        entry(&mut v, 0x4_0000),
        0x4_1003,
        "the directory's entry was not used"
    );
    put32(&mut v, 0x4_1000 + 4 * 7, 0x7003);
    assert!(v.execute_one().is_ok());
    assert_eq!(entry(&mut v, 0x4_0000), 0x4_1023);
    assert_eq!(entry(&mut v, 0x4_1000 + 4 * 7), 0x7023);
}
