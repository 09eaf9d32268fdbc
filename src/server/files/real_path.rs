//! Where a look-up ended.

/// Where a look-up ended, links of the file system followed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum RealPath {
    /// At the requested path.
    AsAsked,
    /// At another path from the root.
    Other(Box<[u8]>),
    /// Outside the root, in a directory that the operator allows links to lead into.
    Outside,
    /// The system does not report it.
    Unknown,
}
