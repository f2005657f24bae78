//! What the registry shares between threads, and how it starts work beside them: in one place, so that its model (`model.rs`) can put
//! in its stead what tries every order.

use std::future::Future;

#[cfg(shuttle)]
pub(super) use modelled::{ArcSwap, ArcSwapOption, Mutex};
#[cfg(not(shuttle))]
pub(super) use {
    arc_swap::{ArcSwap, ArcSwapOption},
    std::sync::Mutex,
};
#[cfg(not(shuttle))]
use {
    std::sync::LazyLock,
    tokio::runtime::{Builder, Runtime},
};

/// Where changes run: a thread and a pool of their own. One move of an alias is a dozen steps of reading, parsing and syncing; on the
/// threads that answer requests each of them would stand before some.
#[cfg(not(shuttle))]
static CHANGES: LazyLock<Option<Runtime>> = LazyLock::new(|| {
    let mut changes = Builder::new_multi_thread();
    changes.worker_threads(1).thread_name("changes").enable_all();
    // Where the system does not let it, they run as the others do.
    #[cfg(target_os = "linux")]
    changes.on_thread_start(|| {
        let _ = rustix::process::setpriority_process(None, NICENESS);
    });
    changes.build().ok()
});

/// A third of a core's time where a request wants the same core.
#[cfg(all(target_os = "linux", not(shuttle)))]
const NICENESS: i32 = 5;

/// Runs a change to its end even if the caller is dropped half-way, as a request is when its client goes away.
#[cfg(not(shuttle))]
pub(super) async fn to_end<T: Send + 'static>(change: impl Future<Output = T> + Send + 'static) -> T {
    let change = match &*CHANGES {
        Some(changes) => changes.spawn(change),
        None => tokio::spawn(change),
    };
    finished(change.await).await
}

/// Runs work that takes the processor for long, or blocks, off the async threads.
#[cfg(not(shuttle))]
pub(super) async fn off_thread<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    finished(tokio::task::spawn_blocking(work).await).await
}

/// Runs work for which nobody waits.
#[cfg(not(shuttle))]
pub(super) fn aside(work: impl FnOnce() + Send + 'static) {
    drop(tokio::task::spawn_blocking(work));
}

#[cfg(not(shuttle))]
async fn finished<T>(outcome: Result<T, tokio::task::JoinError>) -> T {
    match outcome {
        Ok(value) => value,
        Err(stopped) => match stopped.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            // Nothing here is ever aborted, so the runtime is shutting down and drops the caller too.
            Err(_) => std::future::pending().await,
        },
    }
}

#[cfg(shuttle)]
pub(super) async fn to_end<T: Send + 'static>(change: impl Future<Output = T> + Send + 'static) -> T {
    shuttle::future::spawn(change).await.expect("nothing is aborted")
}

#[cfg(shuttle)]
pub(super) async fn off_thread<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    shuttle::future::yield_now().await;
    work()
}

#[cfg(shuttle)]
pub(super) fn aside(_: impl FnOnce() + Send + 'static) {}

/// The same shapes over shuttle's locks, each use of which is a place where another thread may go on.
#[cfg(shuttle)]
mod modelled {
    use std::sync::Arc;

    pub(in super::super) use shuttle::sync::Mutex;

    #[derive(Debug)]
    struct Place<T>(Mutex<T>);

    impl<T: Clone> Place<T> {
        fn get(&self) -> T {
            self.0.lock().expect("not poisoned").clone()
        }

        fn set(&self, value: T) {
            let before = std::mem::replace(&mut *self.0.lock().expect("not poisoned"), value);
            drop(before);
        }
    }

    #[derive(Debug)]
    pub(in super::super) struct ArcSwap<T>(Place<Arc<T>>);

    impl<T: Default> Default for ArcSwap<T> {
        fn default() -> Self {
            Self(Place(Mutex::new(Arc::default())))
        }
    }

    impl<T> ArcSwap<T> {
        pub(in super::super) fn load(&self) -> Arc<T> {
            self.0.get()
        }

        pub(in super::super) fn load_full(&self) -> Arc<T> {
            self.0.get()
        }

        pub(in super::super) fn store(&self, value: Arc<T>) {
            self.0.set(value);
        }
    }

    #[derive(Debug)]
    pub(in super::super) struct ArcSwapOption<T>(Place<Option<Arc<T>>>);

    impl<T> ArcSwapOption<T> {
        pub(in super::super) fn new(value: Option<Arc<T>>) -> Self {
            Self(Place(Mutex::new(value)))
        }

        pub(in super::super) fn load(&self) -> Option<Arc<T>> {
            self.0.get()
        }

        pub(in super::super) fn load_full(&self) -> Option<Arc<T>> {
            self.0.get()
        }

        pub(in super::super) fn store(&self, value: Option<Arc<T>>) {
            self.0.set(value);
        }
    }
}
