//! Adds up what a machine's sources of sound hand out, as frames of [`RATE`] by virtual time.
//!
//! A source has a rate of its own. Its samples become those of the mix by a filter of 16 taps (a
//! sinc under a Blackman window), for each of 1024 places between two of them, in integers: equal
//! runs give equal frames. As no piece comes later than [`Sound::MOST_NS`] after its start, the mix
//! is complete up to a little before now; where a run is cut, and how often somebody looks, makes
//! no difference to it.

use std::collections::{BTreeMap, VecDeque};

use platform::{DeviceId, Sound};

/// Frames a second.
pub const RATE: u32 = 48_000;
/// How far the mix is behind virtual time: a piece's length, once more until it is known that none
/// follows, and the filter's reach at the lowest rates.
const BEHIND_NS: u64 = 4 * Sound::MOST_NS;
/// A stream that has been silent for so long goes on no more.
const ENDED_NS: u64 = 2 * Sound::MOST_NS;
const TAPS: usize = 16;
const PLACES: usize = 1024;
/// Coefficients have so many binary places.
const SCALE: u32 = 14;
/// A piece may start so much beside the last one's end, in frames of its own, and still go on with
/// it.
const SEAM: i128 = 2;

/// A frame: left and right.
pub type Stereo = [i16; 2];

/// What is next of the mix: silence, or frames.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Piece {
    /// So many frames of silence.
    pub silence: u64,
    /// These.
    pub frames: Vec<Stereo>,
}

/// A source while it sounds. Its samples are numbered from 0 on.
#[derive(Debug)]
struct Stream {
    rate_millihertz: u64,
    /// When sample 0 was due, in virtual nanoseconds.
    start_ns: u64,
    /// How many samples there were.
    count: i64,
    /// The samples that the filter still needs; behind the last one the first ones were silent.
    recent: VecDeque<Stereo>,
    /// The next frame of the mix that it adds to.
    next: u64,
}

impl Stream {
    /// The taps before, and behind, the sample at or before a frame's time.
    const BEFORE: i64 = TAPS as i64 / 2 - 1;
    const BEHIND: i64 = TAPS as i64 / 2;

    fn new(sound: &Sound) -> Self {
        let next = u128::from(sound.start_ns) * u128::from(RATE);
        Self {
            rate_millihertz: sound.rate_millihertz,
            start_ns: sound.start_ns,
            count: 0,
            recent: VecDeque::from(vec![[0; 2]; Self::BEFORE as usize]),
            next: next.div_ceil(1_000_000_000) as u64,
        }
    }

    /// When the sample behind the last one is due.
    fn end_ns(&self) -> u64 {
        let ns = self.count as u128 * 1_000_000_000_000 / u128::from(self.rate_millihertz);
        self.start_ns.saturating_add(ns as u64)
    }

    /// Whether `sound` goes on where this one is.
    fn goes_on(&self, sound: &Sound) -> bool {
        let apart = i128::from(sound.start_ns) - i128::from(self.end_ns());
        self.rate_millihertz == sound.rate_millihertz
            && apart.abs() * i128::from(self.rate_millihertz) < SEAM * 1_000_000_000_000
    }

    /// Where the next frame of the mix is: the sample at or before it, and how far behind that.
    fn position(&self) -> (i64, usize) {
        let since =
            i128::from(self.next) * 1_000_000_000 - i128::from(self.start_ns) * i128::from(RATE);
        let position = since * i128::from(self.rate_millihertz) * PLACES as i128
            / (i128::from(RATE) * 1_000_000_000_000);
        let position = position.max(0);
        (
            (position / PLACES as i128) as i64,
            position as usize % PLACES,
        )
    }

    /// Adds all frames to `mix` for which there are samples enough.
    fn render(&mut self, filter: &[[i32; TAPS]], mix: &mut Mix) {
        loop {
            let oldest = self.count - self.recent.len() as i64;
            let (sample, place) = self.position();
            let first = (sample - Self::BEFORE - oldest) as usize;
            if sample + Self::BEHIND >= self.count {
                self.recent.drain(..first.min(self.recent.len()));
                return;
            }
            let mut sums = [0i32; 2];
            for (&tap, frame) in filter[place].iter().zip(self.recent.range(first..)) {
                sums[0] += tap * i32::from(frame[0]);
                sums[1] += tap * i32::from(frame[1]);
            }
            mix.add(self.next, sums.map(|sum| sum >> SCALE));
            self.next += 1;
        }
    }

    /// Takes `frames`, which follow what was there.
    fn push(&mut self, frames: &[Stereo], filter: &[[i32; TAPS]], mix: &mut Mix) {
        self.recent.extend(frames);
        self.count += frames.len() as i64;
        self.render(filter, mix);
    }

