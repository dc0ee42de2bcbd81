//! Whole boots: the tour to its welcome screen; Debian's i386 kernel to the shell, once, where the
//! recipe in `test-roms/guests` has made it.

use std::time::Instant;

use criterion::{Criterion, Throughput, criterion_group};

fn tour(c: &mut Criterion) {
    let mut group = c.benchmark_group("boot");
    group.throughput(Throughput::Elements(benches::boot_tour()));
    group.bench_function("tour", |b| b.iter(benches::boot_tour));
}

fn debian() {
    let Some(files) = benches::debian() else {
        println!("boot/debian-i386: skipped: not in the cache; make it with test-roms/guests/make");
        return;
    };
    let start = Instant::now();
    let instructions = benches::boot_debian(&files);
    let seconds = start.elapsed().as_secs_f64();
    let mips = instructions as f64 / seconds / 1e6;
    println!("boot/debian-i386: {seconds:.2} s, {instructions} instructions, {mips:.0} MIPS");
}

criterion_group! {
    name = group;
    config = benches::criterion();
    targets = tour
}

fn main() {
    group();
    // As a test, and with a filter for something else, the minutes are not worth it.
    let words: Vec<String> = std::env::args().skip(1).collect();
    let filters: Vec<&String> = words.iter().filter(|word| !word.starts_with('-')).collect();
    let wanted = filters.is_empty()
        || filters
            .iter()
            .any(|filter| "boot/debian-i386".contains(*filter));
    if words.iter().any(|word| word == "--bench") && wanted {
        debian();
    }
    Criterion::default().configure_from_args().final_summary();
}
