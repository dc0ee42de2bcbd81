// A client of the remote framebuffer protocol (RFC 6143) for one canvas: PNG rectangles, keys by their place on the
// keyboard, absolute and relative pointers, other sizes.

const PNG = -260, SIZE = -223, CURSOR = -239, MOTION = -257, KEYS = -258;

// KeyboardEvent.code and the scan code of set 1; with 80h those that E0h comes before.
const CODES = {
  Escape: 1, Digit1: 2, Digit2: 3, Digit3: 4, Digit4: 5, Digit5: 6, Digit6: 7, Digit7: 8, Digit8: 9, Digit9: 10, Digit0: 11,
  Minus: 12, Equal: 13, Backspace: 14, Tab: 15, KeyQ: 16, KeyW: 17, KeyE: 18, KeyR: 19, KeyT: 20, KeyY: 21, KeyU: 22, KeyI: 23,
  KeyO: 24, KeyP: 25, BracketLeft: 26, BracketRight: 27, Enter: 28, ControlLeft: 29, KeyA: 30, KeyS: 31, KeyD: 32, KeyF: 33,
  KeyG: 34, KeyH: 35, KeyJ: 36, KeyK: 37, KeyL: 38, Semicolon: 39, Quote: 40, Backquote: 41, ShiftLeft: 42, Backslash: 43,
  KeyZ: 44, KeyX: 45, KeyC: 46, KeyV: 47, KeyB: 48, KeyN: 49, KeyM: 50, Comma: 51, Period: 52, Slash: 53, ShiftRight: 54,
  NumpadMultiply: 55, AltLeft: 56, Space: 57, CapsLock: 58, F1: 59, F2: 60, F3: 61, F4: 62, F5: 63, F6: 64, F7: 65, F8: 66,
  F9: 67, F10: 68, NumLock: 69, ScrollLock: 70, Numpad7: 71, Numpad8: 72, Numpad9: 73, NumpadSubtract: 74, Numpad4: 75,
  Numpad5: 76, Numpad6: 77, NumpadAdd: 78, Numpad1: 79, Numpad2: 80, Numpad3: 81, Numpad0: 82, NumpadDecimal: 83,
  IntlBackslash: 86, F11: 87, F12: 88, NumpadEnter: 0x9c, ControlRight: 0x9d, NumpadDivide: 0xb5, PrintScreen: 0xb7,
  AltRight: 0xb8, Pause: 0xc6, Home: 0xc7, ArrowUp: 0xc8, PageUp: 0xc9, ArrowLeft: 0xcb, ArrowRight: 0xcd, End: 0xcf,
  ArrowDown: 0xd0, PageDown: 0xd1, Insert: 0xd2, Delete: 0xd3, MetaLeft: 0xdb, MetaRight: 0xdc, ContextMenu: 0xdd,
};

// Bytes as they come, waited for by how many are needed.
class Bytes {
  constructor() { this.pieces = []; this.length = 0; this.wants = null; this.over = false; }
  push(piece) { this.pieces.push(new Uint8Array(piece)); this.length += piece.byteLength; this.wake(); }
  end() { this.over = true; this.wake(); }
  wake() { if (this.wants && (this.over || this.length >= this.wants.count)) { const { done } = this.wants; this.wants = null; done(); } }
  async take(count) {
    if (this.length < count && !this.over) await new Promise((done) => { this.wants = { count, done }; });
    if (this.length < count) throw new Error("the connection ended");
    const out = new Uint8Array(count);
    let filled = 0;
    while (filled < count) {
      const first = this.pieces[0], part = first.subarray(0, count - filled);
      out.set(part, filled); filled += part.length;
      if (part.length === first.length) this.pieces.shift(); else this.pieces[0] = first.subarray(part.length);
    }
    this.length -= count;
    return out;
  }
  async view(count) { return new DataView((await this.take(count)).buffer); }
}

export class Rfb {
  constructor(canvas, url, { onstate = () => {}, readOnly = false } = {}) {
    this.canvas = canvas; this.paint = canvas.getContext("2d"); this.onstate = onstate; this.readOnly = readOnly;
    this.bytes = new Bytes(); this.down = new Set(); this.buttons = 0; this.absolute = true; this.extended = false;
    this.socket = new WebSocket(url, ["binary"]); this.socket.binaryType = "arraybuffer";
    this.socket.onmessage = (message) => this.bytes.push(message.data);
    this.socket.onclose = () => { this.bytes.end(); this.onstate("closed"); };
    this.listeners = [];
    this.run().catch((error) => { this.onstate("closed", error); this.socket.close(); });
  }

  close() { for (const [target, name, act] of this.listeners) target.removeEventListener(name, act); this.listeners = []; this.socket.close(); }
  send(...bytes) { if (this.socket.readyState === 1) this.socket.send(new Uint8Array(bytes)); }

  async run() {
    await this.bytes.take(12);
    this.socket.send(new TextEncoder().encode("RFB 003.008\n"));
    const kinds = await this.bytes.take((await this.bytes.take(1))[0]);
    if (!kinds.includes(1)) throw new Error("this screen has a password");
    this.send(1);
    if ((await this.bytes.view(4)).getUint32(0)) throw new Error("refused");
    this.send(1);
    const init = await this.bytes.view(24);
    this.resize(init.getUint16(0), init.getUint16(2));
    await this.bytes.take(init.getUint32(20));
    const encodings = [PNG, SIZE, KEYS, MOTION];
    const message = new DataView(new ArrayBuffer(4 + 4 * encodings.length));
    message.setUint8(0, 2); message.setUint16(2, encodings.length);
    encodings.forEach((encoding, at) => message.setInt32(4 + 4 * at, encoding));
    this.socket.send(message.buffer);
    this.ask(0);
    if (!this.readOnly) this.listen();
    this.onstate("connected");
    for (;;) await this.message();
  }

