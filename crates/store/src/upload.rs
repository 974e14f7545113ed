//! A file on its way: parts leave as they become whole, and the name comes last.

use crate::StoreError;
use crate::backend::Backend;
use crate::io::{Io, LOOK};
use crate::parts::{Cut, Parts, Spool, Whole};
use bytes::Bytes;
use ir::Result;
use object_store::multipart::{MultipartStore, PartId};
use object_store::path::Path as Key;
use object_store::{
    Attribute, AttributeValue, Attributes, GetOptions, PutMode, PutMultipartOptions, PutOptions,
};
use std::hash::{BuildHasher, Hasher, RandomState};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// The key of metadata by which an upload knows its own object again.
const MARK: &str = "weightbridge-upload";
/// How long dropping an upload may take to clean up.
pub(crate) const ABORT_WITHIN: Duration = Duration::from_secs(60);

/// An upload. See [`ir::Upload`].
#[derive(Debug)]
pub(crate) struct Upload {
    io: Arc<Io>,
    backend: Backend,
    parts: PartsStore,
    key: Key,
    path: PathBuf,
    overwrite: bool,
    /// Bytes that open parts and parts on their way may take.
    memory: u64,
    mark: String,
    shared: Arc<Shared>,
    /// Counts this upload among those under way.
    live: Arc<()>,
}

/// `MultipartStore` cannot be shown.
#[derive(Clone)]
struct PartsStore(Arc<dyn MultipartStore>);

impl std::fmt::Debug for PartsStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("PartsStore")
    }
}

/// What writers and the tasks that send share.
#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    len: u64,
    stage: Stage,
    /// The id of the multipart upload, once there is one.
    id: Option<String>,
    sent: Vec<Option<PartId>>,
    /// Bytes on their way.
    in_flight: u64,
    failed: Option<StoreError>,
    /// An object that fits one part is put at once.
    single: Option<Bytes>,
    published: bool,
}

#[derive(Debug)]
enum Stage {
    /// Nothing was announced: everything waits in the file.
    Spooling(Spool),
    /// Parts leave when they are whole.
    Streaming(Parts),
}

