//! The tables that packet commands answer with. MMC-3 and SPC-3 have their layouts; numbers have the high byte first.

use super::commands::msf;

/// The most sectors of a CD, 80 minutes; what has more is a DVD.
const MOST_CD_SECTORS: u32 = 80 * 60 * 75;

const CD_ROM: u16 = 0x0008;
const DVD_ROM: u16 = 0x0010;

/// 24 times the speed of an audio disc, in thousands of bytes a second.
const SPEED: u16 = 4234;
const BUFFER_KIB: u16 = 512;

pub(super) const RECOVERY_PAGE: u8 = 0x01;
pub(super) const RECOVERY_BYTES: usize = 10;
pub(super) const RECOVERY: [u8; RECOVERY_BYTES] = [0, 5, 0, 0, 0, 0, 0, 0, 0, 0];
pub(super) const AUDIO_PAGE: u8 = 0x0E;
pub(super) const AUDIO_BYTES: usize = 14;
/// Both ports at full volume, each with its own channel.
pub(super) const AUDIO: [u8; AUDIO_BYTES] = [4, 0, 0, 0, 0, 75, 1, 0xFF, 2, 0xFF, 0, 0, 0, 0];

/// A data track that may be copied not at all, with its address in the Q sub-channel.
const CONTROL: u8 = 0x14;
const LEAD_OUT: u8 = 0xAA;

/// Whether a disc with so many sectors is a DVD.
pub(super) fn is_dvd(sectors: u32) -> bool {
    sectors > MOST_CD_SECTORS
}

/// INQUIRY, of the standard data (SPC-3 §6.4.2).
pub(super) fn inquiry() -> Vec<u8> {
    // A CD-ROM device with a removable medium, SPC-3, response format 2.
    let mut reply = vec![0x05, 0x80, 0x05, 0x02, 31, 0, 0, 0];
    reply.extend(b"GLASSBOXCD-ROM          1.0 ");
    reply
}

/// REQUEST SENSE, in the fixed format (SPC-3 §4.5.3).
pub(super) fn sense(key: u8, code: u8, qualifier: u8) -> Vec<u8> {
    let mut reply = vec![0; 18];
    reply[0] = 0x70;
    reply[2] = key;
    reply[7] = 10;
    reply[12] = code;
    reply[13] = qualifier;
    reply
}

/// A number of sectors as an address: of a sector, or of minute, second and frame.
fn address(lba: u32, as_msf: bool) -> [u8; 4] {
    if as_msf {
        let [minute, second, frame] = msf(lba);
        [0, minute, second, frame]
    } else {
        lba.to_be_bytes()
    }
}

/// READ TOC/PMA/ATIP: the contents, the sessions, or all of the lead-in's entries. `None` if there is no such format
/// or track.
pub(super) fn toc(format: u8, first: u8, as_msf: bool, sectors: u32) -> Option<Vec<u8>> {
    let mut reply = vec![0, 0, 1, 1];
    let mut track = |number: u8, lba: u32| {
        reply.extend([0, CONTROL, number, 0]);
        reply.extend(address(lba, as_msf));
    };
    match format {
        0 => {
            match first {
                0 | 1 => track(1, 0),
                LEAD_OUT => {}
                _ => return None,
            }
            track(LEAD_OUT, sectors);
        }
        1 => track(1, 0),
        2 => {
            let points = [
                (0xA0, [1, 0, 0]),
                (0xA1, [1, 0, 0]),
                (0xA2, msf(sectors)),
                (0x01, msf(0)),
            ];
            for (point, [a, b, c]) in points {
                reply.extend([1, CONTROL, 0, point, 0, 0, 0, 0, a, b, c]);
            }
        }
        _ => return None,
    }
    let [high, low] = ((reply.len() - 2) as u16).to_be_bytes();
    (reply[0], reply[1]) = (high, low);
    Some(reply)
}