  resize(width, height) { if (this.canvas.width !== width || this.canvas.height !== height) { this.canvas.width = width; this.canvas.height = height; } }

  ask(incremental) {
    const message = new DataView(new ArrayBuffer(10));
    message.setUint8(0, 3); message.setUint8(1, incremental); message.setUint16(6, 0xffff); message.setUint16(8, 0xffff);
    if (this.socket.readyState === 1) this.socket.send(message.buffer);
  }

  async message() {
    const kind = (await this.bytes.take(1))[0];
    if (kind === 2) return;
    if (kind === 3) { await this.bytes.take(3); await this.bytes.take((await this.bytes.view(4)).getUint32(0)); return; }
    if (kind !== 0) throw new Error(`a message of kind ${kind}`);
    const count = (await this.bytes.view(3)).getUint16(1);
    for (let at = 0; at < count; at += 1) await this.rectangle();
    // The next one when the browser has shown this one.
    if (document.hidden) setTimeout(() => this.ask(1), 500); else requestAnimationFrame(() => this.ask(1));
  }

  async rectangle() {
    const head = await this.bytes.view(12);
    const [x, y, width, height] = [0, 2, 4, 6].map((at) => head.getUint16(at));
    switch (head.getInt32(8)) {
      case SIZE: this.resize(width, height); return;
      case KEYS: this.extended = true; return;
      case MOTION: this.absolute = x === 1; this.canvas.classList.toggle("relative", !this.absolute); return;
      case CURSOR: await this.bytes.take(width * height * 4 + Math.floor((width + 7) / 8) * height); return;
      case PNG: break;
      default: throw new Error(`an encoding that was not asked for: ${head.getInt32(8)}`);
    }
    const control = (await this.bytes.take(1))[0];
    if (control === 0x80) {
      const [red, green, blue] = await this.bytes.take(3);
      this.paint.fillStyle = `rgb(${red} ${green} ${blue})`;
      this.paint.fillRect(x, y, width, height);
      return;
    }
    if (control !== 0xa0) throw new Error("a way of packing that was not asked for");
    let length = 0;
    for (let at = 0; at < 3; at += 1) {
      const part = (await this.bytes.take(1))[0];
      length |= (at < 2 ? part & 0x7f : part) << (7 * at);
      if (at < 2 && !(part & 0x80)) break;
    }
    const image = await createImageBitmap(new Blob([await this.bytes.take(length)], { type: "image/png" }));
    this.paint.drawImage(image, x, y);
    image.close();
  }

  on(target, name, act, options) { target.addEventListener(name, act, options); this.listeners.push([target, name, act]); }

  listen() {
    const { canvas } = this;
    this.on(canvas, "keydown", (event) => this.key(event, true));
    this.on(canvas, "keyup", (event) => this.key(event, false));
    this.on(canvas, "blur", () => this.releaseAll());
    this.on(canvas, "contextmenu", (event) => event.preventDefault());
    this.on(canvas, "pointermove", (event) => this.pointer(event));
    this.on(canvas, "pointerdown", (event) => {
      canvas.focus();
      if (!this.absolute && document.pointerLockElement !== canvas) canvas.requestPointerLock?.();
      canvas.setPointerCapture?.(event.pointerId);
      this.pointer(event); event.preventDefault();
    });
    this.on(canvas, "pointerup", (event) => this.pointer(event));
    this.on(canvas, "wheel", (event) => {
      event.preventDefault();
      const bit = event.deltaY < 0 ? 8 : 16;
      this.point(event, this.buttons | bit); this.point(event, this.buttons);
    }, { passive: false });
  }

  key(event, pressed) {
    // The way out for who has no mouse.
    if (event.code === "Tab" && event.ctrlKey) return;
    event.preventDefault();
    if (event.repeat && !pressed) return;
    this.press(event.code, pressed);
  }

  press(code, pressed) {
    const scan = CODES[code];
    if (!scan || !this.extended) return;
    if (pressed) this.down.add(code); else this.down.delete(code);
    this.send(255, 0, 0, pressed ? 1 : 0, 0, 0, 0, 0, 0, 0, 0, scan);
  }

  releaseAll() { for (const code of [...this.down]) this.press(code, false); }
  chord(...codes) { codes.forEach((code) => this.press(code, true)); codes.reverse().forEach((code) => this.press(code, false)); }

  pointer(event) {
    const bit = (from, to) => (event.buttons >> from & 1) << to;
    this.buttons = bit(0, 0) | bit(2, 1) | bit(1, 2);
    this.point(event, this.buttons);
  }

  point(event, mask) {
    let x, y;
    if (this.absolute) {
      const box = this.canvas.getBoundingClientRect();
      x = Math.max(0, Math.min(this.canvas.width - 1, Math.round((event.clientX - box.left) * this.canvas.width / box.width)));
      y = Math.max(0, Math.min(this.canvas.height - 1, Math.round((event.clientY - box.top) * this.canvas.height / box.height)));
    } else {
      x = 0x7fff + (event.type === "wheel" ? 0 : event.movementX); y = 0x7fff + (event.type === "wheel" ? 0 : event.movementY);
    }
    this.send(5, mask, x >> 8, x & 255, y >> 8, y & 255);
  }
}
