//! What happens to a disk image while a guest writes to it: the guest is `test-roms/devices/disk-writes`.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

const FIRST: usize = 8;
const SECTORS: usize = 64;
const IMAGE: &[u8] = include_bytes!("../../test-roms/devices/disk-writes.img");

/// The guest's image in a folder of its own; it ends after `generations`, or never after 0.
fn image(generations: u16) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("disk.img");
    let mut bytes = IMAGE.to_vec();
    bytes[506..508].copy_from_slice(&generations.to_le_bytes());
    std::fs::write(&path, bytes).unwrap();
    (folder, path)
}

fn glassbox(image: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_glassbox"));
    command
        .args(["run", "--display", "none", "--image-as", "disk"])
        .args(["--timeout", "100"])
        .args(args)
        .arg(image)
        .stdin(Stdio::null());
    command
}

fn finished(output: &Output) -> (Option<i32>, String) {
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    (output.status.code(), said)
}

/// The generation of each sector; panics when one is torn.
fn generations(path: &Path) -> Vec<u32> {
    let bytes = std::fs::read(path).unwrap();
    assert_eq!(bytes.len(), IMAGE.len());
    let sector = |n: usize| bytes[n * 512..][..512].as_chunks::<4>().0;
    (FIRST..FIRST + SECTORS)
        .map(|n| {
            let words = sector(n);
            let first = u32::from_le_bytes(words[0]);
            let whole = words.iter().all(|word| *word == words[0]);
            let old = first == 0;
            assert!(
                whole && (old || first & 0xFFFF == n as u32),
                "sector {n} is torn: {words:x?}"
            );
            first >> 16
        })
        .collect()
}

#[test]
fn writes_reach_the_image_unless_ephemeral() {
    let (_folder, path) = image(3);
    let before = std::fs::read(&path).unwrap();
    let output = glassbox(&path, &["--ephemeral"]).output().unwrap();
    assert_eq!(finished(&output).0, Some(33), "{output:?}");
    assert!(std::fs::read(&path).unwrap() == before);

    let output = glassbox(&path, &[]).output().unwrap();
    assert_eq!(finished(&output).0, Some(33), "{output:?}");
    assert_eq!(generations(&path), [3; SECTORS]);
    let after = std::fs::read(&path).unwrap();
    let written = FIRST * 512..(FIRST + SECTORS) * 512;
    assert!(after[..written.start] == before[..written.start]);
    assert!(after[written.end..] == before[written.end..]);
}

/// Ends a machine without its help, also when the test fails.
struct Running(Child);

impl Running {
    fn kill(&mut self) {
        // On Unix this is SIGKILL.
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn start(path: &Path) -> Running {
    let mut command = glassbox(path, &[]);
    command.stdout(Stdio::null()).stderr(Stdio::null());
    Running(command.spawn().unwrap())
}

/// Waits until the guest has written to the image anew.
fn wait_for_writes(path: &Path, before: &[u8]) {
    let limit = Instant::now() + Duration::from_secs(60);
    while std::fs::read(path).unwrap() == before {
        assert!(Instant::now() < limit, "the guest writes nothing");
        std::thread::sleep(Duration::from_millis(2));
    }
}

#[test]
fn a_killed_machine_leaves_whole_sectors() {
    let (_folder, path) = image(0);
    let mut seed = 0x9E37_79B9u32;
    for round in 0..10 {
        let before = std::fs::read(&path).unwrap();
        let mut machine = start(&path);
        wait_for_writes(&path, &before);
        seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        std::thread::sleep(Duration::from_micros(u64::from(seed >> 15)));
        machine.kill();
        let generations = generations(&path);
        assert!(generations[0] > 0, "round {round}");
        assert!(std::fs::read(&path).unwrap()[..FIRST * 512] == before[..FIRST * 512]);
    }
}

#[test]
fn an_image_in_use_is_refused_and_free_again_after_a_kill() {
    let (_folder, path) = image(0);
    let before = std::fs::read(&path).unwrap();
    let mut machine = start(&path);
    wait_for_writes(&path, &before);
    for args in [&[][..], &["--ephemeral"]] {
        let (status, said) = finished(&glassbox(&path, args).output().unwrap());
        assert_eq!(status, Some(2), "{said}");
        assert!(
            said.contains("disk.img") && said.contains("in use"),
            "{said}"
        );
        assert_eq!(said.lines().count(), 1, "{said}");
    }
    machine.kill();
    let (status, said) = finished(
        &glassbox(&path, &["--max-instructions", "1000"])
            .output()
            .unwrap(),
    );
    assert_eq!(status, Some(124), "{said}");
}

/// Root may read everything, so that as root the machine runs as nobody.
#[cfg(unix)]
#[test]
fn an_unreadable_image_is_refused() {
    use std::os::unix::fs::PermissionsExt;
    use std::os::unix::process::CommandExt;

    let (folder, path) = image(3);
    let mode = |path: &Path, mode| {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    };
    mode(folder.path(), 0o755);
    mode(&path, 0o000);
    let mut command = glassbox(&path, &[]);
    if std::fs::File::open(&path).is_ok() {
        const NOBODY: u32 = 65534;
        command.uid(NOBODY).gid(NOBODY);
    }
    let output = match command.output() {
        Ok(output) => output,
        Err(error) => {
            eprintln!("not run: nobody cannot run the program: {error}");
            return;
        }
    };
    let (status, said) = finished(&output);
    assert_eq!(status, Some(2), "{said}");
    assert!(
        said.contains("disk.img") && said.contains("permission"),
        "{said}"
    );
    assert_eq!(said.lines().count(), 1, "{said}");
    mode(&path, 0o600);
    assert_eq!(std::fs::read(&path).unwrap()[FIRST * 512], 0);
}

#[test]
fn more_memory_than_the_host_has_is_no_panic() {
    let (_folder, path) = image(3);
    let before = std::fs::read(&path).unwrap();
    let args = ["--memory", "512G", "--max-instructions", "1000"];
    let (status, said) = finished(&glassbox(&path, &args).output().unwrap());
    // A host that promises memory which it lacks lets it start.
    assert!(matches!(status, Some(2 | 124)), "{status:?} {said}");
    assert_eq!(said.lines().count(), 1, "{said}");
    if status == Some(2) {
        assert!(
            said.contains("-m 512G") && said.contains("try -m"),
            "{said}"
        );
        assert!(!said.contains("549755813888"), "{said}");
    }
    assert!(std::fs::read(&path).unwrap() == before);
}
