//! The packet commands of MMC-3, with those of SPC-3 and SFF-8020i that belong to them.

use super::raw::Form;
use super::{BLOCK_BYTES, CdDrive, Event, Failure, Sense, Transfer, reports};

const TEST_UNIT_READY: u8 = 0x00;
const REQUEST_SENSE: u8 = 0x03;
const INQUIRY: u8 = 0x12;
const MODE_SELECT_6: u8 = 0x15;
const MODE_SENSE_6: u8 = 0x1A;
const START_STOP_UNIT: u8 = 0x1B;
const PREVENT_ALLOW_MEDIUM_REMOVAL: u8 = 0x1E;
const READ_CAPACITY: u8 = 0x25;
const READ_10: u8 = 0x28;
const SEEK_10: u8 = 0x2B;
const VERIFY_10: u8 = 0x2F;
const READ_SUB_CHANNEL: u8 = 0x42;
const READ_TOC: u8 = 0x43;
const GET_CONFIGURATION: u8 = 0x46;
const GET_EVENT_STATUS_NOTIFICATION: u8 = 0x4A;
const STOP_PLAY: u8 = 0x4E;
const READ_DISC_INFORMATION: u8 = 0x51;
const READ_TRACK_INFORMATION: u8 = 0x52;
const MODE_SELECT_10: u8 = 0x55;
const MODE_SENSE_10: u8 = 0x5A;
const READ_BUFFER_CAPACITY: u8 = 0x5C;
const READ_12: u8 = 0xA8;
const READ_DVD_STRUCTURE: u8 = 0xAD;
const READ_CD_MSF: u8 = 0xB9;
const SET_CD_SPEED: u8 = 0xBB;
const MECHANISM_STATUS: u8 = 0xBD;
const READ_CD: u8 = 0xBE;

/// Whether a command takes data from the host.
pub(super) fn takes_data(command: u8) -> bool {
    matches!(command, MODE_SELECT_6 | MODE_SELECT_10)
}

/// Whether a command runs although the host has not heard yet what happened to the unit.
fn passes_attention(command: u8) -> bool {
    matches!(
        command,
        INQUIRY | REQUEST_SENSE | GET_CONFIGURATION | GET_EVENT_STATUS_NOTIFICATION
    )
}

/// Sectors from power-on of a CD to its first one, in the addresses of minutes, seconds and frames.
const LEAD_IN: u32 = 150;

/// A sector's address as minute, second and frame.
pub(super) fn msf(lba: u32) -> [u8; 3] {
    let frames = lba.saturating_add(LEAD_IN);
    let minute = (frames / (75 * 60)).min(255);
    [minute as u8, (frames / 75 % 60) as u8, (frames % 75) as u8]
}

impl CdDrive {
    fn u16_at(&self, at: usize) -> u16 {
        u16::from_be_bytes([self.state.packet[at], self.state.packet[at + 1]])
    }

    fn u24_at(&self, at: usize) -> u32 {
        u32::from(self.state.packet[at]) << 16 | u32::from(self.u16_at(at + 1))
    }

    fn u32_at(&self, at: usize) -> u32 {
        u32::from(self.u16_at(at)) << 16 | u32::from(self.u16_at(at + 2))
    }

