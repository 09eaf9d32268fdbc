//! `haul answer` and `haul say`, with each other and with clients that hold the rules loosely.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use haul::message::{
    AnswerConfig, AnswerError, Answerer, Charset, Heard, MAX_MESSAGE_BYTES, SayConfig, SayError,
    say,
};
use socket2::{Domain, Socket, Type};

#[test]
fn what_is_said_is_heard_and_answered() {
    let answering = Answering::start("utf-8", "thank you !", PATIENCE);
    assert_eq!(
        answering.say("utf-8", "grüß dich, 世界").unwrap(),
        "thank you !"
    );
    assert_eq!(answering.hear(), "grüß dich, 世界");
}

#[test]
fn gbk_goes_both_ways() {
    let answering = Answering::start("gbk", "谢谢", PATIENCE);
    assert_eq!(answering.say("gbk", "你好").unwrap(), "谢谢");
    assert_eq!(answering.hear(), "你好");
    let reply = answering.converse(&[&[0xc4, 0xe3, 0xba, 0xc3]], Then::HalfClose);
    assert_eq!(reply, [0xd0, 0xbb, 0xd0, 0xbb]);
    assert_eq!(answering.hear(), "你好");
}

#[test]
fn silence_ends_a_message() {
    let answering = Answering::start("utf-8", "ok", Duration::from_millis(100));
    assert_eq!(answering.converse(&[b"hello"], Then::Wait), b"ok");
    assert_eq!(answering.hear(), "hello");
}

#[test]
fn characters_may_come_in_pieces() {
    let answering = Answering::start("utf-8", "ok", PATIENCE);
    let bytes = "héé世".as_bytes();
    let pieces: Vec<&[u8]> = bytes.chunks(1).collect();
    assert_eq!(answering.converse(&pieces, Then::HalfClose), b"ok");
    assert_eq!(answering.hear(), "héé世");
}

#[test]
fn the_longest_message_needs_no_end() {
    let answering = Answering::start("utf-8", "ok", PATIENCE);
    let message = "x".repeat(MAX_MESSAGE_BYTES);
    assert_eq!(answering.converse(&[message.as_bytes()], Then::Wait), b"ok");
    assert_eq!(answering.hear(), message);
}

#[test]
fn of_a_longer_message_the_beginning_is_heard() {
    let answering = Answering::start("utf-8", "ok", PATIENCE);
    let message = "y".repeat(3 * MAX_MESSAGE_BYTES);
    assert_eq!(
        answering.converse(&[message.as_bytes()], Then::HalfClose),
        b"ok"
    );
    assert_eq!(answering.hear(), message[..MAX_MESSAGE_BYTES]);

    // The last character has its second byte behind the end.
    let cut = "z".repeat(MAX_MESSAGE_BYTES - 1) + "é";
    assert_eq!(
        answering.converse(&[cut.as_bytes()], Then::HalfClose),
        b"ok"
    );
    assert_eq!(answering.hear(), "z".repeat(MAX_MESSAGE_BYTES - 1));
}

#[test]
fn a_silent_client_delays_no_other() {
    let answering = Answering::start("utf-8", "ok", PATIENCE);
    let mute = TcpStream::connect(answering.address).unwrap();
    assert_eq!(answering.say("utf-8", "hello").unwrap(), "ok");
    assert_eq!(answering.hear(), "hello");
    mute.shutdown(Shutdown::Write).unwrap();
    let reply = read_all(&mute);
    assert_eq!(reply, b"");
    let heard = answering.heard.recv_timeout(PATIENCE).unwrap();
    assert!(matches!(heard, Heard::Silence { .. }), "{heard:?}");
}

#[test]
fn a_message_is_heard_before_its_sender_has_closed() {
    let answering = Answering::start("utf-8", "ok", Duration::from_millis(50));
    let mut stream = TcpStream::connect(answering.address).unwrap();
    stream.write_all(b"hello").unwrap();
    assert_eq!(answering.hear(), "hello");
    assert_eq!(read_all(&stream), b"ok");
}

