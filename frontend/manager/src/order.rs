//! A new machine as somebody orders it: from a file, an address or a name of the catalogue.

use std::path::{Path, PathBuf};

use spec::{CardModel, DiskBus, MachineSpec};
use storage::Format;

use crate::catalogue::{Entry, Kind};
use crate::config::Config;
use crate::create::{Content, Create, NewDisk};
use crate::download::{Source, Watch};
use crate::error::{Code, Error, Result};
use crate::home::{Home, check_name};
use crate::machine::Machine;
use crate::seed::Seed;

/// The first disk's size where nobody says, in bytes: it takes what is written to it.
const FIRST_DISK: u64 = 20 << 30;
/// RAM where nobody says, in bytes.
pub const MEMORY: u64 = 512 << 20;

/// What is ordered.
#[derive(Clone, Debug, Default)]
pub struct Order {
    /// Its name.
    pub name: String,
    /// What its first disk starts with, or what is in its first CD-ROM drive.
    pub from: Option<String>,
    /// What it is made of, but for its own disks.
    pub spec: MachineSpec,
    /// RAM, in bytes; none: as what it starts from wants it.
    pub memory: Option<u64>,
    /// How large its own disks are, in bytes.
    pub sizes: Vec<u64>,
    /// What it is for.
    pub note: String,
    /// The most that it takes of a host's core, in per cent.
    pub cpu_limit: Option<u32>,
    /// Whether `glassbox serve` starts it.
    pub autostart: bool,
    /// Who is to log in.
    pub user: Option<String>,
    /// Keys that let them in.
    pub keys: Vec<String>,
    /// A password that lets them in.
    pub password: Option<String>,
    /// Cloud-init's user-data in place of these.
    pub user_data: Option<String>,
    /// Of files only those in the home's folder `uploads` may be named: who orders is on another host.
    pub uploads_only: bool,
}

/// What an order's `from` turned out to be.
enum Found {
    Nothing,
    Disk(PathBuf),
    Disc(PathBuf),
}

impl Home {
    /// Where images are that somebody sent.
    pub fn uploads_folder(&self) -> PathBuf {
        self.root().join("uploads")
    }

    /// The images that somebody sent, by name.
    pub fn uploads(&self) -> Vec<(String, u64)> {
        let entries = std::fs::read_dir(self.uploads_folder())
            .into_iter()
            .flatten()
            .flatten();
        let files = entries.filter_map(|entry| {
            let name = entry.file_name().into_string().ok()?;
            let len = entry.metadata().ok().filter(|file| file.is_file())?.len();
            check_name("an image", &name).is_ok().then_some((name, len))
        });
        let mut files: Vec<_> = files.collect();
        files.sort();
        files
    }

