//! Screens and serial terminals over WebSockets.
//!
//! A screen is the machine's own server of the remote framebuffer protocol, with each message as it comes; who may only
//! look has those messages left out that do something. A serial terminal is emulated here: what the
//! guest writes becomes rows of text with attributes, never markup and never anything that the
//! browser would obey.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::extract::ws::{Message, WebSocket, WebSocketUpgrade};
use axum::extract::{Path, Request, State};
use axum::response::Response;
use axum::{Extension, RequestExt};
use futures_util::{SinkExt, StreamExt};
use manager::Machine;
use serde_json::{Value, json};
use tokio::sync::mpsc;

use crate::api::live_machine;
use crate::guard::Role;
use crate::{Refused, Shared, on_thread};

/// The most bytes in a message of a browser.
const MOST_MESSAGE: usize = 64 << 10;
/// The terminal's size, and how many rows that went are kept.
const ROWS: u16 = 30;
const COLUMNS: u16 = 100;
const KEPT: usize = 2000;
/// How often a terminal that changes is sent.
const FRAME: Duration = Duration::from_millis(40);

type Answer = std::result::Result<Response, Refused>;

/// `GET /machines/NAME/screen`.
pub(crate) async fn screen(
    State(shared): State<Shared>,
    Path(name): Path<String>,
    Extension(role): Extension<Role>,
    upgrade: WebSocketUpgrade,
) -> Answer {
    let machine = on_thread(move || live_machine(&shared.home, &name)).await?;
    let upgrade = upgrade.max_message_size(MOST_MESSAGE).protocols(["binary"]);
    Ok(upgrade.on_upgrade(move |socket| join_screen(socket, machine, role)))
}

async fn join_screen(socket: WebSocket, machine: Machine, role: Role) {
    let connected =
        tokio::task::spawn_blocking(move || host::local::connect(&machine.screen_path())).await;
    let Ok(Ok(stream)) = connected else { return };
    let (Ok(mut reader), Ok(mut writer)) = (stream.try_clone(), stream.try_clone()) else {
        return;
    };
    let (mut to_browser, mut from_browser) = socket.split();
    let (sender, mut pieces) = mpsc::channel::<Vec<u8>>(16);
    // Streams of the host are read and written on threads of their own.
    tokio::task::spawn_blocking(move || {
        let mut piece = vec![0; 64 << 10];
        while let Ok(read) = reader.read(&mut piece) {
            if read == 0 || sender.blocking_send(piece[..read].to_vec()).is_err() {
                break;
            }
        }
    });
    let (to_machine, mut said) = mpsc::channel::<Vec<u8>>(64);
    tokio::task::spawn_blocking(move || {
        let mut filter = Filter::new(role);
        while let Some(bytes) = said.blocking_recv() {
            if writer.write_all(&filter.pass(&bytes)).is_err() {
                break;
            }
        }
        let _ = writer.shutdown(Shutdown::Both);
    });
    loop {
        tokio::select! {
            piece = pieces.recv() => {
                let Some(piece) = piece else { break };
                if to_browser.send(Message::Binary(piece.into())).await.is_err() {
                    break;
                }
            }
            message = from_browser.next() => {
                match message {
                    Some(Ok(Message::Binary(bytes))) => {
                        if to_machine.send(bytes.to_vec()).await.is_err() {
                            break;
                        }
                    }
                    Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
                    _ => break,
                }
            }
        }
    }
    let _ = stream.shutdown(Shutdown::Both);
    let _ = to_browser.close().await;
}

/// Leaves out what a client that may only look says with its keyboard and mouse (RFC 6143, 7.5).
struct Filter {
    role: Role,
    /// Bytes of the handshake that are still to come: version, security, ClientInit.
    handshake: usize,
    waiting: Vec<u8>,
}

impl Filter {
    fn new(role: Role) -> Self {
        Self {
            role,
            handshake: 12 + 1 + 1,
            waiting: Vec::new(),
        }
    }

