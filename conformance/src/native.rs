//! Runs single instructions on the host's own processor, in user mode, on x86-64 Linux.
//!
//! The way in and out of a case is a signal. The instruction is followed by INT3, so that each case ends in one: by the
//! INT3, or by what the instruction raised. The handler takes the interrupted state out of the signal frame and puts
//! the next case's state there, and returning from the handler makes the kernel load it: every register, with 32-bit or
//! 16-bit code by the selector in CS. So a case costs one signal, and no state can leak from the harness into it.
//!
//! What a frame does not hold (DS, ES, FS, GS and the bases of the last two), [`enter`] saves and loads, around a
//! handler that has the harness's own. For that the kernel must let user mode have RDFSBASE.

#![allow(unsafe_code)]

use std::arch::{asm, naked_asm};
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Result, bail};

use crate::state::{
    After, CODE, CODE_BYTES, Case, DATA, DATA_BYTES, Fault, HANG, LDT, Mode, READ_ONLY, REGION,
    State, WINDOWS, fx,
};

/// Milliseconds of the thread's own time after which an instruction that does not end is given up. A batch takes one.
const PATIENCE_MS: i64 = 100;
/// AT_HWCAP2 bit: RDFSBASE and its like work in user mode.
const HWCAP2_FSGSBASE: u64 = 2;
/// `uc_flags`: SS is to be loaded as it stands.
const UC_STRICT_RESTORE_SS: u64 = 4;
/// Of a frame's XSAVE area: the header's first word.
const XSTATE_BV: usize = 512;
/// x87 and SSE.
const XSTATE_LEGACY: u64 = 3;

/// What a signal frame does not hold. Read and written by [`enter`].
#[repr(C)]
struct Extra {
    host_fs: u64,
    host_gs: u64,
    fs_base: u64,
    gs_base: u64,
    set_bases: u64,
    /// ES, CS (unused), SS (unused), DS, FS, GS.
    segs: [u16; 6],
}

static mut EXTRA: Extra = Extra {
    host_fs: 0,
    host_gs: 0,
    fs_base: 0,
    gs_base: 0,
    set_bases: 0,
    segs: [0; 6],
};

/// What the handler works on.
struct Batch {
    cases: *const Case,
    results: *mut After,
    count: usize,
    next: usize,
    saved: libc::mcontext_t,
    saved_fx: [u8; 512],
}

static mut BATCH: *mut Batch = std::ptr::null_mut();
static TAKEN: AtomicBool = AtomicBool::new(false);

/// The host's processor as a place to run cases. There is at most one at a time, and it belongs to its thread.
pub struct Native {
    code: *mut u8,
    /// Whether the kernel lets a process have 16-bit segments.
    pub has_ldt: bool,
    /// What the handler runs on.
    _stack: Vec<u8>,
    old_actions: Vec<(i32, libc::sigaction)>,
    old_stack: libc::stack_t,
    timer: libc::timer_t,
}

const SIGNALS: [i32; 6] = [
    libc::SIGTRAP,
    libc::SIGSEGV,
    libc::SIGBUS,
    libc::SIGFPE,
    libc::SIGILL,
    libc::SIGALRM,
];

