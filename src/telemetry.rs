//! Logs, figures and traces. Texts never reach them: libraries, whose debug output may hold texts, log from `warn` up whatever
//! the level is.

mod metrics;
mod otlp;
mod process;
mod traces;

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;

pub use metrics::{InFlight, METRICS_CONTENT_TYPE, Metrics, Scrape, SpansCounted, VocabMetrics};
pub use traces::{Hex, Span, Trace, TraceParent, Traces};

/// Sends log lines of `level` (`off`, `error`, `warn`, `info`, `debug` or `trace`) and above to standard error, as
/// JSON or as text.
///
/// The first call in a process counts; later ones change nothing.
pub fn init_logging(level: &str, json: bool) {
    let lines = tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_env_filter(log_filter(level))
        .with_ansi(std::io::stderr().is_terminal())
        // A line that cannot be written would be reported on standard error, which is where it could not be written:
        // that report panics, and with it the connection whose request was logged.
        .log_internal_errors(false);
    // An error says that logging was set up before, which is what later calls are told above.
    let _set_before = if json { lines.json().flatten_event(true).try_init() } else { lines.try_init() };
}

fn log_filter(level: &str) -> EnvFilter {
    let libraries = if matches!(level, "off" | "error") { level } else { "warn" };
    EnvFilter::new(format!("{libraries},vocabd={level}"))
}

/// Logs where a thread panics, and not what the panic says: slicing a string, for one, quotes it, and texts must never
/// be in a log. Replaces the default hook, which prints the message.
pub fn log_panics() {
    std::panic::set_hook(Box::new(|panic| {
        let at = panic.location().map_or_else(String::new, |at| format!("{}:{}", at.file(), at.line()));
        let thread = std::thread::current();
        tracing::error!(at, thread = thread.name().unwrap_or("unnamed"), "panic");
    }));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries_log_from_warn_up() {
        for (level, filter) in
            [("trace", "vocabd=trace,warn"), ("info", "vocabd=info,warn"), ("error", "vocabd=error,error")]
        {
            assert_eq!(log_filter(level).to_string(), filter);
        }
        init_logging("info", true);
        init_logging("debug", false);
    }
}
