//! The host's network: its resolvers, and who has a port.

use std::net::{IpAddr, SocketAddr};

/// The name servers that the host asks, where it says so as Unix does.
pub fn resolvers() -> Vec<SocketAddr> {
    // Elsewhere there is no such file, and no names are resolved.
    let text = std::fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
    nameservers(&text)
}

/// The name servers of a `resolv.conf(5)`.
fn nameservers(text: &str) -> Vec<SocketAddr> {
    let of = |line: &str| {
        let mut words = line.split_whitespace();
        words.next().filter(|&word| word == "nameserver")?;
        let address: IpAddr = words.next()?.parse().ok()?;
        Some(SocketAddr::new(address, 53))
    };
    text.lines().filter_map(of).collect()
}

/// The program that has a local port, as `name (process 42)`, where the host tells (Linux, of a
/// user's own programs).
pub fn holder(tcp: bool, port: u16) -> Option<String> {
    let table = if tcp {
        "/proc/net/tcp"
    } else {
        "/proc/net/udp"
    };
    let table = std::fs::read_to_string(table).ok()?;
    let inode = inode_of(&table, tcp, port)?;
    let wanted = format!("socket:[{inode}]");
    for process in std::fs::read_dir("/proc").ok()?.flatten() {
        let name = process.file_name();
        let Some(number) = name.to_str().and_then(|name| name.parse::<u32>().ok()) else {
            continue;
        };
        let Ok(files) = std::fs::read_dir(process.path().join("fd")) else {
            continue;
        };
        let has = files
            .flatten()
            .filter_map(|file| std::fs::read_link(file.path()).ok())
            .any(|link| link.as_os_str() == wanted.as_str());
        if has {
            let name = std::fs::read_to_string(process.path().join("comm")).unwrap_or_default();
            return Some(format!("{} (process {number})", name.trim()));
        }
    }
    None
}

/// The inode of the socket that listens at a port (proc_pid_net(5)).
fn inode_of(table: &str, tcp: bool, port: u16) -> Option<&str> {
    const LISTENS: &str = "0A";
    table.lines().skip(1).find_map(|line| {
        let mut words = line.split_whitespace();
        let (_, local) = words.nth(1)?.rsplit_once(':')?;
        let state = words.nth(1)?;
        let matches = u16::from_str_radix(local, 16).ok()? == port && (!tcp || state == LISTENS);
        matches.then(|| words.nth(5)).flatten()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn name_servers_are_read_as_resolv_conf_has_them() {
        let text = "# a comment\nsearch lan\nnameserver 192.0.2.1\noptions rotate\nnameserver 2001:db8::1\nnameserver x\n";
        let found: Vec<_> = nameservers(text).iter().map(ToString::to_string).collect();
        assert_eq!(found, ["192.0.2.1:53", "[2001:db8::1]:53"]);
    }

    #[test]
    fn the_inode_of_a_port_is_read_as_linux_says_it() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n   \
                     0: 0100007F:1F90 00000000:0000 01 00000000:00000000 00:00000000 00000000  1000        0 111 1\n   \
                     1: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000        0 222 1\n";
        assert_eq!(inode_of(table, true, 8080), Some("222"));
        assert_eq!(inode_of(table, false, 8080), Some("111"));
        assert_eq!(inode_of(table, true, 8081), None);
    }
}
