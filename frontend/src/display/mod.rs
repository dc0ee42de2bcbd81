//! What shows the machine's screen.

pub mod remote;
pub mod terminal;
#[cfg(feature = "window")]
pub mod window;

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use crossbeam_channel::Receiver;
use emulator::Machine;

use crate::cli::DisplayChoice;
use crate::runner::{Control, Shown, Stop};

/// A display of this build.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Display {
    /// A window.
    #[cfg(feature = "window")]
    Window,
    /// This terminal.
    Terminal,
    /// None.
    None,
}

/// What the host offers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Host {
    /// A display server that the window can use is named.
    pub graphical: bool,
    /// Only a Wayland server is: the window speaks X11.
    pub only_wayland: bool,
    /// Standard input and output are a terminal.
    pub terminal: bool,
}

impl Host {
    /// Looks at the host.
    pub fn detect() -> Self {
        let set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
        let named = host::displays::are_named();
        Self {
            graphical: !named || set("DISPLAY"),
            only_wayland: named && !set("DISPLAY") && set("WAYLAND_DISPLAY"),
            terminal: std::io::stdout().is_terminal() && std::io::stdin().is_terminal(),
        }
    }
}

/// The names of this build's displays.
pub fn names() -> &'static [&'static str] {
    if cfg!(feature = "window") {
        &["window", "terminal", "none"]
    } else {
        &["terminal", "none"]
    }
}

/// Chooses a display; `stdio` says that a serial port has the terminal already.
///
/// # Errors
/// A display that this build or host does not have.
pub fn choose(choice: DisplayChoice, host: Host, stdio: bool) -> Result<Display> {
    match choice {
        DisplayChoice::None => Ok(Display::None),
        #[cfg(feature = "window")]
        DisplayChoice::Auto if host.graphical => Ok(Display::Window),
        DisplayChoice::Auto => Ok(without_window(host, stdio)),
        #[cfg(feature = "window")]
        DisplayChoice::Window if host.graphical => Ok(Display::Window),
        #[cfg(feature = "window")]
        DisplayChoice::Window if host.only_wayland => {
            bail!("--display window: {ONLY_WAYLAND}, or use --display terminal or none")
        }
        #[cfg(feature = "window")]
        DisplayChoice::Window => bail!(
            "--display window: expected an X11 display server, found DISPLAY not set; \
             use --display terminal or none"
        ),
        #[cfg(not(feature = "window"))]
        DisplayChoice::Window => bail!(
            "--display window: this build has no window; use --display terminal or none, or \
             build with the feature `window`"
        ),
        DisplayChoice::Terminal if stdio => bail!(
            "--display terminal: --serial stdio or --debugcon stdio uses the terminal already; \
             lead it to file:PATH, or use --display none"
        ),
        DisplayChoice::Terminal if !host.terminal => bail!(
            "--display terminal: expected standard input and output to be a terminal; \
             use --display none"
        ),
        DisplayChoice::Terminal => Ok(Display::Terminal),
    }
}

/// Why a window cannot be had where Wayland is all there is.
#[cfg(feature = "window")]
pub const ONLY_WAYLAND: &str = "expected an X11 display server, found only Wayland \
                                (WAYLAND_DISPLAY without DISPLAY); start Xwayland";

/// What `auto` takes where no window can be had.
pub fn without_window(host: Host, stdio: bool) -> Display {
    match host.terminal && !stdio {
        true => Display::Terminal,
        false => Display::None,
    }
}

/// Keys that were under way when the guest died do not take its last screen away.
const GRACE: Duration = Duration::from_millis(300);

/// The time after a run has ended, in which the last screen stays.
pub struct Farewell {
    since: Instant,
    /// How the machine ended, and what to do.
    pub words: String,
}

impl Farewell {
    /// The farewell of a run that has ended; `None` where the display is to go at once.
    pub fn of(shown: &Shown) -> Option<Self> {
        let words = shown.last_words()?;
        Some(Self {
            since: Instant::now(),
            words: format!("{words} Press a key to leave."),
        })
    }

    /// Whether a key ends it.
    pub fn takes_keys(&self) -> bool {
        self.since.elapsed() >= GRACE
    }
}

/// Whether a signal has come in since the machine stopped to look for it.
pub fn interrupted(control: &Receiver<Control>) -> bool {
    let mut waiting = control.try_iter();
    waiting.any(|control| matches!(control, Control::Stop(Stop::Interrupted)))
}

/// A button of the machine's case, which displays have a key for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CaseButton {
    /// Power.
    Power,
    /// Reset.
    Reset,
}

impl CaseButton {
    /// What pressing it is to the machine.
    pub fn press(self) -> Control {
        Control::command(match self {
            Self::Power => Machine::press_power,
            Self::Reset => Machine::press_reset,
        })
    }
}

/// Breaks text at blanks into lines of at most `columns` characters; words that are longer are cut.
pub fn wrap(text: &str, columns: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    let width = |text: &str| text.chars().count();
    for word in text.split(' ') {
        let word: String = word.chars().take(columns).collect();
        if let Some(line) = lines.last_mut() {
            if line.is_empty() {
                *line = word;
            } else if width(line) + 1 + width(&word) <= columns {
                line.push(' ');
                line.push_str(&word);
            } else {
                lines.push(word);
            }
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_broken_at_blanks() {
        assert_eq!(wrap("the guest died", 9), ["the guest", "died"]);
        assert_eq!(wrap("abcdef g", 3), ["abc", "g"]);
        assert_eq!(wrap("", 0), [""]);
    }

    #[test]
    fn auto_takes_the_best_that_is_there() {
        let host = |graphical, terminal| Host {
            graphical,
            only_wayland: false,
            terminal,
        };
        let auto = |host, stdio| choose(DisplayChoice::Auto, host, stdio).unwrap();
        assert_eq!(auto(host(false, true), false), Display::Terminal);
        assert_eq!(auto(host(false, true), true), Display::None);
        assert_eq!(auto(host(false, false), false), Display::None);
        #[cfg(feature = "window")]
        assert_eq!(auto(host(true, true), false), Display::Window);
        assert!(choose(DisplayChoice::Terminal, host(false, true), true).is_err());
        assert!(choose(DisplayChoice::Window, host(false, true), false).is_err());
        let wayland = Host {
            only_wayland: true,
            ..host(false, true)
        };
        assert_eq!(auto(wayland, false), Display::Terminal);
    }
}
