//! A process that gives up what it does not need: on Linux by Landlock (files) and seccomp (calls); elsewhere nothing
//! happens, and [`Held`] says so.
//!
//! A guest that broke out of its machine would be in this process, with its rights and no others.

use std::path::PathBuf;

/// What of its confinement the host holds a process to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Held {
    /// Files: only those that were named.
    pub files: bool,
    /// Calls: no programs, no other processes, no new sockets but those that were allowed.
    pub calls: bool,
}

/// The files that a process may use from now on, with what is in folders.
#[derive(Clone, Debug, Default)]
pub struct Files {
    /// To read and write.
    pub write: Vec<PathBuf>,
    /// To read.
    pub read: Vec<PathBuf>,
}

/// Gives up all files but these, for this thread and those that it starts. What is open stays open.
///
/// Returns whether the host holds it to that.
pub fn keep_files(files: &Files) -> bool {
    #[cfg(target_os = "linux")]
    return linux::keep_files(files).unwrap_or_else(|error| {
        eprintln!("glassbox: the host does not confine this process's files: {error}");
        false
    });
    #[cfg(not(target_os = "linux"))]
    {
        let _ = files;
        false
    }
}

/// Gives up programs, other processes and what rules the host, for all threads; sockets too, unless `network`.
///
/// Returns whether the host holds it to that.
pub fn keep_calls(network: bool) -> bool {
    #[cfg(all(
        target_os = "linux",
        any(target_arch = "x86_64", target_arch = "aarch64")
    ))]
    return linux::keep_calls(network).unwrap_or_else(|error| {
        eprintln!("glassbox: the host does not confine this process's calls: {error}");
        false
    });
    #[cfg(not(all(
        target_os = "linux",
        any(target_arch = "x86_64", target_arch = "aarch64")
    )))]
    {
        let _ = network;
        false
    }
}

/// Whether this host could hold a process, found out on a thread that ends.
pub fn offered() -> Held {
    let tried = std::thread::spawn(|| Held {
        files: keep_files(&Files {
            read: vec!["/".into()],
            write: Vec::new(),
        }),
        // A filter would hold all threads: what the kernel says of it will do.
        calls: std::fs::read_to_string("/proc/sys/kernel/seccomp/actions_avail")
            .is_ok_and(|actions| actions.contains("errno")),
    });
    tried.join().unwrap_or_default()
}

#[cfg(target_os = "linux")]
mod linux {
    use std::error::Error;

    use landlock::{
        ABI, Access, AccessFs, CompatLevel, Compatible, PathBeneath, PathFd, Ruleset, RulesetAttr,
        RulesetCreatedAttr, RulesetStatus,
    };

    use super::Files;

    pub(super) fn keep_files(files: &Files) -> Result<bool, Box<dyn Error>> {
        let abi = ABI::V5;
        let all = AccessFs::from_all(abi);
        let read = AccessFs::ReadFile | AccessFs::ReadDir;
        let mut ruleset = Ruleset::default()
            .set_compatibility(CompatLevel::BestEffort)
            .handle_access(all)?
            .create()?;
        let rights = [
            (&files.write, all & !AccessFs::Execute),
            (&files.read, read),
        ];
        for (paths, rights) in rights {
            for path in paths {
                // What is not there cannot be used either.
                let Ok(opened) = PathFd::new(path) else {
                    continue;
                };
                let rights = if path.is_dir() {
                    rights
                } else {
                    rights & AccessFs::from_file(abi)
                };
                ruleset = ruleset.add_rule(PathBeneath::new(opened, rights))?;
            }
        }
        Ok(ruleset.restrict_self()?.ruleset != RulesetStatus::NotEnforced)
    }

