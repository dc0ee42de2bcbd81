//! Who may: a token, as a header or a cookie; and no page of another site in a browser that has the cookie.

use std::fs;
use std::io::Write;
use std::net::IpAddr;
use std::path::Path;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use manager::{Code, Error, Home, Result};

use crate::{Options, Shared, answer};

/// The cookie's name.
const COOKIE: &str = "glassbox";

/// What somebody may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// Everything.
    Operator,
    /// Look.
    Viewer,
}

/// Who may.
pub(crate) struct Guard {
    operator: String,
    viewer: String,
    hosts: Vec<String>,
}

impl Guard {
    /// Reads the tokens, or makes them.
    pub fn open(home: &Home, options: &Options) -> Result<Self> {
        let operator = match &options.token_file {
            Some(path) => read_token(path)?,
            None => own_token(&home.root().join("token"), home.root())?,
        };
        Ok(Self {
            operator,
            viewer: own_token(&home.root().join("token-viewer"), home.root())?,
            hosts: options.hosts.clone(),
        })
    }

    /// The operator's.
    pub fn token(&self) -> &str {
        &self.operator
    }

    fn role(&self, token: &str) -> Option<Role> {
        if same(token, &self.operator) {
            Some(Role::Operator)
        } else {
            same(token, &self.viewer).then_some(Role::Viewer)
        }
    }

    /// Whether a browser that calls this host so has been led here by its user: by an address, which no foreign name
    /// server can make up, or by a name that is known.
    fn knows_host(&self, host: &str) -> bool {
        let name = match host.strip_prefix('[') {
            Some(rest) => rest.split(']').next().unwrap_or_default(),
            None => host.split(':').next().unwrap_or_default(),
        };
        name.eq_ignore_ascii_case("localhost")
            || name.parse::<IpAddr>().is_ok()
            || self
                .hosts
                .iter()
                .any(|known| known.eq_ignore_ascii_case(name))
    }
}

/// Compares without telling by the time it takes how much was right.
fn same(a: &str, b: &str) -> bool {
    let differ = a
        .bytes()
        .zip(b.bytes())
        .fold(0, |differ, (a, b)| differ | (a ^ b));
    a.len() == b.len() && differ == 0 && !b.is_empty()
}

fn read_token(path: &Path) -> Result<String> {
    let text = fs::read_to_string(path).map_err(|error| {
        Error::new(
            Code::NotFound,
            format!("{}: cannot be read: {error}", path.display()),
            "",
        )
    })?;
    let token = text.trim().to_owned();
    let good = token.len() >= 16
        && token
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
    match good {
        true => Ok(token),
        false => Err(Error::new(
            Code::Invalid,
            format!(
                "{}: expected a token of at least 16 letters, digits and `-`",
                path.display()
            ),
            "make one: head -c 16 /dev/urandom | od -An -tx1 | tr -d ' \\n'",
        )),
    }
}

/// The token in a file of the home, which is made if it is not there.
fn own_token(path: &Path, folder: &Path) -> Result<String> {
    if path.exists() {
        return read_token(path);
    }
    let token = manager::random::hex::<16>();
    let make = || -> std::io::Result<()> {
        host::files::private_folder(folder)?;
        // Only its owner may read such a file.
        let mut file = tempfile::NamedTempFile::new_in(folder)?;
        file.write_all(token.as_bytes())?;
        file.persist_noclobber(path).map_err(|error| error.error)?;
        Ok(())
    };
    match make() {
        Ok(()) => Ok(token),
        // Somebody else was first.
        Err(_) if path.exists() => read_token(path),
        Err(error) => Err(Error::new(
            Code::Host,
            format!("{}: cannot be written: {error}", path.display()),
            "",
        )),
    }
}

fn text(headers: &HeaderMap, name: header::HeaderName) -> Option<&str> {
    headers.get(name)?.to_str().ok()
}

/// Lets through who may.
pub(crate) async fn check(
    State(shared): State<Shared>,
    mut request: Request,
    next: Next,
) -> Response {
    let guard = &shared.guard;
    let headers = request.headers();
    let host = text(headers, header::HOST)
        .or(request.uri().host())
        .unwrap_or_default()
        .to_owned();
    if !guard.knows_host(&host) {
        return answer(
            StatusCode::FORBIDDEN,
            "foreign-host",
            "this host is not called so",
            "use its address, or start the console with --host NAME",
        );
    }
    if let Some(origin) = text(headers, header::ORIGIN) {
        let site = origin.split_once("://").map_or("", |(_, site)| site);
        if !site.eq_ignore_ascii_case(&host) {
            return answer(
                StatusCode::FORBIDDEN,
                "foreign-origin",
                "a page of another site may not do this",
                "",
            );
        }
    }
    let path = request.uri().path();
    if path == "/healthz" {
        return next.run(request).await;
    }
    // The page's address has the token once; then a cookie has it.
    let query = request.uri().query().unwrap_or_default();
    let in_query = query
        .split('&')
        .find_map(|pair| pair.strip_prefix("token="));
    if path == "/"
        && let Some(token) = in_query
        && guard.role(token).is_some()
    {
        let cookie =
            format!("{COOKIE}={token}; HttpOnly; SameSite=Strict; Path=/; Max-Age=31536000");
        return (
            StatusCode::SEE_OTHER,
            [
                (header::SET_COOKIE, cookie),
                (header::LOCATION, "/".to_owned()),
            ],
        )
            .into_response();
    }
    let bearer =
        text(headers, header::AUTHORIZATION).and_then(|value| value.strip_prefix("Bearer "));
    let cookies = headers
        .get_all(header::COOKIE)
        .iter()
        .filter_map(|value| value.to_str().ok());
    let cookie = cookies
        .flat_map(|cookies| cookies.split(';'))
        .find_map(|cookie| {
            let (name, value) = cookie.trim().split_once('=')?;
            (name == COOKIE).then_some(value)
        });
    let Some(role) = bearer.or(cookie).and_then(|token| guard.role(token)) else {
        let hint =
            "open the address that `glassbox serve` prints, or send Authorization: Bearer TOKEN";
        if path == "/" {
            let page = "<!doctype html><meta charset=utf-8><title>Glassbox</title><p>This page needs its token: open \
                        the address that <code>glassbox serve</code> prints.";
            return (
                StatusCode::UNAUTHORIZED,
                [(header::CONTENT_TYPE, "text/html; charset=utf-8")],
                page,
            )
                .into_response();
        }
        return answer(
            StatusCode::UNAUTHORIZED,
            "unauthorized",
            "a token is missing or wrong",
            hint,
        );
    };
    let looks = matches!(*request.method(), Method::GET | Method::HEAD);
    if role == Role::Viewer && !looks {
        return answer(
            StatusCode::FORBIDDEN,
            "read-only",
            "this token may only look",
            "use the operator's token",
        );
    }
    request.extensions_mut().insert(role);
    next.run(request).await
}
