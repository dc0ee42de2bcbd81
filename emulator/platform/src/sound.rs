//! What sounds.

/// A piece of sound that a device hands to the outside.
///
/// Pieces of one stream come in order, none longer than [`MOST_NS`](Self::MOST_NS), and at that
/// time after their start at the latest. Where the next one does not start when this one ends,
/// there is silence in between. Whoever mixes them can thus say at any time up to when he has heard
/// everything.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sound {
    /// Which of the device's sources.
    pub stream: u8,
    /// The virtual time at which it starts, in nanoseconds.
    pub start_ns: u64,
    /// Frames a second, in thousandths: rates such as that of 14.31818 MHz / 288 are no whole
    /// number.
    pub rate_millihertz: u64,
    /// Left and right.
    pub frames: Vec<[i16; 2]>,
}

impl Sound {
    /// The longest piece, and the longest wait for one: 10 ms of virtual time.
    pub const MOST_NS: u64 = 10_000_000;
}
