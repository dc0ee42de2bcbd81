"""What the comparisons beside this file share: the programs that they compare, how one run is watched, and ratios."""

import argparse
import dataclasses
import os
import pathlib
import shutil
import statistics
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
MAKE = ROOT / "test-roms" / "guests" / "make"
CACHE = pathlib.Path(os.environ.get("GLASSBOX_CACHE") or ROOT / ".cache") / "guests"
GUESTS = ["i386", "i386-pae", "amd64"]
SKIP = 77
POLL_S = 0.004


class Missing(Exception):
    """Something cannot run here; the message says what to install."""


class Failed(Exception):
    """A run did not come to its end."""


# ---- Peers: each gives the command that boots something, its serial port going to a file --------------------


@dataclasses.dataclass
class Boot:
    """What a machine boots: a disk image, or else a kernel."""

    guest: str = "i386"
    disk: pathlib.Path | None = None
    kernel: pathlib.Path | None = None
    initrd: pathlib.Path | None = None
    append: str = ""


class Glassbox:
    def __init__(self, program, memory, timeout, options=()):
        self.program = program
        self.memory = memory
        self.timeout = timeout
        self.options = options
        if not os.access(self.program, os.X_OK):
            raise Missing(f"{self.program} is not there; build it: cargo build --release")

    def version(self):
        return output([self.program, "--version"])

    def command(self, boot, folder, serial):
        if boot.disk:
            what = ["--disk", boot.disk, "--ephemeral"]
        else:
            what = ["--kernel", boot.kernel, "--initrd", boot.initrd, "--append", boot.append]
        return [
            self.program, "run", *what, "-m", f"{self.memory}M", "--display", "none",
            "--serial", f"file:{serial}", "--timeout", str(self.timeout), *self.options,
        ]  # fmt: skip


class Qemu:
    """QEMU's recompiler, TCG, never the host's virtualization."""

    def __init__(self, memory, options=()):
        self.memory = memory
        self.options = options
        if not self.program("i386") or not self.program("amd64"):
            raise Missing("qemu-system-i386 and qemu-system-x86_64 are missing; install the package qemu-system-x86")

    @staticmethod
    def program(guest):
        return shutil.which("qemu-system-x86_64" if guest == "amd64" else "qemu-system-i386")

    def version(self):
        return " ".join([output([self.program("i386"), "--version"]), *self.options])

    def command(self, boot, folder, serial):
        if boot.disk:
            what = ["-drive", f"file={boot.disk},format=raw,snapshot=on"]
        else:
            what = ["-kernel", boot.kernel, "-initrd", boot.initrd, "-append", boot.append]
        return [
            self.program(boot.guest), "-accel", "tcg", "-smp", "1", "-m", str(self.memory), "-display", "none",
            "-no-reboot", *what, "-serial", f"file:{serial}", *self.options,
        ]  # fmt: skip


def output(command, all_lines=False):
    result = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    lines = result.stdout.splitlines() or ["?"]
    return lines if all_lines else lines[0]


# ---- A run --------------------------------------------------------------------------------------------------


def cpu_seconds(pid):
    """The processor time, user and system, that all threads of a process have taken by now, where the host tells it.

    The clock is the one that clock_getcpuclockid() gives: /proc/PID/stat counts in ticks of 10 ms only.
    """
    try:
        return time.clock_gettime(~pid << 3 | 2)
    except OSError:
        return None


@dataclasses.dataclass
class Mark:
    """A line of the serial port that a pattern matched: when it came, and the processor time by then."""

    match: object
    at: float
    cpu: float | None


@dataclasses.dataclass
class Run:
    """What came of one run: times in seconds of the host, `wall` and `cpu` those of the whole run."""

    marks: list
    text: bytes
    status: int
    wall: float
    cpu: float


def run(command, serial, log, pattern, timeout, environment=None):
    """Runs a command, whose guest's serial port goes to the file `serial`, to its end; marks are lines that match."""
    serial.touch()
    with open(log, "wb") as out:
        start = time.monotonic()
        process = subprocess.Popen([str(word) for word in command], stdin=subprocess.DEVNULL, stdout=out, stderr=out, env=environment)
    try:
        return watch(process, start, serial, pattern, timeout)
    finally:
        if process.returncode is None:
            process.kill()
            process.wait()


def watch(process, start, serial, pattern, timeout):
    marks = []
    text = b""
    looked_at = 0
    with open(serial, "rb") as port:
        while True:
            pid, status, usage = os.wait4(process.pid, os.WNOHANG)
            now = time.monotonic()
            new = port.read()
            if new:
                cpu = cpu_seconds(process.pid)
                text += new.replace(b"\r", b"")
                whole_lines = text.rfind(b"\n") + 1
                marks += [Mark(match, now - start, cpu) for match in pattern.finditer(text[looked_at:whole_lines])]
                looked_at = max(looked_at, whole_lines)
            if pid:
                process.returncode = os.waitstatus_to_exitcode(status)
                cpu = usage.ru_utime + usage.ru_stime
                if cpu_seconds(os.getpid()) is not None:
                    # Marks without a time were read when the process had just ended, and its clock with it.
                    marks = [mark if mark.cpu is not None else dataclasses.replace(mark, cpu=cpu) for mark in marks]
                return Run(marks, text, process.returncode, now - start, cpu)
            if now - start > timeout:
                raise Failed(f"no end after {timeout} s; the guest's last words: {last_line(text)}")
            time.sleep(POLL_S)


def last_line(text):
    lines = text.decode(errors="replace").strip().splitlines()
    return lines[-1].strip() if lines else "none"


# ---- Ratios and tables --------------------------------------------------------------------------------------


def median_ratio(ones, others):
    """The median of one / other over the turns in which both are there, for these stood side by side."""
    pairs = [one / other for one, other in zip(ones, others) if one and other]
    return statistics.median(pairs) if pairs else None


def number(value):
    return "-" if value is None else f"{value:.2f}"


def print_table(rows, left):
    """Prints rows, which may be short, in columns; the first `left` of them aligned left."""
    widths = [max(len(row[column]) for row in rows if column < len(row)) for column in range(max(map(len, rows)))]
    for row in rows:
        cells = [cell.ljust(width) if column < left else cell.rjust(width) for column, (cell, width) in enumerate(zip(row, widths))]
        print("  ".join(cells).rstrip())


# ---- Command lines ------------------------------------------------------------------------------------------


def comma_list(allowed):
    def parse(text):
        words = [word for word in text.split(",") if word]
        for word in words:
            if word not in allowed:
                raise argparse.ArgumentTypeError(f"{word!r} is none of {', '.join(allowed)}")
        return words

    return parse


def split_at_dashes(words):
    if "--" not in words:
        return words, []
    at = words.index("--")
    return words[:at], words[at + 1 :]


def say(text):
    print(text, file=sys.stderr, flush=True)


def make_disk(guest, image, append):
    """Makes a disk image of a guest with kernel parameters. Returns the exit status of the recipe."""
    return subprocess.run([MAKE, "--disk", image, "--append", append, guest], stdout=sys.stderr, check=False).returncode
