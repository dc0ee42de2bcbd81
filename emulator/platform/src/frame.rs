//! What a display shows.

/// One picture of the display.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Frame {
    /// Pixels in a row.
    pub width: usize,
    /// Rows.
    pub height: usize,
    /// `width * height` pixels, 0x00RRGGBB, row by row.
    pub pixels: Vec<u32>,
    /// A name for the mode, such as `text 80x25` or `graphics 320x200x256`.
    pub mode: String,
    /// The cells, when the display is in a text mode.
    pub text: Option<TextScreen>,
}

/// The cells of a text mode.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TextScreen {
    /// Cells in a row.
    pub columns: usize,
    /// Rows.
    pub rows: usize,
    /// Character code (code page 437) and attribute of each cell, row by row.
    pub cells: Vec<(u8, u8)>,
    /// The colours of the sixteen attributes, 0x00RRGGBB, as the palette and the DAC give them.
    pub palette: [u32; 16],
    /// Bit 7 of an attribute belongs to the background's colour, rather than to make the character blink.
    pub bright_backgrounds: bool,
    /// Column and row of the cursor, when it is shown.
    pub cursor: Option<(usize, usize)>,
}
