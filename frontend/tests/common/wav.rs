//! What is in a WAV file, told by its frequencies.

use std::path::Path;

const RATE: f64 = 48_000.0;

/// The left channel of a file that must be well formed.
pub fn samples(path: &Path) -> Vec<f64> {
    let bytes = std::fs::read(path).unwrap();
    let word = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap()) as usize;
    assert_eq!(
        (&bytes[..4], &bytes[8..16]),
        (&b"RIFF"[..], &b"WAVEfmt "[..])
    );
    assert_eq!((word(4), word(40)), (bytes.len() - 8, bytes.len() - 44));
    assert_eq!((word(24), word(28)), (48_000, 192_000));
    let frames = bytes[44..].chunks_exact(4);
    frames
        .map(|frame| i16::from_le_bytes([frame[0], frame[1]]).into())
        .collect()
}

/// How strong a sine of `hertz` is in `samples` (Goertzel).
fn strength(samples: &[f64], hertz: f64) -> f64 {
    let turn = 2.0 * (2.0 * std::f64::consts::PI * hertz / RATE).cos();
    let (mut one, mut two) = (0.0, 0.0);
    for sample in samples {
        (one, two) = (sample + turn * one - two, one);
    }
    (one * one + two * two - turn * one * two).max(0.0).sqrt() * 2.0 / samples.len() as f64
}

/// The tones of a file, one after the other: the pitch of `pitches` that is the strongest, and for
/// how many milliseconds. Pieces of 10 ms are looked at; one that is silent has pitch 0.
pub fn tones(samples: &[f64], pitches: &[f64]) -> Vec<(u32, usize)> {
    let mut tones: Vec<(u32, usize)> = Vec::new();
    for piece in samples.chunks_exact(480) {
        let heard = pitches
            .iter()
            .map(|&hertz| (strength(piece, hertz), hertz as u32));
        let (loudest, hertz) = heard.max_by(|a, b| a.0.total_cmp(&b.0)).unwrap();
        let hertz = if loudest > 300.0 { hertz } else { 0 };
        match tones.last_mut() {
            Some((last, ms)) if *last == hertz => *ms += 10,
            _ => tones.push((hertz, 10)),
        }
    }
    // A piece in which a tone begins or ends may look like another one.
    tones.retain(|(_, ms)| *ms > 20);
    tones
}
