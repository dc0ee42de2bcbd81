//! `glassbox console`: a machine's serial console in this terminal.

use std::io::{IsTerminal, Read, Write};
use std::time::Duration;

use manager::{Code, Error, Machine, Result};
use serde_json::json;

/// Ctrl-].
const LEAVE: u8 = 0x1D;

/// Joins the machine's first serial port until the user leaves or the machine ends.
pub fn run(machine: &Machine) -> Result<()> {
    let broken = |error: &dyn std::fmt::Display| {
        Error::new(
            Code::Host,
            format!("{}: the connection broke: {error}", machine.name()),
            "",
        )
    };
    let mut client = machine.connect()?;
    let mut sender = client.sender().map_err(|error| broken(&error))?;
    client
        .call("subscribe", json!({ "events": ["serial"] }))
        .map_err(|error| broken(&error))?;
    let _raw = match std::io::stdin().is_terminal() {
        true => {
            crate::outlet::say(&format!(
                "glassbox: the serial console of {}; Ctrl-] leaves",
                machine.name()
            ));
            host::terminal::RawTerminal::enter(false).ok()
        }
        false => None,
    };
    let (left, leaves) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let mut input = std::io::stdin().lock();
        let mut bytes = [0; 256];
        while let Ok(read) = input.read(&mut bytes) {
            let typed = &bytes[..read];
            let end = typed.iter().position(|&byte| byte == LEAVE);
            let base64 = control::base64::encode(&typed[..end.unwrap_or(read)]);
            let sent = sender.send("serial-write", json!({ "port": 0, "base64": base64 }));
            if read == 0 || end.is_some() || sent.is_err() {
                break;
            }
        }
        let _ = left.send(());
    });
    let mut out = std::io::stdout();
    let mut is_over = false;
    loop {
        let wait = if is_over {
            Duration::from_millis(300)
        } else {
            Duration::from_millis(50)
        };
        match client.event(wait) {
            Ok(Some(event)) => {
                let bytes = event["base64"].as_str().and_then(control::base64::decode);
                if event["port"] == 0
                    && let Some(bytes) = bytes
                {
                    let written = out.write_all(&bytes).and_then(|()| out.flush());
                    written.map_err(|error| {
                        Error::new(Code::Host, format!("standard output: {error}"), "")
                    })?;
                }
            }
            // What was typed last may still be answered.
            Ok(None) if is_over => return Ok(()),
            Ok(None) => {}
            // The machine has ended.
            Err(_) => return Ok(()),
        }
        is_over |= leaves.try_recv().is_ok();
    }
}