impl Native {
    /// Maps the region and takes over the signals.
    ///
    /// # Errors
    /// The kernel refuses something; another one exists.
    pub fn new() -> Result<Self> {
        // SAFETY: reads the auxiliary vector.
        if unsafe { libc::getauxval(libc::AT_HWCAP2) } & HWCAP2_FSGSBASE == 0 {
            bail!("the kernel does not let user mode have RDFSBASE; Linux 5.9 and later do");
        }
        if TAKEN.swap(true, Ordering::Acquire) {
            bail!("the native oracle runs already in this process");
        }
        let code = map_region()?;
        let has_ldt = LDT.iter().enumerate().all(|(n, _)| write_ldt(n));
        let mut stack = vec![0u8; 1 << 16];
        // SAFETY: plain C structures, for which zero is a value; the stack outlives its use, see `drop`.
        unsafe {
            let mut old_stack: libc::stack_t = std::mem::zeroed();
            let new_stack = libc::stack_t {
                ss_sp: stack.as_mut_ptr().cast(),
                ss_flags: 0,
                ss_size: stack.len(),
            };
            if libc::sigaltstack(&new_stack, &mut old_stack) != 0 {
                bail!("sigaltstack: {}", std::io::Error::last_os_error());
            }
            let mut old_actions = Vec::new();
            for signal in SIGNALS {
                let mut action: libc::sigaction = std::mem::zeroed();
                action.sa_sigaction = enter as *const () as usize;
                action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
                libc::sigaddset(&mut action.sa_mask, libc::SIGALRM);
                let mut old: libc::sigaction = std::mem::zeroed();
                if libc::sigaction(signal, &action, &mut old) != 0 {
                    bail!("sigaction: {}", std::io::Error::last_os_error());
                }
                old_actions.push((signal, old));
            }
            // A timer of this thread: a process's alarm might come to another one.
            let mut event: libc::sigevent = std::mem::zeroed();
            event.sigev_notify = libc::SIGEV_THREAD_ID;
            event.sigev_signo = libc::SIGALRM;
            event.sigev_notify_thread_id = libc::gettid();
            let mut timer: libc::timer_t = std::mem::zeroed();
            if libc::timer_create(libc::CLOCK_THREAD_CPUTIME_ID, &mut event, &mut timer) != 0 {
                bail!("timer_create: {}", std::io::Error::last_os_error());
            }
            Ok(Self {
                timer,
                code,
                has_ldt,
                _stack: stack,
                old_actions,
                old_stack,
            })
        }
    }

    /// Whether cases of `mode` can run.
    pub fn has(&self, mode: Mode) -> bool {
        // FS and GS of 32-bit cases are LDT segments too.
        mode == Mode::Bits64 || self.has_ldt
    }

    fn set_timer(&self, milliseconds: i64) {
        // SAFETY: our own timer and a plain C structure.
        unsafe {
            let mut value: libc::itimerspec = std::mem::zeroed();
            value.it_value.tv_nsec = milliseconds * 1_000_000;
            // The same batch may have another one that does not end.
            value.it_interval = value.it_value;
            libc::timer_settime(self.timer, 0, &value, std::ptr::null_mut());
        }
    }

    /// Whether the host is one of AMD's, whose differences from the SDM [`undefined`](crate::undefined) lists.
    pub fn is_amd(&self) -> bool {
        std::arch::x86_64::__cpuid(0).ebx == u32::from_le_bytes(*b"Auth")
    }

    /// Runs cases, each of which has a code slot of its own, and fills in what became of them.
    pub fn run(&mut self, cases: &[Case], results: &mut [After]) {
        assert!(cases.len() <= results.len());
        if cases.is_empty() {
            return;
        }
        for case in cases {
            assert!(self.has(case.mode), "{:?} cannot run", case.mode);
            let at = (case.linear() - REGION - CODE) as usize;
            assert!(at + usize::from(case.len) < CODE_BYTES as usize);
            // SAFETY: within the alias of the code pages; nothing runs there now.
            unsafe {
                let slot = self.code.add(at);
                slot.copy_from_nonoverlapping(case.code.as_ptr(), case.len.into());
                slot.add(case.len.into())
                    .write_bytes(0xCC, crate::state::MAX_LEN + 1 - usize::from(case.len));
            }
        }
        let mut batch = Batch {
            cases: cases.as_ptr(),
            results: results.as_mut_ptr(),
            count: cases.len(),
            next: 0,
            // SAFETY: filled in before it is used.
            saved: unsafe { std::mem::zeroed() },
            saved_fx: [0; 512],
        };
        // SAFETY: the handler that INT3 enters saves the whole context and comes back behind the INT3 with it when
        // all cases have run. It uses the batch only while this frame is live.
        unsafe {
            EXTRA.host_fs = rdfsbase();
            EXTRA.host_gs = rdgsbase();
            BATCH = &raw mut batch;
            self.set_timer(PATIENCE_MS);
            asm!("int3", out("rax") _, out("rcx") _, out("rdx") _, out("rsi") _, out("rdi") _);
            self.set_timer(0);
            BATCH = std::ptr::null_mut();
        }
        for case in cases {
            let at = (case.linear() - REGION - CODE) as usize;
            // SAFETY: as above.
            unsafe { self.code.add(at).write_bytes(0xCC, crate::state::MAX_LEN) };
        }
    }
}

