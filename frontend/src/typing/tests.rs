//! Tests of pacing what is typed.

use super::*;

#[test]
fn escapes_and_key_names_are_parsed() {
    let pieces = parse(r"a\n\e<f1><CTRL-c>\x41\\<lt>1 < 2").unwrap();
    let ctrl_c = Stroke {
        ctrl: true,
        ..Stroke::plain(Key::Escape)
    };
    let expected = [
        Piece::Char('a'),
        Piece::Char('\n'),
        Piece::Char('\x1B'),
        Piece::Key(Stroke::plain(Key::F1)),
        Piece::Chord('c', ctrl_c),
        Piece::Char('A'),
        Piece::Char('\\'),
        Piece::Char('<'),
        Piece::Char('1'),
        Piece::Char(' '),
        Piece::Char('<'),
        Piece::Char(' '),
        Piece::Char('2'),
    ];
    assert_eq!(pieces, expected);
}

#[test]
fn modifiers_combine() {
    let Piece::Key(stroke) = parse("<ctrl-alt-delete>").unwrap()[0] else {
        panic!("a key");
    };
    assert!(stroke.ctrl && stroke.alt && !stroke.shift);
    assert_eq!(stroke.key, Key::Delete);
    let Piece::Chord(c, stroke) = parse("<alt-->").unwrap()[0] else {
        panic!("a character's key");
    };
    assert_eq!((c, stroke.alt), ('-', true));
}

#[test]
fn the_mouse_and_the_buttons_of_the_case_are_named() {
    let pieces = parse(
        "<power><RESET><mouse 10 -5><Mouse-Down Left><mouse-up middle><click right><wheel -1>",
    );
    let expected = [
        Act::Power,
        Act::Reset,
        Act::Move(10, -5),
        Act::Press(1),
        Act::Release(4),
        Act::Click(2),
        Act::Wheel(-1),
    ];
    assert_eq!(pieces.unwrap(), expected.map(Piece::Act));
    let to = parse("<mouse-to 0 65535>").unwrap();
    assert_eq!(to, [Piece::Act(Act::MoveTo(0, 65535))]);
    assert!(
        parse("<mouse-to -1 5>")
            .unwrap_err()
            .contains("a dot of the screen")
    );
    assert_eq!(
        [share_of(0, 640), share_of(639, 640), share_of(5, 1)],
        [0, 65535, 65535]
    );
    assert_eq!(parse("<left>").unwrap().len(), 1, "a key");
    let text = "cat <a >b; a < 2 > 1; x <in 2>&1 <b c> <1 2>";
    assert_eq!(parse(text).unwrap().len(), text.len(), "text as any other");
}

#[test]
fn drives_are_filled_and_emptied() {
    let change = |drive: &str, medium: Option<&str>| {
        Piece::Act(Act::Change(Change {
            drive: DriveName::parse(drive).unwrap(),
            medium: medium.map(Into::into),
        }))
    };
    let pieces = parse("<insert cdrom2 My Disc, 2.ISO><Eject CDROM><insert><insert floppy a>");
    let expected = [
        change("cdrom2", Some("My Disc, 2.ISO")),
        change("cdrom", None),
        Piece::Key(Stroke::plain(Key::Insert)),
        change("floppy", Some("a")),
    ];
    assert_eq!(pieces.unwrap(), expected);
}

#[test]
fn long_ways_are_split_into_packets_along_a_straight_line() {
    let way = |right, down| packets(right, down).collect::<Vec<_>>();
    assert_eq!(way(0, 0), []);
    assert_eq!(way(127, -127), [(127, -127)]);
    assert_eq!(way(-256, 3), [(-85, 1), (-85, 1), (-86, 1)]);
    let all = packets(-10_000, 9_999).fold((0, 0), |(x, y), (dx, dy)| (x + dx, y + dy));
    assert_eq!(all, (-10_000, 9_999));
}

#[test]
fn a_button_stays_down_while_the_mouse_is_dragged() {
    let mut typist = Typist::new(&LAYOUTS[0]);
    typist.type_keys(&parse("<mouse-down left><mouse 1 2><mouse-up left><wheel 2>").unwrap());
    let motions = typist.keys.steps.iter().map(|step| match &step.what {
        &What::Motion(Motion {
            dx,
            dy,
            dz,
            buttons,
        }) => [dx, dy, dz, buttons.into()],
        other => panic!("{other:?}"),
    });
    let expected = [
        [0, 0, 0, 1],
        [1, -2, 0, 1],
        [0, 0, 0, 0],
        [0, 0, 1, 0],
        [0, 0, 1, 0],
    ];
    assert_eq!(motions.collect::<Vec<_>>(), expected);
}

