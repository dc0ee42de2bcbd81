//! The command line.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args, CommandFactory, Parser, Subcommand, ValueEnum};

use crate::manage;
use crate::values::{parse_date, parse_size};

/// A whole x86 PC in software: see into it, run systems in it, test with it.
#[derive(Debug, Parser)]
#[command(
    name = "glassbox",
    version,
    about,
    max_term_width = 100,
    after_help = "Without a command, the built-in tour starts: in a window, or in the terminal where \
                  there is no display.\n\n\
                  Examples:\n  \
                  glassbox                                  the tour\n  \
                  glassbox run disk.img                     boot a disk, CD-ROM, floppy or kernel image\n  \
                  glassbox run --help                       all options of a machine\n  \
                  glassbox test test-roms                   run test ROMs\n  \
                  glassbox create box --from disk.qcow2 --start   a machine that stays: list, start, stop, snapshot …"
)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Option<Command>,
}

/// The subcommands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run one machine
    #[command(after_help = RUN_EXAMPLES)]
    Run(Box<RunArgs>),
    /// Run test ROMs and print verdicts
    #[command(after_help = TEST_EXAMPLES)]
    Test(TestArgs),
    #[command(flatten)]
    Manage(manage::args::Command),
    /// Make, convert, look at and resize disk images
    #[command(subcommand)]
    Disk(crate::disk::Command),
    /// Tell what this host offers, what will be slow, and why
    #[command(after_help = "Examples:\n  glassbox doctor\n  glassbox doctor --json")]
    Doctor {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// List CPU models, devices, display and recompiler back ends of this build
    #[command(after_help = "Examples:\n  glassbox info")]
    Info,
}

const RUN_EXAMPLES: &str = "\
IMAGE is told apart by its content. Its own disk is written to; --ephemeral keeps the file as it is.
A bootable image of up to 2.88 MiB is a floppy disk, unless it has a partition table or its boot sector
names drive 80h or asks for the BIOS's extended reads; --image-as overrides that.

Examples:
  glassbox run freedos.img                       a disk image, in a window
  glassbox run os-image.bin                      a boot sector with a kernel behind it: a floppy disk
  glassbox run --floppy setup.img --disk new.img --boot floppy
  glassbox run system.img --disk data.img,readonly
  glassbox run install.iso --disk new.img        from a CD-ROM onto a disk
  glassbox run --kernel bzImage --initrd initrd.img --append console=ttyS0 \\
      --display none --serial stdio              Linux on this terminal; Ctrl-] leaves
  glassbox run boot.img --display none --until 'login: ' --timeout 60 --report report.json
  glassbox run system.img --net user,hostfwd=tcp:2222-22       on the network; `ssh -p 2222 localhost` reaches it
  glassbox run linux.img --display none --send 'login: =>root\\n' --send '# =>poweroff\\n'

TEXT of --send: \\n Enter, \\e Escape, \\t \\b \\xNN \\\\, keys such as <f1> <up> <ctrl-alt-delete>, <lt> for <, and
  <power> <reset>           the buttons of the case: <power> asks an ACPI system to shut down
  <mouse DX DY>             moves the mouse by so many counts to the right and down, as <mouse 10 -5>
  <mouse-to X Y>            puts the pointer on that dot of the screen, where the guest has one that takes it
  <click BUTTON>            left, right or middle; <mouse-down BUTTON> and <mouse-up BUTTON> to drag
  <wheel N>                 turns the wheel by N notches, down on the screen; up where N is negative
  <insert DRIVE FILE>       puts an image into cdrom, cdrom2, floppy or floppy2 in place of what is there
  <eject DRIVE>             takes it out, also where the guest has locked the drive

