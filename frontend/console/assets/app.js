import { Rfb } from "/rfb.js";

// ---- What everything uses

const $ = (id) => document.getElementById(id);

// An element: text is text, whatever a guest wrote; nothing is ever read as markup.
function el(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [key, value] of Object.entries(attributes)) {
    if (value === undefined || value === null || value === false) continue;
    if (key.startsWith("on")) made.addEventListener(key.slice(2), value);
    else if (key === "class") made.className = value;
    else made.setAttribute(key, value === true ? "" : value);
  }
  made.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
  return made;
}

function bytes(count) {
  if (count === null || count === undefined) return "–";
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let unit = 0;
  while (count >= 1024 && unit < units.length - 1) { count /= 1024; unit += 1; }
  return `${count < 10 && unit ? count.toFixed(1) : Math.round(count)} ${units[unit]}`;
}

function ago(seconds) {
  const since = Math.max(0, Date.now() / 1000 - seconds);
  if (since < 60) return `${Math.round(since)} s`;
  if (since < 3600) return `${Math.round(since / 60)} min`;
  if (since < 172800) return `${Math.round(since / 3600)} h`;
  return `${Math.round(since / 86400)} d`;
}

function toast(text, bad = false) {
  const made = el("div", { class: bad ? "toast bad" : "toast" }, text);
  $("notes").append(made);
  setTimeout(() => made.remove(), bad ? 9000 : 4000);
}

class Refused extends Error {}

async function api(method, path, body) {
  const options = { method, headers: {} };
  if (body instanceof Blob) options.body = body;
  else if (body !== undefined) { options.body = JSON.stringify(body); options.headers["Content-Type"] = "application/json"; }
  const response = await fetch(`/api/v1${path}`, options);
  const answer = response.headers.get("content-type")?.includes("json") ? await response.json() : null;
  if (response.ok) return answer;
  const error = answer?.error ?? { message: response.statusText, hint: "" };
  throw new Refused(error.hint ? `${error.message}; ${error.hint}` : error.message);
}

// Does something, and says why not.
async function attempt(what, done) {
  try {
    const answer = await what();
    if (done) toast(done);
    return answer;
  } catch (error) {
    toast(error.message, true);
    return null;
  }
}

const at = (name) => `/machines/${encodeURIComponent(name)}`;
const socketAt = (path) => `${location.protocol === "https:" ? "wss" : "ws"}://${location.host}/api/v1${path}`;

const state = { machines: null, tasks: [], session: { read_only: true }, view: null };

// ---- What can be done with a machine

const live = (machine) => machine.state === "running" || machine.state === "paused";

function actions(machine, small) {
  const { name } = machine;
  const kind = small ? "small" : "";
  const act = (title, path, body, attributes = {}) => el("button", {
    class: `${kind} ${attributes.class ?? ""}`, "data-act": path,
    onclick: async (event) => {
      event.preventDefault();
      const button = event.currentTarget;
      button.disabled = true;
      await attempt(() => api("POST", `${at(name)}/${path}`, body));
      button.disabled = false;
    },
  }, title);
  const list = [];
  if (state.session.read_only) return list;
  switch (machine.state) {
    case "running":
      list.push(act("Shut down", "stop", {}), act("Pause", "pause"));
      if (!small) {
        list.push(act("Suspend", "suspend"), act("Reset", "reset"));
        list.push(act("Pull the plug", "stop", { force: true }, { class: "danger" }));
      }
      break;
    case "paused":
      list.push(act("Go on", "resume", undefined, { class: "primary" }));
      if (!small) list.push(act("Pull the plug", "stop", { force: true }, { class: "danger" }));
      break;
    case "saved":
      list.push(act("Go on", "start", {}, { class: "primary" }));
      if (!small) list.push(act("Drop its memory", "stop", { force: true }, { class: "danger" }));
      break;
    default:
      list.push(act("Start", "start", {}, { class: "primary" }));
  }
  return list;
}

// ---- All machines

class Overview {
  constructor(main) {
    this.cards = new Map();
    this.sum = el("span", { class: "sum" });
    this.grid = el("div", { class: "cards" });
    this.none = el("div", { class: "empty", hidden: true },
      el("h2", {}, "No machines yet"),
      el("p", {}, "Make one here, or on the command line: ", el("code", {}, "glassbox create box --from debian-12 --start")));
    main.replaceChildren(el("div", { class: "overview" }, el("h1", {}, "Machines"), this.sum), this.grid, this.none);
    document.title = "Glassbox";
    this.timer = setInterval(() => this.pictures(), 2500);
    this.update();
    this.pictures();
  }

