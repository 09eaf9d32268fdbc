//! haul serves large files over TCP and TLS, and fetches them.
//!
//! Three promises shape it: the speed of a bare sendfile(2) loop; nothing stalls, neither for ten
//! thousand slow readers nor for a cold disk; and the truth about every transfer.
//!
//! # The picture: a ring of ownership
//!
//! ```text
//!  listeners ─► ACCEPTOR ──► DISPATCH (crossbeam channel) ──► HOT WORKER × N
//!               (accepts,        ▲          ▲                 { poller, table, fair queue }
//!                admits)         │          └── hands over ───┤   │ Park: stays in the table
//!                                │              what an idle  │   │ Yield: back into the queue
//!                                │              worker takes  │   │ Close: one reason, counted
//!                                │                            │   │
//!                                └── DISK WORKER × M ◄────────┴───┘ Disk(job)
//!                                    { a line for each file system }
//!
//!  advance:  (introduce → shake hands →) receive → parse → resolve → respond → transmit → record
//! ```
//!
//! A connection is a `Box` that goes round the ring; its holder alone may touch it. It is
//! owned by exactly one of: the channel, a hot worker's table, the disk queue's line, a disk
//! worker. There is no shared table of connections, and a forgotten case drops the box, which
//! closes the socket. `server::connection::step::Step` is what a turn ends in, and the whole
//! vocabulary of scheduling.
//!
//! Hot workers wait for nothing but their poller. Names come from the kernel's name cache
//! (`RESOLVE_CACHED`), bytes from the page cache; whatever either does not have is a job for the
//! disk queue, after which the connection comes back by dispatch. Whether bytes are in memory is
//! decided in one place (`OpenFile::may_wait`), by what all workers know of the extent and what
//! `RWF_NOWAIT` says of its pages. Local file systems are those of a list; any other may wait for
//! a network, and no hot worker opens, reads or stats its files. Of an overlay hot workers use
//! what is open, as long as the name cache confirms it. A turn that waited for longer than 2 ms
//! all the same is counted (`hot_waits`), and the tests hold that at zero.
//!
//! # Layers
//!
//! Arrows of `use` point down only; within a row no module knows a neighbour. The same holds inside
//! every folder: no child imports its parent, and the children of one parent form no circle. A
//! test (`tests/it/layers.rs`) holds the code against this.
//!
//! | layer | modules | hold |
//! |---|---|---|
//! | 5 | `server`, `get`, `load`, `message`, `sum` | the programs: file server, download client, load generator, one message and its answer, digests of files |
//! | 4 | `name_protocol` | the bare-name protocol |
//! | 3 | `http` | HTTP/1.1 in both directions, without a socket or a file |
//! | 3 | `tls` | TLS in both directions, without a socket |
//! | 3 | `dial` | connecting to a host by name, for all clients |
//! | 3 | `diagnostics` | what is said to a person, without ever failing or blocking |
//! | 2 | `digest` | digests of files, block lists, and the store that keeps them |
//! | 2 | `signed_link` | links that expire, and the keys that sign them |
//! | 1 | `sys` | system calls, without policy |
//! | 0 | `meta` | what a file system says of a file, as plain data |
//! | 0 | `printable` | characters of untrusted text that a terminal must not get |
//! | 0 | `sync` | locks, atomics and channels of hand-overs between threads, for models to replace |
//!
//! Inside `server`:
//!
//! | layer | modules | hold |
//! |---|---|---|
//! | server 11 | `started` | a server whose threads run |
//! | server 10 | `acceptor`, `hot_worker`, `disk_worker`, `admin`, `threads`, `handle` | the threads' loops, and the way to them from outside |
//! | server 9 | `ring` | what the threads share, and the ways between them |
//! | server 8 | `dispatch`, `disk_queue` | these ways |
//! | server 7 | `connection` | a connection's states, whose order `connection::transitions` alone knows |
//! | server 7 | `check`, `listeners` | a start, and one that is only tried |
//! | server 6 | `transmit` | a response's bytes into a socket |
//! | server 6 | `startup_error` | why a server cannot start |
//! | server 5 | `shared` | the state that all connections share |
//! | server 4 | `listing`, `fair_queue` | directories in words; whose turn it is to send |
//! | server 3 | `access`, `digests`, `live_limits`, `round_robin` | who may have what; digests of served files; limits as they are now; turns by client |
//! | server 2 | `files`, `client_share` | from a target to an open file; what each client has been sent and holds |
//! | server 1 | `config` | validated settings |
//! | server 0 | `telemetry`, `network`, `rate_limit`, `semaphore`, `disk_waits`, `eviction`, `missing_calls`, `thread_pool`, `tuning` | counters and logs, and parts that know nothing else; `tuning` is the ledger of what was measured |
//!
//! `main` and `cli` are not part of the library: clap's types end there.
//!
//! # Invariants
//!
//! 1. A connection parks only after the socket said `WouldBlock` or gave less than was asked for,
//!    never because a request is incomplete: what was received may hold a pipelined one.
//! 2. A worker's connections are watched from the first time that they have to wait until it lets
//!    them go, and watching reports at once what is ready; an event carries no verdict, the next call does.
//! 3. Tokens are never used twice; a stale event finds no entry and is ignored.
//! 4. Every connection owns a permit; channels have no bound besides, so `send` neither waits nor
//!    drops and no two threads can wait for each other.
//! 5. A panic costs the connection in whose step it happened, which closes as `panicked`.
//! 6. An error of accept(2) never ends the loop: those of one connection are counted, exhaustion
//!    and errors that persist slow it down.
//! 7. Short counts from sendfile(2) are normal; zero before the end means that the file shrank.
//! 8. A response whose bytes can no longer be true ends in a reset, never in an orderly close.
//!    The last byte of a file's response leaves after the file was found unchanged.
//! 9. What a TLS session has sealed is never sealed again, and a session goes to the kernel when
//!    nothing of it is under way. A key of the kernel's seals no more records than it may.
//! 10. Every path that only Linux has is left out by the feature `portable`, but for socket options
//!     and advice that change no path; sendfile(2) alone by `--transmit copy`. Tests run with both.
//! 11. Deadlines belong to states. A response that moves is never cut unless the operator set a
//!     minimum rate or a limit in all; what moves is measured by what the peer acknowledged.
//! 12. Errors carry blame: [`server::StartupError`] the operator's, `http::Refusal` the
//!     peer's, `server::transmit::TransmitError` the network's or the file's.
//! 13. Every connection ends with exactly one [`server::telemetry::CloseReason`], counted in one place.
//! 14. At the end listeners close first, idle connections next; transfers finish within the grace.
//! 15. `unsafe` is denied; the lines in `sys` that need it stand alone, each with its proof.

