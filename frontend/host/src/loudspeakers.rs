//! The host's loudspeakers.
//!
//! On Linux they are behind a server that speaks PulseAudio's protocol: PulseAudio itself, or
//! PipeWire. Nothing is linked for that, so a build needs no library's headers.

/// Whether this build has a way to them.
pub const ARE_THERE: bool = cfg!(all(feature = "audio", target_os = "linux"));

/// A frame: left and right.
pub type Stereo = [i16; 2];

#[cfg(all(feature = "audio", target_os = "linux"))]
pub use pulse::Loudspeakers;

/// Loudspeakers that this build cannot reach.
#[cfg(not(all(feature = "audio", target_os = "linux")))]
#[derive(Debug)]
pub struct Loudspeakers(std::convert::Infallible);

#[cfg(not(all(feature = "audio", target_os = "linux")))]
impl Loudspeakers {
    /// Opens them.
    ///
    /// # Errors
    /// This build has no way to them.
    pub fn open(_rate_hz: u32) -> std::io::Result<Self> {
        Err(std::io::ErrorKind::Unsupported.into())
    }

    /// Plays frames.
    pub fn play(&self, _frames: &[Stereo]) {
        match self.0 {}
    }

    /// Plays so many frames of silence.
    pub fn pause(&self, _frames: u64) {
        match self.0 {}
    }
}

#[cfg(all(feature = "audio", target_os = "linux"))]
mod pulse {
    use std::collections::VecDeque;
    use std::io;
    use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
    use std::time::{Duration, Instant};

    use futures::executor::block_on;
    use pulseaudio::{AsPlaybackSource, Client, PlaybackStream, protocol};

    use super::Stereo;

    const FRAME_BYTES: u32 = 4;
    /// So much waits here before it is played, in milliseconds: the machine is not always on time.
    const AHEAD_MS: usize = 60;
    /// More than this waits in vain: a machine that is ahead of the clock is not heard later and
    /// later.
    const MOST_MS: usize = 300;
    /// What the server keeps.
    const SERVER_MS: u32 = 50;
    /// After so much silence the stream is halted, so that an idle machine costs nothing.
    const LINGER: Duration = Duration::from_secs(2);
    /// How often it is looked at whether there was so much.
    const LOOK: Duration = Duration::from_millis(500);

    /// A way to the loudspeakers, which ends when this is dropped.
    #[derive(Debug)]
    pub struct Loudspeakers {
        shared: Arc<Shared>,
        rate_hz: u32,
    }

    #[derive(Debug, Default)]
    struct Shared {
        queue: Mutex<Queue>,
        filled: Condvar,
    }

    #[derive(Debug, Default)]
    struct Queue {
        frames: VecDeque<Stereo>,
        /// Enough has come for it to be played.
        flows: bool,
        last: Option<Instant>,
        ended: bool,
    }

