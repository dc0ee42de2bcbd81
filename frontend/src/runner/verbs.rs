//! What the control interface can ask of a run: one line in [`VERBS`] a verb.

use std::path::PathBuf;
use std::time::Duration;

use platform::{Motion, Place};
use serde_json::{Value, json};
use spec::{Change, DriveName};

use super::{Cause, Run, end};
use crate::control::{Answer, Refusal, Request};
use crate::report::{self, End};
use crate::script::screen_lines;
use crate::typing::{self, Piece};

type Verb = fn(&mut Run, &Value) -> Result<Done, Refusal>;

/// What came of a request.
enum Done {
    /// The answer; the run goes on.
    Ok(Value),
    /// The run is to end.
    Over,
}

const VERBS: &[(&str, Verb)] = &[
    ("status", status),
    ("stats", stats),
    ("quit", quit),
    ("stop", quit),
    ("power-button", power_button),
    ("reset", reset),
    ("pause", pause),
    ("resume", resume),
    ("type", type_text),
    ("key", key),
    ("mouse", mouse),
    ("screenshot", screenshot),
    ("screen-text", screen_text),
    ("serial-write", serial_write),
    ("save", save),
    ("snapshot", snapshot),
    ("freeze", freeze),
    ("suspend", suspend),
    ("insert", insert),
    ("eject", eject),
    ("set", set),
];

impl Run {
    /// Does what is asked, and answers.
    pub(super) fn answer(&mut self, request: Request) -> Option<End> {
        if matches!(
            request.verb.as_str(),
            "type" | "key" | "mouse" | "serial-write" | "power-button"
        ) {
            self.rest.disturbed();
        }
        let verb = VERBS.iter().find(|(name, _)| *name == request.verb);
        let done = match verb {
            Some((_, act)) => act(self, &request.arguments),
            None => {
                let names: Vec<&str> = VERBS.iter().map(|(name, _)| *name).collect();
                let message = format!(
                    "{}: expected one of {}, subscribe",
                    request.verb,
                    names.join(", ")
                );
                Err(Refusal::new("unknown", message))
            }
        };
        let (answer, over): (Answer, bool) = match done {
            Ok(Done::Ok(value)) => (Ok(value), false),
            Ok(Done::Over) => (Ok(json!({})), true),
            Err(refusal) => (Err(refusal), false),
        };
        // Who asked may have gone.
        let _ = request.reply.send(answer);
        if over {
            // The answer goes out by another thread, which the end of the process would take along.
            std::thread::sleep(Duration::from_millis(20));
            self.stopped.get_or_insert_with(std::time::Instant::now);
        }
        over.then(|| end(Cause::Closed))
    }

    /// While the machine stands still.
    pub(super) fn stand_still(&mut self) -> Option<End> {
        if self.is_timed_out() {
            return Some(end(Cause::Timeout));
        }
        if let Ok(control) = self
            .session
            .control
            .recv_timeout(Duration::from_millis(100))
        {
            return self.control(control);
        }
        None
    }

    fn tell_state(&self, what: &str) {
        if let Some(events) = &self.session.events {
            events.state(what);
        }
    }

    fn picture(&mut self) -> Result<Vec<u8>, Refusal> {
        let frame = self.machine.render();
        report::to_png(frame.as_ref()).map_err(|error| Refusal::new("host", error.to_string()))
    }

    fn managed(&self) -> Result<&crate::managed::Managed, Refusal> {
        let managed = self.session.managed.as_ref();
        managed.ok_or_else(|| {
            Refusal::new(
                "wrong-state",
                "expected a machine of `glassbox create`, found one of `glassbox run`; use save",
            )
        })
    }
}

fn ok() -> Result<Done, Refusal> {
    Ok(Done::Ok(json!({})))
}

fn text<'a>(arguments: &'a Value, key: &str) -> Result<&'a str, Refusal> {
    let found = arguments[key].as_str();
    found.ok_or_else(|| Refusal::new("bad-request", format!("expected \"{key}\" with a text")))
}

fn failed(error: anyhow::Error) -> Refusal {
    let code = match error.downcast_ref::<manager::Error>() {
        Some(error) if error.code == manager::Code::NoRoom => "no-room",
        Some(error) if error.code.status() == 2 => "invalid",
        _ => "host",
    };
    Refusal::new(code, crate::app::one_line(&error))
}

