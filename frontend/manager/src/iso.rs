//! A disc with a few small files: ISO 9660 (ECMA-119) with Rock Ridge names (SUSP 1.12, RRIP 1.12), as cloud-init's
//! NoCloud reads it.

/// Bytes in a sector.
const SECTOR: usize = 2048;
/// Where the first volume descriptor is.
const FIRST: usize = 16;
/// The path tables', the root folder's and the first file's sectors.
const LITTLE_TABLE: usize = 18;
const BIG_TABLE: usize = 19;
const ROOT: usize = 20;
const FILES: usize = 22;

/// A disc called `label` with these files: names of up to 30 letters, and content.
pub fn write(label: &str, files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut root = Vec::new();
    let susp = [&SP[..], &px(0o040_555, 2), RR].concat();
    let folder = |name: u8, susp: &[u8]| record(ROOT, 2 * SECTOR, 2, &[name], susp);
    root.extend(folder(0, &susp));
    root.extend(folder(1, &px(0o040_555, 2)));
    let mut data = Vec::new();
    for (number, (name, content)) in files.iter().enumerate() {
        let at = FILES + data.len() / SECTOR;
        let short = format!("FILE{number}.;1");
        let susp = [&px(0o100_444, 1)[..], &nm(name)].concat();
        let entry = record(at, content.len(), 0, short.as_bytes(), &susp);
        // A record does not cross sectors.
        if root.len() % SECTOR + entry.len() > SECTOR {
            root.resize(root.len().next_multiple_of(SECTOR), 0);
        }
        root.extend(entry);
        data.extend_from_slice(content);
        data.resize(data.len().next_multiple_of(SECTOR), 0);
    }
    root.resize(2 * SECTOR, 0);
    let sectors = FILES + data.len() / SECTOR;
    let mut disc = vec![0; FIRST * SECTOR];
    disc.extend(primary(label, sectors));
    disc.extend(descriptor(255));
    disc.extend(path_table(false));
    disc.extend(path_table(true));
    disc.extend(root);
    disc.extend(data);
    disc
}

/// A number in both orders (7.3.3).
fn both32(number: usize) -> [u8; 8] {
    let number = number as u32;
    let mut bytes = [0; 8];
    bytes[..4].copy_from_slice(&number.to_le_bytes());
    bytes[4..].copy_from_slice(&number.to_be_bytes());
    bytes
}

/// The same of 16 bits (7.2.3).
fn both16(number: u16) -> [u8; 4] {
    let ([a, b], [c, d]) = (number.to_le_bytes(), number.to_be_bytes());
    [a, b, c, d]
}

/// 1 January 2026, as directory records have it (9.1.5).
const DATE: [u8; 7] = [126, 1, 1, 0, 0, 0, 0];

/// A directory record (9.1).
fn record(at: usize, len: usize, flags: u8, name: &[u8], susp: &[u8]) -> Vec<u8> {
    let mut record = vec![0, 0];
    record.extend(both32(at));
    record.extend(both32(len));
    record.extend(DATE);
    record.extend([flags, 0, 0]);
    record.extend(both16(1));
    record.push(name.len() as u8);
    record.extend(name);
    record.resize(record.len().next_multiple_of(2), 0);
    record.extend(susp);
    record.resize(record.len().next_multiple_of(2), 0);
    record[0] = record.len() as u8;
    record
}

/// SUSP 5.3: that there are such entries.
const SP: [u8; 7] = [b'S', b'P', 7, 1, 0xBE, 0xEF, 0];
/// RRIP 1.09's mark, which some readers still look for.
const RR: &[u8] = &[b'R', b'R', 5, 1, 0x89];

/// RRIP 4.1.1: mode and number of links.
fn px(mode: usize, links: usize) -> Vec<u8> {
    let mut entry = vec![b'P', b'X', 36, 1];
    for number in [mode, links, 0, 0] {
        entry.extend(both32(number));
    }
    entry
}

/// RRIP 4.1.4: the name.
fn nm(name: &str) -> Vec<u8> {
    let mut entry = vec![b'N', b'M', (5 + name.len()) as u8, 1, 0];
    entry.extend(name.as_bytes());
    entry
}

/// A volume descriptor of a type (8.1).
fn descriptor(kind: u8) -> Vec<u8> {
    let mut descriptor = vec![0; SECTOR];
    descriptor[0] = kind;
    descriptor[1..6].copy_from_slice(b"CD001");
    descriptor[6] = 1;
    descriptor
}

/// The primary volume descriptor (8.4).
fn primary(label: &str, sectors: usize) -> Vec<u8> {
    let mut volume = descriptor(1);
    let mut put = |at: usize, bytes: &[u8]| volume[at..at + bytes.len()].copy_from_slice(bytes);
    put(8, &[b' '; 64]);
    put(40, &label.as_bytes()[..label.len().min(32)]);
    put(80, &both32(sectors));
    put(120, &both16(1));
    put(124, &both16(1));
    put(128, &both16(SECTOR as u16));
    put(132, &both32(10));
    put(140, &(LITTLE_TABLE as u32).to_le_bytes());
    put(148, &(BIG_TABLE as u32).to_be_bytes());
    put(156, &record(ROOT, 2 * SECTOR, 2, &[0], &[]));
    // Texts are blank, dates say that they are not given.
    put(190, &[b' '; 623]);
    for at in [813, 830, 847, 864] {
        put(at, &[b'0'; 16]);
    }
    put(881, &[1]);
    volume
}

/// A path table with the root alone (9.4).
fn path_table(big: bool) -> Vec<u8> {
    let mut table = vec![1, 0];
    let (root, one) = (ROOT as u32, 1u16);
    match big {
        true => {
            table.extend(root.to_be_bytes());
            table.extend(one.to_be_bytes());
        }
        false => {
            table.extend(root.to_le_bytes());
            table.extend(one.to_le_bytes());
        }
    }
    table.resize(SECTOR, 0);
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disc_has_its_label_and_its_files() {
        let large = vec![7; 5000];
        let disc = write("cidata", &[("meta-data", b"a: b\n"), ("user-data", &large)]);
        assert_eq!(disc.len(), (FILES + 1 + 3) * SECTOR);
        assert_eq!(&disc[FIRST * SECTOR + 40..][..7], b"cidata ");
        assert_eq!(&disc[FILES * SECTOR..][..5], b"a: b\n");
        assert_eq!(disc[(FILES + 1) * SECTOR..][..5000], large);
    }

    /// By a reader of others.
    #[test]
    fn others_read_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("seed.iso");
        std::fs::write(&path, write("cidata", &[("user-data", b"#cloud-config\n")])).unwrap();
        let out = std::process::Command::new("isoinfo")
            .args(["-R", "-x", "/user-data", "-i"])
            .arg(&path)
            .output();
        match out {
            Ok(out) => assert_eq!(out.stdout, b"#cloud-config\n"),
            Err(error) => eprintln!("skipped: isoinfo (package genisoimage): {error}"),
        }
    }
}