    impl Shared {
        fn lock(&self) -> MutexGuard<'_, Queue> {
            self.queue.lock().unwrap_or_else(PoisonError::into_inner)
        }
    }

    impl Queue {
        /// Fills all of `bytes`: with silence where there is nothing.
        fn fill(&mut self, bytes: &mut [u8], ahead: usize) {
            self.flows |= self.frames.len() >= ahead;
            for frame in bytes.chunks_mut(FRAME_BYTES as usize) {
                let next = self.frames.pop_front().filter(|_| self.flows);
                self.flows &= next.is_some();
                let [left, right] = next.unwrap_or_default().map(i16::to_le_bytes);
                for (byte, value) in frame.iter_mut().zip([left, right].concat()) {
                    *byte = value;
                }
            }
        }

        fn push(&mut self, frames: impl IntoIterator<Item = Stereo>, ahead: usize, most: usize) {
            self.frames.extend(frames);
            if self.frames.len() > most {
                let late = self.frames.len() - ahead;
                self.frames.drain(..late);
            }
        }
    }

    impl Loudspeakers {
        /// Opens them for frames at this rate.
        ///
        /// # Errors
        /// No server answers, or it refuses.
        pub fn open(rate_hz: u32) -> io::Result<Self> {
            let shared = Arc::new(Shared::default());
            let (stream, client) =
                connect(rate_hz, Arc::clone(&shared)).map_err(io::Error::other)?;
            let theirs = Arc::clone(&shared);
            std::thread::Builder::new()
                .name("sound".into())
                .spawn(move || {
                    attend(&stream, &theirs);
                    theirs.lock().ended = true;
                    drop((stream, client));
                })?;
            Ok(Self { shared, rate_hz })
        }

        /// Plays frames, behind those that it was given before. Never waits.
        pub fn play(&self, frames: &[Stereo]) {
            let mut queue = self.shared.lock();
            if queue.ended || frames.is_empty() {
                return;
            }
            queue.push(
                frames.iter().copied(),
                self.of_ms(AHEAD_MS),
                self.of_ms(MOST_MS),
            );
            queue.last = Some(Instant::now());
            self.shared.filled.notify_one();
        }

        /// Plays so many frames of silence. At its start, or while it has been silent for long, that
        /// is nothing.
        pub fn pause(&self, frames: u64) {
            let most = self.of_ms(MOST_MS);
            let frames = usize::try_from(frames).unwrap_or(usize::MAX).min(most);
            let mut queue = self.shared.lock();
            if queue.last.is_some_and(|last| last.elapsed() < LINGER) {
                queue.push(
                    std::iter::repeat_n([0; 2], frames),
                    self.of_ms(AHEAD_MS),
                    most,
                );
            }
        }

        fn of_ms(&self, ms: usize) -> usize {
            ms * self.rate_hz as usize / 1000
        }
    }

    impl Drop for Loudspeakers {
        fn drop(&mut self) {
            self.shared.lock().ended = true;
            self.shared.filled.notify_one();
        }
    }

    /// A stream that is halted, and takes its frames from `shared`.
    fn connect(
        rate_hz: u32,
        shared: Arc<Shared>,
    ) -> Result<(PlaybackStream, Client), pulseaudio::ClientError> {
        let client = Client::from_env(c"Glassbox")?;
        let bytes = rate_hz * SERVER_MS / 1000 * FRAME_BYTES;
        let parameters = protocol::PlaybackStreamParams {
            sample_spec: protocol::SampleSpec {
                format: protocol::SampleFormat::S16Le,
                channels: 2,
                sample_rate: rate_hz,
            },
            channel_map: protocol::ChannelMap::stereo(),
            cvolume: Some(protocol::ChannelVolume::norm(2)),
            sink_name: Some(protocol::DEFAULT_SINK.to_owned()),
            buffer_attr: protocol::stream::BufferAttr {
                target_length: bytes,
                ..Default::default()
            },
            flags: protocol::stream::StreamFlags {
                start_corked: true,
                adjust_latency: true,
                ..Default::default()
            },
            ..Default::default()
        };
        let ahead = AHEAD_MS * rate_hz as usize / 1000;
        let source = move |bytes: &mut [u8]| {
            shared.lock().fill(bytes, ahead);
            bytes.len()
        };
        let stream = client.create_playback_stream(parameters, source.as_playback_source());
        let stream = block_on(stream)?;
        Ok((stream, client))
    }

    /// Lets the stream run while anything comes, until the end.
    fn attend(stream: &PlaybackStream, shared: &Shared) {
        loop {
            {
                let mut queue = shared.lock();
                while queue.frames.is_empty() && !queue.ended {
                    let waited = shared.filled.wait(queue);
                    queue = waited.unwrap_or_else(PoisonError::into_inner);
                }
                if queue.ended {
                    return;
                }
            }
            // A server that has gone takes the sound along, not the machine.
            if block_on(stream.uncork()).is_err() {
                return;
            }
            loop {
                std::thread::sleep(LOOK);
                let queue = shared.lock();
                if queue.ended {
                    return;
                }
                if queue.last.is_none_or(|last| last.elapsed() >= LINGER) {
                    break;
                }
            }
            shared.lock().frames.clear();
            if block_on(stream.cork()).is_err() {
                return;
            }
        }
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        #[test]
        fn nothing_is_played_before_there_is_enough_and_a_gap_is_silent() {
            let mut queue = Queue::default();
            let mut bytes = [1; 16];
            queue.push([[1, 2]], 2, 10);
            queue.fill(&mut bytes[..8], 2);
            assert_eq!(bytes[..8], [0; 8]);
            queue.push([[0x0102, 0x0304], [5, 6]], 2, 10);
            queue.fill(&mut bytes, 2);
            assert_eq!(bytes, [2, 1, 4, 3, 5, 0, 6, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        }

        #[test]
        fn a_machine_that_is_ahead_loses_what_is_oldest() {
            let mut queue = Queue::default();
            for n in 0..25 {
                queue.push([[n; 2]], 4, 10);
            }
            assert!(queue.frames.len() <= 10);
            assert_eq!(queue.frames.back(), Some(&[24; 2]));
        }
    }
}
