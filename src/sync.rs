//! Locks, atomics and channels of the hand-overs between threads: the system's own, but in models
//! (`server::models`) those of a scheduler that decides which thread takes its next step.

#[cfg(all(test, feature = "models"))]
pub(crate) use self::scheduled::*;
#[cfg(not(all(test, feature = "models")))]
pub(crate) use self::system::*;

#[cfg(not(all(test, feature = "models")))]
mod system {
    pub(crate) use crossbeam_channel as channel;
    pub(crate) use std::sync::{Condvar, Mutex, MutexGuard, RwLock, atomic};

    pub(crate) use std::thread::sleep as pause;

    /// Waits for as long as `wait` does.
    #[cfg(all(target_os = "linux", not(feature = "portable")))]
    #[inline]
    pub(crate) fn wait<T, E>(
        timeout: T,
        _zero: T,
        wait: impl FnOnce(T) -> Result<usize, E>,
    ) -> Result<usize, E> {
        wait(timeout)
    }
}

#[cfg(all(test, feature = "models"))]
mod scheduled {
    pub(crate) use shuttle::sync::{Condvar, Mutex, MutexGuard, RwLock, atomic};

    /// Yields to other threads.
    pub(crate) fn pause(_: std::time::Duration) {
        shuttle::thread::yield_now();
    }

    /// Yields to other threads until there is a result. No time passes in a model: a wait for a
    /// clock never ends.
    pub(crate) fn wait<T: Copy + PartialEq, E>(
        timeout: T,
        zero: T,
        mut wait: impl FnMut(T) -> Result<usize, E>,
    ) -> Result<usize, E> {
        loop {
            match wait(zero) {
                Ok(0) if timeout != zero => shuttle::thread::yield_now(),
                outcome => return outcome,
            }
        }
    }

    pub(crate) mod channel {
        use std::collections::VecDeque;
        use std::sync::Arc;

        use super::Mutex;

        /// A channel as those of `crossbeam_channel`, each step of which is one of the scheduler.
        #[derive(Debug)]
        pub(crate) struct Sender<T>(Arc<Mutex<VecDeque<T>>>);

        #[derive(Debug)]
        pub(crate) struct Receiver<T>(Arc<Mutex<VecDeque<T>>>);

        pub(crate) fn unbounded<T>() -> (Sender<T>, Receiver<T>) {
            let queue = Arc::new(Mutex::new(VecDeque::new()));
            (Sender(Arc::clone(&queue)), Receiver(queue))
        }

        impl<T> Sender<T> {
            pub(crate) fn send(&self, item: T) -> Result<(), T> {
                self.0.lock().expect("no panic").push_back(item);
                Ok(())
            }
        }

        impl<T> Receiver<T> {
            pub(crate) fn try_recv(&self) -> Result<T, ()> {
                self.0.lock().expect("no panic").pop_front().ok_or(())
            }

            pub(crate) fn is_empty(&self) -> bool {
                self.0.lock().expect("no panic").is_empty()
            }
        }
    }
}
