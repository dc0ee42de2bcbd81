//! What to do with a file that cannot be used as it is: a command, ready to be pasted.

use std::path::{Path, PathBuf};

use crate::{Format, Kind};

/// The advice on a file at `path` in `format`. A raw disk's guest may have written that, if it is a disk.
pub fn on(format: Format, path: &Path, is_disk: bool) -> String {
    let file = quoted(path);
    let mut advice = match format {
        Format::Iso9660 if is_disk => {
            format!(
                "add ,readonly so that no guest changes it: --disk {},readonly",
                file.replace(',', ",,")
            )
        }
        Format::Raw | Format::Iso9660 => "name it with the option for it".to_owned(),
        Format::Luks => format!("attach it with --disk {file}, beside something that boots"),
        Format::Ova => format!(
            "unpack it with: tar -xf {file}, and then convert its disk with: qemu-img convert -O raw \
             DISK.vmdk DISK.img"
        ),
        Format::RawCd => format!(
            "convert it first, with its CUE file, with: bchunk {file} {} track",
            quoted(&path.with_extension("cue"))
        ),
        Format::Cloop => format!(
            "unpack it first with: extract_compressed_fs {file} {}",
            quoted(&converted(path))
        ),
        _ => match unpacker(format) {
            Some((tool, endings)) if format.kind() == Kind::Compressed => {
                unpack(tool, endings, path)
            }
            Some((command, _)) => format!("unpack it first with: {command} {file}"),
            None => format!(
                "convert it first with: qemu-img convert {}-O raw {file} {}",
                source_option(format),
                quoted(&converted(path))
            ),
        },
    };
    // A guest that writes an archive or another signature to its bare disk must not lose it.
    if is_disk && format != Format::Luks {
        advice += &format!(
            "; only if it is a raw disk for all that: --disk {},format=raw",
            { file.replace(',', ",,") }
        );
    }
    advice
}

/// The command that unpacks a format, and which endings of names it knows.
fn unpacker(format: Format) -> Option<(&'static str, &'static [&'static str])> {
    Some(match format {
        Format::Gzip => ("gzip", &["gz"]),
        Format::Xz => ("xz", &["xz"]),
        Format::Zstd => ("zstd", &["zst"]),
        Format::Bzip2 => ("bzip2", &["bz2"]),
        Format::Lz4 => ("lz4", &["lz4"]),
        Format::Lzip => ("lzip", &["lz"]),
        Format::Zip => ("unzip", &[]),
        Format::SevenZip => ("7z x", &[]),
        Format::Rar => ("unrar x", &[]),
        Format::Tar => ("tar -xf", &[]),
        _ => return None,
    })
}

/// With `-k` the original stays; the tools insist on their own endings there.
fn unpack(tool: &str, endings: &[&str], path: &Path) -> String {
    let file = quoted(path);
    let ending = path.extension().and_then(|ending| ending.to_str());
    if ending.is_some_and(|ending| endings.contains(&ending)) {
        format!("unpack it first with: {tool} -dk {file}")
    } else {
        format!(
            "unpack it first with: {tool} -dc < {file} > {}",
            quoted(&converted(path))
        )
    }
}

/// `-f NAME` where QEMU needs it: it does not look for footers, so as not to be fooled by a guest.
fn source_option(format: Format) -> &'static str {
    match format {
        Format::Vhd => "-f vpc ",
        Format::Dmg => "-f dmg ",
        _ => "",
    }
}

/// A name beside `path` that is another one.
fn converted(path: &Path) -> PathBuf {
    let image = path.with_extension("img");
    if image == path {
        path.with_extension("raw")
    } else {
        image
    }
}

/// `path` as a shell takes it.
fn quoted(path: &Path) -> String {
    let text = path.display().to_string();
    let is_plain =
        |c: char| c.is_alphanumeric() || matches!(c, '_' | '.' | '/' | '+' | '-' | '=' | ',' | ':');
    if text.starts_with('-') {
        quoted(&Path::new(".").join(path))
    } else if text.chars().all(is_plain) {
        text
    } else {
        format!("'{}'", text.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_can_be_pasted() {
        let advice = |format, path: &str| on(format, Path::new(path), false);
        for (format, path, command) in [
            (
                Format::Qcow2,
                "a/x.qcow2",
                "qemu-img convert -O raw a/x.qcow2 a/x.img",
            ),
            (
                Format::Qcow2,
                "x.img",
                "qemu-img convert -O raw x.img x.raw",
            ),
            (
                Format::Vhd,
                "x.vhd",
                "qemu-img convert -f vpc -O raw x.vhd x.img",
            ),
            (Format::Xz, "x.img.xz", "xz -dk x.img.xz"),
            (Format::Gzip, "x.img", "gzip -dc < x.img > x.raw"),
            (Format::Zip, "my disk.zip", "unzip 'my disk.zip'"),
            (Format::Tar, "-x.tar", "tar -xf ./-x.tar"),
            (Format::SevenZip, "it's.7z", r"7z x 'it'\''s.7z'"),
        ] {
            let advice = advice(format, path);
            assert!(advice.ends_with(command), "{advice}");
        }
        let disk = on(Format::Gzip, Path::new("a,b.gz"), true);
        assert!(disk.ends_with("--disk a,,b.gz,format=raw"), "{disk}");
    }
}