impl Drop for Native {
    fn drop(&mut self) {
        // SAFETY: gives back what `new` took.
        unsafe {
            libc::timer_delete(self.timer);
            for (signal, old) in &self.old_actions {
                libc::sigaction(*signal, old, std::ptr::null_mut());
            }
            libc::sigaltstack(&self.old_stack, std::ptr::null_mut());
            libc::munmap(self.code.cast(), CODE_BYTES as usize);
            for (offset, len) in [(CODE, CODE_BYTES), (DATA, DATA_BYTES), (READ_ONLY, 4096)] {
                libc::munmap((REGION + offset) as *mut _, len as usize);
            }
        }
        TAKEN.store(false, Ordering::Release);
    }
}

/// Maps the region; returns where the code pages can be written.
fn map_region() -> Result<*mut u8> {
    let map = |address: u64, len: u64, protection: i32, flags: i32, file: i32| {
        // SAFETY: a fresh mapping, at an address where nothing is if one is given.
        let at = unsafe { libc::mmap(address as *mut _, len as usize, protection, flags, file, 0) };
        if at == libc::MAP_FAILED || address != 0 && at as u64 != address {
            bail!(
                "cannot map {len:#x} bytes at {address:#x}: {}",
                std::io::Error::last_os_error()
            );
        }
        Ok(at.cast::<u8>())
    };
    let anonymous = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED_NOREPLACE;
    // SAFETY: a file without a name, for two views of the code pages.
    let file = unsafe { libc::memfd_create(c"code".as_ptr(), libc::MFD_CLOEXEC) };
    // SAFETY: resizes it.
    if file < 0 || unsafe { libc::ftruncate(file, CODE_BYTES as i64) } != 0 {
        bail!("memfd_create: {}", std::io::Error::last_os_error());
    }
    let (read, write, execute) = (libc::PROT_READ, libc::PROT_WRITE, libc::PROT_EXEC);
    let alias = map(0, CODE_BYTES, read | write, libc::MAP_SHARED, file)?;
    let fixed = libc::MAP_SHARED | libc::MAP_FIXED_NOREPLACE;
    map(REGION + CODE, CODE_BYTES, read | execute, fixed, file)?;
    // SAFETY: the mappings keep the file; the alias is as long as said.
    unsafe {
        libc::close(file);
        alias.write_bytes(0xCC, CODE_BYTES as usize);
    }
    map(REGION + DATA, DATA_BYTES, read | write, anonymous, -1)?;
    let page = map(REGION + READ_ONLY, 4096, read | write, anonymous, -1)?;
    for n in 0..4096 {
        // SAFETY: within the page just mapped; then it loses the right to be written.
        unsafe { page.add(n).write(crate::state::read_only_byte(n as u64)) };
    }
    // SAFETY: our own mapping.
    unsafe { libc::mprotect(page.cast(), 4096, read) };
    Ok(alias)
}

/// Installs LDT entry `n`.
fn write_ldt(n: usize) -> bool {
    #[repr(C)]
    struct UserDesc {
        entry_number: u32,
        base_addr: u32,
        limit: u32,
        flags: u32,
    }
    let entry = LDT[n];
    let desc = UserDesc {
        entry_number: n as u32,
        base_addr: REGION as u32,
        limit: entry.limit,
        flags: u32::from(entry.big)
            | entry.contents << 1
            | u32::from(entry.restricted) << 3
            | u32::from(!entry.present) << 5
            | 1 << 6,
    };
    // SAFETY: the kernel reads a structure of its own layout.
    unsafe {
        libc::syscall(
            libc::SYS_modify_ldt,
            0x11,
            &raw const desc,
            size_of::<UserDesc>(),
        ) == 0
    }
}

fn rdfsbase() -> u64 {
    let base;
    // SAFETY: reads a register; `new` has made sure that the instruction exists.
    unsafe { asm!("rdfsbase {}", out(reg) base, options(nomem, nostack, preserves_flags)) };
    base
}

fn rdgsbase() -> u64 {
    let base;
    // SAFETY: as above.
    unsafe { asm!("rdgsbase {}", out(reg) base, options(nomem, nostack, preserves_flags)) };
    base
}

