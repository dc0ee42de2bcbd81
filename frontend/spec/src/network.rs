//! What `--net` says of the network card and of the network behind it.

use std::ffi::OsStr;
use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use host::files::name_from_bytes;
use serde::{Deserialize, Serialize};

/// The options of a network, for messages.
const KNOWN: &str = "model, mac, hostfwd, restrict, host-loopback, tftp, bootfile and rom";

/// The card's address where none is given, of the range for such machines.
const MAC: [u8; 6] = [0x52, 0x54, 0x00, 0x12, 0x34, 0x56];

/// A model of network card.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CardModel {
    /// Intel 82540EM.
    #[default]
    E1000,
    /// Virtio's.
    Virtio,
    /// Realtek RTL8139C.
    Rtl8139,
    /// NE2000 on PCI: Realtek RTL8029AS.
    Ne2k,
    /// NE2000 on the ISA bus, at port 300h with interrupt 7.
    Ne2kIsa,
}

impl CardModel {
    /// All models.
    pub const ALL: [Self; 5] = [
        Self::E1000,
        Self::Virtio,
        Self::Rtl8139,
        Self::Ne2k,
        Self::Ne2kIsa,
    ];

    /// As options name it.
    pub fn name(self) -> &'static str {
        match self {
            Self::E1000 => "e1000",
            Self::Virtio => "virtio",
            Self::Rtl8139 => "rtl8139",
            Self::Ne2k => "ne2k",
            Self::Ne2kIsa => "ne2k-isa",
        }
    }

    /// The names of all models.
    pub fn names() -> Vec<&'static str> {
        Self::ALL.map(Self::name).to_vec()
    }
}

/// A network card, and the network behind it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct NetSpec {
    /// The card.
    pub model: CardModel,
    /// The card's address, such as `52:54:00:12:34:56`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mac: Option<String>,
    /// Ports of the host that lead into the guest, such as `tcp:2222-22`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub hostfwd: Vec<String>,
    /// Whether the guest is kept from everything but forwarded ports, DHCP and TFTP.
    pub restrict: bool,
    /// Whether 10.0.2.2 stands for the host's loopback.
    pub host_loopback: bool,
    /// The folder that TFTP serves.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tftp: Option<PathBuf>,
    /// The file's name that DHCP gives to who boots by network.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bootfile: Option<String>,
    /// What is in the card's expansion ROM.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rom: Option<PathBuf>,
}

impl Default for NetSpec {
    fn default() -> Self {
        Self {
            model: CardModel::default(),
            mac: None,
            hostfwd: Vec::new(),
            restrict: false,
            host_loopback: true,
            tftp: None,
            bootfile: None,
            rom: None,
        }
    }
}

impl NetSpec {
    /// Reads an option's value: `none`, or `user` and what follows it. Two commas stand for one
    /// that belongs to a name.
    ///
    /// # Errors
    /// An option that no network has, or a value that it cannot have.
    pub fn parse(text: &OsStr) -> Result<Option<Self>> {
        let option = text.display();
        let mut fields = crate::drive::fields(text).into_iter();
        let kind = fields.next().unwrap_or_default();
        let mut net = Self::default();
        match kind.to_str() {
            Some("user") => {}
            Some("none") if fields.len() == 0 => return Ok(None),
            _ => bail!(
                "--net {option}: expected none or user[,OPTION…], found `{}`; such as --net user,hostfwd=tcp:2222-22",
                kind.display()
            ),
        }
        let mut named = Vec::new();
        for field in fields {
            let bytes = field.as_encoded_bytes();
            let at = bytes.iter().position(|&byte| byte == b'=');
            let (name, value) = bytes.split_at(at.unwrap_or(bytes.len()));
            let value = name_from_bytes(value.get(1..).unwrap_or_default().to_vec());
            let text = value.to_string_lossy().into_owned();
            let switch = |name: &str| match text.as_str() {
                "" | "on" => Ok(true),
                "off" => Ok(false),
                _ => bail!("--net {option}: expected {name}=on or {name}=off, found `{text}`"),
            };
            if name != b"hostfwd" {
                crate::drive::once(&mut named, name).map_err(|name| {
                    anyhow::anyhow!("--net {option}: expected {name} once, found it twice")
                })?;
            }
            match name {
                b"model" => {
                    let models = CardModel::ALL.into_iter();
                    net.model = models
                        .into_iter()
                        .find(|model| model.name() == text)
                        .with_context(|| {
                            format!(
                                "--net {option}: expected a model that this build has, found `{text}`; choose one of: {}",
                                CardModel::names().join(", ")
                            )
                        })?;
                }
                b"mac" => net.mac = Some(text),
                b"hostfwd" => net.hostfwd.push(text),
                b"restrict" => net.restrict = switch("restrict")?,
                b"host-loopback" => net.host_loopback = switch("host-loopback")?,
                b"tftp" => net.tftp = Some(value.into()),
                b"bootfile" => net.bootfile = Some(text),
                b"rom" => net.rom = Some(value.into()),
                _ => bail!(
                    "--net {option}: expected {KNOWN} behind `user`, found `{}`; a comma that belongs to a name is \
                     written twice",
                    field.display()
                ),
            }
        }
        // A boot program may fetch one by an address of its own.
        if let Some(name) = net.bootfile.as_ref().filter(|name| !name.contains("://"))
            && net.tftp.is_none()
        {
            bail!(
                "--net bootfile={name}: expected tftp=DIR as well, the folder that it is in, found none; or an address \
                 such as bootfile=http://10.0.2.2:8000/{name}"
            );
        }
        net.config()?;
        Ok(Some(net))
    }

