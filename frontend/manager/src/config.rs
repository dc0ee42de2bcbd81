//! `machine.toml`: what the user decided about a machine, and nothing else.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use spec::MachineSpec;

use crate::error::{Code, Error, OfFile, Result};

/// What stands at the head of a new file.
const HEAD: &str = "\
# A machine of Glassbox. Edit it while the machine is off, or use `glassbox set`, which keeps what is written here.
# A disk's path without a folder is one of the machine's own disks; others are files that are used in place.

";

/// What the user decided.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct Config {
    /// What the machine is for.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub note: String,
    /// Whether `glassbox serve` starts it.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub autostart: bool,
    /// The most that it takes of a host's core, in per cent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu_limit: Option<u32>,
    /// Who logs in by `glassbox ssh`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// What it is made of.
    pub machine: MachineSpec,
}

impl Config {
    /// Reads the file at `path`.
    ///
    /// # Errors
    /// It cannot be read, or something in it is not as expected.
    pub fn read(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path).of(path, "cannot be read")?;
        Self::parse(&text, path)
    }

    /// Reads `text`, which is in the file at `path`.
    ///
    /// # Errors
    /// Something in it is not as expected.
    pub fn parse(text: &str, path: &Path) -> Result<Self> {
        toml::from_str(text).map_err(|error| {
            let line = error.span().map(|span| text[..span.start].lines().count());
            let line = line.map_or(String::new(), |line| format!(", line {}", line.max(1)));
            Error::invalid(
                format!("{}{line}: {}", path.display(), error.message()),
                "correct the file",
            )
        })
    }

    /// As a new file has it.
    pub fn to_text(&self) -> Result<String> {
        let text = toml::to_string_pretty(self).map_err(|error| {
            Error::invalid(
                format!("expected names of files that are Unicode: {error}"),
                "rename them",
            )
        })?;
        Ok(format!("{HEAD}{text}"))
    }

    /// The names of the machine's own disks, in order.
    pub fn own_disks(&self) -> Vec<String> {
        let disks = self.machine.disk.iter();
        disks.filter_map(|disk| own_disk(&disk.path)).collect()
    }

    /// A name for one more disk of its own.
    pub fn new_disk_name(&self) -> String {
        let taken = self.own_disks();
        let mut numbers = 0..;
        numbers
            .by_ref()
            .map(|number| format!("disk{number}"))
            .find(|name| !taken.contains(name))
            .unwrap_or_default()
    }

    /// The port of the host's loopback that leads to the guest's SSH server.
    pub fn ssh_port(&self) -> Option<u16> {
        self.forwards()
            .into_iter()
            .find(|forward| forward.guest == 22 && forward.is_tcp)
            .map(|forward| forward.host)
    }

    /// The ports that lead into the guest.
    pub fn forwards(&self) -> Vec<Forward> {
        let net = self.machine.net.iter();
        net.flat_map(|net| &net.hostfwd)
            .filter_map(|text| Forward::parse(text))
            .collect()
    }
}

/// A port of the host that leads into the guest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Forward {
    /// TCP, or UDP.
    #[serde(skip)]
    pub is_tcp: bool,
    /// `tcp` or `udp`.
    pub protocol: &'static str,
    /// The host's.
    pub host: u16,
    /// The guest's.
    pub guest: u16,
}

impl Forward {
    /// Reads `tcp:[HOST:]PORT-[GUEST:]PORT`.
    fn parse(text: &str) -> Option<Self> {
        let (protocol, rest) = text.split_once(':')?;
        let (host, guest) = rest.rsplit_once('-')?;
        let port = |text: &str| text.rsplit(':').next()?.parse().ok();
        let is_tcp = protocol == "tcp";
        Some(Self {
            is_tcp,
            protocol: if is_tcp { "tcp" } else { "udp" },
            host: port(host)?,
            guest: port(guest)?,
        })
    }
}

/// The name of the machine's own disk that `path` means, if it does.
pub fn own_disk(path: &Path) -> Option<String> {
    let name = path.to_str()?;
    let is_name = !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric());
    is_name.then(|| name.to_owned())
}

/// What [`set`] changed, and when it takes effect.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Change {
    /// The key.
    pub key: String,
    /// Its new value.
    pub value: String,
    /// Whether it can take effect while the machine runs.
    pub at_once: bool,
}

/// The keys that [`set`] knows, for messages.
pub const KEYS: &str = "memory, cpus, cpu, cpu-limit, net, boot, firmware, input, autostart, note, user, rtc, kernel, initrd, append";