impl Default for Stage {
    fn default() -> Self {
        Self::Spooling(Spool::default())
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Upload {
    pub(crate) fn new(
        io: Arc<Io>,
        backend: Backend,
        parts: Arc<dyn MultipartStore>,
        key: Key,
        path: &Path,
        overwrite: bool,
        memory: u64,
    ) -> Self {
        let random = || RandomState::new().build_hasher().finish();
        Self {
            io,
            backend,
            parts: PartsStore(parts),
            key,
            path: path.to_owned(),
            overwrite,
            memory,
            mark: format!("{:016x}{:016x}", random(), random()),
            shared: Arc::default(),
            live: Arc::default(),
        }
    }

    /// The same upload, counted among those that hold `live`.
    pub(crate) fn counted(mut self, live: Arc<()>) -> Self {
        self.live = live;
        self
    }

    fn attributes(&self) -> Attributes {
        let mut attributes = Attributes::new();
        if self.backend.marks {
            let value = AttributeValue::from(self.mark.clone());
            attributes.insert(Attribute::Metadata(MARK.into()), value);
        }
        attributes
    }

    /// The id of the multipart upload, started now if there is none.
    fn id(&self) -> Result<String, StoreError> {
        // Writers that come meanwhile wait for it: there must be one only.
        let mut state = self.shared.lock();
        if let Some(id) = &state.id {
            return Ok(id.clone());
        }
        let attributes = self.attributes();
        let options = PutMultipartOptions {
            attributes,
            ..PutMultipartOptions::default()
        };
        // Not made again by us: a try that was answered too late would leave an upload behind.
        let start = self.parts.0.create_multipart_opts(&self.key, options);
        let id = self
            .io
            .wait(async { start.await.map_err(StoreError::from) })?;
        if let (Some(create_only), false) = (&self.backend.create_only, self.overwrite) {
            create_only.add(&id);
        }
        state.id = Some(id.clone());
        Ok(id)
    }

    /// Waits until so many more bytes may be on their way.
    fn wait_for_room<'a>(
        &'a self,
        mut state: MutexGuard<'a, State>,
        more: u64,
    ) -> Result<MutexGuard<'a, State>, StoreError> {
        loop {
            if let Some(error) = &state.failed {
                return Err(error.clone());
            }
            if state.in_flight == 0 || state.in_flight.saturating_add(more) <= self.memory {
                return Ok(state);
            }
            self.io.check()?;
            let waited = self.shared.changed.wait_timeout(state, LOOK);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Sends a part; the answer comes by itself.
    fn send(&self, index: usize, bytes: Vec<u8>) -> Result<(), StoreError> {
        let id = self.id()?;
        let len = bytes.len() as u64;
        self.wait_for_room(self.shared.lock(), len)?.in_flight += len;
        let bytes = Bytes::from(bytes);
        let (parts, key) = (self.parts.clone(), self.key.clone());
        let shared = Arc::clone(&self.shared);
        let spawner = self.io.spawner();
        let tasks = spawner.clone();
        spawner.spawn(async move {
            let put = || async {
                let put = parts.0.put_part(&key, &id, index, bytes.clone().into());
                put.await.map_err(StoreError::from)
            };
            let answer = tasks.again(put).await;
            drop(bytes);
            let mut state = shared.lock();
            state.in_flight -= len;
            match answer {
                Ok(part) => {
                    if let Some(slot) = state.sent.get_mut(index) {
                        *slot = Some(part);
                    }
                }
                Err(error) => {
                    state.failed.get_or_insert(error);
                }
            }
            drop(state);
            shared.changed.notify_all();
        });
        Ok(())
    }

    /// Writes what of `bytes` belongs to the part at `offset`, and sends it if it is whole.
    fn write_part(&self, offset: u64, bytes: &[u8]) -> Result<usize, StoreError> {
        let mut state = self.shared.lock();
        if let Some(error) = &state.failed {
            return Err(error.clone());
        }
        let in_flight = state.in_flight;
        let parts = match &mut state.stage {
            Stage::Streaming(parts) => parts,
            Stage::Spooling(spool) => {
                spool.write(offset, bytes)?;
                state.len = state.len.max(offset.saturating_add(bytes.len() as u64));
                return Ok(bytes.len());
            }
        };
        let (index, part) = (offset / parts.cut.part, parts.cut.part);
        let full = |held: u64| held.saturating_add(in_flight + part) > self.memory;
        if !parts.is_open(usize::try_from(index).unwrap_or(usize::MAX)) {
            // What is on its way will be gone soon; what is open may stay so to the end.
            while full(parts.held()) && parts.held() >= self.memory / 2 && parts.evict()? {}
        }
        let (n, whole) = parts.write(offset, bytes)?;
        let Some((index, whole)) = whole else {
            return Ok(n);
        };
        let bytes = match whole {
            Whole::Memory(bytes) => bytes,
            Whole::Spooled => {
                let (start, len) = parts.cut.span(index);
                parts.spool.read(start, len)?
            }
        };
        if parts.cut.count() == 1 {
            state.single = Some(bytes.into());
            return Ok(n);
        }
        drop(state);
        self.send(index, bytes)?;
        Ok(n)
    }

    /// Sends what is not sent yet, and waits until all has arrived.
    fn arrive(&self) -> Result<(), StoreError> {
        let mut state = self.shared.lock();
        let len = state.len;
        let cut = Cut::of(len);
        match &mut state.stage {
            Stage::Streaming(parts) if !parts.all_whole() => {
                let text = "the output ended before its last piece".to_owned();
                return Err(StoreError::OffPlan(text));
            }
            Stage::Streaming(_) => {}
            Stage::Spooling(_) => state.sent = vec![None; cut.count()],
        }
        drop(state);
        if cut.count() < 2 {
            let mut state = self.shared.lock();
            if state.single.is_none() {
                let bytes = Self::part(&mut state.stage, cut, 0)?;
                state.single = Some(bytes.into());
            }
            return Ok(());
        }
        let state = self.wait_for_room(self.shared.lock(), u64::MAX)?;
        let left: Vec<usize> = (0..cut.count())
            .filter(|index| state.sent.get(*index).is_none_or(Option::is_none))
            .collect();
        drop(state);
        for index in left {
            let bytes = Self::part(&mut self.shared.lock().stage, cut, index)?;
            self.send(index, bytes)?;
        }
        drop(self.wait_for_room(self.shared.lock(), u64::MAX)?);
        Ok(())
    }

    /// The bytes of a part that never passed through memory: in the file, or zeros.
    fn part(stage: &mut Stage, cut: Cut, index: usize) -> Result<Vec<u8>, StoreError> {
        let (start, len) = cut.span(index);
        match stage {
            Stage::Spooling(spool) if len > 0 => spool.read(start, len),
            _ => Ok(vec![0; len]),
        }
    }

    /// Gives the object its name.
    fn name(&self) -> Result<(), StoreError> {
        let (single, id, sent) = {
            let mut state = self.shared.lock();
            (state.single.take(), state.id.clone(), state.sent.clone())
        };
        // Where the condition cannot be part of the request it is looked at just before it.
        let unconditional = id.is_some() && self.backend.create_only.is_none();
        if unconditional && !self.overwrite && self.look()?.is_some() {
            return Err(StoreError::Exists);
        }
        let answer = match (single, &id) {
            (Some(bytes), _) => self.io.wait(self.put(bytes)),
            (None, Some(id)) => {
                let sent: Vec<PartId> = sent.into_iter().flatten().collect();
                let end = self.parts.0.complete_multipart(&self.key, id, sent);
                self.io
                    .wait(async { end.await.map(drop).map_err(StoreError::from) })
            }
            (None, None) => Err(StoreError::OffPlan("nothing was written".to_owned())),
        };
        match answer {
            Ok(()) => Ok(()),
            Err(StoreError::Stopped) => Err(StoreError::Stopped),
            // An answer that was lost, and the request made again, looks like a refusal.
            Err(_)
                if self
                    .look()
                    .is_ok_and(|mark| mark.as_ref() == Some(&self.mark)) =>
            {
                Ok(())
            }
            Err(StoreError::Changed(_)) if !self.overwrite => Err(StoreError::Exists),
            Err(error) => Err(error),
        }
    }

    async fn put(&self, bytes: Bytes) -> Result<(), StoreError> {
        let mode = if self.overwrite {
            PutMode::Overwrite
        } else {
            PutMode::Create
        };
        let options = PutOptions {
            mode,
            attributes: self.attributes(),
            ..PutOptions::default()
        };
        let put = || async {
            let put =
                (self.backend.objects).put_opts(&self.key, bytes.clone().into(), options.clone());
            put.await.map(drop).map_err(StoreError::from)
        };
        self.io.spawner().again(put).await
    }

    /// The mark of the object that has the name now; empty where it has none.
    fn look(&self) -> Result<Option<String>, StoreError> {
        let head = GetOptions::new().with_head(true);
        let answer = self.backend.objects.get_opts(&self.key, head);
        let answer = self
            .io
            .wait(async { answer.await.map_err(StoreError::from) });
        match answer {
            Err(StoreError::Missing) => Ok(None),
            Err(error) => Err(error),
            Ok(found) => {
                let mark = found.attributes.get(&Attribute::Metadata(MARK.into()));
                Ok(Some(mark.map_or_else(String::new, |mark| mark.to_string())))
            }
        }
    }

    fn about(&self, error: StoreError) -> ir::Error {
        error.about(&self.path)
    }
}

impl ir::Upload for Upload {
    fn path(&self) -> &Path {
        &self.path
    }

    fn len(&self) -> u64 {
        self.shared.lock().len
    }

    fn set_len(&self, len: u64) -> Result<()> {
        self.shared.lock().len = len;
        Ok(())
    }

    fn expect(&self, len: u64, spans: &[(u64, u64)]) -> Result<()> {
        let mut state = self.shared.lock();
        let cut = Cut::of(len);
        let parts = Parts::new(cut, spans, Spool::default()).map_err(|e| self.about(e))?;
        state.sent = vec![None; cut.count()];
        state.stage = Stage::Streaming(parts);
        state.len = len;
        Ok(())
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> Result<()> {
        let mut done = 0;
        while let Some(rest) = bytes.get(done..).filter(|rest| !rest.is_empty()) {
            let at = offset.saturating_add(done as u64);
            done += self.write_part(at, rest).map_err(|e| self.about(e))?;
        }
        Ok(())
    }

    fn sync(&self) -> Result<()> {
        self.arrive().map_err(|e| self.about(e))
    }

    fn publish(self: Box<Self>) -> Result<()> {
        self.name().map_err(|e| self.about(e))?;
        self.shared.lock().published = true;
        Ok(())
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        let (id, published) = {
            let mut state = self.shared.lock();
            // Parts still on their way need not be tried again.
            state.failed.get_or_insert(StoreError::Stopped);
            (state.id.take(), state.published)
        };
        let Some(id) = id else {
            return;
        };
        if let Some(create_only) = &self.backend.create_only {
            create_only.remove(&id);
        }
        if published {
            return;
        }
        // A part that arrives after the end of its upload would stay: they are waited for first.
        let settled = async {
            while self.shared.lock().in_flight > 0 {
                tokio::time::sleep(LOOK).await;
            }
        };
        self.io.finish(settled, ABORT_WITHIN);
        let spawner = self.io.spawner();
        let abort = spawner.again(|| async {
            let abort = self.parts.0.abort_multipart(&self.key, &id);
            abort.await.map_err(StoreError::from)
        });
        // If the storage does not answer even now, its rules for unfinished uploads clean up.
        let _ = self.io.finish(abort, ABORT_WITHIN);
    }
}
