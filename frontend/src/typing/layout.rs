//! Keyboards of other countries: which keys make a character.
//!
//! A layout is four rows of characters, for each key one: what it makes alone, with Shift, with
//! AltGr and with both (of those two, what is printed on the keys). A dead key makes nothing by
//! itself: the next letter gets its accent, and a space after it makes the accent alone.

use platform::Key;

use super::Stroke;

/// The keys of the rows, from the upper left one on.
#[rustfmt::skip]
const KEYS: [Key; 48] = [
    Key::Backquote, Key::Digit1, Key::Digit2, Key::Digit3, Key::Digit4, Key::Digit5, Key::Digit6,
    Key::Digit7, Key::Digit8, Key::Digit9, Key::Digit0, Key::Minus, Key::Equal,
    Key::Q, Key::W, Key::E, Key::R, Key::T, Key::Y, Key::U, Key::I, Key::O, Key::P,
    Key::BracketLeft, Key::BracketRight,
    Key::A, Key::S, Key::D, Key::F, Key::G, Key::H, Key::J, Key::K, Key::L,
    Key::Semicolon, Key::Quote, Key::Backslash,
    Key::IntlBackslash, Key::Z, Key::X, Key::C, Key::V, Key::B, Key::N, Key::M,
    Key::Comma, Key::Period, Key::Slash,
];

