//! The interpreter against the host's own processor.

use std::sync::Mutex;

use conformance::generate::Catalog;
use conformance::oracle::{Options, Oracle, left_out, model};
use conformance::state::Mode;
use iced_x86::Mnemonic;
use x86::table;

/// The oracle takes over the process's signals: one test at a time.
static TURN: Mutex<()> = Mutex::new(());

/// The oracle, where there is one whose differences from the manual are known.
fn oracle() -> Option<Oracle> {
    match Oracle::new() {
        Ok(oracle) if oracle.host_is_known() => Some(oracle),
        Ok(_) => {
            println!("skipped: what this make of processor does differently is not listed yet");
            None
        }
        Err(error) => {
            println!("skipped: {error:#}");
            None
        }
    }
}

#[test]
fn random_instructions_match_the_host() {
    let _turn = TURN.lock();
    let Some(mut oracle) = oracle() else { return };
    let options = Options {
        seed: 2024,
        cases: 60_000,
        mnemonics: Vec::new(),
        modes: Mode::ALL.to_vec(),
    };
    let report = oracle.run(&options).expect("all modes have instructions");
    for mode in &report.absent {
        println!(
            "skipped: {}-bit code, for which this kernel has no LDT",
            mode.bits()
        );
    }
    assert!(report.shown.is_empty(), "{}", report.shown.join("\n"));
    let (passed, failed) = report.totals();
    assert_eq!(failed, 0);
    assert!(passed >= options.cases);
}

/// An instruction that gets a row is run, or its absence explained.
#[test]
fn every_instruction_is_run_or_left_out_for_a_reason() {
    let model = model();
    let mut known: Vec<Mnemonic> = left_out().map(|(mnemonic, _)| mnemonic).collect();
    for mode in Mode::ALL {
        known.extend(Catalog::new(mode, &model, &[], 0).mnemonics());
    }
    let missing: Vec<Mnemonic> = table::rows()
        .map(|row| row.mnemonic)
        .filter(|mnemonic| !known.contains(mnemonic))
        .collect();
    assert!(missing.is_empty(), "{missing:?}");
}

/// What once differed: the fact, and its case.
const FACTS: &[(&str, &str)] = &[
    ("POPA reads the lowest doubleword first", "32 6761"),
    (
        "PUNPCKLBW of MMX registers reads 32 bits",
        "64 490f6054ca27 rcx=fffffffffffffff5 r10=2000a02d",
    ),
    (
        "F3 90 with REX.B exchanges",
        "64 f34390 r8=d18373f45f035750",
    ),
    (
        "64-bit mode ignores an SS override for the choice of #SS",
        "64 36450f5a8c8c67f78258 r12=8080808080808080",
    ),
    (
        "FIST faults before it looks at its value",
        "64 49db523b fcw=b58",
    ),
    (
        "a far CALL whose frame crosses into a missing page reports that page's first byte",
        "32 f2ff1f rsp=2000a002 rdi=20008f00 8f00:284d00202300f0ff0200000000001080",
    ),
    (
        "RETFQ to 32-bit code checks all of the 64-bit target against the limit",
        "64 f249cb rsp=20008f10 8f10:fffff7ffffffffff2300e8e8e8e8e8e8",
    ),
    (
        "an address-size prefix cuts the bit offset of BT too",
        "64 6766f3490fa30ce528900020 rcx=8000000000000000",
    ),
    (
        "ARPL writes only what it changes",
        "32 f263822de772fa rdx=258de021",
    ),
    (
        "an instruction of more than 15 bytes is #GP",
        "64 2e2e2e2e2e2e2e2e2e2e2e2e2e0f12",
    ),
    (
        "a REP of single elements goes on to its end",
        "32 f3a6 rflags=602 rcx=5 rsi=20008e80 rdi=20008f00",
    ),
    (
        "with TF a REP traps after each iteration",
        "64 f3a4 rflags=302 rcx=3 rsi=20008e80 rdi=20008f00 8e80:01020304050607080910111213141516",
    ),
    ("LOCK where there is nothing to lock is #UD", "16 f090"),
    (
        "IRET may set TF, which waits for the next instruction",
        "16 66cf rsp=8f00 8f00:20100000070000000203000000000000",
    ),
    (
        "a 16-bit stack pointer keeps the upper half of ESP in 32-bit code",
        "32 50 rax=12345678 rsp=ffff9000 ss=f",
    ),
    (
        "an expand-down segment begins behind its limit",
        "16 a1ff7f ds=27",
    ),
    (
        "RCPPS may find its result about 2^-126 tiny",
        "64 0f53c2 xmm2=7e800000",
    ),
];

#[test]
fn what_once_differed_matches_the_host() {
    let _turn = TURN.lock();
    let Some(mut oracle) = oracle() else { return };
    for (fact, line) in FACTS {
        let case = line.parse().expect("a replay line");
        match oracle.replay(&case) {
            Ok((same, text)) => assert!(same, "{fact}: {text}"),
            Err(error) => println!("skipped: {fact}: {error:#}"),
        }
    }
}
