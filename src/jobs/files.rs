//! Corpus files under the configured root: opened beneath it, never through a link or a path that leads out.

use super::JobError;
use super::corpus::Source;
use std::fs::File;
use std::path::{Component, Path};

/// The most files that one job may name.
const MAX_FILES: usize = 100_000;

/// Checks that every file can be opened, without keeping them open. `at` is where the list is in the request.
pub(super) fn check(root: Option<&Path>, at: &str, files: &[String]) -> Result<(), JobError> {
    if files.len() > MAX_FILES {
        return Err(JobError::invalid(at, format!("has over {MAX_FILES} entries")));
    }
    files.iter().enumerate().try_for_each(|(index, file)| open(root, at, index, file).map(drop))
}

/// Opens one file of a request.
pub(super) fn open(root: Option<&Path>, at: &str, index: usize, name: &str) -> Result<Source, JobError> {
    let invalid = |reason: &str| JobError::invalid(format!("{at}/{index}"), reason);
    let root = root.ok_or_else(|| JobError::invalid(at, "is off: the setting corpus_root is not set"))?;
    let path = Path::new(name);
    let plain = !name.is_empty() && !name.contains('\0');
    if !plain || !path.components().all(|c| matches!(c, Component::Normal(_))) {
        return Err(invalid("must be a path inside the corpus root, without . and .."));
    }
    let file = open_beneath(root, path).map_err(|e| match e.kind() {
        std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory => {
            invalid("is not a file under the corpus root")
        }
        std::io::ErrorKind::PermissionDenied => invalid("cannot be read by the server"),
        _ => invalid("cannot be opened beneath the corpus root"),
    })?;
    if !file.metadata().is_ok_and(|m| m.is_file()) {
        return Err(invalid("is not a regular file"));
    }
    Ok(Source { name: name.to_owned(), file })
}

/// The kernel resolves the path and refuses any step (a link, too) that leaves the root. Without blocking: a FIFO
/// must not hold a thread.
#[cfg(target_os = "linux")]
fn open_beneath(root: &Path, path: &Path) -> std::io::Result<File> {
    use rustix::fs::{Mode, OFlags, ResolveFlags, open, openat2};
    let dir = open(root, OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::RDONLY, Mode::empty())?;
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    let file = openat2(dir, path, flags, Mode::empty(), ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS)?;
    Ok(File::from(file))
}

#[cfg(not(target_os = "linux"))]
fn open_beneath(root: &Path, path: &Path) -> std::io::Result<File> {
    let full = root.join(path).canonicalize()?;
    if !full.starts_with(root.canonicalize()?) {
        return Err(std::io::ErrorKind::InvalidInput.into());
    }
    File::open(full)
}

#[cfg(test)]
mod tests {
    use super::*;

    const AT: &str = "/corpus/files";

    #[track_caller]
    fn refused(root: &Path, name: &str) {
        assert!(
            matches!(open(Some(root), AT, 3, name), Err(JobError::Invalid { pointer, .. }) if pointer == "/corpus/files/3")
        );
    }

    #[test]
    fn only_regular_files_beneath_the_root_are_opened() {
        let outside = tempfile::tempdir().unwrap();
        std::fs::write(outside.path().join("secret"), "x").unwrap();
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        std::fs::create_dir(root.join("sub")).unwrap();
        std::fs::write(root.join("sub/a.txt"), "a").unwrap();
        std::os::unix::fs::symlink(outside.path(), root.join("out")).unwrap();
        std::os::unix::fs::symlink("a.txt", root.join("sub/inside")).unwrap();

        assert!(open(Some(root), AT, 0, "sub/a.txt").is_ok());
        assert!(open(Some(root), AT, 0, "sub/inside").is_ok(), "a link that stays inside");
        for name in
            ["", "../x", "sub/../../x", "/etc/passwd", "sub", "none.txt", "out/secret", "a\0b", "./sub/a.txt"]
        {
            refused(root, name);
        }
        assert!(
            matches!(open(None, AT, 0, "a"), Err(JobError::Invalid { pointer, .. }) if pointer == "/corpus/files")
        );
    }

    #[test]
    fn a_pipe_is_refused_without_waiting_for_its_writer() {
        let dir = tempfile::tempdir().unwrap();
        let made = std::process::Command::new("mkfifo").arg(dir.path().join("p")).status().unwrap();
        assert!(made.success());
        refused(dir.path(), "p");
    }
}
