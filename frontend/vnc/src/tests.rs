//! A small client against the server.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};

use super::*;

/// A guest with one picture, which notes what is done to it.
struct Picture {
    frame: Mutex<(u64, Arc<Frame>)>,
    done: Mutex<Vec<String>>,
    has_pointer: bool,
}

impl Picture {
    fn new(width: usize, height: usize) -> Self {
        let frame = Frame {
            width,
            height,
            pixels: (0..width * height)
                .map(|at| (at * 7919) as u32 & 0xFF_FFFF)
                .collect(),
            ..Frame::default()
        };
        Self {
            frame: Mutex::new((1, Arc::new(frame))),
            done: Mutex::default(),
            has_pointer: true,
        }
    }

    fn change(&self, change: impl FnOnce(&mut Frame)) {
        let mut frame = self.frame.lock().unwrap();
        let mut new = (*frame.1).clone();
        change(&mut new);
        *frame = (frame.0 + 1, Arc::new(new));
    }

    fn note(&self, what: String) {
        self.done.lock().unwrap().push(what);
    }
}

impl Guest for Picture {
    fn name(&self) -> String {
        "test".into()
    }
    fn frame_after(&self, seen: &mut u64) -> Option<Arc<Frame>> {
        let frame = self.frame.lock().unwrap();
        (std::mem::replace(seen, frame.0) != frame.0).then(|| Arc::clone(&frame.1))
    }
    fn has_ended(&self) -> bool {
        false
    }
    fn key(&self, key: Key, pressed: bool) {
        self.note(format!("{key:?} {pressed}"));
    }
    fn character(&self, character: char, pressed: bool) {
        self.note(format!("{character:?} {pressed}"));
    }
    fn has_pointer(&self) -> bool {
        self.has_pointer
    }
    fn point(&self, at: (u16, u16), size: (usize, usize), buttons: u8, wheel: i32) {
        self.note(format!("at {at:?} of {size:?}: {buttons} {wheel}"));
    }
    fn motion(&self, by: (i32, i32), buttons: u8, wheel: i32) {
        self.note(format!("by {by:?}: {buttons} {wheel}"));
    }
    fn watched(&self, is_there: bool) {
        self.note(format!("watched {is_there}"));
    }
}

fn start(
    guest: &Arc<Picture>,
    password: Option<&'static str>,
) -> (TcpStream, std::thread::JoinHandle<io::Result<()>>) {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let server = listener.accept().unwrap().0;
    let guest: Arc<dyn Guest> = Arc::clone(guest) as _;
    let thread = std::thread::spawn(move || {
        let (writer, end) = (server.try_clone().unwrap(), server.try_clone().unwrap());
        let hang_up = move || drop(end.shutdown(std::net::Shutdown::Both));
        serve(server, writer, hang_up, &guest, password, [7; 16])
    });
    (client, thread)
}

/// Comes as far as the screen's size.
fn join(client: &mut TcpStream) -> (u16, u16) {
    assert_eq!(&bytes::<12>(client).unwrap(), b"RFB 003.008\n");
    client.write_all(b"RFB 003.008\n").unwrap();
    assert_eq!(bytes::<2>(client).unwrap(), [1, 1]);
    client.write_all(&[1]).unwrap();
    assert_eq!(bytes::<4>(client).unwrap(), [0; 4]);
    client.write_all(&[1]).unwrap();
    let init = bytes::<24>(client).unwrap();
    let mut name = vec![0; be32(&init[20..]) as usize];
    client.read_exact(&mut name).unwrap();
    assert_eq!(name, b"test");
    (be16(&init), be16(&init[2..]))
}

fn ask(client: &mut TcpStream, incremental: u8) {
    client
        .write_all(&[3, incremental, 0, 0, 0, 0, 0xFF, 0xFF, 0xFF, 0xFF])
        .unwrap();
}

fn set_encodings(client: &mut TcpStream, encodings: &[i32]) {
    let mut message = vec![2, 0];
    message.extend((encodings.len() as u16).to_be_bytes());
    encodings
        .iter()
        .for_each(|encoding| message.extend(encoding.to_be_bytes()));
    client.write_all(&message).unwrap();
}

/// The head of each rectangle of an update, and its content as `len` tells how long that is.
fn update(
    client: &mut TcpStream,
    mut len: impl FnMut(i32, usize, &mut TcpStream) -> usize,
) -> Vec<([u16; 4], i32, Vec<u8>)> {
    let head = bytes::<4>(client).unwrap();
    assert_eq!(head[0], 0);
    (0..be16(&head[2..]))
        .map(|_| {
            let head = bytes::<12>(client).unwrap();
            let sides = [0, 2, 4, 6].map(|at| be16(&head[at..]));
            let encoding = be32(&head[8..]).cast_signed();
            let dots = usize::from(sides[2]) * usize::from(sides[3]);
            let mut content = vec![0; len(encoding, dots, client)];
            client.read_exact(&mut content).unwrap();
            (sides, encoding, content)
        })
        .collect()
}

