//! An object as a [`ByteSource`]: read by range, ahead where reads follow each other, and all of
//! one version.
//!
//! A read takes its bytes from segments. A miss asks for a small one, or for as much as is wanted;
//! each miss near where the last segment ended doubles the next, up to [`SEGMENT_MAX`], and from
//! [`STREAM`] on the next ones are under way before they are wanted. So a header costs one or two
//! small requests, and data comes at the speed of several requests at a time.

use crate::StoreError;
use crate::backend::Backend;
use crate::cache::{Cache, Segment};
use crate::io::Io;
use bytes::Bytes;
use ir::{ByteSource, Fault, Result};
use object_store::path::Path as Key;
use object_store::{GetOptions, ObjectMeta};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// The smallest segment, and what their beginnings are multiples of.
const SEGMENT_MIN: u64 = 128 << 10;
/// The largest segment.
const SEGMENT_MAX: u64 = 4 << 20;
/// From this size on a reader is taken to read on.
const STREAM: u64 = 512 << 10;
/// Misses of some size this close to the last segment's end belong to one stream; those of a few
/// bytes only if they are closer than that segment was long.
const NEAR: u64 = 2 * SEGMENT_MAX;
/// Segments under way ahead of the reader.
const AHEAD: u64 = 3;

/// The version of an object that was opened.
#[derive(Clone, Debug)]
pub(crate) struct Version {
    size: u64,
    etag: Option<String>,
    modified: i64,
}

impl Version {
    pub(crate) fn of(meta: &ObjectMeta) -> Self {
        Self {
            size: meta.size,
            etag: meta.e_tag.clone(),
            modified: meta.last_modified.timestamp(),
        }
    }

    /// The condition to send. A weak tag never matches (RFC 9110, 13.1.1): it is compared here.
    fn if_match(&self) -> Option<&str> {
        let strong = |tag: &&str| !tag.starts_with("W/");
        self.etag.as_deref().filter(strong)
    }

    fn check(&self, meta: &ObjectMeta) -> Result<(), StoreError> {
        if self.size != meta.size {
            return Err(StoreError::Changed("its size is another"));
        }
        // A server that tells no tag at all has only the time.
        let same = match (&self.etag, &meta.e_tag) {
            (Some(a), Some(b)) => a == b,
            (None, None) => self.modified == meta.last_modified.timestamp(),
            _ => false,
        };
        if same {
            Ok(())
        } else {
            Err(StoreError::Changed("its version is another"))
        }
    }
}

/// An object that is open.
#[derive(Debug)]
pub(crate) struct Object {
    io: Arc<Io>,
    cache: Arc<Cache>,
    backend: Backend,
    key: Key,
    path: PathBuf,
    version: Version,
    id: u64,
    ahead: Mutex<Ahead>,
}

/// Where the reader is thought to go on.
#[derive(Debug)]
struct Ahead {
    /// The end of the last segment that was asked for.
    next: u64,
    window: u64,
}

static IDS: AtomicU64 = AtomicU64::new(0);

impl Object {
    pub(crate) fn new(
        io: Arc<Io>,
        cache: Arc<Cache>,
        backend: Backend,
        key: Key,
        path: &Path,
        version: Version,
    ) -> Self {
        Self {
            io,
            cache,
            backend,
            key,
            path: path.to_owned(),
            version,
            id: IDS.fetch_add(1, Ordering::Relaxed),
            ahead: Mutex::new(Ahead {
                next: u64::MAX,
                window: SEGMENT_MIN,
            }),
        }
    }

