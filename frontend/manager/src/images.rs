//! Images that machines start from: kept once, by content, and never written to again.

use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use crate::error::{OfFile, Result};
use crate::home::Home;
use crate::layers;

/// How much is copied at a time, in bytes.
const PIECE: usize = 1 << 20;

impl Home {
    /// Keeps a copy of the disk image at `path`, whatever becomes of that, and returns where it is. One that is there
    /// already is not copied again.
    ///
    /// # Errors
    /// It is no disk image, lies over another, or the host refuses.
    pub fn store_image(&self, path: &Path) -> Result<PathBuf> {
        self.prepare()?;
        let whole = crate::config::whole(path);
        let format = layers::standalone(&whole)?;
        let folder = self.images_folder();
        let mut file = tempfile::Builder::new()
            .prefix(".new-")
            .tempfile_in(&folder)
            .of(&folder, "cannot be written")?;
        let mut from = File::open(&whole).of(path, "cannot be read")?;
        let mut hash = Sha256::new();
        let mut piece = vec![0; PIECE];
        let mut len = 0;
        loop {
            let read = from.read(&mut piece).of(path, "cannot be read")?;
            if read == 0 {
                break;
            }
            hash.update(&piece[..read]);
            len += read as u64;
            let is_hole = piece[..read].iter().all(|&byte| byte == 0);
            let written = match is_hole {
                true => file.seek(SeekFrom::Start(len)).map(drop),
                false => file.write_all(&piece[..read]),
            };
            written.of(&folder, "cannot be written")?;
        }
        file.as_file()
            .set_len(len)
            .of(&folder, "cannot be written")?;
        let digest: String = hash
            .finalize()
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        let target = folder.join(format!("{}.{}", &digest[..32], layers::extension(format)));
        if target.exists() {
            return Ok(target);
        }
        file.as_file().sync_all().of(&target, "cannot be written")?;
        let mut permissions = file
            .as_file()
            .metadata()
            .of(&target, "cannot be written")?
            .permissions();
        permissions.set_readonly(true);
        fs::set_permissions(file.path(), permissions).of(&target, "cannot be written")?;
        file.persist(&target)
            .map_err(|error| error.error)
            .of(&target, "cannot be written")?;
        host::files::sync_folder(&folder);
        Ok(target)
    }
}
