//! What the mover's threads share: a bounded queue of jobs, a pool of buffers, and the first
//! failure, which stops them all.

use std::{
    collections::VecDeque,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio_util::sync::CancellationToken;

use super::error::MoverError;

/// Locks also where another thread panicked: that panic ends the run through [`Stop`] anyway.
pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The first failure of a run. All waits end once there is one.
#[derive(Debug, Clone)]
pub struct Stop {
    caller: CancellationToken,
    token: CancellationToken,
    first: Arc<Mutex<Option<MoverError>>>,
}

impl Stop {
    /// Stops also when `cancel` is cancelled.
    pub fn new(cancel: &CancellationToken) -> Self {
        Self { caller: cancel.clone(), token: cancel.child_token(), first: Arc::default() }
    }

    /// Notes a failure; later ones are consequences of the first. A part that ends because another
    /// did may say so before that one has told why: then the cause is what comes after.
    pub fn fail(&self, error: MoverError) {
        let mut first = lock(&self.first);
        if matches!(*first, None | Some(MoverError::Cancelled)) && !self.caller.is_cancelled() {
            *first = Some(error);
        }
        drop(first);
        self.token.cancel();
    }

    /// Whether the run is over.
    pub fn is_set(&self) -> bool {
        self.token.is_cancelled()
    }

    /// An error if the run is over; for loops.
    pub fn check(&self) -> Result<(), MoverError> {
        if self.is_set() { Err(MoverError::Cancelled) } else { Ok(()) }
    }

    /// Waits until the run is over.
    pub async fn wait(&self) {
        self.token.cancelled().await;
    }

    /// Why the run is over.
    pub fn reason(&self) -> MoverError {
        lock(&self.first).take().unwrap_or(MoverError::Cancelled)
    }
}

/// Stops the run when the caller lets go of it.
#[derive(Debug)]
pub struct StopOnDrop(pub Stop);

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        self.0.fail(MoverError::Cancelled);
    }
}

/// How often blocked threads look whether the run is over.
const WAKE: Duration = Duration::from_millis(100);

/// A bounded queue between threads.
#[derive(Debug)]
pub struct Queue<T> {
    inner: Mutex<QueueInner<T>>,
    changed: Condvar,
    capacity: usize,
}

#[derive(Debug)]
struct QueueInner<T> {
    items: VecDeque<T>,
    closed: bool,
}

/// What taking from a queue gave.
#[derive(Debug)]
pub enum Taken<T> {
    /// An item.
    Item(T),
    /// Nothing for now.
    Empty,
    /// Nothing any more.
    Closed,
}

impl<T> Queue<T> {
    /// A queue of at most `capacity` items.
    pub fn new(capacity: usize) -> Self {
        Self {
            inner: Mutex::new(QueueInner { items: VecDeque::with_capacity(capacity), closed: false }),
            changed: Condvar::new(),
            capacity,
        }
    }

    /// Adds an item, waiting for room.
    pub fn push(&self, item: T, stop: &Stop) -> Result<(), MoverError> {
        let mut inner = lock(&self.inner);
        while inner.items.len() >= self.capacity {
            stop.check()?;
            inner = self.wait(inner);
        }
        inner.items.push_back(item);
        drop(inner);
        self.changed.notify_one();
        Ok(())
    }

    /// Adds an item without waiting, where something else bounds how many there are.
    pub fn push_now(&self, item: T) {
        lock(&self.inner).items.push_back(item);
        self.changed.notify_one();
    }

    /// Takes the oldest item, waiting a little for one.
    pub fn pop(&self) -> Taken<T> {
        let mut inner = lock(&self.inner);
        if inner.items.is_empty() && !inner.closed {
            inner = self.wait(inner);
        }
        let was_full = inner.items.len() >= self.capacity;
        match inner.items.pop_front() {
            Some(item) => {
                drop(inner);
                if was_full {
                    self.changed.notify_all();
                }
                Taken::Item(item)
            }
            None if inner.closed => Taken::Closed,
            None => Taken::Empty,
        }
    }

    /// Whether [`Queue::close`] was called, so that those who take may have ended.
    pub fn is_closed(&self) -> bool {
        lock(&self.inner).closed
    }