    /// Does what the packet says.
    pub(super) fn execute_packet(&mut self) -> Result<(), Failure> {
        let packet = self.state.packet;
        log::debug!(target: "ide", "packet {packet:02x?}");
        let command = packet[0];
        if command == REQUEST_SENSE {
            return self.request_sense();
        }
        if !passes_attention(command)
            && let Some(attention) = self.state.attention.take()
        {
            return Err(Failure(attention));
        }
        self.state.sense = Sense::NONE;
        match command {
            TEST_UNIT_READY => {
                self.sectors()?;
            }
            INQUIRY => return self.inquiry(),
            MODE_SELECT_6 => return self.mode_select(packet[4].into()),
            MODE_SELECT_10 => return self.mode_select(self.u16_at(7)),
            MODE_SENSE_6 => return self.mode_sense(packet[4].into(), false),
            MODE_SENSE_10 => return self.mode_sense(self.u16_at(7).into(), true),
            START_STOP_UNIT => self.start_stop()?,
            PREVENT_ALLOW_MEDIUM_REMOVAL => self.state.locked = packet[4] & 0x01 != 0,
            READ_CAPACITY => {
                let last = self.sectors()?.saturating_sub(1);
                let mut reply = last.to_be_bytes().to_vec();
                reply.extend((BLOCK_BYTES as u32).to_be_bytes());
                return self.reply(reply, 8);
            }
            READ_10 => return self.read(self.u32_at(2), self.u16_at(7).into(), Form::USER_DATA),
            READ_12 => return self.read(self.u32_at(2), self.u32_at(6), Form::USER_DATA),
            READ_CD => return self.read_cd(self.u32_at(2), self.u24_at(6)),
            READ_CD_MSF => return self.read_cd_msf(),
            SEEK_10 => {
                if self.u32_at(2) >= self.sectors()? {
                    return Err(Failure(Sense::OUT_OF_RANGE));
                }
            }
            VERIFY_10 => {
                self.check_range(self.u32_at(2), self.u16_at(7).into())?;
            }
            READ_SUB_CHANNEL => return self.read_sub_channel(),
            READ_TOC => return self.read_toc(),
            GET_CONFIGURATION => return self.get_configuration(),
            GET_EVENT_STATUS_NOTIFICATION => return self.get_event_status(),
            // Nothing plays; any speed will do.
            STOP_PLAY | SET_CD_SPEED => {}
            READ_DISC_INFORMATION => {
                self.sectors()?;
                return self.reply(reports::disc_information(), self.u16_at(7).into());
            }
            READ_TRACK_INFORMATION => return self.read_track_information(),
            READ_BUFFER_CAPACITY => {
                return self.reply(reports::buffer_capacity(), self.u16_at(7).into());
            }
            READ_DVD_STRUCTURE => return self.read_dvd_structure(),
            MECHANISM_STATUS => {
                let reply = reports::mechanism_status(self.state.tray_open);
                return self.reply(reply, self.u16_at(8).into());
            }
            _ => return Err(Failure(Sense::UNKNOWN_COMMAND)),
        }
        self.complete();
        Ok(())
    }

    fn request_sense(&mut self) -> Result<(), Failure> {
        let sense = match std::mem::take(&mut self.state.sense) {
            Sense::NONE => self.state.attention.take().unwrap_or(Sense::NONE),
            sense => sense,
        };
        let reply = reports::sense(sense.key, sense.code, sense.qualifier);
        self.reply(reply, self.state.packet[4].into())
    }

    fn inquiry(&mut self) -> Result<(), Failure> {
        let packet = self.state.packet;
        let reply = match (packet[1] & 1 != 0, packet[2]) {
            (false, 0) => reports::inquiry(),
            (true, 0x00) => vec![0x05, 0x00, 0, 2, 0x00, 0x80],
            (true, 0x80) => {
                let mut page = vec![0x05, 0x80, 0, self.serial.len() as u8];
                page.extend(self.serial.bytes());
                page
            }
            _ => return Err(Failure(Sense::BAD_FIELD)),
        };
        self.reply(reply, self.u16_at(3).into())
    }

    /// Whether the sectors are all there. An empty drive goes before a wrong address.
    fn check_range(&self, lba: u32, count: u32) -> Result<(), Failure> {
        let sectors = self.sectors()?;
        match lba.checked_add(count) {
            Some(end) if end <= sectors => Ok(()),
            _ => Err(Failure(Sense::OUT_OF_RANGE)),
        }
    }

    fn read(&mut self, lba: u32, count: u32, form: Form) -> Result<(), Failure> {
        self.check_range(lba, count)?;
        self.state.power = 0xFF;
        let remaining = if form.bytes() == 0 { 0 } else { count };
        self.state.transfer = Transfer {
            lba,
            remaining,
            form,
        };
        self.go_on()
    }