    /// The card's address.
    ///
    /// # Errors
    /// It is no address of a card.
    pub fn mac(&self) -> Result<[u8; 6]> {
        let Some(text) = &self.mac else {
            return Ok(MAC);
        };
        let refuse = || {
            format!(
                "--net mac={text}: expected six bytes such as 52:54:00:12:34:56, the first one even and not all of \
                 them 0; for one of your own start with 52:54:00"
            )
        };
        let bytes = text.split([':', '-']).map(|byte| {
            u8::from_str_radix(byte, 16)
                .ok()
                .filter(|_| byte.len() == 2)
        });
        let bytes: Option<Vec<u8>> = bytes.collect();
        let mac: Option<[u8; 6]> = bytes.and_then(|bytes| bytes.try_into().ok());
        mac.filter(|mac| mac[0] & 1 == 0 && *mac != [0; 6])
            .with_context(refuse)
    }

    /// The network behind the card, without the host's resolvers.
    ///
    /// # Errors
    /// A value that cannot be read.
    pub fn config(&self) -> Result<net::Config> {
        let forwards = self.hostfwd.iter().map(|text| {
            text.parse()
                .map_err(|why| anyhow::anyhow!("--net hostfwd={text}: {why}"))
        });
        Ok(net::Config {
            mac: self.mac()?,
            host_loopback: self.host_loopback,
            restrict: self.restrict,
            tftp: self.tftp.clone(),
            bootfile: self.bootfile.clone(),
            forwards: forwards.collect::<Result<_>>()?,
            resolvers: Vec::new(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Option<NetSpec>> {
        NetSpec::parse(text.as_ref())
    }

    #[test]
    fn options_follow_the_kind() {
        assert_eq!(parse("none").unwrap(), None);
        assert_eq!(parse("user").unwrap(), Some(NetSpec::default()));
        let net = parse(
            "user,model=e1000,mac=52:54:00:00:00:07,hostfwd=tcp:2222-22,hostfwd=udp:0.0.0.0:53-10.0.2.20:5353,\
             restrict,host-loopback=off,tftp=/a,,b,bootfile=pxelinux.0",
        );
        let net = net.unwrap().unwrap();
        assert_eq!(net.mac().unwrap(), [0x52, 0x54, 0, 0, 0, 7]);
        assert!(net.restrict && !net.host_loopback);
        assert_eq!(net.tftp, Some("/a,b".into()));
        let forwards = net.config().unwrap().forwards;
        let forwards: Vec<_> = forwards.iter().map(ToString::to_string).collect();
        assert_eq!(
            forwards,
            [
                "tcp:127.0.0.1:2222-10.0.2.15:22",
                "udp:0.0.0.0:53-10.0.2.20:5353"
            ]
        );
        assert!(parse("user,bootfile=http://10.0.2.2/boot.ipxe").is_ok());
        let spec = crate::MachineSpec {
            net: Some(net),
            ..Default::default()
        };
        let text = spec.to_toml().unwrap();
        assert_eq!(crate::MachineSpec::from_toml(&text).unwrap(), spec);
    }

    #[test]
    fn what_no_network_has_is_refused_with_what_it_has() {
        for (text, word) in [
            ("tap", "none or user"),
            ("none,restrict", "none or user"),
            ("user,model=tulip", "e1000"),
            ("user,mac=52:54", "six bytes"),
            ("user,mac=53:54:00:00:00:07", "first one even"),
            ("user,hostfwd=2222-22", "tcp:2222-22"),
            ("user,hostfwd=tcp:2222", "tcp:2222-22"),
            ("user,hostfwd=tcp:99999-22", "tcp:2222-22"),
            ("user,restrict=maybe", "restrict=on"),
            ("user,speed=1", "hostfwd"),
            ("user,model=e1000,model=virtio", "model once"),
            ("user,bootfile=pxelinux.0", "tftp=DIR"),
        ] {
            let said = parse(text).unwrap_err().to_string();
            assert!(said.contains(word), "{text}: {said}");
        }
    }
}