OPTION of --net user:
  model=MODEL mac=MAC       the network card (`glassbox info` lists the models) and its address
  hostfwd=tcp|udp:[HOST:]PORT-[GUEST:]PORT   leads a port of this host into the guest; HOST is 127.0.0.1 unless given
  restrict                  keeps the guest from everything but hostfwd, DHCP and TFTP
  host-loopback=off         keeps the guest from this host's own services, which it finds at 10.0.2.2
  tftp=DIR bootfile=NAME    serves the files in DIR, and names one to who boots by network
  rom=FILE                  what is in the card's boot ROM, such as iPXE's

A window: a click lends the guest the mouse, Ctrl+Alt gives it back; a guest with a driver for VMware's pointer or
virtio's tablet follows the mouse without that. Ctrl+Alt+P presses the power button,
Ctrl+Alt+R the reset button, Ctrl+Alt+Q leaves; Ctrl+Alt+Del is the guest's, and so is Ctrl+Alt+End where the host
keeps it to itself. In a terminal Ctrl-Alt-P, Ctrl-Alt-R and Ctrl-]. Discs and diskettes are changed by
--send alone.

Exit status: 0 the guest powered off, --until matched, or the window was closed; (v << 1) | 1 the guest
wrote v to the debug-exit port F4h; 124 timeout or instruction limit; 2 bad usage or unreadable input;
3 the guest died; 130 interrupted; 141 a pipe that it printed to was closed; 1 output that could not be
written; 101 a defect of Glassbox.

RUST_LOG=exception=debug,mode=debug says on standard error which exceptions the guest meets, with CS:RIP,
error code and CR2, and when it switches modes; RUST_LOG=debug what is set in the devices; RUST_LOG=ide=trace
each access to one of them, by its name in `glassbox info`.";

const TEST_EXAMPLES: &str = "\
An image's expectation is NAME.toml beside it, or lines that start with `; glassbox:` at the head of its
source NAME.asm, with the same content. Folders are searched for them.

  [run]                        # options of `glassbox run` by their long names
  memory = \"16M\"
  image-as = \"floppy\"
  [expect]
  debug-exit = 0x10
  serial = [\"^OK$\"]            # regexes; also debugcon, screen
  [expect.registers]
  rax = \"0x1234\"

Examples:
  glassbox test test-roms
  glassbox test hello.img --junit results.xml
  In a kernel project's .cargo/config.toml:  runner = \"glassbox test --cargo\"
  and in its Cargo.toml, options of the machine:  [package.metadata.glassbox]
                                                  memory = \"1G\"
  GLASSBOX_OPTIONS='-m 2G --cpu i386' cargo test  for one time";

/// Which display shows the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum DisplayChoice {
    /// A window where there is a display, else the terminal, else none
    Auto,
    /// A window
    Window,
    /// This terminal
    Terminal,
    /// None: headless
    None,
}

/// What there is beside PS/2 keyboard and mouse.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum InputChoice {
    /// Nothing
    Ps2,
    /// VMware's absolute pointer
    #[default]
    Vmmouse,
    /// That, and virtio's keyboard and tablet
    Virtio,
}

impl From<InputChoice> for spec::InputKind {
    fn from(choice: InputChoice) -> Self {
        match choice {
            InputChoice::Ps2 => Self::Ps2,
            InputChoice::Vmmouse => Self::Vmmouse,
            InputChoice::Virtio => Self::Virtio,
        }
    }
}

/// What virtual time follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ClockChoice {
    /// The wall clock
    Realtime,
    /// The instruction count: the same image gives the same run
    Deterministic,
}

/// Which execution tiers may run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum EngineChoice {
    /// The fastest that this build has
    Auto,
    /// The interpreter alone
    Interpreter,
    /// The recompiler for what runs often, and the interpreter for the rest
    #[cfg(feature = "recompiler")]
    Recompiler,
}

/// A kind of drive.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum DriveKind {
    /// Hard disk
    Disk,
    /// CD-ROM
    Cdrom,
    /// Floppy disk
    Floppy,
}

impl From<DriveKind> for spec::DriveKind {
    fn from(kind: DriveKind) -> Self {
        match kind {
            DriveKind::Disk => Self::Disk,
            DriveKind::Cdrom => Self::Cdrom,
            DriveKind::Floppy => Self::Floppy,
        }
    }
}