/// A keyboard.
#[derive(Debug, PartialEq, Eq)]
pub struct Layout {
    /// What options call it; the first name is the usual one.
    names: &'static [&'static str],
    /// What keys make alone, with Shift, with AltGr, and with both; a blank is nothing.
    rows: [&'static str; 4],
    /// The accents in each row that are dead keys.
    dead: [&'static str; 4],
}

/// All of them; the first one is the usual one.
#[rustfmt::skip]
pub static LAYOUTS: [Layout; 15] = [
    Layout {
        names: &["us", "en-us"],
        rows: [r##"`1234567890-=qwertyuiop[]asdfghjkl;'\ zxcvbnm,./"##,
               r##"~!@#$%^&*()_+QWERTYUIOP{}ASDFGHJKL:"| ZXCVBNM<>?"##,
               "",
               ""],
        dead: ["", "", "", ""],
    },
    Layout {
        names: &["uk", "gb", "en-gb"],
        rows: [r##"`1234567890-=qwertyuiop[]asdfghjkl;'#\zxcvbnm,./"##,
               r##"¬!"£$%^&*()_+QWERTYUIOP{}ASDFGHJKL:@~|ZXCVBNM<>?"##,
               "    €",
               ""],
        dead: ["", "", "", ""],
    },
    Layout {
        names: &["de"],
        rows: ["^1234567890ß´qwertzuiopü+asdfghjklöä#<yxcvbnm,.-",
               r##"°!"§$%&/()=?`QWERTZUIOPÜ*ASDFGHJKLÖÄ'>YXCVBNM;:_"##,
               r##"  ²³   {[]}\ @ €        ~            |      µ"##,
               ""],
        dead: ["^´", "`", "", ""],
    },
    Layout {
        names: &["fr"],
        rows: [r##"²&é"'(-è_çà)=azertyuiop^$qsdfghjklmù*<wxcvbn,;:!"##,
               " 1234567890°+AZERTYUIOP¨£QSDFGHJKLM%µ>WXCVBN?./§",
               r##"  ~#{[|`\^@]}  €        ¤"##,
               ""],
        dead: ["^", "¨", "", ""],
    },
    Layout {
        names: &["es"],
        rows: ["º1234567890'¡qwertyuiop`+asdfghjklñ´ç<zxcvbnm,.-",
               r##"ª!"·$%&/()=?¿QWERTYUIOP^*ASDFGHJKLÑ¨Ç>ZXCVBNM;:_"##,
               r##"\|@#~ ¬        €       []          {}"##,
               ""],
        dead: ["`´", "^¨", "", ""],
    },
    Layout {
        names: &["it"],
        rows: [r##"\1234567890'ìqwertyuiopè+asdfghjklòàù<zxcvbnm,.-"##,
               r##"|!"£$%&/()=?^QWERTYUIOPé*ASDFGHJKLç°§>ZXCVBNM;:_"##,
               "           `~  €       []         @#",
               "                       {}"],
        dead: ["", "", "", ""],
    },
    Layout {
        names: &["se", "sv", "fi"],
        rows: ["§1234567890+´qwertyuiopå¨asdfghjklöä'<zxcvbnm,.-",
               r##"½!"#¤%&/()=?`QWERTYUIOPÅ^ASDFGHJKLÖÄ*>ZXCVBNM;:_"##,
               r##"  @£$€ {[]}\   €        ~            |      µ"##,
               ""],
        dead: ["´¨", "`^", "~", ""],
    },
    Layout {
        names: &["no"],
        rows: [r##"|1234567890+\qwertyuiopå¨asdfghjkløæ'<zxcvbnm,.-"##,
               r##"§!"#¤%&/()=?`QWERTYUIOPÅ^ASDFGHJKLØÆ*>ZXCVBNM;:_"##,
               "  @£$  {[]} ´  €        ~                   µ",
               ""],
        dead: ["¨", "`^", "´~", ""],
    },
    Layout {
        names: &["dk", "da"],
        rows: ["½1234567890+´qwertyuiopå¨asdfghjklæø'<zxcvbnm,.-",
               r##"§!"#¤%&/()=?`QWERTYUIOPÅ^ASDFGHJKLÆØ*>ZXCVBNM;:_"##,
               r##"  @£$  {[]} |  €        ~            \      µ"##,
               ""],
        dead: ["´¨", "`^", "~", ""],
    },
    Layout {
        names: &["pt"],
        rows: [r##"\1234567890'«qwertyuiop+´asdfghjklçº~<zxcvbnm,.-"##,
               r##"|!"#$%&/()=?»QWERTYUIOP*`ASDFGHJKLÇª^>ZXCVBNM;:_"##,
               "  @£§  {[]}    €",
               ""],
        dead: ["´~", "`^", "", ""],
    },
    Layout {
        names: &["br", "pt-br"],
        rows: [r##"'1234567890-=qwertyuiop´[asdfghjklç~]\zxcvbnm,.;"##,
               r##""!@#$%¨&*()_+QWERTYUIOP`{ASDFGHJKLÇ^}|ZXCVBNM<>:"##,
               " ¹²³£¢¬     §/?         ª           º",
               ""],
        dead: ["´~", "¨`^", "", ""],
    },
    Layout {
        names: &["ch", "de-ch"],
        rows: ["§1234567890'^qwertzuiopü¨asdfghjklöä$<yxcvbnm,.-",
               r##"°+"*ç%&/()=?`QWERTZUIOPè!ASDFGHJKLéà£>YXCVBNM;:_"##,
               r##" ¦@#  ¬|¢  ´~  €       []          {}\"##,
               ""],
        dead: ["^¨", "`", "´~", ""],
    },
    Layout {
        names: &["be", "fr-be"],
        rows: [r##"²&é"'(§è!çà)-azertyuiop^$qsdfghjklmùµ<wxcvbn,;:="##,
               "³1234567890°_AZERTYUIOP¨*QSDFGHJKLM%£>WXCVBN?./+",
               r##" |@#  ^  {}    €       []          ´`\         ~"##,
               ""],
        dead: ["^", "¨", "´`~", ""],
    },
    Layout {
        names: &["latam", "es-latam"],
        rows: ["|1234567890'¿qwertyuiop´+asdfghjklñ{}<zxcvbnm,.-",
               r##"°!"#$%&/()=?¡QWERTYUIOP¨*ASDFGHJKLÑ[]>ZXCVBNM;:_"##,
               r##"¬          \ @          ~          ^`"##,
               ""],
        dead: ["´", "¨", "^`", ""],
    },
    Layout {
        names: &["pl"],
        rows: [r##"`1234567890-=qwertyuiop[]asdfghjkl;'\ zxcvbnm,./"##,
               r##"~!@#$%^&*()_+QWERTYUIOP{}ASDFGHJKL:"| ZXCVBNM<>?"##,
               "               ę   € ó   ąś      ł    żźć  ń",
               "               Ę     Ó   ĄŚ      Ł    ŻŹĆ  Ń    "],
        dead: ["", "", "", ""],
    },
];

/// The letters that an accent makes: before, and after.
#[rustfmt::skip]
const ACCENTS: [(char, &str, &str); 5] = [
    ('´', "aeiouyAEIOUYcCnN", "áéíóúýÁÉÍÓÚÝćĆńŃ"),
    ('`', "aeiouAEIOU",       "àèìòùÀÈÌÒÙ"),
    ('^', "aeiouAEIOU",       "âêîôûÂÊÎÔÛ"),
    ('¨', "aeiouyAEIOU",      "äëïöüÿÄËÏÖÜ"),
    ('~', "anoANO",           "ãñõÃÑÕ"),
];

impl Layout {
    /// The one that options call so.
    pub fn named(name: &str) -> Option<&'static Self> {
        LAYOUTS.iter().find(|layout| layout.names.contains(&name))
    }

    /// Its usual name.
    pub fn name(&self) -> &'static str {
        self.names[0]
    }

    /// The strokes that make `c`, one after the other; none for what the keyboard does not have.
    pub fn strokes(&self, c: char) -> Vec<Stroke> {
        let with = |key, ctrl| Stroke {
            ctrl,
            ..Stroke::plain(key)
        };
        match c {
            ' ' => vec![with(Key::Space, false)],
            '\n' | '\r' => vec![with(Key::Enter, false)],
            '\t' => vec![with(Key::Tab, false)],
            '\x08' | '\x7F' => vec![with(Key::Backspace, false)],
            '\x1B' => vec![with(Key::Escape, false)],
            '\x01'..='\x1A' => {
                let letter = char::from(b'a' + c as u8 - 1);
                let stroke = self.key(letter, false);
                stroke
                    .map(|stroke| with(stroke.key, true))
                    .into_iter()
                    .collect()
            }
            c => match self.key(c, false) {
                Some(stroke) => vec![stroke],
                None => self.by_dead_key(c),
            },
        }
    }

    /// The stroke whose key makes `c`, or is dead for it.
    fn key(&self, c: char, dead: bool) -> Option<Stroke> {
        if c == ' ' {
            return None;
        }
        (0..4).find_map(|row| {
            let at = self.rows[row].chars().position(|made| made == c)?;
            let is_dead = self.dead[row].contains(c);
            (is_dead == dead).then(|| Stroke {
                shift: row & 1 != 0,
                altgr: row & 2 != 0,
                ..Stroke::plain(KEYS[at])
            })
        })
    }

    /// A dead key and the letter, or a space.
    fn by_dead_key(&self, c: char) -> Vec<Stroke> {
        let two = ACCENTS.into_iter().find_map(|(accent, before, after)| {
            let first = self.key(accent, true)?;
            if accent == c {
                return Some(vec![first, Stroke::plain(Key::Space)]);
            }
            let at = after.chars().position(|made| made == c)?;
            let second = self.key(before.chars().nth(at)?, false)?;
            Some(vec![first, second])
        });
        two.unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As `shift-1`, `altgr-q`.
    fn told(layout: &str, c: char) -> String {
        let strokes = Layout::named(layout).unwrap().strokes(c);
        let words = strokes.iter().map(|stroke| {
            let held = [
                (stroke.ctrl, "ctrl-"),
                (stroke.altgr, "altgr-"),
                (stroke.shift, "shift-"),
            ];
            let held = held.iter().filter(|(held, _)| *held).map(|(_, name)| *name);
            format!("{}{:?}", held.collect::<String>(), stroke.key)
        });
        words.collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn each_row_has_a_character_for_each_key_and_none_twice() {
        for layout in &LAYOUTS {
            for (row, dead) in layout.rows.iter().zip(layout.dead) {
                let count = row.chars().count();
                assert!(count <= 48, "{}: {row}: {count}", layout.name());
                assert!(dead.chars().all(|c| row.contains(c)), "{}", layout.name());
            }
            assert_eq!(layout.rows[0].chars().count(), 48, "{}", layout.name());
            assert_eq!(layout.rows[1].chars().count(), 48, "{}", layout.name());
            assert_eq!(Layout::named(layout.name()), Some(layout));
        }
    }

    #[test]
    fn every_keyboard_writes_what_computers_are_told() {
        for layout in &LAYOUTS {
            let missing: String = ('\x01'..='\x7E')
                .filter(|&c| c as u8 >= 0x20 || (1..=26).contains(&(c as u8)))
                .filter(|&c| layout.strokes(c).is_empty())
                .collect();
            assert_eq!(missing, "", "{}", layout.name());
        }
    }

    #[test]
    fn characters_are_where_the_keys_say() {
        for (layout, c, keys) in [
            ("us", '"', "shift-Quote"),
            ("uk", '"', "shift-Digit2"),
            ("gb", '\\', "IntlBackslash"),
            ("de", 'z', "Y"),
            ("de", 'ß', "Minus"),
            ("de", '@', "altgr-Q"),
            ("de", '|', "altgr-IntlBackslash"),
            ("de", '^', "Backquote Space"),
            ("de", 'é', "Equal E"),
            ("de", '\x1A', "ctrl-Y"),
            ("fr", '1', "shift-Digit1"),
            ("fr", 'M', "shift-Semicolon"),
            ("fr", 'ê', "BracketLeft E"),
            ("fr", 'Ï', "shift-BracketLeft shift-I"),
            ("fr", '^', "altgr-Digit9"),
            ("es", 'ñ', "Semicolon"),
            ("es", 'í', "Quote I"),
            ("it", '{', "altgr-shift-BracketLeft"),
            ("sv", '~', "altgr-BracketRight Space"),
            ("us", 'ß', ""),
            ("pl", 'ł', "altgr-L"),
        ] {
            assert_eq!(told(layout, c), keys, "{layout} {c}");
        }
    }
}
