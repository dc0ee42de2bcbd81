//! Sound in a WAV file (Microsoft and IBM, Multimedia Programming Interface and Data Specifications
//! 1.0): two channels of 16 bits.
//!
//! The file begins with the first sound and ends with the last; of a pause in between two seconds
//! are kept, so that a machine that waits for days makes no file of days. Until the run ends the
//! header says that the data is as long as it can be, which players take for a recording that was
//! cut off.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use super::mixer::{Piece, RATE, Stereo};

/// Bytes before the first frame.
const HEADER: u64 = 44;
const FRAME_BYTES: u64 = 4;
/// The longest pause, in frames.
const LONGEST_PAUSE: u64 = 2 * RATE as u64;
/// Lengths have 32 bits; what is before the data counts as well.
const MOST_BYTES: u64 = (u32::MAX as u64 - HEADER) / FRAME_BYTES * FRAME_BYTES;

/// The header of so many bytes of data.
fn header(data_bytes: u64) -> [u8; HEADER as usize] {
    let data_bytes = data_bytes.min(MOST_BYTES) as u32;
    let mut header = [0; HEADER as usize];
    let parts: [&[u8]; 13] = [
        b"RIFF",
        &(data_bytes + HEADER as u32 - 8).to_le_bytes(),
        b"WAVE",
        b"fmt ",
        &16u32.to_le_bytes(),
        // PCM, two channels.
        &1u16.to_le_bytes(),
        &2u16.to_le_bytes(),
        &RATE.to_le_bytes(),
        &(RATE * FRAME_BYTES as u32).to_le_bytes(),
        &(FRAME_BYTES as u16).to_le_bytes(),
        &16u16.to_le_bytes(),
        b"data",
        &data_bytes.to_le_bytes(),
    ];
    let mut rest = &mut header[..];
    for part in parts {
        let (place, behind) = rest.split_at_mut(part.len());
        place.copy_from_slice(part);
        rest = behind;
    }
    header
}

/// Makes the file's bytes of what the mixer gives.
#[derive(Debug)]
pub struct Wav {
    path: PathBuf,
    /// Data so far, in bytes.
    data_bytes: u64,
    /// Silence that has not been written.
    silence: u64,
    /// It can take no more, and that was said.
    full: bool,
}

impl Wav {
    /// A file that is to be made anew, or, where `goes_on`, one that a run has left and that sound
    /// is added to. Also gives what is to be written first.
    pub fn new(path: &Path, goes_on: bool) -> (Self, Vec<u8>) {
        let before = match goes_on {
            true => left_by_a_run(path).unwrap_or(0),
            false => 0,
        };
        let wav = Self {
            path: path.to_owned(),
            data_bytes: before,
            silence: 0,
            full: false,
        };
        let first = match before {
            0 => header(MOST_BYTES).to_vec(),
            _ => Vec::new(),
        };
        (wav, first)
    }

    /// The option that asked for it.
    pub fn name(&self) -> String {
        format!("--sound wav:{}", self.path.display())
    }

    /// Whether there is data of an earlier run in the file.
    pub fn goes_on(&self) -> bool {
        self.data_bytes != 0
    }

    /// What is to be written for `piece`.
    pub fn write(&mut self, piece: &Piece) -> Vec<u8> {
        let mut bytes = Vec::new();
        self.silence = self.silence.saturating_add(piece.silence);
        for frame in &piece.frames {
            if *frame == [0; 2] {
                self.silence = self.silence.saturating_add(1);
                continue;
            }
            let pause = std::mem::take(&mut self.silence).min(LONGEST_PAUSE);
            if self.data_bytes != 0 {
                for _ in 0..pause {
                    self.frame([0; 2], &mut bytes);
                }
            }
            self.frame(*frame, &mut bytes);
        }
        bytes
    }

