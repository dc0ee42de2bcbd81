//! The command line of many machines.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use crate::values::parse_size;

/// The subcommands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Make a machine
    #[command(after_help = CREATE_EXAMPLES)]
    Create(Box<CreateArgs>),
    /// List all machines and what they do
    #[command(
        alias = "ls",
        after_help = "Examples:\n  glassbox list\n  glassbox list --json | jq -r '.[].name'"
    )]
    List {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Start machines, or go on with suspended ones
    #[command(after_help = "Examples:\n  glassbox start web\n  glassbox start web db --paused")]
    Start {
        /// Their names
        #[arg(required = true, value_name = "NAME")]
        names: Vec<String>,
        /// Have them stand still until `glassbox resume`
        #[arg(long)]
        paused: bool,
        /// Start though the host has too little memory
        #[arg(long)]
        force: bool,
    },
    /// Turn machines off: by the power button, and wait until they are
    #[command(
        after_help = "Examples:\n  glassbox stop web\n  glassbox stop web --wait 20\n  glassbox stop web --force   pulls the plug; of a suspended machine it drops the memory"
    )]
    Stop {
        /// Their names
        #[arg(required = true, value_name = "NAME")]
        names: Vec<String>,
        /// Pull the plug
        #[arg(long)]
        force: bool,
        /// How long the guest has to shut down
        #[arg(long, value_name = "SECONDS", default_value_t = 90)]
        wait: u64,
    },
    /// Press a machine's reset button
    #[command(after_help = "Examples:\n  glassbox reset web")]
    Reset {
        /// Its name
        name: String,
    },
    /// Have a machine stand still, in memory
    #[command(after_help = "Examples:\n  glassbox pause web")]
    Pause {
        /// Its name
        name: String,
    },
    /// Have a machine go on that was paused or suspended
    #[command(after_help = "Examples:\n  glassbox resume web")]
    Resume {
        /// Its name
        name: String,
    },
    /// Save a machine to the disk and end its process; `start` goes on from there, also after a reboot of the host
    #[command(after_help = "Examples:\n  glassbox suspend web")]
    Suspend {
        /// Its name
        name: String,
    },
    /// Show all about a machine, with its screen's text and last serial lines
    #[command(after_help = "Examples:\n  glassbox show web\n  glassbox show web --json | jq .ssh")]
    Show {
        /// Its name
        name: String,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Change a machine's description, and say what takes effect when
    #[command(after_help = SET_EXAMPLES)]
    Set {
        /// Its name
        name: String,
        /// What to set
        #[arg(required = true, value_name = "KEY=VALUE")]
        settings: Vec<String>,
    },
    /// Use a machine's serial console; Ctrl-] leaves
    #[command(after_help = "Examples:\n  glassbox console web")]
    Console {
        /// Its name
        name: String,
    },
    /// Log in by SSH, or run a command
    #[command(after_help = "Examples:\n  glassbox ssh web\n  glassbox ssh web -- uname -a")]
    Ssh {
        /// The machine
        name: String,
        /// The command
        #[arg(last = true)]
        command: Vec<String>,
    },
    /// Type text on a machine's keyboard, written as for `run --send`
    #[command(
        after_help = "Examples:\n  glassbox type web 'root\\n'\n  glassbox type web '<ctrl-alt-delete>'"
    )]
    Type {
        /// Its name
        name: String,
        /// The text
        #[arg(allow_hyphen_values = true)]
        text: String,
    },
    /// Write a picture of a machine's screen
    #[command(after_help = "Examples:\n  glassbox screenshot web web.png")]
    Screenshot {
        /// Its name
        name: String,
        /// Where to
        #[arg(value_name = "FILE.png")]
        file: PathBuf,
    },
    /// Make, list, restore and delete snapshots; of a machine that runs, with its memory
    #[command(subcommand)]
    Snapshot(SnapshotCommand),
    /// Copy a machine: a new address for its network card, a new port for SSH
    #[command(
        after_help = "Examples:\n  glassbox clone web web2\n  glassbox clone web worker --linked --count 10   worker-1 to worker-10, which share web's disk"
    )]
    Clone {
        /// The machine
        name: String,
        /// The copy's name; with --count what the names begin with
        new: String,
        /// Share with it what is on its disks now; the copy keeps only what differs
        #[arg(long)]
        linked: bool,
        /// How many copies
        #[arg(long, value_name = "N")]
        count: Option<u32>,
    },
    /// Delete machines, with disks and snapshots
    #[command(
        alias = "rm",
        after_help = "Examples:\n  glassbox delete web\n  glassbox delete web db --yes --force"
    )]
    Delete {
        /// Their names
        #[arg(required = true, value_name = "NAME")]
        names: Vec<String>,
        /// Do not ask
        #[arg(short, long)]
        yes: bool,
        /// Pull the plug of those that run
        #[arg(long)]
        force: bool,
    },
    /// Show what was done to a machine, when and by which command, and what its guest wrote to its serial port
    #[command(after_help = "Examples:\n  glassbox logs web\n  glassbox logs web --follow")]
    Logs {
        /// Its name
        name: String,
        /// Go on with what comes
        #[arg(short, long)]
        follow: bool,
    },
    /// Show speed, load, memory, disk and network of all machines that run
    #[command(after_help = "Examples:\n  glassbox top\n  glassbox top --once")]
    Top {
        /// Print once and end
        #[arg(long)]
        once: bool,
    },
    /// Give a machine one more disk: SIZE makes one of its own, FILE is used in place
    #[command(
        after_help = "Examples:\n  glassbox attach web 20G\n  glassbox attach web data.img,bus=virtio,readonly"
    )]
    Attach {
        /// Its name
        name: String,
        /// The disk
        #[arg(value_name = "SIZE|FILE[,OPTION…]")]
        disk: std::ffi::OsString,
    },
    /// Take a disk out of a machine; one of its own is deleted, unless a snapshot has it
    #[command(after_help = "Examples:\n  glassbox detach web disk1")]
    Detach {
        /// Its name
        name: String,
        /// The disk, as `glassbox show` names it
        disk: String,
    },
    /// Put an image into a CD-ROM or floppy drive, also while the machine runs
    #[command(
        after_help = "Examples:\n  glassbox insert web cdrom tools.iso\n  glassbox insert web floppy2 data.img"
    )]
    Insert {
        /// The machine
        name: String,
        /// The drive: cdrom, cdrom2, floppy or floppy2
        drive: String,
        /// The image
        file: PathBuf,
    },
    /// List what `create --from` knows, where it comes from, and what is here already
    #[command(
        after_help = "Examples:\n  glassbox catalogue\n  glassbox catalogue --json\n\n$GLASSBOX_HOME/catalogue.toml adds to it: [[image]] with name, title, kind (cloud, disk or installer), url and\nchecksums or checksum."
    )]
    Catalogue {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Serve the web console and its API
    #[cfg(feature = "console")]
    #[command(after_help = SERVE_EXAMPLES)]
    Serve(ServeArgs),
    /// Take the image out of a drive
    #[command(after_help = "Examples:\n  glassbox eject web cdrom")]
    Eject {
        /// The machine
        name: String,
        /// The drive: cdrom, cdrom2, floppy or floppy2
        drive: String,
    },
}

