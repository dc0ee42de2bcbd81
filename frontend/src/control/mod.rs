//! The control interface: JSON lines over a local socket. The client's half is in the crate `control`.
//!
//! A client has two threads: one reads requests and has the runner answer them between two slices, the other writes
//! answers and events. What waits to be written is bounded: a client that does not read is left, and never keeps the
//! machine.

mod events;
pub mod serial;

use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Result, anyhow, bail};
use crossbeam_channel::{Sender, bounded};
use host::local::{self, Listener, Stream};
use serde_json::{Value, json};

use crate::runner::Control;
pub use events::{Events, Line, Topic};

/// The most clients at once.
const MOST_CLIENTS: usize = 64;
/// The most bytes in a request.
const MOST_REQUEST: u64 = 1 << 20;
/// The most lines that wait to be written to a client.
const MOST_WAITING: usize = 4096;
/// How long a client has to take a line.
const PATIENCE: Duration = Duration::from_secs(10);

/// Something that is asked of the runner.
#[derive(Debug)]
pub struct Request {
    /// What is to be done.
    pub verb: String,
    /// The whole request.
    pub arguments: Value,
    /// Who waits for the answer.
    pub reply: Sender<Answer>,
}

/// What a request is answered with.
pub type Answer = Result<Value, Refusal>;

/// Why a request is not done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Of what kind that is.
    pub code: &'static str,
    /// Why, in one line.
    pub message: String,
}

impl Refusal {
    /// A refusal.
    pub fn new(code: &'static str, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
        }
    }
}

/// Where `--control` listens.
///
/// # Errors
/// It is no such place.
pub fn parse_place(option: &str, text: &std::ffi::OsStr) -> Result<PathBuf> {
    let bytes = text.as_encoded_bytes();
    match bytes.strip_prefix(b"unix:") {
        Some(path) if !path.is_empty() => Ok(host::files::name_from_bytes(path.to_vec()).into()),
        _ => bail!(
            "{option} {}: expected unix:PATH, such as unix:machine.sock",
            text.display()
        ),
    }
}

/// A socket that goes with this.
#[derive(Debug)]
pub struct Socket(PathBuf);

impl Socket {
    /// The one at `path`.
    pub fn new(path: PathBuf) -> Self {
        Self(path)
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// Listens at `path` for as long as the process lives; the socket's name goes with what this returns.
///
/// # Errors
/// Somebody listens there, or the host refuses.
pub fn serve(
    option: &str,
    path: &Path,
    runner: Sender<Control>,
    events: Arc<Events>,
) -> Result<Socket> {
    let listener = listen(option, path)?;
    std::thread::Builder::new()
        .name("control".into())
        .spawn(move || {
            let clients = Arc::new(AtomicUsize::new(0));
            loop {
                let Ok(stream) = local::accept(&listener) else {
                    std::thread::sleep(Duration::from_millis(100));
                    continue;
                };
                if clients.load(Ordering::Relaxed) >= MOST_CLIENTS {
                    continue;
                }
                let (runner, events, clients) =
                    (runner.clone(), Arc::clone(&events), Arc::clone(&clients));
                clients.fetch_add(1, Ordering::Relaxed);
                let spawned = std::thread::Builder::new().name("client".into()).spawn({
                    let clients = Arc::clone(&clients);
                    move || {
                        let _ = talk(stream, &runner, &events);
                        clients.fetch_sub(1, Ordering::Relaxed);
                    }
                });
                if spawned.is_err() {
                    clients.fetch_sub(1, Ordering::Relaxed);
                }
            }
        })?;
    Ok(Socket(path.to_owned()))
}

/// Listens at `path`.
///
/// # Errors
/// Somebody listens there, or the host refuses.
pub fn listen(option: &str, path: &Path) -> Result<Listener> {
    local::listen(path).map_err(|error| {
        anyhow!(
            "{option} unix:{}: expected a place for a socket, found: {error}; choose another name",
            path.display()
        )
    })
}

/// Serves one client until it leaves.
fn talk(stream: Stream, runner: &Sender<Control>, events: &Events) -> std::io::Result<()> {
    let number = events.join();
    let talked = talk_as(number, stream, runner, events);
    events.leave(number);
    talked
}

fn talk_as(
    number: u64,
    stream: Stream,
    runner: &Sender<Control>,
    events: &Events,
) -> std::io::Result<()> {
    stream.set_write_timeout(Some(PATIENCE))?;
    let mut writer = stream.try_clone()?;
    let (out, lines) = bounded::<Line>(MOST_WAITING);
    let shut = stream.try_clone()?;
    std::thread::Builder::new()
        .name("client out".into())
        .spawn(move || {
            for line in lines {
                if writer.write_all(line.as_bytes()).is_err() {
                    break;
                }
            }
            // The reader is to end too.
            let _ = shut.shutdown(std::net::Shutdown::Both);
        })?;
    let mut reader = BufReader::new(stream);
    loop {
        let mut line = Vec::new();
        (&mut reader)
            .take(MOST_REQUEST)
            .read_until(b'\n', &mut line)?;
        if line.is_empty() {
            return Ok(());
        }
        let whole = line.ends_with(b"\n");
        let (id, answer) = match serde_json::from_slice::<Value>(&line) {
            Ok(request) if request.is_object() => {
                let id = request["id"].clone();
                (id, answer(request, number, &out, runner, events))
            }
            Ok(_) => (
                Value::Null,
                Err(Refusal::new(
                    "bad-request",
                    "expected an object, such as {\"id\":1,\"do\":\"status\"}",
                )),
            ),
            Err(error) => (
                Value::Null,
                Err(Refusal::new(
                    "bad-request",
                    format!("expected a line of JSON: {error}"),
                )),
            ),
        };
        let said = match answer {
            Ok(value) => json!({ "id": id, "ok": value }),
            Err(refusal) => {
                json!({ "id": id, "error": { "code": refusal.code, "message": refusal.message } })
            }
        };
        if out.try_send(Line::from(format!("{said}\n"))).is_err() || !whole {
            return Ok(());
        }
    }
}

fn answer(
    request: Value,
    number: u64,
    out: &Sender<Line>,
    runner: &Sender<Control>,
    events: &Events,
) -> Answer {
    let Some(verb) = request["do"].as_str().map(str::to_owned) else {
        return Err(Refusal::new(
            "bad-request",
            "expected \"do\" with what is to be done, such as \"status\"",
        ));
    };
    if verb == "subscribe" {
        let names = request["events"].as_array().cloned().unwrap_or_default();
        let topics = names.iter().map(|name| {
            let topic = name.as_str().and_then(Topic::named);
            topic.ok_or_else(|| {
                Refusal::new("bad-request", format!("{name}: expected serial or state"))
            })
        });
        for topic in topics.collect::<Result<Vec<_>, _>>()? {
            events.subscribe(topic, number, out.clone());
        }
        return Ok(json!({}));
    }
    let (reply, answer) = bounded(1);
    let request = Request {
        verb,
        arguments: request,
        reply,
    };
    let over = || Refusal::new("wrong-state", "the run is over");
    runner.send(Control::Ask(request)).map_err(|_| over())?;
    answer.recv().map_err(|_| over())?
}
