//! `glassbox disk`: images while no machine has them.

use std::ffi::OsStr;
use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use clap::{Subcommand, ValueEnum};
use storage::Format;
use storage::disk::{self, Info};
use storage::qcow2::Backing;

use crate::manage::print::{bytes, table, text};
use crate::values::parse_size;

/// The subcommands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Make an empty image
    #[command(
        after_help = "Examples:\n  glassbox disk create disk.qcow2 20G\n  glassbox disk create over.qcow2 20G --backing base.qcow2   what is written goes to over.qcow2"
    )]
    Create {
        /// Its name
        file: PathBuf,
        /// How large the disk is; with --backing as large as that by default
        #[arg(value_parser = parse_size)]
        size: Option<u64>,
        /// Its format [default: by the name's ending, else qcow2]
        #[arg(long, value_name = "FORMAT")]
        format: Option<FormatChoice>,
        /// The image that it lies over; a name without a folder is looked for beside it
        #[arg(long, value_name = "FILE")]
        backing: Option<PathBuf>,
    },
    /// Copy an image, with all that it lies over, into one of another format
    #[command(
        after_help = "Examples:\n  glassbox disk convert disk.vdi disk.qcow2\n  glassbox disk convert disk.qcow2 disk.img\n  glassbox disk convert disk.img disk.qcow2 --force"
    )]
    Convert {
        /// The image
        from: PathBuf,
        /// The new one
        to: PathBuf,
        /// Its format [default: by the name's ending, else qcow2]
        #[arg(long, value_name = "FORMAT")]
        format: Option<FormatChoice>,
        /// Take the place of what is there
        #[arg(long)]
        force: bool,
    },
    /// Tell what an image is
    #[command(
        after_help = "Examples:\n  glassbox disk info disk.qcow2\n  glassbox disk info disk.qcow2 --json"
    )]
    Info {
        /// The image
        file: PathBuf,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Make a disk larger, or with --shrink smaller
    #[command(after_help = "Examples:\n  glassbox disk resize disk.qcow2 40G")]
    Resize {
        /// The image
        file: PathBuf,
        /// How large the disk is to be
        #[arg(value_parser = parse_size)]
        size: u64,
        /// Lose what is behind that
        #[arg(long)]
        shrink: bool,
    },
}

/// A format that images are made in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum FormatChoice {
    /// Sectors as they are
    Raw,
    /// QEMU's: takes what is written to it, and can lie over another image
    Qcow2,
    /// VirtualBox's, growing
    Vdi,
    /// VMware's, sparse in one file
    Vmdk,
    /// Virtual PC's, dynamic
    Vhd,
}

/// The format that was asked for, or that a file called so would be expected to have.
fn format_of(choice: Option<FormatChoice>, path: &Path) -> Format {
    let ending = path.extension().and_then(OsStr::to_str);
    let choice = choice.unwrap_or(match ending {
        Some("img" | "raw") => FormatChoice::Raw,
        Some("vdi") => FormatChoice::Vdi,
        Some("vmdk") => FormatChoice::Vmdk,
        Some("vhd") => FormatChoice::Vhd,
        _ => FormatChoice::Qcow2,
    });
    match choice {
        FormatChoice::Raw => Format::Raw,
        FormatChoice::Qcow2 => Format::Qcow2,
        FormatChoice::Vdi => Format::Vdi,
        FormatChoice::Vmdk => Format::Vmdk,
        FormatChoice::Vhd => Format::Vhd,
    }
}

/// Runs a command, and returns the exit status.
///
/// # Errors
/// What it cannot do, in one line.
pub fn run(command: Command) -> Result<u8> {
    match command {
        Command::Create {
            file,
            size,
            format,
            backing,
        } => create(&file, size, format_of(format, &file), backing.as_deref())?,
        Command::Convert {
            from,
            to,
            format,
            force,
        } => convert(&from, &to, format_of(format, &to), force)?,
        Command::Info { file, json } => info(&file, json)?,
        Command::Resize { file, size, shrink } => {
            let now = disk::info(&file)?.virtual_bytes;
            if size < now && !shrink {
                bail!(
                    "{}: expected a size of at least {now} bytes, which the disk has, found {size}; add --shrink to \
                     lose what is behind that",
                    file.display()
                );
            }
            disk::resize(&file, size)?;
        }
    }
    Ok(0)
}

fn create(file: &Path, size: Option<u64>, format: Format, backing: Option<&Path>) -> Result<()> {
    let backing = match backing {
        None => None,
        Some(path) => {
            let Some(name) = path.to_str() else {
                bail!(
                    "--backing {}: expected a name in Unicode; rename it",
                    path.display()
                );
            };
            let below = file.parent().unwrap_or(Path::new("")).join(path);
            let below = disk::info(&below)?;
            let backing = Backing {
                path: name.into(),
                format: below.format,
            };
            Some((backing, below.virtual_bytes))
        }
    };
    let Some(size) = size.or(backing.as_ref().map(|(_, bytes)| *bytes)) else {
        bail!(
            "{}: expected a size, such as 20G, found none",
            file.display()
        );
    };
    disk::create(file, size, format, backing.map(|(backing, _)| backing))?;
    Ok(())
}

fn convert(from: &Path, to: &Path, format: Format, force: bool) -> Result<()> {
    if to.exists() {
        if !force {
            bail!(
                "{}: expected a name that is free, found a file; add --force to take its place",
                to.display()
            );
        }
        if from.canonicalize().ok() == to.canonicalize().ok() {
            bail!(
                "{}: expected another name than the image's own",
                to.display()
            );
        }
    }
    let mut shown = 101;
    let live = std::io::stderr().is_terminal();
    let mut watch = |done: u64, all: u64| {
        let part = done * 100 / all.max(1);
        if live && part != shown {
            shown = part;
            eprint!("\r{part} %");
            let _ = std::io::stderr().flush();
        }
    };
    let beside = to.with_extension("partial");
    let target = if to.exists() { &beside } else { to };
    let made = disk::convert(from, target, format, &mut watch);
    if live {
        eprint!("\r     \r");
    }
    made?;
    if target != to {
        std::fs::rename(target, to)?;
    }
    Ok(())
}

fn info(file: &Path, as_json: bool) -> Result<()> {
    let info = disk::info(file)?;
    if as_json {
        let json = serde_json::to_string_pretty(&info)?;
        return Ok(text(&format!("{json}\n"))?);
    }
    let Info {
        format,
        virtual_bytes,
        file_bytes,
        backing,
        cluster_bytes,
        snapshots,
    } = info;
    let size = |size: u64| format!("{} ({size} bytes)", bytes(size));
    let mut rows = vec![
        vec!["format".into(), format.name().to_owned()],
        vec!["disk".into(), size(virtual_bytes)],
        vec!["file takes".into(), size(file_bytes)],
    ];
    if let Some(cluster) = cluster_bytes {
        rows.push(vec!["cluster".into(), bytes(cluster)]);
    }
    if let Some(backing) = backing {
        rows.push(vec![
            "lies over".into(),
            format!("{} ({})", backing.path, backing.format.name()),
        ]);
    }
    for snapshot in snapshots {
        rows.push(vec![
            "snapshot".into(),
            format!("{} ({})", snapshot.name, snapshot.id),
        ]);
    }
    Ok(text(&table(&rows))?)
}
