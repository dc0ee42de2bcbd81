//! The header (QEMU, docs/interop/qcow2.txt, "Header").

use std::fs::File;
use std::io;

use crate::Format;
use crate::bytes::{be32, be64, damaged, read_at};

/// "QFI\xFB".
const MAGIC: u32 = 0x5146_49FB;
/// Bytes of a version 2 header, and of the version 3 header that this module writes.
const SHORT: usize = 72;
pub(super) const LONG: usize = 104;
/// The most bytes in a backing file's name.
pub(super) const MOST_NAME: usize = 1023;
/// The most bytes in an L1 table, as QEMU has it.
const MOST_L1: u64 = 32 << 20;
/// The most bytes in a refcount table, as QEMU has it.
const MOST_REFCOUNT_TABLE: u64 = 8 << 20;
/// The most internal snapshots.
const MOST_SNAPSHOTS: u32 = 65_536;

/// Incompatible features: the image was not closed well, it is damaged, it compresses otherwise than by deflate.
const DIRTY: u64 = 1;
const CORRUPT: u64 = 1 << 1;
const EXTERNAL_DATA: u64 = 1 << 2;
const COMPRESSION: u64 = 1 << 3;
const EXTENDED_L2: u64 = 1 << 4;

/// Header extensions.
const EXTENSION_END: u32 = 0;
const EXTENSION_BACKING_FORMAT: u32 = 0xE279_2ACA;

/// What the image lies over.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Backing {
    /// Its file, as the image has it: relative to the image's folder, or whole.
    pub path: String,
    /// What it is.
    pub format: Format,
}

/// A header that was checked.
#[derive(Clone, Debug)]
pub(super) struct Header {
    pub version: u32,
    pub backing: Option<Backing>,
    pub cluster_bits: u32,
    /// Bytes on the disk.
    pub size: u64,
    pub l1_entries: u32,
    pub l1_offset: u64,
    pub refcount_offset: u64,
    pub refcount_clusters: u32,
    pub refcount_order: u32,
    pub snapshots: u32,
    pub snapshots_offset: u64,
    pub dirty: bool,
    pub corrupt: bool,
}