    /// No sample follows: what the filter still holds.
    fn finish(mut self, filter: &[[i32; TAPS]], mix: &mut Mix) {
        self.push(&[[0; 2]; TAPS], filter, mix);
    }
}

/// The sums so far, from frame `first` on.
#[derive(Debug, Default)]
struct Mix {
    first: u64,
    sums: VecDeque<[i32; 2]>,
}

impl Mix {
    fn add(&mut self, frame: u64, value: [i32; 2]) {
        // What comes too late is lost, as it would be on the way to a loudspeaker.
        let Some(at) = frame.checked_sub(self.first) else {
            return;
        };
        let at = at as usize;
        if at >= self.sums.len() {
            self.sums.resize(at + 1, [0; 2]);
        }
        for (sum, value) in self.sums[at].iter_mut().zip(value) {
            *sum = sum.saturating_add(value);
        }
    }
}

/// The mixer.
#[derive(Debug)]
pub struct Mixer {
    filter: Vec<[i32; TAPS]>,
    streams: BTreeMap<(DeviceId, u8), Stream>,
    mix: Mix,
}

impl Mixer {
    /// A mixer that starts at `now_ns` of virtual time.
    pub fn new(now_ns: u64) -> Self {
        let mix = Mix {
            first: frames_until(now_ns),
            sums: VecDeque::new(),
        };
        Self {
            filter: filter(),
            streams: BTreeMap::new(),
            mix,
        }
    }

    /// A device handed out a piece.
    pub fn add(&mut self, device: DeviceId, sound: &Sound) {
        if sound.frames.is_empty() || sound.rate_millihertz == 0 {
            return;
        }
        let key = (device, sound.stream);
        let mut stream = match self.streams.remove(&key) {
            Some(stream) if stream.goes_on(sound) => stream,
            other => {
                if let Some(ended) = other {
                    ended.finish(&self.filter, &mut self.mix);
                }
                Stream::new(sound)
            }
        };
        stream.push(&sound.frames, &self.filter, &mut self.mix);
        self.streams.insert(key, stream);
    }

    /// What is complete of the mix at `now_ns`.
    pub fn take(&mut self, now_ns: u64) -> Piece {
        let ended = self.streams.iter();
        let ended = ended.filter(|(_, stream)| stream.end_ns().saturating_add(ENDED_NS) < now_ns);
        let ended: Vec<_> = ended.map(|(&key, _)| key).collect();
        for key in ended {
            if let Some(stream) = self.streams.remove(&key) {
                stream.finish(&self.filter, &mut self.mix);
            }
        }
        self.take_until(frames_until(now_ns.saturating_sub(BEHIND_NS)))
    }

    /// The run is over: all that is left.
    pub fn finish(&mut self) -> Piece {
        for stream in std::mem::take(&mut self.streams).into_values() {
            stream.finish(&self.filter, &mut self.mix);
        }
        self.take_until(self.mix.first + self.mix.sums.len() as u64)
    }

    fn take_until(&mut self, end: u64) -> Piece {
        let left = end.saturating_sub(self.mix.first);
        let sums = left.min(self.mix.sums.len() as u64);
        if sums == 0 {
            // Silence is counted, not kept: a machine may wait for hours.
            self.mix.first += left;
            return Piece {
                silence: left,
                frames: Vec::new(),
            };
        }
        self.mix.first += sums;
        let limit = |sum: i32| sum.clamp(i16::MIN.into(), i16::MAX.into()) as i16;
        let sums = self.mix.sums.drain(..sums as usize);
        Piece {
            silence: 0,
            frames: sums.map(|sums| sums.map(limit)).collect(),
        }
    }
}

/// How many frames there are until a virtual time.
fn frames_until(now_ns: u64) -> u64 {
    (u128::from(now_ns) * u128::from(RATE) / 1_000_000_000) as u64
}

