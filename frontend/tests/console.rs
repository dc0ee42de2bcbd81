//! The web console: who may, what is refused, and the whole of it in a browser.
#![cfg(feature = "console")]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

const IMAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/images/counter.img");

/// A console over a home of its own; its machines end with it.
struct Console {
    home: tempfile::TempDir,
    child: Child,
    address: String,
    token: String,
}

impl Console {
    fn start() -> Self {
        let home = tempfile::tempdir().unwrap();
        let mut child = Command::new(env!("CARGO_BIN_EXE_glassbox"))
            .args(["serve", "--listen", "127.0.0.1:0"])
            .env("GLASSBOX_HOME", home.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap())
            .read_line(&mut line)
            .unwrap();
        let line = line.trim().strip_prefix("http://").unwrap();
        let (address, token) = line.split_once("/?token=").unwrap();
        Self {
            home,
            child,
            address: address.into(),
            token: token.into(),
        }
    }

    fn glassbox(&self, arguments: &[&str]) -> String {
        let out = Command::new(env!("CARGO_BIN_EXE_glassbox"))
            .args(arguments)
            .env("GLASSBOX_HOME", self.home.path())
            .output()
            .unwrap();
        assert!(
            out.status.success(),
            "{arguments:?}: {}",
            String::from_utf8_lossy(&out.stderr)
        );
        String::from_utf8(out.stdout).unwrap()
    }

    /// Says something, and returns the status, the head and the body of the answer.
    fn say(&self, request: &str) -> (u16, String, String) {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        stream
            .set_read_timeout(Some(Duration::from_secs(120)))
            .unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        let answer = String::from_utf8_lossy(&answer).into_owned();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
        let status = head
            .split(' ')
            .nth(1)
            .and_then(|status| status.parse().ok());
        (status.unwrap_or(0), head.into(), body.into())
    }

    fn request(
        &self,
        method: &str,
        path: &str,
        headers: &str,
        body: &str,
    ) -> (u16, String, String) {
        self.say(&format!(
            "{method} {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n{headers}Content-Length: {}\r\n\r\n{body}",
            self.address,
            body.len()
        ))
    }

    fn as_operator(&self, method: &str, path: &str, body: Option<Value>) -> (u16, Value) {
        let headers = format!(
            "Authorization: Bearer {}\r\nContent-Type: application/json\r\n",
            self.token
        );
        let body = body.map_or(String::new(), |body| body.to_string());
        let (status, _, body) = self.request(method, &format!("/api/v1{path}"), &headers, &body);
        (status, serde_json::from_str(&body).unwrap_or_default())
    }
}

