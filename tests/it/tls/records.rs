//! Records that bring nothing, as many as a client likes.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;

use haul::server::config::{InheritedListener, KernelTlsChoice};
use haul::server::telemetry::CloseReason;
use rustls::version::TLS13;
use rustls::{ClientConnection, ContentType, StreamOwned};
use socket2::SockRef;

use super::support::{TlsClient, TlsServer};
use crate::support::{Client, noise, own_address};
use crate::tls_records::RecordSealer;

/// A server whose sessions stay in user space and whose sockets keep what is not read yet, and a
/// client whose keys can be taken out.
fn server_and_client() -> (TlsServer, TlsClient) {
    let tls = TlsServer::with(|config, _| {
        config.kernel_tls = KernelTlsChoice::Off;
        let socket = TcpListener::bind(own_address()).expect("a port");
        socket.set_nonblocking(true).expect("a socket");
        let sized = SockRef::from(&socket).set_recv_buffer_size(1 << 20);
        sized.expect("as much as the system allows");
        let name = "tls".to_owned();
        config.inherited = vec![Arc::new(InheritedListener { socket, name })];
    });
    let mut config = tls.authority.client_of(&[&TLS13], None);
    config.enable_secret_extraction = true;
    let socket = Client::with_small_window(tls.address()).into_socket();
    let client = TlsClient::over(socket, Arc::new(config), "localhost");
    (tls, client)
}

fn take_apart(client: TlsClient) -> (RecordSealer, TcpStream) {
    let StreamOwned::<ClientConnection, _> { conn, sock } = client.stream;
    (RecordSealer::of_client(conn), sock)
}

#[test]
fn records_without_content_end_the_connection_at_some_number() {
    let (tls, mut client) = server_and_client();
    client.shake_hands().expect("a handshake");
    let (mut sealer, mut socket) = take_apart(client);
    for _ in 0..100 {
        let record = sealer.seal(ContentType::ApplicationData, b"");
        // The server may have ended it before.
        let _ = socket.write_all(&record);
    }
    let _ = socket.read_to_end(&mut Vec::new());
    let counters = tls.server.counters_when(|counters| counters.open == 0);
    assert_eq!(counters.closed(CloseReason::Complete), 0, "{counters:#?}");
}

#[test]
fn reads_that_give_nothing_are_numbered_in_a_turn() {
    let (tls, mut client) = server_and_client();
    tls.server.put("large", noise(8 << 20, 61));
    client.request("/large", "");
    client.take(1);
    let (mut sealer, mut socket) = take_apart(client);
    // A message in records of a byte each, for more reads than a turn has. It comes while the
    // response waits for the client, so that it is there when the server reads again.
    let mut message = sealer.seal(ContentType::Handshake, b"\x0b\0\xff\xff");
    for _ in 0..13_000 {
        message.extend(sealer.seal(ContentType::Handshake, b"x"));
    }
    socket.write_all(&message).expect("taken");
    let _ = socket.read_to_end(&mut Vec::new());
    let counters = tls.server.counters_when(|counters| counters.open == 0);
    assert_eq!(counters.closed(CloseReason::Malformed), 1, "{counters:#?}");
}