  leave() { clearInterval(this.timer); for (const card of this.cards.values()) if (card.url) URL.revokeObjectURL(card.url); }

  update() {
    const machines = state.machines;
    if (!machines) return;
    this.none.hidden = machines.length > 0;
    const running = machines.filter(live);
    const load = running.reduce((sum, machine) => sum + machine.cpu_percent, 0);
    const held = running.reduce((sum, machine) => sum + (machine.resident_bytes ?? 0), 0);
    this.sum.textContent = `${running.length} of ${machines.length} on · ${load.toFixed(0)} % of a core · ${bytes(held)} held`;
    const names = new Set(machines.map((machine) => machine.name));
    for (const [name, card] of this.cards) if (!names.has(name)) { card.box.remove(); this.cards.delete(name); }
    for (const machine of machines) this.card(machine);
    // In the order of their names, without moving what is in its place.
    machines.forEach((machine, place) => {
      const { box } = this.cards.get(machine.name);
      if (this.grid.children[place] !== box) this.grid.insertBefore(box, this.grid.children[place] ?? null);
    });
  }

  card(machine) {
    let card = this.cards.get(machine.name);
    if (!card) {
      card = {
        picture: el("img", { alt: "", hidden: true }), off: el("span", { class: "off", "aria-hidden": "true" }),
        pill: el("span", { class: "pill" }), facts: el("div", { class: "facts" }), note: el("div", { class: "note" }),
        meter: el("i"), buttons: el("div", { class: "row" }), shown: "",
      };
      const link = `#/m/${machine.name}`;
      card.box = el("article", { class: "card", "data-machine": machine.name },
        el("a", { class: "thumb", href: link, tabindex: "-1", "aria-hidden": "true" }, card.picture, card.off),
        el("div", { class: "body" },
          el("div", { class: "head" }, el("h2", {}, el("a", { href: link }, machine.name)), card.pill),
          card.facts, el("div", { class: "meter" }, card.meter), card.note, card.buttons));
      this.cards.set(machine.name, card);
    }
    const on = live(machine);
    card.box.classList.toggle("off", !on);
    card.pill.className = `pill ${machine.state}`;
    card.pill.textContent = machine.state;
    card.note.textContent = machine.error ?? machine.note;
    const facts = [`${machine.cpus} ${machine.cpus === 1 ? "processor" : "processors"}`, bytes(machine.memory_bytes)];
    if (on) facts.push(`${machine.cpu_percent.toFixed(0)} %`, `${machine.mips} MIPS`, `up ${ago(machine.since)}`);
    else facts.push(`${bytes(machine.disk_bytes)} on disk`);
    card.facts.replaceChildren(...facts.map((fact) => el("span", {}, fact)));
    card.meter.style.width = `${Math.min(100, on ? machine.cpu_percent : 0)}%`;
    if (card.shown !== machine.state) {
      card.shown = machine.state;
      card.buttons.replaceChildren(...actions(machine, true));
      if (!on) { card.picture.hidden = true; card.off.hidden = false; }
    }
    card.on = on;
  }

  async pictures() {
    if (document.hidden) return;
    for (const [name, card] of this.cards) {
      if (!card.on) continue;
      try {
        const response = await fetch(`/api/v1${at(name)}/screenshot.png`);
        if (!response.ok) continue;
        const url = URL.createObjectURL(await response.blob());
        if (card.url) URL.revokeObjectURL(card.url);
        card.url = url;
        card.picture.src = url;
        card.picture.hidden = false;
        card.off.hidden = true;
      } catch { /* The console is away; the list says so. */ }
    }
  }
}

// ---- One machine

const TABS = { screen: "Screen", serial: "Serial terminal", snapshots: "Snapshots", hardware: "Hardware", log: "Log" };

class Detail {
  constructor(main, name, tab) {
    this.name = name;
    this.tab = TABS[tab] ? tab : "screen";
    this.pill = el("span", { class: "pill" });
    this.buttons = el("div", { class: "row" });
    this.sub = el("div", { class: "machine-sub" });
    this.body = el("div", { role: "tabpanel" });
    const operator = state.session.read_only ? [] : [
      el("button", { onclick: () => this.clone() }, "Clone"),
      el("button", { class: "danger", onclick: () => this.remove() }, "Delete"),
    ];
    this.tabs = Object.entries(TABS).map(([key, title]) => el("button", {
      role: "tab", "aria-selected": String(key === this.tab), "data-tab": key,
      onclick: () => { location.hash = `#/m/${name}/${key}`; },
    }, title));
    main.replaceChildren(
      el("div", { class: "machine-head" }, el("h1", {}, name), this.pill, el("span", { class: "spacer" }), this.buttons, ...operator),
      this.sub, el("div", { class: "tabs", role: "tablist" }, this.tabs), this.body);
    document.title = `${name} – Glassbox`;
    this.shown = "";
    this.update();
  }