/// Sets keys of `text`, the content of the file at `path`, and keeps comments and order.
///
/// # Errors
/// An unknown key or a value that it cannot have.
pub fn set(
    text: &str,
    path: &Path,
    settings: &[(String, String)],
) -> Result<(String, Vec<Change>)> {
    let mut document: toml_edit::DocumentMut = text.parse().map_err(|error| {
        Error::invalid(format!("{}: {error}", path.display()), "correct the file")
    })?;
    let mut changes = Vec::new();
    for (key, value) in settings {
        set_one(&mut document, key, value)?;
        changes.push(Change {
            key: key.clone(),
            value: value.clone(),
            at_once: matches!(key.as_str(), "cpu-limit" | "autostart" | "note" | "user"),
        });
    }
    let text = document.to_string();
    // What no machine can have is refused before it is written.
    let config = Config::parse(&text, path).map_err(|error| {
        let all = settings.iter().map(|(key, value)| format!("{key}={value}"));
        let all = all.collect::<Vec<_>>().join(" ");
        let why = error
            .message
            .rsplit_once(": ")
            .map_or(error.message.as_str(), |(_, why)| why);
        Error::invalid(format!("{all}: {why}"), "see `glassbox set --help`")
    })?;
    check(&config)?;
    Ok((text, changes))
}

/// What no file can say but a machine cannot have.
///
/// # Errors
/// It has it.
pub fn check(config: &Config) -> Result<()> {
    let machine = &config.machine;
    let refuse = |message: String, hint: &str| Err(Error::invalid(message, hint));
    if !(1 << 20..=512 << 30).contains(&machine.memory) {
        return refuse(
            format!("memory={}: expected 1M to 512G", machine.memory),
            "choose a size such as 512M",
        );
    }
    if !(1..=16).contains(&machine.cpus) {
        return refuse(
            format!("cpus={}: expected 1 to 16 processors", machine.cpus),
            "choose a number in between",
        );
    }
    if let Err(error) = spec::build::cpu_model(&machine.cpu) {
        return refuse(format!("{error:#}"), "");
    }
    if config
        .cpu_limit
        .is_some_and(|limit| !(1..=1600).contains(&limit))
    {
        return refuse(
            format!(
                "cpu-limit={}: expected 1 to 1600 per cent of a host's core",
                config.cpu_limit.unwrap_or_default()
            ),
            "use 100 for a whole core, or cpu-limit=none",
        );
    }
    Ok(())
}

fn set_one(document: &mut toml_edit::DocumentMut, key: &str, value: &str) -> Result<()> {
    use toml_edit::{Item, Table, value as item};
    let none = value.is_empty() || value == "none";
    let number = |most: i64| -> Result<i64> {
        let number = value.parse().ok();
        number
            .filter(|number| (0..=most).contains(number))
            .ok_or_else(|| {
                Error::invalid(
                    format!("{key}={value}: expected a number, found `{value}`"),
                    format!("write such as {key}=2"),
                )
            })
    };
    let switch = || match value {
        "on" | "true" | "yes" => Ok(true),
        "off" | "false" | "no" => Ok(false),
        _ => Err(Error::invalid(
            format!("{key}={value}: expected on or off, found `{value}`"),
            format!("write {key}=on or {key}=off"),
        )),
    };
    let top = document.as_table_mut();
    let made: Item = match key {
        "note" | "user" if none => Item::None,
        "note" | "user" => item(value),
        "autostart" => item(switch()?),
        "cpu-limit" if none => Item::None,
        "cpu-limit" => item(number(i64::from(u32::MAX))?),
        _ => {
            if !top.contains_key("machine") {
                top.insert("machine", Item::Table(Table::new()));
            }
            let Some(machine) = top["machine"].as_table_like_mut() else {
                return Err(Error::invalid(
                    "machine: expected a table",
                    "correct the file",
                ));
            };
            let made = match key {
                "memory" | "cpu" | "firmware" | "input" => item(value),
                "cpus" => item(number(i64::from(u16::MAX))?),
                "rtc" if none => Item::None,
                "rtc" => item(number(i64::MAX)?),
                "kernel" | "initrd" | "append" if none => Item::None,
                "kernel" | "initrd" | "append" => item(value),
                "boot" => {
                    let kinds = value.split(',').filter(|kind| !kind.is_empty());
                    item(kinds.collect::<toml_edit::Array>())
                }
                "net" => net_item(value)?,
                _ => {
                    return Err(Error::invalid(
                        format!("{key}: expected one of {KEYS}"),
                        "see `glassbox set --help`",
                    ));
                }
            };
            put(machine, key, made);
            return Ok(());
        }
    };
    put(top, key, made);
    Ok(())
}

/// Puts `made` in place of what `key` is in `table`; comments at it stay.
fn put(table: &mut dyn toml_edit::TableLike, key: &str, made: toml_edit::Item) {
    if made.is_none() {
        table.remove(key);
        return;
    }
    match (
        table.get_mut(key).and_then(toml_edit::Item::as_value_mut),
        made.as_value(),
    ) {
        (Some(old), Some(new)) => {
            let decor = old.decor().clone();
            *old = new.clone();
            *old.decor_mut() = decor;
        }
        _ => drop(table.insert(key, made)),
    }
}

