//! What is read from files again while the program runs: the last that was good, and why the last try failed.

use arc_swap::{ArcSwap, ArcSwapOption, Guard};
use std::sync::Arc;

/// A value that readers take without a lock, and that only a good one takes the place of.
#[derive(Debug)]
pub struct Reread<T, E> {
    value: ArcSwap<T>,
    failure: ArcSwapOption<E>,
}

impl<T, E> Reread<T, E> {
    /// What was read first.
    pub fn new(value: T) -> Self {
        Self { value: ArcSwap::from_pointee(value), failure: ArcSwapOption::empty() }
    }

    /// What was good last.
    pub fn load(&self) -> Guard<Arc<T>> {
        self.value.load()
    }

    /// Takes what was read now.
    ///
    /// # Errors
    /// That of `read`: the value stays, and [`Reread::failure`] tells the error until a good one comes.
    pub fn replace(&self, read: Result<T, E>) -> Result<(), Arc<E>> {
        match read {
            Ok(value) => {
                self.value.store(Arc::new(value));
                self.failure.store(None);
                Ok(())
            }
            Err(error) => {
                let error = Arc::new(error);
                self.failure.store(Some(Arc::clone(&error)));
                Err(error)
            }
        }
    }

    /// Why the last try failed, if it did.
    #[must_use]
    pub fn failure(&self) -> Option<Arc<E>> {
        self.failure.load_full()
    }
}