  leave() { this.part?.leave?.(); }

  update() {
    const machine = state.machines?.find((machine) => machine.name === this.name);
    if (!state.machines) return;
    if (!machine) {
      this.part?.leave?.();
      this.part = null;
      this.body.replaceChildren(el("div", { class: "empty" }, el("h2", {}, "This machine is gone"), el("p", {}, el("a", { href: "#/" }, "All machines"))));
      this.buttons.replaceChildren();
      return;
    }
    this.machine = machine;
    this.pill.className = `pill ${machine.state}`;
    this.pill.textContent = machine.state;
    const facts = [`${machine.cpus} × ${bytes(machine.memory_bytes)}`];
    if (live(machine)) facts.push(`${machine.cpu_percent.toFixed(0)} % of a core`, `${machine.mips} MIPS`, `up ${ago(machine.since)}`, `disk ${bytes(machine.disk_read_bytes)} read, ${bytes(machine.disk_written_bytes)} written`, `net ${bytes(machine.net_received_bytes)} in, ${bytes(machine.net_sent_bytes)} out`);
    for (const port of machine.ports) facts.push(`port ${port.host} → ${port.guest}`);
    if (machine.note) facts.push(machine.note);
    this.sub.replaceChildren(...facts.map((fact) => el("span", {}, fact)));
    if (this.shown !== machine.state) {
      const before = this.shown;
      this.shown = machine.state;
      this.buttons.replaceChildren(...actions(machine, false));
      const was = before === "running" || before === "paused";
      if (!before || was !== live(machine)) this.fill();
    }
    this.part?.update?.(machine);
  }

  fill() {
    this.part?.leave?.();
    const parts = { screen: ScreenPart, serial: SerialPart, snapshots: SnapshotsPart, hardware: HardwarePart, log: LogPart };
    this.part = new parts[this.tab](this.body, this.machine);
  }

  clone() {
    const { name } = this;
    ask("Clone " + name, [
      field("name", "The copy's name", { value: `${name}-2`, required: true }),
      check("linked", "Share what is on the disks now, and keep only what differs"),
    ], "Clone", (values) => api("POST", `${at(name)}/clone`, { name: values.name, linked: values.linked }).then(() => { location.hash = `#/m/${values.name}`; }));
  }

  remove() {
    const { name } = this;
    const on = live(this.machine);
    ask(`Delete ${name}?`, [el("p", { class: "wide" }, `Its disks and snapshots go with it.${on ? " It runs: it is cut off first." : ""}`)],
      "Delete", () => api("DELETE", `${at(name)}${on ? "?force=true" : ""}`).then(() => { location.hash = "#/"; }), true);
  }
}

function off(body, machine) {
  body.replaceChildren(el("div", { class: "empty" }, el("h2", {}, "The machine is off"), el("p", {}, machine.state === "saved" ? "Its memory is saved: it goes on from there." : "Start it to see and use it.")));
}

class ScreenPart {
  constructor(body, machine) {
    if (!live(machine)) { off(body, machine); return; }
    this.canvas = el("canvas", { tabindex: "0", width: "640", height: "400", "aria-label": `The screen of ${machine.name}: keys go to the machine; Ctrl+Tab leaves` });
    this.waiting = el("span", { class: "waiting" }, "Connecting…");
    this.box = el("div", { class: "screen" }, this.waiting, this.canvas);
    this.canvas.hidden = true;
    this.text = el("pre", { class: "text", hidden: true });
    const button = (title, act) => el("button", { class: "small", onclick: act }, title);
    const bar = el("div", { class: "row" });
    if (!state.session.read_only) {
      bar.append(button("Ctrl+Alt+Del", () => this.rfb.chord("ControlLeft", "AltLeft", "Delete")), button("Paste…", () => this.paste(machine.name)));
    }
    bar.append(button("Full screen", () => this.box.requestFullscreen?.()), button("As text", () => this.asText(machine.name)));
    body.replaceChildren(this.box, this.text, el("p", { class: "hint" }), bar);
    this.rfb = new Rfb(this.canvas, socketAt(`${at(machine.name)}/screen`), {
      readOnly: state.session.read_only,
      onstate: (now) => {
        this.canvas.hidden = now !== "connected";
        this.waiting.hidden = now === "connected";
        this.waiting.textContent = "The connection has ended.";
        if (now === "connected" && !state.session.read_only) this.canvas.focus({ preventScroll: true });
      },
    });
  }