impl Header {
    /// Reads and checks the header of a file of `len` bytes.
    pub fn read(file: &File, len: u64) -> io::Result<Self> {
        let mut bytes = [0; LONG];
        read_at(file, 0, &mut bytes)?;
        if be32(&bytes, 0) != MAGIC {
            return Err(damaged("it is no qcow2 image"));
        }
        let version = be32(&bytes, 4);
        if !(2..=3).contains(&version) {
            return Err(damaged(format!("version {version} of qcow2 is not known")));
        }
        let (features, refcount_order, header_len) = match version {
            2 => (0, 4, SHORT as u32),
            _ => (be64(&bytes, 72), be32(&bytes, 96), be32(&bytes, 100)),
        };
        for (bit, what) in [
            (EXTERNAL_DATA, "its data is in another file"),
            (COMPRESSION, "it is compressed by zstd"),
            (EXTENDED_L2, "it has subclusters (extended L2 entries)"),
        ] {
            if features & bit != 0 {
                return Err(damaged(format!("{what}, which is not supported")));
            }
        }
        let known = DIRTY | CORRUPT;
        if features & !known != 0 {
            return Err(damaged(format!(
                "it needs features that are not known ({:#x})",
                features & !known
            )));
        }
        let cluster_bits = be32(&bytes, 20);
        if !(9..=21).contains(&cluster_bits) {
            return Err(damaged(format!("clusters of 2^{cluster_bits} bytes")));
        }
        if be32(&bytes, 32) != 0 {
            return Err(damaged("it is encrypted, which is not supported"));
        }
        if refcount_order > 6 {
            return Err(damaged(format!(
                "reference counts of 2^{refcount_order} bits"
            )));
        }
        let cluster = 1u64 << cluster_bits;
        if u64::from(header_len) < SHORT as u64
            || u64::from(header_len) > cluster
            || header_len % 8 != 0
        {
            return Err(damaged(format!("a header of {header_len} bytes")));
        }
        let header = Self {
            version,
            backing: None,
            cluster_bits,
            size: be64(&bytes, 24),
            l1_entries: be32(&bytes, 36),
            l1_offset: be64(&bytes, 40),
            refcount_offset: be64(&bytes, 48),
            refcount_clusters: be32(&bytes, 56),
            refcount_order,
            snapshots: be32(&bytes, 60),
            snapshots_offset: be64(&bytes, 64),
            dirty: features & DIRTY != 0,
            corrupt: features & CORRUPT != 0,
        };
        header.check(len)?;
        let mut format = None;
        if version == 3 || u64::from(header_len) > SHORT as u64 {
            format = read_extensions(file, u64::from(header_len), cluster)?;
        } else if be64(&bytes, 8) > SHORT as u64 {
            format = read_extensions(file, SHORT as u64, be64(&bytes, 8).min(cluster))?;
        }
        let (name_at, name_len) = (be64(&bytes, 8), be32(&bytes, 16) as usize);
        let backing = match name_at {
            0 => None,
            _ => {
                let inside = name_at
                    .checked_add(name_len as u64)
                    .is_some_and(|end| end <= cluster);
                if name_len == 0 || name_len > MOST_NAME || !inside {
                    return Err(damaged(
                        "the name of its backing file is not in its first cluster",
                    ));
                }
                let mut name = vec![0; name_len];
                read_at(file, name_at, &mut name)?;
                let path = String::from_utf8(name)
                    .map_err(|_| damaged("the name of its backing file is no Unicode"))?;
                let path = path
                    .strip_prefix("file:")
                    .map(str::to_owned)
                    .unwrap_or(path);
                let format = match format.as_deref() {
                    None | Some("raw") => Format::Raw,
                    Some("qcow2") => Format::Qcow2,
                    Some(other) => {
                        return Err(damaged(format!(
                            "its backing file is called {other}, which is not supported"
                        )));
                    }
                };
                Some(Backing { path, format })
            }
        };
        Ok(Self { backing, ..header })
    }

    /// What would lead anywhere else than into the file.
    fn check(&self, len: u64) -> io::Result<()> {
        let cluster = 1u64 << self.cluster_bits;
        let aligned = |offset: u64, what: &str| match offset % cluster {
            0 => Ok(()),
            _ => Err(damaged(format!("its {what} does not begin at a cluster"))),
        };
        aligned(self.l1_offset, "L1 table")?;
        aligned(self.refcount_offset, "refcount table")?;
        let l1_bytes = u64::from(self.l1_entries) * 8;
        let needed = self.size.div_ceil(cluster << (self.cluster_bits - 3));
        if l1_bytes > MOST_L1 || u64::from(self.l1_entries) < needed {
            return Err(damaged(format!(
                "an L1 table of {} entries for {} bytes",
                self.l1_entries, self.size
            )));
        }
        let table_bytes = u64::from(self.refcount_clusters) << self.cluster_bits;
        if table_bytes == 0 || table_bytes > MOST_REFCOUNT_TABLE.max(cluster) {
            return Err(damaged(format!("a refcount table of {table_bytes} bytes")));
        }
        for (offset, bytes, what) in [
            (self.l1_offset, l1_bytes, "L1 table"),
            (self.refcount_offset, table_bytes, "refcount table"),
        ] {
            let inside = offset >= cluster
                && offset
                    .checked_add(bytes)
                    .is_some_and(|end| end <= len.next_multiple_of(cluster));
            if !inside && bytes > 0 {
                return Err(damaged(format!("its {what} lies behind the file's end")));
            }
        }
        if self.snapshots > MOST_SNAPSHOTS || self.size > 1 << 56 {
            return Err(damaged("more than such an image can have"));
        }
        Ok(())
    }
}

