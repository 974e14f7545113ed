//! The whole way, over a bucket in memory that counts, and fails as it is told to.

#![allow(clippy::cast_possible_truncation)] // sizes of tests

use crate::address::Scheme;
use crate::backend::Backend;
use crate::{Options, Store};
use async_trait::async_trait;
use futures_util::stream::BoxStream;
use ir::{Class, Kind, Remote};
use object_store::memory::InMemory;
use object_store::multipart::{MultipartStore, PartId};
use object_store::path::Path as Key;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartId, MultipartUpload,
    ObjectMeta, ObjectStore, PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

/// A bucket in memory that counts, and fails as it is told to.
#[derive(Debug, Default)]
struct Bucket {
    inner: InMemory,
    gets: Mutex<Vec<u64>>,
    open_uploads: AtomicUsize,
    /// Every so many requests for parts or ranges fails; 0 for none.
    fail_every: usize,
    requests: AtomicUsize,
}

impl Bucket {
    fn fails(&self) -> Result<()> {
        let n = self.requests.fetch_add(1, Ordering::Relaxed) + 1;
        if self.fail_every > 0 && n.is_multiple_of(self.fail_every) {
            let source = "the line was cut".into();
            let store = "test";
            return Err(Error::Generic { store, source });
        }
        Ok(())
    }
}

impl std::fmt::Display for Bucket {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("bucket")
    }
}

#[async_trait]
impl ObjectStore for Bucket {
    async fn put_opts(
        &self,
        key: &Key,
        data: PutPayload,
        options: PutOptions,
    ) -> Result<PutResult> {
        self.inner.put_opts(key, data, options).await
    }
    async fn put_multipart_opts(
        &self,
        key: &Key,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.inner.put_multipart_opts(key, options).await
    }
    async fn get_opts(&self, key: &Key, options: GetOptions) -> Result<GetResult> {
        let head = options.head;
        if !head {
            self.fails()?;
        }
        let found = self.inner.get_opts(key, options).await?;
        if !head {
            let len = found.range.end - found.range.start;
            self.gets.lock().unwrap().push(len);
        }
        Ok(found)
    }
    fn delete_stream(
        &self,
        keys: BoxStream<'static, Result<Key>>,
    ) -> BoxStream<'static, Result<Key>> {
        self.inner.delete_stream(keys)
    }
    fn list(&self, prefix: Option<&Key>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.inner.list(prefix)
    }
    async fn list_with_delimiter(&self, prefix: Option<&Key>) -> Result<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }
    async fn copy_opts(&self, from: &Key, to: &Key, options: CopyOptions) -> Result<()> {
        self.inner.copy_opts(from, to, options).await
    }
}

#[async_trait]
impl MultipartStore for Bucket {
    async fn create_multipart(&self, key: &Key) -> Result<MultipartId> {
        self.create_multipart_opts(key, PutMultipartOptions::default())
            .await
    }
    async fn create_multipart_opts(
        &self,
        key: &Key,
        options: PutMultipartOptions,
    ) -> Result<MultipartId> {
        self.open_uploads.fetch_add(1, Ordering::Relaxed);
        self.inner.create_multipart_opts(key, options).await
    }
    async fn put_part(
        &self,
        key: &Key,
        id: &MultipartId,
        index: usize,
        data: PutPayload,
    ) -> Result<PartId> {
        self.fails()?;
        self.inner.put_part(key, id, index, data).await
    }
    async fn complete_multipart(
        &self,
        key: &Key,
        id: &MultipartId,
        parts: Vec<PartId>,
    ) -> Result<PutResult> {
        self.open_uploads.fetch_sub(1, Ordering::Relaxed);
        self.inner.complete_multipart(key, id, parts).await
    }
    async fn abort_multipart(&self, key: &Key, id: &MultipartId) -> Result<()> {
        self.open_uploads.fetch_sub(1, Ordering::Relaxed);
        self.inner.abort_multipart(key, id).await
    }
}

fn store(bucket: &Arc<Bucket>, memory: u64) -> Store {
    let backend = Backend {
        objects: Arc::clone(bucket) as _,
        parts: Some(Arc::clone(bucket) as _),
        create_only: None,
        raw: None,
        marks: true,
        lists: true,
    };
    let options = Options {
        memory,
        ..Options::default()
    };
    Store::new(options).with_bucket(Scheme::S3, "b", backend)
}