    #[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
    pub(super) fn keep_calls(network: bool) -> Result<bool, Box<dyn Error>> {
        use std::collections::BTreeMap;

        use seccompiler::{
            BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition,
            SeccompFilter, SeccompRule,
        };

        // Programs, other processes, the host's own matters.
        let never = [
            libc::SYS_execve,
            libc::SYS_execveat,
            libc::SYS_ptrace,
            libc::SYS_process_vm_readv,
            libc::SYS_process_vm_writev,
            libc::SYS_kill,
            libc::SYS_tkill,
            libc::SYS_rt_sigqueueinfo,
            libc::SYS_rt_tgsigqueueinfo,
            libc::SYS_pidfd_open,
            libc::SYS_pidfd_getfd,
            libc::SYS_pidfd_send_signal,
            libc::SYS_mount,
            libc::SYS_umount2,
            libc::SYS_pivot_root,
            libc::SYS_chroot,
            libc::SYS_setns,
            libc::SYS_unshare,
            libc::SYS_bpf,
            libc::SYS_perf_event_open,
            libc::SYS_kexec_load,
            libc::SYS_init_module,
            libc::SYS_finit_module,
            libc::SYS_delete_module,
            libc::SYS_add_key,
            libc::SYS_request_key,
            libc::SYS_keyctl,
            libc::SYS_userfaultfd,
            libc::SYS_io_uring_setup,
            libc::SYS_open_by_handle_at,
            libc::SYS_reboot,
            libc::SYS_swapon,
            libc::SYS_swapoff,
            libc::SYS_setuid,
            libc::SYS_setgid,
            libc::SYS_setresuid,
            libc::SYS_setresgid,
        ];
        let mut rules: BTreeMap<i64, Vec<SeccompRule>> =
            never.into_iter().map(|call| (call, Vec::new())).collect();
        let condition = |argument: u8, compare: SeccompCmpOp, value: u64| {
            SeccompCondition::new(argument, SeccompCmpArgLen::Dword, compare, value)
        };
        // A signal to one's own threads is how a process aborts.
        let own = u64::from(std::process::id());
        rules.insert(
            libc::SYS_tgkill,
            vec![SeccompRule::new(vec![condition(
                0,
                SeccompCmpOp::Ne,
                own,
            )?])?],
        );
        let mut sockets = Vec::new();
        // Only these kinds, and only where the machine has a network; what listens already goes on.
        let mut other = vec![condition(0, SeccompCmpOp::Ne, libc::AF_INET as u64)?];
        other.push(condition(0, SeccompCmpOp::Ne, libc::AF_INET6 as u64)?);
        match network {
            true => sockets.push(SeccompRule::new(other)?),
            false => {
                for compare in [SeccompCmpOp::Eq, SeccompCmpOp::Ne] {
                    sockets.push(SeccompRule::new(vec![condition(0, compare, 0)?])?);
                }
            }
        }
        rules.insert(libc::SYS_socket, sockets);
        let filter = SeccompFilter::new(
            rules,
            SeccompAction::Allow,
            SeccompAction::Errno(libc::EPERM as u32),
            std::env::consts::ARCH.try_into()?,
        )?;
        let program: BpfProgram = filter.try_into()?;
        seccompiler::apply_filter_all_threads(&program)?;
        Ok(true)
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::net::{TcpListener, TcpStream};
    use std::process::Command;

    use super::*;

    /// Not a test: what the next one starts, confined.
    #[test]
    fn confined() {
        let Some(folder) = std::env::var_os("GLASSBOX_CONFINED").map(PathBuf::from) else {
            return;
        };
        let network = std::env::var_os("GLASSBOX_NETWORK").is_some();
        let port: u16 = std::env::var("GLASSBOX_PORT").unwrap().parse().unwrap();
        let parent: u32 = std::env::var("GLASSBOX_PARENT").unwrap().parse().unwrap();
        let own = folder.join("own");
        let held = keep_files(&Files {
            write: vec![own.clone()],
            read: vec![folder.join("iso")],
        });
        if !held {
            eprintln!("skipped: this host has no Landlock");
            std::process::exit(77);
        }
        let thread = std::thread::spawn(|| std::thread::sleep(std::time::Duration::from_secs(5)));
        assert!(keep_calls(network));
        // What is its own.
        std::fs::write(own.join("disk"), "x").unwrap();
        std::fs::rename(own.join("disk"), own.join("disk2")).unwrap();
        assert_eq!(std::fs::read(folder.join("iso")).unwrap(), b"iso");
        // What is not.
        for path in ["other/disk", "other"] {
            let path = folder.join(path);
            assert!(
                std::fs::read(&path).is_err() && std::fs::read_dir(&path).is_err(),
                "{}",
                path.display()
            );
        }
        assert!(std::fs::write(folder.join("other/disk"), "y").is_err());
        assert!(std::fs::write(folder.join("iso"), "y").is_err());
        assert!(std::fs::write("/tmp/glassbox-escaped", "y").is_err());
        assert!(std::fs::read("/etc/passwd").is_err());
        assert!(std::os::unix::fs::symlink(folder.join("other/disk"), own.join("link")).is_ok());
        assert!(std::fs::read(own.join("link")).is_err());
        std::fs::remove_file(own.join("link")).unwrap();
        assert!(
            Command::new("/bin/sh")
                .arg("-c")
                .arg("true")
                .status()
                .is_err()
        );
        assert!(crate::processes::kill(parent).is_err());
        assert_eq!(TcpStream::connect(("127.0.0.1", port)).is_ok(), network);
        assert_eq!(TcpListener::bind(("127.0.0.1", 0)).is_ok(), network);
        assert!(std::os::unix::net::UnixStream::pair().is_ok());
        assert!(std::os::unix::net::UnixDatagram::unbound().is_err());
        drop(thread);
        std::process::exit(42);
    }

    #[test]
    fn a_confined_process_reaches_nothing_but_its_own() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["own", "other"] {
            std::fs::create_dir(folder.path().join(name)).unwrap();
        }
        std::fs::write(folder.path().join("other/disk"), "secret").unwrap();
        std::fs::write(folder.path().join("iso"), "iso").unwrap();
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        for network in [false, true] {
            let mut command = Command::new(std::env::current_exe().unwrap());
            command
                .args(["--exact", "sandbox::tests::confined", "--nocapture"])
                .env("GLASSBOX_CONFINED", folder.path())
                .env(
                    "GLASSBOX_PORT",
                    listener.local_addr().unwrap().port().to_string(),
                )
                .env("GLASSBOX_PARENT", std::process::id().to_string());
            if network {
                command.env("GLASSBOX_NETWORK", "1");
            }
            let out = command.output().unwrap();
            let said = String::from_utf8_lossy(&out.stderr).into_owned();
            match out.status.code() {
                Some(77) => eprintln!("{said}"),
                code => assert_eq!(code, Some(42), "{said}"),
            }
        }
        assert_eq!(
            std::fs::read(folder.path().join("other/disk")).unwrap(),
            b"secret"
        );
    }
}
