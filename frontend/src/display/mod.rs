//! What shows the machine's screen.

pub mod terminal;
#[cfg(feature = "window")]
pub mod window;

use std::io::IsTerminal;

use anyhow::{Result, bail};

use crate::cli::DisplayChoice;

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
    /// A display server is there.
    pub graphical: bool,
    /// Standard input and output are a terminal.
    pub terminal: bool,
}

impl Host {
    /// Looks at the host.
    pub fn detect() -> Self {
        let set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
        let unix_like = cfg!(unix) && !cfg!(target_os = "macos");
        Self {
            graphical: !unix_like || set("DISPLAY") || set("WAYLAND_DISPLAY"),
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
        DisplayChoice::Auto if host.terminal && !stdio => Ok(Display::Terminal),
        DisplayChoice::Auto => Ok(Display::None),
        #[cfg(feature = "window")]
        DisplayChoice::Window if host.graphical => Ok(Display::Window),
        #[cfg(feature = "window")]
        DisplayChoice::Window => bail!(
            "--display window: expected a display server, found neither DISPLAY nor \
             WAYLAND_DISPLAY set; use --display terminal or none"
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn auto_takes_the_best_that_is_there() {
        let host = |graphical, terminal| Host {
            graphical,
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
    }
}
