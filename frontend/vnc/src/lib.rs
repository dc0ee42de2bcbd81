//! The remote framebuffer protocol (RFC 6143, version 3.8 and before) from the server's side: one client on one stream,
//! whatever that is.
//!
//! | file | what |
//! |---|---|
//! | `lib.rs` | the handshake, what a client says, when it gets a picture |
//! | `encode.rs` | parts of a picture as bytes |
//! | `pixels.rs` | the client's way to write a pixel |
//! | `keys.rs` | which key is meant |
//!
//! A client gets a picture when it asks for one, so a slow one makes nobody wait. Everything that it says is bounded.
#![forbid(unsafe_code)]

mod encode;
pub mod keys;
mod pixels;

use std::io::{self, Read, Write};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use des::Des;
use des::cipher::{BlockCipherEncrypt, KeyInit};
use platform::{Frame, Key};

use encode::{Encoder, Rect};
use pixels::PixelFormat;

/// How often a client that waits for a change is looked after.
const LOOK: Duration = Duration::from_millis(15);
/// The most encodings that a client may name.
const MOST_ENCODINGS: usize = 4096;
/// The most bytes of a client's clipboard; they are read and dropped.
const MOST_TEXT: u32 = 1 << 20;

/// Encodings (RFC 6143, 7.7; the registry of the RFB protocol).
mod encoding {
    pub const RAW: i32 = 0;
    pub const ZLIB: i32 = 6;
    pub const ZRLE: i32 = 16;
    pub const TIGHT_PNG: i32 = -260;
    pub const DESKTOP_SIZE: i32 = -223;
    pub const CURSOR: i32 = -239;
    pub const POINTER_MOTION: i32 = -257;
    pub const EXTENDED_KEYS: i32 = -258;
    pub const EXTENDED_SIZE: i32 = -308;
}

/// What a client sees and does.
pub trait Guest: Send + Sync {
    /// The machine's name.
    fn name(&self) -> String;
    /// The latest picture, unless it is the one with the number `seen`; notes its number there.
    fn frame_after(&self, seen: &mut u64) -> Option<Arc<Frame>>;
    /// Whether the run is over.
    fn has_ended(&self) -> bool;
    /// A key went down or up.
    fn key(&self, key: Key, pressed: bool);
    /// A character whose key only the keyboard's layout knows.
    fn character(&self, character: char, pressed: bool);
    /// Whether the guest has a pointer that is told places.
    fn has_pointer(&self) -> bool;
    /// The pointer is at that dot of a picture of `size`. `buttons`: bit 0 left, 1 right, 2 middle; `wheel`: notches
    /// down on the screen.
    fn point(&self, at: (u16, u16), size: (usize, usize), buttons: u8, wheel: i32);
    /// The mouse moved by so many dots to the right and down.
    fn motion(&self, by: (i32, i32), buttons: u8, wheel: i32);
    /// A client came, or left.
    fn watched(&self, is_there: bool);
}

/// What a client has asked for.
#[derive(Default)]
struct Wishes {
    format: PixelFormat,
    /// The format changed: what it saw before is void.
    anew: bool,
    encodings: Vec<i32>,
    /// A picture: the whole one, or what changed.
    wants: Option<Want>,
    /// It may not change the screen's size, and is to be told so.
    refuses_size: bool,
    over: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Want {
    Change,
    Whole,
}

#[derive(Default)]
struct Shared {
    wishes: Mutex<Wishes>,
    changed: Condvar,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Wishes> {
        self.wishes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Says that a client is there for as long as it is.
struct Watching(Arc<dyn Guest>);

impl Drop for Watching {
    fn drop(&mut self) {
        self.0.watched(false);
    }
}

/// Serves one client until it leaves or the run is over. `hang_up` ends the stream for both halves.
///
/// # Errors
/// The client says what no client may, does not know the password, or the stream breaks.
pub fn serve(
    mut reader: impl Read,
    mut writer: impl Write + Send + 'static,
    hang_up: impl Fn() + Send + 'static,
    guest: &Arc<dyn Guest>,
    password: Option<&str>,
    challenge: [u8; 16],
) -> io::Result<()> {
    shake_hands(&mut reader, &mut writer, password, challenge)?;
    let _shared_flag = byte(&mut reader)?;
    guest.watched(true);
    let _watching = Watching(Arc::clone(guest));
    let mut encoder = Encoder::default();
    let mut seen = 0;
    // A machine that was not watched has no picture yet.
    let mut first = guest.frame_after(&mut seen);
    for _ in 0..40 {
        if first.is_some() {
            break;
        }
        std::thread::sleep(LOOK);
        first = guest.frame_after(&mut seen);
    }
    let frame = first.unwrap_or_default();
    let (width, height) = size_of(&frame);
    let name = guest.name();
    let mut init = [width.to_be_bytes(), height.to_be_bytes()].concat();
    init.extend(PixelFormat::default().to_bytes());
    init.extend((name.len() as u32).to_be_bytes());
    init.extend(name.as_bytes());
    writer.write_all(&init)?;
    writer.flush()?;
    let shared = Arc::new(Shared::default());
    let out = std::thread::Builder::new().name("vnc out".into()).spawn({
        let (shared, guest) = (Arc::clone(&shared), Arc::clone(guest));
        move || {
            let _ = send_pictures(&mut writer, &shared, &*guest, &mut encoder, frame, seen);
            hang_up();
        }
    })?;
    let listened = listen(&mut reader, &shared, &**guest);
    shared.lock().over = true;
    shared.changed.notify_all();
    let _ = out.join();
    listened
}

fn bad(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

fn byte(reader: &mut impl Read) -> io::Result<u8> {
    let mut byte = [0];
    reader.read_exact(&mut byte)?;
    Ok(byte[0])
}

fn bytes<const N: usize>(reader: &mut impl Read) -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    reader.read_exact(&mut bytes)?;
    Ok(bytes)
}

fn be16(bytes: &[u8]) -> u16 {
    u16::from_be_bytes([bytes[0], bytes[1]])
}

fn be32(bytes: &[u8]) -> u32 {
    u32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]])
}