#[doc(hidden)]
pub mod diagnostics;
mod dial;
mod digest;
pub mod get;
mod http;
pub mod load;
pub mod message;
mod meta;
mod name_protocol;
mod printable;
pub mod server;
#[doc(hidden)]
pub mod signed_link;
pub mod sum;
mod sync;
mod sys;
mod tls;

/// Inner parts that the program, the benchmarks, the fuzz targets and the tests reach for: no
/// part of the interface, and free to change.
#[doc(hidden)]
pub mod internals {
    pub use crate::http::DigestAnswer;
    pub use crate::http::parse::body::{Discard, Discarded};
    pub use crate::http::parse::target::{Form, parse as parse_target};
    pub use crate::http::parse::{Parsed, parse_request};
    pub use crate::http::percent_encode_component;
    pub use crate::http::policy::DotNames;
    pub use crate::http::range::{Selection, parse as parse_range, resolve as resolve_range};
    pub use crate::http::respond::{Negotiation, Now, Subject, to_file};
    pub use crate::http::{BodyLength, Method, RangeSpec};
    pub use crate::http::{Meta, Persistence, Plan, Segment, Target, Validators};
    pub use crate::name_protocol::parse as parse_name;
    pub use crate::printable::is_unprintable;
    pub use crate::server::connection::classify::{Classified, InputEnd, classify};
    pub use crate::server::connection::proxy_header::{ProxyHeader, parse as parse_proxy_header};
    pub use crate::server::files::open_file_cache::OpenFileCache;
    pub use crate::server::files::{Found, LookUp, Root};
    pub use crate::server::transmit::sink::{FilePart, IoBuffers, More, SendError, Sink};
    pub use crate::server::transmit::{Progress, RunContext, Transfer};
    pub use crate::sys::file::{Blocking, read_text_bounded};
    pub use crate::sys::inherited::inherited_listeners;
    pub use crate::sys::launcher::{Launcher, launch_all, tell_ready};
    pub use crate::sys::local_socket::connect_local;
    pub use crate::sys::page_cache::{Residency, drop_behind, residency};
    pub use crate::sys::poll::read_within;
    pub use crate::sys::process::{exit_now, host_name};
    pub use crate::sys::resources::raise_open_files;
    pub use crate::sys::socket::limit_unsent;
    pub use crate::sys::user::find_group;

    use crate::digest::blocks::BlockList;
    use crate::get::metalink;
    use crate::get::part_file::state::State;
    use crate::get::tree::links::{self, Kind};
    use crate::http::chunked::{Decoder, Piece, Strictness};
    use crate::http::{client_response, disposition, range};

    /// How many bytes the head of a response takes, as a client reads it.
    pub fn response_head_len(input: &[u8]) -> Option<usize> {
        let (head, len) = client_response::parse_head(input).ok()??;
        let _ = (head.framing(), head.retry_after(std::time::UNIX_EPOCH));
        let _ = head
            .content_range
            .as_deref()
            .and_then(range::ContentRange::parse);
        Some(len)
    }

    /// How many bytes of a chunked body a client takes from `input`, and of its content.
    pub fn chunked_len(input: &[u8]) -> Option<(usize, usize)> {
        let (mut taken, mut content) = (0, 0);
        let mut decoder = Decoder::new(Strictness::Lenient);
        loop {
            match decoder.next(&input[taken..], usize::MAX).ok()? {
                Piece::Framing(len) => taken += len,
                Piece::Data(len) => (taken, content) = (taken + len, content + len),
                Piece::Partial | Piece::End => return Some((taken, content)),
            }
        }
    }

    /// The file name in a value of `Content-Disposition`.
    pub fn disposition_name(value: &str) -> Option<String> {
        disposition::file_name(value)
    }

    /// How many links a client finds in a listing, as JSON, as HTML and as XML.
    pub fn listing_links(text: &[u8]) -> [usize; 3] {
        [Kind::Json, Kind::Html, Kind::Xml].map(|kind| {
            let mut found = 0;
            let _ = links::read(kind, text, &mut |_, _| {
                found += 1;
                found < 10_000
            });
            found
        })
    }

    /// How many bytes of a part file of this length the text of a state file claims.
    pub fn state_claims(text: &[u8], length: u64) -> u64 {
        State::parse(text, length).done.total()
    }

    /// A block list, written anew.
    pub fn block_list_again(bytes: &[u8]) -> Option<Vec<u8>> {
        BlockList::decode(bytes).ok().map(|list| list.encode())
    }

    /// How many files a metalink tells of.
    pub fn metalink_files(text: &str) -> Option<usize> {
        metalink::parse(text).ok().map(|jobs| jobs.len())
    }
}