    fn frame(&mut self, frame: Stereo, bytes: &mut Vec<u8>) {
        if self.data_bytes >= MOST_BYTES {
            if !std::mem::replace(&mut self.full, true) {
                crate::outlet::say(&format!(
                    "glassbox: {}: expected less than 4 GiB of sound, found more; the guest goes on without",
                    self.name()
                ));
            }
        } else {
            self.data_bytes += FRAME_BYTES;
            frame
                .iter()
                .for_each(|sample| bytes.extend(sample.to_le_bytes()));
        }
    }

    /// Everything is written, or as much as could be: puts the length into the header, where there
    /// is a file on a disk.
    ///
    /// # Errors
    /// The host refuses.
    pub fn finish(&self) -> io::Result<()> {
        let metadata = std::fs::metadata(&self.path)?;
        if !metadata.is_file() {
            return Ok(());
        }
        let bytes = self.data_bytes.min(metadata.len().saturating_sub(HEADER));
        let mut file = File::options().write(true).open(&self.path)?;
        file.seek(SeekFrom::Start(0))?;
        file.write_all(&header(bytes))
    }
}

/// How many bytes of data are in a file that a run of ours has left.
fn left_by_a_run(path: &Path) -> Option<u64> {
    let mut file = File::open(path).ok()?;
    let bytes = file.metadata().ok().filter(|file| file.is_file())?.len();
    let mut found = [0; HEADER as usize];
    file.read_exact(&mut found).ok()?;
    let mut expected = header(0);
    for lengths in [4..8, 40..44] {
        expected[lengths.clone()].copy_from_slice(&found[lengths]);
    }
    let data = bytes - HEADER;
    (found == expected && data.is_multiple_of(FRAME_BYTES)).then_some(data)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frames(frames: &[i16]) -> Piece {
        Piece {
            silence: 0,
            frames: frames.iter().map(|&sample| [sample; 2]).collect(),
        }
    }

    fn silence(frames: u64) -> Piece {
        Piece {
            silence: frames,
            frames: Vec::new(),
        }
    }

    #[test]
    fn silence_at_both_ends_is_left_out_and_a_pause_is_short() {
        let (mut wav, first) = Wav::new(Path::new("none.wav"), false);
        assert_eq!(first.len(), 44);
        assert!(wav.write(&silence(1_000_000)).is_empty());
        assert_eq!(
            wav.write(&frames(&[0, 1, 0, 2])),
            [1, 0, 1, 0, 0, 0, 0, 0, 2, 0, 2, 0]
        );
        assert!(wav.write(&silence(1_000_000)).is_empty());
        assert_eq!(
            wav.write(&frames(&[3])).len() as u64,
            (LONGEST_PAUSE + 1) * 4
        );
        assert!(wav.write(&frames(&[0])).is_empty());
    }

    #[test]
    fn the_header_is_right_whatever_ends_the_run() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.wav");
        let (mut wav, mut bytes) = Wav::new(&path, false);
        bytes.extend(wav.write(&frames(&[1, 2])));
        std::fs::write(&path, &bytes).unwrap();
        let length = |at: usize| {
            let bytes = std::fs::read(&path).unwrap();
            u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap())
        };
        assert!(length(40) >= 0xFFFF_FF00, "a run that was killed");
        wav.finish().unwrap();
        assert_eq!((length(4), length(40)), (44, 8));
        // It goes on where it stopped.
        let (mut wav, first) = Wav::new(&path, true);
        assert!(first.is_empty() && wav.goes_on());
        let more = wav.write(&frames(&[3]));
        bytes = std::fs::read(&path).unwrap();
        bytes.extend(more);
        std::fs::write(&path, &bytes).unwrap();
        wav.finish().unwrap();
        assert_eq!((length(4), length(40)), (48, 12));
        // Nothing of anybody else's is added to.
        std::fs::write(&path, [0x20; 60]).unwrap();
        assert!(!Wav::new(&path, true).0.goes_on());
    }
}