fn size_of(frame: &Frame) -> (u16, u16) {
    let side = |dots: usize| u16::try_from(dots).unwrap_or(u16::MAX);
    // A machine that has shown nothing yet.
    match frame.pixels.is_empty() {
        true => (640, 400),
        false => (side(frame.width), side(frame.height)),
    }
}

/// Versions and security (7.1).
fn shake_hands(
    reader: &mut impl Read,
    writer: &mut impl Write,
    password: Option<&str>,
    challenge: [u8; 16],
) -> io::Result<()> {
    writer.write_all(b"RFB 003.008\n")?;
    writer.flush()?;
    let version = bytes::<12>(reader)?;
    let minor = match &version {
        b"RFB 003.003\n" => 3,
        b"RFB 003.007\n" => 7,
        _ if version.starts_with(b"RFB 003.") || version.starts_with(b"RFB 004.") => 8,
        _ => return Err(bad("no version of RFB")),
    };
    let kind = if password.is_some() { 2 } else { 1 };
    if minor == 3 {
        writer.write_all(&u32::from(kind).to_be_bytes())?;
    } else {
        writer.write_all(&[1, kind])?;
        writer.flush()?;
        if byte(reader)? != kind {
            return Err(bad("a kind of security that was not offered"));
        }
    }
    if let Some(password) = password {
        writer.write_all(&challenge)?;
        writer.flush()?;
        let response = bytes::<16>(reader)?;
        if response != answer(password, challenge) {
            writer.write_all(&1u32.to_be_bytes())?;
            if minor >= 8 {
                let why = b"the password is wrong";
                writer.write_all(&(why.len() as u32).to_be_bytes())?;
                writer.write_all(why)?;
            }
            writer.flush()?;
            return Err(io::Error::new(
                io::ErrorKind::PermissionDenied,
                "a wrong password",
            ));
        }
    }
    if password.is_some() || minor >= 8 {
        writer.write_all(&0u32.to_be_bytes())?;
    }
    writer.flush()
}

/// What who knows the password makes of a challenge (7.2.2): each byte of the key is written backwards.
fn answer(password: &str, challenge: [u8; 16]) -> [u8; 16] {
    let mut key = [0; 8];
    for (key, letter) in key.iter_mut().zip(password.bytes()) {
        *key = letter.reverse_bits();
    }
    let cipher = Des::new(&key.into());
    let mut answer = challenge;
    for half in answer.as_chunks_mut::<8>().0 {
        let mut block = (*half).into();
        cipher.encrypt_block(&mut block);
        half.copy_from_slice(&block);
    }
    answer
}

/// What a client says (7.5).
fn listen(reader: &mut impl Read, shared: &Shared, guest: &dyn Guest) -> io::Result<()> {
    let mut pointer = Pointer::default();
    let mut held: Vec<Key> = Vec::new();
    let heard = hear(reader, shared, guest, &mut pointer, &mut held);
    // What it held down stays down for nobody.
    for key in held {
        guest.key(key, false);
    }
    heard
}