impl Drop for Console {
    fn drop(&mut self) {
        let machines = std::fs::read_dir(self.home.path().join("machines"));
        for machine in machines.into_iter().flatten().flatten() {
            let name = machine.file_name();
            let _ = Command::new(env!("CARGO_BIN_EXE_glassbox"))
                .arg("delete")
                .arg(name)
                .args(["--yes", "--force"])
                .env("GLASSBOX_HOME", self.home.path())
                .output();
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn the_api_does_what_the_command_line_does() {
    let console = Console::start();
    let (status, described) = console.as_operator("GET", "/openapi.json", None);
    assert_eq!((status, &described["openapi"]), (200, &json!("3.1.0")));
    let (status, body) = console.as_operator("PUT", "/images/counter.img", None);
    assert_eq!(status, 201, "{body}");
    std::fs::copy(IMAGE, console.home.path().join("uploads/counter.img")).unwrap();
    let order = json!({ "name": "one", "from": "counter.img", "memory": "8M", "cpu": "i486", "net": "none", "start": true });
    let (status, made) = console.as_operator("POST", "/machines", Some(order.clone()));
    assert_eq!((status, &made["state"]), (201, &json!("running")), "{made}");
    assert_eq!(console.as_operator("POST", "/machines", Some(order)).0, 409);
    let (_, list) = console.as_operator("GET", "/machines", None);
    assert_eq!(
        (&list[0]["name"], &list[0]["memory_bytes"]),
        (&json!("one"), &json!(8 << 20))
    );
    assert_eq!(
        console.as_operator("POST", "/machines/one/pause", None).1["state"],
        "paused"
    );
    assert_eq!(
        console.as_operator("POST", "/machines/one/resume", None).1["state"],
        "running"
    );
    assert_eq!(
        console
            .as_operator(
                "POST",
                "/machines/one/type",
                Some(json!({ "text": "x<f1>" }))
            )
            .0,
        200
    );
    let (status, made) = console.as_operator(
        "POST",
        "/machines/one/snapshots",
        Some(json!({ "name": "a", "note": "n" })),
    );
    assert_eq!((status, &made["name"]), (201, &json!("a")));
    assert_eq!(
        console
            .as_operator("GET", "/machines/one/snapshots", None)
            .1[0]["memory"],
        true
    );
    assert_eq!(
        console
            .as_operator("POST", "/machines/one/snapshots/a/restore", None)
            .1["state"],
        "running"
    );
    assert_eq!(
        console
            .as_operator(
                "POST",
                "/machines/one/clone",
                Some(json!({ "name": "two", "linked": true }))
            )
            .0,
        200
    );
    let (status, changed) = console.as_operator(
        "PATCH",
        "/machines/one",
        Some(json!({ "cpu-limit": 50, "cpus": 2 })),
    );
    assert_eq!(
        (status, &changed["changes"][0]["at_once"]),
        (200, &json!(true)),
        "{changed}"
    );
    assert_eq!(
        console
            .as_operator("DELETE", "/machines/one/snapshots/a", None)
            .0,
        200
    );
    assert_eq!(console.as_operator("DELETE", "/machines/one", None).0, 409);
    assert_eq!(
        console
            .as_operator("POST", "/machines/one/stop", Some(json!({ "force": true })))
            .1["state"],
        "stopped"
    );
    assert_eq!(console.as_operator("DELETE", "/machines/one", None).0, 200);
    let (_, tasks) = console.as_operator("GET", "/tasks", None);
    assert!(tasks.as_array().unwrap().len() >= 10);
    let headers = format!("Authorization: Bearer {}\r\n", console.token);
    let (status, _, metrics) = console.request("GET", "/metrics", &headers, "");
    assert!(
        status == 200 && metrics.contains("glassbox_machines{state=\"stopped\"} 1"),
        "{metrics}"
    );
    assert_eq!(console.request("GET", "/healthz", "", "").0, 200);
    // The console may end at any time; machines go on, and the next one finds them.
    console.glassbox(&["start", "two"]);
    // A list is good for who asks again for a moment.
    std::thread::sleep(Duration::from_millis(400));
    assert_eq!(
        console.as_operator("GET", "/machines", None).1[0]["state"],
        "running"
    );
}

#[test]
fn who_may_not_is_refused() {
    let console = Console::start();
    console.glassbox(&["create", "one", "--disk", "1M", "-m", "8M", "--net", "none"]);
    let good = format!("Authorization: Bearer {}\r\n", console.token);
    for (headers, status) in [
        (String::new(), 401),
        ("Authorization: Bearer \r\n".into(), 401),
        (
            "Authorization: Bearer 0123456789abcdef0123456789abcdef\r\n".into(),
            401,
        ),
        (format!("Authorization: Basic {}\r\n", console.token), 401),
        (format!("Cookie: glassbox={}x\r\n", console.token), 401),
        (format!("Cookie: a=b; glassbox={}\r\n", console.token), 200),
        (good.clone(), 200),
        (format!("{good}Origin: http://evil.example\r\n"), 403),
        (format!("{good}Origin: null\r\n"), 403),
        (format!("{good}Origin: http://{}\r\n", console.address), 200),
    ] {
        for path in ["/api/v1/machines", "/metrics"] {
            let (found, _, body) = console.request("GET", path, &headers, "");
            assert_eq!(found, status, "{headers}: {body}");
        }
    }
    // By a name that a foreign name server made up (DNS rebinding).
    for host in [
        "evil.example",
        "evil.example:8006",
        "127.0.0.1.evil.example",
        "",
    ] {
        let (status, _, _) = console.say(&format!(
            "GET /api/v1/machines HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n{good}\r\n"
        ));
        assert!(matches!(status, 400 | 403), "{host}: {status}");
    }
    // The page's address gives the cookie once, and not to who guesses.
    let (status, head, _) = console.request("GET", &format!("/?token={}", console.token), "", "");
    assert!(
        status == 303 && head.contains("HttpOnly; SameSite=Strict"),
        "{head}"
    );
    assert_eq!(console.request("GET", "/?token=guess", "", "").0, 401);
    let (_, head, page) = console.request("GET", "/", &good, "");
    assert!(head.contains("frame-ancestors 'none'") && page.contains("Glassbox"));
    assert!(
        !page.contains("http://") || page.contains("www.w3.org"),
        "nothing comes from elsewhere"
    );
    // A socket of another site's page.
    let upgrade = format!(
        "{good}Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nOrigin: http://evil.example\r\n"
    );
    for path in ["/api/v1/machines/one/screen", "/api/v1/machines/one/serial"] {
        let request = format!(
            "GET {path} HTTP/1.1\r\nHost: {}\r\nConnection: close, Upgrade\r\n{upgrade}\r\n",
            console.address
        );
        assert_eq!(console.say(&request).0, 403);
    }
    // Names that would leave their folder.
    std::fs::write(console.home.path().join("secret"), "secret").unwrap();
    for path in [
        "/machines/..",
        "/machines/%2e%2e",
        "/machines/..%2f..%2fetc",
        "/machines/one%2f..%2fone",
        "/machines/.new-x",
        "/machines/one/snapshots/..%2f..",
        "/images/..%2fsecret",
        "/images/%2e%2e%2ftoken",
        "/machines/%00",
    ] {
        for method in ["GET", "DELETE", "PUT", "POST"] {
            let (status, body) = console.as_operator(method, path, Some(json!({})));
            assert!(
                matches!(status, 400 | 404 | 405 | 422),
                "{method} {path}: {status} {body}"
            );
        }
    }
    assert!(console.home.path().join("secret").exists());
    for from in ["../secret", "/etc/passwd", "secret", "file:///etc/passwd"] {
        let (status, body) = console.as_operator(
            "POST",
            "/machines",
            Some(json!({ "name": "x", "from": from })),
        );
        assert!(matches!(status, 404 | 422), "{from}: {status} {body}");
    }
    for settings in [
        json!({ "firmware": "/etc/passwd" }),
        json!({ "kernel": "/etc/passwd" }),
        json!({ "net": "user,tftp=/" }),
    ] {
        assert_eq!(
            console
                .as_operator("PATCH", "/machines/one", Some(settings))
                .0,
            422
        );
    }
    let text = json!({ "text": "<insert cdrom /etc/passwd>" });
    assert_eq!(
        console
            .as_operator("POST", "/machines/one/type", Some(text))
            .0,
        422
    );
    // Bodies that are no JSON, of other things, or too much.
    for body in [
        "",
        "{",
        "[]",
        "{\"name\":1}",
        "{\"name\":\"x\",\"evil\":true}",
    ] {
        let headers = format!("{good}Content-Type: application/json\r\n");
        let (status, _, answer) = console.request("POST", "/api/v1/machines", &headers, body);
        assert!(
            matches!(status, 400 | 415 | 422),
            "{body}: {status} {answer}"
        );
        assert!(answer.contains("\"error\""), "{answer}");
    }
    let large = format!("{{\"name\":\"{}\"}}", "x".repeat(2 << 20));
    let headers = format!("{good}Content-Type: application/json\r\n");
    assert!(matches!(
        console
            .request("POST", "/api/v1/machines", &headers, &large)
            .0,
        0 | 413 | 422
    ));
    // A folder of a machine that is a link is none.
    #[cfg(unix)]
    {
        let other = tempfile::tempdir().unwrap();
        std::fs::write(other.path().join("machine.toml"), "").unwrap();
        std::os::unix::fs::symlink(other.path(), console.home.path().join("machines/link"))
            .unwrap();
        assert_eq!(console.as_operator("GET", "/machines/link", None).0, 404);
        assert_eq!(console.as_operator("DELETE", "/machines/link", None).0, 404);
        assert!(other.path().join("machine.toml").exists());
        std::fs::remove_file(console.home.path().join("machines/link")).unwrap();
    }
    // Who may only look.
    let viewer = std::fs::read_to_string(console.home.path().join("token-viewer")).unwrap();
    let viewer = format!("Authorization: Bearer {}\r\n", viewer.trim());
    assert_eq!(
        console
            .request("GET", "/api/v1/machines/one", &viewer, "")
            .0,
        200
    );
    for (method, path) in [
        ("POST", "/api/v1/machines/one/start"),
        ("DELETE", "/api/v1/machines/one"),
        ("PUT", "/api/v1/images/x"),
    ] {
        assert_eq!(console.request(method, path, &viewer, "").0, 403);
    }
    assert_eq!(console.as_operator("GET", "/machines/one", None).0, 200);
}

/// `GLASSBOX_LOAD_SECONDS` sets for how long.
#[test]
fn two_hundred_requests_a_second_are_answered() {
    let seconds: u64 =
        std::env::var("GLASSBOX_LOAD_SECONDS").map_or(3, |text| text.parse().unwrap());
    let console = Console::start();
    console.glassbox(&[
        "create", "one", "--from", IMAGE, "-m", "8M", "--net", "none", "--start",
    ]);
    let begun = Instant::now();
    let failed: usize = std::thread::scope(|scope| {
        let clients = (0..8).map(|client| {
            let console = &console;
            scope.spawn(move || {
                let paths = [
                    "/machines",
                    "/machines/one",
                    "/machines/one/snapshots",
                    "/tasks",
                    "/session",
                ];
                let mut failed = 0;
                for number in 0..25 * seconds {
                    let due = begun + Duration::from_millis(40 * number + 5 * client);
                    std::thread::sleep(due.saturating_duration_since(Instant::now()));
                    let path = paths[(number as usize + client as usize) % paths.len()];
                    failed += usize::from(console.as_operator("GET", path, None).0 != 200);
                }
                failed
            })
        });
        let clients: Vec<_> = clients.collect();
        clients
            .into_iter()
            .map(|client| client.join().unwrap())
            .sum()
    });
    assert_eq!(failed, 0);
    eprintln!("{} requests in {:?}", 200 * seconds, begun.elapsed());
}

/// A browser by WebDriver (W3C), as Debian's chromium-driver has it.
struct Browser {
    driver: Child,
    session: String,
}

impl Browser {
    fn start() -> Option<Self> {
        let port = std::net::TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap()
            .port();
        let driver = Command::new("chromedriver")
            .arg(format!("--port={port}"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        let driver = match driver {
            Ok(driver) => driver,
            Err(error) => {
                eprintln!("skipped: chromedriver (packages chromium and chromium-driver): {error}");
                return None;
            }
        };
        let mut browser = Self {
            driver,
            session: format!("http://127.0.0.1:{port}/session"),
        };
        let until = Instant::now() + Duration::from_secs(30);
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(Instant::now() < until, "chromedriver does not listen");
            std::thread::sleep(Duration::from_millis(50));
        }
        let arguments = [
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            "--window-size=1300,950",
            "--force-dark-mode",
        ];
        let wanted = json!({ "capabilities": { "alwaysMatch": { "goog:chromeOptions": { "args": arguments } } } });
        let session = browser.post("", wanted)["sessionId"]
            .as_str()
            .unwrap()
            .to_owned();
        browser.session = format!("{}/{session}", browser.session);
        Some(browser)
    }

    fn post(&self, path: &str, body: Value) -> Value {
        let address = format!("{}{path}", self.session);
        let agent: ureq::Agent = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .build()
            .into();
        let mut answer = agent
            .post(&address)
            .header("content-type", "application/json")
            .send(body.to_string())
            .unwrap();
        let text = answer
            .body_mut()
            .with_config()
            .limit(64 << 20)
            .read_to_string()
            .unwrap();
        let answer: Value = serde_json::from_str(&text).unwrap();
        assert!(answer["value"]["error"].is_null(), "{path}: {answer}");
        answer["value"].clone()
    }

    fn script(&self, script: &str) -> Value {
        self.post("/execute/sync", json!({ "script": script, "args": [] }))
    }

    /// Waits until a script's value is true.
    fn wait(&self, script: &str) {
        let until = Instant::now() + Duration::from_secs(90);
        while self.script(&format!("return Boolean({script})")) != json!(true) {
            assert!(
                Instant::now() < until,
                "{script}; the page says: {}",
                self.script("return document.body.innerText")
            );
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// Clicks the button with this text, in the dialog if there is one.
    fn click(&self, title: &str) {
        let find = format!(
            "[...(document.querySelector('dialog') ?? document).querySelectorAll('button')].find((button) => button.textContent.trim() === {title:?} && !button.disabled)"
        );
        self.wait(&find);
        self.script(&format!("{find}.click()"));
    }

    fn fill(&self, name: &str, value: &str) {
        self.script(&format!("const input = document.querySelector('dialog [name={name}]'); input.value = {value:?}; input.dispatchEvent(new Event('change'));"));
    }

    /// Types on whatever has the focus.
    fn keys(&self, keys: &str) {
        let actions: Vec<Value> = keys
            .chars()
            .flat_map(|key| {
                [
                    json!({ "type": "keyDown", "value": key.to_string() }),
                    json!({ "type": "keyUp", "value": key.to_string() }),
                ]
            })
            .collect();
        self.post(
            "/actions",
            json!({ "actions": [{ "type": "key", "id": "keyboard", "actions": actions }] }),
        );
    }

    fn go(&self, address: &str) {
        self.post("/url", json!({ "url": address }));
    }

    /// Keeps a picture where `GLASSBOX_PICTURES` says.
    fn picture(&self, name: &str) {
        let Some(folder) = std::env::var_os("GLASSBOX_PICTURES") else {
            return;
        };
        let agent = ureq::agent();
        let mut answer = agent
            .get(format!("{}/screenshot", self.session))
            .call()
            .unwrap();
        let answer: Value = serde_json::from_str(
            &answer
                .body_mut()
                .with_config()
                .limit(64 << 20)
                .read_to_string()
                .unwrap(),
        )
        .unwrap();
        let png = control::base64::decode(answer["value"].as_str().unwrap()).unwrap();
        std::fs::write(Path::new(&folder).join(format!("{name}.png")), png).unwrap();
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        let _ = ureq::delete(&self.session).call();
        let _ = self.driver.kill();
        let _ = self.driver.wait();
    }
}

#[test]
fn the_whole_console_in_a_browser() {
    let Some(browser) = Browser::start() else {
        return;
    };
    let console = Console::start();
    std::fs::create_dir_all(console.home.path().join("uploads")).unwrap();
    std::fs::copy(IMAGE, console.home.path().join("uploads/counter.img")).unwrap();
    browser.go(&format!(
        "http://{}/?token={}",
        console.address, console.token
    ));
    browser.wait("document.body.innerText.includes('No machines yet')");
    // Make one, and see it start.
    browser.click("New machine");
    browser.wait("document.querySelector('dialog [name=from] option[value=\"counter.img\"]')");
    browser.picture("1-create");
    browser.fill("name", "one");
    browser.fill("from", "counter.img");
    browser.fill("memory", "8M");
    browser.fill("net", "none");
    browser.click("Create");
    browser.wait("location.hash === '#/m/one'");
    browser.wait("document.querySelector('.pill.running') && document.querySelector('canvas') && !document.querySelector('canvas').hidden");
    browser.wait("document.querySelector('canvas').width >= 640");
    browser.picture("2-screen");
    browser.click("As text");
    browser.wait("document.querySelector('pre.text').textContent.length > 3");
    // Use it by its serial terminal.
    browser.script("location.hash = '#/m/one/serial'");
    browser.wait("document.querySelector('.terminal')?.innerText.includes('counter')");
    browser.keys("ii");
    browser.wait("document.querySelector('.terminal').innerText.includes('..')");
    browser.keys("p");
    browser.wait("document.querySelector('.terminal').innerText.includes('m=0002 d=0002')");
    browser.picture("3-serial");
    // Keep this, break it, and have it back.
    browser.script("location.hash = '#/m/one/snapshots'");
    browser.click("Make a snapshot");
    browser.fill("name", "good");
    browser.fill("note", "<b>two</b>");
    browser.click("Make");
    browser.wait("document.querySelector('[data-snapshot=good]')");
    assert_eq!(
        browser.script("return document.querySelectorAll('.tree .snap b').length"),
        json!(1),
        "a note is no markup"
    );
    browser.picture("4-snapshots");
    browser.script("location.hash = '#/m/one/serial'");
    browser.wait("document.querySelector('.terminal')?.innerText.includes('counter')");
    browser.keys("iip");
    browser.wait("document.querySelector('.terminal').innerText.includes('m=0004 d=0004')");
    browser.script("location.hash = '#/m/one/snapshots'");
    browser.click("Restore");
    browser.click("Restore");
    browser.wait("!document.querySelector('dialog')");
    browser.wait("document.querySelector('.pill.running')");
    browser.script("location.hash = '#/m/one/serial'");
    browser.wait("document.querySelector('.terminal textarea')");
    browser.keys("p");
    browser.wait("document.querySelector('.terminal').innerText.includes('m=0002 d=0002')");
    // What somebody else does is seen here.
    console.glassbox(&["pause", "one"]);
    browser.wait("document.querySelector('.pill.paused')");
    browser.click("Go on");
    browser.wait("document.querySelector('.pill.running')");
    browser.script("location.hash = '#/m/one/hardware'");
    browser.wait("document.querySelector('[name=cpu-limit]')");
    browser.script("document.querySelector('[name=cpu-limit]').value = '50'");
    browser.click("Change");
    browser.wait("document.body.innerText.includes('cpu-limit: now')");
    browser.picture("5-hardware");
    browser.script("location.hash = '#/m/one/log'");
    browser.wait("document.body.innerText.includes('restored: good')");
    browser.picture("6-log");
    // Copy it, and delete it.
    browser.click("Clone");
    browser.click("Clone");
    browser.wait("location.hash === '#/m/one-2'");
    browser.script("location.hash = '#/'");
    browser.wait("document.querySelectorAll('.card').length === 2");
    browser.wait("document.querySelector('[data-machine=one] img') && !document.querySelector('[data-machine=one] img').hidden");
    browser.picture("7-machines");
    browser.script("location.hash = '#/m/one'");
    browser.click("Delete");
    browser.click("Delete");
    browser.wait("location.hash === '#/'");
    browser.wait("document.querySelectorAll('.card').length === 1");
    // Who may only look sees the same, without buttons.
    let viewer = std::fs::read_to_string(console.home.path().join("token-viewer")).unwrap();
    browser.go(&format!(
        "http://{}/?token={}",
        console.address,
        viewer.trim()
    ));
    browser.wait("document.querySelectorAll('.card').length === 1");
    assert_eq!(browser.script("return [...document.querySelectorAll('button')].filter((button) => button.offsetParent && button.textContent.trim() === 'Start').length"), json!(0));
    browser.picture("8-viewer");
}
