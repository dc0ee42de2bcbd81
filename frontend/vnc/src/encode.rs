//! Parts of a picture as bytes.

use std::io;

use flate2::{Compress, Compression, FlushCompress};
use platform::Frame;

use crate::encoding;
use crate::pixels::PixelFormat;

/// Pictures are compared by squares of so many dots.
const SQUARE: usize = 32;
/// ZRLE's tiles (RFC 6143, 7.7.6).
const TILE: usize = 64;

/// A part of a picture, in dots.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Rect {
    pub x: usize,
    pub y: usize,
    pub width: usize,
    pub height: usize,
}

/// The dot at a place; outside of the picture it is black.
fn dot(frame: &Frame, x: usize, y: usize) -> u32 {
    match x < frame.width {
        true => frame.pixels.get(y * frame.width + x).copied().unwrap_or(0),
        false => 0,
    }
}

/// A row of dots of a part of a picture.
fn row(frame: &Frame, rect: Rect, y: usize) -> impl Iterator<Item = u32> {
    (rect.x..rect.x + rect.width).map(move |x| dot(frame, x, y))
}

/// The parts of `view` in which `new` differs from `old`; without `old` all of it.
pub(crate) fn changes(old: Option<&Frame>, new: &Frame, view: Rect) -> Vec<Rect> {
    let old = match old {
        Some(old) if std::ptr::eq(old, new) => return Vec::new(),
        Some(old) if (old.width, old.height) == (new.width, new.height) => old,
        _ => return vec![view],
    };
    let mut rects: Vec<Rect> = Vec::new();
    for y in (0..view.height).step_by(SQUARE) {
        let height = SQUARE.min(view.height - y);
        let mut run: Option<Rect> = None;
        for x in (0..view.width).step_by(SQUARE) {
            let width = SQUARE.min(view.width - x);
            let same = (y..y + height).all(|y| {
                let range =
                    y * new.width + x.min(new.width)..y * new.width + (x + width).min(new.width);
                old.pixels.get(range.clone()) == new.pixels.get(range)
            });
            match (&mut run, same) {
                (None, false) => {
                    run = Some(Rect {
                        x,
                        y,
                        width,
                        height,
                    })
                }
                (Some(run), false) => run.width += width,
                (Some(_), true) => rects.extend(run.take()),
                (None, true) => {}
            }
        }
        rects.extend(run);
    }
    // Runs of the same columns below each other are one.
    let mut merged: Vec<Rect> = Vec::new();
    for rect in rects {
        let above = merged.iter_mut().rev().find(|above| {
            (above.x, above.width) == (rect.x, rect.width) && above.y + above.height == rect.y
        });
        match above {
            Some(above) => above.height += rect.height,
            None => merged.push(rect),
        }
    }
    merged
}

/// Writes pictures; streams of compressed bytes go on from one to the next.
#[derive(Default)]
pub(crate) struct Encoder {
    zlib: Option<Compress>,
    zrle: Option<Compress>,
}

impl Encoder {
    pub fn encode(
        &mut self,
        how: i32,
        frame: &Frame,
        rect: Rect,
        format: PixelFormat,
    ) -> io::Result<Vec<u8>> {
        match how {
            encoding::TIGHT_PNG => tight_png(frame, rect),
            encoding::ZRLE => compress(&mut self.zrle, &zrle(frame, rect, format)),
            encoding::ZLIB => compress(&mut self.zlib, &raw(frame, rect, format)),
            _ => Ok(raw(frame, rect, format)),
        }
    }
}

fn raw(frame: &Frame, rect: Rect, format: PixelFormat) -> Vec<u8> {
    let mut out = Vec::with_capacity(rect.width * rect.height * format.bytes());
    for y in rect.y..rect.y + rect.height {
        row(frame, rect, y).for_each(|pixel| format.put(pixel, &mut out));
    }
    out
}

