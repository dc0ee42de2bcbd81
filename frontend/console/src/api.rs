//! The routes of the API and what they do.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::rejection::JsonRejection;
use axum::extract::{FromRequest, Path, Query, Request, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, post};
use axum::{Json, Router};
use futures_util::StreamExt;
use manager::create::Attach;
use manager::home::check_name;
use manager::order::Order;
use manager::process::{SHUTS_DOWN, Start};
use manager::{Code, Error, Home, Machine, State as MachineState};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use spec::{DiskBus, DriveName, MachineSpec, NetSpec};

use crate::{DefaultBodyLimit, Refused, Shared, on_thread, openapi};

type Answer = std::result::Result<Response, Refused>;

/// The most bytes of the log that are sent.
const MOST_LOG: u64 = 64 << 10;

/// A request's body.
pub(crate) struct Body_<T>(T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for Body_<T> {
    type Rejection = Refused;

    async fn from_request(request: Request, state: &S) -> std::result::Result<Self, Refused> {
        let refuse = |error: JsonRejection| {
            let hint = "see /api/v1/openapi.json";
            Refused(Error::invalid(
                format!("the request: {}", error.body_text()),
                hint,
            ))
        };
        match Json::from_request(request, state).await {
            Ok(Json(body)) => Ok(Self(body)),
            Err(error) => Err(refuse(error)),
        }
    }
}

pub(crate) fn router() -> Router<Shared> {
    Router::new()
        .route("/openapi.json", get(|| async { Json(openapi::describe()) }))
        .route("/session", get(session))
        .route("/machines", get(machines).post(create))
        .route("/machines/{name}", get(show).patch(set).delete(remove))
        .route("/machines/{name}/start", post(start))
        .route("/machines/{name}/stop", post(stop))
        .route("/machines/{name}/reset", post(reset))
        .route("/machines/{name}/pause", post(pause))
        .route("/machines/{name}/resume", post(resume))
        .route("/machines/{name}/suspend", post(suspend))
        .route("/machines/{name}/clone", post(clone))
        .route("/machines/{name}/type", post(type_text))
        .route("/machines/{name}/snapshots", get(snapshots).post(snapshot))
        .route(
            "/machines/{name}/snapshots/{snapshot}",
            delete(delete_snapshot),
        )
        .route(
            "/machines/{name}/snapshots/{snapshot}/restore",
            post(restore),
        )
        .route("/machines/{name}/screenshot.png", get(screenshot))
        .route("/machines/{name}/log", get(log))
        .route("/machines/{name}/media", post(medium))
        .route("/machines/{name}/disks", post(attach))
        .route("/machines/{name}/disks/{disk}", delete(detach))
        .route("/tasks", get(tasks))
        .route("/catalogue", get(catalogue))
        .route("/images", get(images))
        .route(
            "/images/{name}",
            axum::routing::put(upload)
                .layer(DefaultBodyLimit::disable())
                .delete(remove_image),
        )
}

/// Does something with a machine, as a task that everybody sees.
async fn task(
    shared: Shared,
    what: &'static str,
    name: String,
    act: impl FnOnce(Machine) -> manager::Result<Value> + Send + 'static,
) -> Answer {
    let live = Arc::clone(&shared.live);
    live.count_request();
    let done = on_thread(move || {
        let machine = shared.home.machine(&name)?;
        let id = shared.live.begin(what, &name);
        let done = act(machine);
        shared
            .live
            .end(id, done.as_ref().err().map(ToString::to_string));
        done
    });
    Ok(Json(done.await?).into_response())
}

/// Looks at something; may wait.
async fn look(
    shared: Shared,
    act: impl FnOnce(&Home) -> manager::Result<Value> + Send + 'static,
) -> Answer {
    shared.live.count_request();
    Ok(Json(on_thread(move || act(&shared.home)).await?).into_response())
}

async fn session(State(shared): State<Shared>, request: Request) -> Answer {
    shared.live.count_request();
    let role = request.extensions().get::<crate::guard::Role>();
    let looks = role == Some(&crate::guard::Role::Viewer);
    Ok(Json(json!({
        "read_only": looks,
        "version": env!("CARGO_PKG_VERSION"),
        "home": shared.home.root(),
        "cpus": std::thread::available_parallelism().map_or(1, usize::from),
        "memory_available_bytes": host::memory::available_bytes(),
    }))
    .into_response())
}

async fn machines(State(shared): State<Shared>) -> Answer {
    shared.live.count_request();
    let live = Arc::clone(&shared.live);
    let list = on_thread(move || live.list()).await?;
    Ok(Json(&*list).into_response())
}

async fn show(State(shared): State<Shared>, Path(name): Path<String>) -> Answer {
    look(shared, move |home| home.machine(&name)?.show()).await
}

/// `POST /machines`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct New {
    name: String,
    from: Option<String>,
    memory: Option<String>,
    #[serde(default = "one")]
    cpus: usize,
    #[serde(default = "newest")]
    cpu: String,
    #[serde(default)]
    disks: Vec<String>,
    #[serde(default = "user")]
    net: String,
    #[serde(default)]
    note: String,
    cpu_limit: Option<u32>,
    #[serde(default)]
    autostart: bool,
    user: Option<String>,
    #[serde(default)]
    ssh_keys: Vec<String>,
    password: Option<String>,
    user_data: Option<String>,
    #[serde(default)]
    start: bool,
}

