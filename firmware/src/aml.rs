//! A small builder of AML, the byte code of ACPI's DSDT: names, packages, devices, resource templates, fields, and what
//! the methods of an interrupt link need.
//!
//! ACPI specification 6.4, chapters 20 (AML grammar) and 6.4 (resource data types).

/// `Name (path, object)`. `path` is up to four characters, perhaps after a `\`.
pub fn name(path: &str, object: &[u8]) -> Vec<u8> {
    [&[0x08][..], &name_string(path), object].concat()
}

/// `Scope (path) { body }`.
pub fn scope(path: &str, body: &[u8]) -> Vec<u8> {
    with_length(&[0x10], &[&name_string(path), body].concat())
}

/// `Device (path) { body }`.
pub fn device(path: &str, body: &[u8]) -> Vec<u8> {
    with_length(&[0x5B, 0x82], &[&name_string(path), body].concat())
}

/// The first local variable of a method.
pub const LOCAL0: u8 = 0x60;
/// The first argument of a method.
pub const ARG0: u8 = 0x68;

/// A reference to the object called `path`: segments with dots between them, perhaps after a `\`.
pub fn path(path: &str) -> Vec<u8> {
    name_string(path)
}

/// `OperationRegion (path, PCI_Config, offset, length)`.
pub fn pci_config_region(path: &str, offset: u8, length: u8) -> Vec<u8> {
    let head = [&[0x5B, 0x80][..], &name_string(path), &[0x02]].concat();
    [head, integer(offset.into()), integer(length.into())].concat()
}

/// `Field (region, ByteAcc, NoLock, Preserve) { names }`, each of a byte.
pub fn byte_fields(region: &str, names: &[&str]) -> Vec<u8> {
    let mut body = [&name_string(region)[..], &[0x01]].concat();
    for name in names {
        body.extend(name_string(name));
        body.push(8);
    }
    with_length(&[0x5B, 0x81], &body)
}

/// `Method (path, arguments, Serialized) { body }`.
pub fn method(path: &str, arguments: u8, body: &[Vec<u8>]) -> Vec<u8> {
    let flags = [arguments & 7 | 1 << 3];
    let body = [&name_string(path), &flags[..], &body.concat()].concat();
    with_length(&[0x14], &body)
}

/// `If (condition) { body }`.
pub fn when(condition: &[u8], body: &[u8]) -> Vec<u8> {
    with_length(&[0xA0], &[condition, body].concat())
}

/// `a & b`.
pub fn and(a: &[u8], b: &[u8]) -> Vec<u8> {
    [&[0x7B][..], a, b, &[0x00]].concat()
}

/// `Or (a, b, target)`.
pub fn or_into(a: &[u8], b: &[u8], target: &[u8]) -> Vec<u8> {
    [&[0x7D][..], a, b, target].concat()
}

/// `a < b`.
pub fn less(a: &[u8], b: &[u8]) -> Vec<u8> {
    [&[0x95][..], a, b].concat()
}

/// `Store (value, target)`.
pub fn store(value: &[u8], target: &[u8]) -> Vec<u8> {
    [&[0x70][..], value, target].concat()
}

/// `CreateDWordField (buffer, offset, name)`.
pub fn dword_field(buffer: u8, offset: u8, name: &str) -> Vec<u8> {
    let offset = integer(offset.into());
    [&[0x8A, buffer][..], &offset, &name_string(name)].concat()
}

/// `Return (value)`.
pub fn give(value: &[u8]) -> Vec<u8> {
    [&[0xA4][..], value].concat()
}

/// `Package () { elements }`.
///
/// # Panics
/// If there are more than 255 elements.
pub fn package(elements: &[Vec<u8>]) -> Vec<u8> {
    let count = u8::try_from(elements.len()).expect("a package holds at most 255 elements");
    with_length(&[0x12], &[&[count][..], &elements.concat()].concat())
}

/// An integer in its shortest form.
pub fn integer(value: u64) -> Vec<u8> {
    match value {
        0 => vec![0x00],
        1 => vec![0x01],
        2..=0xFF => vec![0x0A, value as u8],
        0x100..=0xFFFF => [&[0x0B][..], &(value as u16).to_le_bytes()].concat(),
        0x1_0000..=0xFFFF_FFFF => [&[0x0C][..], &(value as u32).to_le_bytes()].concat(),
        _ => [&[0x0E][..], &value.to_le_bytes()].concat(),
    }
}

/// `EisaId ("PNP0A03")`: three letters in 5 bits each, four hexadecimal digits, big-endian.
///
/// # Panics
/// If `id` is not three capital letters and four hexadecimal digits.
pub fn eisa_id(id: &str) -> Vec<u8> {
    assert!(
        id.len() == 7 && id.is_ascii(),
        "an EISA identifier has seven characters: {id}"
    );
    let letters = id
        .bytes()
        .take(3)
        .fold(0u32, |sum, letter| sum << 5 | u32::from(letter - b'@'));
    let digits = u32::from_str_radix(&id[3..], 16)
        .expect("an EISA identifier ends in four hexadecimal digits");
    [&[0x0C][..], &(letters << 16 | digits).to_be_bytes()].concat()
}