    fn pass(&mut self, bytes: &[u8]) -> Vec<u8> {
        if self.role == Role::Operator {
            return bytes.to_vec();
        }
        let first = self.handshake.min(bytes.len());
        self.handshake -= first;
        let mut out = bytes[..first].to_vec();
        self.waiting.extend(&bytes[first..]);
        loop {
            let number = |at: usize, bytes: usize| -> Option<usize> {
                let part = self.waiting.get(at..at + bytes)?;
                Some(
                    part.iter()
                        .fold(0, |number, byte| number << 8 | usize::from(*byte)),
                )
            };
            let len = match self.waiting.first() {
                None => break,
                Some(0) => Some(20),
                Some(2) => number(2, 2).map(|count| 4 + 4 * count),
                Some(3) => Some(10),
                Some(4) => Some(8),
                Some(5) => Some(6),
                Some(6) => number(4, 4).map(|len| 8 + len),
                Some(251) => number(6, 1).map(|screens| 8 + 16 * screens),
                Some(255) => Some(12),
                Some(_) => {
                    self.waiting.clear();
                    break;
                }
            };
            let Some(len) = len.filter(|len| *len <= self.waiting.len()) else {
                // A message that is longer than any that is needed never ends.
                if self.waiting.len() > MOST_MESSAGE {
                    self.waiting.clear();
                }
                break;
            };
            let message: Vec<u8> = self.waiting.drain(..len).collect();
            if matches!(message[0], 0 | 2 | 3) {
                out.extend(message);
            }
        }
        out
    }
}

/// `GET /machines/NAME/serial`.
pub(crate) async fn serial(State(shared): State<Shared>, mut request: Request) -> Answer {
    let bad = |_| Refused(manager::Error::invalid("expected a WebSocket", ""));
    let Path(name) = request
        .extract_parts::<Path<String>>()
        .await
        .map_err(|_| Refused(manager::Error::invalid("expected a machine's name", "")))?;
    let role = request
        .extensions()
        .get::<Role>()
        .copied()
        .unwrap_or(Role::Viewer);
    let upgrade = request
        .extract_parts::<WebSocketUpgrade>()
        .await
        .map_err(bad)?;
    let machine = on_thread(move || live_machine(&shared.home, &name)).await?;
    Ok(upgrade
        .max_message_size(MOST_MESSAGE)
        .on_upgrade(move |socket| join_serial(socket, machine, role)))
}

async fn join_serial(socket: WebSocket, machine: Machine, role: Role) {
    let machine = Arc::new(machine);
    let (mut to_browser, mut from_browser) = socket.split();
    let (sender, mut frames) = mpsc::channel::<String>(4);
    let watches = Arc::clone(&machine);
    tokio::task::spawn_blocking(move || watch_terminal(&watches, &sender));
    loop {
        tokio::select! {
            frame = frames.recv() => {
                let Some(frame) = frame else { break };
                if to_browser.send(Message::Text(frame.into())).await.is_err() {
                    break;
                }
            }
            message = from_browser.next() => {
                match message {
                    Some(Ok(Message::Text(text))) if role == Role::Operator => {
                        let machine = Arc::clone(&machine);
                        let typed = text.to_string();
                        let _ = on_thread(move || {
                            machine.call("serial-write", json!({ "port": 0, "text": typed }))
                        }).await;
                    }
                    Some(Ok(Message::Text(_) | Message::Ping(_) | Message::Pong(_))) => {}
                    _ => break,
                }
            }
        }
    }
    let _ = to_browser.close().await;
}

/// Emulates the terminal, and sends what is on it whenever that changes.
fn watch_terminal(machine: &Machine, sender: &mpsc::Sender<String>) {
    let Ok(mut client) = machine.connect() else {
        return;
    };
    if client
        .call("subscribe", json!({ "events": ["serial"] }))
        .is_err()
    {
        return;
    }
    let mut terminal = vt100::Parser::new(ROWS, COLUMNS, KEPT);
    let mut sent = Instant::now() - FRAME;
    let mut unsent = true;
    loop {
        let wait = if unsent {
            FRAME.saturating_sub(sent.elapsed())
        } else {
            Duration::from_millis(500)
        };
        match client.event(wait) {
            Ok(Some(event)) => {
                if event["port"] == 0
                    && let Some(bytes) = event["base64"].as_str().and_then(control::base64::decode)
                {
                    terminal.process(&bytes);
                    unsent = true;
                }
            }
            Ok(None) => {}
            Err(_) => return,
        }
        if sender.is_closed() {
            return;
        }
        if unsent && sent.elapsed() >= FRAME {
            if sender
                .blocking_send(rows(&mut terminal).to_string())
                .is_err()
            {
                return;
            }
            (sent, unsent) = (Instant::now(), false);
        }
    }
}