    fn read_cd(&mut self, lba: u32, count: u32) -> Result<(), Failure> {
        let packet = self.state.packet;
        self.sectors()?;
        // What sector is expected: any, or one of mode 1; the others are not on a data disc.
        match packet[1] >> 2 & 7 {
            0 | 2 => {}
            _ => return Err(Failure(Sense::OTHER_MODE)),
        }
        // Bits for what a scratched sector has wrong, and sub-channels.
        if packet[9] & 0x06 != 0 || packet[10] & 0x07 != 0 {
            return Err(Failure(Sense::BAD_FIELD));
        }
        self.read(lba, count, Form::of_flags(packet[9]))
    }

    fn read_cd_msf(&mut self) -> Result<(), Failure> {
        let lba = |[minute, second, frame]: [u8; 3]| {
            let frames = (u32::from(minute) * 60 + u32::from(second)) * 75 + u32::from(frame);
            frames.checked_sub(LEAD_IN)
        };
        let [_, _, _, a, b, c, d, e, f, ..] = self.state.packet;
        match (lba([a, b, c]), lba([d, e, f])) {
            (Some(start), Some(end)) if start <= end => self.read_cd(start, end - start),
            _ => Err(Failure(Sense::OUT_OF_RANGE)),
        }
    }

    fn mode_sense(&mut self, allocated: usize, long: bool) -> Result<(), Failure> {
        let packet = self.state.packet;
        let (control, page) = (packet[2] >> 6, packet[2] & 0x3F);
        if control == 3 {
            return Err(Failure(Sense::NOT_SAVED));
        }
        let pages = reports::mode_pages(
            page,
            control,
            &reports::Modes {
                recovery: self.state.recovery,
                audio: self.state.audio,
                locked: self.state.locked,
            },
        );
        if pages.is_empty() {
            return Err(Failure(Sense::BAD_FIELD));
        }
        let medium = match (self.state.tray_open, self.sectors()) {
            (true, _) => 0x71,
            (_, Err(_)) => 0x70,
            (_, Ok(sectors)) if reports::is_dvd(sectors) => 0x00,
            _ => 0x01,
        };
        let mut reply = if long {
            let len = (pages.len() + 6) as u16;
            let [high, low] = len.to_be_bytes();
            vec![high, low, medium, 0, 0, 0, 0, 0]
        } else {
            vec![(pages.len() + 3) as u8, medium, 0, 0]
        };
        reply.extend(pages);
        self.reply(reply, allocated)
    }

    fn mode_select(&mut self, bytes: u16) -> Result<(), Failure> {
        // Pages are in the format of the standard, and none can be saved.
        if self.state.packet[1] & 0x11 != 0x10 {
            return Err(Failure(Sense::BAD_FIELD));
        }
        if bytes == 0 {
            self.complete();
            return Ok(());
        }
        self.receive(bytes)
    }

    /// All data of MODE SELECT is there.
    pub(super) fn received(&mut self) -> Result<(), Failure> {
        let data = std::mem::take(&mut self.state.buffer);
        self.state.position = 0;
        self.state.piece_end = 0;
        let short = Failure(Sense::BAD_PARAMETER_LENGTH);
        let (head, descriptors) = match (self.state.packet[0], &data[..]) {
            (MODE_SELECT_6, [_, _, _, len, ..]) => (4, usize::from(*len)),
            (MODE_SELECT_10, [_, _, _, _, _, _, high, low, ..]) => {
                (8, usize::from(u16::from_be_bytes([*high, *low])))
            }
            _ => return Err(short),
        };
        let Some(mut rest) = data.get(head + descriptors..) else {
            return Err(short);
        };
        let (mut recovery, mut audio) = (self.state.recovery, self.state.audio);
        while let [code, len, after @ ..] = rest {
            let Some(page) = after.get(..usize::from(*len)) else {
                return Err(short);
            };
            let set = |kept: &mut [u8]| {
                let bytes = page.len().min(kept.len());
                kept[..bytes].copy_from_slice(&page[..bytes]);
            };
            match code & 0x3F {
                reports::RECOVERY_PAGE => set(&mut recovery),
                reports::AUDIO_PAGE => set(&mut audio),
                // These say what the drive is: taken note of, and left as they are.
                0x0D | 0x1A | 0x2A => {}
                _ => return Err(Failure(Sense::BAD_PARAMETER)),
            }
            rest = &after[page.len()..];
        }
        (self.state.recovery, self.state.audio) = (recovery, audio);
        self.complete();
        Ok(())
    }

