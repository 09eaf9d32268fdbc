//! Where a look-up ended.

/// Where a look-up ended, links of the file system followed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum RealPath {
    /// At the path that was asked for.
    AsAsked,
    /// At another path from the root.
    Other(Box<[u8]>),
    /// Outside of the root, in a directory that the operator let links lead to.
    Outside,
    /// The system does not say.
    Unknown,
}
