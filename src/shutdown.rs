//! Signals: which end the server, which reload it, and which must not kill it.
//!
//! The first SIGTERM or SIGINT asks for an orderly end; a second one ends the process at once.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// What the signals ask for.
#[derive(Debug)]
pub struct Signals {
    /// Cancelled at the first SIGTERM or SIGINT.
    pub shutdown: CancellationToken,
    /// Has a message when a SIGHUP came since the last one was taken; several in that time are one.
    pub reload: mpsc::Receiver<()>,
}

/// Catches the signals from here to the end of the process, on tasks of the current runtime.
///
/// # Errors
/// What the system says when a handler cannot be registered.
///
/// # Panics
/// Outside a tokio runtime that drives I/O.
pub fn install() -> io::Result<Signals> {
    let shutdown = CancellationToken::new();
    let (reload_sender, reload) = mpsc::channel(1);

    let terminate = signal(SignalKind::terminate())?;
    let interrupt = signal(SignalKind::interrupt())?;
    tokio::spawn(end_on(terminate, interrupt, shutdown.clone()));
    tokio::spawn(reload_on(signal(SignalKind::hangup())?, reload_sender));

    Ok(Signals { shutdown, reload })
}

/// Makes a write beyond the file-size limit (`ulimit -f`, `LimitFSIZE=`) an error of that write (EFBIG) instead of the
/// end of the process, from here on.
///
/// # Errors
/// What the system says when a handler cannot be registered.
///
/// # Panics
/// Outside a tokio runtime that drives I/O.
pub fn survive_file_size_limit() -> io::Result<()> {
    let file_size = signal(SignalKind::from_raw(rustix::process::Signal::XFSZ.as_raw()))?;
    tokio::spawn(warn_on(file_size));
    Ok(())
}

async fn end_on(mut terminate: Signal, mut interrupt: Signal, shutdown: CancellationToken) {
    loop {
        let name = tokio::select! {
            Some(()) = terminate.recv() => "SIGTERM",
            Some(()) = interrupt.recv() => "SIGINT",
            else => return,
        };
        if shutdown.is_cancelled() {
            tracing::warn!(signal = name, "ending at once");
            std::process::exit(1);
        }
        tracing::info!(signal = name, "shutting down; a second signal ends the process at once");
        shutdown.cancel();
    }
}

async fn reload_on(mut hangup: Signal, reload: mpsc::Sender<()>) {
    while hangup.recv().await.is_some() {
        tracing::info!(signal = "SIGHUP", "reload requested");
        // Full: a reload is already due, and it will see what this one would.
        if let Err(mpsc::error::TrySendError::Closed(())) = reload.try_send(()) {
            tracing::debug!("nobody reloads any more");
        }
    }
}

async fn warn_on(mut file_size: Signal) {
    while file_size.recv().await.is_some() {
        tracing::warn!(signal = "SIGXFSZ", "a write met the file-size limit and failed");
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use rustix::process::{Signal, getpid, kill_process};

    use super::*;

    /// One test, since the signals belong to the whole process. The second SIGTERM is tested on a process of its own.
    #[tokio::test]
    async fn signals_ask_for_reload_and_shutdown() {
        let mut signals = install().unwrap();
        survive_file_size_limit().unwrap();
        let send = |signal| kill_process(getpid(), signal).unwrap();
        let wait = Duration::from_secs(20);

        send(Signal::HUP);
        tokio::time::timeout(wait, signals.reload.recv()).await.unwrap().unwrap();
        // Survived; were it not caught, the test's process would end here.
        send(Signal::XFSZ);
        assert!(!signals.shutdown.is_cancelled());
        send(Signal::TERM);
        tokio::time::timeout(wait, signals.shutdown.cancelled()).await.unwrap();
    }
}