#[test]
fn a_client_sees_the_picture_and_then_what_changes() {
    let guest = Arc::new(Picture::new(100, 70));
    let (mut client, server) = start(&guest, None);
    assert_eq!(join(&mut client), (100, 70));
    ask(&mut client, 0);
    let rects = update(&mut client, |_, dots, _| dots * 4);
    assert_eq!((rects[0].0, rects[0].1), ([0, 0, 100, 70], 0));
    let first = guest.frame.lock().unwrap().1.pixels[1].to_le_bytes();
    assert_eq!(rects[0].2[4..8], first);
    ask(&mut client, 1);
    guest.change(|frame| frame.pixels[40 * 100 + 99] ^= 1);
    let rects = update(&mut client, |_, dots, _| dots * 4);
    assert_eq!(rects.len(), 1);
    assert_eq!(rects[0].0, [96, 32, 4, 32]);
    // Another size, for a client that knows that; its own format of 16 bits, written by the high byte first.
    set_encodings(&mut client, &[0, encoding::DESKTOP_SIZE]);
    client
        .write_all(&[
            0, 0, 0, 0, 16, 16, 1, 1, 0, 31, 0, 63, 0, 31, 11, 5, 0, 0, 0, 0,
        ])
        .unwrap();
    guest.change(|frame| {
        *frame = Frame {
            width: 2,
            height: 1,
            pixels: vec![0xFF_0000, 0x00_FF00],
            ..Frame::default()
        }
    });
    ask(&mut client, 1);
    let rects = update(
        &mut client,
        |encoding, dots, _| if encoding == 0 { dots * 2 } else { 0 },
    );
    assert_eq!(
        (rects[0].0, rects[0].1),
        ([0, 0, 2, 1], encoding::DESKTOP_SIZE)
    );
    assert_eq!(rects[1].2, [0xF8, 0, 0x07, 0xE0]);
    drop(client);
    assert!(server.join().unwrap().is_err());
    assert_eq!(guest.done.lock().unwrap().last().unwrap(), "watched false");
}

#[test]
fn compressed_pictures_unpack_to_the_same() {
    let guest = Arc::new(Picture::new(130, 66));
    guest.change(|frame| {
        // Tiles of many colours, of few and of one.
        for (at, pixel) in frame.pixels.iter_mut().enumerate() {
            let (x, y) = (at % 130, at / 130);
            if y >= 64 {
                *pixel = 0x12_3456;
            } else if x >= 64 {
                *pixel = [0, 0xFF_FFFF, 0x80, 0x8000, 7][(x * y) % 5];
            }
        }
    });
    let (mut client, _server) = start(&guest, None);
    join(&mut client);
    let raw: Vec<u8> = guest
        .frame
        .lock()
        .unwrap()
        .1
        .pixels
        .iter()
        .flat_map(|pixel| pixel.to_le_bytes())
        .collect();
    let mut zlib = flate2::Decompress::new(true);
    let mut zrle = flate2::Decompress::new(true);
    for (encoding, round) in [
        (encoding::ZLIB, 0),
        (encoding::ZRLE, 0),
        (encoding::ZLIB, 1),
        (encoding::ZRLE, 1),
    ] {
        set_encodings(&mut client, &[encoding]);
        ask(&mut client, 0);
        let rects = update(&mut client, |_, _, client| {
            be32(&bytes::<4>(client).unwrap()) as usize
        });
        let stream = if encoding == encoding::ZLIB {
            &mut zlib
        } else {
            &mut zrle
        };
        let mut plain = Vec::with_capacity(1 << 20);
        stream
            .decompress_vec(&rects[0].2, &mut plain, flate2::FlushDecompress::Sync)
            .unwrap();
        if encoding == encoding::ZLIB {
            assert!(plain == raw, "round {round}");
        } else {
            assert!(unpack_zrle(&plain, 130, 66) == raw, "round {round}");
        }
    }
    set_encodings(&mut client, &[encoding::TIGHT_PNG]);
    ask(&mut client, 0);
    let rects = update(&mut client, |_, _, client| {
        assert_eq!(byte(client).unwrap(), 0xA0);
        let mut len = 0;
        for place in 0..3 {
            let part = usize::from(byte(client).unwrap());
            len |= (if place < 2 { part & 0x7F } else { part }) << (7 * place);
            if part & 0x80 == 0 {
                break;
            }
        }
        len
    });
    let mut reader = png::Decoder::new(std::io::Cursor::new(&rects[0].2))
        .read_info()
        .unwrap();
    let mut pixels = vec![0; 130 * 66 * 3];
    reader.next_frame(&mut pixels).unwrap();
    for (pixel, raw) in pixels.chunks(3).zip(raw.chunks(4)) {
        assert_eq!([pixel[2], pixel[1], pixel[0]], raw[..3]);
    }
}

