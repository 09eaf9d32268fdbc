//! Hosts that have addresses of both families, one of which is a black hole.

use std::fs;
use std::process::Command;

use crate::process::run;
use crate::slowfs::skip;

/// In a separate network namespace: `both.test` has an IPv6 address, which is tried first and drops
/// all packets (a device without a carrier), and an IPv4 address. Prints a line a command: its
/// status, and how many connections were tried.
const SCRIPT: &str = r#"
set -e
haul=$1 place=$2
mount --make-rprivate /
ip link set lo up
ip tuntap add dev hole mode tun
ip link set hole up
ip -6 address add 2001:db8::2/64 dev hole nodad
ip address add 192.0.2.1/32 dev lo
printf '2001:db8::1 both.test\n192.0.2.1 both.test\n' >"$place/hosts"
printf 'hosts: files\n' >"$place/nsswitch"
mount --bind "$place/hosts" /etc/hosts
mount --bind "$place/nsswitch" /etc/nsswitch.conf
set -- $(getent ahosts both.test)
test "$1" = 2001:db8::1
"$haul" serve --root "$place" --listen 192.0.2.1:7788 2>/dev/null &
servers=$!
"$haul" answer --listen 192.0.2.1:7789 >/dev/null 2>&1 &
servers="$servers $!"
trap 'kill $servers' EXIT
for port in 7788 7789; do
    until (exec 3<>/dev/tcp/192.0.2.1/$port) 2>/dev/null; do sleep 0.02; done
done
echo ready
tried() { sed -n 's/^Tcp: [0-9-]* [0-9]* [0-9]* [-0-9]* \([0-9]*\) .*/\1/p' /proc/net/snmp; }
attempt() {
    before=$(tried)
    status=0
    timeout 30 "$haul" "$@" >/dev/null 2>&1 || status=$?
    echo "$1 $status $(($(tried) - before))"
}
attempt get -o "$place/got" http://both.test:7788/file
attempt load -n 3 http://both.test:7788/file
attempt say both.test:7789 hello
"#;

#[test]
fn a_black_hole_behind_one_address_keeps_no_client_from_the_other() {
    let place = tempfile::tempdir().expect("a directory");
    fs::write(place.path().join("file"), "content").expect("a file");
    let output = run(Command::new("timeout")
        .args([
            "120", "unshare", "--net", "--mount", "bash", "-c", SCRIPT, "script",
        ])
        .arg(env!("CARGO_BIN_EXE_haul"))
        .arg(place.path()));
    let told = String::from_utf8_lossy(&output.stdout);
    let mut lines = told.lines();
    if lines.next() != Some("ready") {
        let why = String::from_utf8_lossy(&output.stderr);
        skip(&format!("no name space of its own: {}", why.trim()));
        return;
    }
    for command in ["get", "load", "say"] {
        let line = lines.next().unwrap_or_default();
        let words: Vec<_> = line.split(' ').collect();
        assert_eq!(words[..2], [command, "0"], "{told}");
        let tried: u32 = words[2].parse().expect("a number");
        assert!(tried >= 2, "{command} did not try the hole first: {told}");
    }
    let got = fs::read(place.path().join("got")).expect("fetched");
    assert_eq!(got, b"content");
}
