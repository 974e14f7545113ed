//! What is done to objects that are there: a second name, and removal.

use crate::address::Address;
use crate::backend::Backend;
use crate::io::Io;
use crate::remote::Store;
use crate::{StoreError, safe_relative};
use futures_util::TryStreamExt;
use ir::{Region, Remote, Result};
use object_store::path::Path as Key;
use object_store::{CopyMode, CopyOptions, ObjectStoreExt};
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

/// Sizes of objects that the storage copies by itself: S3 at most 5 GiB in one request, and
/// conditionally only as parts, of which it has none of no bytes; small ones are put as fast.
const COPIED: RangeInclusive<u64> = (8 << 20) + 1..=5 << 30;
/// Bytes of any other in hand.
const CHUNK: u64 = 1 << 20;

impl Store {
    /// Copies inside the storage where it can, through this machine otherwise.
    pub(crate) fn second_name(&self, from: &Path, to: &Path) -> Result<()> {
        let look = || {
            let (source, target) = (Address::parse(from)?, Address::parse(to)?);
            if (source.scheme, &source.bucket) != (target.scheme, &target.bucket) {
                let what = "a second name is in the same bucket".to_owned();
                return Err(StoreError::Cannot(what));
            }
            Ok((self.head(&source)?.size, source, target))
        };
        let (size, source, target) = look().map_err(|error| error.about(from))?;
        if !COPIED.contains(&size) {
            return self.copy_through(from, to);
        }
        let copied = self.copy_inside(&source.key, &target);
        copied.map_err(|error| error.about(to))
    }

    fn copy_inside(&self, from: &Key, to: &Address) -> std::result::Result<(), StoreError> {
        let backend = self.backend(to)?;
        let io = self.io()?;
        let options = CopyOptions::new().with_mode(CopyMode::Create);
        io.wait(io.spawner().again(|| async {
            let copy = backend.objects.copy_opts(from, &to.key, options.clone());
            copy.await.map_err(StoreError::from)
        }))
        .map_err(|error| match error {
            StoreError::Changed(_) => StoreError::Exists,
            other => other,
        })
    }

    /// Copies through this machine. The end of the upload has the condition.
    pub(crate) fn copy_through(&self, from: &Path, to: &Path) -> Result<()> {
        let source: Region = self.open(from)?;
        let upload = self.create(to, false)?;
        upload.expect(source.len(), &[(0, source.len())])?;
        let mut at = 0;
        while at < source.len() {
            let n = CHUNK.min(source.len() - at);
            let bytes = source.bytes(at, usize::try_from(n).unwrap_or(0))?;
            upload.write_at(at, &bytes)?;
            at += n;
        }
        upload.sync()?;
        upload.publish()
    }

    pub(crate) fn delete(&self, address: &Address) -> std::result::Result<(), StoreError> {
        let backend = self.backend(address)?;
        if backend.parts.is_none() {
            return Err(StoreError::Cannot("http is for reading".to_owned()));
        }
        let io = self.io()?;
        // Cleaning up goes on when the user has stopped it: nobody else will.
        let spawner = io.spawner();
        let delete = spawner.again(|| async { gone(backend.objects.delete(&address.key).await) });
        finish(io, delete)
    }

    pub(crate) fn clear_below(
        &self,
        folder: &Address,
        files: &[PathBuf],
    ) -> std::result::Result<(), StoreError> {
        if folder.key.is_root() {
            return Err(StoreError::Name("a whole bucket is not cleared"));
        }
        let backend = self.backend(folder)?;
        let io = self.io()?;
        let spawner = io.spawner();
        let clear = spawner.again(|| async {
            let keys: Vec<Key> = (backend.objects.list(Some(&folder.key)))
                .map_ok(|meta| meta.location)
                .try_collect()
                .await?;
            for key in keys {
                gone(backend.objects.delete(&key).await)?;
            }
            Ok(())
        });
        finish(io, clear)?;
        let mut prefixes = vec![format!("{}/", folder.key)];
        for file in files {
            prefixes.push(Address::parse(file)?.key.to_string());
        }
        for prefix in prefixes {
            let abort = spawner.again(|| abort_below(&backend, &prefix));
            match finish(io, abort) {
                // The storage's own rule for unfinished uploads cleans up.
                Err(StoreError::Cannot(_)) => break,
                done => done?,
            }
        }
        Ok(())
    }
}

/// What was to be removed and is not there is removed.
fn gone(done: object_store::Result<()>) -> std::result::Result<(), StoreError> {
    match done.map_err(StoreError::from) {
        Err(StoreError::Missing) => Ok(()),
        done => done,
    }
}

/// Waits for a removal, but not for ever.
fn finish(
    io: &Io,
    removal: impl Future<Output = std::result::Result<(), StoreError>>,
) -> std::result::Result<(), StoreError> {
    io.finish(removal, crate::upload::ABORT_WITHIN)
        .unwrap_or_else(|| Err(StoreError::Failed("no answer to a removal".to_owned())))
}

/// Gives up the unfinished uploads of one name, or below a prefix that ends in `/`.
async fn abort_below(backend: &Backend, prefix: &str) -> std::result::Result<(), StoreError> {
    let (Some(raw), Some(parts)) = (&backend.raw, &backend.parts) else {
        return Ok(());
    };
    for (key, id) in raw.uploads(prefix).await? {
        let ours = key == prefix || (prefix.ends_with('/') && key.starts_with(prefix));
        let Some(key) = Some(key).filter(|key| ours && safe_relative(key).is_some()) else {
            continue;
        };
        gone(parts.abort_multipart(&Key::from(key), &id).await)?;
    }
    Ok(())
}