/// What to boot from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum BootKind {
    /// Hard disk
    Disk,
    /// CD-ROM
    Cdrom,
    /// Floppy disk
    Floppy,
    /// The network card, by its boot ROM
    Network,
    /// Ask by the firmware's boot menu
    Menu,
}

impl From<BootKind> for spec::BootKind {
    fn from(kind: BootKind) -> Self {
        match kind {
            BootKind::Disk => Self::Disk,
            BootKind::Cdrom => Self::Cdrom,
            BootKind::Floppy => Self::Floppy,
            BootKind::Network => Self::Network,
            BootKind::Menu => Self::Menu,
        }
    }
}

/// Options of `glassbox run`.
#[derive(Clone, Debug, Default, Args)]
#[command(group = clap::ArgGroup::new("held").args(["control", "machine"]).multiple(true))]
pub struct RunArgs {
    /// Disk, CD-ROM, floppy, kernel or boot sector image; without any image the tour starts
    pub image: Option<PathBuf>,

    /// Attach IMAGE as this kind of drive, whatever it looks like; other formats are refused all the same
    #[arg(long, value_name = "KIND", help_heading = "Images")]
    pub image_as: Option<DriveKind>,
    /// A hard disk image: raw, qcow2, VDI, VMDK or VHD; with format= whatever it looks like, with
    /// readonly never written to, with backing=on over whatever image it names, with chs=C/H/S of
    /// that geometry; repeat for more. A comma in FILE is written twice
    #[arg(
        long,
        value_name = "FILE[,bus=ide|virtio][,format=raw|qcow2|…][,readonly][,backing=on][,chs=C/H/S]",
        help_heading = "Images"
    )]
    pub disk: Vec<OsString>,
    /// A CD-ROM image, never written to; repeat for more drives; `none` is an empty drive
    #[arg(long, value_name = "FILE|none", help_heading = "Images")]
    pub cdrom: Vec<PathBuf>,
    /// A floppy disk image; repeat for a second drive; `none` is an empty drive
    #[arg(long, value_name = "FILE|none", help_heading = "Images")]
    pub floppy: Vec<PathBuf>,
    /// Boot order, first to last
    #[arg(
        long,
        value_name = "KIND,…",
        value_delimiter = ',',
        help_heading = "Images"
    )]
    pub boot: Vec<BootKind>,
    /// Discard writes to disks at the end
    #[arg(long, help_heading = "Images")]
    pub ephemeral: bool,

    /// Boot this kernel: bzImage, multiboot 1 or 2, or PVH ELF
    #[arg(long, value_name = "FILE", help_heading = "Kernel")]
    pub kernel: Option<PathBuf>,
    /// Initial RAM disk; for multiboot and PVH: `FILE [TEXT],FILE [TEXT],…` are modules
    #[arg(long, value_name = "FILE", help_heading = "Kernel")]
    pub initrd: Option<String>,
    /// The kernel's command line
    #[arg(
        long,
        value_name = "TEXT",
        allow_hyphen_values = true,
        help_heading = "Kernel"
    )]
    pub append: Option<String>,

    /// RAM, 1M to 512G
    #[arg(short, long, value_name = "SIZE", value_parser = parse_size, default_value = "256M",
          help_heading = "Machine")]
    pub memory: u64,
    /// Processors, 1 to 16; they take turns on one thread of the host
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
    /// System BIOS: `builtin` or a file, such as SeaBIOS's bios.bin or OVMF.fd
    #[arg(
        long,
        value_name = "builtin|FILE",
        default_value = "builtin",
        help_heading = "Machine"
    )]
    pub firmware: String,
    /// VGA BIOS in place of the built-in one
    #[arg(long, value_name = "FILE", help_heading = "Machine")]
    pub vga_rom: Option<PathBuf>,
    /// Where UEFI firmware keeps its variables: a copy of OVMF_VARS.fd, for example. A firmware image that holds
    /// variables keeps them for this run only, without this
    #[arg(long, value_name = "FILE", help_heading = "Machine")]
    pub uefi_vars: Option<PathBuf>,
    /// Pointer: ps2 for the mouse alone, vmmouse for VMware's absolute pointer too, which most systems know,
    /// virtio for that and virtio's keyboard and tablet
    #[arg(
        long,
        value_name = "KIND",
        default_value = "vmmouse",
        help_heading = "Machine"
    )]
    pub input: InputChoice,
    /// Keyboard that --send and a terminal type on, as the guest takes its own for: us, uk, de, fr, es, it, se, no,
    /// dk, pt, br, ch, be, latam or pl
    #[arg(
        short = 'k',
        long,
        value_name = "LAYOUT",
        default_value = "us",
        help_heading = "Outside"
    )]
    pub keyboard: String,
    /// Network: none, or user for a network card with address translation, which needs no rights:
    /// the guest is 10.0.2.15, the host 10.0.2.2; hostfwd=tcp:2222-22 leads port 2222 of this host to
    /// the guest's port 22; repeat hostfwd for more
    #[arg(long, value_name = "none|user[,OPTION…]", help_heading = "Machine")]
    pub net: Option<OsString>,
    /// Date of the machine's clock at the start: 2026-01-01, 2026-01-01T12:00:00 or Unix seconds
    #[arg(long, value_name = "DATE", value_parser = parse_date, help_heading = "Machine")]
    pub rtc: Option<i64>,
    /// What virtual time follows [default: realtime with a display, a terminal or --net user, else deterministic]
    #[arg(long, value_name = "KIND", help_heading = "Machine")]
    pub clock: Option<ClockChoice>,
    /// Which execution tiers may run: a run is the same with each [default: auto]
    #[arg(long, value_name = "ENGINE", help_heading = "Machine")]
    pub engine: Option<EngineChoice>,

    /// What shows the screen [default: auto]
    #[arg(long, value_name = "KIND", help_heading = "Outside")]
    pub display: Option<DisplayChoice>,
    /// Serial port: stdio, none, file:PATH, or unix:PATH or tcp:[HOST:]PORT for whoever connects; repeat for COM2
    /// and on
    #[arg(long, value_name = "WHERE", help_heading = "Outside")]
    pub serial: Vec<String>,
    /// Debug console, ports E9h and 402h: stdio or file:PATH
    #[arg(long, value_name = "WHERE", help_heading = "Outside")]
    pub debugcon: Option<String>,
    /// Sound: none, auto (the host's loudspeakers where a display is used and this build has them, else none) or
    /// wav:FILE. With it the machine has a speaker, a Sound Blaster 16 and an AC'97; model=MODEL, repeated, picks some
    /// [default: auto]
    #[arg(
        long,
        value_name = "none|auto|wav:FILE[,model=MODEL]",
        help_heading = "Outside"
    )]
    pub sound: Option<OsString>,
    /// Wait for a debugger on this port
    #[arg(
        hide = true,
        long,
        value_name = "[HOST:]PORT",
        help_heading = "Outside"
    )]
    pub gdb: Option<String>,

    /// Listen here for commands, as JSON lines: status, pause, resume, power-button, type, screenshot and more
    #[arg(long, value_name = "unix:PATH", help_heading = "Outside")]
    pub control: Option<OsString>,
    /// Let clients of VNC (RFB 3.8) see and use the machine here; loopback unless HOST is given
    #[arg(
        long,
        value_name = "[HOST:]PORT|unix:PATH[,password-file=FILE]",
        help_heading = "Outside"
    )]
    pub vnc: Option<OsString>,
    /// Stand still at first, until the control interface says resume
    #[arg(long, requires = "held", help_heading = "Outside")]
    pub paused: bool,
    /// Run the manager's machine in this folder: `glassbox start` does
    #[arg(hide = true, long, value_name = "FOLDER")]
    pub machine: Option<PathBuf>,

    /// Save the whole machine into this folder at the end, also at a limit; it takes the place of what was saved there
    #[arg(long, value_name = "DIR", help_heading = "State")]
    pub save: Option<PathBuf>,
    /// Go on with the machine that was saved into this folder; its disks must be as it left them
    #[arg(long, value_name = "DIR", help_heading = "State", conflicts_with_all = OF_THE_MACHINE)]
    pub restore: Option<PathBuf>,

    /// End the run after so many seconds
    #[arg(long, value_name = "SECONDS", help_heading = "Script and end")]
    pub timeout: Option<f64>,
    /// End the run after so many instructions
    #[arg(long, value_name = "N", help_heading = "Script and end")]
    pub max_instructions: Option<u64>,
    /// End the run once this regex matches on serial, debug console or text screen
    #[arg(
        long,
        value_name = "REGEX",
        allow_hyphen_values = true,
        help_heading = "Script and end"
    )]
    pub until: Option<String>,
    /// Once REGEX appears, type TEXT there (\n, \e, <f1>, <ctrl-c>, <lt>; see below); repeat for more, in order
    #[arg(
        long,
        value_name = "REGEX=>TEXT",
        allow_hyphen_values = true,
        help_heading = "Script and end"
    )]
    pub send: Vec<String>,
    /// End the run when the guest resets the machine
    #[arg(long, help_heading = "Script and end")]
    pub no_reboot: bool,
    /// Write the display at the end as PNG
    #[arg(long, value_name = "FILE.png", help_heading = "Script and end")]
    pub screenshot: Option<PathBuf>,
    /// Write what happened as JSON
    #[arg(long, value_name = "FILE.json", help_heading = "Script and end")]
    pub report: Option<PathBuf>,
}

