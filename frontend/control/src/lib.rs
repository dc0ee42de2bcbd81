//! The control interface of a running machine, from the outside: JSON lines over a local socket.
//!
//! A request is `{"id": 1, "do": "status", …}`; its answer has the same `id` and either `ok` or `error` with `code` and
//! `message`. Events come in between, as `{"event": "…", …}`. The server is in the crate `glassbox`.
#![forbid(unsafe_code)]

pub mod base64;

use std::collections::VecDeque;
use std::fmt;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::path::Path;
use std::time::{Duration, Instant};

use host::local::{self, Stream};
use serde_json::{Value, json};

/// The most bytes in a line, either way.
pub const MOST_LINE: usize = 64 << 20;

/// Why there is no answer.
#[derive(Debug)]
pub enum Error {
    /// The machine refuses.
    Refused {
        /// Of what kind that is.
        code: String,
        /// Why, in one line.
        message: String,
    },
    /// The connection is broken, or nothing came in time.
    Broken(io::Error),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused { message, .. } => f.write_str(message),
            Self::Broken(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for Error {}

impl From<io::Error> for Error {
    fn from(error: io::Error) -> Self {
        Self::Broken(error)
    }
}

/// A connection to a machine.
#[derive(Debug)]
pub struct Client {
    reader: BufReader<Stream>,
    writer: Stream,
    last: u64,
    patience: Duration,
    line: Vec<u8>,
    events: VecDeque<Value>,
}

impl Client {
    /// Connects to the machine that listens at `path`; each answer has so long.
    ///
    /// # Errors
    /// Nobody listens there.
    pub fn connect(path: &Path, patience: Duration) -> Result<Self, Error> {
        let stream = local::connect(path)?;
        let mut client = Self {
            writer: stream.try_clone()?,
            reader: BufReader::new(stream),
            last: 0,
            patience,
            line: Vec::new(),
            events: VecDeque::new(),
        };
        client.set_timeout(patience)?;
        Ok(client)
    }

    /// How long each answer has from now on.
    ///
    /// # Errors
    /// The host refuses.
    pub fn set_timeout(&mut self, patience: Duration) -> io::Result<()> {
        self.patience = patience;
        self.writer.set_write_timeout(Some(patience))
    }

    /// Asks for `verb`, with `arguments` as an object, and waits for the answer.
    ///
    /// # Errors
    /// The machine refuses, or the connection is broken.
    pub fn call(&mut self, verb: &str, arguments: Value) -> Result<Value, Error> {
        self.last += 1;
        let mut request = arguments;
        if !request.is_object() {
            request = json!({});
        }
        request["id"] = json!(self.last);
        request["do"] = json!(verb);
        self.writer.write_all(format!("{request}\n").as_bytes())?;
        let until = Instant::now() + self.patience;
        loop {
            let mut answer = self.read_until(until)?;
            if answer.get("event").is_some() {
                self.events.push_back(answer);
                continue;
            }
            if answer["id"] != json!(self.last) {
                continue;
            }
            if let Some(error) = answer.get("error") {
                let text = |key: &str| error[key].as_str().unwrap_or_default().to_owned();
                return Err(Error::Refused {
                    code: text("code"),
                    message: text("message"),
                });
            }
            return Ok(answer["ok"].take());
        }
    }

    /// The next event, or none within so long.
    ///
    /// # Errors
    /// The connection is broken.
    pub fn event(&mut self, wait: Duration) -> Result<Option<Value>, Error> {
        if let Some(event) = self.events.pop_front() {
            return Ok(Some(event));
        }
        let until = Instant::now() + wait;
        loop {
            match self.read_until(until) {
                Ok(event) if event.get("event").is_some() => return Ok(Some(event)),
                // The answer to somebody who did not wait for it.
                Ok(_) => {}
                Err(Error::Broken(error)) if is_late(&error) => return Ok(None),
                Err(error) => return Err(error),
            }
        }
    }

    /// Another handle that only sends requests, whose answers nobody waits for.
    ///
    /// # Errors
    /// The host refuses.
    pub fn sender(&self) -> io::Result<Sender> {
        Ok(Sender(self.writer.try_clone()?))
    }

    fn read_until(&mut self, until: Instant) -> Result<Value, Error> {
        loop {
            let left = until.saturating_duration_since(Instant::now());
            // No time at all would mean for ever.
            let left = left.max(Duration::from_millis(1));
            self.reader.get_ref().set_read_timeout(Some(left))?;
            let room = (MOST_LINE - self.line.len()) as u64;
            let read = (&mut self.reader)
                .take(room)
                .read_until(b'\n', &mut self.line);
            match read {
                Ok(_) if self.line.ends_with(b"\n") => {
                    let line = std::mem::take(&mut self.line);
                    let value = serde_json::from_slice(&line);
                    return Ok(
                        value.map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?
                    );
                }
                Ok(_) => return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if is_late(&error) && Instant::now() < until => {}
                Err(error) if is_late(&error) => {
                    return Err(
                        io::Error::new(io::ErrorKind::TimedOut, "nothing came in time").into(),
                    );
                }
                Err(error) => return Err(error.into()),
            }
        }
    }
}

/// Sends requests beside a [`Client`].
#[derive(Debug)]
pub struct Sender(Stream);

impl Sender {
    /// Asks for `verb`; the answer is dropped.
    ///
    /// # Errors
    /// The connection is broken.
    pub fn send(&mut self, verb: &str, mut arguments: Value) -> io::Result<()> {
        arguments["id"] = json!(0);
        arguments["do"] = json!(verb);
        self.0.write_all(format!("{arguments}\n").as_bytes())
    }
}

fn is_late(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut
    )
}