fn one() -> usize {
    1
}

fn newest() -> String {
    "max".into()
}

fn user() -> String {
    "user".into()
}

fn size(text: &str) -> manager::Result<u64> {
    spec::size::parse_size(text).map_err(|error| Error::invalid(format!("{text}: {error}"), ""))
}

impl New {
    fn order(self) -> manager::Result<Order> {
        let net = NetSpec::parse(self.net.as_ref())
            .map_err(|error| Error::invalid(format!("{error:#}"), ""))?;
        let net = net.map(|mut net| {
            net.host_loopback &= self.net.contains("host-loopback");
            net
        });
        if let Some(net) = &net
            && (net.tftp.is_some() || net.rom.is_some())
        {
            return Err(Error::invalid(
                "net: files of this host cannot be named from here",
                "use `glassbox create` on the host itself",
            ));
        }
        let some = |text: Option<String>| text.filter(|text| !text.trim().is_empty());
        Ok(Order {
            name: self.name,
            from: some(self.from),
            spec: MachineSpec {
                cpus: self.cpus,
                cpu: self.cpu,
                net,
                ..MachineSpec::default()
            },
            memory: some(self.memory).as_deref().map(size).transpose()?,
            sizes: self
                .disks
                .iter()
                .map(|text| size(text))
                .collect::<manager::Result<_>>()?,
            note: self.note,
            cpu_limit: self.cpu_limit,
            autostart: self.autostart,
            user: some(self.user),
            keys: self
                .ssh_keys
                .into_iter()
                .filter(|key| !key.trim().is_empty())
                .collect(),
            password: some(self.password),
            user_data: some(self.user_data),
            uploads_only: true,
        })
    }
}

async fn create(State(shared): State<Shared>, Body_(new): Body_<New>) -> Answer {
    shared.live.count_request();
    let start = new.start;
    let order = new.order()?;
    let made = on_thread(move || {
        shared.home.free_name(&order.name)?;
        let id = shared.live.begin("create", &order.name);
        let live = Arc::clone(&shared.live);
        let mut watch = |progress: &manager::download::Progress| {
            live.progress(id, progress.done, progress.total);
            true
        };
        let made = shared
            .home
            .order(order, &mut watch)
            .and_then(|(machine, notes)| {
                if start {
                    machine.start(&Start::default())?;
                }
                Ok((machine, notes))
            });
        shared
            .live
            .end(id, made.as_ref().err().map(ToString::to_string));
        let (machine, notes) = made?;
        let mut shown = machine.show()?;
        shown["notes"] = json!(notes);
        Ok(shown)
    });
    Ok((StatusCode::CREATED, Json(made.await?)).into_response())
}

