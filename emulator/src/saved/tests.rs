use platform::PhysAddr;
use platform::testkit::Rng;

use super::*;
use crate::machine::tests::{COUNT, machine};
use crate::machine::{Exit, Pacing};

/// A machine that counts, with something in RAM.
fn counting() -> Machine {
    let mut machine = machine(&COUNT, Pacing::Deterministic);
    let mut rng = Rng::new(5);
    let noise: Vec<u8> = (0..20_000).map(|_| rng.next_u64() as u8).collect();
    machine.bus_mut().memory.write(PhysAddr(0x2_0000), &noise);
    machine
}

fn nothing() -> serde_json::Value {
    serde_json::Value::Null
}

fn restored(dir: &Path) -> Result<Machine, SaveError> {
    let saved = Saved::open(dir)?;
    let mut other = machine(&COUNT, Pacing::Deterministic);
    saved.restore(&mut other)?;
    Ok(other)
}

#[test]
fn a_saved_machine_goes_on_as_if_nothing_had_been() {
    let folder = tempfile::tempdir().unwrap();
    let mut straight = counting();
    assert_eq!(straight.run(12_345), Exit::Budget);
    save(folder.path(), &mut straight, nothing(), &mut []).unwrap();
    let mut other = restored(folder.path()).unwrap();
    assert_eq!(other.state_hash(), straight.state_hash());
    straight.run(50_000);
    other.run(50_000);
    assert_eq!(other.state_hash(), straight.state_hash());
    // What the restored one wrote went to itself.
    Saved::open(folder.path()).unwrap().verify_ram().unwrap();
    restored(folder.path()).unwrap();
}

#[test]
fn a_second_save_takes_the_place_of_the_first_also_of_one_that_is_restored_from_it() {
    let folder = tempfile::tempdir().unwrap();
    let mut first = counting();
    first.run(1000);
    save(folder.path(), &mut first, nothing(), &mut []).unwrap();
    let mut second = restored(folder.path()).unwrap();
    second.run(1000);
    save(folder.path(), &mut second, nothing(), &mut []).unwrap();
    let mut third = restored(folder.path()).unwrap();
    assert_eq!(third.retired(), 2000);
    second.run(500);
    third.run(500);
    assert_eq!(second.state_hash(), third.state_hash());
    let files = list(folder.path()).unwrap();
    assert_eq!(files.len(), 4, "manifest, lock, state and RAM: {files:?}");
}

#[test]
fn a_save_that_fails_leaves_the_earlier_one_whole() {
    let folder = tempfile::tempdir().unwrap();
    let mut machine = counting();
    machine.run(1000);
    save(folder.path(), &mut machine, nothing(), &mut []).unwrap();
    machine.run(1000);
    let mut full = |_: &mut dyn Write| Err(io::Error::from(io::ErrorKind::StorageFull));
    let failed = save(
        folder.path(),
        &mut machine,
        nothing(),
        &mut [("disk", &mut full)],
    );
    assert!(matches!(failed, Err(SaveError::Host { .. })));
    // What a killed process leaves behind: files of a higher number, without a manifest.
    for name in ["state-7", "ram-7", "manifest.json-7"] {
        fs::write(folder.path().join(name), b"half").unwrap();
    }
    assert_eq!(restored(folder.path()).unwrap().retired(), 1000);
    save(folder.path(), &mut machine, nothing(), &mut []).unwrap();
    assert_eq!(restored(folder.path()).unwrap().retired(), 2000);
    let files = list(folder.path()).unwrap();
    assert_eq!(files.len(), 4, "what was left behind is gone: {files:?}");
}

#[test]
fn what_is_damaged_or_not_a_save_is_refused_in_words() {
    let folder = tempfile::tempdir().unwrap();
    let mut machine = counting();
    let refused = |dir: &Path| match restored(dir) {
        Ok(_) => panic!("it was restored"),
        Err(error) => error.to_string(),
    };
    assert!(refused(folder.path()).contains("no such file"));
    save(folder.path(), &mut machine, nothing(), &mut []).unwrap();
    let damage = |name: &str, change: fn(&mut Vec<u8>)| {
        let path = folder.path().join(name);
        let whole = fs::read(&path).unwrap();
        let mut bytes = whole.clone();
        change(&mut bytes);
        fs::write(&path, bytes).unwrap();
        let words = refused(folder.path());
        fs::write(&path, whole).unwrap();
        words
    };
    assert!(damage("state-1", |bytes| bytes[40] ^= 1).contains("other bytes"));
    assert!(damage("state-1", |bytes| bytes.truncate(40)).contains("other bytes"));
    assert!(damage("manifest.json", |bytes| bytes.truncate(40)).contains("manifest"));
    assert!(damage("ram-1", |bytes| bytes.truncate(4096)).contains("bytes of"));
    let newer = |bytes: &mut Vec<u8>| {
        let text = String::from_utf8(bytes.clone()).unwrap();
        *bytes = text.replace("\"format\": 1", "\"format\": 99").into_bytes();
    };
    assert!(damage("manifest.json", newer).contains("newer build"));
    let later = |bytes: &mut Vec<u8>| {
        let text = String::from_utf8(bytes.clone()).unwrap();
        *bytes = text
            .replace("\"retired\": 0", "\"retired\": 7")
            .into_bytes();
    };
    assert!(damage("manifest.json", later).contains("was changed"));
    // Sealed anew, by somebody who means harm.
    let elsewhere = |bytes: &mut Vec<u8>| {
        let mut manifest: Manifest = serde_json::from_slice(bytes).unwrap();
        manifest.state.name = "../state-1".into();
        manifest.seal = manifest.sum();
        *bytes = serde_json::to_vec(&manifest).unwrap();
    };
    assert!(damage("manifest.json", elsewhere).contains("name of a file"));
    let fewer = |bytes: &mut Vec<u8>| {
        let mut manifest: Manifest = serde_json::from_slice(bytes).unwrap();
        manifest.ram.sha256.clear();
        manifest.seal = manifest.sum();
        *bytes = serde_json::to_vec(&manifest).unwrap();
    };
    assert!(damage("manifest.json", fewer).contains("checksums"));
    assert!(damage("ram-1", |bytes| bytes[0x2_0000] ^= 1).contains("0x0"));
    let state = folder.path().join("state-1");
    let whole = fs::read(&state).unwrap();
    fs::remove_file(&state).unwrap();
    fs::create_dir(&state).unwrap();
    assert!(refused(folder.path()).contains("no file"));
    fs::remove_dir(&state).unwrap();
    fs::write(&state, whole).unwrap();
    assert!(restored(folder.path()).is_ok(), "it is whole again");

    let other = tempfile::tempdir().unwrap();
    fs::write(other.path().join("thesis.txt"), b"mine").unwrap();
    let error = save(other.path(), &mut machine, nothing(), &mut []).unwrap_err();
    assert!(error.to_string().contains("other files"));
    assert_eq!(list(other.path()).unwrap().len(), 1);
}

#[test]
fn what_the_front_end_adds_comes_back() {
    let folder = tempfile::tempdir().unwrap();
    let mut machine = counting();
    let mut write = |out: &mut dyn Write| out.write_all(b"sectors");
    save(
        folder.path(),
        &mut machine,
        "spec".into(),
        &mut [("disk0", &mut write)],
    )
    .unwrap();
    let saved = Saved::open(folder.path()).unwrap();
    assert_eq!(
        saved.extra("disk0").unwrap().as_deref(),
        Some(&b"sectors"[..])
    );
    assert_eq!(saved.extra("disk1").unwrap(), None);
    assert_eq!(saved.manifest().machine, "spec");
}
