//! What clients of the control interface hear of without asking.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crossbeam_channel::{Sender, TrySendError};
use serde_json::json;

/// How much of what a serial port said is kept for who comes later, in bytes.
const KEPT: usize = 64 << 10;

/// A line for a client.
#[derive(Clone, Debug)]
pub struct Line(Arc<[u8]>);

impl Line {
    /// Its bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl From<String> for Line {
    fn from(line: String) -> Self {
        Self(line.into_bytes().into())
    }
}

/// What a client may hear of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Topic {
    /// What the guest writes to its serial ports.
    Serial,
    /// The bytes alone that it writes to one of them.
    Bytes(u8),
    /// The machine stands still, goes on, was reset or ends.
    State,
}

impl Topic {
    /// The topic that clients call so.
    pub fn named(name: &str) -> Option<Self> {
        match name {
            "serial" => Some(Self::Serial),
            "state" => Some(Self::State),
            _ => None,
        }
    }
}

#[derive(Default)]
struct Inner {
    /// Who writes down what the first serial port says.
    log: Option<Sender<Vec<u8>>>,
    clients: Vec<(Topic, u64, Sender<Line>)>,
    /// Counts clients.
    next: u64,
    said: BTreeMap<u8, VecDeque<u8>>,
}

/// Who hears of what.
#[derive(Default)]
pub struct Events(Mutex<Inner>);

impl Events {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Hands what the first serial port says to `log`, as far as that takes it.
    pub fn log_to(&self, log: Sender<Vec<u8>>) {
        self.lock().log = Some(log);
    }

    /// A number for a client that comes.
    pub fn join(&self) -> u64 {
        let mut inner = self.lock();
        inner.next += 1;
        inner.next
    }

    /// A client has gone.
    pub fn leave(&self, number: u64) {
        self.lock().clients.retain(|(_, known, _)| *known != number);
    }

    /// The client of this number hears of a topic from now on: of serial ports with what they said last.
    pub fn subscribe(&self, topic: Topic, number: u64, client: Sender<Line>) {
        let mut inner = self.lock();
        for (port, said) in &inner.said {
            let said: Vec<u8> = said.iter().copied().collect();
            let line = match topic {
                Topic::Serial => serial_line(*port, &said),
                Topic::Bytes(wanted) if wanted == *port => Line(said.into()),
                _ => continue,
            };
            let _ = client.try_send(line);
        }
        let is_known = |(known, of, _): &(Topic, u64, _)| *known == topic && *of == number;
        if !inner.clients.iter().any(is_known) {
            inner.clients.push((topic, number, client));
        }
    }

    /// A serial port said something.
    pub fn serial(&self, port: u8, bytes: &[u8]) {
        let mut inner = self.lock();
        if let Some(log) = inner.log.as_ref().filter(|_| port == 0) {
            let _ = log.try_send(bytes.to_vec());
        }
        let said = inner.said.entry(port).or_default();
        said.extend(&bytes[bytes.len().saturating_sub(KEPT)..]);
        let over = said.len().saturating_sub(KEPT);
        said.drain(..over);
        let has = |topic: Topic| inner.clients.iter().any(|(known, _, _)| *known == topic);
        let (has_bytes, has_lines) = (has(Topic::Bytes(port)), has(Topic::Serial));
        if has_bytes {
            tell(&mut inner, Topic::Bytes(port), &Line(bytes.into()));
        }
        if has_lines {
            tell(&mut inner, Topic::Serial, &serial_line(port, bytes));
        }
    }

    /// The machine's state changed.
    pub fn state(&self, what: &str) {
        let line = json!({ "event": "state", "state": what });
        tell(
            &mut self.lock(),
            Topic::State,
            &Line::from(format!("{line}\n")),
        );
    }
}

fn serial_line(port: u8, bytes: &[u8]) -> Line {
    let base64 = control::base64::encode(bytes);
    Line::from(format!(
        "{}\n",
        json!({ "event": "serial", "port": port, "base64": base64 })
    ))
}

/// Who does not take it is left, and hears of nothing any more.
fn tell(inner: &mut Inner, topic: Topic, line: &Line) {
    inner.clients.retain(|(wanted, _, client)| {
        *wanted != topic
            || !matches!(
                client.try_send(line.clone()),
                Err(TrySendError::Full(_) | TrySendError::Disconnected(_))
            )
    });
}

#[cfg(test)]
mod tests {
    use crossbeam_channel::bounded;

    use super::*;

    #[test]
    fn who_comes_late_hears_the_last_and_who_does_not_read_is_left() {
        let events = Events::default();
        events.serial(0, &vec![b'x'; 2 * KEPT]);
        events.serial(0, b"end");
        let (client, lines) = bounded(2);
        let number = events.join();
        events.subscribe(Topic::Serial, number, client);
        let first = lines.recv().unwrap();
        let first: serde_json::Value = serde_json::from_slice(first.as_bytes()).unwrap();
        let said = control::base64::decode(first["base64"].as_str().unwrap()).unwrap();
        assert!(said.len() == KEPT && said.ends_with(b"xend"));
        for _ in 0..5 {
            events.serial(0, b"y");
        }
        events.state("paused");
        assert_eq!(lines.try_iter().count(), 2);
        assert!(events.lock().clients.is_empty());
        // One that has gone is forgotten at once, though nothing is said.
        let (client, _lines) = bounded(2);
        events.subscribe(Topic::State, number, client);
        events.leave(number);
        assert!(events.lock().clients.is_empty());
    }
}