#[test]
fn mistakes_are_named() {
    for (bad, says) in [
        ("<mouse 1>", "<mouse DX DY>"),
        ("<mouse 1 x>", "<mouse DX DY>"),
        ("<mouse 10001 0>", "at most 10000"),
        ("<wheel up>", "<wheel N>"),
        ("<click>", "<click BUTTON>"),
        ("<click top>", "left, right or middle"),
        ("<muose 1 2>", "<mouse DX DY>"),
        ("<clik left>", "<click BUTTON>"),
        ("<powre>", "<power>"),
        ("<eject>", "<eject DRIVE>"),
        ("<eject disk>", "cdrom, cdrom2, floppy"),
        ("<insert cdrom>", "<insert DRIVE FILE>"),
    ] {
        let said = parse(bad).unwrap_err();
        assert!(said.contains(bad) && said.contains(says), "{said}");
    }
    for bad in ["\\", "\\q", "\\xZZ", "<nokey>", "<ctrl-nokey>"] {
        assert!(parse(bad).is_err(), "{bad}");
    }
}

#[test]
fn a_serial_line_gets_the_bytes_of_keys() {
    for (text, bytes) in [
        ("<ctrl-c>", &b"\x03"[..]),
        ("<alt-x>", b"\x1Bx"),
        ("<shift-a><a>", b"Aa"),
        ("<up>\\n", b"\x1B[A\r"),
        ("<ctrl-[>", b"\x1B"),
    ] {
        let pieces = parse(text).unwrap();
        let said: Vec<u8> = pieces.iter().flat_map(serial_bytes).collect();
        assert_eq!(said, bytes, "{text}");
    }
}

#[test]
fn a_keyboard_of_another_country_has_its_keys_elsewhere() {
    let mut typist = Typist::new(Layout::named("de").unwrap());
    typist.type_keys(&parse("<ctrl-z>@").unwrap());
    let keys = typist.keys.steps.iter().map(|step| match step.what {
        What::Key { key, pressed, .. } => (key, pressed),
        _ => panic!("a key"),
    });
    let expected = [Key::ControlLeft, Key::Y, Key::AltRight, Key::Q]
        .chunks(2)
        .flat_map(|pair| {
            [
                (pair[0], true),
                (pair[1], true),
                (pair[1], false),
                (pair[0], false),
            ]
        })
        .collect::<Vec<_>>();
    assert_eq!(keys.collect::<Vec<_>>(), expected);
}

fn bios(head: u16, tail: u16) -> Bios {
    Bios {
        head,
        tail,
        start: 0x1E,
        end: 0x3E,
        protected: false,
    }
}

#[test]
fn the_bios_buffer_is_full_with_two_words_left() {
    assert!(!bios(0x1E, 0x1E).is_full());
    assert!(!bios(0x1E, 0x1E + 26).is_full());
    assert!(bios(0x1E, 0x1E + 28).is_full());
    assert!(bios(0x22, 0x1E).is_full());
    assert!(!bios(0x26, 0x1E).is_full());
    // What is no such buffer is never full.
    for (head, tail) in [(0, 28), (0x1F, 0x3D), (0xFFFE, 0xFFFC), (0x1E, 0x3E)] {
        assert!(!bios(head, tail).is_full(), "{head:x} {tail:x}");
    }
    let backwards = Bios {
        start: 0x3E,
        end: 0x1E,
        ..bios(0x1E, 0x3A)
    };
    assert!(!backwards.is_full());
    assert!(!Bios::default().is_full());
}

#[test]
fn a_full_buffer_is_waited_for_unless_nobody_reads_it() {
    const HOUR_NS: u64 = 3_600_000_000_000;
    let mut buffer = BiosBuffer::default();
    assert!(buffer.has_room(&bios(0x1E, 0x20), 0));
    assert!(buffer.has_room(&bios(0x20, 0x20), 1));
    let full = bios(0x20, 0x3C);
    assert!(!buffer.has_room(&full, 2));
    assert!(!buffer.has_room(&full, HOUR_NS), "a reader may be slow");
    let stale = Bios {
        protected: true,
        ..full
    };
    assert!(!buffer.has_room(&stale, HOUR_NS));
    assert!(buffer.has_room(&stale, HOUR_NS + PROTECTED_UNREAD_NS));

    let mut buffer = BiosBuffer::default();
    let full = bios(0x1E, 0x3A);
    assert!(!buffer.has_room(&full, 0));
    assert!(!buffer.has_room(&full, UNREAD_NS - 1));
    assert!(buffer.has_room(&full, UNREAD_NS));
    assert!(buffer.has_room(&bios(0x1E, 0x3C), UNREAD_NS + 1));
    let read = bios(0x20, 0x3C);
    assert!(
        !buffer.has_room(&read, UNREAD_NS + 2),
        "somebody reads it after all"
    );
}

#[test]
fn serial_lines_carry_what_a_terminal_sends() {
    let bytes = |text| -> Vec<u8> {
        let pieces = parse(text).unwrap();
        pieces.iter().flat_map(serial_bytes).collect()
    };
    assert_eq!(bytes("ls\n"), b"ls\r");
    assert_eq!(bytes("<ctrl-c>"), b"\x03");
    assert_eq!(bytes("<up>\\e"), b"\x1B[A\x1B");
    assert_eq!(bytes("\\xff"), b"\xFF");
}