  leave() { this.rfb?.close(); clearInterval(this.timer); }

  paste(name) {
    ask("Paste", [field("text", "Text that is typed on the machine's keyboard", { rows: "6", required: true })], "Type", (values) => {
      // What stands for keys on the command line is meant as it stands here.
      const text = values.text.replaceAll("\\", "\\\\").replaceAll("<", "<lt>");
      return api("POST", `${at(name)}/type`, { text });
    });
  }

  // The text of the screen, to be selected and copied.
  asText(name) {
    this.text.hidden = !this.text.hidden;
    this.box.hidden = !this.text.hidden;
    clearInterval(this.timer);
    if (this.text.hidden) return;
    const look = async () => {
      if (String(getSelection())) return;
      const shown = await api("GET", at(name)).catch(() => null);
      const lines = shown?.screen?.text ?? [];
      this.text.textContent = lines.length ? lines.join("\n") : "The machine shows a picture, no text.";
    };
    this.timer = setInterval(look, 1000);
    look();
  }
}

const COLOURS = ["#05090e", "#e06c6c", "#7ccf87", "#e5c07b", "#6fa8f5", "#c792ea", "#63c9d6", "#cdd9e3", "#5f7386", "#ff8f8f", "#a0eaa9", "#ffd99a", "#9ac4ff", "#e0b3ff", "#93e6f0", "#ffffff"];

function colour(index) {
  if (typeof index === "string") return index;
  if (index < 16) return COLOURS[index];
  if (index >= 232) { const grey = 8 + 10 * (index - 232); return `rgb(${grey} ${grey} ${grey})`; }
  const part = (step) => { const level = Math.floor((index - 16) / step) % 6; return level ? 55 + 40 * level : 0; };
  return `rgb(${part(36)} ${part(6)} ${part(1)})`;
}

class SerialPart {
  constructor(body, machine) {
    if (!live(machine)) { off(body, machine); return; }
    this.keys = el("textarea", { "aria-label": "Keys for the serial terminal", autocapitalize: "off", autocomplete: "off", spellcheck: "false" });
    this.rows = el("div");
    this.box = el("div", { class: "terminal", tabindex: "-1" }, this.rows, this.keys);
    body.replaceChildren(this.box, el("p", { class: "hint" }, state.session.read_only ? "You may look." : "Click it and type. What is on it can be selected and copied; Ctrl+Shift+V or a right click pastes."));
    this.socket = new WebSocket(socketAt(`${at(machine.name)}/serial`));
    this.socket.onmessage = (message) => this.show(JSON.parse(message.data));
    this.socket.onclose = () => this.rows.append(el("div", { class: "gone" }, "— the connection has ended —"));
    if (state.session.read_only) return;
    this.box.addEventListener("mouseup", () => { if (!String(getSelection())) this.keys.focus({ preventScroll: true }); });
    this.keys.addEventListener("keydown", (event) => this.key(event));
    this.keys.addEventListener("input", () => { this.send(this.keys.value.replaceAll("\n", "\r")); this.keys.value = ""; });
    this.keys.focus({ preventScroll: true });
  }

  leave() { this.socket?.close(); }
  send(text) { if (this.socket.readyState === 1 && text) this.socket.send(text); }

  key(event) {
    const named = { Enter: "\r", Backspace: "\x7f", Tab: "\t", Escape: "\x1b", ArrowUp: "\x1b[A", ArrowDown: "\x1b[B", ArrowRight: "\x1b[C", ArrowLeft: "\x1b[D", Home: "\x1b[H", End: "\x1b[F", Delete: "\x1b[3~", PageUp: "\x1b[5~", PageDown: "\x1b[6~" };
    let text = named[event.key];
    if (event.ctrlKey && !event.shiftKey && !event.altKey && event.key.length === 1) {
      const code = event.key.toUpperCase().charCodeAt(0);
      if (code >= 64 && code < 96) text = String.fromCharCode(code - 64);
    }
    if (event.key === "Tab" && event.ctrlKey) return;
    if (text) { event.preventDefault(); this.send(text); }
  }

