//! What the kernel says of a TCP connection (`TCP_INFO`, tcp(7)).

use std::net::TcpStream;
use std::os::fd::AsRawFd;

use nix::libc::{IPPROTO_TCP, TCP_INFO, getsockopt, socklen_t};

/// What the peer's window and the congestion window take in all.
pub(super) fn window(stream: &TcpStream) -> Option<u64> {
    let info = get(stream)?;
    let congestion = u64::from(info[SEGMENTS]) * u64::from(info[SEGMENT_BYTES]);
    Some(congestion.min(info[WINDOW].into()))
}

/// Bytes that the peer has acknowledged.
pub(super) fn acknowledged(stream: &TcpStream) -> Option<u64> {
    let info = get(stream)?;
    let halves = info[ACKNOWLEDGED..].first_chunk::<2>()?;
    let [low, high] = match cfg!(target_endian = "little") {
        true => *halves,
        false => [halves[1], halves[0]],
    };
    Some(u64::from(high) << 32 | u64::from(low))
}

fn get(stream: &TcpStream) -> Option<[u32; NUMBERS]> {
    let mut info = [0_u32; NUMBERS];
    let mut len = size_of_val(&info) as socklen_t;
    // SAFETY: the descriptor is open while `stream` is borrowed, and the kernel writes at most
    // `len` bytes, for which there is room and in which any bits are numbers.
    #[allow(unsafe_code)]
    let result = unsafe {
        getsockopt(
            stream.as_raw_fd(),
            IPPROTO_TCP,
            TCP_INFO,
            info.as_mut_ptr().cast(),
            &raw mut len,
        )
    };
    let is_whole = result == 0 && len as usize == size_of_val(&info);
    is_whole.then_some(info)
}

// `struct tcp_info` of linux/tcp.h up to `tcpi_snd_wnd`; fields are only ever added at the end.
const SEGMENT_BYTES: usize = 4;
const SEGMENTS: usize = 20;
/// A number of 64 bits.
const ACKNOWLEDGED: usize = 30;
const WINDOW: usize = 57;
const NUMBERS: usize = WINDOW + 1;
