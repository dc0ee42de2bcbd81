//! Why a kernel cannot be loaded.

/// Why a kernel cannot be loaded. The messages continue "FILE: ".
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LoadError {
    /// The file ends too early.
    #[error("truncated {what}: expected {expected} bytes, found {found}; get the file again")]
    Truncated {
        /// What kind of file it is.
        what: &'static str,
        /// How long it should be at least.
        expected: u64,
        /// How long it is.
        found: u64,
    },
    /// A field has a value that makes no sense.
    #[error("damaged {what}: {why}; get the file again or rebuild it")]
    Damaged {
        /// What kind of file it is.
        what: &'static str,
        /// The field.
        why: String,
    },
    /// The file wants something that this machine does not do.
    #[error("this {what} cannot be booted directly: {why}")]
    Unsupported {
        /// What kind of file it is.
        what: &'static str,
        /// What it wants.
        why: String,
    },
    /// A part of the kernel lies where something else is.
    #[error(
        "the kernel loads at {start:#x}-{end:#x}, where {what}; link it elsewhere, at 1 MiB for example"
    )]
    Overlaps {
        /// First byte.
        start: u64,
        /// Last byte.
        end: u64,
        /// What is there, as a sentence.
        what: &'static str,
    },
    /// The machine is too small.
    #[error(
        "{what} needs at least {} of RAM, and the machine has {}; give it more with -m {}M",
        mebibytes(*needed),
        mebibytes(*ram),
        needed.div_ceil(MIB)
    )]
    TooLittleRam {
        /// Who needs it.
        what: &'static str,
        /// How many bytes of RAM would do.
        needed: u64,
        /// How many there are.
        ram: u64,
    },
    /// Something does not fit.
    #[error("{what} of {bytes} bytes does not fit where this kernel can reach it; make it smaller")]
    TooLarge {
        /// What.
        what: &'static str,
        /// How large it is.
        bytes: u64,
    },
    /// The command line is longer than the kernel takes.
    #[error("--append of {found} bytes: this kernel takes at most {limit}")]
    CommandLine {
        /// How much it takes.
        limit: u64,
        /// How long it is.
        found: u64,
    },
}

const MIB: u64 = 1 << 20;

fn mebibytes(bytes: u64) -> String {
    match bytes % MIB {
        0 => format!("{} MiB", bytes / MIB),
        // What is needed is rounded up, and a machine's size is told exactly.
        _ => format!("{} KiB", bytes.div_ceil(1024)),
    }
}