  show(screen) {
    // What somebody selects stays.
    if (String(getSelection()) && this.box.contains(getSelection().anchorNode)) return;
    const end = this.box.scrollTop + this.box.clientHeight >= this.box.scrollHeight - 40;
    const lines = screen.gone.map((line) => el("div", { class: "gone" }, line || " "));
    let last = screen.rows.length - 1;
    while (last > 0 && !screen.rows[last].length && !(screen.cursor && screen.cursor[0] >= last)) last -= 1;
    screen.rows.slice(0, last + 1).forEach((runs, row) => lines.push(this.row(runs, screen.cursor?.[0] === row ? screen.cursor[1] : null)));
    this.rows.replaceChildren(...lines);
    if (end || !this.seen) this.box.scrollTop = this.box.scrollHeight;
    this.seen = true;
  }

  row(runs, cursor) {
    const line = el("div");
    let column = 0;
    for (const [text, [front, back, style]] of runs) {
      const letters = [...text];
      const pieces = cursor !== null && cursor >= column && cursor < column + letters.length
        ? [letters.slice(0, cursor - column), letters.slice(cursor - column, cursor - column + 1), letters.slice(cursor - column + 1)]
        : [letters];
      pieces.forEach((piece, at) => {
        if (!piece.length) return;
        const classes = [style & 1 ? "b" : "", style & 2 ? "u" : "", pieces.length === 3 && at === 1 ? "cursor" : ""].join(" ").trim();
        const span = el("span", { class: classes || null }, piece.join(""));
        const [ink, ground] = style & 4 ? [back ?? 0, front ?? 7] : [front, back];
        if (ink !== null) span.style.color = colour(ink);
        if (ground !== null) span.style.background = colour(ground);
        line.append(span);
      });
      column += letters.length;
    }
    if (cursor !== null && cursor >= column) line.append(" ".repeat(cursor - column), el("span", { class: "cursor" }, " "));
    if (!line.childNodes.length) line.append(" ");
    return line;
  }
}

class SnapshotsPart {
  constructor(body, machine) {
    this.name = machine.name;
    this.tree = el("div", { class: "tree" });
    const make = el("button", { class: "primary", onclick: () => this.make() }, "Make a snapshot");
    body.replaceChildren(el("div", { class: "panel" },
      el("div", { class: "row" }, state.session.read_only ? null : make, el("span", { class: "hint" }, "Of a machine that runs, with its memory: all its disks and the memory of the same instant.")), this.tree));
    this.load();
  }

  update() { const tasks = state.tasks[0]?.id; if (tasks !== this.seen) { this.seen = tasks; this.load(); } }

  async load() {
    const snapshots = await api("GET", `${at(this.name)}/snapshots`).catch(() => null);
    if (!snapshots) return;
    const here = () => el("li", {}, el("span", { class: "now" }, "● you are here"));
    const branch = (parent) => {
      const children = snapshots.filter((snapshot) => snapshot.parent === parent).sort((a, b) => a.created - b.created);
      const current = snapshots.find((snapshot) => snapshot.current)?.name ?? null;
      const items = children.map((snapshot) => el("li", {}, this.row(snapshot), branch(snapshot.name)));
      if (current === parent) items.push(here());
      return items.length ? el("ul", {}, items) : null;
    };
    const all = branch(null) ?? el("p", { class: "hint" }, "None yet.");
    this.tree.replaceChildren(all);
  }

  row(snapshot) {
    const path = `${at(this.name)}/snapshots/${encodeURIComponent(snapshot.name)}`;
    const button = (title, act, kind = "") => el("button", { class: `small ${kind}`, onclick: act }, title);
    const buttons = state.session.read_only ? [] : [
      button("Restore", () => ask(`Put ${this.name} back to ${snapshot.name}?`,
        [el("p", { class: "wide" }, "What was done since is lost, unless another snapshot has it. A machine that runs is cut off.")],
        "Restore", () => api("POST", `${path}/restore`, {}).then(() => { toast(`${this.name} is as at ${snapshot.name}`); this.load(); }))),
      button("Delete", () => attempt(() => api("DELETE", path).then(() => this.load())), "danger"),
    ];
    return el("div", { class: snapshot.current ? "snap here" : "snap", "data-snapshot": snapshot.name }, el("b", {}, snapshot.name),
      el("span", { class: "dim" }, `${ago(snapshot.created)} ago${snapshot.memory ? ", with memory" : ""}`), snapshot.note ? el("span", { class: "dim" }, snapshot.note) : null,
      el("span", { class: "spacer" }), ...buttons);
  }

