//! Values that several commands take.

use std::num::NonZeroU64;
use std::time::Duration;

use bytesize::ByteSize;

/// A duration with its unit.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    let signed: jiff::SignedDuration = text
        .parse()
        .map_err(|_| format!("\"{text}\" is no duration; write 500ms, 10s or 2m"))?;
    Duration::try_from(signed).map_err(|_| "a duration is not negative".to_owned())
}

/// A number of bytes, with or without a unit.
pub(super) fn size(text: &str) -> Result<NonZeroU64, String> {
    let size: ByteSize = text
        .parse()
        .map_err(|_| format!("\"{text}\" is no size; write 4096, 64KiB or 1MiB"))?;
    NonZeroU64::new(size.as_u64()).ok_or_else(|| "a size is at least 1".to_owned())
}
