//! What `--sound` says of what sounds in a machine, and of where that goes.

use std::ffi::{OsStr, OsString};
use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use host::files::name_from_bytes;
use serde::{Deserialize, Serialize};

/// Something that sounds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SoundModel {
    /// The PC's speaker, which is there with every card.
    Speaker,
    /// Creative Sound Blaster 16, at port 220h with interrupt 5 and DMA channels 1 and 5.
    Sb16,
    /// Intel 82801AA AC'97, at 00:10.0.
    Ac97,
}

impl SoundModel {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Speaker, Self::Sb16, Self::Ac97];

    /// As options name it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Speaker => "speaker",
            Self::Sb16 => "sb16",
            Self::Ac97 => "ac97",
        }
    }

    /// The names of all.
    pub fn names() -> Vec<&'static str> {
        Self::ALL.map(Self::name).to_vec()
    }
}

/// What sounds in a machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct SoundSpec {
    /// What there is.
    pub models: Vec<SoundModel>,
}

impl SoundSpec {
    /// Whether it has this one.
    pub fn has(&self, model: SoundModel) -> bool {
        self.models.contains(&model)
    }
}

impl Default for SoundSpec {
    fn default() -> Self {
        Self {
            models: SoundModel::ALL.to_vec(),
        }
    }
}

/// Where sound goes, as an option says it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SoundTo {
    /// To the host's loudspeakers where somebody is there to hear them, else nowhere.
    Auto,
    /// To a WAV file.
    Wav(PathBuf),
}

/// Reads an option's value: `none`, `auto` or `wav:FILE`, and `model=…` behind that. Two commas
/// stand for one that belongs to a name. Also says whether a model was named.
///
/// # Errors
/// It is none of the forms, or names what this build lacks.
pub fn parse(text: &OsStr) -> Result<Option<(SoundTo, SoundSpec, bool)>> {
    let option = text.display();
    let mut fields = crate::drive::fields(text).into_iter();
    let place = fields.next().unwrap_or_default();
    let to = match place.to_str() {
        Some("none") if fields.len() == 0 => return Ok(None),
        Some("auto") => SoundTo::Auto,
        _ => match without_prefix(&place, b"wav:") {
            Some(path) if !path.is_empty() => SoundTo::Wav(path.into()),
            _ => bail!(
                "--sound {option}: expected none, auto or wav:FILE, found `{}`; such as --sound wav:out.wav",
                place.display()
            ),
        },
    };
    let mut models = Vec::new();
    for field in fields {
        let name = without_prefix(&field, b"model=").with_context(|| {
            format!(
                "--sound {option}: expected model=… behind the place, found `{}`; a comma that belongs to a name is \
                 written twice",
                field.display()
            )
        })?;
        let model = SoundModel::ALL
            .into_iter()
            .find(|model| name.to_str() == Some(model.name()));
        models.push(model.with_context(|| {
            format!(
                "--sound {option}: expected a model that this build has, found `{}`; choose one of: {}",
                name.display(),
                SoundModel::names().join(", ")
            )
        })?);
    }
    let named = !models.is_empty();
    let spec = match named {
        true => SoundSpec { models },
        false => SoundSpec::default(),
    };
    Ok(Some((to, spec, named)))
}

fn without_prefix(text: &OsStr, prefix: &[u8]) -> Option<OsString> {
    let rest = text.as_encoded_bytes().strip_prefix(prefix)?;
    Some(name_from_bytes(rest.to_vec()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(text: &str) -> String {
        parse(text.as_ref()).unwrap_err().to_string()
    }

    #[test]
    fn the_forms_of_the_interface_are_read() {
        assert_eq!(parse("none".as_ref()).unwrap(), None);
        let (to, spec, named) = parse("auto".as_ref()).unwrap().unwrap();
        assert_eq!(
            (to, spec, named),
            (SoundTo::Auto, SoundSpec::default(), false)
        );
        let (to, spec, named) = parse("wav:a,,b.wav,model=speaker".as_ref())
            .unwrap()
            .unwrap();
        assert_eq!(to, SoundTo::Wav("a,b.wav".into()));
        assert_eq!((spec.models, named), (vec![SoundModel::Speaker], true));
    }

    #[test]
    fn what_is_wrong_is_named() {
        assert!(refusal("wav:").contains("expected none, auto or wav:FILE"));
        assert!(refusal("none,model=speaker").contains("expected none"));
        assert!(refusal("auto,model=gus").contains("choose one of: speaker, sb16, ac97"));
        assert!(refusal("auto,volume=11").contains("found `volume=11`"));
    }
}