    /// The segment that holds `at`, of which `wanted` bytes will be read.
    fn segment(&self, at: u64, wanted: u64) -> Arc<Segment> {
        let largest = (self.cache.cap / 8).clamp(SEGMENT_MIN, SEGMENT_MAX);
        let mut ahead = self.ahead.lock().unwrap_or_else(PoisonError::into_inner);
        let found = self.cache.find(self.id, at);
        let segment = found.unwrap_or_else(|| {
            let start = at / SEGMENT_MIN * SEGMENT_MIN;
            // Several threads read one stream nearly in order. Who jumps to little reads headers.
            let gap = if wanted < SEGMENT_MIN {
                ahead.window
            } else {
                NEAR
            };
            let near = start.abs_diff(ahead.next) <= gap;
            ahead.window = if near {
                ahead.window.saturating_mul(2).min(largest)
            } else {
                SEGMENT_MIN
            };
            let wanted = wanted.min(largest).saturating_add(at - start);
            let len = ahead.window.max(wanted.next_multiple_of(SEGMENT_MIN));
            let end = self.version.size.min(start.saturating_add(len));
            ahead.next = if near { ahead.next.max(end) } else { end };
            self.start(start..end)
        });
        if ahead.window >= STREAM {
            let far = segment.end.saturating_add(ahead.window * AHEAD);
            while ahead.next < self.version.size && ahead.next < far && segment.end <= ahead.next {
                let start = ahead.next;
                ahead.window = ahead.window.saturating_mul(2).min(largest);
                ahead.next = self.version.size.min(start + ahead.window);
                if self.cache.find(self.id, start).is_none() {
                    self.start(start..ahead.next);
                }
            }
        }
        segment
    }

    /// Asks for a span; the answer comes by itself.
    fn start(&self, span: Range<u64>) -> Arc<Segment> {
        let segment = Arc::new(Segment::new(self.id, span.start, span.end));
        self.cache.add(Arc::clone(&segment));
        let spawner = self.io.spawner();
        let (backend, key, version) =
            (self.backend.clone(), self.key.clone(), self.version.clone());
        let (filled, cache) = (Arc::clone(&segment), Arc::clone(&self.cache));
        let tasks = spawner.clone();
        spawner.spawn(async move {
            let get = || get(&backend, &key, &version, span.clone());
            let answer = tasks.again(get).await;
            if answer.is_err() {
                cache.forget(&filled);
            }
            filled.fill(answer);
        });
        segment
    }
}

/// One request for a span, whose answer is exactly that span of that version.
async fn get(
    backend: &Backend,
    key: &Key,
    version: &Version,
    span: Range<u64>,
) -> Result<Bytes, StoreError> {
    let options = GetOptions::new()
        .with_range(Some(span.clone()))
        .with_if_match(version.if_match());
    let answer = backend.objects.get_opts(key, options).await;
    let answer = answer.map_err(|error| match StoreError::from(error) {
        StoreError::Missing => StoreError::Changed("it was removed"),
        // What ends the object before the span also changed it.
        StoreError::Cannot(text) if text.contains("range") || text.contains("Range") => {
            StoreError::Cannot(
                "it serves no ranges of a file; download the file and give its path".to_owned(),
            )
        }
        other => other,
    })?;
    version.check(&answer.meta)?;
    if answer.range != span {
        let (a, b) = (answer.range.start, answer.range.end);
        let text = format!("bytes {a} to {b} came, not those asked for");
        return Err(StoreError::Failed(text));
    }
    let bytes = answer.bytes().await?;
    if bytes.len() as u64 != span.end - span.start {
        let text = format!("the answer was cut off after {} bytes", bytes.len());
        return Err(StoreError::Failed(text));
    }
    Ok(bytes)
}

impl ByteSource for Object {
    fn len(&self) -> u64 {
        self.version.size
    }

    fn read_at(&self, offset: u64, mut out: &mut [u8]) -> Result<()> {
        let until = offset.saturating_add(out.len() as u64);
        if until > self.version.size {
            let end = self.version.size;
            return Err(
                ir::Error::from(Fault::Truncated { offset, until, end }).in_file(&self.path)
            );
        }
        let mut at = offset;
        while !out.is_empty() {
            let segment = self.segment(at, until - at);
            let bytes = segment.wait(&self.io).map_err(|e| e.about(&self.path))?;
            let skip = usize::try_from(at - segment.start).unwrap_or(usize::MAX);
            let here = bytes.get(skip..).unwrap_or_default();
            let n = here.len().min(out.len());
            if n == 0 {
                let error = StoreError::Failed("an answer was empty".to_owned());
                return Err(error.about(&self.path));
            }
            let (head, rest) = out.split_at_mut(n);
            head.copy_from_slice(&here[..n]);
            out = rest;
            at += n as u64;
        }
        Ok(())
    }

    fn path(&self) -> Option<&Path> {
        Some(&self.path)
    }
}

impl Drop for Object {
    fn drop(&mut self) {
        self.cache.forget_source(self.id);
    }
}