/// What is on the terminal: rows of runs of cells with the same attributes, and the cursor; and the rows that went.
fn rows(terminal: &mut vt100::Parser) -> Value {
    let mut gone = Vec::new();
    // The library shows one screen at a time: as far back as there is something.
    terminal.screen_mut().set_scrollback(usize::MAX);
    let most = terminal.screen().scrollback().min(KEPT);
    let mut back = most;
    while back > 0 {
        terminal.screen_mut().set_scrollback(back);
        let here = back.min(usize::from(ROWS));
        gone.extend(terminal.screen().rows(0, COLUMNS).take(here));
        back -= here;
    }
    terminal.screen_mut().set_scrollback(0);
    let screen = terminal.screen();
    let rows: Vec<Value> = (0..ROWS).map(|row| runs(screen, row)).collect();
    let (row, column) = screen.cursor_position();
    json!({
        "gone": gone,
        "rows": rows,
        "cursor": if screen.hide_cursor() { Value::Null } else { json!([row, column]) },
        "columns": COLUMNS,
    })
}

fn runs(screen: &vt100::Screen, row: u16) -> Value {
    let mut runs: Vec<(String, Value)> = Vec::new();
    for column in 0..COLUMNS {
        let Some(cell) = screen.cell(row, column) else {
            continue;
        };
        if cell.is_wide_continuation() {
            continue;
        }
        let colour = |colour: vt100::Color| match colour {
            vt100::Color::Default => Value::Null,
            vt100::Color::Idx(index) => json!(index),
            vt100::Color::Rgb(red, green, blue) => {
                json!(format!("#{red:02x}{green:02x}{blue:02x}"))
            }
        };
        let style = json!([
            colour(cell.fgcolor()),
            colour(cell.bgcolor()),
            u8::from(cell.bold()) | u8::from(cell.underline()) << 1 | u8::from(cell.inverse()) << 2,
        ]);
        let text = if cell.has_contents() {
            cell.contents()
        } else {
            " "
        };
        match runs.last_mut() {
            Some((run, known)) if *known == style => run.push_str(text),
            _ => runs.push((text.to_owned(), style)),
        }
    }
    let plain = json!([null, null, 0]);
    if let Some((text, style)) = runs.last_mut()
        && *style == plain
    {
        text.truncate(text.trim_end().len());
    }
    runs.retain(|(text, _)| !text.is_empty());
    runs.into_iter()
        .map(|(text, style)| json!([text, style]))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_may_only_look_does_nothing() {
        let said = [
            &b"RFB 003.008\n"[..],
            &[1, 1],
            &[3, 0, 0, 0, 0, 0, 1, 0, 1, 0],
            &[4, 1, 0, 0, 0, 0, 0, b'q'],
            &[5, 1, 0, 1, 0, 1],
            &[2, 0, 0, 1, 0, 0, 0, 0],
            &[255, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 1],
            &[6, 0, 0, 0, 0, 0, 0, 1, b'x'],
            &[3, 1, 0, 0, 0, 0, 1, 0, 1, 0],
        ]
        .concat();
        let kept = [&said[..24], &said[38..46], &said[67..]].concat();
        for piece in [1, 3, 100] {
            let mut filter = Filter::new(Role::Viewer);
            let passed: Vec<u8> = said
                .chunks(piece)
                .flat_map(|bytes| filter.pass(bytes))
                .collect();
            assert_eq!(passed, kept, "{piece}");
        }
        assert_eq!(Filter::new(Role::Operator).pass(&said), said);
    }

    #[test]
    fn what_a_guest_writes_is_text() {
        let mut terminal = vt100::Parser::new(ROWS, COLUMNS, KEPT);
        for line in 0..100 {
            terminal.process(format!("line {line}\r\n").as_bytes());
        }
        terminal.process(b"\x1b]0;<img src=x>\x07\x1b[1;31m<script>\x1b[0m ok");
        let shown = rows(&mut terminal);
        assert_eq!(shown["gone"].as_array().unwrap().len(), 71);
        assert_eq!(shown["gone"][70], "line 70");
        assert_eq!(
            shown["rows"][29],
            json!([["<script>", [1, null, 1]], [" ok", [null, null, 0]]])
        );
        assert_eq!(shown["cursor"], json!([29, 11]));
    }
}