/// The signal handler. A case may have left AC, NT, ID and any segment: they are made the harness's before any
/// compiled code runs, and the next case's afterwards.
#[unsafe(naked)]
unsafe extern "C" fn enter(
    signal: i32,
    info: *mut libc::siginfo_t,
    context: *mut libc::ucontext_t,
) {
    naked_asm!(
        "push 0x202",
        "popfq",
        "push rbx",
        "lea rbx, [rip + {extra}]",
        "mov word ptr [rbx + 40], es",
        "mov word ptr [rbx + 46], ds",
        "mov word ptr [rbx + 48], fs",
        "mov word ptr [rbx + 50], gs",
        "rdfsbase rax",
        "mov [rbx + 16], rax",
        "rdgsbase rax",
        "mov [rbx + 24], rax",
        "xor eax, eax",
        "mov fs, eax",
        "mov gs, eax",
        "mov rax, [rbx]",
        "wrfsbase rax",
        "mov rax, [rbx + 8]",
        "wrgsbase rax",
        "mov eax, {flat}",
        "mov ds, eax",
        "mov es, eax",
        "call {handle}",
        "mov es, word ptr [rbx + 40]",
        "mov ds, word ptr [rbx + 46]",
        "mov fs, word ptr [rbx + 48]",
        "mov gs, word ptr [rbx + 50]",
        "cmp dword ptr [rbx + 32], 0",
        "je 2f",
        "mov rax, [rbx + 16]",
        "wrfsbase rax",
        "mov rax, [rbx + 24]",
        "wrgsbase rax",
        "2:",
        "pop rbx",
        "ret",
        extra = sym EXTRA,
        flat = const crate::state::SELECTOR_DATA,
        handle = sym handle,
    )
}

unsafe extern "C" fn handle(
    signal: i32,
    _info: *mut libc::siginfo_t,
    context: *mut libc::ucontext_t,
) {
    // SAFETY: the kernel gave the frame; BATCH is null or points at the live batch of `Native::run`, which waits.
    unsafe {
        let context = &mut *context;
        let Some(batch) = BATCH.as_mut() else {
            // A signal of the harness's own. An alarm that came late means nothing; anything else kills as usual.
            if signal != libc::SIGALRM {
                libc::signal(signal, libc::SIG_DFL);
            }
            EXTRA.fs_base = EXTRA.host_fs;
            EXTRA.gs_base = EXTRA.host_gs;
            EXTRA.set_bases = 1;
            return;
        };
        let fpstate = context.uc_mcontext.fpregs.cast::<u8>();
        if batch.next == 0 {
            if signal == libc::SIGALRM {
                EXTRA.fs_base = EXTRA.host_fs;
                EXTRA.gs_base = EXTRA.host_gs;
                EXTRA.set_bases = 1;
                return;
            }
            batch.saved = context.uc_mcontext;
            fpstate.copy_to_nonoverlapping(batch.saved_fx.as_mut_ptr(), 512);
        } else {
            let case = &*batch.cases.add(batch.next - 1);
            capture(
                signal,
                context,
                case,
                &mut *batch.results.add(batch.next - 1),
            );
        }
        if batch.next < batch.count {
            install(context, &*batch.cases.add(batch.next));
            batch.next += 1;
        } else {
            let fpregs = context.uc_mcontext.fpregs;
            context.uc_mcontext = batch.saved;
            context.uc_mcontext.fpregs = fpregs;
            context.uc_flags |= UC_STRICT_RESTORE_SS;
            fpstate.copy_from_nonoverlapping(batch.saved_fx.as_ptr(), 512);
            set_legacy_state(fpstate);
            EXTRA.fs_base = EXTRA.host_fs;
            EXTRA.gs_base = EXTRA.host_gs;
            EXTRA.set_bases = 1;
            EXTRA.segs = [crate::state::SELECTOR_DATA; 6];
            EXTRA.segs[4] = 0;
            EXTRA.segs[5] = 0;
        }
    }
}

/// Makes the kernel load x87 and SSE state from the frame, whether or not they were in use.
unsafe fn set_legacy_state(fpstate: *mut u8) {
    // SAFETY: a frame of a processor with XSAVE goes on with the XSAVE header behind the FXSAVE image.
    unsafe {
        fpstate
            .add(XSTATE_BV)
            .cast::<u64>()
            .write_unaligned(XSTATE_LEGACY)
    };
}