/// Options of `glassbox test`.
#[derive(Clone, Debug, Args)]
pub struct TestArgs {
    /// Test ROMs, and folders that are searched for them
    #[arg(required = true, value_name = "PATH")]
    pub paths: Vec<PathBuf>,
    /// Write the verdicts as JUnit XML
    #[arg(long, value_name = "FILE.xml")]
    pub junit: Option<PathBuf>,
    /// Write the verdicts as JSON
    #[arg(long, value_name = "FILE.json")]
    pub json: Option<PathBuf>,
    /// How many ROMs run at the same time [default: one a processor core]
    #[arg(short, long, value_name = "N")]
    pub jobs: Option<usize>,
    /// Time limit of a ROM that sets none itself
    #[arg(long, value_name = "SECONDS", default_value_t = 60.0)]
    pub timeout: f64,
    /// Serve as Cargo's runner: run the one kernel or image PATH with COM1 here; a guest that writes 10h
    /// to debug-exit port F4h (status 33) passes, with status 0; any other status is handed on. Options of
    /// `glassbox run` stand in the crate's manifest or in the variable GLASSBOX_OPTIONS
    #[arg(long)]
    pub cargo: bool,
}

/// What is wrong with a command line, of the lines that the parser makes of it: without usage, as `--help` has that.
pub fn in_one_line(words: &str) -> String {
    let lines = words.lines().map(str::trim);
    let lines = lines.take_while(|line| {
        !line.starts_with("Usage:") && !line.starts_with("For more information")
    });
    let mut said = String::new();
    for line in lines.filter(|line| !line.is_empty()) {
        if line.starts_with("tip:") {
            said.push(';');
        }
        if !said.is_empty() {
            said.push(' ');
        }
        said.push_str(line);
    }
    said + "; see --help"
}