  make() {
    ask("Make a snapshot", [field("name", "Name", { placeholder: "snapshot-N" }), field("note", "What it is for", { class: "wide" })], "Make",
      (values) => api("POST", `${at(this.name)}/snapshots`, { name: values.name || null, note: values.note }).then(() => this.load()));
  }
}

class HardwarePart {
  constructor(body, machine) { this.body = body; this.name = machine.name; this.load(); }

  async load() {
    const all = await attempt(() => api("GET", at(this.name)));
    if (!all) return;
    const hardware = all.machine;
    const facts = el("dl", { class: "facts" });
    const fact = (name, value) => { if (value !== null && value !== undefined && value !== "") facts.append(el("dt", {}, name), el("dd", {}, String(value))); };
    fact("Processors", `${all.cpus} (${hardware.cpu})`);
    fact("Memory", bytes(all.memory_bytes));
    fact("Firmware", hardware.firmware);
    fact("Network card", hardware.net ? `${hardware.net.model}, ${hardware.net.mac}` : "none");
    for (const port of all.ports) fact("Port", `${port.host} of this host leads to ${port.guest} (${port.protocol})`);
    fact("Log in", all.ssh?.join(" "));
    (hardware.cdrom ?? []).forEach((image, at) => fact(at ? `CD-ROM ${at + 1}` : "CD-ROM", image));
    (hardware.floppy ?? []).forEach((image, at) => fact(at ? `Floppy ${at + 1}` : "Floppy", image));
    fact("Folder", all.folder);
    fact("Takes of the disk", bytes(all.disk_bytes));
    fact("Limit", all.cpu_limit ? `${all.cpu_limit} % of a core` : "none");
    const operator = !state.session.read_only;
    const disks = el("table", {}, el("tr", {}, el("th", {}, "Disk"), el("th", {}, "Size"), el("th", {}, "")),
      all.disks.map((disk) => el("tr", {}, el("td", {}, disk.name), el("td", {}, bytes(disk.bytes)), el("td", {}, operator && !live(all) ? el("button", { class: "small danger", onclick: () => attempt(() => api("DELETE", `${at(this.name)}/disks/${disk.name}`).then(() => this.load())) }, "Detach") : ""))));
    const parts = [el("div", { class: "panel" }, facts), el("div", { class: "panel" }, disks)];
    if (operator) {
      const form = el("form", { class: "grid", onsubmit: (event) => { event.preventDefault(); this.save(new FormData(form), all); } },
        field("memory", "Memory", { value: `${Math.round(all.memory_bytes / 1048576)}M` }), field("cpus", "Processors", { type: "number", min: 1, max: 16, value: all.cpus }),
        field("cpu-limit", "Limit, % of a core", { type: "number", min: 1, max: 1600, value: all.cpu_limit ?? "", placeholder: "none" }), field("note", "What it is for", { value: all.note }),
        check("autostart", "Start it with the console", all.autostart), el("div", { class: "row" }, el("button", { class: "primary" }, "Change"),
          live(all) ? null : el("button", { type: "button", onclick: () => this.attach() }, "Add a disk…"), hardware.cdrom?.length ? el("button", { type: "button", onclick: () => this.disc() }, "Change the disc…") : null));
      parts.unshift(el("div", { class: "panel" }, form, el("p", { class: "hint" }, live(all) ? "Limit, note and start take effect at once, memory and processors at the next start." : "")));
    }
    this.body.replaceChildren(...parts);
  }

  async save(data, old) {
    const changes = {};
    if (data.get("memory") !== `${Math.round(old.memory_bytes / 1048576)}M`) changes.memory = data.get("memory");
    if (Number(data.get("cpus")) !== old.cpus) changes.cpus = Number(data.get("cpus"));
    if ((Number(data.get("cpu-limit")) || null) !== old.cpu_limit) changes["cpu-limit"] = Number(data.get("cpu-limit")) || null;
    if (data.get("note") !== old.note) changes.note = data.get("note");
    if (data.has("autostart") !== old.autostart) changes.autostart = data.has("autostart");
    if (!Object.keys(changes).length) { toast("Nothing was changed"); return; }
    const done = await attempt(() => api("PATCH", at(this.name), changes));
    if (done) { toast(done.changes.map((change) => `${change.key}: ${change.at_once ? "now" : "at the next start"}`).join(", ")); this.load(); }
  }

