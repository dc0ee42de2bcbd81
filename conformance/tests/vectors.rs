//! Hardware-captured vectors, where a folder of them is at hand.

use std::path::PathBuf;

use conformance::metadata::Metadata;
use conformance::vectors::{Bench, files};
use x86::cpuid::CpuModel;

#[test]
fn captured_vectors_match() {
    let Some(folder) = std::env::var_os("GLASSBOX_VECTORS").map(PathBuf::from) else {
        println!("skipped: GLASSBOX_VECTORS names no folder of a suite");
        return;
    };
    let metadata = Metadata::read(&folder).expect("a suite's metadata");
    let model = CpuModel::by_name("i386").expect("the model `i386` always exists");
    let mut bench = Bench::new(model).expect("17 MiB of memory");
    let mut wrong = Vec::new();
    for file in files(&folder).expect("a folder of vectors") {
        let outcome = bench.run_file(&file, &metadata).expect("a readable file");
        if let Some(first) = outcome.first {
            wrong.push(format!("{}: {first}", outcome.opcode));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
