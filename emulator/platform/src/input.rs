//! What comes to a device from outside of its registers.

use serde::{Deserialize, Serialize};

use crate::bus::DeviceId;
use crate::line::IrqLine;

/// An input to a device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Input {
    /// A wire that the board connected to this device changed its level.
    Line {
        /// The wire.
        line: IrqLine,
        /// Its new level.
        level: bool,
    },
    /// A key of the keyboard went down or up.
    Key {
        /// The key, by its place on the keyboard.
        key: Key,
        /// Down.
        pressed: bool,
    },
    /// The mouse moved, in its own counts, or a button changed.
    Mouse {
        /// To the right.
        dx: i32,
        /// Away from the user: up on a screen.
        dy: i32,
        /// Notches of the wheel, towards the user: down on a screen.
        dz: i32,
        /// What is down now: bit 0 left, 1 right, 2 middle.
        buttons: u8,
    },
    /// Bytes arrived at serial port `port` (0 = COM1).
    Serial {
        /// Which port.
        port: u8,
        /// What arrived, in order.
        bytes: Vec<u8>,
    },
    /// A device asks the ISA DMA controller to move `data` to memory, or `length` bytes from it.
    DmaRequest {
        /// Who asks, and gets the answer.
        from: DeviceId,
        /// The DMA channel, 0 to 7.
        channel: u8,
        /// The way it goes.
        direction: DmaDirection,
        /// For `ToMemory`: the bytes.
        data: Vec<u8>,
        /// For `FromMemory`: how many bytes the device can take.
        length: u32,
    },
    /// The ISA DMA controller's answer to a `DmaRequest`, sent to the device that asked.
    DmaDone {
        /// The DMA channel.
        channel: u8,
        /// For `FromMemory`: the bytes.
        data: Vec<u8>,
        /// How many bytes were moved.
        transferred: u32,
        /// The channel reached its terminal count.
        terminal_count: bool,
    },
    /// A processor has served the level-triggered interrupt `vector`: for an I/O APIC.
    EndOfInterrupt {
        /// The vector.
        vector: u8,
    },
    /// Somebody presses the case's power button.
    PowerButton,
    /// The display is asked to `present` a frame. Must not change the device's state.
    Render,
    /// As [`Render`](Self::Render), but only the characters of a text mode are asked for: the frame has no pixels.
    ReadText,
    /// As [`Render`](Self::Render), but no frame is presented while the picture is as it was when it was last asked for
    /// this way: for a display that keeps what it shows.
    RenderChanged,
    /// A frame arrived at a network card, without its checksum.
    Frame(Vec<u8>),
    /// A pointer is at a place of the screen, its wheel turned, or a button changed.
    Pointer(Place),
}

/// Where a pointer is that knows that by itself, as a tablet does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    /// From the screen's left edge, 0, to its right one, 65535.
    pub x: u16,
    /// From the screen's upper edge, 0, to its lower one, 65535.
    pub y: u16,
    /// Notches of the wheel, towards the user: down on a screen.
    pub dz: i32,
    /// What is down now: bit 0 left, 1 right, 2 middle.
    pub buttons: u8,
}

/// What a mouse does at a time, or since it was last asked: see [`Input::Mouse`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Motion {
    /// Counts to the right.
    pub dx: i32,
    /// Counts away from the user: up on a screen.
    pub dy: i32,
    /// Notches of the wheel, towards the user.
    pub dz: i32,
    /// What is down now: bit 0 left, 1 right, 2 middle.
    pub buttons: u8,
}

impl From<Motion> for Input {
    fn from(motion: Motion) -> Self {
        let Motion {
            dx,
            dy,
            dz,
            buttons,
        } = motion;
        Self::Mouse {
            dx,
            dy,
            dz,
            buttons,
        }
    }
}

/// Which way a DMA transfer goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum DmaDirection {
    /// Device to memory.
    ToMemory,
    /// Memory to device.
    FromMemory,
}

/// A key by its place on a US keyboard; the names are those of the W3C `KeyboardEvent.code` values.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[allow(missing_docs)]
#[rustfmt::skip]
pub enum Key {
    A, B, C, D, E, F, G, H, I, J, K, L, M, N, O, P, Q, R, S, T, U, V, W, X, Y, Z,
    Digit0, Digit1, Digit2, Digit3, Digit4, Digit5, Digit6, Digit7, Digit8, Digit9,
    Escape, Backquote, Minus, Equal, Backspace, Tab, BracketLeft, BracketRight, Backslash, Enter,
    CapsLock, Semicolon, Quote, ShiftLeft, IntlBackslash, Comma, Period, Slash, ShiftRight,
    ControlLeft, MetaLeft, AltLeft, Space, AltRight, MetaRight, ContextMenu, ControlRight,
    F1, F2, F3, F4, F5, F6, F7, F8, F9, F10, F11, F12,
    PrintScreen, ScrollLock, Pause, Insert, Delete, Home, End, PageUp, PageDown,
    ArrowUp, ArrowDown, ArrowLeft, ArrowRight,
    NumLock, NumpadDivide, NumpadMultiply, NumpadSubtract, NumpadAdd, NumpadEnter, NumpadDecimal,
    Numpad0, Numpad1, Numpad2, Numpad3, Numpad4, Numpad5, Numpad6, Numpad7, Numpad8, Numpad9,
}