/// By the text of the RFC.
fn unpack_zrle(plain: &[u8], width: usize, height: usize) -> Vec<u8> {
    let mut out = vec![0; width * height * 4];
    let mut at = 0;
    for y in (0..height).step_by(64) {
        for x in (0..width).step_by(64) {
            let (w, h) = (64.min(width - x), 64.min(height - y));
            let kind = usize::from(plain[at]);
            at += 1;
            let palette: Vec<&[u8]> = plain[at..].chunks(3).take(kind).collect();
            at += 3 * kind;
            let bits = [0, 0, 1, 2, 2].get(kind).copied().unwrap_or(4);
            for row in 0..h {
                for column in 0..w {
                    let pixel = match (kind, bits) {
                        (0, _) => &plain[at + 3 * (row * w + column)..][..3],
                        (_, 0) => palette[0],
                        _ => {
                            let byte = plain[at + row * (w * bits).div_ceil(8) + column * bits / 8];
                            palette[usize::from(byte >> (8 - bits - column * bits % 8))
                                & ((1 << bits) - 1)]
                        }
                    };
                    out[((y + row) * width + x + column) * 4..][..3].copy_from_slice(pixel);
                }
            }
            at += if kind == 0 {
                3 * w * h
            } else {
                h * (w * bits).div_ceil(8)
            };
        }
    }
    assert_eq!(at, plain.len());
    out
}

#[test]
fn keys_and_pointer_reach_the_guest() {
    let guest = Arc::new(Picture::new(64, 64));
    let (mut client, server) = start(&guest, None);
    join(&mut client);
    client.write_all(&[4, 1, 0, 0, 0, 0, 0xFF, 0x0D]).unwrap();
    client.write_all(&[4, 1, 0, 0, 0, 0, 0, b'q']).unwrap();
    // By its place: the right Ctrl key, which stays down.
    client
        .write_all(&[255, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0x9D])
        .unwrap();
    client.write_all(&[5, 0b1_0100, 0, 10, 0, 20]).unwrap();
    client
        .write_all(&[6, 0, 0, 0, 0, 0, 0, 3, b'a', b'b', b'c'])
        .unwrap();
    client.write_all(&[9]).unwrap();
    assert!(server.join().unwrap().is_err());
    let done = guest.done.lock().unwrap().join("\n");
    assert_eq!(
        done,
        "watched true\nEnter true\n'q' true\nControlRight true\nat (10, 20) of (64, 64): 2 1\nEnter false\nControlRight false\nwatched false"
    );
}

#[test]
fn a_wrong_password_is_refused() {
    for (password, good) in [("secret12 and more", true), ("Secret12", false)] {
        let guest = Arc::new(Picture::new(8, 8));
        let (mut client, _server) = start(&guest, Some("secret12"));
        bytes::<12>(&mut client).unwrap();
        client.write_all(b"RFB 003.003\n").unwrap();
        assert_eq!(bytes::<4>(&mut client).unwrap(), [0, 0, 0, 2]);
        let challenge = bytes::<16>(&mut client).unwrap();
        client.write_all(&answer(password, challenge)).unwrap();
        assert_eq!(bytes::<4>(&mut client).unwrap(), [0, 0, 0, u8::from(!good)]);
    }
    // FIPS 46's key and text, by the DES that RFB has: written backwards.
    let key = String::from_utf8(vec![0x13u8.reverse_bits() & 0x7F; 8]).unwrap();
    assert_ne!(answer(&key, [0; 16]), [0; 16]);
}

/// Whatever is said: no panic, and the end is an answer or a refusal.
#[test]
fn clients_that_say_anything_are_left() {
    let mut seed = 1u64;
    let mut next = move || {
        seed = seed
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) as u8
    };
    for round in 0..200 {
        let guest = Arc::new(Picture::new(20, 20));
        let (mut client, server) = start(&guest, None);
        if round % 4 != 0 {
            join(&mut client);
        }
        let mut said: Vec<u8> = (0..400).map(|_| next()).collect();
        if round % 2 == 0 {
            said[0] = [0, 2, 3, 4, 5, 6, 251, 255][usize::from(next() & 7)];
        }
        let _ = client.write_all(&said);
        let _ = client.shutdown(std::net::Shutdown::Write);
        let _ = client.read_to_end(&mut Vec::new());
        assert!(server.join().unwrap().is_err());
    }
}