#[test]
fn hundreds_of_silent_or_slow_peers_delay_no_other() {
    let answering = Answering::start("utf-8", "ok", Duration::from_millis(100));
    let connect = || TcpStream::connect(answering.address).unwrap();
    let silent: Vec<_> = (0..200).map(|_| connect()).collect();
    // They have their reply, and do not close.
    for _ in 0..100 {
        let mut stream = connect();
        stream.write_all(b"stays").unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        assert_eq!(read_all(&stream), b"ok");
        assert_eq!(answering.hear(), "stays");
    }
    assert_eq!(answering.say("utf-8", "hello").unwrap(), "ok");
    assert_eq!(answering.hear(), "hello");
    // No silent conversation was closed meanwhile.
    assert!(
        silent
            .iter()
            .all(|stream| stream.set_nonblocking(true).is_ok())
    );
    assert!(
        silent
            .iter()
            .all(|mut stream| stream.read(&mut [0]).is_err())
    );
}

#[test]
fn an_address_in_use_is_named() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let error = Answerer::bind(&answer_config(address, "utf-8", "ok", PATIENCE)).unwrap_err();
    assert!(error.to_string().contains(&address.to_string()), "{error}");
    let config = answer_config("127.0.0.1:0".parse().unwrap(), "latin1", "谢谢", PATIENCE);
    assert!(matches!(
        Answerer::bind(&config),
        Err(AnswerError::Reply(_))
    ));
}

#[test]
fn what_cannot_be_said_is_not_sent() {
    let answering = Answering::start("utf-8", "ok", PATIENCE);
    let longer = "x".repeat(MAX_MESSAGE_BYTES + 1);
    assert!(matches!(
        answering.say("utf-8", &longer),
        Err(SayError::TooLong { length: 1_025 })
    ));
    assert!(matches!(answering.say("utf-8", ""), Err(SayError::Empty)));
    assert!(matches!(
        answering.say("latin1", "你好"),
        Err(SayError::Charset(_))
    ));
    assert!(answering.heard.try_recv().is_err());
}

#[test]
fn a_close_without_reply_is_told() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let closing = thread::spawn(move || read_all(&listener.accept().unwrap().0));
    let outcome = say(&say_config(address, "utf-8", "hello"));
    assert!(matches!(outcome, Err(SayError::NoReply)), "{outcome:?}");
    assert_eq!(closing.join().unwrap(), b"hello");
}

#[test]
fn the_two_programs_converse() {
    let mut answer = Program::start(&[
        "--listen",
        "127.0.0.1:0",
        "--encoding",
        "gbk",
        "--reply",
        "谢\u{7}谢",
    ]);
    let said = haul_say(
        &answer.address,
        &["--encoding", "gbk", "你好\u{1b}[2J"],
        b"",
    );
    assert_eq!(
        (said.status.code(), text(&said.stdout)),
        (Some(0), "谢\\u{7}谢\n")
    );
    let line = answer.next_line();
    assert!(
        line.starts_with("127.0.0.1:") && line.ends_with(": 你好\\u{1b}[2J"),
        "{line:?}"
    );

    let said = haul_say(
        &answer.address,
        &["--encoding", "gbk"],
        "由标准输入\n".as_bytes(),
    );
    assert_eq!(said.status.code(), Some(0), "{said:?}");
    assert!(answer.next_line().ends_with(": 由标准输入"));

    let wrong = haul_say(&answer.address, &["--encoding", "klingon", "x"], b"");
    assert_eq!(wrong.status.code(), Some(2));
    assert_eq!(haul_say(&answer.address, &[""], b"").status.code(), Some(2));
    assert_eq!(answer.terminate(), Some(0));

    // Bound, so that no other program gets the port, but not listening.
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket
        .bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into())
        .unwrap();
    let nobody = socket
        .local_addr()
        .unwrap()
        .as_socket()
        .unwrap()
        .to_string();
    assert_eq!(haul_say(&nobody, &["x"], b"").status.code(), Some(1));
}

fn answer_config(listen: SocketAddr, label: &str, reply: &str, silence: Duration) -> AnswerConfig {
    let charset = charset(label);
    AnswerConfig {
        listen: vec![listen],
        reply: reply.to_owned(),
        charset,
        silence,
    }
}

fn say_config(to: SocketAddr, label: &str, text: &str) -> SayConfig {
    let (host, text) = (to.ip().to_string(), text.to_owned());
    SayConfig {
        family: haul::message::Family::Any,
        host,
        port: to.port(),
        text,
        charset: charset(label),
    }
}

fn charset(label: &str) -> Charset {
    label.parse().expect("the test's label is known")
}