    /// Makes the machine that is ordered. `watch` hears of downloads. Returns it with what somebody should know.
    ///
    /// # Errors
    /// The name is in use, `from` is nothing that is known or cannot be fetched, or the host refuses.
    pub fn order(&self, order: Order, watch: Watch<'_>) -> Result<(Machine, Vec<String>)> {
        self.free_name(&order.name)?;
        crate::config::check(&Config {
            machine: MachineSpec {
                memory: order.memory.unwrap_or(MEMORY),
                ..order.spec.clone()
            },
            cpu_limit: order.cpu_limit,
            ..Config::default()
        })?;
        let mut notes = Vec::new();
        let (found, entry) = self.find(&order, &mut notes, watch)?;
        let mut spec = order.spec;
        let wish = |text: Option<&String>| text.and_then(|text| spec::size::parse_size(text).ok());
        let entry = entry.as_ref();
        spec.memory = order
            .memory
            .or(wish(entry.and_then(|entry| entry.memory.as_ref())))
            .unwrap_or(MEMORY);
        let is_cloud = entry.is_some_and(|entry| entry.kind == Kind::Cloud);
        // A system that is made for machines like this one knows the devices that cost least.
        let bus = if is_cloud {
            DiskBus::Virtio
        } else {
            DiskBus::Ide
        };
        if is_cloud
            && let Some(net) = &mut spec.net
            && net.model == CardModel::default()
        {
            net.model = CardModel::Virtio;
        }
        let mut sizes = order.sizes.into_iter();
        let first = sizes
            .next()
            .or(wish(entry.and_then(|entry| entry.disk.as_ref())));
        let mut disks = Vec::new();
        match found {
            Found::Disk(image) => disks.push(NewDisk {
                content: Content::Stored(image),
                bytes: first.unwrap_or(0),
                bus,
            }),
            Found::Disc(_) | Found::Nothing => {
                let is_bare =
                    spec.disk.is_empty() && spec.kernel.is_none() && spec.floppy.is_empty();
                if is_bare || first.is_some() {
                    disks.push(NewDisk {
                        content: Content::Empty,
                        bytes: first.unwrap_or(FIRST_DISK),
                        bus,
                    });
                }
                if let Found::Disc(disc) = found {
                    spec.cdrom.insert(0, disc);
                }
            }
        }
        disks.extend(sizes.map(|bytes| NewDisk {
            content: Content::Empty,
            bytes,
            bus,
        }));
        let mut files = Vec::new();
        let mut user = order.user;
        let asks = user.is_some()
            || !order.keys.is_empty()
            || order.password.is_some()
            || order.user_data.is_some();
        if is_cloud || asks {
            let name = user
                .or(entry.and_then(|entry| entry.user.clone()))
                .unwrap_or_else(|| "user".into());
            let mut keys = order.keys;
            // With a key of the home's, `glassbox ssh` needs nothing else.
            match self.ssh_key() {
                Ok((_, key)) => keys.push(key),
                Err(error)
                    if keys.is_empty() && order.password.is_none() && order.user_data.is_none() =>
                {
                    return Err(error);
                }
                Err(_) => {}
            }
            let seed = Seed {
                user: name.clone(),
                keys,
                password: order.password,
                user_data: order.user_data,
            };
            files = seed.files(&order.name);
            spec.cdrom.push(crate::seed::DISC.into());
            user = Some(name);
        }
        let create = Create {
            config: Config {
                note: order.note,
                autostart: order.autostart,
                cpu_limit: order.cpu_limit,
                user,
                machine: spec,
            },
            disks,
            ssh: true,
            files,
        };
        Ok((self.create(&order.name, &create)?, notes))
    }

    /// What `from` means; what was fetched is in `images`.
    fn find(
        &self,
        order: &Order,
        notes: &mut Vec<String>,
        watch: Watch<'_>,
    ) -> Result<(Found, Option<Entry>)> {
        let Some(from) = &order.from else {
            return Ok((Found::Nothing, None));
        };
        let mut fetch = |source: &Source| -> Result<PathBuf> {
            let (path, verified) = self.fetch(source, watch)?;
            if !verified {
                notes.push(format!(
                    "{}: no checksum of its publisher is known: add #sha256=… to the address to have it verified",
                    source.url
                ));
            }
            Ok(path)
        };
        if from.starts_with("http://") || from.starts_with("https://") {
            let path = fetch(&Source::of_url(from))?;
            return Ok((what_is(path)?, None));
        }
        let entries = self.catalogue()?;
        if let Some(entry) = entries.into_iter().find(|entry| entry.name == *from) {
            let path = fetch(&Source {
                url: entry.url.clone(),
                checksums: entry.checksums.clone(),
                checksum: entry.checksum.clone(),
            })?;
            return Ok((what_is(path)?, Some(entry)));
        }
        let path = match order.uploads_only {
            true => {
                check_name("an image", from)?;
                self.uploads_folder().join(from)
            }
            false => crate::config::whole(Path::new(from)),
        };
        if !path.exists() {
            // It says what the catalogue has.
            self.catalogue_entry(from)?;
        }
        match what_is(path.clone())? {
            Found::Disk(path) => Ok((Found::Disk(self.store_image(&path)?), None)),
            other => Ok((other, None)),
        }
    }
}

/// Whether the file at `path` is a disk or a disc.
fn what_is(path: PathBuf) -> Result<Found> {
    let found =
        storage::look(&path).map_err(|error| Error::new(Code::NotFound, error.to_string(), ""))?;
    match found.format {
        Format::Iso9660 => Ok(Found::Disc(path)),
        format if format.is_disk() => Ok(Found::Disk(path)),
        format => Err(Error::invalid(
            format!(
                "{}: expected a disk image or an ISO, found {}",
                path.display(),
                format.name()
            ),
            format!(
                "convert it first: qemu-img convert -O qcow2 {} disk.qcow2",
                path.display()
            ),
        )),
    }
}
