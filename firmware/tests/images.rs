//! The committed images are what the sources assemble to, and are laid out as the board expects.

use std::path::Path;
use std::process::Command;

fn sum(bytes: &[u8]) -> u8 {
    bytes
        .iter()
        .fold(0, |sum: u8, &byte| sum.wrapping_add(byte))
}

#[test]
fn bios_has_the_reset_vector_and_the_model_byte() {
    let bios = firmware::bios();
    assert_eq!(bios.len(), 0x1_0000);
    assert_eq!(&bios[0xFFF0..0xFFF5], &[0xEA, 0x5B, 0xE0, 0x00, 0xF0]);
    assert_eq!(bios[0xFFF7], b'/');
    assert_eq!(bios[0xFFFE], 0xFC);
}

#[test]
fn vga_bios_is_an_option_rom_whose_bytes_sum_to_zero() {
    let rom = firmware::vga_bios();
    assert_eq!(rom[..2], [0x55, 0xAA]);
    assert_eq!(rom.len(), usize::from(rom[2]) * 512);
    assert_eq!(sum(rom), 0);
}

#[test]
fn committed_images_match_their_sources() {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    match Command::new("nasm").arg("-v").output() {
        Ok(output) if output.status.success() => {}
        _ => {
            println!("skipped: nasm is not installed");
            return;
        }
    }
    let out = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let built = Command::new("sh")
        .arg(here.join("build.sh"))
        .arg(out)
        .output()
        .expect("sh runs");
    assert!(
        built.status.success(),
        "build.sh failed: {}",
        String::from_utf8_lossy(&built.stderr)
    );
    for (folder, image) in [
        ("bios", "bios.bin"),
        ("vgabios", "vgabios.bin"),
        ("kernelrom", "kernelrom.bin"),
    ] {
        let committed =
            std::fs::read(here.join(folder).join(image)).expect("the image is committed");
        let assembled = std::fs::read(out.join(image)).expect("build.sh has made it");
        assert!(
            committed == assembled,
            "{folder}/{image} is stale: run firmware/build.sh"
        );
    }
}
