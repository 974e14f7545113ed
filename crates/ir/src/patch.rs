//! The beginning of a file, replaced where it stands.
//!
//! A file that is changed in place cannot appear whole under its name, as an [`crate::Output`]
//! does. So both beginnings, the old and the new, are first written and synced to a journal beside
//! it (`NAME.weightbridge-edit`), then the new one is written and synced, then the journal goes.
//!
//! What that guarantees, whenever the program or the machine stops: before the journal has its
//! name the file is untouched; from then on the journal can say of each piece of the file's
//! beginning whether it is old or new, and [`finish_interrupted`] writes the new one again. Bytes
//! behind the beginning are never touched, and neither is a file that the journal does not fit.
//! Two programs that change one file at a time are not kept apart.

use crate::{Error, Fault, Output, Result};
use bytes::Bytes;
use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};

/// The first bytes of a journal.
const MAGIC: [u8; 8] = *b"WBEDIT01";
/// What a disk writes whole.
const SECTOR: usize = 512;
/// Longest journal that is read.
const JOURNAL_MAX: u64 = 4 << 30;

fn journal_of(path: &Path) -> PathBuf {
    let mut name = OsString::from(path.file_name().unwrap_or_default());
    name.push(".weightbridge-edit");
    path.with_file_name(name)
}

/// Replaces `old`, with which the file begins, by `new`, which is as long. Synced when it returns.
pub fn replace_beginning(path: &Path, old: &Bytes, new: &Bytes) -> Result<()> {
    if old.len() != new.len() {
        let what = format!("{} bytes cannot stand for {}", new.len(), old.len());
        return Err(Error::from(Fault::Invalid { what }).in_file(path));
    }
    let file = open(path)?;
    let len = length(&file, path)?;
    if beginning(&file, path, old.len())? != old[..] {
        let what = "it was changed while it was looked at".to_owned();
        return Err(Error::from(Fault::Invalid { what }).in_file(path));
    }
    let journal = journal_of(path);
    let mut out = Output::new(&journal, false);
    let number = out.main_file()?;
    let head: Vec<u8> = MAGIC
        .into_iter()
        .chain(len.to_le_bytes())
        .chain((old.len() as u64).to_le_bytes())
        .collect();
    let old_at = head.len() as u64;
    let draft = out.get(number)?;
    draft.write_at(0, &head)?;
    draft.write_at(old_at, old)?;
    draft.write_at(old_at + old.len() as u64, new)?;
    out.commit()?;
    write_and_forget(&file, path, new)
}

/// Writes the beginning, syncs, and removes the journal.
fn write_and_forget(file: &File, path: &Path, new: &[u8]) -> Result<()> {
    native::write_all_at(file, new, 0).map_err(|source| Error::io("write", path, source))?;
    file.sync_all()
        .map_err(|source| Error::io("sync", path, source))?;
    let journal = journal_of(path);
    fs::remove_file(&journal).map_err(|source| Error::io("remove", &journal, source))?;
    let folder = path.parent().unwrap_or(Path::new("."));
    native::sync_folder(folder).map_err(|source| Error::io("sync the folder", folder, source))
}