/// The coefficients for each place between two samples.
fn filter() -> Vec<[i32; TAPS]> {
    use std::f64::consts::PI;
    let half = TAPS as f64 / 2.0;
    let place = |place: usize| {
        let between = place as f64 / PLACES as f64;
        let taps: [f64; TAPS] = std::array::from_fn(|tap| {
            let x = tap as f64 - (half - 1.0) - between;
            let window = 0.42 + 0.5 * (PI * x / half).cos() + 0.08 * (2.0 * PI * x / half).cos();
            let sinc = match x.abs() < 1e-9 {
                true => 1.0,
                false => (PI * x).sin() / (PI * x),
            };
            sinc * window
        });
        // A voltage that stands still stays what it is.
        let sum: f64 = taps.iter().sum();
        taps.map(|tap| (tap / sum * f64::from(1 << SCALE)).round() as i32)
    };
    (0..PLACES).map(place).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const CARD: DeviceId = DeviceId(3);

    fn sine(hertz: f64, rate: f64, from: usize, count: usize) -> Vec<Stereo> {
        let sample = |n: usize| {
            let phase = 2.0 * std::f64::consts::PI * hertz * (from + n) as f64 / rate;
            [(phase.sin() * 10_000.0) as i16; 2]
        };
        (0..count).map(sample).collect()
    }

    /// Half a second of 1 kHz at `rate`, in pieces of 10 ms, from 3.3 ms on; looked at every
    /// `look_ns`.
    fn play(rate: u32, look_ns: u64) -> Vec<Stereo> {
        let mut mixer = Mixer::new(0);
        let mut heard = Vec::new();
        let per_piece = (rate / 100) as usize;
        let mut take = |piece: Piece| {
            heard.resize(heard.len() + piece.silence as usize, [0; 2]);
            heard.extend(piece.frames);
        };
        let mut now_ns = 0;
        for n in 0..50 {
            let sound = Sound {
                stream: 0,
                start_ns: 3_300_000 + n as u64 * 10_000_000,
                rate_millihertz: u64::from(rate) * 1000,
                frames: sine(1000.0, rate.into(), n * per_piece, per_piece),
            };
            let end_ns = sound.start_ns + Sound::MOST_NS;
            while now_ns + look_ns < end_ns {
                now_ns += look_ns;
                take(mixer.take(now_ns));
            }
            mixer.add(CARD, &sound);
        }
        take(mixer.finish());
        heard
    }

    #[test]
    fn a_tone_keeps_its_pitch_and_loudness_at_every_rate() {
        for rate in [8000, 11_000, 22_000, 44_100, 48_000, 49_700] {
            let heard = play(rate, 1_000_000);
            let start = heard.iter().position(|frame| frame[0].abs() > 20).unwrap();
            let end = heard.iter().rposition(|frame| frame[0].abs() > 20).unwrap();
            assert!((150..180).contains(&start), "{rate}: from frame {start}");
            assert!((23_950..24_050).contains(&(end - start)), "{rate}");
            // Against a sine of the same pitch, in phase.
            let phase = 2.0 * std::f64::consts::PI * 1000.0 / f64::from(RATE);
            let mut worst = 0.0f64;
            for (n, frame) in heard.iter().enumerate().take(end - 200).skip(start + 200) {
                let ideal = 10_000.0 * (phase * (n as f64 - 0.0033 * f64::from(RATE))).sin();
                worst = worst.max((ideal - f64::from(frame[0])).abs());
            }
            assert!(worst < 100.0, "{rate}: {worst} off");
        }
    }

    #[test]
    fn how_often_somebody_looks_makes_no_difference() {
        let first = play(11_000, 1_000_000);
        assert!(first == play(11_000, 10_000_000));
        assert!(first == play(11_000, 333_333));
    }

    #[test]
    fn silence_is_counted() {
        let mut mixer = Mixer::new(1_000_000_000);
        let hours_ns = 10 * 3600 * 1_000_000_000;
        let piece = mixer.take(1_000_000_000 + hours_ns + BEHIND_NS);
        assert_eq!(piece.silence, 10 * 3600 * 48_000);
        assert!(piece.frames.is_empty());
    }

    #[test]
    fn sources_add_up_and_what_is_too_loud_is_cut() {
        let mut mixer = Mixer::new(0);
        for stream in 0..4 {
            let sound = Sound {
                stream,
                start_ns: 0,
                rate_millihertz: 48_000_000,
                frames: vec![[10_000, -10_000]; 480],
            };
            mixer.add(CARD, &sound);
        }
        let frames = mixer.finish().frames;
        assert_eq!(frames[240], [i16::MAX, i16::MIN]);
    }

    #[test]
    fn a_pause_is_silent_and_what_comes_too_late_is_lost() {
        let mut mixer = Mixer::new(0);
        let sound = |start_ns| Sound {
            stream: 0,
            start_ns,
            rate_millihertz: 48_000_000,
            frames: vec![[1000; 2]; 480],
        };
        mixer.add(CARD, &sound(0));
        mixer.add(CARD, &sound(30_000_000));
        let frames = mixer.finish().frames;
        assert_eq!(frames[960], [0; 2]);
        assert_eq!(frames[30 * 48 + 240], [1000; 2]);
        assert!(mixer.take(1_000_000_000).frames.is_empty());
        mixer.add(CARD, &sound(40_000_000));
        assert!(mixer.finish().frames.is_empty());
    }
}