/// General registers of a signal frame, in the order of their encodings.
const GREGS: [i32; 16] = [
    libc::REG_RAX,
    libc::REG_RCX,
    libc::REG_RDX,
    libc::REG_RBX,
    libc::REG_RSP,
    libc::REG_RBP,
    libc::REG_RSI,
    libc::REG_RDI,
    libc::REG_R8,
    libc::REG_R9,
    libc::REG_R10,
    libc::REG_R11,
    libc::REG_R12,
    libc::REG_R13,
    libc::REG_R14,
    libc::REG_R15,
];

unsafe fn install(context: &mut libc::ucontext_t, case: &Case) {
    let state = &case.before;
    let gregs = &mut context.uc_mcontext.gregs;
    for (reg, value) in GREGS.iter().zip(state.regs) {
        gregs[*reg as usize] = value as i64;
    }
    gregs[libc::REG_RIP as usize] = state.rip as i64;
    gregs[libc::REG_EFL as usize] = state.rflags as i64;
    let [es, cs, ss, ds, fs, gs] = state.segs;
    gregs[libc::REG_CSGSFS as usize] = i64::from(cs) | i64::from(ss) << 48;
    context.uc_flags |= UC_STRICT_RESTORE_SS;
    // SAFETY: the frame's FXSAVE image; the data pages are mapped; EXTRA is ours while the handler runs.
    unsafe {
        let fpstate = context.uc_mcontext.fpregs.cast::<u8>();
        fpstate.copy_from_nonoverlapping(state.fx.as_ptr(), fx::END);
        set_legacy_state(fpstate);
        // Outside the windows, earlier cases may have left something.
        ((REGION + DATA) as *mut u8).write_bytes(0, DATA_BYTES as usize);
        let mut start = 0;
        for (offset, len) in WINDOWS {
            let window = (REGION + offset) as *mut u8;
            window.copy_from_nonoverlapping(state.data.as_ptr().add(start), len);
            start += len;
        }
        EXTRA.segs = [es, 0, 0, ds, fs, gs];
        EXTRA.fs_base = state.bases[0];
        EXTRA.gs_base = state.bases[1];
        EXTRA.set_bases = u64::from(case.mode == Mode::Bits64);
    }
}

unsafe fn capture(signal: i32, context: &libc::ucontext_t, case: &Case, after: &mut After) {
    let gregs = &context.uc_mcontext.gregs;
    let state: &mut State = &mut after.state;
    for (reg, value) in GREGS.iter().zip(&mut state.regs) {
        *value = gregs[*reg as usize] as u64;
        if case.mode != Mode::Bits64 {
            // What the upper halves hold behind 32-bit code, the manual does not say.
            *value &= 0xFFFF_FFFF;
        }
    }
    state.rip = gregs[libc::REG_RIP as usize] as u64;
    state.rflags = gregs[libc::REG_EFL as usize] as u64;
    let selectors = gregs[libc::REG_CSGSFS as usize] as u64;
    after.fault = Fault {
        vector: gregs[libc::REG_TRAPNO as usize] as u8,
        error: gregs[libc::REG_ERR as usize] as u32,
        cr2: 0,
    };
    match after.fault.vector {
        _ if signal == libc::SIGALRM => after.fault.vector = HANG,
        3 => state.rip = state.rip.wrapping_sub(1),
        14 => after.fault.cr2 = gregs[libc::REG_CR2 as usize] as u64,
        _ => {}
    }
    // SAFETY: as in `install`.
    unsafe {
        let extra = &raw const EXTRA;
        state.segs = (*extra).segs;
        state.segs[1] = selectors as u16;
        state.segs[2] = (selectors >> 48) as u16;
        state.bases = [(*extra).fs_base, (*extra).gs_base];
        let fpstate = context.uc_mcontext.fpregs.cast::<u8>().cast_const();
        fpstate.copy_to_nonoverlapping(state.fx.as_mut_ptr(), fx::END);
        let mut start = 0;
        for (offset, len) in WINDOWS {
            let window = (REGION + offset) as *const u8;
            window.copy_to_nonoverlapping(state.data.as_mut_ptr().add(start), len);
            start += len;
        }
    }
}
