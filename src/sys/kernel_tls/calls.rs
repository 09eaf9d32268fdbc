//! The calls of Linux.

use std::io::{self, IoSliceMut};
use std::net::TcpStream;
use std::os::fd::AsRawFd;
use std::ptr;

use nix::errno::Errno;
use nix::libc;
use nix::sys::socket::sockopt::{GetStruct, TcpTlsRx, TcpTlsTx, TcpUlp, TlsCryptoInfo};
use nix::sys::socket::{
    ControlMessageOwned, MsgFlags, TlsGetRecordType, getsockopt, recvmsg, setsockopt,
};
use zeroize::Zeroize;

use crate::sys::kernel_tls::keys::{
    Cipher, Direction, NONCE_BYTES, TrafficKeys, Version, record_type,
};
use crate::sys::retry::retry;

/// Readies a connected socket for keys (`TCP_ULP`). Until it has some, nothing changes.
///
/// # Errors
/// As setsockopt(2): `NotFound` where the kernel has no TLS, or may not load its module.
pub(crate) fn attach(stream: &TcpStream) -> io::Result<()> {
    Ok(setsockopt(stream, TcpUlp::default(), b"tls")?)
}

/// Has the kernel seal what is sent from now on, or open what is received (`TLS_TX`, `TLS_RX`).
///
/// # Errors
/// As setsockopt(2): `EBUSY` where the kernel cannot change keys (before Linux 6.14).
pub(crate) fn set_keys(
    stream: &TcpStream,
    direction: Direction,
    keys: &TrafficKeys,
) -> io::Result<()> {
    let mut keys = crypto_info(keys);
    let set = match direction {
        Direction::Send => setsockopt(stream, TcpTlsTx, &keys),
        Direction::Receive => setsockopt(stream, TcpTlsRx, &keys),
    };
    match &mut keys {
        TlsCryptoInfo::Aes128Gcm(info) => info.key.zeroize(),
        TlsCryptoInfo::Aes256Gcm(info) => info.key.zeroize(),
        TlsCryptoInfo::Chacha20Poly1305(info) => info.key.zeroize(),
    }
    Ok(set?)
}

/// The number of the next record to be sealed. A record that is not complete is not counted.
///
/// # Errors
/// As getsockopt(2).
pub(crate) fn records_sent(stream: &TcpStream, cipher: Cipher) -> io::Result<u64> {
    // The kernel shows the key as well.
    macro_rules! sequence {
        ($option:expr) => {{
            let mut info = getsockopt(stream, $option)?;
            info.key.zeroize();
            info.rec_seq
        }};
    }
    let sequence = match cipher {
        Cipher::Aes128Gcm => sequence!(SealsAes128),
        Cipher::Aes256Gcm => sequence!(SealsAes256),
        Cipher::ChaCha20Poly1305 => sequence!(SealsChaCha20),
    };
    Ok(u64::from_be_bytes(sequence))
}

/// Sends a record of its own, behind what is not complete (`TLS_SET_RECORD_TYPE`).
///
/// # Errors
/// As sendmsg(2); `WouldBlock` if the send queue is full: nothing of it was taken then.
pub(crate) fn send_record(stream: &TcpStream, record_type: u8, bytes: &[u8]) -> io::Result<()> {
    let mut control = RecordType::new(record_type);
    let mut bytes = libc::iovec {
        iov_base: bytes.as_ptr().cast_mut().cast(),
        iov_len: bytes.len(),
    };
    // SAFETY: all fields of a msghdr may be zero.
    #[allow(unsafe_code)]
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_iov = &raw mut bytes;
    message.msg_iovlen = 1;
    message.msg_control = ptr::from_mut(&mut control).cast();
    message.msg_controllen = control.header.cmsg_len;
    retry(|| {
        // SAFETY: the descriptor is open while `stream` is borrowed, `message` points to `bytes` and
        // `control`, and the kernel only reads them.
        #[allow(unsafe_code)]
        let sent =
            unsafe { libc::sendmsg(stream.as_raw_fd(), &raw const message, libc::MSG_NOSIGNAL) };
        Errno::result(sent)
    })?;
    Ok(())
}

