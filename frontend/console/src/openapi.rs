//! The API's description (OpenAPI 3.1).

use serde_json::{Map, Value, json};

/// Method, path, what it does, and the names of what its body may have.
const ROUTES: &[(&str, &str, &str, &[&str])] = &[
    (
        "get",
        "/session",
        "Who asks: whether they may only look; and this host",
        &[],
    ),
    ("get", "/machines", "All machines, with their load", &[]),
    (
        "post",
        "/machines",
        "Make a machine. from: a name of /catalogue, an URL, or an image of /images",
        &[
            "name",
            "from",
            "memory",
            "cpus",
            "cpu",
            "disks",
            "net",
            "note",
            "cpu_limit",
            "autostart",
            "user",
            "ssh_keys",
            "password",
            "user_data",
            "start",
        ],
    ),
    ("get", "/machines/{name}", "All about a machine", &[]),
    (
        "patch",
        "/machines/{name}",
        "Change its description; the answer says what takes effect when",
        &[
            "memory",
            "cpus",
            "cpu",
            "cpu-limit",
            "net",
            "boot",
            "input",
            "autostart",
            "note",
            "user",
            "rtc",
            "append",
        ],
    ),
    (
        "delete",
        "/machines/{name}",
        "Delete it, with ?force=true also while it runs",
        &[],
    ),
    (
        "post",
        "/machines/{name}/start",
        "Start it, or go on where it was suspended",
        &["paused", "force"],
    ),
    (
        "post",
        "/machines/{name}/stop",
        "Press the power button and wait; force pulls the plug",
        &["force", "wait"],
    ),
    (
        "post",
        "/machines/{name}/reset",
        "Press the reset button",
        &[],
    ),
    (
        "post",
        "/machines/{name}/pause",
        "Have it stand still, in memory",
        &[],
    ),
    ("post", "/machines/{name}/resume", "Have it go on", &[]),
    (
        "post",
        "/machines/{name}/suspend",
        "Save it to the disk and end its process",
        &[],
    ),
    (
        "post",
        "/machines/{name}/clone",
        "Copy it",
        &["name", "linked"],
    ),
    (
        "post",
        "/machines/{name}/type",
        "Type text on its keyboard, as `glassbox type`",
        &["text"],
    ),
    ("get", "/machines/{name}/snapshots", "Its snapshots", &[]),
    (
        "post",
        "/machines/{name}/snapshots",
        "Make a snapshot, with memory while it runs",
        &["name", "note"],
    ),
    (
        "post",
        "/machines/{name}/snapshots/{snapshot}/restore",
        "Put it back to a snapshot",
        &["paused"],
    ),
    (
        "delete",
        "/machines/{name}/snapshots/{snapshot}",
        "Delete a snapshot",
        &[],
    ),
    ("get", "/machines/{name}/screenshot.png", "Its screen", &[]),
    (
        "get",
        "/machines/{name}/screen",
        "WebSocket: its screen by RFB 3.8",
        &[],
    ),
    (
        "get",
        "/machines/{name}/serial",
        "WebSocket: its serial terminal",
        &[],
    ),
    (
        "get",
        "/machines/{name}/log",
        "What was done to it, and its serial port's last words",
        &[],
    ),
    (
        "post",
        "/machines/{name}/media",
        "Put an image of /images into a drive; without one, empty it",
        &["drive", "image"],
    ),
    (
        "post",
        "/machines/{name}/disks",
        "Give it one more disk",
        &["size", "bus"],
    ),
    (
        "delete",
        "/machines/{name}/disks/{disk}",
        "Take a disk out; one of its own is deleted",
        &[],
    ),
    (
        "get",
        "/events",
        "Server-sent events `all`: machines and tasks, whenever they change",
        &[],
    ),
    (
        "get",
        "/tasks",
        "What was asked for lately, and how far it is",
        &[],
    ),
    ("get", "/catalogue", "What machines can be made from", &[]),
    ("get", "/images", "Images that were sent", &[]),
    (
        "put",
        "/images/{name}",
        "Send an image: the body is its bytes",
        &[],
    ),
    (
        "delete",
        "/images/{name}",
        "Delete an image that was sent",
        &[],
    ),
];

/// What a body's key has.
fn schema(key: &str) -> Value {
    match key {
        "cpus" | "cpu_limit" | "cpu-limit" | "wait" | "rtc" => json!({ "type": "integer" }),
        "autostart" | "start" | "paused" | "force" | "linked" => json!({ "type": "boolean" }),
        "disks" | "ssh_keys" => json!({ "type": "array", "items": { "type": "string" } }),
        "memory" | "size" => json!({ "type": "string", "examples": ["512M", "20G"] }),
        _ => json!({ "type": "string" }),
    }
}

/// The description.
pub(crate) fn describe() -> Value {
    let mut paths = Map::new();
    for (method, path, summary, keys) in ROUTES {
        let parameters = path
            .split('/')
            .filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'));
        let parameters = parameters.map(|name| {
            json!({ "name": name, "in": "path", "required": true, "schema": { "type": "string" } })
        });
        let error = json!({ "$ref": "#/components/responses/Error" });
        let mut operation = json!({
            "summary": summary,
            "parameters": parameters.collect::<Vec<_>>(),
            "responses": { "2XX": { "description": "done" }, "4XX": error, "5XX": error },
        });
        if !keys.is_empty() {
            let properties: Map<String, Value> = keys
                .iter()
                .map(|key| ((*key).to_owned(), schema(key)))
                .collect();
            operation["requestBody"] = json!({
                "content": { "application/json": { "schema": { "type": "object", "properties": properties } } },
            });
        }
        let entry = paths.entry(*path).or_insert_with(|| json!({}));
        entry[*method] = operation;
    }
    json!({
        "openapi": "3.1.0",
        "info": { "title": "Glassbox", "version": env!("CARGO_PKG_VERSION") },
        "servers": [{ "url": "/api/v1" }],
        "security": [{ "token": [] }],
        "paths": paths,
        "components": {
            "securitySchemes": { "token": { "type": "http", "scheme": "bearer" } },
            "responses": { "Error": {
                "description": "why not",
                "content": { "application/json": { "schema": {
                    "type": "object",
                    "properties": { "error": {
                        "type": "object",
                        "properties": {
                            "code": { "type": "string" },
                            "message": { "type": "string" },
                            "hint": { "type": "string" },
                        },
                    } },
                } } },
            } },
        },
    })
}
