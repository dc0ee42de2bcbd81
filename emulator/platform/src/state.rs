//! How a component's state is written down and read back.

use serde::Serialize;
use serde::de::DeserializeOwned;

/// The state of one component: a version of its layout, and bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SavedState {
    /// Version of the layout; each component counts its own.
    pub version: u32,
    /// The encoded state.
    pub bytes: Vec<u8>,
}

/// Why a saved state cannot be restored.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// The state was written by another version of the component.
    #[error("saved state has version {found}, this build reads version {expected}")]
    Version {
        /// The version that this build reads.
        expected: u32,
        /// The version that was found.
        found: u32,
    },
    /// The bytes do not decode.
    #[error("saved state is damaged: {0}")]
    Damaged(#[from] postcard::Error),
}

impl SavedState {
    /// Encodes `state` under `version`.
    pub fn encode<T: Serialize>(version: u32, state: &T) -> Self {
        let bytes =
            postcard::to_stdvec(state).expect("encoding into memory has no failure of its own");
        Self { version, bytes }
    }

    /// Decodes a state that was encoded under `version`.
    ///
    /// # Errors
    /// Another version, or damaged bytes.
    pub fn decode<T: DeserializeOwned>(&self, version: u32) -> Result<T, StateError> {
        if self.version != version {
            return Err(StateError::Version {
                expected: version,
                found: self.version,
            });
        }
        Ok(postcard::from_bytes(&self.bytes)?)
    }
}
