//! What changes by itself: the list of machines with their load, tasks, and who is told.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::convert::Infallible;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use axum::extract::State;
use axum::http::header;
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::stream::{self, Stream};
use manager::{Home, Machine, Result};
use serde::Serialize;
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::{Refused, Shared, on_thread};

/// How often machines are looked at while somebody looks at the list.
const LOOK: Duration = Duration::from_millis(1000);
/// So long a list is good for who asks again.
const FRESH: Duration = Duration::from_millis(200);
/// So long a picture is.
const FRESH_PICTURE: Duration = Duration::from_millis(800);
/// How many tasks are kept.
const MOST_TASKS: usize = 200;

/// What somebody asked for that takes a while.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Task {
    pub id: u64,
    pub what: String,
    pub machine: String,
    /// `running`, `done` or `failed`.
    pub state: &'static str,
    pub error: Option<String>,
    /// In Unix seconds.
    pub started: u64,
    pub ended: Option<u64>,
    /// Bytes so far, and in all.
    pub progress: Option<(u64, Option<u64>)>,
}

/// What was measured of a machine last.
struct Mark {
    at: Instant,
    cpu_seconds: f64,
    instructions: u64,
    load: f64,
    mips: f64,
}

#[derive(Default)]
struct Inner {
    list: Option<(Instant, Arc<Value>)>,
    marks: HashMap<String, Mark>,
    pictures: HashMap<String, (Instant, Arc<Vec<u8>>)>,
    tasks: VecDeque<Task>,
}

/// What is known of everything that changes.
pub(crate) struct Live {
    home: Home,
    inner: Mutex<Inner>,
    /// One makes the list, the others wait for that.
    making: Mutex<()>,
    next_task: AtomicU64,
    watchers: AtomicUsize,
    changed: watch::Sender<u64>,
    requests: AtomicU64,
}