  attach() { ask("Add a disk", [field("size", "Size", { value: "10G", required: true })], "Add", (values) => api("POST", `${at(this.name)}/disks`, { size: values.size }).then(() => this.load())); }

  async disc() {
    const images = await api("GET", "/images").catch(() => []);
    ask("Change the disc", [choice("image", "Image", [["", "none: an empty drive"], ...images.map((image) => [image.name, `${image.name} (${bytes(image.bytes)})`])])], "Change",
      (values) => api("POST", `${at(this.name)}/media`, { drive: "cdrom", image: values.image || null }).then(() => this.load()));
  }
}

class LogPart {
  constructor(body, machine) { this.body = body; this.name = machine.name; this.load(); this.timer = setInterval(() => this.load(), 4000); }
  leave() { clearInterval(this.timer); }
  async load() {
    const log = await api("GET", `${at(this.name)}/log`).catch(() => null);
    if (!log || String(getSelection())) return;
    const rows = log.notes.slice().reverse().map((note) => el("tr", {}, el("td", {}, new Date(note.time * 1000).toLocaleString()), el("td", {}, note.did + (note.detail ? `: ${note.detail}` : "")), el("td", {}, note.by)));
    this.body.replaceChildren(
      el("div", { class: "panel" }, el("table", {}, el("tr", {}, ["When", "What", "By"].map((title) => el("th", {}, title))), rows)),
      // eslint-disable-next-line no-control-regex
      el("div", { class: "panel" }, el("h3", {}, "Serial port"), el("pre", { class: "text" }, log.serial.replace(/\x1b\[[0-9;?]*[A-Za-z]/g, "").replace(/[\x00-\x08\x0b-\x1f\x7f]/g, "") || "Nothing yet.")));
  }
}

// ---- Forms

function field(name, title, attributes = {}) {
  const { rows, class: kind, ...rest } = attributes;
  const input = rows ? el("textarea", { name, rows, ...rest }) : el("input", { name, ...rest });
  return el("label", { class: rows ? "wide" : kind }, title, input);
}

const check = (name, title, on = false) => el("label", { class: "check wide" }, el("input", { type: "checkbox", name, checked: on }), title);
const choice = (name, title, options, attributes = {}) => el("label", attributes, title, el("select", { name }, options.map(([value, text]) => el("option", { value }, text))));

// A dialog: `act` gets the values, and what it refuses is said in there.
function ask(title, fields, verb, act, danger = false) {
  const why = el("p", { class: "why", role: "alert" });
  const go = el("button", { class: danger ? "danger" : "primary" }, verb);
  const form = el("form", { class: "grid", method: "dialog" }, fields);
  const dialog = el("dialog", {}, el("h2", {}, title), form, why);
  form.append(el("div", { class: "row end wide" }, el("button", { type: "button", onclick: () => dialog.close() }, "Cancel"), go));
  form.lastChild.style.gridColumn = "1 / -1";
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const values = {};
    for (const input of form.elements) if (input.name) values[input.name] = input.type === "checkbox" ? input.checked : input.value;
    go.disabled = true;
    why.textContent = "";
    try { await act(values); dialog.close(); } catch (error) { why.textContent = error.message; }
    go.disabled = false;
  });
  dialog.addEventListener("close", () => dialog.remove());
  document.body.append(dialog);
  dialog.showModal();
  return dialog;
}