/// The next piece of a stream, behind its length.
fn compress(stream: &mut Option<Compress>, plain: &[u8]) -> io::Result<Vec<u8>> {
    let stream = stream.get_or_insert_with(|| Compress::new(Compression::fast(), true));
    let mut out = vec![0; 4];
    let mut done = 0;
    loop {
        out.reserve(plain.len() / 4 + 1024);
        let before = stream.total_in();
        stream
            .compress_vec(&plain[done..], &mut out, FlushCompress::Sync)
            .map_err(io::Error::other)?;
        done += (stream.total_in() - before) as usize;
        // With room left, all that was flushed is there.
        if done == plain.len() && out.len() < out.capacity() {
            break;
        }
    }
    let len = (out.len() - 4) as u32;
    out[..4].copy_from_slice(&len.to_be_bytes());
    Ok(out)
}

/// ZRLE's tiles: of one colour, of a few, or plain.
fn zrle(frame: &Frame, rect: Rect, format: PixelFormat) -> Vec<u8> {
    let mut out = Vec::new();
    for y in (rect.y..rect.y + rect.height).step_by(TILE) {
        for x in (rect.x..rect.x + rect.width).step_by(TILE) {
            let tile = Rect {
                x,
                y,
                width: TILE.min(rect.x + rect.width - x),
                height: TILE.min(rect.y + rect.height - y),
            };
            zrle_tile(frame, tile, format, &mut out);
        }
    }
    out
}

fn zrle_tile(frame: &Frame, tile: Rect, format: PixelFormat, out: &mut Vec<u8>) {
    let mut palette: Vec<u32> = Vec::new();
    let rows = || tile.y..tile.y + tile.height;
    let few = rows().flat_map(|y| row(frame, tile, y)).all(|pixel| {
        if !palette.contains(&pixel) {
            palette.push(pixel);
        }
        palette.len() <= 16
    });
    if !few {
        out.push(0);
        rows()
            .flat_map(|y| row(frame, tile, y))
            .for_each(|pixel| format.put_short(pixel, out));
        return;
    }
    out.push(palette.len() as u8);
    palette
        .iter()
        .for_each(|&pixel| format.put_short(pixel, out));
    let bits = match palette.len() {
        0 | 1 => return,
        2 => 1,
        3 | 4 => 2,
        _ => 4,
    };
    for y in rows() {
        let (mut byte, mut filled) = (0, 0);
        for pixel in row(frame, tile, y) {
            let index = palette
                .iter()
                .position(|&known| known == pixel)
                .unwrap_or(0) as u8;
            byte = byte << bits | index;
            filled += bits;
            if filled == 8 {
                out.push(byte);
                (byte, filled) = (0, 0);
            }
        }
        if filled > 0 {
            out.push(byte << (8 - filled));
        }
    }
}

/// A picture of its own (the Tight encoding's PNG compression), or one colour.
fn tight_png(frame: &Frame, rect: Rect) -> io::Result<Vec<u8>> {
    let mut pixels = Vec::with_capacity(rect.width * rect.height * 3);
    for y in rect.y..rect.y + rect.height {
        for pixel in row(frame, rect, y) {
            pixels.extend(&pixel.to_be_bytes()[1..]);
        }
    }
    let first = pixels.get(..3).map(<[u8]>::to_vec).unwrap_or_default();
    if pixels.chunks(3).all(|pixel| pixel == first) {
        return Ok([vec![0x80], first].concat());
    }
    let mut image = Vec::new();
    let mut encoder = png::Encoder::new(&mut image, rect.width as u32, rect.height as u32);
    encoder.set_color(png::ColorType::Rgb);
    encoder.set_depth(png::BitDepth::Eight);
    encoder.set_compression(png::Compression::Fast);
    let mut writer = encoder.write_header().map_err(io::Error::other)?;
    writer.write_image_data(&pixels).map_err(io::Error::other)?;
    writer.finish().map_err(io::Error::other)?;
    let mut out = vec![0xA0];
    let mut len = image.len();
    // A length of up to 22 bits, seven, seven and eight of them a byte.
    for more in [true, true, false] {
        let part = if more { len & 0x7F } else { len & 0xFF };
        len >>= 7;
        let goes_on = more && len > 0;
        out.push(part as u8 | u8::from(goes_on) << 7);
        if !goes_on {
            break;
        }
    }
    out.extend(image);
    Ok(out)
}
