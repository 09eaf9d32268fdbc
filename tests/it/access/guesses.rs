//! Guessed passwords: they are slowed, and delay no other client.

use haul::server::config::Proxies;

use super::*;
use crate::support::transport::leaves_out;

#[test]
fn guesses_are_slowed_after_a_few() {
    let (server, _secrets) = with_user(&[]);
    server.put("f", "content");
    let mut client = server.connect();
    let mut guess = |pair: &str| {
        client.send(format!("GET /f HTTP/1.1\r\nHost: x\r\n{}\r\n", login(pair)));
        client.answer()
    };
    assert_eq!(guess("anna:s3cret").status, 200);
    let statuses: Vec<_> = (0..20)
        .map(|it| guess(&format!("anna:{it}")).status)
        .collect();
    let looked_at = statuses.iter().filter(|status| **status == 401).count();
    // Five, and one more for each second that the test took.
    assert!(
        statuses[..5].iter().all(|status| *status == 401),
        "{statuses:?}"
    );
    assert!(statuses[5..].contains(&429), "{statuses:?}");
    let slowed = guess("bert:1");
    if slowed.status == 429 {
        let seconds: u64 = slowed
            .field("retry-after")
            .expect("a time")
            .parse()
            .expect("a number");
        assert!((1..=61).contains(&seconds));
    }
    let counters = server.counters();
    assert!(
        counters.passwords_checked <= looked_at as u64 + 2,
        "{counters:?}"
    );
    assert!(counters.guesses_slowed > 0, "{counters:?}");
    // An authenticated client continues, from the same address.
    assert_eq!(guess("anna:s3cret").status, 200);
}

#[test]
fn many_wrong_passwords_do_not_delay_readers_of_open_files() {
    let secrets = Secrets::new();
    // As `htpasswd -B` and a careful operator: some milliseconds each, here.
    let hash = bcrypt::hash("s3cret", 10).expect("hashed");
    let htpasswd = secrets.path("htpasswd");
    fs::write(&htpasswd, format!("anna:{hash}\n")).expect("written");
    let server = TestServer::with(|config| {
        config.access.htpasswd = Some(htpasswd);
        config.access.protect = vec!["private".into()];
    });
    server.put("private/f", "content");
    server.put("open", "content");
    let mut guessing: Vec<Client> = (0..64).map(|_| server.connect()).collect();
    for (number, client) in guessing.iter_mut().enumerate() {
        let field = login(&format!("anna:{number}"));
        client.send(format!("GET /private/f HTTP/1.1\r\nHost: x\r\n{field}\r\n"));
    }
    let mut reader = server.connect();
    for _ in 0..200 {
        reader.send("GET /open HTTP/1.1\r\nHost: x\r\n\r\n");
        assert_eq!(reader.answer().body, b"content");
    }
    for client in &mut guessing {
        assert!(matches!(client.answer().status, 401 | 429));
    }
    let counters = server.counters();
    assert_eq!(counters.hot_waits, 0, "{counters:?}");
    // The same address: what waited behind the first few was not even looked at.
    assert!((5..32).contains(&counters.passwords_wrong), "{counters:?}");
    assert_eq!(counters.passwords_wrong, counters.passwords_checked);
}

#[test]
fn a_client_that_guesses_leaves_room_for_first_logins_of_others() {
    if leaves_out("a header stands before the handshake") {
        return;
    }
    let secrets = Secrets::new();
    // Some tenths of a second each: what is queued stays queued for the time of the test.
    let hash = bcrypt::hash("s3cret", 12).expect("hashed");
    let htpasswd = secrets.path("htpasswd");
    fs::write(&htpasswd, format!("anna:{hash}\n")).expect("written");
    let server = TestServer::with(|config| {
        config.access.htpasswd = Some(htpasswd);
        config.proxies = Proxies {
            introduced: vec!["127.0.0.0/8".parse().expect("a network")],
            ..Proxies::default()
        };
    });
    server.put("f", "content");
    let ask = |address: &str, pair: &str| {
        let mut client = server.connect();
        let field = login(pair);
        client.send(format!(
            "PROXY TCP4 {address} 10.0.0.1 1000 80\r\n\
             GET /f HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{field}\r\n"
        ));
        client
    };
    let guesser = "192.0.2.1";
    assert_eq!(ask(guesser, "anna:0").answer().status, 401);
    // More than may wait of all clients together.
    let guesses: Vec<Client> = (1..=300)
        .map(|number| ask(guesser, &format!("anna:{number}")))
        .collect();
    server.counters_when(|counters| counters.requests == 301);
    assert_eq!(ask("192.0.2.2", "anna:s3cret").answer().body, b"content");
    drop(guesses);
}