async function createMachine() {
  const [catalogue, images] = await Promise.all([api("GET", "/catalogue").catch(() => []), api("GET", "/images").catch(() => [])]);
  const sources = [["", "an empty disk"], ...images.map((image) => [image.name, `${image.name} (sent, ${bytes(image.bytes)})`]), ...catalogue.map((entry) => [entry.name, `${entry.title}${entry.cached ? "" : " (is fetched)"}`]), ["url", "an address…"]];
  const from = choice("from", "Starts from", sources, { class: "wide" });
  const url = field("url", "Address of a disk image or ISO", { class: "wide", placeholder: "https://…" });
  url.hidden = true;
  from.lastChild.addEventListener("change", () => { url.hidden = from.lastChild.value !== "url"; });
  const upload = el("input", { type: "file" });
  upload.addEventListener("change", async () => {
    const file = upload.files[0];
    if (!file) return;
    const name = file.name.replace(/[^A-Za-z0-9._-]/g, "-").replace(/^[^A-Za-z0-9]+/, "").slice(-60) || "image";
    upload.disabled = true;
    const done = await attempt(() => api("PUT", `/images/${encodeURIComponent(name)}`, file), `${name} is here`);
    upload.disabled = false;
    if (done) { from.lastChild.append(el("option", { value: name }, `${name} (sent)`)); from.lastChild.value = name; }
  });
  const more = el("details", { class: "wide" }, el("summary", {}, "More"), el("div", { class: "grid" },
    field("user", "User (systems with cloud-init)", { placeholder: "as usual" }), field("password", "Password at the console", { type: "password", autocomplete: "new-password" }),
    field("ssh_key", "Public key", { placeholder: "ssh-ed25519 …" }), field("cpu_limit", "Limit, % of a core", { type: "number", min: 1, max: 1600, placeholder: "none" }),
    field("net", "Network", { value: "user" }), field("note", "What it is for")));
  more.lastChild.className = "cards";
  ask("New machine", [
    field("name", "Name", { required: true, pattern: "[A-Za-z0-9][A-Za-z0-9._\\-]{0,62}", title: "letters, digits, . _ and -", autofocus: true }), from, url,
    el("label", { class: "wide" }, "…or send an image from this computer", upload),
    field("memory", "Memory", { placeholder: "512M, or as the system wants" }), field("cpus", "Processors", { type: "number", min: 1, max: 16, value: 1 }), field("disk", "Disk", { placeholder: "20G, or as the system wants" }),
    more, check("start", "Start it", true),
  ], "Create", async (values) => {
    await api("POST", "/machines", {
      name: values.name, from: (values.from === "url" ? values.url : values.from) || null, memory: values.memory || null, cpus: Number(values.cpus) || 1,
      disks: values.disk ? [values.disk] : [], net: values.net || "user", note: values.note, cpu_limit: Number(values.cpu_limit) || null,
      user: values.user || null, password: values.password || null, ssh_keys: values.ssh_key ? [values.ssh_key] : [], start: values.start,
    });
    location.hash = `#/m/${values.name}`;
  });
}

// ---- Tasks

function showTasks() {
  const running = state.tasks.filter((task) => task.state === "running").length;
  $("tasks-count").hidden = !running;
  $("tasks-count").textContent = running;
  const rows = state.tasks.slice(0, 30).map((task) => {
    const progress = task.progress ? ` · ${bytes(task.progress[0])}${task.progress[1] ? ` of ${bytes(task.progress[1])}` : ""}` : "";
    return el("div", { class: "task" }, el("span", {}, el("b", {}, task.what), ` ${task.machine}`), el("span", { class: "dim" }, `${task.state}, ${ago(task.started)} ago${progress}`), task.error ? el("span", { class: "bad" }, task.error) : null);
  });
  $("tasks").replaceChildren(...(rows.length ? rows : [el("div", { class: "task dim" }, "Nothing was done lately.")]));
}

// ---- Ways

function route() {
  state.view?.leave();
  const match = location.hash.match(/^#\/m\/([A-Za-z0-9._-]+)(?:\/([a-z]+))?$/);
  state.view = match ? new Detail($("main"), match[1], match[2]) : new Overview($("main"));
}

async function start() {
  $("tasks-button").addEventListener("click", () => { const now = $("tasks").hidden; $("tasks").hidden = !now; $("tasks-button").setAttribute("aria-expanded", String(now)); });
  $("create-button").addEventListener("click", createMachine);
  document.addEventListener("keydown", (event) => { if (event.key === "Escape") $("tasks").hidden = true; });
  state.session = await api("GET", "/session");
  $("viewer").hidden = !state.session.read_only;
  $("create-button").hidden = state.session.read_only;
  $("host").textContent = `${state.session.cpus} cores · ${bytes(state.session.memory_available_bytes)} free`;
  window.addEventListener("hashchange", route);
  route();
  const events = new EventSource("/api/v1/events");
  let lost = false;
  events.addEventListener("all", (event) => {
    if (lost) { lost = false; toast("The console is back"); route(); }
    const all = JSON.parse(event.data);
    state.machines = all.machines;
    state.tasks = all.tasks;
    showTasks();
    state.view?.update();
  });
  events.onerror = () => { if (!lost) { lost = true; toast("The console does not answer; trying again", true); } };
}

start().catch((error) => { $("main").replaceChildren(el("div", { class: "empty" }, el("h2", {}, "The console does not answer"), el("p", {}, error.message))); });