fn bytes(len: usize) -> Vec<u8> {
    let mut x = 1u32;
    let next = |_| {
        x = x.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (x >> 24) as u8
    };
    (0..len).map(next).collect()
}

fn put(store: &Store, name: &str, data: &[u8]) {
    let upload = store.create(Path::new(name), true).unwrap();
    upload.write_at(0, data).unwrap();
    upload.sync().unwrap();
    upload.publish().unwrap();
}

fn read_all(store: &Store, name: &str) -> Vec<u8> {
    let region = store.open(Path::new(name)).unwrap();
    let mut out = vec![0; usize::try_from(region.len()).unwrap()];
    region.read_at(0, &mut out).unwrap();
    out
}

const MEMORY: u64 = 64 << 20;

#[test]
fn small_and_large_come_back() {
    let bucket = Arc::new(Bucket::default());
    let store = store(&bucket, MEMORY);
    for len in [0, 1, 70_000, (8 << 20) + 5, 20 << 20] {
        let data = bytes(len);
        put(&store, "s3://b/x/data.bin", &data);
        assert!(read_all(&store, "s3://b/x/data.bin") == data, "{len}");
    }
    assert_eq!(bucket.open_uploads.load(Ordering::Relaxed), 0);
}

const PIECE: usize = 777_777;

/// Pieces in a wild order from several threads, within little memory, over a bad line.
#[test]
fn writes_in_any_order() {
    let bucket = Arc::new(Bucket {
        fail_every: 3,
        ..Bucket::default()
    });
    let store = store(&bucket, 16 << 20);
    let data = bytes(50 << 20);
    let upload = store.create(Path::new("s3://b/m"), false).unwrap();
    // The last five bytes are a gap: they stay zero.
    let end = data.len() - 5;
    let mut pieces: Vec<(u64, u64)> = (0..end.div_ceil(PIECE))
        .map(|n| ((n * PIECE) as u64, PIECE.min(end - n * PIECE) as u64))
        .collect();
    upload.expect(data.len() as u64, &pieces).unwrap();
    pieces.sort_by_key(|(offset, _)| offset / 777_777 * 41 % 67);
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                while let Some(&(offset, len)) = pieces.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let at = offset as usize;
                    upload
                        .write_at(offset, &data[at..at + len as usize])
                        .unwrap();
                }
            });
        }
    });
    upload.sync().unwrap();
    assert_eq!(store.kind(Path::new("s3://b/m")).unwrap(), Kind::Missing);
    upload.publish().unwrap();
    let found = read_all(&store, "s3://b/m");
    assert!(found[..end] == data[..end] && found[end..] == [0; 5]);
    assert_eq!(bucket.open_uploads.load(Ordering::Relaxed), 0);
}

#[test]
fn a_dropped_upload_leaves_nothing() {
    let bucket = Arc::new(Bucket::default());
    let store = store(&bucket, MEMORY);
    let path = Path::new("s3://b/m");
    let upload = store.create(path, false).unwrap();
    upload.expect(30 << 20, &[(0, 30 << 20)]).unwrap();
    upload.write_at(0, &bytes(20 << 20)).unwrap();
    assert_eq!(bucket.open_uploads.load(Ordering::Relaxed), 1);
    // What was announced did not come.
    assert!(upload.sync().is_err());
    drop(upload);
    assert_eq!(bucket.open_uploads.load(Ordering::Relaxed), 0);
    assert_eq!(store.kind(path).unwrap(), Kind::Missing);
}

#[test]
fn a_line_that_never_works_is_an_error_of_the_machine() {
    let bucket = Arc::new(Bucket {
        fail_every: 1,
        ..Bucket::default()
    });
    let store = store(&bucket, MEMORY);
    put(&store, "s3://b/small", b"abc");
    let region = store.open(Path::new("s3://b/small")).unwrap();
    assert_eq!(region.bytes(0, 3).unwrap_err().class(), Class::Io);
    let upload = store.create(Path::new("s3://b/large"), false).unwrap();
    upload.write_at(0, &bytes(9 << 20)).unwrap();
    assert_eq!(upload.sync().unwrap_err().class(), Class::Io);
    drop(upload);
    assert_eq!(bucket.open_uploads.load(Ordering::Relaxed), 0);
}

