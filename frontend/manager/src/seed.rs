//! What a guest is told at its first start: a disc for cloud-init's NoCloud, or for whatever else reads one.
//!
//! What it says stands in the machine's folder, so that a copy of the machine gets a disc with a name of its own.

use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::config::{replace, replace_bytes};
use crate::error::{Code, Error, OfFile, Result};
use crate::home::Home;
use crate::machine::Machine;

/// The disc's file in the machine's folder.
pub const DISC: &str = "seed.iso";
/// What it is made of.
const SOURCE: &str = "seed.json";
/// The most bytes in a user's own data: beyond it, it is some other file.
const MOST_USER_DATA: u64 = 1 << 20;

/// What a guest is told.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seed {
    /// Who logs in, and may do everything by sudo.
    pub user: String,
    /// Keys that let them in, in OpenSSH's form.
    pub keys: Vec<String>,
    /// A password that lets them in at the console.
    pub password: Option<String>,
    /// What is told in place of all that: cloud-init's user-data.
    pub user_data: Option<String>,
}

impl Seed {
    /// The disc for a machine called `name`.
    pub fn disc(&self, name: &str) -> Vec<u8> {
        let meta = format!(
            "instance-id: {name}-{}\nlocal-hostname: {}\n",
            crate::random::hex::<8>(),
            host_name(name)
        );
        let user_data = match &self.user_data {
            Some(text) => text.clone(),
            None => self.user_data(),
        };
        crate::iso::write(
            "cidata",
            &[
                ("meta-data", meta.as_bytes()),
                ("user-data", user_data.as_bytes()),
            ],
        )
    }

    /// YAML, of which JSON is a part: so no name or key needs to be quoted by us.
    fn user_data(&self) -> String {
        let mut user = json!({
            "name": self.user,
            "gecos": self.user,
            "shell": "/bin/bash",
            "sudo": "ALL=(ALL) NOPASSWD:ALL",
            "groups": ["adm", "sudo"],
            "ssh_authorized_keys": self.keys,
            "lock_passwd": self.password.is_none(),
        });
        if let Some(password) = &self.password {
            user["plain_text_passwd"] = json!(password);
        }
        let config = json!({
            "users": [user],
            "ssh_pwauth": self.password.is_some(),
            "growpart": { "mode": "auto", "devices": ["/"] },
            "package_update": false,
        });
        format!("#cloud-config\n{config:#}\n")
    }

    /// The files of it in a machine's folder.
    pub fn files(&self, name: &str) -> Vec<(String, Vec<u8>)> {
        let source = serde_json::to_vec_pretty(self).unwrap_or_default();
        vec![(DISC.into(), self.disc(name)), (SOURCE.into(), source)]
    }
}

/// A name that a host may have: letters, digits and `-` (RFC 1123).
fn host_name(name: &str) -> String {
    let name = name.replace(|c: char| !c.is_ascii_alphanumeric(), "-");
    name.trim_matches('-').to_owned()
}

/// Gives the copy `new` of `machine`, in `folder`, a disc with its own name.
pub(crate) fn renew(machine: &Machine, folder: &tempfile::TempDir, new: &str) -> Result<()> {
    let Ok(text) = fs::read_to_string(machine.folder().join(SOURCE)) else {
        return Ok(());
    };
    let source = folder.path().join(SOURCE);
    let seed: Seed = serde_json::from_str(&text)
        .map_err(|error| Error::host(&source, "expected what a guest is told", error))?;
    replace(&source, &text)?;
    replace_bytes(&folder.path().join(DISC), &seed.disc(new))
}

/// The user's own data of the file at `path`.
///
/// # Errors
/// It cannot be read, or is something else.
pub fn read_user_data(path: &Path) -> Result<String> {
    let metadata = fs::metadata(path).of(path, "cannot be read")?;
    if !metadata.is_file() || metadata.len() > MOST_USER_DATA {
        return Err(Error::invalid(
            format!(
                "{}: expected cloud-init's user-data, a text of at most 1 MiB",
                path.display()
            ),
            "",
        ));
    }
    fs::read_to_string(path).of(path, "cannot be read")
}

/// The first line of the file at `path`: a key or a password.
///
/// # Errors
/// It cannot be read, or has none.
pub fn read_line(path: &Path, what: &str) -> Result<String> {
    let text = read_user_data(path)?;
    let line = text.lines().map(str::trim).find(|line| !line.is_empty());
    line.map(str::to_owned).ok_or_else(|| {
        Error::invalid(
            format!("{}: expected {what} in it, found nothing", path.display()),
            "",
        )
    })
}

impl Home {
    /// The key by which `glassbox ssh` logs in: made at the first use, by OpenSSH's own program. Its path, and the
    /// public half.
    ///
    /// # Errors
    /// There is no such program.
    pub fn ssh_key(&self) -> Result<(PathBuf, String)> {
        self.prepare()?;
        let path = self.root().join("ssh_key");
        let public = self.root().join("ssh_key.pub");
        if !public.exists() {
            let made = std::process::Command::new("ssh-keygen")
                .args(["-q", "-t", "ed25519", "-N", "", "-C", "glassbox", "-f"])
                .arg(&path)
                .stdin(std::process::Stdio::null())
                .output();
            let failed = match made {
                Ok(out) if out.status.success() => None,
                Ok(out) => Some(String::from_utf8_lossy(&out.stderr).trim().to_owned()),
                Err(error) => Some(error.to_string()),
            };
            if let Some(why) = failed {
                return Err(Error::new(
                    Code::Host,
                    format!("ssh-keygen: cannot make a key to log in with: {why}"),
                    "install OpenSSH's client, or name a key with --ssh-key, or a password with --password-file",
                ));
            }
        }
        let key = fs::read_to_string(&public).of(&public, "cannot be read")?;
        Ok((path, key.trim().to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_guest_is_told_cannot_break_out_of_its_quotes() {
        let seed = Seed {
            user: "me\"\nruncmd: [evil]".into(),
            keys: vec!["ssh-ed25519 AAAA \"x\"".into()],
            password: Some("a: b # c".into()),
            user_data: None,
        };
        let text = seed.user_data();
        assert!(!text.lines().any(|line| line.starts_with("runcmd")));
        let disc = seed.disc("web.1_");
        let text = String::from_utf8_lossy(&disc);
        assert!(text.contains("local-hostname: web-1\n"));
        assert_ne!(disc, seed.disc("web.1_"), "each disc is another instance");
    }
}
