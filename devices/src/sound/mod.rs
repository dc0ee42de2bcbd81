//! What a PC sounds with.
//!
//! A source renders by virtual time, when somebody changes it and else every [`Sound::MOST_NS`],
//! and hands what it rendered to the outside as [`Said::Sound`](platform::Said::Sound), at its own
//! rate: whoever listens mixes. A source that is silent hands out nothing and has no timer armed.
//!
//! [`Sound::MOST_NS`]: platform::Sound::MOST_NS

pub mod ac97;
pub mod opl3;
pub mod sb16;
pub mod steps;

pub use ac97::Ac97;
pub use opl3::Opl3;
pub use sb16::Sb16;
pub use steps::Steps;