#[test]
fn an_existing_object_is_refused_early_and_late() {
    let bucket = Arc::new(Bucket::default());
    let store = store(&bucket, MEMORY);
    for len in [10, 9 << 20] {
        let name = format!("s3://b/{len}");
        let path = Path::new(&name);
        let late = store.create(path, false).unwrap();
        late.write_at(0, &bytes(len)).unwrap();
        late.sync().unwrap();
        put(&store, &name, b"other");
        assert_eq!(late.publish().unwrap_err().class(), Class::Usage);
        let early = store.create(path, false).unwrap_err();
        assert_eq!(early.class(), Class::Usage);
        assert_eq!(read_all(&store, &name), b"other");
    }
    assert_eq!(bucket.open_uploads.load(Ordering::Relaxed), 0);
}

#[test]
fn an_object_replaced_while_it_is_read_is_noticed() {
    let bucket = Arc::new(Bucket::default());
    let store = store(&bucket, MEMORY);
    let old = bytes(3 << 20);
    put(&store, "s3://b/m", &old);
    let region = store.open(Path::new("s3://b/m")).unwrap();
    assert_eq!(region.bytes(0, 100).unwrap(), old[..100]);
    put(&store, "s3://b/m", &vec![7; 3 << 20]);
    let error = region.bytes(2 << 20, 100).unwrap_err();
    assert_eq!(error.class(), Class::Io);
    assert!(error.message().contains("changed"), "{error}");
}

/// A header costs little, a stream costs each byte once.
#[test]
fn reads_are_of_ranges() {
    let bucket = Arc::new(Bucket::default());
    let store = store(&bucket, MEMORY);
    let data = bytes(40 << 20);
    put(&store, "s3://b/m", &data);
    let region = store.open(Path::new("s3://b/m")).unwrap();
    region.bytes(0, 8).unwrap();
    region.bytes(8, 60_000).unwrap();
    region.bytes(region.len() - 22, 22).unwrap();
    assert_eq!(bucket.gets.lock().unwrap().iter().sum::<u64>(), 256 << 10);
    // The headers of an archive's entries, between which lie their bytes.
    for n in 1..9 {
        region.bytes(n << 22, 30).unwrap();
    }
    assert_eq!(
        bucket.gets.lock().unwrap().iter().sum::<u64>(),
        (256 << 10) + (8 << 17)
    );
    let region = store.open(Path::new("s3://b/m")).unwrap();
    bucket.gets.lock().unwrap().clear();
    let mut at = 0;
    while at < data.len() {
        let n = (1 << 20).min(data.len() - at);
        assert!(region.bytes(at as u64, n).unwrap() == data[at..at + n]);
        at += n;
    }
    let gets = bucket.gets.lock().unwrap();
    assert_eq!(gets.iter().sum::<u64>(), 40 << 20);
    assert!(gets.len() < 30, "{gets:?}");
    assert!(region.bytes(region.len() - 1, 2).is_err());
}

#[test]
fn folders_are_prefixes() {
    let bucket = Arc::new(Bucket::default());
    let store = store(&bucket, MEMORY);
    for name in ["r/config.json", "r/sub/a.bin", "r/m.bin", "rr", "r/a\\b"] {
        put(&store, &format!("s3://b/{name}"), b"x");
    }
    let kind = |name: &str| store.kind(Path::new(name)).unwrap();
    assert_eq!(kind("s3://b/r"), Kind::Folder);
    assert_eq!(kind("s3://b/r/"), Kind::Folder);
    assert_eq!(kind("s3://b/rr"), Kind::File);
    assert_eq!(kind("s3://b/rr/"), Kind::Missing);
    let stat = store.stat(Path::new("s3://b/rr")).unwrap();
    assert!(stat.len == 1 && stat.tag.is_some() && stat.modified > 0);
    assert!(ir::is_missing(
        &store.stat(Path::new("s3://b/no")).unwrap_err()
    ));
    let mut listing = store.list(Path::new("s3://b/r"), 10).unwrap();
    listing.names.sort_by(|a, b| a.0.cmp(&b.0));
    let file = |name: &str| (name.to_owned(), Some(Kind::File));
    let wanted = [
        file("config.json"),
        file("m.bin"),
        ("sub".to_owned(), Some(Kind::Folder)),
    ];
    assert_eq!(listing.names, wanted);
    assert_eq!(listing.unusable, 1);
    assert!(store.list(Path::new("s3://b/r"), 2).is_err());
    let walked = store.walk(Path::new("s3://b/r/"), 10).unwrap();
    let wanted =
        ["config.json", "m.bin", "sub/a.bin"].map(|n| (PathBuf::from(format!("s3://b/r/{n}")), 1));
    assert_eq!(walked.files, wanted);
    assert_eq!(walked.unusable, ["a\\b"]);
}