/// `glassbox snapshot`.
#[derive(Debug, Subcommand)]
pub enum SnapshotCommand {
    /// Make one: all disks in the same instant, and the memory of a machine that runs
    #[command(
        after_help = "Examples:\n  glassbox snapshot create web before-upgrade --note 'all tests pass'"
    )]
    Create {
        /// The machine
        name: String,
        /// The snapshot's name [default: snapshot-N]
        snapshot: Option<String>,
        /// What it is for
        #[arg(long, default_value = "", hide_default_value = true)]
        note: String,
    },
    /// List them, as the tree that they are
    #[command(alias = "ls", after_help = "Examples:\n  glassbox snapshot list web")]
    List {
        /// The machine
        name: String,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Put the machine back to one; a machine that runs is cut off. With memory it runs then as it did
    #[command(after_help = "Examples:\n  glassbox snapshot restore web before-upgrade")]
    Restore {
        /// The machine
        name: String,
        /// The snapshot
        snapshot: String,
        /// Have it stand still then
        #[arg(long)]
        paused: bool,
    },
    /// Delete one; those that came after it stay
    #[command(
        alias = "rm",
        after_help = "Examples:\n  glassbox snapshot delete web before-upgrade"
    )]
    Delete {
        /// The machine
        name: String,
        /// The snapshot
        snapshot: String,
    },
}

const CREATE_EXAMPLES: &str = "\
Without --from the machine starts with the first --disk empty: put an installer into --cdrom. The disk is tried first,
so the installed system starts when it is there.

Examples:
  glassbox create box --from debian-12 --start                 a Debian that `glassbox ssh box` logs into
  glassbox create box --from debian.qcow2 -m 1G --start        from a disk image, which stays as it is
  glassbox create box --cdrom debian-netinst.iso --disk 20G -m 1G --start
  glassbox create dos --disk 500M -m 32M --cpu pentium --net none";

const SET_EXAMPLES: &str = "\
Keys: memory, cpus, cpu, cpu-limit (per cent of a host's core; none), net, boot, firmware, input, rtc, kernel, initrd,
append, autostart (on: `glassbox serve` starts the machine), note, user (who logs in by SSH)

Examples:
  glassbox set web memory=2G cpus=2
  glassbox set web cpu-limit=50                  half a core; at once
  glassbox set web net=user,hostfwd=tcp:8080-80,hostfwd=tcp:2201-22";

