//! `RUST_LOG`: what the parts of a machine note down, on standard error.
//!
//! A guest that polls one register makes one chip's lines drown all others'. So a target that was not asked for by name
//! has an allowance, which the lines of the others refill; what is beyond is counted, and told with the next line.

use std::collections::BTreeMap;
use std::io::Write;
use std::sync::{Mutex, PoisonError};

/// The lines that a target may write before the others wrote any.
const ALLOWANCE: u32 = 200;
/// This many lines of the others' let it write one more.
const OTHERS: u32 = 4;

/// Starts the logger.
pub fn start() {
    let limits = Mutex::new(Limits::new(&std::env::var("RUST_LOG").unwrap_or_default()));
    env_logger::Builder::from_env(env_logger::Env::default().default_filter_or("error"))
        .format(move |buf, record| {
            let mut limits = limits.lock().unwrap_or_else(PoisonError::into_inner);
            // An error or a warning is no flood: it comes once.
            let shown = match record.level() <= log::Level::Warn {
                true => Shown::default(),
                false => limits.line(record.target()),
            };
            if shown.begins {
                let target = record.target();
                writeln!(
                    buf,
                    "[{target}: lines are left out from here on; RUST_LOG={target}=trace shows them all]"
                )?;
            }
            for (target, count) in shown.left_out {
                writeln!(buf, "[{target}: {count} lines left out]")?;
            }
            match shown.hidden {
                true => Ok(()),
                false => writeln!(
                    buf,
                    "[{} {}] {}",
                    record.level(),
                    record.target(),
                    record.args()
                ),
            }
        })
        .init();
}

/// What becomes of a line.
#[derive(Debug, Default, PartialEq, Eq)]
struct Shown {
    /// It is left out.
    hidden: bool,
    /// It is the first of its target's that is.
    begins: bool,
    /// In front of it: how many lines of which targets were.
    left_out: Vec<(String, u64)>,
}

/// What each target may still write.
#[derive(Debug, Default)]
struct Limits {
    /// The targets that `RUST_LOG` names.
    named: Vec<String>,
    targets: BTreeMap<String, Target>,
    /// Lines written, of all targets.
    written: u64,
}

/// A target that has an allowance.
#[derive(Debug)]
struct Target {
    /// In parts of a line, [`OTHERS`] of them.
    allowance: u32,
    /// Lines written by all when that was brought up to date.
    seen: u64,
    left_out: u64,
    /// It was said that lines are left out.
    told: bool,
}

impl Limits {
    fn new(filter: &str) -> Self {
        // `target=level,target,level/regex`
        let directives = filter.split('/').next().unwrap_or_default().split(',');
        let named = directives.map(|directive| {
            let target = directive.split('=').next().unwrap_or_default();
            target.trim().to_owned()
        });
        Self {
            named: named.filter(|target| !target.is_empty()).collect(),
            ..Self::default()
        }
    }

    /// A target has a line.
    fn line(&mut self, name: &str) -> Shown {
        // A directive names the targets that it is the beginning of, as the logger's filter has it.
        if self.named.iter().any(|named| name.starts_with(named)) {
            self.written += 1;
            return Shown::default();
        }
        if !self.targets.contains_key(name) {
            let target = Target {
                allowance: ALLOWANCE * OTHERS,
                seen: self.written,
                left_out: 0,
                told: false,
            };
            self.targets.insert(name.to_owned(), target);
        }
        let written = self.written;
        if let Some(target) = self.targets.get_mut(name) {
            let others = u32::try_from(written - target.seen).unwrap_or(u32::MAX);
            let allowance = target.allowance.saturating_add(others);
            target.allowance = allowance.min(ALLOWANCE * OTHERS);
            target.seen = written;
            let Some(rest) = target.allowance.checked_sub(OTHERS) else {
                target.left_out += 1;
                return Shown {
                    hidden: true,
                    begins: !std::mem::replace(&mut target.told, true),
                    left_out: Vec::new(),
                };
            };
            // Its own line is none of the others'.
            target.seen += 1;
            target.allowance = rest;
        }
        self.written += 1;
        let flooding = self.targets.iter_mut();
        let left_out = flooding.filter_map(|(name, target)| {
            let count = std::mem::take(&mut target.left_out);
            (count > 0).then(|| (name.clone(), count))
        });
        Shown {
            left_out: left_out.collect(),
            ..Shown::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(limits: &mut Limits, name: &str, lines: u32) -> u32 {
        (0..lines)
            .map(|_| u32::from(!limits.line(name).hidden))
            .sum()
    }

    #[test]
    fn one_target_cannot_flood_and_is_counted() {
        let mut limits = Limits::new("debug,ide=trace");
        assert_eq!(shown(&mut limits, "i8254", 500_000), ALLOWANCE);
        let next = limits.line("i8042");
        assert_eq!(
            next.left_out,
            [("i8254".to_owned(), 500_000 - u64::from(ALLOWANCE))]
        );
        assert!(!next.hidden && limits.line("i8042").left_out.is_empty());
        // Two that take turns cannot keep each other alive.
        let both: u32 = (0..100_000)
            .map(|_| shown(&mut limits, "i8254", 1) + shown(&mut limits, "i8042", 1))
            .sum();
        assert!(both < 2 * ALLOWANCE, "{both}");
        // What is asked for by name is never left out, and lets the others speak again.
        assert_eq!(shown(&mut limits, "ide", 1000), 1000);
        assert_eq!(shown(&mut limits, "i8254", 1000), ALLOWANCE);
    }

    #[test]
    fn named_targets_are_read_off_the_filter() {
        assert_eq!(Limits::new("trace").named, ["trace"]);
        assert_eq!(
            Limits::new("i8254=trace, ide ,debug/x,y").named,
            ["i8254", "ide", "debug"]
        );
        assert!(Limits::new("").named.is_empty());
    }
}