async fn set(
    State(shared): State<Shared>,
    Path(name): Path<String>,
    Body_(settings): Body_<serde_json::Map<String, Value>>,
) -> Answer {
    let mut pairs = Vec::new();
    for (key, value) in settings {
        // What names files of the host is for who sits there.
        if matches!(key.as_str(), "firmware" | "kernel" | "initrd") {
            let hint = format!("use `glassbox set {name} {key}=…` on the host itself");
            return Err(Error::invalid(
                format!("{key}: files of this host cannot be named from here"),
                hint,
            )
            .into());
        }
        let value = match value {
            Value::String(text) => text,
            Value::Null => "none".into(),
            Value::Bool(true) => "on".into(),
            Value::Bool(false) => "off".into(),
            other => other.to_string(),
        };
        if key == "net" && (value.contains("tftp=") || value.contains("rom=")) {
            return Err(
                Error::invalid("net: files of this host cannot be named from here", "").into(),
            );
        }
        pairs.push((key, value));
    }
    task(shared, "set", name, move |machine| {
        let changes = machine.set(&pairs)?;
        Ok(json!({ "changes": changes }))
    })
    .await
}

/// `?force=true`.
#[derive(Default, Deserialize)]
struct Force {
    #[serde(default)]
    force: bool,
}

async fn remove(
    State(shared): State<Shared>,
    Path(name): Path<String>,
    Query(force): Query<Force>,
) -> Answer {
    task(shared, "delete", name, move |machine| {
        machine.delete(force.force)?;
        Ok(json!({}))
    })
    .await
}

fn state_of(machine: &Machine) -> Value {
    json!({ "name": machine.name(), "state": machine.state() })
}