/// What is to be said of a command line that `error` refuses because it leaves `run` out.
pub fn without_run(arguments: &[OsString], error: &clap::Error) -> Option<String> {
    use clap::error::ErrorKind;
    if !matches!(
        error.kind(),
        ErrorKind::UnknownArgument | ErrorKind::InvalidSubcommand
    ) {
        return None;
    }
    let rest = arguments.get(1..)?;
    let first = rest.first()?.to_str()?;
    let whole = || {
        let rest = rest.iter().map(|argument| argument.to_string_lossy());
        rest.collect::<Vec<_>>().join(" ")
    };
    let command = Cli::command();
    let run = command.find_subcommand("run")?;
    let name = first.split('=').next()?;
    let long = |name: &str| run.get_arguments().any(|arg| arg.get_long() == Some(name));
    let short = |name: &str| {
        run.get_arguments()
            .any(|arg| arg.get_short() == name.chars().next())
    };
    let is_option = match (name.strip_prefix("--"), name.strip_prefix('-')) {
        (Some(name), _) => long(name),
        (None, Some(name)) => short(name),
        (None, None) => false,
    };
    if is_option {
        return Some(format!(
            "{name} is an option of `glassbox run`: write `glassbox run {}`",
            whole()
        ));
    }
    std::path::Path::new(first).is_file().then(|| {
        format!(
            "{first}: expected a command, found a file; to boot it write `glassbox run {}`",
            whole()
        )
    })
}