fn hear(
    reader: &mut impl Read,
    shared: &Shared,
    guest: &dyn Guest,
    pointer: &mut Pointer,
    held: &mut Vec<Key>,
) -> io::Result<()> {
    let mut press = |key: Key, pressed: bool| {
        held.retain(|known| *known != key);
        if pressed {
            held.push(key);
        }
        guest.key(key, pressed);
    };
    loop {
        match byte(reader)? {
            0 => {
                let said = bytes::<19>(reader)?;
                let format =
                    PixelFormat::from_bytes(&said[3..]).ok_or_else(|| bad("no pixel format"))?;
                let mut wishes = shared.lock();
                wishes.format = format;
                wishes.anew = true;
            }
            2 => {
                let said = bytes::<3>(reader)?;
                let count = usize::from(be16(&said[1..]));
                if count > MOST_ENCODINGS {
                    return Err(bad("too many encodings"));
                }
                let mut encodings = Vec::with_capacity(count);
                for _ in 0..count {
                    encodings.push(i32::from_be_bytes(bytes(reader)?));
                }
                let mut wishes = shared.lock();
                wishes.encodings = encodings;
                wishes.anew = true;
            }
            3 => {
                let said = bytes::<9>(reader)?;
                let mut wishes = shared.lock();
                let want = if said[0] == 0 {
                    Want::Whole
                } else {
                    Want::Change
                };
                if wishes.wants != Some(Want::Whole) {
                    wishes.wants = Some(want);
                }
                shared.changed.notify_all();
            }
            4 => {
                let said = bytes::<7>(reader)?;
                let pressed = said[0] != 0;
                match keys::of_symbol(be32(&said[3..])) {
                    Some(keys::Meant::Key(key)) => press(key, pressed),
                    Some(keys::Meant::Character(character)) => guest.character(character, pressed),
                    None => {}
                }
            }
            5 => {
                let said = bytes::<5>(reader)?;
                let relative = shared.lock().encodings.contains(&encoding::POINTER_MOTION);
                pointer.say(
                    said[0],
                    (be16(&said[1..]), be16(&said[3..])),
                    relative,
                    guest,
                );
            }
            6 => {
                let said = bytes::<7>(reader)?;
                // The extended clipboard's lengths are negative.
                let len = be32(&said[3..]).cast_signed().unsigned_abs();
                if len > MOST_TEXT {
                    return Err(bad("too much text"));
                }
                io::copy(&mut reader.take(u64::from(len)), &mut io::sink())?;
            }
            251 => {
                let said = bytes::<7>(reader)?;
                let screens = usize::from(said[5]);
                io::copy(&mut reader.take(16 * screens as u64), &mut io::sink())?;
                shared.lock().refuses_size = true;
                shared.changed.notify_all();
            }
            255 => {
                let kind = byte(reader)?;
                if kind != 0 {
                    return Err(bad("a message that was not offered"));
                }
                let said = bytes::<10>(reader)?;
                if let Some(key) = keys::of_code(be32(&said[6..])) {
                    press(key, be16(&said) != 0);
                }
            }
            _ => return Err(bad("no message of a client")),
        }
    }
}

/// Where a client's pointer is, and what is pressed.
#[derive(Default)]
struct Pointer {
    at: Option<(u16, u16)>,
    mask: u8,
}

impl Pointer {
    fn say(&mut self, mask: u8, at: (u16, u16), relative: bool, guest: &dyn Guest) {
        let bit = |from: u8, to: u8| (mask >> from & 1) << to;
        let buttons = bit(0, 0) | bit(2, 1) | bit(1, 2);
        // Notches are presses of buttons 4 and 5.
        let pressed = mask & !std::mem::replace(&mut self.mask, mask);
        let wheel = i32::from(pressed >> 4 & 1) - i32::from(pressed >> 3 & 1);
        if guest.has_pointer() {
            self.at = Some(at);
            let mut seen = u64::MAX;
            let size = guest.frame_after(&mut seen).map_or((640, 400), |frame| {
                let (width, height) = size_of(&frame);
                (usize::from(width), usize::from(height))
            });
            guest.point(at, size, buttons, wheel);
            return;
        }
        let by = if relative {
            (i32::from(at.0) - 0x7FFF, i32::from(at.1) - 0x7FFF)
        } else {
            let (x, y) = self.at.unwrap_or(at);
            (
                i32::from(at.0) - i32::from(x),
                i32::from(at.1) - i32::from(y),
            )
        };
        self.at = Some(at);
        guest.motion(by, buttons, wheel);
    }
}