/// The backing file's format, of the header extensions between two offsets.
fn read_extensions(file: &File, from: u64, to: u64) -> io::Result<Option<String>> {
    let mut at = from;
    let mut format = None;
    while at + 8 <= to {
        let mut head = [0; 8];
        read_at(file, at, &mut head)?;
        let (kind, len) = (be32(&head, 0), u64::from(be32(&head, 4)));
        if kind == EXTENSION_END {
            break;
        }
        if len > to - at - 8 {
            return Err(damaged("a header extension that does not end"));
        }
        if kind == EXTENSION_BACKING_FORMAT && len <= 64 {
            let mut name = vec![0; len as usize];
            read_at(file, at + 8, &mut name)?;
            format = String::from_utf8(name).ok();
        }
        at += 8 + len.next_multiple_of(8);
    }
    Ok(format)
}

/// The first cluster of a version 3 image.
pub(super) fn first_cluster(header: &Header) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; 1 << header.cluster_bits];
    let mut put = |at: usize, part: &[u8]| bytes[at..at + part.len()].copy_from_slice(part);
    put(0, &MAGIC.to_be_bytes());
    put(4, &3u32.to_be_bytes());
    put(20, &header.cluster_bits.to_be_bytes());
    put(24, &header.size.to_be_bytes());
    put(36, &header.l1_entries.to_be_bytes());
    put(40, &header.l1_offset.to_be_bytes());
    put(48, &header.refcount_offset.to_be_bytes());
    put(56, &header.refcount_clusters.to_be_bytes());
    put(96, &header.refcount_order.to_be_bytes());
    put(100, &(LONG as u32).to_be_bytes());
    let mut tail = Vec::new();
    if let Some(backing) = &header.backing {
        let name = if backing.format == Format::Qcow2 {
            "qcow2"
        } else {
            "raw"
        };
        tail.extend(EXTENSION_BACKING_FORMAT.to_be_bytes());
        tail.extend((name.len() as u32).to_be_bytes());
        tail.extend(name.as_bytes());
        tail.resize(tail.len().next_multiple_of(8), 0);
    }
    tail.extend([0; 8]);
    if let Some(backing) = &header.backing {
        let name = backing.path.as_bytes();
        if name.is_empty() || name.len() > MOST_NAME || LONG + tail.len() + name.len() > bytes.len()
        {
            return Err(damaged(format!(
                "a backing file's name of {} bytes",
                name.len()
            )));
        }
        bytes[8..16].copy_from_slice(&((LONG + tail.len()) as u64).to_be_bytes());
        bytes[16..20].copy_from_slice(&(name.len() as u32).to_be_bytes());
        tail.extend(name);
    }
    bytes[LONG..LONG + tail.len()].copy_from_slice(&tail);
    Ok(bytes)
}

/// An internal snapshot of the image.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct InternalSnapshot {
    /// Its number, as text.
    pub id: String,
    /// Its name.
    pub name: String,
    /// When it was made, in Unix seconds.
    pub created: u32,
}

/// The internal snapshots ("Snapshots").
pub(super) fn snapshots(
    file: &File,
    header: &Header,
    len: u64,
) -> io::Result<Vec<InternalSnapshot>> {
    let mut found = Vec::new();
    let mut at = header.snapshots_offset;
    for _ in 0..header.snapshots {
        if at.checked_add(40).is_none_or(|end| end > len) {
            return Err(damaged("its list of snapshots lies behind the file's end"));
        }
        let mut entry = [0; 40];
        read_at(file, at, &mut entry)?;
        let [id, name] =
            [12, 14].map(|at| usize::from(u16::from_be_bytes([entry[at], entry[at + 1]])));
        let extra = u64::from(be32(&entry, 36));
        let text = |skip: u64, bytes: usize| -> io::Result<String> {
            let mut text = vec![0; bytes];
            read_at(file, at.saturating_add(40 + extra + skip), &mut text)?;
            Ok(String::from_utf8_lossy(&text).into_owned())
        };
        found.push(InternalSnapshot {
            id: text(0, id)?,
            name: text(id as u64, name)?,
            created: be32(&entry, 16),
        });
        at += (40 + extra + (id + name) as u64).next_multiple_of(8);
    }
    Ok(found)
}