/// Completes a change that was interrupted; whether there was one.
///
/// # Errors
///
/// Where the journal does not belong to the file as it is: then nothing is touched.
pub fn finish_interrupted(path: &Path) -> Result<bool> {
    let journal = journal_of(path);
    let bytes = match fs::metadata(&journal) {
        Ok(meta) if meta.len() <= JOURNAL_MAX => {
            fs::read(&journal).map_err(|source| Error::io("read", &journal, source))?
        }
        Ok(_) => return Err(foreign(&journal)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(source) => return Err(Error::io("look at", &journal, source)),
    };
    let (len, old, new) = parts(&bytes).ok_or_else(|| foreign(&journal))?;
    let file = open(path)?;
    let now = match length(&file, path)? {
        found if found == len => beginning(&file, path, old.len())?,
        _ => return Err(foreign(&journal)),
    };
    let either = |(at, now): (usize, &[u8])| {
        let span = at * SECTOR..at * SECTOR + now.len();
        old.get(span.clone()) == Some(now) || new.get(span) == Some(now)
    };
    if !now.chunks(SECTOR).enumerate().all(either) {
        return Err(foreign(&journal));
    }
    write_and_forget(&file, path, new)?;
    Ok(true)
}

/// The length of the file a journal is of, the old beginning and the new.
fn parts(bytes: &[u8]) -> Option<(u64, &[u8], &[u8])> {
    let (magic, rest) = bytes.split_first_chunk::<8>()?;
    let (len, rest) = rest.split_first_chunk::<8>()?;
    let (each, rest) = rest.split_first_chunk::<8>()?;
    let each = usize::try_from(u64::from_le_bytes(*each)).ok()?;
    let (old, new) = rest.split_at_checked(each)?;
    let fits = *magic == MAGIC && new.len() == each;
    fits.then_some((u64::from_le_bytes(*len), old, new))
}

fn foreign(journal: &Path) -> Error {
    let what = "it is left from a change of another file of that name".to_owned();
    Error::from(Fault::Invalid { what })
        .in_file(journal)
        .with_help("Remove it, if the model beside it is whole")
}

fn open(path: &Path) -> Result<File> {
    let opened = OpenOptions::new().read(true).write(true).open(path);
    opened.map_err(|source| Error::io("open for writing", path, source))
}

fn length(file: &File, path: &Path) -> Result<u64> {
    let meta = file
        .metadata()
        .map_err(|source| Error::io("look at", path, source))?;
    Ok(meta.len())
}

fn beginning(file: &File, path: &Path, len: usize) -> Result<Vec<u8>> {
    let mut bytes = vec![0; len];
    let n =
        native::read_at(file, &mut bytes, 0).map_err(|source| Error::io("read", path, source))?;
    bytes.truncate(n);
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(name: &str) -> PathBuf {
        let path = std::env::temp_dir().join(format!("ir-patch-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).unwrap();
        path
    }

    fn texts() -> (Bytes, Bytes) {
        (vec![b'o'; 3000].into(), vec![b'n'; 3000].into())
    }

    #[test]
    fn only_the_beginning_changes_and_no_journal_stays() {
        let dir = folder("whole");
        let path = dir.join("m");
        let (old, new) = texts();
        fs::write(&path, [&old[..], b"tail"].concat()).unwrap();
        replace_beginning(&path, &old, &new).unwrap();
        assert_eq!(fs::read(&path).unwrap(), [&new[..], b"tail"].concat());
        assert_eq!(fs::read_dir(&dir).unwrap().count(), 1);
        assert!(!finish_interrupted(&path).unwrap());
        // Not what it was taken for.
        let error = replace_beginning(&path, &old, &new).unwrap_err();
        assert!(error.to_string().contains("changed"), "{error}");
        assert!(replace_beginning(&path, &new, &old.slice(1..)).is_err());
        fs::remove_dir_all(&dir).unwrap();
    }

    /// The machine stopped when some sectors were new, others old.
    #[test]
    fn a_torn_beginning_is_completed() {
        let dir = folder("torn");
        let path = dir.join("m");
        let (old, new) = texts();
        let journal = [&MAGIC[..], &3004u64.to_le_bytes(), &3000u64.to_le_bytes()].concat();
        let journal = [&journal[..], &old, &new].concat();
        for torn in [
            0..0,
            0..SECTOR,
            SECTOR..3 * SECTOR,
            5 * SECTOR..3000,
            0..3000,
        ] {
            let mut bytes = [&old[..], b"tail"].concat();
            bytes[torn.clone()].copy_from_slice(&new[torn]);
            fs::write(&path, bytes).unwrap();
            fs::write(journal_of(&path), &journal).unwrap();
            assert!(finish_interrupted(&path).unwrap());
            assert_eq!(fs::read(&path).unwrap(), [&new[..], b"tail"].concat());
            assert_eq!(fs::read_dir(&dir).unwrap().count(), 1);
        }
        fs::remove_dir_all(&dir).unwrap();
    }

    #[test]
    fn a_journal_of_another_file_touches_nothing() {
        let dir = folder("foreign");
        let path = dir.join("m");
        let (old, new) = texts();
        let head = [&MAGIC[..], &3004u64.to_le_bytes(), &3000u64.to_le_bytes()].concat();
        let whole = [&head[..], &old, &new].concat();
        let mut other = [&old[..], b"tail"].concat();
        other[700] = b'x';
        for (bytes, journal) in [
            (other, whole.clone()),
            (old.to_vec(), whole.clone()),
            ([&old[..], b"tail"].concat(), whole[..2000].to_vec()),
            ([&old[..], b"tail"].concat(), b"WBEDIT".to_vec()),
        ] {
            fs::write(&path, &bytes).unwrap();
            fs::write(journal_of(&path), &journal).unwrap();
            let error = finish_interrupted(&path).unwrap_err();
            assert!(error.help().is_some_and(|help| help.contains("Remove it")));
            assert_eq!(fs::read(&path).unwrap(), bytes);
            assert!(replace_beginning(&path, &bytes.clone().into(), &bytes.into()).is_err());
        }
        fs::remove_dir_all(&dir).unwrap();
    }
}
