//! The web console of many machines, and its API.
//!
//! Everything that is done here is done by the crate `manager`, on threads that may wait; this crate says what to whom.
//! It keeps nothing: it may end at any time, and the next one finds all machines again.
//!
//! | file | what |
//! |---|---|
//! | `lib.rs` | starting, and what all requests share |
//! | `guard.rs` | who may: tokens, cookies, foreign pages |
//! | `api.rs` | the routes and what they do; `openapi.rs` describes the same table |
//! | `live.rs` | what changes by itself: lists, events, tasks, metrics |
//! | `sockets.rs` | screens and serial terminals over WebSockets |
//! | `../assets` | the pages, which are in the program |
#![forbid(unsafe_code)]

mod api;
mod guard;
mod live;
mod openapi;
mod sockets;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::http::{HeaderName, HeaderValue, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use manager::{Code, Error, Home, Result};
use tokio::net::TcpListener;

use guard::Guard;
use live::Live;

/// The most bytes in a request, but for an uploaded image.
const MOST_BODY: usize = 1 << 20;

/// How the console is to be served.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where it listens.
    pub listen: SocketAddr,
    /// The file with the token; none: the home's own, made if there is none.
    pub token_file: Option<PathBuf>,
    /// Names, beside addresses and localhost, by which browsers may call this host.
    pub hosts: Vec<String>,
}

/// What all requests share.
#[derive(Clone)]
struct Shared {
    home: Home,
    guard: Arc<Guard>,
    live: Arc<Live>,
}

/// Serves until the process is told to end. `ready` is told the address of the page, with its token.
///
/// # Errors
/// The address is not free, or the token cannot be read.
pub fn serve(home: &Home, options: &Options, ready: impl FnOnce(&str)) -> Result<()> {
    let guard = Guard::open(home, options)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        // Each request that waits for a machine has a thread of these.
        .max_blocking_threads(64)
        .enable_all()
        .build()
        .map_err(|error| Error::new(Code::Host, format!("no threads: {error}"), ""))?;
    runtime.block_on(async {
        let listener = TcpListener::bind(options.listen).await.map_err(|error| {
            let port = options.listen.port();
            let who = host::sockets::holder(true, port);
            let who = who.map_or_else(|| error.to_string(), |who| format!("{who} has it"));
            Error::new(
                Code::PortInUse,
                format!(
                    "--listen {}: expected a port that is free, found: {who}",
                    options.listen
                ),
                "choose another, such as --listen 127.0.0.1:8007",
            )
        })?;
        let address = listener
            .local_addr()
            .map_err(|error| Error::new(Code::Host, format!("--listen: {error}"), ""))?;
        let token = guard.token().to_owned();
        let shared = Shared {
            home: home.clone(),
            guard: Arc::new(guard),
            live: Live::start(home.clone()),
        };
        ready(&format!("http://{address}/?token={token}"));
        let served = axum::serve(listener, router(shared))
            .with_graceful_shutdown(told_to_end())
            .await;
        served.map_err(|error| Error::new(Code::Host, format!("--listen: {error}"), ""))
    })
}

/// Waits for Ctrl-C, or what a service manager sends.
async fn told_to_end() {
    let told = Arc::new(tokio::sync::Notify::new());
    let tells = Arc::clone(&told);
    if host::signals::on_interrupt(move || tells.notify_one()).is_ok() {
        told.notified().await;
    } else {
        // Without such signals it ends as its process does.
        std::future::pending::<()>().await;
    }
}

fn router(shared: Shared) -> Router {
    let api = api::router()
        .route("/machines/{name}/screen", get(sockets::screen))
        .route("/machines/{name}/serial", get(sockets::serial))
        .route("/events", get(live::events));
    let assets: [(&str, &'static str, &'static str); 4] = [
        (
            "/",
            "text/html; charset=utf-8",
            include_str!("../assets/index.html"),
        ),
        (
            "/app.js",
            "text/javascript; charset=utf-8",
            include_str!("../assets/app.js"),
        ),
        (
            "/rfb.js",
            "text/javascript; charset=utf-8",
            include_str!("../assets/rfb.js"),
        ),
        (
            "/style.css",
            "text/css; charset=utf-8",
            include_str!("../assets/style.css"),
        ),
    ];
    let mut router = Router::new()
        .nest("/api/v1", api)
        .route("/metrics", get(live::metrics))
        .route("/healthz", get(|| async { "ok\n" }));
    for (path, kind, content) in assets {
        let asset = move || async move { ([(header::CONTENT_TYPE, kind)], content) };
        router = router.route(path, get(asset));
    }
    router
        .fallback(|| async {
            Refused(Error::new(
                Code::NotFound,
                "there is nothing of that name",
                "see /api/v1/openapi.json",
            ))
        })
        .layer(DefaultBodyLimit::max(MOST_BODY))
        .layer(axum::middleware::from_fn_with_state(
            shared.clone(),
            guard::check,
        ))
        .layer(axum::middleware::map_response(with_headers))
        .with_state(shared)
}

/// What keeps browsers from making more of an answer than it is.
async fn with_headers(mut response: Response) -> Response {
    for (name, value) in [
        (
            "content-security-policy",
            "default-src 'self'; img-src 'self' blob: data:; style-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'self'",
        ),
        ("x-content-type-options", "nosniff"),
        ("referrer-policy", "no-referrer"),
        ("cross-origin-resource-policy", "same-origin"),
        ("cache-control", "no-store"),
    ] {
        response.headers_mut().insert(
            HeaderName::from_static(name),
            HeaderValue::from_static(value),
        );
    }
    response
}

/// A refusal as an answer.
struct Refused(Error);

impl From<Error> for Refused {
    fn from(error: Error) -> Self {
        Self(error)
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        use axum::http::StatusCode;
        let Self(error) = self;
        let status = match error.code {
            Code::MachineNotFound | Code::SnapshotNotFound | Code::NotFound => {
                StatusCode::NOT_FOUND
            }
            Code::NameInUse | Code::WrongState | Code::PortInUse => StatusCode::CONFLICT,
            Code::Invalid => StatusCode::UNPROCESSABLE_ENTITY,
            Code::Busy => StatusCode::SERVICE_UNAVAILABLE,
            Code::NoRoom => StatusCode::INSUFFICIENT_STORAGE,
            Code::StartFailed | Code::Checksum | Code::Host => StatusCode::INTERNAL_SERVER_ERROR,
        };
        answer(status, error.code.name(), &error.message, &error.hint)
    }
}

/// An error as JSON.
fn answer(status: axum::http::StatusCode, code: &str, message: &str, hint: &str) -> Response {
    let body = serde_json::json!({ "error": { "code": code, "message": message, "hint": hint } });
    (status, axum::Json(body)).into_response()
}

/// Does something that may wait, on a thread that may.
async fn on_thread<T: Send + 'static>(
    act: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    match tokio::task::spawn_blocking(act).await {
        Ok(done) => done,
        Err(_) => Err(Error::new(
            Code::Host,
            "a defect of Glassbox",
            "see the console's log",
        )),
    }
}

#[cfg(test)]
mod tests;