impl Live {
    pub fn start(home: Home) -> Arc<Self> {
        let live = Arc::new(Self {
            home,
            inner: Mutex::default(),
            making: Mutex::default(),
            next_task: AtomicU64::new(1),
            watchers: AtomicUsize::new(0),
            changed: watch::channel(0).0,
            requests: AtomicU64::new(0),
        });
        let looks = Arc::clone(&live);
        tokio::spawn(async move {
            loop {
                tokio::time::sleep(LOOK).await;
                if looks.watchers.load(Ordering::Relaxed) > 0 {
                    let looks = Arc::clone(&looks);
                    let _ = on_thread(move || {
                        looks.forget();
                        looks.list()
                    })
                    .await;
                }
            }
        });
        live
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Something was done: lists are made anew.
    pub fn forget(&self) {
        self.lock().list = None;
    }

    fn tell(&self) {
        self.changed.send_modify(|number| *number += 1);
    }

    /// All machines with their load; may wait.
    pub fn list(&self) -> Result<Arc<Value>> {
        let fresh = || {
            let inner = self.lock();
            inner
                .list
                .as_ref()
                .filter(|(at, _)| at.elapsed() < FRESH)
                .map(|(_, list)| Arc::clone(list))
        };
        if let Some(list) = fresh() {
            return Ok(list);
        }
        let _making = self.making.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(list) = fresh() {
            return Ok(list);
        }
        let machines = self.home.machines()?;
        let rows: Vec<Value> = machines.iter().map(|machine| self.row(machine)).collect();
        let list = Arc::new(Value::Array(rows));
        let mut inner = self.lock();
        inner
            .marks
            .retain(|name, _| machines.iter().any(|machine| machine.name() == name));
        inner
            .pictures
            .retain(|name, _| machines.iter().any(|machine| machine.name() == name));
        let same = inner.list.as_ref().is_some_and(|(_, old)| **old == *list);
        inner.list = Some((Instant::now(), Arc::clone(&list)));
        drop(inner);
        if !same {
            self.tell();
        }
        Ok(list)
    }

    /// A line of the list, with load.
    fn row(&self, machine: &Machine) -> Value {
        let summary = machine.summary();
        let mut row = serde_json::to_value(&summary).unwrap_or_default();
        let (mut load, mut mips) = (0.0, 0.0);
        if let Some(pid) = summary.pid {
            let stats = machine.call("stats", json!({})).unwrap_or_default();
            let mark = Mark {
                at: Instant::now(),
                cpu_seconds: host::processes::cpu_seconds(pid).unwrap_or(0.0),
                instructions: stats["instructions"].as_u64().unwrap_or(0),
                load: 0.0,
                mips: 0.0,
            };
            let mut inner = self.lock();
            match inner.marks.get_mut(machine.name()) {
                // A second is what it takes to measure something.
                Some(before) if before.at.elapsed() < Duration::from_millis(900) => {
                    (load, mips) = (before.load, before.mips);
                }
                before => {
                    if let Some(before) = before {
                        let seconds = (mark.at - before.at).as_secs_f64();
                        load = ((mark.cpu_seconds - before.cpu_seconds) / seconds * 100.0).max(0.0);
                        mips = mark.instructions.saturating_sub(before.instructions) as f64
                            / seconds
                            / 1e6;
                    }
                    inner
                        .marks
                        .insert(machine.name().to_owned(), Mark { load, mips, ..mark });
                }
            }
            drop(inner);
            row["resident_bytes"] = json!(host::processes::resident_bytes(pid));
            for key in [
                "disk_read_bytes",
                "disk_written_bytes",
                "net_received_bytes",
                "net_sent_bytes",
                "instructions",
            ] {
                row[key] = stats[key].clone();
            }
        }
        row["cpu_percent"] = json!((load * 10.0).round() / 10.0);
        row["mips"] = json!(mips.round());
        row
    }

    /// A machine's picture, not older than it takes to notice; may wait.
    pub fn picture(&self, machine: &Machine) -> Result<Arc<Vec<u8>>> {
        if let Some((at, picture)) = self.lock().pictures.get(machine.name())
            && at.elapsed() < FRESH_PICTURE
        {
            return Ok(Arc::clone(picture));
        }
        let picture = Arc::new(machine.picture()?);
        let kept = (Instant::now(), Arc::clone(&picture));
        self.lock().pictures.insert(machine.name().to_owned(), kept);
        Ok(picture)
    }

    /// Notes that something begins.
    pub fn begin(&self, what: &str, machine: &str) -> u64 {
        let id = self.next_task.fetch_add(1, Ordering::Relaxed);
        let mut inner = self.lock();
        if inner.tasks.len() >= MOST_TASKS {
            inner.tasks.pop_front();
        }
        inner.tasks.push_back(Task {
            id,
            what: what.into(),
            machine: machine.into(),
            state: "running",
            error: None,
            started: manager::machine::now(),
            ended: None,
            progress: None,
        });
        drop(inner);
        self.tell();
        id
    }

    /// Notes how far it is.
    pub fn progress(&self, id: u64, done: u64, total: Option<u64>) {
        let mut inner = self.lock();
        if let Some(task) = inner.tasks.iter_mut().find(|task| task.id == id) {
            task.progress = Some((done, total));
        }
    }

    /// Notes how it ended.
    pub fn end(&self, id: u64, error: Option<String>) {
        let mut inner = self.lock();
        if let Some(task) = inner.tasks.iter_mut().find(|task| task.id == id) {
            task.state = if error.is_some() { "failed" } else { "done" };
            task.error = error;
            task.ended = Some(manager::machine::now());
        }
        inner.list = None;
        drop(inner);
        self.tell();
    }

    /// All tasks that are known, latest first.
    pub fn tasks(&self) -> Vec<Task> {
        self.lock().tasks.iter().rev().cloned().collect()
    }

    pub fn count_request(&self) {
        self.requests.fetch_add(1, Ordering::Relaxed);
    }
}

/// Somebody looks at the list.
struct Watcher(Arc<Live>);

impl Drop for Watcher {
    fn drop(&mut self) {
        self.0.watchers.fetch_sub(1, Ordering::Relaxed);
    }
}

/// `GET /events`: the list and the tasks, at first and whenever they change.
pub(crate) async fn events(State(shared): State<Shared>) -> impl IntoResponse {
    let live = Arc::clone(&shared.live);
    live.watchers.fetch_add(1, Ordering::Relaxed);
    let mut changes = live.changed.subscribe();
    changes.mark_changed();
    let watcher = Watcher(Arc::clone(&live));
    let stream = stream::unfold((changes, watcher), |(mut changes, watcher)| async move {
        changes.changed().await.ok()?;
        let live = Arc::clone(&watcher.0);
        let list = on_thread(move || live.list()).await.ok()?;
        let all = json!({ "machines": *list, "tasks": watcher.0.tasks() });
        let event = Event::default().event("all").data(all.to_string());
        Some((Ok::<_, Infallible>(event), (changes, watcher)))
    });
    let stream: std::pin::Pin<Box<dyn Stream<Item = _> + Send>> = Box::pin(stream);
    Sse::new(stream).keep_alive(KeepAlive::default())
}

/// `GET /metrics`: for Prometheus.
pub(crate) async fn metrics(
    State(shared): State<Shared>,
) -> std::result::Result<Response, Refused> {
    let live = Arc::clone(&shared.live);
    let list = on_thread(move || live.list()).await?;
    let mut text = String::new();
    let machines = list.as_array().map(Vec::as_slice).unwrap_or_default();
    let mut states: BTreeMap<&str, usize> = BTreeMap::new();
    for state in ["stopped", "running", "paused", "saved", "crashed"] {
        states.insert(state, 0);
    }
    for machine in machines {
        if let Some(count) = machine["state"]
            .as_str()
            .and_then(|state| states.get_mut(state))
        {
            *count += 1;
        }
    }
    text.push_str("# HELP glassbox_machines Machines by state.\n# TYPE glassbox_machines gauge\n");
    for (state, count) in states {
        text.push_str(&format!("glassbox_machines{{state=\"{state}\"}} {count}\n"));
    }
    for (name, kind, help, key) in [
        (
            "glassbox_machine_cpu_percent",
            "gauge",
            "Load in per cent of a host's core.",
            "cpu_percent",
        ),
        (
            "glassbox_machine_memory_bytes",
            "gauge",
            "RAM that the machine has.",
            "memory_bytes",
        ),
        (
            "glassbox_machine_resident_bytes",
            "gauge",
            "Memory that its process holds.",
            "resident_bytes",
        ),
        (
            "glassbox_machine_folder_bytes",
            "gauge",
            "What its folder takes of the disk.",
            "disk_bytes",
        ),
        (
            "glassbox_machine_instructions_total",
            "counter",
            "Instructions since power-on.",
            "instructions",
        ),
        (
            "glassbox_machine_disk_read_bytes_total",
            "counter",
            "Bytes read from its disks.",
            "disk_read_bytes",
        ),
        (
            "glassbox_machine_disk_written_bytes_total",
            "counter",
            "Bytes written to its disks.",
            "disk_written_bytes",
        ),
        (
            "glassbox_machine_net_received_bytes_total",
            "counter",
            "Bytes that reached its network card.",
            "net_received_bytes",
        ),
        (
            "glassbox_machine_net_sent_bytes_total",
            "counter",
            "Bytes that its network card sent.",
            "net_sent_bytes",
        ),
    ] {
        text.push_str(&format!("# HELP {name} {help}\n# TYPE {name} {kind}\n"));
        for machine in machines {
            // Names have nothing in them that would have to be quoted.
            if let (Some(machine), Some(value)) = (machine["name"].as_str(), machine[key].as_f64())
            {
                text.push_str(&format!("{name}{{machine=\"{machine}\"}} {value}\n"));
            }
        }
    }
    let requests = shared.live.requests.load(Ordering::Relaxed);
    text.push_str(&format!(
        "# HELP glassbox_api_requests_total Requests to the API.\n# TYPE glassbox_api_requests_total counter\n\
         glassbox_api_requests_total {requests}\n"
    ));
    Ok(([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], text).into_response())
}