/// Bodies that need not be there.
async fn optional<T: DeserializeOwned + Default>(body: Body) -> std::result::Result<T, Refused> {
    let bytes = axum::body::to_bytes(body, crate::MOST_BODY)
        .await
        .map_err(|error| Error::invalid(format!("the request: {error}"), ""))?;
    if bytes.is_empty() {
        return Ok(T::default());
    }
    let parsed = serde_json::from_slice(&bytes);
    Ok(parsed.map_err(|error| {
        Error::invalid(format!("the request: {error}"), "see /api/v1/openapi.json")
    })?)
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct HowToStart {
    paused: bool,
    force: bool,
}

async fn start(State(shared): State<Shared>, Path(name): Path<String>, body: Body) -> Answer {
    let how: HowToStart = optional(body).await?;
    task(shared, "start", name, move |machine| {
        machine.start(&Start {
            paused: how.paused,
            force: how.force,
            program: None,
        })?;
        Ok(state_of(&machine))
    })
    .await
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct HowToStop {
    force: bool,
    wait: Option<u64>,
}

async fn stop(State(shared): State<Shared>, Path(name): Path<String>, body: Body) -> Answer {
    let how: HowToStop = optional(body).await?;
    task(shared, "stop", name, move |machine| {
        let wait = how
            .wait
            .map_or(SHUTS_DOWN, |seconds| Duration::from_secs(seconds.min(600)));
        machine.stop(how.force, wait)?;
        Ok(state_of(&machine))
    })
    .await
}

async fn reset(State(shared): State<Shared>, Path(name): Path<String>) -> Answer {
    task(shared, "reset", name, |machine| {
        machine.reset()?;
        Ok(state_of(&machine))
    })
    .await
}

async fn pause(State(shared): State<Shared>, Path(name): Path<String>) -> Answer {
    task(shared, "pause", name, |machine| {
        machine.pause()?;
        Ok(state_of(&machine))
    })
    .await
}

async fn resume(State(shared): State<Shared>, Path(name): Path<String>) -> Answer {
    task(shared, "resume", name, |machine| {
        machine.resume(&Start::default())?;
        Ok(state_of(&machine))
    })
    .await
}

async fn suspend(State(shared): State<Shared>, Path(name): Path<String>) -> Answer {
    task(shared, "suspend", name, |machine| {
        machine.suspend()?;
        Ok(state_of(&machine))
    })
    .await
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Copy {
    name: String,
    #[serde(default)]
    linked: bool,
}

async fn clone(
    State(shared): State<Shared>,
    Path(name): Path<String>,
    Body_(copy): Body_<Copy>,
) -> Answer {
    task(shared, "clone", name, move |machine| {
        let made = machine.clone_to(&copy.name, copy.linked)?;
        Ok(state_of(&made))
    })
    .await
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Text {
    text: String,
}

async fn type_text(
    State(shared): State<Shared>,
    Path(name): Path<String>,
    Body_(text): Body_<Text>,
) -> Answer {
    // A drive's image is a file of the host.
    let lower = text.text.to_ascii_lowercase();
    if lower.contains("<insert ") || lower.contains("<eject ") {
        return Err(Error::invalid("text: drives are changed by /media", "").into());
    }
    look(shared, move |home| {
        home.machine(&name)?.type_text(&text.text)?;
        Ok(json!({}))
    })
    .await
}

async fn snapshots(State(shared): State<Shared>, Path(name): Path<String>) -> Answer {
    look(shared, move |home| {
        let tree = home.machine(&name)?.tree()?;
        let list = tree.snapshots.iter().map(|(name, snapshot)| {
            json!({
                "name": name,
                "parent": snapshot.parent,
                "created": snapshot.created,
                "note": snapshot.note,
                "memory": snapshot.memory,
                "current": tree.parent.as_ref() == Some(name),
            })
        });
        Ok(list.collect())
    })
    .await
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct NewSnapshot {
    name: Option<String>,
    note: String,
}

async fn snapshot(State(shared): State<Shared>, Path(name): Path<String>, body: Body) -> Answer {
    let new: NewSnapshot = optional(body).await?;
    let mut answer = task(shared, "snapshot", name, move |machine| {
        let name = new.name.filter(|name| !name.is_empty());
        let made = machine.snapshot(name.as_deref(), &new.note)?;
        Ok(json!({ "name": made }))
    })
    .await?;
    *answer.status_mut() = StatusCode::CREATED;
    Ok(answer)
}

async fn delete_snapshot(
    State(shared): State<Shared>,
    Path((name, snapshot)): Path<(String, String)>,
) -> Answer {
    task(shared, "delete snapshot", name, move |machine| {
        machine.delete_snapshot(&snapshot)?;
        Ok(json!({}))
    })
    .await
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct HowToRestore {
    paused: bool,
}

async fn restore(
    State(shared): State<Shared>,
    Path((name, snapshot)): Path<(String, String)>,
    body: Body,
) -> Answer {
    let how: HowToRestore = optional(body).await?;
    task(shared, "restore", name, move |machine| {
        let how = Start {
            paused: how.paused,
            ..Start::default()
        };
        machine.restore(&snapshot, &how)?;
        Ok(state_of(&machine))
    })
    .await
}

async fn screenshot(State(shared): State<Shared>, Path(name): Path<String>) -> Answer {
    shared.live.count_request();
    let picture = on_thread(move || {
        let machine = shared.home.machine(&name)?;
        shared.live.picture(&machine)
    });
    let picture = picture.await?.to_vec();
    Ok(([(header::CONTENT_TYPE, "image/png")], picture).into_response())
}

async fn log(State(shared): State<Shared>, Path(name): Path<String>) -> Answer {
    look(shared, move |home| {
        let machine = home.machine(&name)?;
        let serial = machine.serial_tail(MOST_LOG);
        let notes = machine.notes();
        let latest = &notes[notes.len().saturating_sub(500)..];
        Ok(json!({ "notes": latest, "serial": String::from_utf8_lossy(&serial) }))
    })
    .await
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Medium {
    drive: String,
    image: Option<String>,
}

async fn medium(
    State(shared): State<Shared>,
    Path(name): Path<String>,
    Body_(medium): Body_<Medium>,
) -> Answer {
    let home = shared.home.clone();
    task(shared, "change medium", name, move |machine| {
        let drive = DriveName::parse(&medium.drive).ok_or_else(|| {
            Error::invalid(
                format!(
                    "{}: expected a drive: cdrom, cdrom2, floppy or floppy2",
                    medium.drive
                ),
                "",
            )
        })?;
        let image = match medium.image.filter(|image| !image.is_empty()) {
            None => None,
            Some(image) => {
                check_name("an image", &image)?;
                Some(home.uploads_folder().join(image))
            }
        };
        machine.change_medium(drive, image.as_deref())?;
        Ok(json!({}))
    })
    .await
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NewDisk {
    size: String,
    #[serde(default)]
    bus: DiskBus,
}

async fn attach(
    State(shared): State<Shared>,
    Path(name): Path<String>,
    Body_(disk): Body_<NewDisk>,
) -> Answer {
    task(shared, "attach", name, move |machine| {
        let bytes = size(&disk.size)?;
        let name = machine.attach(&Attach::New {
            bytes,
            bus: disk.bus,
        })?;
        Ok(json!({ "name": name }))
    })
    .await
}

async fn detach(
    State(shared): State<Shared>,
    Path((name, disk)): Path<(String, String)>,
) -> Answer {
    task(shared, "detach", name, move |machine| {
        machine.detach(&disk)?;
        Ok(json!({}))
    })
    .await
}

async fn tasks(State(shared): State<Shared>) -> Answer {
    shared.live.count_request();
    Ok(Json(shared.live.tasks()).into_response())
}

async fn catalogue(State(shared): State<Shared>) -> Answer {
    look(shared, |home| {
        let fetched = home.fetched();
        let entries = home.catalogue()?.into_iter().map(|entry| {
            let mut value = serde_json::to_value(&entry).unwrap_or_default();
            value["cached"] = json!(fetched.iter().any(|fetched| fetched.url == entry.url));
            value
        });
        Ok(entries.collect())
    })
    .await
}

async fn images(State(shared): State<Shared>) -> Answer {
    look(shared, |home| {
        let uploads = home.uploads().into_iter();
        Ok(uploads
            .map(|(name, bytes)| json!({ "name": name, "bytes": bytes }))
            .collect())
    })
    .await
}

/// `PUT /images/NAME`: the body is the image. It is there as a whole or not at all.
async fn upload(State(shared): State<Shared>, Path(name): Path<String>, body: Body) -> Answer {
    shared.live.count_request();
    check_name("an image", &name)?;
    let folder = shared.home.uploads_folder();
    let target = folder.join(&name);
    let failed = |error: std::io::Error| {
        let code = match error.kind() {
            std::io::ErrorKind::StorageFull => Code::NoRoom,
            _ => Code::Host,
        };
        Error::new(code, format!("the image cannot be written: {error}"), "")
    };
    host::files::private_folder(&folder).map_err(failed)?;
    let id = shared.live.begin("upload", &name);
    let store = async {
        let file = tempfile::NamedTempFile::new_in(&folder).map_err(failed)?;
        let handle = file.reopen().map_err(failed)?;
        let mut handle = tokio::fs::File::from_std(handle);
        let mut done = 0;
        let mut pieces = body.into_data_stream();
        while let Some(piece) = pieces.next().await {
            let piece = piece.map_err(|error| {
                Error::invalid(format!("the connection broke: {error}"), "send it again")
            })?;
            tokio::io::AsyncWriteExt::write_all(&mut handle, &piece)
                .await
                .map_err(failed)?;
            done += piece.len() as u64;
            shared.live.progress(id, done, None);
        }
        tokio::io::AsyncWriteExt::flush(&mut handle)
            .await
            .map_err(failed)?;
        handle.sync_all().await.map_err(failed)?;
        file.persist(&target).map_err(|error| failed(error.error))?;
        Ok::<u64, Error>(done)
    };
    let stored = store.await;
    shared
        .live
        .end(id, stored.as_ref().err().map(ToString::to_string));
    let bytes = stored?;
    Ok((
        StatusCode::CREATED,
        Json(json!({ "name": name, "bytes": bytes })),
    )
        .into_response())
}

async fn remove_image(State(shared): State<Shared>, Path(name): Path<String>) -> Answer {
    look(shared, move |home| {
        check_name("an image", &name)?;
        let path = home.uploads_folder().join(&name);
        std::fs::remove_file(&path).map_err(|error| {
            Error::new(
                Code::NotFound,
                format!("{name}: cannot be deleted: {error}"),
                "",
            )
        })?;
        Ok(json!({}))
    })
    .await
}

/// Whether a machine can be shown at all: for sockets.
pub(crate) fn live_machine(home: &Home, name: &str) -> manager::Result<Machine> {
    let machine = home.machine(name)?;
    match machine.is_live() {
        true => Ok(machine),
        false => Err(Error::new(
            Code::WrongState,
            format!(
                "{name}: expected a machine that runs, found it {}",
                MachineState::name(machine.state())
            ),
            "start it first",
        )),
    }
}
