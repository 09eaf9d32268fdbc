//! haul serves large files over TCP, and fetches them.
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
//!                                └── DISK WORKER × M ◄────────┴───┘ Warm(errand)
//!                                    { a line for each file system }
//!
//!  advance:  receive → parse → resolve → respond → transmit → record
//! ```
//!
//! A connection is a `Box` that goes round the ring; whoever holds the box may touch it. It is
//! owned by exactly one of: the channel, a hot worker's table, the disk lane's line, a disk
//! worker. There is no shared table of connections, and a forgotten case drops the box, which
//! closes the socket. [`connection::Step`] is what a turn ends in, and the whole vocabulary of
//! scheduling.
//!
//! Hot workers wait for nothing but their poller. Names come from the kernel's name cache
//! (`RESOLVE_CACHED`) and bytes from the page cache (probed by `RWF_NOWAIT`); whatever either
//! does not have is an errand for the disk lane, after which the connection comes back by
//! dispatch. File systems that may wait for a network are never touched by a hot worker but to
//! send what the disk lane has read in.
//!
//! # Layers
//!
//! Arrows of `use` point down only. Siblings in a layer may know each other where the table says
//! so by naming them in one row. A test (`tests/it/layers.rs`) holds the code against this table.
//!
//! | layer | modules | hold |
//! |---|---|---|
//! | 7 | `server` | bind, build the ring, run, drain |
//! | 7 | `get`, `load`, `conversation` | the client side: download, load generator, one message and its answer |
//! | 6 | `acceptor`, `worker` | the threads' loops |
//! | 5 | `dispatch`, `disk` | the ways between the threads: who is next, who is idle |
//! | 4 | `connection` | states, steps, errands: the only module that knows the whole order |
//! | 3 | `service`, `respond`, `listing`, `transmit` | what connections share · responses from requests · directories as pages and JSON · the loop that sends |
//! | 2 | `protocol`, `resolve`, `transport`, `fair` | wire formats, pure · targets to open files · where bytes enter a socket · a queue by client |
//! | 1 | `client`, `permits` | who is who, and what each has had · limits |
//! | 1 | `sys`, `config`, `telemetry` | system calls, without policy · validated settings · close reasons, counters, access records |
//! | 0 | `exchange` | the waist: requests, plans, responses as plain data |
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
//! 4. Every connection owns a permit and the channel is as long as there are permits, so `send`
//!    never waits and no two threads can wait for each other.
//! 5. A panic costs the connection in whose step it happened, which closes as `panicked`.
//! 6. An error of accept(2) never ends the loop: those of one connection are counted, exhaustion
//!    slows it down.
//! 7. Short counts from sendfile(2) are normal; zero before the end means that the file shrank.
//! 8. A response whose bytes can no longer be true ends in a reset, never in an orderly close.
//!    The last byte of a file's response leaves after the file was found unchanged.
//! 9. Every path that only Linux has is left out by `--cfg haul_portable`, and sendfile(2) by
//!    `--transmit copy`; the suite runs with both.
//! 10. Deadlines belong to states. A response that moves is never cut unless the operator set a
//!     minimum rate or a limit in all; what moves is measured by what the peer acknowledged.
//! 11. Errors carry blame: [`server::StartupError`] the operator's, [`exchange::Refusal`] the
//!     peer's, [`transmit::TransmitError`] the network's or the file's.
//! 12. Every connection ends with exactly one [`telemetry::CloseReason`], counted in one place.
//! 13. At the end listeners close first, idle connections next; transfers finish within the grace.
//! 14. `unsafe` is denied; the lines in `sys` that need it stand alone, each with its proof.

pub mod acceptor;
pub mod client;
pub mod config;
pub mod connection;
pub mod conversation;
pub mod disk;
pub mod dispatch;
pub mod exchange;
pub mod fair;
pub mod get;
pub mod listing;
pub mod load;
pub mod permits;
pub mod protocol;
pub mod resolve;
pub mod respond;
pub mod server;
pub mod service;
pub mod sys;
pub mod telemetry;
pub mod transmit;
pub mod transport;
pub mod worker;