/// Sends pictures, each when it is asked for and there is something new.
fn send_pictures(
    writer: &mut impl Write,
    shared: &Shared,
    guest: &dyn Guest,
    encoder: &mut Encoder,
    mut frame: Arc<Frame>,
    mut seen: u64,
) -> io::Result<()> {
    // What the client has.
    let mut has: Option<Arc<Frame>> = None;
    let mut size = size_of(&frame);
    let mut told_relative = None;
    let mut told = false;
    loop {
        let (want, encodings, format, refuses) = {
            let mut wishes = shared.lock();
            while !wishes.over && wishes.wants.is_none() && !wishes.refuses_size {
                let (next, _) = shared
                    .changed
                    .wait_timeout(wishes, Duration::from_millis(500))
                    .unwrap_or_else(PoisonError::into_inner);
                wishes = next;
                if guest.has_ended() {
                    wishes.over = true;
                }
            }
            if wishes.over {
                return Ok(());
            }
            if std::mem::take(&mut wishes.anew) {
                has = None;
            }
            let refuses = std::mem::take(&mut wishes.refuses_size);
            (
                wishes.wants,
                wishes.encodings.clone(),
                wishes.format,
                refuses,
            )
        };
        let knows = |encoding: i32| encodings.contains(&encoding);
        if let Some(new) = guest.frame_after(&mut seen) {
            frame = new;
        }
        let mut rects: Vec<(Rect, i32, Vec<u8>)> = Vec::new();
        let now = size_of(&frame);
        let plain = |width: u16, height: u16| Rect {
            x: 0,
            y: 0,
            width: usize::from(width),
            height: usize::from(height),
        };
        if refuses && knows(encoding::EXTENDED_SIZE) {
            let rect = Rect {
                x: 1,
                y: 1,
                ..plain(now.0, now.1)
            };
            rects.push((rect, encoding::EXTENDED_SIZE, one_screen(now)));
        }
        if !told {
            if knows(encoding::EXTENDED_KEYS) {
                rects.push((plain(0, 0), encoding::EXTENDED_KEYS, Vec::new()));
            }
            if knows(encoding::EXTENDED_SIZE) {
                rects.push((
                    plain(now.0, now.1),
                    encoding::EXTENDED_SIZE,
                    one_screen(now),
                ));
            }
            if knows(encoding::CURSOR) && guest.has_pointer() {
                // The guest draws its own: the client's is one dot that cannot be seen.
                let dot = vec![0; format.bytes() + 1];
                rects.push((plain(1, 1), encoding::CURSOR, dot));
            }
        }
        if knows(encoding::POINTER_MOTION) && told_relative != Some(guest.has_pointer()) {
            told_relative = Some(guest.has_pointer());
            let absolute = Rect {
                x: usize::from(guest.has_pointer()),
                ..plain(0, 0)
            };
            rects.push((absolute, encoding::POINTER_MOTION, Vec::new()));
        }
        if now != size {
            if knows(encoding::EXTENDED_SIZE) {
                rects.push((
                    plain(now.0, now.1),
                    encoding::EXTENDED_SIZE,
                    one_screen(now),
                ));
                size = now;
            } else if knows(encoding::DESKTOP_SIZE) {
                rects.push((plain(now.0, now.1), encoding::DESKTOP_SIZE, Vec::new()));
                size = now;
            }
            has = None;
        }
        if want == Some(Want::Whole) {
            has = None;
        }
        // A client that cannot be told of another size sees what fits.
        let view = plain(size.0, size.1);
        if want.is_some() {
            let changed = encode::changes(has.as_deref(), &frame, view);
            let chosen = [encoding::TIGHT_PNG, encoding::ZRLE, encoding::ZLIB];
            let chosen = encodings
                .iter()
                .copied()
                .find(|known| chosen.contains(known) || *known == encoding::RAW);
            let chosen = chosen.unwrap_or(encoding::RAW);
            for rect in changed {
                let content = encoder.encode(chosen, &frame, rect, format)?;
                rects.push((rect, chosen, content));
            }
        }
        if rects.is_empty() {
            if guest.has_ended() {
                return Ok(());
            }
            std::thread::sleep(LOOK);
            continue;
        }
        told = true;
        if want.is_some() {
            has = Some(Arc::clone(&frame));
            shared.lock().wants = None;
        }
        for rects in rects.chunks(0xFFFF) {
            let mut message = vec![0, 0];
            message.extend((rects.len() as u16).to_be_bytes());
            writer.write_all(&message)?;
            for (rect, encoding, content) in rects {
                let mut head = Vec::with_capacity(12);
                for side in [rect.x, rect.y, rect.width, rect.height] {
                    head.extend((side as u16).to_be_bytes());
                }
                head.extend(encoding.to_be_bytes());
                writer.write_all(&head)?;
                writer.write_all(content)?;
            }
        }
        writer.flush()?;
    }
}

/// The layout of one screen (ExtendedDesktopSize).
fn one_screen((width, height): (u16, u16)) -> Vec<u8> {
    let mut layout = vec![1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    layout.extend(width.to_be_bytes());
    layout.extend(height.to_be_bytes());
    layout.extend([0; 4]);
    layout
}

#[cfg(test)]
mod tests;
