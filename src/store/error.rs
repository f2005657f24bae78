//! What can go wrong with the storage, told apart by what a caller does about it.

use std::error::Error;
use std::io;

/// A call of the store that failed. The message names no path; the source below it does.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// There is no such object.
    #[error("not found in the store")]
    NotFound,
    /// An object is there already and was to be created.
    #[error("already in the store")]
    AlreadyExists,
    /// An object is not as it was read.
    #[error("changed in the store meanwhile")]
    Changed,
    /// No room: the disk, the quota or the file size limit.
    #[error("the storage is full")]
    Full(#[source] Source),
    /// The storage cannot be written: read-only, or no permission.
    #[error("the storage is not writable")]
    ReadOnly(#[source] Source),
    /// Anything else.
    #[error("the storage failed")]
    Other(#[source] Source),
}

/// The cause of a [`StoreError`].
pub type Source = Box<dyn Error + Send + Sync + 'static>;

impl From<object_store::Error> for StoreError {
    fn from(error: object_store::Error) -> Self {
        match error {
            object_store::Error::NotFound { .. } => Self::NotFound,
            object_store::Error::AlreadyExists { .. } => Self::AlreadyExists,
            object_store::Error::Precondition { .. } => Self::Changed,
            other => Self::from_source(Box::new(other)),
        }
    }
}

impl From<io::Error> for StoreError {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::NotFound => Self::NotFound,
            io::ErrorKind::AlreadyExists => Self::AlreadyExists,
            _ => Self::from_source(Box::new(error)),
        }
    }
}

impl From<rustix::io::Errno> for StoreError {
    fn from(error: rustix::io::Errno) -> Self {
        io::Error::from(error).into()
    }
}

impl StoreError {
    /// The kind is that of the first `io::Error` in the chain of sources, however deep a backend wraps it.
    pub(super) fn from_source(source: Source) -> Self {
        // What a server refuses is no error of the system.
        let refused = |error: &object_store::Error| {
            use object_store::Error::{PermissionDenied, Unauthenticated};
            matches!(error, PermissionDenied { .. } | Unauthenticated { .. })
        };
        if source.downcast_ref().is_some_and(refused) {
            return Self::ReadOnly(source);
        }
        let mut link: Option<&(dyn Error + 'static)> = Some(source.as_ref());
        let mut kind = None;
        while let (Some(error), None) = (link, kind) {
            kind = error.downcast_ref::<io::Error>().map(io::Error::kind);
            link = error.source();
        }
        match kind {
            Some(io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge) => {
                Self::Full(source)
            }
            Some(io::ErrorKind::ReadOnlyFilesystem | io::ErrorKind::PermissionDenied) => {
                Self::ReadOnly(source)
            }
            _ => Self::Other(source),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kind_is_found_however_deep_it_lies() {
        #[track_caller]
        fn check(errno: rustix::io::Errno, expected: &str) {
            let io = io::Error::from(errno);
            let deep = object_store::Error::Generic { store: "test", source: Box::new(io) };
            let deeper = object_store::Error::Generic { store: "test", source: Box::new(deep) };
            let error = StoreError::from(deeper);
            assert!(format!("{error:?}").starts_with(expected), "{errno:?}: {error:?}");
        }
        check(rustix::io::Errno::NOSPC, "Full");
        check(rustix::io::Errno::DQUOT, "Full");
        check(rustix::io::Errno::FBIG, "Full");
        check(rustix::io::Errno::ROFS, "ReadOnly");
        check(rustix::io::Errno::ACCESS, "ReadOnly");
        check(rustix::io::Errno::IO, "Other");
    }
}
