//! Sound in WAV files: what is in them is told by its frequencies.

mod common;

use std::path::Path;
use std::process::Output;

use common::wav::{samples, tones};
use common::{ended, glassbox};

const ROM: &[u8] = include_bytes!("../../test-roms/devices/sound.img");

/// Runs the ROM with these options more.
fn run(folder: &Path, options: &[&str]) -> Output {
    let rom = folder.join("rom.img");
    std::fs::write(&rom, ROM).unwrap();
    let mut command = glassbox();
    command
        .args(["run", "--display", "none", "-m", "16M", "--timeout", "100"])
        .args(["--debugcon", "stdio", "--image-as", "disk"])
        .arg(&rom)
        .args(options);
    command.output().unwrap()
}

#[test]
fn each_device_is_heard_at_its_pitch_and_for_its_time() {
    let folder = tempfile::tempdir().unwrap();
    let wav = folder.path().join("out.wav");
    let option = format!("wav:{}", wav.display());
    let output = run(folder.path(), &["--sound", &option]);
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(ended(&output).0, Some(33), "{said}");
    assert!(said.contains(" 0 failed"), "{said}");

    let samples = samples(&wav);
    let found = tones(&samples, &[1000.0, 500.0, 1500.0, 700.2, 300.0]);
    let pitches: Vec<u32> = found
        .iter()
        .map(|tone| tone.0)
        .filter(|&hertz| hertz != 0)
        .collect();
    assert_eq!(pitches, [1000, 500, 1500, 700, 300], "{found:?}");
    for (hertz, ms) in found {
        // Four ticks are 220 ms; the words' last block makes them 240.
        let expected = match hertz {
            0 => 100..=170,
            1500 => 230..=260,
            _ => 210..=240,
        };
        assert!(expected.contains(&ms), "{hertz} Hz for {ms} ms");
    }

    // The same run gives the same file.
    let again = folder.path().join("again.wav");
    let option = format!("wav:{}", again.display());
    run(folder.path(), &["--sound", &option]);
    assert!(std::fs::read(&wav).unwrap() == std::fs::read(&again).unwrap());
}

#[test]
fn without_sound_there_is_no_card() {
    let folder = tempfile::tempdir().unwrap();
    for options in [&[][..], &["--sound", "none"], &["--sound", "auto"]] {
        let output = run(folder.path(), options);
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(said.contains("FAIL the DSP answers a reset"), "{said}");
    }
}

#[test]
fn a_file_that_cannot_be_is_one_line_and_status_2() {
    let folder = tempfile::tempdir().unwrap();
    let place = folder.path().display().to_string();
    for (option, expected) in [
        (
            "wav:".to_owned(),
            "expected none, auto or wav:FILE".to_owned(),
        ),
        (
            format!("wav:{place}/no/a.wav"),
            "make the folder first".to_owned(),
        ),
        (format!("wav:{place}"), "found a directory".to_owned()),
        (
            format!("wav:{place}/rom.img"),
            "that IMAGE names".to_owned(),
        ),
        (
            "auto,model=gus".to_owned(),
            "choose one of: speaker, sb16, ac97".to_owned(),
        ),
    ] {
        let output = run(folder.path(), &["--sound", &option]);
        let (status, said) = ended(&output);
        assert_eq!((status, said.lines().count()), (Some(2), 1), "{said}");
        assert!(said.contains(&expected), "{said}");
    }
}

#[test]
fn a_machine_that_goes_on_adds_to_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let [whole, parts] = ["whole.wav", "parts.wav"].map(|name| folder.path().join(name));
    let state = folder.path().join("state").display().to_string();
    run(
        folder.path(),
        &["--sound", &format!("wav:{}", whole.display())],
    );
    let option = format!("wav:{}", parts.display());
    run(
        folder.path(),
        &[
            "--sound",
            &option,
            "--until",
            "takes its time",
            "--save",
            &state,
        ],
    );
    let before = samples(&parts).len();
    let mut command = glassbox();
    command.args(["run", "--display", "none", "--timeout", "100"]);
    let output = command
        .args(["--restore", &state, "--sound", &option])
        .output()
        .unwrap();
    assert_eq!(ended(&output).0, Some(33), "{}", ended(&output).1);
    let (whole, parts) = (samples(&whole), samples(&parts));
    assert!(before > 0 && before < whole.len(), "{before}");
    // What was on its way at the cut is silence.
    assert!(parts.len().abs_diff(whole.len()) < 4_800);
    let found = tones(&parts, &[1000.0, 500.0, 1500.0, 700.2, 300.0]);
    assert_eq!(found.last().unwrap().0, 300, "{found:?}");
}
