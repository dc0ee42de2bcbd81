//! Where a machine's sound goes: a file, or the host's loudspeakers.

mod mixer;
mod wav;

use host::loudspeakers::{self, Loudspeakers};
use platform::{DeviceId, Sound};

pub use wav::Wav;

use mixer::{Mixer, Piece};

/// Whether this build can play on the host.
pub const HAS_LOUDSPEAKERS: bool = loudspeakers::ARE_THERE;

/// The names of the places that sound can go to in this build.
pub fn places() -> &'static [&'static str] {
    match HAS_LOUDSPEAKERS {
        true => &["the host's loudspeakers", "WAV files"],
        false => &["WAV files"],
    }
}

/// The end of a machine's sound on the host.
pub struct Speakers {
    mixer: Mixer,
    to: To,
}

enum To {
    Wav(Wav),
    Loudspeakers(Loudspeakers),
    /// There are none after all.
    Nowhere,
}

impl Speakers {
    /// Ones that write a file, from this virtual time on.
    pub fn to_file(wav: Wav, now_ns: u64) -> Self {
        Self {
            mixer: Mixer::new(now_ns),
            to: To::Wav(wav),
        }
    }

    /// Ones that play on the host, from this virtual time on. Where that cannot be, `refused` is
    /// told why, and nobody hears the machine.
    pub fn to_host(now_ns: u64, refused: impl FnOnce(std::io::Error)) -> Self {
        let to = match Loudspeakers::open(mixer::RATE) {
            Ok(loudspeakers) => To::Loudspeakers(loudspeakers),
            Err(error) => {
                refused(error);
                To::Nowhere
            }
        };
        Self {
            mixer: Mixer::new(now_ns),
            to,
        }
    }

    /// A device sounds.
    pub fn add(&mut self, device: DeviceId, sound: &Sound) {
        if !matches!(self.to, To::Nowhere) {
            self.mixer.add(device, sound);
        }
    }

    /// Virtual time is `now_ns`: plays what is complete. Returns what is to be written to the file.
    pub fn advance(&mut self, now_ns: u64) -> Vec<u8> {
        let piece = self.mixer.take(now_ns);
        self.play(&piece)
    }

    /// The run is over: what is left for the file.
    pub fn finish(&mut self) -> Vec<u8> {
        let piece = self.mixer.finish();
        self.play(&piece)
    }

    fn play(&mut self, piece: &Piece) -> Vec<u8> {
        match &mut self.to {
            To::Wav(wav) => return wav.write(piece),
            To::Loudspeakers(loudspeakers) => {
                loudspeakers.pause(piece.silence);
                loudspeakers.play(&piece.frames);
            }
            To::Nowhere => {}
        }
        Vec::new()
    }

    /// The file, where sound goes to one.
    pub fn wav(&self) -> Option<&Wav> {
        match &self.to {
            To::Wav(wav) => Some(wav),
            To::Loudspeakers(_) | To::Nowhere => None,
        }
    }
}
