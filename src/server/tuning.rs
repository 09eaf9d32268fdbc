//! The ledger of constants that speed depends on: the tried values, the results, and where they are
//! recorded.
//!
//! This module holds no code. All figures were taken on one host (AMD EPYC, two cores, server and
//! client on the loopback interface), interleaved, by `scripts/compare` or a script of the day; a
//! commit is named where its message holds the figures. CPU is the server's processor time unless
//! both sides are given. "Not recorded" means that a sentence was written down and its figures were
//! not; "not measured" means that the value is a derivation or a guess. Before a value is changed,
//! measure both in one run: `scripts/compare --congestion cubic`, old and new binary.
//!
//! # How bytes are sent
//!
//! | constant | where | tried | found | record |
//! |---|---|---|---|---|
//! | pipe of 1 MiB | `sys::send_file` | sendfile(2), whose pipe has 64 KiB | a tenth less CPU for peers that keep up | b15a36b, 2026-11-25; figures not recorded |
//! | `PipeLease`: what the peer did not take stays in the pipe | `sys::send_file` | discarded | 1 reader: 0.172 → 0.156 CPU-s/GiB, 5.8 → 6.3 GiB/s; a reader that hashes: 0.235 → 0.219; 16, 64, 256 readers: nothing that could be measured | 84f28f3, 2026-11-26, 11 × 0.4 s. An earlier run had found 2 to 4 %, less than runs differ by |
//! | `FIRST_PREFILL_BYTES` 128 KiB, then twice what was taken | `transmit::transfer` | a full pipe for all; 128 KiB for all; "free, regained after 8 MiB" | a full pipe: paced readers a third more CPU; 128 KiB: a lone fast reader an eighth more; the third rule left splice to peers that had never filled their queue | 1dc28b9, 2026-11-26, CUBIC; table of `benches/README.md` |
//! | `Prefill` kept from a connection's last response | `connection::common_state` | 128 KiB for each response; 1 MiB for each | ranges of 1 MiB, 16 readers, kept against 128 KiB: server 0.110 → 0.100, both sides 0.145 → 0.132 CPU-s/GiB, 12.9 → 14.0 GiB/s (nginx 0.104, 0.148, 10.9); 64 readers of 1 MiB: nothing that could be measured; 1 MiB for each: paced readers pay for what they do not take | CUBIC, 2026-11-28, 9 × 0.5 s, old and new binary |
//! | `AT_ONCE_BYTES` 128 KiB | `transmit::single_call` | sendfile, read and send of the end | a tenth to a sixth less CPU at 64 KiB; again 8 % | 3bc45c1, 2026-11-26; CUBIC, 2026-11-27, 9 × 0.35 s and 7 × 0.4 s, noise 3 % |
//! | `PIPED_BYTES` 128 KiB | `transmit::sink` | 0: always the pipe; never | always: nothing that could be measured, so small parts go by sendfile(2); never: 16 readers of 1 GiB 0.040 → 0.043, both sides 0.058 → 0.064 CPU-s/GiB, 256 readers 0.062 → 0.073 | CUBIC, 2026-11-27, 9 × 0.35 s and 7 × 0.4 s, noise 3 % |
//! | `SMALL_BYTES`, `KEPT_BYTES` 16 KiB | `transmit::sink`, `transmit::small` | kept up to 64 KiB | 64 KiB kept and copied: a twelfth more CPU than sendfile; kept content, one fstat for pipelined requests and validators made once: together a twentieth less at 1 KiB; without kept content 5.0 → 6.4 µs at 1 KiB; sent from two places by sendmsg(2) instead of gathered: 4.5 → 5.0 µs | 3bc45c1, 2026-11-26; CUBIC, 2026-11-27, 9 × 0.35 s and 7 × 0.4 s, noise 3 % |
//! | `SMALL_COPY_BYTES` 128 KiB | `transmit::single_call` | – | not measured | – |
//! | `HELD_BYTES` 1 KiB | `transmit::single_call` | 1 byte, 256 B, 4 KiB | 4 KiB cost more (the copy), 256 B too (one more segment); 1 byte: nothing that could be measured | 0f86d78, 2026-11-25; CUBIC, 2026-11-27, 9 × 0.35 s and 7 × 0.4 s, noise 3 % |
//! | `LARGE_BYTES` 256 KiB: no `TCP_CORK` up to it | `connection::send` | 0: always; never | always: 64 KiB 9.1 → 10.0 µs, 1 KiB 5.0 → 5.6 µs; never: 16 readers of 1 GiB 0.040 → 0.050 CPU-s/GiB, both sides 0.059 → 0.073 | CUBIC, 2026-11-27, 9 × 0.35 s and 7 × 0.4 s, noise 3 % |
//! | `SCRATCH_BYTES` 256 KiB | `transmit::sink` | 64 KiB, 1 MiB | copying for 1 and 16 readers of 1 GiB: 0.258, 0.172 CPU-s/GiB; 64 KiB 0.347, 0.214; 1 MiB 0.310, 0.186 | CUBIC, 2026-11-27, 9 × 0.35 s and 7 × 0.4 s, noise 3 % |
//! | buffers 64 bytes into a page | `sys::buffer` | the allocator's 16 | copies into the latter cost some processors four times as much | not recorded |
//! | quantum 2 MiB | `ServeConfig::quantum_bytes` | – | nginx's `sendfile_max_chunk`; not measured here | – |
//!
//! # Send queues
//!
//! | constant | where | tried | found | record |
//! |---|---|---|---|---|
//! | `UNSENT_BYTES` 16 KiB, `PROOF_BYTES` 1 MiB | `shared`, `connection::send_queue` | 0: long at once; never | ten thousand stalled readers leave memory to those that read (`tests/it/memory.rs`); long at once: nothing that could be measured; never: 256 readers 0.038 → 0.043 CPU-s/GiB | 9201c0e, 2026-11-25; CUBIC, 2026-11-27, 9 × 0.35 s and 7 × 0.4 s, noise 3 % |
//! | `LEAST_BATCH` 4 KiB, batches no larger than the window that `TCP_INFO` tells | `transmit::tls` | what the peer took last | of 16 MiB, 100 peers that read nothing: 62 KiB each, 263 with requests of 14 KB behind → 6, 22; throughput not compared | debug build, 2026-11-27 |
//! | `LARGE_BYTES` 18 KiB, `LONG_REQUESTS` 256 | `connection::request_buffer`, `shared` | none | beginnings of a ClientHello of 60 kB: 121 KiB each, without a limit → 256 at a time | debug build, 2026-11-27 |
//! | `LONG_BYTES` 4 MiB | `shared` | 256 KiB to 2 MiB; long for all of 256 readers | shorter: more CPU; all 256: a quarter less CPU, a quarter less throughput | CHANGELOG before fbf4826, 2026-11-26 |
//! | a short queue for a lone reader on this host | gone | kept | under BBR 4.40 → 6.37 GiB/s, 0.223 → 0.151 CPU-s/GiB (b9febea, 9 × 0.5 s); without pacing it only costs | CHANGELOG before fbf4826, 2026-11-26 |
//! | loopback without BBR | `acceptor::congestion` | the system's choice | BBR's pacing halved what 16 readers got, and more | `benches/README.md`, "What BBR does on the loopback" |
//! | `KERNEL_PACED_BELOW` 64 MiB/s | `rate_limit` | – | a derivation: from there on a segment takes less time than timers are late | `benches/README.md`, rates asked for and measured |
//!
//! # What is in memory
//!
//! | constant | where | tried | found | record |
//! |---|---|---|---|---|
//! | `EXTENT_BYTES` 2 MiB | `files::extent` | – | not measured | – |
//! | cachestat(2) and five pages | `sys::page_cache` | 8 random pages (5 where all was there lately) | exact; 1 MiB: 2.1 µs and 0.9 µs a page, where 8 pages take 7.6 µs; ranges of 1 MiB, with two pages, both sides: 0.104 → 0.094 CPU-s/GiB (nginx 0.106); two miss a readahead under way behind a page that was read before (seen once in `tests/it/cold.rs`) | 2026-11-27, a loop over the calls; CUBIC, 15 × 0.4 s |
//! | `SAMPLES` 8 | `sys::page_cache`, without cachestat(2) | every page; 16 | every page: ranges of a large cached file 0.457 CPU-s/GiB (nginx 0.122); 16: ranges of 1 MiB a tenth more; 4 (2 where known): 8 % less, but misses an extent half of which is gone once in 16, not once in 256 | 03f3fa0, 1a93377; CUBIC, 2026-11-27, 9 × 0.35 s and 7 × 0.4 s, noise 3 % |
//! | `UNASKED_FOR` 100 ms | `files::residency_cache` | asked each time | five probes for each response of 64 KiB: 17 % of its CPU | a675409, 2026-11-27 |
//! | `WaitWatch` asks after the poller, not each turn | `sys::process` | each turn | getrusage(2) each turn: 14 % of a small response's CPU | a675409, 2026-11-27 |
//! | `VALID_FOR` 5 s, `MAX_EXTENTS` | `files::residency_cache` | – | not measured | – |
//! | `VALID_FOR` 1 s | `files::open_file_cache` | – | not measured; each use is checked by fstat(2) | – |
//!
//! # Disks
//!
//! | constant | where | tried | found | record |
//! |---|---|---|---|---|
//! | `READ_AHEAD_EXTENTS` 8 (16 MiB) | `transmit::read_ahead` | 3 (6 MiB) | one reader of a file on a disk: a quarter more | CHANGELOG before fbf4826 |
//! | read in order through a pipe to `/dev/null` | `transmit`, `disk_worker` | `POSIX_FADV_WILLNEED` | advice gave single pages; in order the kernel makes large folios, which cost a third less to send | afe9785, 2026-11-26 |
//! | `SLOW_*`, `WHOLE_EXTENTS` | `files::filesystem` | – | for `read_ahead_kb` 0; not measured elsewhere | de25ded, 2026-11-26 |
//! | `LONG_LINE` 16 | `disk_queue` | – | not measured | – |
//! | `STALE_AFTER` 200 ms, `MAX_READS` 2 | `connection::send`, `connection::send::cold` | – | not measured | – |
//!
//! # Threads and bookkeeping
//!
//! | constant | where | tried | found | record |
//! |---|---|---|---|---|
//! | a connection is watched once it has to wait | `hot_worker::table` | always | a connection for each request: five system calls and a tenth of the CPU less | 743a3d2, 2026-11-26 |
//! | waking workers once for all that were accepted together | left | – | a fortieth less CPU, and in a flood no request would be served meanwhile | CHANGELOG before fbf4826 |
//! | `GATHER` 5 ms | `telemetry::access_log` | a write for each line | 20 µs a line; with batches a small response costs a tenth more than without a log | 0f86d78, 2026-11-25 |
//! | `LEAST_CHARGE` 4 KiB | `connection::send` | 1 byte | nothing that could be measured; it bounds the pipelined requests of a turn to 512 | CUBIC, 2026-11-27, 9 × 0.35 s and 7 × 0.4 s, noise 3 % |
//! | `SHARED_FROM` 4, `MAX_ADOPTED` 64 | `hot_worker` | never shared | 1 KiB: 178,000 → 158,000 requests/s, 5.0 → 5.6 µs; kept connections of one worker: `server/hot_worker/tests.rs` | CUBIC, 2026-11-27, 9 × 0.35 s and 7 × 0.4 s, noise 3 % |
//! | link-time optimization | `Cargo.toml` | without | small responses 5 to 8 % faster | CHANGELOG before fbf4826 |
