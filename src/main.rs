//! The program: parse the command line, run one command, turn its outcome into an exit code.

use std::ffi::{c_int, c_long};
use std::process::ExitCode;
use std::thread;
use std::time::Duration;

/// The system's allocator of a static binary is slow and keeps what threads free.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    allocator::give_back_after(Duration::ZERO);
    vocabd::cli::main(keep_for_the_next_request)
}

/// Has the allocator keep what is freed for a moment: what is larger than 512 KiB would otherwise be new pages from the system for each
/// request, which is half of what it takes to read a long text. By itself it looks at what it keeps only when something is allocated or
/// freed, so a thread does it too: what a job or an import took would stay for as long as nothing happens.
fn keep_for_the_next_request() {
    const KEPT: Duration = Duration::from_secs(1);
    const PERIOD: Duration = Duration::from_secs(1);
    let look = || {
        loop {
            thread::sleep(PERIOD);
            allocator::look();
        }
    };
    let thread = thread::Builder::new().name("allocator".to_owned()).stack_size(64 << 10);
    // Where the system has no thread for it, all stays as it is.
    if thread.spawn(look).is_ok() {
        allocator::give_back_after(KEPT);
    }
}

/// The allocator's own functions.
#[expect(unsafe_code, reason = "they are C")]
mod allocator {
    use super::{Duration, c_int, c_long};

    unsafe extern "C" {
        fn mi_option_set(option: c_int, value: c_long);
        fn mi_collect(force: bool);
    }

    /// `mi_option_purge_delay`: milliseconds.
    const PURGE_DELAY: c_int = 15;

    /// How long what is freed stays, at least.
    pub(super) fn give_back_after(delay: Duration) {
        // SAFETY: the allocator is linked in, and stores a number that other threads read whole, as it is one word.
        unsafe { mi_option_set(PURGE_DELAY, delay.as_millis() as c_long) }
    }

    /// Gives back what was kept for long enough.
    pub(super) fn look() {
        // SAFETY: the allocator is linked in; any thread may call it at any time.
        unsafe { mi_collect(false) }
    }
}
