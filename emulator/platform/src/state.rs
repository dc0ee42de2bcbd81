//! How a component's state is looked at, written down and read back.
//!
//! A component shows one typed value, its [`StateView`]. Saving, hashing and inspecting all look at
//! that, so that they cannot differ in what they see.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// A component's state as it stands, with the version of its layout; each component counts its own.
pub struct StateView<'a> {
    version: u32,
    value: Box<dyn erased_serde::Serialize + 'a>,
}

impl<'a> StateView<'a> {
    /// `value`, laid out as `version` says. A reference serves.
    pub fn of<T: Serialize + 'a>(version: u32, value: T) -> Self {
        Self {
            version,
            value: Box::new(value),
        }
    }

    /// The version of the layout.
    pub fn version(&self) -> u32 {
        self.version
    }

    /// The value, with the names of its fields: for a reader of any format.
    pub fn value(&self) -> &(dyn erased_serde::Serialize + 'a) {
        &*self.value
    }

    /// Writes it down.
    pub fn save(&self) -> SavedState {
        SavedState::encode(self.version, &self.value)
    }
}

/// A part of a larger state: see [`SavedState::decode_with_part`].
impl Serialize for StateView<'_> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        (self.version, &self.value).serialize(serializer)
    }
}

/// The state of one component, written down: a version of its layout, and bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SavedState {
    /// Version of the layout.
    pub version: u32,
    /// The encoded state.
    pub bytes: Vec<u8>,
}

/// Why a saved state cannot be restored.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// The state was written by a version of the component that this build cannot read.
    #[error("saved state has version {found}, this build reads version {expected}")]
    Version {
        /// The newest version that this build reads.
        expected: u32,
        /// The version that was found.
        found: u32,
    },
    /// The bytes do not decode.
    #[error("saved state is damaged: {0}")]
    Damaged(#[from] postcard::Error),
    /// The bytes decode to what the component cannot be in.
    #[error("saved state is unsound: {0}")]
    Unsound(&'static str),
}

/// Reads the layout of an older version: the version, and what makes today's state of its bytes.
pub type Migration<T> = (u32, fn(&SavedState) -> Result<T, StateError>);

impl SavedState {
    /// Encodes `state` under `version`.
    pub fn encode<T: Serialize>(version: u32, state: &T) -> Self {
        let bytes =
            postcard::to_stdvec(state).expect("encoding into memory has no failure of its own");
        Self { version, bytes }
    }

    /// Decodes a state that was encoded under `version`. All bytes must be used up.
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
        let (state, rest) = postcard::take_from_bytes(&self.bytes)?;
        if !rest.is_empty() {
            return Err(StateError::Unsound("there is more than the component has"));
        }
        Ok(state)
    }

    /// Decodes a state that was encoded under `version` and ends with a [`StateView`]: what is before it, and it.
    ///
    /// # Errors
    /// Another version, or damaged bytes.
    pub fn decode_with_part<T: DeserializeOwned>(
        &self,
        version: u32,
    ) -> Result<(T, Self), StateError> {
        if self.version != version {
            return Err(StateError::Version {
                expected: version,
                found: self.version,
            });
        }
        let ((head, version), rest) = postcard::take_from_bytes::<(T, u32)>(&self.bytes)?;
        let bytes = rest.to_vec();
        Ok((head, Self { version, bytes }))
    }

    /// Decodes a state of `version`, or of an older one for which there is a migration.
    ///
    /// # Errors
    /// A version that nobody reads, or damaged bytes.
    pub fn decode_or_migrate<T: DeserializeOwned>(
        &self,
        version: u32,
        migrations: &[Migration<T>],
    ) -> Result<T, StateError> {
        match migrations.iter().find(|(from, _)| *from == self.version) {
            Some((_, migrate)) => migrate(self),
            None => self.decode(version),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Serialize, Deserialize, Debug, PartialEq)]
    struct New {
        count: u32,
        high: bool,
    }

    /// Version 1 had no `high`.
    fn from_1(state: &SavedState) -> Result<New, StateError> {
        let count = state.decode::<u32>(1)?;
        Ok(New { count, high: false })
    }

    #[test]
    fn an_older_version_is_migrated_and_an_unknown_one_refused() {
        let read = |state: &SavedState| state.decode_or_migrate::<New>(2, &[(1, from_1)]);
        let new = New {
            count: 7,
            high: true,
        };
        assert_eq!(read(&StateView::of(2, &new).save()).unwrap(), new);
        let old = read(&SavedState::encode(1, &7u32)).unwrap();
        assert_eq!((old.count, old.high), (7, false));
        let unknown = read(&SavedState::encode(3, &new)).unwrap_err();
        assert!(unknown.to_string().contains("version 3"));
    }

    #[test]
    fn what_is_left_over_is_damage() {
        let mut state = SavedState::encode(1, &7u32);
        assert!(state.decode::<u32>(1).is_ok());
        state.bytes.push(0);
        assert!(state.decode::<u32>(1).is_err());
        state.bytes.clear();
        assert!(state.decode::<u32>(1).is_err());
    }
}