fn status(run: &mut Run, _: &Value) -> Result<Done, Refusal> {
    let (width, height) = run.machine.screen_size();
    Ok(Done::Ok(json!({
        "state": if run.paused { "paused" } else { "running" },
        "instructions": run.machine.retired(),
        "virtual_ns": run.machine.now_ns(),
        "wall_ns": run.started.elapsed().as_nanos() as u64,
        "memory_bytes": run.session.drives.spec.memory,
        "cpus": run.machine.cpus().len(),
        "screen": { "width": width, "height": height },
        "pointer": run.machine.has_pointer(),
        "pid": std::process::id(),
        "version": env!("CARGO_PKG_VERSION"),
    })))
}

fn stats(run: &mut Run, _: &Value) -> Result<Done, Refusal> {
    let counts = run
        .session
        .drives
        .handles
        .iter()
        .map(|(_, disk)| disk.counts());
    let (read, written) = counts.fold((0, 0), |(r, w), (read, written)| (r + read, w + written));
    Ok(Done::Ok(json!({
        "instructions": run.machine.retired(),
        "virtual_ns": run.machine.now_ns(),
        "wall_ns": run.started.elapsed().as_nanos() as u64,
        "cpu_seconds": host::processes::cpu_seconds(std::process::id()),
        "resident_bytes": host::processes::resident_bytes(std::process::id()),
        "disk_read_bytes": read,
        "disk_written_bytes": written,
        "net_received_bytes": run.net_bytes.0,
        "net_sent_bytes": run.net_bytes.1,
    })))
}

fn quit(_: &mut Run, _: &Value) -> Result<Done, Refusal> {
    Ok(Done::Over)
}

fn power_button(run: &mut Run, _: &Value) -> Result<Done, Refusal> {
    run.machine.press_power();
    ok()
}

fn reset(run: &mut Run, _: &Value) -> Result<Done, Refusal> {
    run.machine.press_reset();
    run.tell_state("reset");
    ok()
}

fn pause(run: &mut Run, _: &Value) -> Result<Done, Refusal> {
    run.paused = true;
    run.tell_state("paused");
    ok()
}

fn resume(run: &mut Run, _: &Value) -> Result<Done, Refusal> {
    run.paused = false;
    run.tell_state("running");
    ok()
}

fn pieces(text: &str) -> Result<Vec<Piece>, Refusal> {
    typing::parse(text).map_err(|why| Refusal::new("invalid", why))
}

fn type_text(run: &mut Run, arguments: &Value) -> Result<Done, Refusal> {
    let pieces = pieces(text(arguments, "text")?)?;
    run.typist.type_keys(&pieces);
    ok()
}

fn key(run: &mut Run, arguments: &Value) -> Result<Done, Refusal> {
    let name = text(arguments, "key")?;
    let pieces = pieces(&format!("<{name}>"))?;
    match (&pieces[..], arguments["down"].as_bool()) {
        ([Piece::Key(stroke)], Some(pressed)) => run.machine.input_key(stroke.key, pressed),
        ([Piece::Key(_) | Piece::Chord(..)], None) => run.typist.type_keys(&pieces),
        _ => {
            return Err(Refusal::new(
                "invalid",
                format!("{name}: expected a key, such as f1 or ctrl-c"),
            ));
        }
    }
    ok()
}

fn mouse(run: &mut Run, arguments: &Value) -> Result<Done, Refusal> {
    let number = |key: &str| {
        arguments[key]
            .as_i64()
            .map(|number| number.clamp(-32_768, 32_767) as i32)
    };
    let buttons = number("buttons").unwrap_or(0) as u8 & 7;
    let dz = number("wheel").unwrap_or(0);
    if let (Some(x), Some(y)) = (number("x"), number("y")) {
        let (width, height) = run.machine.screen_size();
        let dot = |at: i32, dots: usize| {
            typing::share_of((at.max(0) as usize).min(dots.max(1) - 1), dots)
        };
        run.machine.input_place(Place {
            x: dot(x, width),
            y: dot(y, height),
            dz,
            buttons,
        });
        return ok();
    }
    let (dx, dy) = (number("dx").unwrap_or(0), number("dy").unwrap_or(0));
    run.machine.input_mouse(Motion {
        dx,
        dy: -dy,
        dz,
        buttons,
    });
    ok()
}

fn screenshot(run: &mut Run, arguments: &Value) -> Result<Done, Refusal> {
    let png = run.picture()?;
    Ok(Done::Ok(match arguments["path"].as_str() {
        None => json!({ "base64": control::base64::encode(&png) }),
        Some(path) => {
            let written = std::fs::write(path, png);
            written.map_err(|error| {
                Refusal::new("host", format!("{path}: cannot be written: {error}"))
            })?;
            json!({})
        }
    }))
}

