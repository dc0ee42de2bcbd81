//! `run --net`, as a user meets it.

mod common;

use std::net::{TcpListener, UdpSocket};

use common::{LOOP, boot_image, ended};

fn glassbox(args: &[&str]) -> (Option<i32>, String) {
    let run = ["run", "--display", "none"];
    let output = common::glassbox().args(run).args(args).output().unwrap();
    ended(&output)
}

#[test]
fn what_is_wrong_with_a_network_is_told_in_one_line_before_anything_runs() {
    let folder = tempfile::tempdir().unwrap();
    let image = folder.path().join("disk.img");
    std::fs::write(&image, boot_image(&LOOP, 64 * 512)).unwrap();
    let image = image.to_str().unwrap();
    let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
    let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
    let taken = [
        tcp.local_addr().unwrap().port(),
        udp.local_addr().unwrap().port(),
    ];
    let used = |port: u16| format!("port {port} in use");
    let cases = [
        ("tap".to_owned(), "none or user".to_owned()),
        ("user,model=tulip".into(), "e1000".into()),
        ("user,mac=1".into(), "52:54:00:12:34:56".into()),
        ("user,hostfwd=tcp:22".into(), "tcp:2222-22".into()),
        (format!("user,hostfwd=tcp:{}-22", taken[0]), used(taken[0])),
        (format!("user,hostfwd=udp:{}-53", taken[1]), used(taken[1])),
        ("user,hostfwd=tcp:0-10.0.3.1:22".into(), "10.0.2.15".into()),
        ("user,tftp=/nowhere/at/all".into(), "/nowhere/at/all".into()),
        ("user,rom=/nowhere/rom".into(), "/nowhere/rom".into()),
    ];
    for (option, word) in cases {
        let (status, said) = glassbox(&[image, "--net", &option]);
        assert_eq!(status, Some(2), "{option}: {said}");
        assert_eq!(said.lines().count(), 1, "{option}: {said}");
        assert!(said.contains(&word), "{option}: {said}");
    }
}

#[test]
fn a_machine_with_each_card_runs_and_says_where_a_chosen_port_is() {
    let folder = tempfile::tempdir().unwrap();
    let image = folder.path().join("disk.img");
    std::fs::write(&image, boot_image(&LOOP, 64 * 512)).unwrap();
    for model in ["e1000", "virtio", "rtl8139", "ne2k", "ne2k-isa"] {
        let (status, said) = glassbox(&[
            image.to_str().unwrap(),
            "--net",
            &format!("user,model={model},hostfwd=tcp:0-22"),
            "--max-instructions",
            "30000000",
        ]);
        assert_eq!(status, Some(124), "{model}: {said}");
        assert!(said.contains("hostfwd=tcp:127.0.0.1:"), "{model}: {said}");
    }
}