fn read_all(mut stream: &TcpStream) -> Vec<u8> {
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut bytes = Vec::new();
    stream
        .read_to_end(&mut bytes)
        .expect("an orderly close, and no reset");
    bytes
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).expect("haul prints UTF-8")
}

/// What a client does when it has sent its message.
enum Then {
    HalfClose,
    Wait,
}

/// An answerer at work; dropping it ends it.
struct Answering {
    address: SocketAddr,
    heard: Receiver<Heard>,
    stop: Arc<AtomicBool>,
    running: Option<JoinHandle<std::io::Result<()>>>,
}

impl Answering {
    fn start(label: &str, reply: &str, silence: Duration) -> Self {
        let any = "127.0.0.1:0".parse().unwrap();
        let answerer = Answerer::bind(&answer_config(any, label, reply, silence)).unwrap();
        let address = answerer.local_addrs()[0];
        let (said, heard) = mpsc::channel();
        let stop = Arc::new(AtomicBool::new(false));
        let running = thread::spawn({
            let stop = Arc::clone(&stop);
            // The receiver is gone after the end of a test.
            move || answerer.run(&stop, move |heard| drop(said.send(heard)))
        });
        Self {
            address,
            heard,
            stop,
            running: Some(running),
        }
    }

    fn say(&self, label: &str, text: &str) -> Result<String, SayError> {
        say(&say_config(self.address, label, text))
    }

    fn hear(&self) -> String {
        match self
            .heard
            .recv_timeout(PATIENCE)
            .expect("something is heard")
        {
            Heard::Message { text, .. } => text,
            other => panic!("no message, but {other:?}"),
        }
    }

    /// Sends the pieces one by one and returns the reply.
    fn converse(&self, pieces: &[&[u8]], then: Then) -> Vec<u8> {
        let mut stream = TcpStream::connect(self.address).unwrap();
        stream.set_nodelay(true).unwrap();
        for piece in pieces {
            stream.write_all(piece).unwrap();
        }
        if let Then::HalfClose = then {
            stream.shutdown(Shutdown::Write).unwrap();
        }
        read_all(&stream)
    }
}

impl Drop for Answering {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        if let Some(running) = self.running.take() {
            assert!(
                matches!(running.join(), Ok(Ok(()))),
                "the answerer has failed"
            );
        }
    }
}

/// `haul answer` as a program; dropping it ends it.
struct Program {
    child: Child,
    address: String,
    lines: Receiver<String>,
}

impl Program {
    fn start(arguments: &[&str]) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_haul"))
            .arg("answer")
            .args(arguments)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("haul was built for this test");
        let errors = lines(child.stderr.take().expect("it is piped"));
        let lines = lines(child.stdout.take().expect("it is piped"));
        let first = errors
            .recv_timeout(PATIENCE)
            .expect("it says where it listens");
        let address = first
            .strip_prefix("listening on ")
            .expect("it says where")
            .to_owned();
        Self {
            child,
            address,
            lines,
        }
    }

    fn next_line(&self) -> String {
        self.lines
            .recv_timeout(PATIENCE)
            .expect("it prints what it hears")
    }

    fn terminate(&mut self) -> Option<i32> {
        let pid = self.child.id().to_string();
        assert!(
            Command::new("kill")
                .args(["-TERM", &pid])
                .status()
                .unwrap()
                .success()
        );
        let begin = Instant::now();
        while begin.elapsed() < PATIENCE {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status.code();
            }
            thread::sleep(Duration::from_millis(10));
        }
        panic!("it ignores SIGTERM");
    }
}

/// Reads in a separate thread, so that a wait for a line can be bounded.
fn lines(source: impl Read + Send + 'static) -> Receiver<String> {
    let (send, receive) = mpsc::channel();
    thread::spawn(move || {
        for line in BufReader::new(source).lines().map_while(Result::ok) {
            if send.send(line).is_err() {
                return;
            }
        }
    });
    receive
}

impl Drop for Program {
    fn drop(&mut self) {
        // It may have ended already, as the test wanted.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn haul_say(to: &str, arguments: &[&str], input: &[u8]) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_haul"))
        .args(["say", to])
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("haul was built for this test");
    child
        .stdin
        .take()
        .expect("it is piped")
        .write_all(input)
        .unwrap();
    child.wait_with_output().unwrap()
}

const PATIENCE: Duration = Duration::from_secs(60);
