//! The runner on small suites of our own: every format and feature of the public suites, and every kind of rule.

use conformance::deviations::Family;
use conformance::json;
use conformance::metadata::Metadata;
use conformance::moo::{self, REGS16, REGS32, Suite};
use conformance::vectors::{Bench, Outcome};
use x86::cpuid::CpuModel;

const CS: u32 = 0x1000;
const SS: u32 = 0x3000;
const DS: u32 = 0x2000;
const CODE: u32 = CS * 16 + 0x100;
const STACK: u32 = SS * 16 + 0x800;

fn chunk(id: &[u8; 4], payload: &[u8]) -> Vec<u8> {
    let mut bytes = id.to_vec();
    bytes.extend((payload.len() as u32).to_le_bytes());
    bytes.extend(payload);
    bytes
}

/// One side of a test: registers by name, and bytes of memory.
#[derive(Clone, Default)]
struct Side {
    regs: Vec<(&'static str, u32)>,
    ram: Vec<(u32, u8)>,
    masks: Vec<(&'static str, u32)>,
}

impl Side {
    fn bytes(&self, wide: bool) -> Vec<u8> {
        let mut bytes = registers(if wide { b"RG32" } else { b"REGS" }, &self.regs);
        if !self.masks.is_empty() {
            bytes.extend(registers(if wide { b"RM32" } else { b"RMSK" }, &self.masks));
        }
        let mut ram = (self.ram.len() as u32).to_le_bytes().to_vec();
        for (addr, byte) in &self.ram {
            ram.extend(addr.to_le_bytes());
            ram.push(*byte);
        }
        bytes.extend(chunk(b"RAM ", &ram));
        bytes.extend(chunk(b"QUEU", &[0; 4]));
        bytes
    }
}

fn registers(id: &[u8; 4], values: &[(&str, u32)]) -> Vec<u8> {
    let wide = id.ends_with(b"32");
    let names: &[&str] = if wide { &REGS32 } else { &REGS16 };
    let (mut mask, mut words) = (0u32, Vec::<u8>::new());
    for (n, name) in names.iter().enumerate() {
        if let Some((_, value)) = values.iter().find(|(given, _)| given == name) {
            mask |= 1 << n;
            words.extend(&value.to_le_bytes()[..if wide { 4 } else { 2 }]);
        }
    }
    let mut bytes = mask.to_le_bytes()[..if wide { 4 } else { 2 }].to_vec();
    bytes.extend(words);
    chunk(id, &bytes)
}

/// A test in the making: `code` at CS:0100 with a HLT behind it, everything else as the closure changes it.
struct Builder {
    wide: bool,
    code: Vec<u8>,
    before: Side,
    after: Side,
    exception: Option<(u8, u32)>,
    masks: Vec<(&'static str, u32)>,
}

impl Builder {
    fn new(wide: bool, code: &[u8]) -> Self {
        let mut code = code.to_vec();
        code.push(0xF4);
        let names: &[&'static str] = if wide { &REGS32 } else { &REGS16 };
        let value = |name: &str| match name {
            "cs" => CS,
            "ss" => SS,
            "ds" | "es" => DS,
            "sp" | "esp" => 0x800,
            "ip" | "eip" => 0x100,
            "flags" => 0xF002,
            "eflags" => 0xFFFC_0002,
            "cr0" => 0x7FFE_FFF0,
            "dr6" => 0xFFFF_0FF0,
            _ => 0,
        };
        let mut before = Side {
            regs: names.iter().map(|name| (*name, value(name))).collect(),
            ..Side::default()
        };
        for (n, byte) in code.iter().enumerate() {
            before.ram.push((CODE + n as u32, *byte));
        }
        let end = 0x100 + code.len() as u32;
        let after = Side {
            regs: vec![(if wide { "eip" } else { "ip" }, end)],
            ..Side::default()
        };
        Self {
            wide,
            code,
            before,
            after,
            exception: None,
            masks: Vec::new(),
        }
    }

    fn before(mut self, name: &'static str, value: u32) -> Self {
        let reg = self.before.regs.iter_mut().find(|(n, _)| *n == name);
        reg.expect("a register of that width").1 = value;
        self
    }

    fn after(mut self, name: &'static str, value: u32) -> Self {
        self.after.regs.retain(|(n, _)| *n != name);
        self.after.regs.push((name, value));
        self
    }

    fn ram(mut self, addr: u32, bytes: &[u8]) -> Self {
        for (n, byte) in bytes.iter().enumerate() {
            self.before.ram.push((addr + n as u32, *byte));
        }
        self
    }

    fn stored(mut self, addr: u32, bytes: &[u8]) -> Self {
        for (n, byte) in bytes.iter().enumerate() {
            self.after.ram.push((addr + n as u32, *byte));
        }
        self
    }

    /// An exception through `vector` to 0F00:0010, where a HLT is.
    fn exception(self, vector: u8) -> Self {
        let (sp, ip) = if self.wide {
            ("esp", "eip")
        } else {
            ("sp", "ip")
        };
        let mut test = self
            .ram(u32::from(vector) * 4, &[0x10, 0x00, 0x00, 0x0F])
            .ram(0xF010, &[0xF4])
            .after("cs", 0x0F00)
            .after(ip, 0x11)
            .after(sp, 0x7FA)
            .stored(STACK - 6, &[0x00, 0x01, CS as u8, (CS >> 8) as u8]);
        test.exception = Some((vector, STACK - 2));
        test
    }

    fn moo(&self, cpu: &[u8; 4]) -> Vec<u8> {
        let mut body = 7u32.to_le_bytes().to_vec();
        let counted = |bytes: &[u8]| [&(bytes.len() as u32).to_le_bytes(), bytes].concat();
        body.extend(chunk(b"NAME", &counted(b"a test")));
        body.extend(chunk(b"BYTS", &counted(&self.code)));
        body.extend(chunk(b"INIT", &self.before.bytes(self.wide)));
        body.extend(chunk(b"FINA", &self.after.bytes(self.wide)));
        body.extend(chunk(b"CYCL", &[0; 4]));
        if let Some((vector, addr)) = self.exception {
            body.extend(chunk(
                b"EXCP",
                &[&[vector][..], &addr.to_le_bytes()].concat(),
            ));
        }
        body.extend(chunk(b"HASH", &[0xAB; 20]));
        let mut file = vec![1, 1, 0, 0, 1, 0, 0, 0];
        file.extend(cpu);
        let mut file = chunk(b"MOO ", &file);
        file.extend(chunk(b"META", &[0; 16]));
        if !self.masks.is_empty() {
            file.extend(registers(
                if self.wide { b"RM32" } else { b"RMSK" },
                &self.masks,
            ));
        }
        file.extend(chunk(b"TEST", &body));
        file
    }

    /// As the suites before the 80286 have it: no HLT.
    fn json(&self) -> String {
        let side = |side: &Side| {
            let regs: Vec<String> = side
                .regs
                .iter()
                .map(|(n, v)| format!("\"{n}\": {v}"))
                .collect();
            let ram: Vec<String> = side
                .ram
                .iter()
                .map(|(a, b)| format!("[{a}, {b}]"))
                .collect();
            format!(
                "{{\"regs\": {{{}}}, \"ram\": [{}], \"queue\": [144]}}",
                regs.join(", "),
                ram.join(", ")
            )
        };
        let code = &self.code[..self.code.len() - 1];
        format!(
            "[{{\"name\": \"a test\", \"bytes\": {code:?}, \"initial\": {}, \"final\": {}, \"cycles\": [[0, 1, \"CS\"]], \"hash\": \"AB\", \"idx\": 3}}]",
            side(&self.before),
            side(&self.after)
        )
    }

    fn run(&self, family: Family) -> Outcome {
        let id = match family {
            Family::I286 => b"C286",
            Family::I386 => b"386E",
            Family::Nec => b"V20 ",
            _ => b"8088",
        };
        let suite = moo::parse(&self.moo(id)).expect("a file that we made");
        assert_eq!(Family::by_id(&suite.cpu), Some(family));
        run(&suite, family, "00", &Metadata::default())
    }

    /// Runs as a test of the 8088, from JSON; `ip` is the final one.
    fn run_8088(self, ip: u32) -> Outcome {
        let test = self.after("ip", ip);
        let suite = json::parse(test.json().as_bytes()).expect("a file that we made");
        run(&suite, Family::I86, "00", &Metadata::default())
    }
}

fn run(suite: &Suite, family: Family, opcode: &str, metadata: &Metadata) -> Outcome {
    let model = CpuModel::by_name("i386").expect("the model `i386` always exists");
    let mut bench = Bench::new(model).expect("17 MiB of memory");
    bench.run_suite(suite, family, opcode.to_owned(), metadata)
}

fn passes(outcome: &Outcome) {
    assert_eq!((outcome.passed, outcome.failed), (1, 0), "{outcome:?}");
    assert!(outcome.excluded.is_empty(), "{outcome:?}");
}

fn passes_whole(outcome: &Outcome) {
    passes(outcome);
    assert!(outcome.partial.is_empty(), "{outcome:?}");
}

fn passes_in_part(outcome: &Outcome, why: &str) {
    passes(outcome);
    let reasons: Vec<_> = outcome.partial.keys().collect();
    assert!(
        reasons.iter().any(|reason| reason.contains(why)),
        "{outcome:?}"
    );
}

fn is_excluded(outcome: &Outcome, why: &str) {
    assert_eq!((outcome.passed, outcome.failed), (0, 0), "{outcome:?}");
    let reasons: Vec<_> = outcome.excluded.keys().collect();
    assert!(
        reasons.len() == 1 && reasons[0].contains(why),
        "{outcome:?}"
    );
}

fn fails(outcome: &Outcome) {
    assert_eq!((outcome.passed, outcome.failed), (0, 1), "{outcome:?}");
}

#[test]
fn an_80386_file_in_moo_1_1() {
    // inc eax; all 32 bits count.
    let test = |eax| {
        Builder::new(true, &[0x66, 0x40])
            .before("eax", 0x1234_FFFF)
            .after("eax", eax)
            .after("eflags", 0xFFFC_0016)
            .run(Family::I386)
    };
    passes_whole(&test(0x1235_0000));
    fails(&test(0x0000_0000));
}

#[test]
fn masks_within_the_file() {
    let wrong = || Builder::new(true, &[0x66, 0x40]).after("eflags", 0xFFFC_0007);
    fails(&wrong().after("eax", 1).run(Family::I386));
    let mut for_all = wrong().after("eax", 1);
    for_all.masks = vec![("eflags", 0xFFFF_F7FA)];
    passes_whole(&for_all.run(Family::I386));
    let mut for_one = wrong().after("eax", 0xF001);
    for_one.after.masks = vec![("eflags", 0xFFFF_F7FA), ("eax", 0xFFFF_0FFF)];
    passes_whole(&for_one.run(Family::I386));
}

#[test]
fn an_exception_of_the_80386() {
    // mov ax, [FFFFh]
    let test = || Builder::new(true, &[0xA1, 0xFF, 0xFF]).exception(13);
    passes_whole(&test().stored(STACK - 2, &[0x02, 0x00]).run(Family::I386));
    fails(&test().stored(STACK - 2, &[0x03, 0x00]).run(Family::I386));
    // div bl: the flags in the frame are undefined.
    let test = Builder::new(true, &[0xF6, 0xF3]).exception(0);
    passes_whole(&test.stored(STACK - 2, &[0xD7, 0x08]).run(Family::I386));
}

#[test]
fn cr0_of_the_80386_is_loaded_and_compared() {
    let test = |cr0| {
        Builder::new(true, &[0x0F, 0x06])
            .before("cr0", 0x7FFE_FFF8)
            .after("cr0", cr0)
            .run(Family::I386)
    };
    passes_whole(&test(0x7FFE_FFF0));
    fails(&test(0x7FFE_FFF8));
}

#[test]
fn the_hlt_behind_an_instruction_is_prefetched() {
    // mov byte cs:[0106h], 90h overwrites its own HLT.
    let test = Builder::new(true, &[0x2E, 0xC6, 0x06, 0x06, 0x01, 0x90]);
    passes_whole(&test.stored(CODE + 6, &[0x90]).run(Family::I386));
    // rep stosb over itself goes on.
    let test = Builder::new(true, &[0xF3, 0xAA])
        .before("es", CS)
        .before("edi", 0xFE)
        .before("ecx", 8)
        .after("ecx", 0)
        .after("edi", 0x106);
    passes_whole(&test.stored(CODE - 2, &[0; 8]).run(Family::I386));
}

#[test]
fn rules_of_the_80386() {
    let test = Builder::new(true, &[0xE4, 0x22]).after("eax", 0x7F);
    is_excluded(&test.run(Family::I386), "REMAPCFG");
    let test = Builder::new(true, &[0xE5, 0x24]).after("eax", 0xFFFF);
    passes_whole(&test.run(Family::I386));
    let test = Builder::new(true, &[0x90]).before("cr0", 1);
    is_excluded(&test.run(Family::I386), "real mode");
    // popa at SP = FFFAh loads DI and SI before BP faults.
    let test = Builder::new(true, &[0x61])
        .before("esp", 0xFFFB)
        .exception(12)
        .after("esp", 0xFFF5)
        .after("edi", 0x1234);
    let mut test = test.stored(SS * 16 + 0xFFF9, &[0x02, 0x00]);
    test.exception = Some((12, SS * 16 + 0xFFF8));
    test.after.ram.retain(|(addr, _)| *addr >= SS * 16 + 0xFFF5);
    passes_in_part(&test.run(Family::I386), "POPA");
    // An IDIV that should have raised #DE.
    let test = Builder::new(true, &[0xF6, 0xFB])
        .before("eax", 0x4000)
        .before("ebx", 1);
    is_excluded(
        &test
            .ram(0, &[0x10, 0, 0, 0x0F])
            .ram(0xF010, &[0xF4])
            .run(Family::I386),
        "IDIV",
    );
    // shld ax, bx, 17
    let test = Builder::new(true, &[0x0F, 0xA4, 0xD8, 0x11]).after("eax", 0x5555);
    is_excluded(&test.run(Family::I386), "SHLD");
    // lock add ax, ax
    let test = Builder::new(true, &[0xF0, 0x01, 0xC0]).exception(6);
    passes_whole(&test.stored(STACK - 2, &[0x02, 0x00]).run(Family::I386));
}

#[test]
fn rules_of_the_80286() {
    // lock inc ax
    let test = Builder::new(false, &[0xF0, 0x40]).after("ax", 1);
    passes_in_part(&test.run(Family::I286), "LOCK");
    // lock inc word [bx] is run as it is.
    let test = Builder::new(false, &[0xF0, 0xFF, 0x07]).stored(DS * 16, &[1, 0]);
    passes_whole(&test.run(Family::I286));
    // mov ax, [bp - 1]
    let test = Builder::new(false, &[0x8B, 0x46, 0xFF]).exception(13);
    passes_in_part(&test.run(Family::I286), "vector");
    // mov ax, fs
    let test = Builder::new(false, &[0x8C, 0xE0]).exception(6);
    is_excluded(&test.run(Family::I286), "FS and GS");
    // lodsw at FFFFh, with SI moved
    let test = Builder::new(false, &[0xAD])
        .before("si", 0xFFFF)
        .exception(13)
        .after("si", 1);
    passes_in_part(&test.run(Family::I286), "SI, DI and CX");
    // popa at SP = FFFBh, with DI loaded before the word at FFFFh faults
    let test = Builder::new(false, &[0x61])
        .before("sp", 0xFFFB)
        .exception(13)
        .after("sp", 0xFFF5)
        .after("di", 0x1234);
    let mut test = test.stored(SS * 16 + 0xFFF9, &[0x02, 0x00]);
    test.exception = Some((13, SS * 16 + 0xFFF9));
    test.after.ram.retain(|(addr, _)| *addr >= SS * 16 + 0xFFF5);
    passes_in_part(&test.run(Family::I286), "POPA");
    let mut long = vec![0x3E; 10];
    long.push(0x90);
    let test = Builder::new(false, &long).exception(13);
    is_excluded(&test.run(Family::I286), "10 bytes");
    // mov word [bx+1234h], 5678h behind five prefixes, and its alias C7 /7; the suite leaves the
    // displacement out of the bytes.
    for modrm in [0x87, 0xBF] {
        let mut long = vec![0x3E; 5];
        long.extend([0xC7, modrm, 0x34, 0x12, 0x78, 0x56]);
        let mut test = Builder::new(false, &long).exception(13);
        test.code.truncate(8);
        is_excluded(&test.run(Family::I286), "10 bytes");
    }
    // movsw with SI = FFFFh in SS
    let test = Builder::new(false, &[0x36, 0xA5])
        .before("si", 0xFFFF)
        .exception(13);
    passes_in_part(&test.run(Family::I286), "vector");
    // pop word [bx] at FFFFh: SP and the frame are 2 higher, and nothing else.
    let pop = |sp, ip| {
        let mut test = Builder::new(false, &[0x8F, 0x07])
            .before("bx", 0xFFFF)
            .exception(13)
            .after("sp", sp);
        test.after.ram.clear();
        let frame = [ip, 0x01, CS as u8, (CS >> 8) as u8, 0x02, 0x00];
        let mut test = test.stored(STACK - 4, &frame);
        test.exception = Some((13, STACK));
        test.run(Family::I286)
    };
    passes_in_part(&pop(0x7FC, 0x00), "popped");
    fails(&pop(0x7FA, 0x00));
    fails(&pop(0x7FC, 0x02));
    // aam 0: FLAGS are as after a division, in the register and in the frame.
    let aam = |flags: u8| {
        Builder::new(false, &[0xD4, 0x00])
            .exception(0)
            .after("flags", 0x0046)
            .stored(STACK - 2, &[0x46, flags])
            .run(Family::I286)
    };
    passes_whole(&aam(0x00));
    fails(&aam(0x02));
    // idiv byte [bx] of 81C1h by 7Ch has no quotient of 8 bits.
    let test = Builder::new(false, &[0xF6, 0x3F])
        .before("ax", 0x81C1)
        .ram(DS * 16, &[0x7C])
        .after("ax", 0xC180);
    is_excluded(&test.run(Family::I286), "IDIV");
}

#[test]
fn a_json_file_of_the_8088() {
    // add [bx], al; the flags in the file have bits 12 to 15 set.
    let test = |byte| {
        Builder::new(false, &[0x00, 0x07])
            .before("ax", 0x05)
            .ram(DS * 16, &[0x04])
            .after("flags", 0xF006)
            .stored(DS * 16, &[byte])
            .run_8088(0x102)
    };
    passes_whole(&test(9));
    fails(&test(8));
    assert!(json::parse(b"{}").is_err());
    assert!(
        json::parse(
            b"[{\"bytes\": [], \"initial\": {\"regs\": {\"qx\": 1}}, \"final\": {\"regs\": {}}}]"
        )
        .is_err()
    );
}

#[test]
fn memory_of_the_8088_ends_at_1_mib() {
    // mov [bx], al at FFFF:0010 is address 0.
    let test = Builder::new(false, &[0x88, 0x07])
        .before("ds", 0xFFFF)
        .before("bx", 0x10)
        .before("ax", 0x77);
    passes_whole(&test.stored(0, &[0x77]).run_8088(0x102));
    let test = Builder::new(false, &[0x88, 0x07])
        .before("ds", 0xFFFF)
        .before("bx", 0x10)
        .before("ax", 0x77);
    passes_whole(&test.stored(0x10_0000, &[0x77]).run(Family::I286));
}

#[test]
fn ip_of_the_8088_wraps_around() {
    let test = Builder::new(false, &[0x90])
        .before("ip", 0xFFFF)
        .ram(CS * 16 + 0xFFFF, &[0x90]);
    passes_whole(&test.run_8088(0));
}

#[test]
fn a_rep_runs_to_its_end_without_a_hlt() {
    let test = Builder::new(false, &[0xF3, 0xA4])
        .before("cx", 0x60)
        .after("cx", 0)
        .before("di", 0x10)
        .after("si", 0x60)
        .after("di", 0x70);
    passes_whole(&test.run_8088(0x102));
}

#[test]
fn rules_of_the_8086() {
    let interrupted = |code: &[u8], ip: u8| {
        Builder::new(false, code)
            .ram(0, &[0x00, 0x04, 0x00, 0x00])
            .after("cs", 0)
            .after("sp", 0x7FA)
            .stored(
                STACK - 6,
                &[ip, 0x01, CS as u8, (CS >> 8) as u8, 0x02, 0xF0],
            )
    };
    // div bl pushes the address behind it.
    passes_in_part(
        &interrupted(&[0xF6, 0xF3], 2).run_8088(0x400),
        "divide errors",
    );
    // idiv bl: -80h is refused.
    let test = interrupted(&[0xF6, 0xFB], 2)
        .before("ax", 0xFF80)
        .before("bx", 1);
    is_excluded(&test.run_8088(0x400), "-80h");
    // int 0 has FLAGS with ones in memory.
    passes_in_part(
        &interrupted(&[0xCD, 0x00], 2).run_8088(0x400),
        "bits 12 to 15",
    );
    // push sp
    let test = Builder::new(false, &[0x54]).after("sp", 0x7FE);
    passes_in_part(
        &test.stored(STACK - 2, &[0xFE, 0x07]).run_8088(0x101),
        "PUSH SP",
    );
    // Where the stack word is beyond 1 MiB: at address 0 and on.
    let test = Builder::new(false, &[0x54])
        .before("ss", 0xFFFF)
        .before("sp", 0x13)
        .after("sp", 0x11);
    passes_in_part(&test.stored(1, &[0x11, 0x00]).run_8088(0x101), "PUSH SP");
    // div bl: FLAGS in the frame are undefined as the register's; div's IF is not.
    let div = |low: u8, high: u8| {
        let mut test = interrupted(&[0xF6, 0xF3], 2);
        test.after.ram.truncate(4);
        test.stored(STACK - 2, &[low, high]).run_8088(0x400)
    };
    passes_in_part(&div(0xD7, 0xF8), "divide errors");
    fails(&div(0xD7, 0xFA));
    // aam 0, and das of 3 with AF
    let mut test = interrupted(&[0xD4, 0x00], 2).after("flags", 0xF046);
    test.after.ram.truncate(4);
    let test = test.stored(STACK - 2, &[0x46, 0xF0]);
    passes_in_part(&test.run_8088(0x400), "divide errors");
    let das = |al: u32, result, flags| {
        Builder::new(false, &[0x2F])
            .before("ax", al)
            .before("flags", 0xF012)
            .after("ax", result)
            .after("flags", flags)
            .run_8088(0x101)
    };
    passes_in_part(&das(3, 0xFD, 0xF092), "DAS");
    fails(&das(3, 0xFD, 0xF082));
    fails(&das(7, 0x01, 0xF013));
    // mov ax, [FFFFh] wraps around.
    let test = Builder::new(false, &[0xA1, 0xFF, 0xFF])
        .ram(DS * 16 + 0xFFFF, &[0x34])
        .ram(DS * 16, &[0x12])
        .after("ax", 0x1234);
    is_excluded(&test.run_8088(0x103), "wraps around");
    // jo, by its alias 60h
    let test = Builder::new(false, &[0x60, 0x10]);
    is_excluded(&test.run_8088(0x102), "undefined");
    // shl ax, cl by 33
    let test = Builder::new(false, &[0xD3, 0xE0])
        .before("cx", 33)
        .before("ax", 1);
    is_excluded(&test.after("ax", 0).run_8088(0x102), "more than 31");
    // aaa with AL = FAh
    let test = Builder::new(false, &[0x37])
        .before("ax", 0xFA)
        .after("ax", 0x100)
        .after("flags", 0xF013);
    passes_in_part(&test.run_8088(0x101), "AAA");
    // The V20 has the 80186's PUSHA, and opcodes of its own behind 0Fh.
    let mut test = Builder::new(false, &[0x68, 0x34, 0x12])
        .after("sp", 0x7FE)
        .after("ip", 0x103)
        .stored(STACK - 2, &[0x34, 0x12]);
    test.code.pop();
    passes_whole(&test.run(Family::Nec));
    let test = Builder::new(false, &[0x0F, 0x10, 0xC0]);
    is_excluded(&test.run(Family::Nec), "undefined");
    let test = Builder::new(false, &[0xC0, 0xF0, 0x01]);
    is_excluded(&test.run(Family::Nec), "undefined");
    // aad 16, which the V20 takes as aad 10
    let aad = |base, product| {
        let test = Builder::new(false, &[0xD5, base]).before("ax", 0x0100);
        test.after("ax", product)
            .after("ip", 0x102)
            .after("flags", 0xF006)
    };
    let mut test = aad(16, 10);
    test.code.pop();
    is_excluded(&test.run(Family::Nec), "V20");
    let mut test = aad(10, 10);
    test.code.pop();
    passes_whole(&test.run(Family::Nec));
}

#[test]
fn metadata_in_json_and_csv() {
    let mut metadata = Metadata::default();
    let text = "op,ct,ex,f_umask,description\n00,2500,,,Add\n08,2500,,0xFFEF,\"Or, inclusive\"\n0FBA,1,4,0xF72B,Bit\n80,1,1,0xFFEF,Or\n";
    metadata.add_csv(text).expect("a table");
    assert_eq!(metadata.mask("00"), !0);
    assert_eq!(metadata.mask("08"), 0xFFFF_FFEF);
    assert_eq!(metadata.mask("67660FBA.4"), 0xFFFF_F72B);
    assert_eq!(metadata.mask("6780.1"), 0xFFFF_FFEF);
    assert!(Metadata::default().add_csv("a,b\n").is_err());
    let text = r#"{"cpu": "8088", "opcodes": {"27": {"status": "normal", "flags-mask": 63487}, "80": {"reg": {"1": {"flags-mask": 65519}}}}}"#;
    let mut metadata = Metadata::default();
    metadata.add_json(text).expect("metadata");
    assert_eq!(metadata.cpu.as_deref(), Some("8088"));
    assert_eq!((metadata.mask("27"), metadata.mask("80.1")), (63487, 65519));
    assert!(metadata.add_json("{}").is_err());
}

#[test]
fn revoked_tests_are_not_run() {
    let mut metadata = Metadata::default();
    metadata.add_revocations("# taken back\nABABABABABABABABABABABABABABABABABABABAB\n");
    let test = Builder::new(true, &[0x66, 0x40]);
    let suite = moo::parse(&test.moo(b"386E")).expect("a file that we made");
    is_excluded(&run(&suite, Family::I386, "6640", &metadata), "revoked");
}

#[test]
fn a_capture_of_another_mode_is_not_run() {
    let mut suite =
        moo::parse(&Builder::new(true, &[0x90]).moo(b"386E")).expect("a file that we made");
    suite.mode = 2;
    is_excluded(
        &run(&suite, Family::I386, "90", &Metadata::default()),
        "real mode",
    );
}

#[test]
fn a_file_that_is_cut_off_is_an_error() {
    let file = Builder::new(true, &[0x90]).moo(b"386E");
    assert!(moo::parse(&file[..file.len() - 1]).is_err());
    assert!(moo::parse(&file[24..]).is_err());
    assert_eq!(Family::by_id("Z80"), None);
}