/// READ SUB-CHANNEL: nothing plays.
pub(super) fn sub_channel(wants_q: bool, format: u8) -> Option<Vec<u8>> {
    const NO_STATUS: u8 = 0x15;
    let data: &[u8] = match (wants_q, format) {
        (false, _) => &[],
        (true, 1) => &[1, CONTROL, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0],
        // Neither a catalogue number nor a recording code.
        (true, 2) => &[2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
        (true, 3) => &[
            3, CONTROL, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
        ],
        _ => return None,
    };
    let mut reply = vec![0, NO_STATUS, 0, data.len() as u8];
    reply.extend(data);
    Some(reply)
}

/// READ DISC INFORMATION: one complete session with one track.
pub(super) fn disc_information() -> Vec<u8> {
    let mut reply = vec![0; 34];
    reply[1] = 32;
    reply[2] = 0x0E;
    reply[3..7].copy_from_slice(&[1, 1, 1, 1]);
    reply[7] = 0x20; // Unrestricted use.
    reply[16..24].fill(0xFF); // A complete disc has no place for a next session.
    reply
}

/// READ TRACK INFORMATION of the one track.
pub(super) fn track_information(sectors: u32) -> Vec<u8> {
    let mut reply = vec![0; 36];
    reply[1] = 34;
    reply[2] = 1;
    reply[3] = 1;
    reply[5] = 0x04;
    reply[6] = 0x01; // Mode 1.
    reply[24..28].copy_from_slice(&sectors.to_be_bytes());
    reply
}

/// READ BUFFER CAPACITY.
pub(super) fn buffer_capacity() -> Vec<u8> {
    let bytes = (u32::from(BUFFER_KIB) << 10).to_be_bytes();
    let mut reply = vec![0, 10, 0, 0];
    reply.extend(bytes);
    reply.extend(bytes);
    reply
}

/// MECHANISM STATUS: no changer.
pub(super) fn mechanism_status(tray_open: bool) -> Vec<u8> {
    vec![0, u8::from(tray_open) << 4, 0, 0, 0, 1, 0, 0]
}

/// READ DVD STRUCTURE (MMC-3 §6.30) of layer 0.
pub(super) fn dvd_structure(format: u8, layer: u8, sectors: u32) -> Option<Vec<u8>> {
    /// Physical sectors of a DVD are counted from here.
    const FIRST: u32 = 0x3_0000;
    if layer != 0 {
        return None;
    }
    let data = match format {
        // Book type and version, no rate, one layer of embossed data, density; first and last sectors.
        0x00 => {
            let mut data = vec![0; 2048];
            data[..4].copy_from_slice(&[0x01, 0x0F, 0x01, 0x00]);
            data[4..8].copy_from_slice(&FIRST.to_be_bytes());
            data[8..12].copy_from_slice(&(FIRST.saturating_add(sectors - 1)).to_be_bytes());
            data
        }
        // No copyright protection; every region.
        0x01 => vec![0; 4],
        0x04 => vec![0; 2048],
        // The formats, with their lengths.
        0xFF => {
            let mut list = Vec::new();
            for (format, len) in [(0x00, 2052u16), (0x01, 8), (0x04, 2052)] {
                let [high, low] = len.to_be_bytes();
                list.extend([format, 0x40, high, low]);
            }
            list
        }
        _ => return None,
    };
    let [high, low] = ((data.len() + 2) as u16).to_be_bytes();
    let mut reply = vec![high, low, 0, 0];
    reply.extend(data);
    Some(reply)
}

/// GET CONFIGURATION: the features from `first` on; `which`: 0 all, 1 those in effect, 2 the one alone.
pub(super) fn configuration(which: u8, first: u16, sectors: Option<u32>) -> Vec<u8> {
    let profile = match sectors {
        None => 0,
        Some(sectors) if is_dvd(sectors) => DVD_ROM,
        Some(_) => CD_ROM,
    };
    let (is_cd, is_dvd) = (profile == CD_ROM, profile == DVD_ROM);
    let [high, low] = profile.to_be_bytes();
    let mut reply = vec![0, 0, 0, 0, 0, 0, high, low];
    let mut feature = |code: u16, version: u8, persistent: bool, current: bool, data: &[u8]| {
        let wanted = match which {
            0 => code >= first,
            1 => code >= first && current,
            _ => code == first,
        };
        if wanted {
            reply.extend(code.to_be_bytes());
            let flags = version << 2 | u8::from(persistent) << 1 | u8::from(current);
            reply.extend([flags, data.len() as u8]);
            reply.extend(data);
        }
    };
    let profiles = [0, 0x10, u8::from(is_dvd), 0, 0, 0x08, u8::from(is_cd), 0];
    feature(0x0000, 0, true, true, &profiles);
    // Core: ATAPI, which tells of events.
    feature(0x0001, 1, true, true, &[0, 0, 0, 2, 1, 0, 0, 0]);
    // Morphing: the host asks for events.
    feature(0x0002, 1, true, true, &[2, 0, 0, 0]);
    // Removable medium: a tray that opens at a command and can be locked.
    feature(0x0003, 0, true, true, &[0x29, 0, 0, 0]);
    let readable = is_cd || is_dvd;
    feature(0x0010, 0, false, readable, &[0, 0, 8, 0, 0, 1, 0, 0]);
    feature(0x001D, 0, false, is_cd, &[]);
    feature(0x001E, 0, false, is_cd, &[0, 0, 0, 0]);
    feature(0x001F, 0, false, is_dvd, &[]);
    feature(0x0100, 0, true, true, &[]);
    feature(0x0105, 0, true, true, &[]);
    let len = ((reply.len() - 4) as u32).to_be_bytes();
    reply[..4].copy_from_slice(&len);
    reply
}

/// What the mode pages are made of.
pub(super) struct Modes {
    pub(super) recovery: [u8; RECOVERY_BYTES],
    pub(super) audio: [u8; AUDIO_BYTES],
    pub(super) locked: bool,
}

/// MODE SENSE: page `page`, or all for 3Fh; `control`: 0 as they are, 1 what can be changed, 2 as they are at first.
/// Empty if there is no such page.
pub(super) fn mode_pages(page: u8, control: u8, modes: &Modes) -> Vec<u8> {
    let mut pages = Vec::new();
    let mut put = |code: u8, now: &[u8], at_first: &[u8], can_change: bool| {
        if page != code && page != 0x3F {
            return;
        }
        pages.extend([code, now.len() as u8]);
        match control {
            1 => pages.extend(now.iter().map(|_| if can_change { 0xFF } else { 0 })),
            2 => pages.extend(at_first),
            _ => pages.extend(now),
        }
    };
    put(RECOVERY_PAGE, &modes.recovery, &RECOVERY, true);
    // CD-ROM device parameters: seconds in a minute, frames in a second.
    let parameters = [0, 0, 0, 60, 0, 75];
    put(0x0D, &parameters, &parameters, false);
    put(AUDIO_PAGE, &modes.audio, &AUDIO, true);
    put(0x1A, &[0; 10], &[0; 10], false);
    let capabilities = |locked: bool| {
        let [speed_high, speed_low] = SPEED.to_be_bytes();
        let [buffer_high, buffer_low] = BUFFER_KIB.to_be_bytes();
        let mut page = [0; 20];
        page[0] = 0x0B; // Reads DVD-ROM, CD-RW and CD-R.
        page[2] = 0x70; // Multi-session, mode 2 forms 2 and 1.
        page[4] = 0x29 | u8::from(locked) << 1; // A tray, eject, lock.
        page[6..8].copy_from_slice(&[speed_high, speed_low]);
        page[10..14].copy_from_slice(&[buffer_high, buffer_low, speed_high, speed_low]);
        page
    };
    put(
        0x2A,
        &capabilities(modes.locked),
        &capabilities(false),
        false,
    );
    pages
}
