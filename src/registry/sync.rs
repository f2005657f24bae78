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
    futures_util::{FutureExt, StreamExt, stream::FuturesUnordered},
    std::any::Any,
    std::panic::AssertUnwindSafe,
    std::pin::Pin,
    std::sync::{Arc, LazyLock, mpsc},
    std::task::{Context, Poll, Wake},
    std::thread::{self, Thread},
    tokio::runtime::{Builder, Handle, Runtime},
    tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel},
    tokio::sync::oneshot,
};

/// Where changes of a store over a network run, and what takes long of all others: a thread and a pool of their own. One move of an alias
/// is a dozen steps of reading, parsing and syncing; on the threads that answer requests each of them would stand before some.
#[cfg(not(shuttle))]
static CHANGES: LazyLock<Option<Runtime>> = LazyLock::new(|| {
    let mut changes = Builder::new_multi_thread();
    changes.worker_threads(1).thread_name("changes").enable_all().on_thread_start(behind_requests);
    // Where the system does not let it, they run as the others do.
    changes.build().ok()
});

/// Work for which nobody waits, but which requests are better off with: a thread of its own does it, one piece after the other, level with them.
/// It would take ten times as long behind them, where they keep all cores busy.
#[cfg(not(shuttle))]
static ASIDE: LazyLock<Option<mpsc::Sender<Work>>> = LazyLock::new(|| {
    let (sender, work) = mpsc::channel::<Work>();
    let do_all = move || {
        for work in work {
            // What fails has said so, and is missed by no one.
            let _ = std::panic::catch_unwind(AssertUnwindSafe(work));
        }
    };
    let thread = thread::Builder::new().name("tables".to_owned()).spawn(do_all);
    thread.is_ok().then_some(sender)
});

#[cfg(not(shuttle))]
type Work = Box<dyn FnOnce() + Send>;

/// To be called on a thread like those that answer requests: one that is started later is as far behind them as the one that starts it.
pub(super) fn start() {
    #[cfg(not(shuttle))]
    LazyLock::force(&ASIDE);
}

#[cfg(not(shuttle))]
type Change = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Where changes of a directory run: a thread without a runtime, on which each call of the store is made there and then. In a runtime each
/// would be handed to a pool and back, and that takes as long as the calls do.
#[cfg(not(shuttle))]
static DIRECTORIES: LazyLock<Option<UnboundedSender<Change>>> = LazyLock::new(|| {
    let (sender, changes) = unbounded_channel();
    let thread = thread::Builder::new().name("directories".to_owned()).spawn(move || carry_out(changes));
    thread.is_ok().then_some(sender)
});

#[cfg(not(shuttle))]
struct Unpark(Thread);

#[cfg(not(shuttle))]
impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Carries out what is sent; while one change waits for a lock, or for work elsewhere, others go on.
#[cfg(not(shuttle))]
fn carry_out(mut changes: UnboundedReceiver<Change>) {
    behind_requests();
    let waker = Arc::new(Unpark(thread::current())).into();
    let mut context = Context::from_waker(&waker);
    let mut open = FuturesUnordered::new();
    loop {
        while let Poll::Ready(Some(change)) = changes.poll_recv(&mut context) {
            open.push(change);
        }
        let mut go_on = || while let Poll::Ready(Some(())) = open.poll_next_unpin(&mut context) {};
        // A change that panics is caught with its change; this is the waking of who waits for one, and others go on.
        while std::panic::catch_unwind(AssertUnwindSafe(&mut go_on)).is_err() {}
        thread::park();
    }
}

/// A tenth of a core's time for this thread where a request wants the same core.
#[cfg(not(shuttle))]
fn behind_requests() {
    #[cfg(target_os = "linux")]
    let _ = rustix::process::setpriority_process(None, 10);
}

/// Runs a change to its end even if the caller is dropped half-way, as a request is when its client goes away; `in_directory` is whether
/// its store is one.
#[cfg(not(shuttle))]
pub(super) async fn to_end<T: Send + 'static>(
    in_directory: bool,
    change: impl Future<Output = T> + Send + 'static,
) -> T {
    let Some(directories) = DIRECTORIES.as_ref().filter(|_| in_directory) else {
        let change = match &*CHANGES {
            Some(changes) => changes.spawn(change),
            None => tokio::spawn(change),
        };
        return finished(change.await).await;
    };
    let (answer, outcome) = oneshot::channel();
    let change = AssertUnwindSafe(change).catch_unwind();
    // The thread lives as long as the process.
    let _ = directories.send(Box::pin(async move { drop(answer.send(change.await)) }));
    let outcome: Result<T, Box<dyn Any + Send>> = match outcome.await {
        Ok(outcome) => outcome,
        Err(_) => std::future::pending().await,
    };
    outcome.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

/// The pool for what takes long.
#[cfg(not(shuttle))]
fn pool() -> Handle {
    let changes = || CHANGES.as_ref().map(|changes| changes.handle().clone());
    // Without either there is no registry: it is opened in a runtime.
    Handle::try_current().ok().or_else(changes).unwrap_or_else(Handle::current)
}

/// Runs work that takes the processor for long, or blocks, off the async threads.
#[cfg(not(shuttle))]
pub(super) async fn off_thread<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    finished(pool().spawn_blocking(work).await).await
}

/// Has work done for which nobody waits.
#[cfg(not(shuttle))]
pub(super) fn aside(work: impl FnOnce() + Send + 'static) {
    // Without its thread it is done by the first request that needs it.
    let _ = ASIDE.as_ref().map(|aside| aside.send(Box::new(work)));
}

/// Does what would be asked for with [`aside`] otherwise, here and now.
#[cfg(not(shuttle))]
pub(super) fn ahead(work: impl FnOnce()) {
    work();
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
pub(super) async fn to_end<T: Send + 'static>(
    _: bool,
    change: impl Future<Output = T> + Send + 'static,
) -> T {
    shuttle::future::spawn(change).await.expect("nothing is aborted")
}

#[cfg(shuttle)]
pub(super) async fn off_thread<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    shuttle::future::yield_now().await;
    work()
}

#[cfg(shuttle)]
pub(super) fn aside(_: impl FnOnce() + Send + 'static) {}

#[cfg(shuttle)]
pub(super) fn ahead(_: impl FnOnce()) {}

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

#[cfg(all(test, not(shuttle), target_os = "linux"))]
mod tests {
    use super::*;

    fn niceness() -> i32 {
        rustix::process::getpriority_process(None).expect("that of this thread")
    }

    /// Changes give way to requests, also those that ask for work aside; that work does not.
    #[tokio::test]
    async fn work_aside_is_not_behind_requests_where_a_change_asks_for_it() {
        start();
        let usual = niceness();
        for in_directory in [true, false] {
            let (sender, told) = oneshot::channel();
            let change = async move {
                aside(move || {
                    let _ = sender.send(niceness());
                });
                (niceness(), off_thread(niceness).await)
            };
            let behind = (usual + 10).min(19);
            assert_eq!(to_end(in_directory, change).await, (behind, behind));
            assert_eq!(told.await, Ok(usual), "in a directory: {in_directory}");
        }
    }
}
