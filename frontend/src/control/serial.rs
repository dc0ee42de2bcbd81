//! `--serial unix:PATH` and `tcp:[HOST:]PORT`: a serial port for whoever connects.
//!
//! Clients come and go; several share the port. Who comes hears the last 64 KiB first. What nobody is there for is kept
//! so far and no further, and a client that does not read is left: the guest waits for neither.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Result, anyhow};
use crossbeam_channel::{Sender, bounded};
use host::local::{self, Stream};
use serde_json::json;

use super::{Events, Line, Request, Socket, Topic};
use crate::hostio::Place;
use crate::outlet;
use crate::runner::Control;

/// The most clients of a port at once.
const MOST_CLIENTS: usize = 16;
/// The most pieces that wait to be written to a client.
const MOST_WAITING: usize = 4096;
/// How long a client has to take a piece.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long to wait where the guest has not taken what was written before.
const BUSY: Duration = Duration::from_millis(20);

/// Serves a port for as long as the process lives, if `place` is a socket; its name goes with what this returns.
///
/// # Errors
/// The place is not free.
pub fn serve(
    place: &Place,
    port: u8,
    runner: &Sender<Control>,
    events: &Arc<Events>,
) -> Result<Option<Socket>> {
    let join = {
        let (runner, events) = (runner.clone(), Arc::clone(events));
        let clients = Arc::new(AtomicUsize::new(0));
        move |client: Client| {
            let (runner, events) = (runner.clone(), Arc::clone(&events));
            let clients = Arc::clone(&clients);
            if clients.fetch_add(1, Ordering::Relaxed) >= MOST_CLIENTS {
                clients.fetch_sub(1, Ordering::Relaxed);
                return;
            }
            let _ = std::thread::Builder::new()
                .name("serial".into())
                .spawn(move || {
                    let number = events.join();
                    let _ = client.serve(port, number, &runner, &events);
                    events.leave(number);
                    clients.fetch_sub(1, Ordering::Relaxed);
                });
        }
    };
    let pause = || std::thread::sleep(Duration::from_millis(100));
    match place {
        Place::Socket(path) => {
            let listener = super::listen("--serial", path)?;
            std::thread::Builder::new()
                .name("serial".into())
                .spawn(move || {
                    loop {
                        match local::accept(&listener) {
                            Ok(stream) => join(Client::Local(stream)),
                            Err(_) => pause(),
                        }
                    }
                })?;
            Ok(Some(Socket::new(path.clone())))
        }
        Place::Port(address) => {
            let listener = TcpListener::bind(address).map_err(|error| {
                anyhow!("--serial tcp:{address}: expected a port that is free, found: {error}; choose another")
            })?;
            if !address.ip().is_loopback() {
                outlet::say(&format!(
                    "glassbox: --serial tcp:{address}: whoever reaches this port uses the machine's console; leave HOST out \
                     for this host alone"
                ));
            }
            if address.port() == 0 {
                outlet::say(&format!("glassbox: serial=tcp:{}", listener.local_addr()?));
            }
            std::thread::Builder::new()
                .name("serial".into())
                .spawn(move || {
                    loop {
                        match listener.accept() {
                            Ok((stream, _)) => join(Client::Tcp(stream)),
                            Err(_) => pause(),
                        }
                    }
                })?;
            Ok(None)
        }
        Place::None | Place::Stdio | Place::File(_) => Ok(None),
    }
}

/// A client's stream.
enum Client {
    Local(Stream),
    Tcp(TcpStream),
}

impl Client {
    fn serve(
        self,
        port: u8,
        number: u64,
        runner: &Sender<Control>,
        events: &Events,
    ) -> std::io::Result<()> {
        match self {
            Self::Local(stream) => {
                stream.set_write_timeout(Some(PATIENCE))?;
                let (writer, end) = (stream.try_clone()?, stream.try_clone()?);
                talk(
                    stream,
                    writer,
                    move || drop(end.shutdown(Shutdown::Both)),
                    (port, number),
                    runner,
                    events,
                )
            }
            Self::Tcp(stream) => {
                stream.set_write_timeout(Some(PATIENCE))?;
                stream.set_nodelay(true)?;
                let (writer, end) = (stream.try_clone()?, stream.try_clone()?);
                talk(
                    stream,
                    writer,
                    move || drop(end.shutdown(Shutdown::Both)),
                    (port, number),
                    runner,
                    events,
                )
            }
        }
    }
}

fn talk(
    mut reader: impl Read,
    mut writer: impl Write + Send + 'static,
    hang_up: impl Fn() + Send + 'static,
    (port, number): (u8, u64),
    runner: &Sender<Control>,
    events: &Events,
) -> std::io::Result<()> {
    let (out, pieces) = bounded::<Line>(MOST_WAITING);
    events.subscribe(Topic::Bytes(port), number, out);
    std::thread::Builder::new()
        .name("serial out".into())
        .spawn(move || {
            for piece in pieces {
                if writer.write_all(piece.as_bytes()).is_err() {
                    break;
                }
            }
            hang_up();
        })?;
    let mut piece = [0; 1024];
    loop {
        let read = reader.read(&mut piece)?;
        if read == 0 {
            return Ok(());
        }
        let base64 = control::base64::encode(&piece[..read]);
        loop {
            let (reply, answer) = bounded(1);
            let request = Request {
                verb: "serial-write".into(),
                arguments: json!({ "port": port, "base64": base64 }),
                reply,
            };
            if runner.send(Control::Ask(request)).is_err() {
                return Ok(());
            }
            match answer.recv() {
                Ok(Err(refusal)) if refusal.code == "busy" => std::thread::sleep(BUSY),
                Ok(_) => break,
                Err(_) => return Ok(()),
            }
        }
    }
}
