//! Ranges that were shorter than requested: a server that sends few bytes a response.

/// Short ranges since the last result, and their bytes.
#[derive(Debug, Default)]
pub(super) struct ClippedRanges {
    count: u64,
    bytes: u64,
}

impl ClippedRanges {
    /// Counts a short range of `received` bytes.
    pub(super) fn record(&mut self, received: u64) {
        self.count += 1;
        self.bytes += received;
    }

    /// The bytes of the ranges so far, once there are enough and their mean is not worth a request.
    /// The count starts again then.
    pub(super) fn take_too_small(&mut self) -> Option<u64> {
        if self.count < MIN_RANGES || self.bytes / self.count >= MIN_MEAN_BYTES {
            return None;
        }
        self.count = 0;
        Some(std::mem::take(&mut self.bytes))
    }
}

/// Fewer short ranges are no evidence.
const MIN_RANGES: u64 = 16;
/// Below this mean a range is not worth its request.
const MIN_MEAN_BYTES: u64 = 64 * 1024;
