//! Runs requests: how many at a time, how often again, and until the user stops it.

use crate::StoreError;
use futures_util::future::{Either, select};
use ir::Cancel;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::{Builder, Handle, Runtime};
use tokio::sync::Semaphore;

/// Threads that move bytes between sockets and buffers; all else waits for them.
const THREADS: usize = 2;
/// How often a waiting caller looks whether the user stopped it.
pub(crate) const LOOK: Duration = Duration::from_millis(100);
/// Tries of a request whose answer was cut off or wrong; each is made again by the client below
/// when the server says 5xx or does not answer.
const TRIES: u32 = 4;
const FIRST_WAIT: Duration = Duration::from_millis(100);

/// The threads, and the number of requests that may be under way.
#[derive(Debug)]
pub(crate) struct Io {
    runtime: Runtime,
    permits: Arc<Semaphore>,
    cancel: Cancel,
}

impl Io {
    pub(crate) fn new(requests: usize, cancel: Cancel) -> Result<Self, StoreError> {
        let runtime = Builder::new_multi_thread()
            .worker_threads(THREADS)
            .thread_name("store")
            .enable_all()
            .build()
            .map_err(|error| StoreError::Setup(error.to_string()))?;
        Ok(Self {
            runtime,
            permits: Arc::new(Semaphore::new(requests.max(1))),
            cancel,
        })
    }

    /// For tasks that go on by themselves. They hold this, never the `Io`: its threads must not
    /// be the ones that end it.
    pub(crate) fn spawner(&self) -> Spawner {
        Spawner {
            handle: self.runtime.handle().clone(),
            permits: Arc::clone(&self.permits),
        }
    }

    /// Waits for an answer, unless the user stops it first.
    pub(crate) fn wait<T>(
        &self,
        request: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        self.runtime.block_on(async {
            let mut request = pin!(request);
            loop {
                let pause = pin!(tokio::time::sleep(LOOK));
                match select(request.as_mut(), pause).await {
                    Either::Left((answer, _)) => return answer,
                    Either::Right(_) => self.check()?,
                }
            }
        })
    }

    /// Waits for an answer even if the user stops it: cleaning up.
    pub(crate) fn finish<T>(
        &self,
        request: impl Future<Output = T>,
        within: Duration,
    ) -> Option<T> {
        let limited = async { tokio::time::timeout(within, request).await.ok() };
        self.runtime.block_on(limited)
    }

    /// An error once the user asked to stop.
    pub(crate) fn check(&self) -> Result<(), StoreError> {
        self.cancel.check().map_err(|_| StoreError::Stopped)
    }
}

/// Starts tasks.
#[derive(Clone, Debug)]
pub(crate) struct Spawner {
    handle: Handle,
    permits: Arc<Semaphore>,
}

impl Spawner {
    /// Starts a task.
    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        drop(self.handle.spawn(task));
    }

    /// Makes a request, again where that may help, when its turn has come.
    pub(crate) async fn again<T, F: Future<Output = Result<T, StoreError>>>(
        &self,
        request: impl Fn() -> F,
    ) -> Result<T, StoreError> {
        let mut wait = FIRST_WAIT;
        let mut tries = 1;
        loop {
            let answer = {
                // The semaphore is never closed.
                let _turn = self.permits.acquire().await;
                request().await
            };
            match answer {
                Err(error) if !error.is_final() && tries < TRIES => {
                    tokio::time::sleep(wait).await;
                    wait *= 3;
                    tries += 1;
                }
                answer => return answer,
            }
        }
    }
}