/// Options of `glassbox create`.
#[derive(Debug, Args)]
pub struct CreateArgs {
    /// Its name
    pub name: String,
    /// What its first disk starts with: a name of `glassbox catalogue`, an URL or a disk image; an ISO goes into a
    /// CD-ROM drive
    #[arg(long, value_name = "NAME|URL|FILE")]
    pub from: Option<String>,
    /// A disk: SIZE makes one of the machine's own (with --from, how large the first becomes), FILE is used in place;
    /// repeat for more [default: 20G without --from]
    #[arg(long, value_name = "SIZE|FILE[,OPTION…]")]
    pub disk: Vec<std::ffi::OsString>,
    /// What it is for
    #[arg(long, default_value = "", hide_default_value = true)]
    pub note: String,
    /// The most of a host's core that it takes, in per cent
    #[arg(long, value_name = "PERCENT")]
    pub cpu_limit: Option<u32>,
    /// Have `glassbox serve` start it
    #[arg(long)]
    pub autostart: bool,
    /// Who logs in, where the system asks cloud-init's NoCloud at its first start; without any of these options a
    /// system of the catalogue gets its usual user
    #[arg(long, value_name = "NAME", help_heading = "First start")]
    pub user: Option<String>,
    /// A public key that lets them in, beside the one that `glassbox ssh` uses; repeat for more
    #[arg(long, value_name = "FILE", help_heading = "First start")]
    pub ssh_key: Vec<PathBuf>,
    /// A file whose first line is the password that lets them in
    #[arg(long, value_name = "FILE", help_heading = "First start")]
    pub password_file: Option<PathBuf>,
    /// Cloud-init's user-data, in place of the above
    #[arg(long, value_name = "FILE", help_heading = "First start")]
    pub user_data: Option<PathBuf>,
    /// Start it
    #[arg(long)]
    pub start: bool,

    /// RAM [default: what the system of the catalogue wants, else 512M]
    #[arg(short, long, value_name = "SIZE", value_parser = parse_size, help_heading = "Machine")]
    pub memory: Option<u64>,
    /// Processors, 1 to 16
    #[arg(long, value_name = "N", default_value_t = 1, help_heading = "Machine")]
    pub cpus: usize,
    /// Processor model; `glassbox info` lists them
    #[arg(
        long,
        value_name = "MODEL",
        default_value = "max",
        help_heading = "Machine"
    )]
    pub cpu: String,
    /// System BIOS: `builtin` or a file, such as OVMF.fd
    #[arg(
        long,
        value_name = "builtin|FILE",
        default_value = "builtin",
        help_heading = "Machine"
    )]
    pub firmware: String,
    /// Where UEFI firmware keeps its variables
    #[arg(long, value_name = "FILE", help_heading = "Machine")]
    pub uefi_vars: Option<PathBuf>,
    /// Network: none or user[,OPTION…] as for `glassbox run`; a port of this host leads to the guest's port 22 unless
    /// one is given
    #[arg(
        long,
        value_name = "none|user[,OPTION…]",
        default_value = "user",
        help_heading = "Machine"
    )]
    pub net: std::ffi::OsString,
    /// A CD-ROM image; repeat for more drives; `none` is an empty drive
    #[arg(long, value_name = "FILE|none", help_heading = "Machine")]
    pub cdrom: Vec<PathBuf>,
    /// A floppy disk image; repeat for a second drive; `none` is an empty drive
    #[arg(long, value_name = "FILE|none", help_heading = "Machine")]
    pub floppy: Vec<PathBuf>,
    /// Boot order, first to last
    #[arg(
        long,
        value_name = "KIND,…",
        value_delimiter = ',',
        help_heading = "Machine"
    )]
    pub boot: Vec<crate::cli::BootKind>,
    /// Pointer: ps2, vmmouse or virtio
    #[arg(
        long,
        value_name = "KIND",
        default_value = "vmmouse",
        help_heading = "Machine"
    )]
    pub input: crate::cli::InputChoice,
    /// Boot this kernel: bzImage, multiboot 1 or 2, or PVH ELF
    #[arg(long, value_name = "FILE", help_heading = "Machine")]
    pub kernel: Option<PathBuf>,
    /// Its initial RAM disk
    #[arg(long, value_name = "FILE", help_heading = "Machine")]
    pub initrd: Option<String>,
    /// Its command line
    #[arg(
        long,
        value_name = "TEXT",
        allow_hyphen_values = true,
        help_heading = "Machine"
    )]
    pub append: Option<String>,
}

#[cfg(feature = "console")]
const SERVE_EXAMPLES: &str = "\
It prints the page's address with its token. The API is described at /api/v1/openapi.json; it takes the token as
`Authorization: Bearer TOKEN`. $GLASSBOX_HOME/token-viewer has a token that may only look. /metrics is for Prometheus.

Examples:
  glassbox serve
  glassbox serve --listen 127.0.0.1:8010
  glassbox serve --listen 0.0.0.0:8006 --host vm.example.org      beyond this host: behind something that has TLS";

/// Options of `glassbox serve`.
#[cfg(feature = "console")]
#[derive(Debug, Args)]
pub struct ServeArgs {
    /// Where to listen
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:8006")]
    pub listen: std::net::SocketAddr,
    /// The file with the token [default: $GLASSBOX_HOME/token, made if it is not there]
    #[arg(long, value_name = "FILE")]
    pub token_file: Option<PathBuf>,
    /// A name by which browsers call this host, beside its addresses and localhost; repeat for more
    #[arg(long, value_name = "NAME")]
    pub host: Vec<String>,
}