/// One descriptor of a resource template.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resource {
    /// `IO (Decode16, first, first, 1, length)`.
    Io(u16, u8),
    /// `IRQNoFlags () { line }`: edge, active high.
    Irq(u8),
    /// `Interrupt (ResourceConsumer, Level, ActiveHigh, Shared) { lines }`, of which a 0 in `lines` is no line.
    Interrupts([u8; 3]),
    /// `Memory32Fixed (ReadOnly, first, length)`.
    Memory(u32, u32),
    /// `DMA (Compatibility, NotBusMaster, Transfer8) { channel }`.
    Dma(u8),
    /// `WordBusNumber`, first and last.
    Buses(u8, u8),
    /// `WordIO` window, first and last port.
    IoWindow(u16, u16),
    /// `DWordMemory` window, cacheable or not, first and last byte.
    MemoryWindow(bool, u32, u32),
}

/// `ResourceTemplate () { resources }`, as a buffer.
pub fn resource_template(resources: &[Resource]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for resource in resources {
        match *resource {
            Resource::Io(first, length) => {
                let [low, high] = first.to_le_bytes();
                bytes.extend([0x47, 0x01, low, high, low, high, 1, length]);
            }
            Resource::Irq(line) => {
                let [low, high] = (1u16 << line).to_le_bytes();
                bytes.extend([0x22, low, high]);
            }
            Resource::Interrupts(lines) => {
                let lines: Vec<u8> = lines.into_iter().filter(|&line| line != 0).collect();
                // One that is not known yet takes the place of one that is.
                let count = lines.len().max(1);
                bytes.extend([0x89, (2 + 4 * count) as u8, 0, 0x09, count as u8]);
                for n in 0..count {
                    let line = lines.get(n).copied().unwrap_or(0);
                    bytes.extend(u32::from(line).to_le_bytes());
                }
            }
            Resource::Memory(first, length) => {
                bytes.extend([0x86, 9, 0, 0x00]);
                bytes.extend(first.to_le_bytes());
                bytes.extend(length.to_le_bytes());
            }
            Resource::Dma(channel) => bytes.extend([0x2A, 1 << channel, 0x00]),
            Resource::Buses(first, last) => {
                word_window(&mut bytes, 2, 0x00, first.into(), last.into())
            }
            Resource::IoWindow(first, last) => word_window(&mut bytes, 1, 0x03, first, last),
            Resource::MemoryWindow(cacheable, first, last) => {
                bytes.extend([0x87, 23, 0, 0, 0x0C, if cacheable { 0x03 } else { 0x01 }]);
                for value in [0, first, last, 0, last - first + 1] {
                    bytes.extend(value.to_le_bytes());
                }
            }
        }
    }
    bytes.extend([0x79, 0x00]);
    let size = integer(bytes.len() as u64);
    with_length(&[0x11], &[size, bytes].concat())
}

/// A word address space descriptor: minimum and maximum fixed, positive decode, producer.
fn word_window(bytes: &mut Vec<u8>, kind: u8, flags: u8, first: u16, last: u16) {
    bytes.extend([0x88, 13, 0, kind, 0x0C, flags]);
    for value in [0, first, last, 0, (last - first).wrapping_add(1)] {
        bytes.extend(value.to_le_bytes());
    }
}

/// A name: segments padded with `_`, and its root prefix.
fn name_string(path: &str) -> Vec<u8> {
    let (root, rest) = match path.strip_prefix('\\') {
        Some(rest) => (&b"\\"[..], rest),
        None => (&b""[..], path),
    };
    let segments: Vec<&str> = rest.split('.').collect();
    let mut bytes = root.to_vec();
    match segments.len() {
        1 => {}
        2 => bytes.push(0x2E),
        count => bytes.extend([0x2F, count as u8]),
    }
    for segment in segments {
        assert!(
            (1..=4).contains(&segment.len()),
            "a name segment has one to four characters: {path}"
        );
        let end = bytes.len() + 4;
        bytes.extend(segment.bytes());
        bytes.resize(end, b'_');
    }
    bytes
}

/// An opcode, the package length that covers itself and `body`, and `body`.
fn with_length(opcode: &[u8], body: &[u8]) -> Vec<u8> {
    let mut bytes = opcode.to_vec();
    let length = body.len();
    if length + 1 < 0x40 {
        bytes.push(length as u8 + 1);
    } else if length + 2 < 0x1000 {
        let length = length + 2;
        bytes.extend([0x40 | (length & 0xF) as u8, (length >> 4) as u8]);
    } else {
        let length = length + 3;
        assert!(
            length < 0x10_0000,
            "a package of this size needs the four-byte length"
        );
        bytes.extend([
            0x80 | (length & 0xF) as u8,
            (length >> 4) as u8,
            (length >> 12) as u8,
        ]);
    }
    bytes.extend(body);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn eisa_id_matches_the_specification() {
        // ACPI 6.4 §19.3.4: EisaId ("PNP0C09") is 090CD041h.
        assert_eq!(eisa_id("PNP0C09"), [0x0C, 0x41, 0xD0, 0x0C, 0x09]);
    }

    #[test]
    fn a_package_of_zeros_is_as_iasl_makes_it() {
        let s5 = name("\\_S5", &package(&vec![integer(0); 4]));
        assert_eq!(
            s5,
            [
                0x08, b'\\', b'_', b'S', b'5', b'_', 0x12, 0x06, 0x04, 0, 0, 0, 0
            ]
        );
    }

    #[test]
    fn lengths_grow_by_a_byte_at_63_and_4095() {
        assert_eq!(with_length(&[], &[0; 62]).len(), 63);
        assert_eq!(with_length(&[], &[0; 63])[..2], [0x41, 0x04]);
        assert_eq!(with_length(&[], &[0; 4094])[..3], [0x81, 0x00, 0x01]);
    }
}