fn screen_text(run: &mut Run, _: &Value) -> Result<Done, Refusal> {
    let screen = run.machine.read_text();
    Ok(Done::Ok(match screen {
        Some(screen) => json!({ "mode": "text", "text": screen_lines(&screen) }),
        None => json!({ "mode": "graphics", "text": [] }),
    }))
}

fn serial_write(run: &mut Run, arguments: &Value) -> Result<Done, Refusal> {
    let port = arguments["port"].as_u64().unwrap_or(0);
    let bytes = match (arguments["text"].as_str(), arguments["base64"].as_str()) {
        (Some(text), _) => text.as_bytes().to_vec(),
        (None, Some(text)) => control::base64::decode(text)
            .ok_or_else(|| Refusal::new("bad-request", "expected \"base64\" with such a text"))?,
        _ => {
            return Err(Refusal::new(
                "bad-request",
                "expected \"text\" or \"base64\" with what is to be written",
            ));
        }
    };
    if port > 3 {
        return Err(Refusal::new(
            "invalid",
            format!("{port}: expected a serial port, 0 to 3"),
        ));
    }
    let waiting = run.serial_in.entry(port as u8).or_default();
    // What a guest does not take does not pile up.
    let room = super::MOST_SERIAL_IN.saturating_sub(waiting.len());
    if bytes.len() > room {
        return Err(Refusal::new(
            "busy",
            "the guest has not taken what was written before",
        ));
    }
    waiting.extend(bytes);
    ok()
}

fn save(run: &mut Run, arguments: &Value) -> Result<Done, Refusal> {
    let dir = PathBuf::from(text(arguments, "dir")?);
    let picture = run.picture().ok();
    let drives = &mut run.session.drives;
    let (spec, disks) = (&drives.spec, &mut drives.handles);
    let saved = spec::saved::save(
        &dir,
        &mut run.machine,
        spec,
        disks,
        picture.as_deref(),
        "saved",
    );
    saved.map_err(failed)?;
    ok()
}

fn snapshot(run: &mut Run, arguments: &Value) -> Result<Done, Refusal> {
    run.managed()?;
    let name = text(arguments, "name")?;
    let note = arguments["note"].as_str().unwrap_or_default();
    let picture = run.picture().ok();
    let session = &mut run.session;
    if let Some(managed) = &session.managed {
        let made = managed.snapshot(
            &mut run.machine,
            &mut session.drives,
            name,
            note,
            picture.as_deref(),
        );
        made.map_err(failed)?;
    }
    ok()
}

fn freeze(run: &mut Run, _: &Value) -> Result<Done, Refusal> {
    run.managed()?;
    let session = &mut run.session;
    if let Some(managed) = &session.managed {
        managed.freeze(&mut session.drives).map_err(failed)?;
    }
    ok()
}

fn suspend(run: &mut Run, _: &Value) -> Result<Done, Refusal> {
    run.managed()?;
    let picture = run.picture().ok();
    let session = &mut run.session;
    if let Some(managed) = &session.managed {
        let saved = managed.suspend(&mut run.machine, &mut session.drives, picture.as_deref());
        saved.map_err(failed)?;
    }
    Ok(Done::Over)
}

fn drive(arguments: &Value) -> Result<DriveName, Refusal> {
    let name = text(arguments, "drive")?;
    DriveName::parse(name).ok_or_else(|| {
        Refusal::new(
            "invalid",
            format!("{name}: expected cdrom, cdrom2, floppy or floppy2"),
        )
    })
}

fn change(run: &mut Run, change: &Change) -> Result<Done, Refusal> {
    let changed = run.session.drives.change(&mut run.machine, change);
    changed.map_err(failed)?;
    ok()
}

fn insert(run: &mut Run, arguments: &Value) -> Result<Done, Refusal> {
    let (drive, medium) = (
        drive(arguments)?,
        Some(PathBuf::from(text(arguments, "path")?)),
    );
    change(run, &Change { drive, medium })
}

fn eject(run: &mut Run, arguments: &Value) -> Result<Done, Refusal> {
    let drive = drive(arguments)?;
    change(
        run,
        &Change {
            drive,
            medium: None,
        },
    )
}

fn set(run: &mut Run, arguments: &Value) -> Result<Done, Refusal> {
    let limit = match &arguments["cpu-limit"] {
        Value::Null => None,
        limit => {
            let limit = limit.as_u64().filter(|limit| (1..=1600).contains(limit));
            let limit = limit.ok_or_else(|| {
                Refusal::new(
                    "invalid",
                    "expected \"cpu-limit\" with 1 to 1600 per cent of a core, or null",
                )
            })?;
            Some(limit as u32)
        }
    };
    run.throttle.set(limit);
    ok()
}