/// What `--restore` brings along: the options that describe a machine.
const OF_THE_MACHINE: [&str; 19] = [
    "input",
    "image",
    "image_as",
    "disk",
    "cdrom",
    "floppy",
    "boot",
    "ephemeral",
    "kernel",
    "initrd",
    "append",
    "memory",
    "cpus",
    "cpu",
    "firmware",
    "vga_rom",
    "uefi_vars",
    "net",
    "rtc",
];

impl RunArgs {
    /// What of the options describes the machine.
    ///
    /// # Errors
    /// A disk's suboption that this build lacks.
    pub fn spec(&self) -> anyhow::Result<spec::MachineSpec> {
        let disks = self.disk.iter().map(|text| spec::DiskSpec::parse(text));
        Ok(spec::MachineSpec {
            memory: self.memory,
            cpus: self.cpus,
            cpu: self.cpu.clone(),
            firmware: self.firmware.clone(),
            vga_rom: self.vga_rom.clone(),
            uefi_vars: self.uefi_vars.clone(),
            image: self.image.clone(),
            image_as: self.image_as.map(Into::into),
            cdrom: self.cdrom.clone(),
            floppy: self.floppy.clone(),
            boot: self.boot.iter().map(|&kind| kind.into()).collect(),
            ephemeral: self.ephemeral,
            kernel: self.kernel.clone(),
            initrd: self.initrd.clone(),
            append: self.append.clone(),
            rtc: self.rtc,
            input: self.input.into(),
            net: match &self.net {
                Some(text) => spec::NetSpec::parse(text)?,
                None => None,
            },
            sound: None,
            disk: disks.collect::<anyhow::Result<_>>()?,
        })
    }

    /// The options that no option on the command line gives: for the tour.
    pub fn defaults() -> Self {
        #[derive(Parser)]
        struct Only {
            #[command(flatten)]
            run: RunArgs,
        }
        Only::parse_from(["glassbox"]).run
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
        assert_eq!(RunArgs::defaults().memory, 256 << 20);
    }

    #[test]
    fn options_of_the_interface_are_there() {
        let cli = Cli::try_parse_from([
            "glassbox",
            "run",
            "a.img",
            "--disk",
            "b.img",
            "--disk",
            "c.img",
            "-m",
            "1G",
            "--boot",
            "cdrom,disk",
            "--send",
            "-x=>y",
            "--append",
            "-v",
            "--until",
            "z",
        ]);
        let Ok(Cli {
            command: Some(Command::Run(run)),
        }) = cli
        else {
            panic!("{cli:?}");
        };
        assert_eq!(run.disk.len(), 2);
        assert_eq!(run.memory, 1 << 30);
        assert_eq!(run.boot, [BootKind::Cdrom, BootKind::Disk]);
    }
}