/// `--net`'s text as the file has it.
fn net_item(value: &str) -> Result<toml_edit::Item> {
    let parsed = spec::NetSpec::parse(value.as_ref())
        .map_err(|error| Error::invalid(format!("{error:#}"), ""))?;
    let Some(mut net) = parsed else {
        return Ok(toml_edit::Item::None);
    };
    // A managed machine sees the host's own services only if somebody says so.
    if !value.contains("host-loopback") {
        net.host_loopback = false;
    }
    let wrapped = std::collections::BTreeMap::from([("net", net)]);
    let text = toml::to_string(&wrapped)
        .map_err(|error| Error::invalid(format!("net={value}: {error}"), ""))?;
    let mut document: toml_edit::DocumentMut = text
        .parse()
        .map_err(|error| Error::invalid(format!("net={value}: {error}"), ""))?;
    document.as_table_mut().remove("net").ok_or_else(|| {
        Error::new(
            Code::Invalid,
            format!("net={value}: expected a network"),
            "",
        )
    })
}

/// The `text` of the file at `path` with `config`'s hardware in place of its own; all else stays.
///
/// # Errors
/// It cannot be read, or written as TOML.
pub(crate) fn with_machine(text: &str, path: &Path, config: &Config) -> Result<String> {
    let parse = |text: &str| -> Result<toml_edit::DocumentMut> {
        text.parse().map_err(|error| {
            Error::invalid(format!("{}: {error}", path.display()), "correct the file")
        })
    };
    let mut document = parse(text)?;
    let mut new = parse(&config.to_text()?)?;
    match new.remove("machine") {
        Some(machine) => drop(document.insert("machine", machine)),
        None => drop(document.remove("machine")),
    }
    Ok(document.to_string())
}

/// Writes `text` beside `path` and puts it in its place in one step.
pub(crate) fn replace(path: &Path, text: &str) -> Result<()> {
    replace_bytes(path, text.as_bytes())
}

/// The same of bytes.
pub(crate) fn replace_bytes(path: &Path, bytes: &[u8]) -> Result<()> {
    let what = "cannot be written";
    let folder = path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty());
    let folder = folder.unwrap_or(Path::new("."));
    let mut file = tempfile::Builder::new()
        .prefix(".new-")
        .tempfile_in(folder)
        .of(path, what)?;
    std::io::Write::write_all(&mut file, bytes).of(path, what)?;
    file.as_file().sync_all().of(path, what)?;
    file.persist(path)
        .map_err(|error| error.error)
        .of(path, what)?;
    host::files::sync_folder(folder);
    Ok(())
}

/// A path beside the machine's own that the user named, whole.
pub fn whole(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs(settings: &[(&str, &str)]) -> Vec<(String, String)> {
        let settings = settings.iter();
        settings
            .map(|(key, value)| ((*key).into(), (*value).into()))
            .collect()
    }

    #[test]
    fn setting_keeps_comments_and_refuses_what_no_machine_has() {
        let path = Path::new("machine.toml");
        let text =
            "# mine\nnote = \"x\" # why\n\n[machine]\n# how much\nmemory = \"64M\"\ncpus = 1\n";
        let settings = pairs(&[
            ("memory", "1G"),
            ("cpus", "4"),
            ("note", "web server"),
            ("net", "user,hostfwd=tcp:2222-22"),
        ]);
        let (new, changes) = set(text, path, &settings).unwrap();
        for kept in ["# mine", "# why", "# how much"] {
            assert!(new.contains(kept), "{kept} is gone:\n{new}");
        }
        let config = Config::parse(&new, path).unwrap();
        assert_eq!(config.machine.memory, 1 << 30);
        assert_eq!(config.machine.cpus, 4);
        assert_eq!(config.note, "web server");
        assert_eq!(config.ssh_port(), Some(2222));
        assert!(!config.machine.net.as_ref().unwrap().host_loopback);
        assert!(!changes[0].at_once && changes[2].at_once);
        for (key, value) in [
            ("memory", "lots"),
            ("memory", "1"),
            ("cpus", "0"),
            ("cpus", "two"),
            ("cpu", "z80"),
            ("cpu-limit", "0"),
            ("net", "bridge"),
            ("boot", "tape"),
            ("colour", "red"),
            ("autostart", "maybe"),
        ] {
            let error = set(text, path, &pairs(&[(key, value)])).unwrap_err();
            assert_eq!(error.code, Code::Invalid, "{key}={value}");
            let line = error.to_string();
            assert!(line.contains(key) && !line.contains('\n'), "{line}");
        }
    }

    #[test]
    fn a_new_file_reads_back() {
        let mut config = Config {
            cpu_limit: Some(50),
            ..Config::default()
        };
        config.machine.disk.push(spec::DiskSpec {
            path: "disk0".into(),
            bus: spec::DiskBus::Virtio,
            format: None,
            backing: false,
            read_only: false,
            chs: None,
        });
        let text = config.to_text().unwrap();
        assert_eq!(Config::parse(&text, Path::new("x")).unwrap(), config);
        assert_eq!(config.own_disks(), ["disk0"]);
        assert_eq!(config.new_disk_name(), "disk1");
        let wrong = Config::parse("[machine]\nmemmory = 1\n", Path::new("x")).unwrap_err();
        assert!(wrong.message.contains("memmory"), "{wrong}");
    }
}