    /// No more items will come.
    pub fn close(&self) {
        lock(&self.inner).closed = true;
        self.changed.notify_all();
    }

    /// Wakes all that wait, so that they look around.
    pub fn wake(&self) {
        self.changed.notify_all();
    }

    fn wait<'a>(&self, inner: MutexGuard<'a, QueueInner<T>>) -> MutexGuard<'a, QueueInner<T>> {
        self.changed.wait_timeout(inner, WAKE).unwrap_or_else(PoisonError::into_inner).0
    }
}

/// A fixed number of buffers that are used again and again: fresh memory for each block and
/// pack would cost more in page faults than the work on it.
#[derive(Debug, Clone)]
pub struct Pool(Arc<PoolInner>);

#[derive(Debug)]
struct PoolInner {
    free: Mutex<PoolState>,
    returned: Condvar,
    size: usize,
}

#[derive(Debug)]
struct PoolState {
    buffers: Vec<Vec<u8>>,
    unmade: usize,
}

impl Pool {
    /// `count` buffers of `size` bytes each, made when first needed.
    pub fn new(count: usize, size: usize) -> Self {
        Self(Arc::new(PoolInner {
            free: Mutex::new(PoolState { buffers: Vec::with_capacity(count), unmade: count }),
            returned: Condvar::new(),
            size,
        }))
    }

    /// Takes an empty buffer, waiting for one.
    pub fn take(&self, stop: &Stop) -> Result<Buffer, MoverError> {
        let mut free = lock(&self.0.free);
        loop {
            stop.check()?;
            let bytes = match free.buffers.pop() {
                Some(bytes) => Some(bytes),
                None if free.unmade > 0 => {
                    free.unmade -= 1;
                    Some(Vec::with_capacity(self.0.size))
                }
                None => None,
            };
            if let Some(bytes) = bytes {
                return Ok(Buffer { bytes, pool: self.0.clone() });
            }
            free = self.0.returned.wait_timeout(free, WAKE).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

/// A buffer on loan; it goes back when dropped.
#[derive(Debug)]
pub struct Buffer {
    /// Its bytes.
    pub bytes: Vec<u8>,
    pool: Arc<PoolInner>,
}

impl AsRef<[u8]> for Buffer {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let mut bytes = std::mem::take(&mut self.bytes);
        bytes.clear();
        lock(&self.pool.free).buffers.push(bytes);
        self.pool.returned.notify_one();
    }
}

/// Runs `body` on a named thread; a failure or panic of it stops the run.
pub fn spawn(
    name: &str,
    stop: &Stop,
    body: impl FnOnce() -> Result<(), MoverError> + Send + 'static,
) -> Result<std::thread::JoinHandle<()>, MoverError> {
    let stop_here = stop.clone();
    let guarded = move || {
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(body));
        match result {
            Ok(Ok(())) => {}
            Ok(Err(error)) => stop_here.fail(error),
            Err(panic) => {
                let detail = panic
                    .downcast_ref::<&str>()
                    .map(ToString::to_string)
                    .or_else(|| panic.downcast_ref::<String>().cloned())
                    .unwrap_or_default();
                stop_here.fail(MoverError::Worker { detail });
            }
        }
    };
    std::thread::Builder::new()
        .name(name.to_owned())
        .spawn(guarded)
        .map_err(|error| MoverError::Worker { detail: format!("no thread for it: {error}") })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cause() -> MoverError {
        MoverError::Worker { detail: "the cause".to_owned() }
    }

    #[test]
    fn a_cause_that_is_told_after_its_consequence_is_the_reason() {
        let stop = Stop::new(&CancellationToken::new());
        stop.fail(MoverError::Cancelled);
        stop.fail(cause());
        stop.fail(MoverError::Worker { detail: "another".to_owned() });
        let reason = stop.reason().to_string();
        assert!(reason.contains("the cause"), "{reason}");
    }

    #[test]
    fn what_fails_after_the_caller_cancelled_is_no_reason() {
        let cancel = CancellationToken::new();
        let stop = Stop::new(&cancel);
        cancel.cancel();
        stop.fail(cause());
        assert!(matches!(stop.reason(), MoverError::Cancelled));
    }
}
