//! The screen that a multiboot kernel asks for, and the one that it gets.
//!
//! Sources: Multiboot 0.6.96 §3.1.4 and §3.3; Multiboot 2.0 §3.1.10 and §3.6.12. The machine's VGA
//! has two screens that these can describe: text, and the 256 colours of mode 13h. The planar modes
//! are no linear framebuffer.

use super::error::LoadError;

/// What a header asks for; 0 is no preference.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Wish {
    pub width: u32,
    pub height: u32,
    /// Bits a pixel.
    pub depth: u32,
}

/// What the kernel gets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Screen {
    /// 80 by 25 characters.
    #[default]
    Text,
    /// 320 by 200 pixels of 8 bits, through a palette.
    Mode13,
}

impl Screen {
    /// The screen that a kernel gets that asks for pixels, if the machine has it.
    pub fn of(wish: Wish) -> Option<Self> {
        match (wish.width, wish.height, wish.depth) {
            // No preference at all: the screen that is there.
            (0, 0, 0) => Some(Self::Text),
            (320, 200, 0 | 8) => Some(Self::Mode13),
            _ => None,
        }
    }

    /// The BIOS mode to set before the kernel's entry.
    pub fn bios_mode(self) -> Option<u8> {
        match self {
            Self::Text => None,
            Self::Mode13 => Some(0x13),
        }
    }

    /// Address (64 bits), pitch, width, height, and then bits a pixel or cell and the type: 0
    /// palette, 2 text.
    pub fn framebuffer(self) -> [u32; 6] {
        match self {
            Self::Text => [0xB_8000, 0, 160, 80, 25, 16 | 2 << 8],
            Self::Mode13 => [0xA_0000, 0, 320, 320, 200, 8],
        }
    }

    /// How many colours its palette has.
    pub fn colours(self) -> u16 {
        match self {
            Self::Text => 0,
            Self::Mode13 => 256,
        }
    }
}

impl Wish {
    /// For a user whose kernel gets text though it would like pixels.
    pub fn note(self) -> String {
        format!(
            "the kernel asks for {self}, which this machine does not have; it starts in text, 80x25, and is told so"
        )
    }

    /// For a kernel that insists.
    pub fn refusal(self, what: &'static str) -> LoadError {
        LoadError::Unsupported {
            what,
            why: format!(
                "its header requires {self}, and this machine has text and 320x200x8; ask for one of those, or make \
                 the tag optional"
            ),
        }
    }
}

impl std::fmt::Display for Wish {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let part = |value: u32| match value {
            0 => "any".to_owned(),
            value => value.to_string(),
        };
        let (width, height) = (part(self.width), part(self.height));
        write!(f, "a framebuffer of {width}x{height}x{}", part(self.depth))
    }
}