/// Receives plaintext of records of one type, and says how many bytes and of which type
/// (`TLS_GET_RECORD_TYPE`). Bytes without a type are of a socket without keys; no bytes without one
/// are the end of the stream.
///
/// # Errors
/// As recvmsg(2); `EBADMSG` for a record that does not decrypt.
pub(crate) fn receive_record(
    stream: &TcpStream,
    buffer: &mut [u8],
) -> io::Result<(usize, Option<u8>)> {
    let mut space = nix::cmsg_space!(u8);
    retry(|| {
        let mut buffers = [IoSliceMut::new(buffer)];
        let flags = MsgFlags::empty();
        let received = recvmsg::<()>(stream.as_raw_fd(), &mut buffers, Some(&mut space), flags)?;
        let mut types = received.cmsgs()?.filter_map(|message| match message {
            ControlMessageOwned::TlsGetRecordType(record_type) => Some(record_type),
            _ => None,
        });
        let record_type = types.next().map(|found| match found {
            TlsGetRecordType::ApplicationData => record_type::APPLICATION_DATA,
            TlsGetRecordType::Alert => record_type::ALERT,
            TlsGetRecordType::Handshake => record_type::HANDSHAKE,
            _ => UNKNOWN,
        });
        Ok((received.bytes, record_type))
    })
    .map_err(io::Error::from)
}

/// A control message of one byte.
#[repr(C)]
struct RecordType {
    header: libc::cmsghdr,
    value: u8,
    // The next message would begin here.
    _end: [u8; size_of::<usize>() - 1],
}

impl RecordType {
    fn new(value: u8) -> Self {
        // SAFETY: all fields of a cmsghdr may be zero.
        #[allow(unsafe_code)]
        let mut header: libc::cmsghdr = unsafe { std::mem::zeroed() };
        header.cmsg_level = libc::SOL_TLS;
        header.cmsg_type = libc::TLS_SET_RECORD_TYPE;
        // `CMSG_LEN(1)`: the header's size is a multiple of a word's.
        header.cmsg_len = (size_of::<libc::cmsghdr>() + 1) as _;
        Self {
            header,
            value,
            _end: [0; size_of::<usize>() - 1],
        }
    }
}

fn crypto_info(keys: &TrafficKeys) -> TlsCryptoInfo {
    let info = |cipher_type| libc::tls_crypto_info {
        version: match keys.version {
            Version::Tls12 => libc::TLS_1_2_VERSION,
            Version::Tls13 => libc::TLS_1_3_VERSION,
        },
        cipher_type,
    };
    let rec_seq = keys.sequence.to_be_bytes();
    let [salt, iv] = [0..4, 4..NONCE_BYTES].map(|part| &keys.nonce[part]);
    match keys.cipher {
        Cipher::Aes128Gcm => TlsCryptoInfo::Aes128Gcm(libc::tls12_crypto_info_aes_gcm_128 {
            info: info(libc::TLS_CIPHER_AES_GCM_128),
            iv: array(iv),
            key: array(&keys.key),
            salt: array(salt),
            rec_seq,
        }),
        Cipher::Aes256Gcm => TlsCryptoInfo::Aes256Gcm(libc::tls12_crypto_info_aes_gcm_256 {
            info: info(libc::TLS_CIPHER_AES_GCM_256),
            iv: array(iv),
            key: keys.key,
            salt: array(salt),
            rec_seq,
        }),
        Cipher::ChaCha20Poly1305 => {
            TlsCryptoInfo::Chacha20Poly1305(libc::tls12_crypto_info_chacha20_poly1305 {
                info: info(libc::TLS_CIPHER_CHACHA20_POLY1305),
                iv: keys.nonce,
                key: keys.key,
                salt: [],
                rec_seq,
            })
        }
    }
}

/// The first bytes of `bytes`, which has at least as many.
fn array<const LEN: usize>(bytes: &[u8]) -> [u8; LEN] {
    let mut array = [0; LEN];
    array.copy_from_slice(&bytes[..LEN]);
    array
}

macro_rules! sealing_keys {
    ($($name:ident: $info:path,)*) => {$(
        #[derive(Clone, Copy, Debug)]
        struct $name;

        nix::getsockopt_impl!($name, libc::SOL_TLS, libc::TLS_TX, $info, GetStruct<$info>);
    )*};
}

// `nix` sets these options, and does not get them.
sealing_keys! {
    SealsAes128: libc::tls12_crypto_info_aes_gcm_128,
    SealsAes256: libc::tls12_crypto_info_aes_gcm_256,
    SealsChaCha20: libc::tls12_crypto_info_chacha20_poly1305,
}

/// A type that no record has.
const UNKNOWN: u8 = 0;
