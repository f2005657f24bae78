//! The program: parse the command line, run one command, turn its outcome into an exit code.

use std::ffi::{c_int, c_long};
use std::process::ExitCode;

/// The system's allocator of a static binary is slow and keeps what threads free.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    free_at_once();
    vocabd::cli::main()
}

/// Has the allocator give back at once what is freed. By itself it waits for a second, and then for the next call that frees
/// something: what loading vocabularies took would stay for as long as nothing happens (14 MB with `cl100k_base`). A request takes no
/// longer by it that could be measured, of 2 KB or of 64 KB.
#[expect(unsafe_code, reason = "the options of the allocator are set in C")]
fn free_at_once() {
    unsafe extern "C" {
        fn mi_option_set(option: c_int, value: c_long);
    }
    /// `mi_option_purge_delay`: milliseconds.
    const PURGE_DELAY: c_int = 15;
    // SAFETY: the allocator is linked in, and stores a number; there is no other thread yet.
    unsafe { mi_option_set(PURGE_DELAY, 0) }
}
