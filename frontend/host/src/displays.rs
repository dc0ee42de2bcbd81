//! Displays.

/// Whether windows go to a server that the environment names, as X11's and Wayland's do: on Unix
/// systems but macOS. Elsewhere there is always one.
pub fn are_named() -> bool {
    cfg!(unix) && !cfg!(target_os = "macos")
}