#[test]
fn a_second_name_replaces_nothing() {
    let bucket = Arc::new(Bucket::default());
    let store = store(&bucket, MEMORY);
    let [from, to] = ["s3://b/a", "s3://b/sub/b"].map(Path::new);
    put(&store, "s3://b/a", b"abc");
    store.copy_new(from, to).unwrap();
    assert_eq!(read_all(&store, "s3://b/sub/b"), b"abc");
    put(&store, "s3://b/a", b"other");
    let refused = store.copy_new(from, to).unwrap_err();
    assert!(matches!(
        refused.downcast_ref(),
        Some(ir::Fault::OutputExists)
    ));
    assert_eq!(read_all(&store, "s3://b/sub/b"), b"abc");
    let elsewhere = Path::new("gs://b/sub/b");
    assert!(store.copy_new(from, elsewhere).is_err());
    store.remove(to).unwrap();
    store.remove(to).unwrap();
    assert_eq!(store.kind(to).unwrap(), Kind::Missing);
    assert!(ir::is_missing(&store.copy_new(to, from).unwrap_err()));
}

/// Larger than a server copies at once: through this machine, and as conditional.
#[test]
fn large_objects_are_copied_by_hand() {
    let bucket = Arc::new(Bucket::default());
    let store = store(&bucket, MEMORY);
    let data = bytes(20 << 20);
    put(&store, "s3://b/a", &data);
    let [from, to] = ["s3://b/a", "s3://b/b"].map(Path::new);
    store.copy_through(from, to).unwrap();
    assert!(read_all(&store, "s3://b/b") == data);
    put(&store, "s3://b/a", b"other");
    assert!(store.copy_through(from, to).is_err());
    assert!(read_all(&store, "s3://b/b") == data);
    assert_eq!(bucket.open_uploads.load(Ordering::Relaxed), 0);
}

#[test]
fn a_folder_is_cleared_and_nothing_beside_it() {
    let bucket = Arc::new(Bucket::default());
    let store = store(&bucket, MEMORY);
    for name in ["r/.stage/a", "r/.stage/deep/b", "r/.stages", "r/m.bin"] {
        put(&store, &format!("s3://b/{name}"), b"x");
    }
    let folder = Path::new("s3://b/r/.stage");
    store.clear(folder, &[]).unwrap();
    store.clear(folder, &[]).unwrap();
    let left = store.walk(Path::new("s3://b/"), 10).unwrap().files;
    let wanted = ["r/.stages", "r/m.bin"].map(|n| (PathBuf::from(format!("s3://b/{n}")), 1));
    assert_eq!(left, wanted);
    assert!(
        store.clear(Path::new("s3://b/"), &[]).is_err(),
        "never a whole bucket"
    );
}

#[test]
fn the_user_can_stop_it() {
    let bucket = Arc::new(Bucket::default());
    let options = Options::default();
    let cancel = options.cancel.clone();
    let backend = store(&bucket, MEMORY);
    put(&backend, "s3://b/m", b"abc");
    let stopped = Store::new(options);
    cancel.cancel();
    // Nobody listens at this port: the answer would take long.
    let error = stopped.open(Path::new("http://127.0.0.1:9/m")).unwrap_err();
    assert_eq!(error.class(), Class::Interrupted);
}