    fn start_stop(&mut self) -> Result<(), Failure> {
        let byte = self.state.packet[4];
        // A power condition, which has no more to say.
        if byte & 0xF0 != 0 {
            return Ok(());
        }
        match byte & 0x03 {
            0x02 if self.state.locked => return Err(Failure(Sense::LOCKED)),
            0x02 if !self.state.tray_open => self.open_tray(),
            0x03 => self.close_tray(),
            0x01 => {
                self.sectors()?;
            }
            _ => {}
        }
        Ok(())
    }

    fn read_toc(&mut self) -> Result<(), Failure> {
        let packet = self.state.packet;
        let sectors = self.sectors()?;
        // SFF-8020i had the format elsewhere.
        let format = match packet[2] & 0x0F {
            0 => packet[9] >> 6,
            format => format,
        };
        let reply = reports::toc(format, packet[6], packet[1] & 0x02 != 0, sectors);
        let reply = reply.ok_or(Failure(Sense::BAD_FIELD))?;
        self.reply(reply, self.u16_at(7).into())
    }

    fn read_sub_channel(&mut self) -> Result<(), Failure> {
        let packet = self.state.packet;
        self.sectors()?;
        let wants_q = packet[2] & 0x40 != 0;
        let reply = reports::sub_channel(wants_q, packet[3]);
        let reply = reply.ok_or(Failure(Sense::BAD_FIELD))?;
        self.reply(reply, self.u16_at(7).into())
    }

    fn get_configuration(&mut self) -> Result<(), Failure> {
        let which = self.state.packet[1] & 0x03;
        if which == 3 {
            return Err(Failure(Sense::BAD_FIELD));
        }
        let reply = reports::configuration(which, self.u16_at(2), self.sectors().ok());
        self.reply(reply, self.u16_at(7).into())
    }

    fn get_event_status(&mut self) -> Result<(), Failure> {
        let packet = self.state.packet;
        // It has no queue in which a command could wait for an event.
        if packet[1] & 0x01 == 0 {
            return Err(Failure(Sense::BAD_FIELD));
        }
        const MEDIA: u8 = 4;
        let reply = if packet[4] & 1 << MEDIA != 0 {
            let event = std::mem::replace(&mut self.state.event, Event::None);
            let open = u8::from(self.state.tray_open);
            let present = u8::from(self.sectors().is_ok()) << 1;
            vec![0, 6, MEDIA, 1 << MEDIA, event as u8, open | present, 0, 0]
        } else {
            // No event of these classes.
            vec![0, 2, 0x80, 1 << MEDIA]
        };
        self.reply(reply, self.u16_at(7).into())
    }

    fn read_track_information(&mut self) -> Result<(), Failure> {
        let sectors = self.sectors()?;
        let number = self.u32_at(2);
        let found = match self.state.packet[1] & 0x03 {
            0 => number < sectors,
            1 | 2 => number == 1,
            _ => false,
        };
        if !found {
            return Err(Failure(Sense::BAD_FIELD));
        }
        self.reply(reports::track_information(sectors), self.u16_at(7).into())
    }

    fn read_dvd_structure(&mut self) -> Result<(), Failure> {
        let packet = self.state.packet;
        let sectors = self.sectors()?;
        if !reports::is_dvd(sectors) {
            return Err(Failure(Sense::OTHER_FORMAT));
        }
        let reply = reports::dvd_structure(packet[7], packet[6], sectors);
        let reply = reply.ok_or(Failure(Sense::BAD_FIELD))?;
        self.reply(reply, self.u16_at(8).into())
    }
}
