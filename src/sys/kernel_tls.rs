//! TLS records sealed and opened by the kernel (`TCP_ULP`, `SOL_TLS`; Linux's
//! Documentation/networking/tls.rst).

#[cfg_attr(
    not(all(target_os = "linux", not(feature = "portable"))),
    path = "kernel_tls/none.rs"
)]
mod calls;
mod keys;
mod support;

pub(crate) use self::calls::{attach, receive_record, records_sent, send_record, set_keys};
pub(crate) use self::keys::{
    Cipher, Direction, NONCE_BYTES, RecordFault, TrafficKeys, Version, record_type,
};
pub(crate) use self::support::{KernelTls, probe};
