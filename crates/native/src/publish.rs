//! Files that get their name only when they are whole.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

/// A file being written that nobody can see under its final name yet.
///
/// Where the file system can (Linux `O_TMPFILE`) it has no name at all, so that not even a kill
/// leaves anything behind; elsewhere it stands beside its final name as `.NAME.PID-N.part`.
/// Dropping it removes it; [`Unpublished::publish`] gives it its name.
#[derive(Debug)]
pub struct Unpublished {
    file: File,
    target: PathBuf,
    /// The temporary name, where the file has one.
    named: Option<PathBuf>,
    published: bool,
}

static COUNTER: AtomicU64 = AtomicU64::new(0);

fn sibling(target: &Path) -> PathBuf {
    let mut name = OsString::from(".");
    name.push(target.file_name().unwrap_or_default());
    name.push(format!(
        ".{}-{}.part",
        std::process::id(),
        COUNTER.fetch_add(1, Ordering::Relaxed)
    ));
    target.with_file_name(name)
}

fn folder_of(target: &Path) -> &Path {
    match target.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

impl Unpublished {
    /// Starts a file that is to become `target`.
    pub fn new(target: &Path) -> io::Result<Self> {
        if let Some(file) = unnamed(folder_of(target)) {
            return Ok(Self {
                file,
                target: target.to_owned(),
                named: None,
                published: false,
            });
        }
        let path = sibling(target);
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .open(&path)?;
        Ok(Self {
            file,
            target: target.to_owned(),
            named: Some(path),
            published: false,
        })
    }

    /// The file itself, open for reading and writing.
    pub fn file(&self) -> &File {
        &self.file
    }

    /// The name it is to get.
    pub fn target(&self) -> &Path {
        &self.target
    }

    /// Gives the file its final name. The content should be synced before. With `replace`, a file
    /// of that name is replaced in one step; without, it is an error of kind `AlreadyExists`.
    pub fn publish(mut self, replace: bool) -> io::Result<()> {
        if let Some(path) = &self.named {
            if !replace && fs::symlink_metadata(&self.target).is_ok() {
                return Err(io::ErrorKind::AlreadyExists.into());
            }
            fs::rename(path, &self.target)?;
        } else if !replace {
            give_name(&self.file, &self.target)?;
        } else {
            // A link cannot replace a name, a rename can.
            let path = sibling(&self.target);
            give_name(&self.file, &path)?;
            if let Err(error) = fs::rename(&path, &self.target) {
                let _ = fs::remove_file(&path);
                return Err(error);
            }
        }
        self.published = true;
        Ok(())
    }
}

impl Drop for Unpublished {
    fn drop(&mut self) {
        if let (Some(path), false) = (&self.named, self.published) {
            let _ = fs::remove_file(path);
        }
    }
}

/// An older file that a new one is about to take the name of.
///
/// It has a hidden name beside its own until it is sure that it may go: dropping this lets it go.
#[derive(Debug)]
pub struct Replaced {
    kept: PathBuf,
    target: PathBuf,
}

impl Replaced {
    /// Keeps the file at `target`; an error where the file system has no hard links.
    pub fn keep(target: &Path) -> io::Result<Self> {
        let kept = sibling(target);
        fs::hard_link(target, &kept)?;
        let target = target.to_owned();
        Ok(Self { kept, target })
    }

    /// Gives it its name back, which the new file loses.
    pub fn restore(self) -> io::Result<()> {
        fs::rename(&self.kept, &self.target)
    }
}

impl Drop for Replaced {
    fn drop(&mut self) {
        // After `restore` nothing is there.
        let _ = fs::remove_file(&self.kept);
    }
}

/// Renames a file to a name that must be free; an error of kind `AlreadyExists` where it is not.
///
/// One step on Linux where the file system can; elsewhere a look before, so that only a name given
/// in between could be replaced.
pub fn rename_new(from: &Path, to: &Path) -> io::Result<()> {
    #[cfg(target_os = "linux")]
    {
        use rustix::fs::{CWD, RenameFlags};
        use rustix::io::Errno;
        match rustix::fs::renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
            Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => {}
            done => return done.map_err(io::Error::from),
        }
    }
    if fs::symlink_metadata(to).is_ok() {
        return Err(io::ErrorKind::AlreadyExists.into());
    }
    fs::rename(from, to)
}

/// Makes names given in `folder` last through a power cut.
pub fn sync_folder(folder: &Path) -> io::Result<()> {
    if cfg!(unix) {
        let folder = if folder.as_os_str().is_empty() {
            Path::new(".")
        } else {
            folder
        };
        File::open(folder)?.sync_all()?;
    }
    Ok(())
}

/// Whether files without a name can be made in `folder`.
pub fn holds_unnamed(folder: &Path) -> bool {
    unnamed(folder).is_some()
}

#[cfg(target_os = "linux")]
fn unnamed(folder: &Path) -> Option<File> {
    use rustix::fs::{Mode, OFlags};
    let mode = Mode::from_raw_mode(0o666);
    let fd = rustix::fs::open(
        folder,
        OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC,
        mode,
    )
    .ok()?;
    // Naming it later goes through /proc: without that, take the fallback now.
    fs::symlink_metadata(proc_path(&fd)).ok()?;
    Some(File::from(fd))
}

#[cfg(not(target_os = "linux"))]
fn unnamed(_: &Path) -> Option<File> {
    None
}

#[cfg(target_os = "linux")]
fn proc_path(fd: &impl std::os::fd::AsRawFd) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", fd.as_raw_fd()))
}

#[cfg(target_os = "linux")]
fn give_name(file: &File, target: &Path) -> io::Result<()> {
    use rustix::fs::{AtFlags, CWD};
    rustix::fs::linkat(CWD, proc_path(file), CWD, target, AtFlags::SYMLINK_FOLLOW)?;
    Ok(())
}

#[cfg(not(target_os = "linux"))]
fn give_name(_: &File, _: &Path) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn folder(name: &str) -> PathBuf {
        let path =
            std::env::temp_dir().join(format!("native-publish-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).unwrap();
        path
    }

    #[test]
    fn appears_whole_or_not_at_all() {
        let dir = folder("whole");
        let target = dir.join("a.bin");
        {
            let draft = Unpublished::new(&target).unwrap();
            draft.file().write_all(b"half").unwrap();
        }
        assert_eq!(fs::read_dir(&dir).unwrap().count(), 0);
        let draft = Unpublished::new(&target).unwrap();
        draft.file().write_all(b"whole").unwrap();
        assert!(!target.exists());
        draft.publish(false).unwrap();
        assert_eq!(fs::read(&target).unwrap(), b"whole");
        assert_eq!(fs::read_dir(&dir).unwrap().count(), 1);
        fs::remove_dir_all(&dir).unwrap();
    }

    #[test]
    fn a_new_name_replaces_nothing() {
        let dir = folder("new");
        let [a, b, c] = ["a", "b", "c"].map(|name| dir.join(name));
        fs::write(&a, b"a").unwrap();
        fs::write(&b, b"b").unwrap();
        let refused = rename_new(&a, &b).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(fs::read(&b).unwrap(), b"b");
        rename_new(&a, &c).unwrap();
        assert!(!a.exists() && fs::read(&c).unwrap() == b"a");
        fs::remove_dir_all(&dir).unwrap();
    }

    #[test]
    fn replaces_only_when_asked() {
        let dir = folder("replace");
        let target = dir.join("a.bin");
        fs::write(&target, b"old").unwrap();
        let refused = Unpublished::new(&target)
            .unwrap()
            .publish(false)
            .unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(fs::read(&target).unwrap(), b"old");
        Unpublished::new(&target).unwrap().publish(true).unwrap();
        assert_eq!(fs::read(&target).unwrap(), b"");
        assert_eq!(fs::read_dir(&dir).unwrap().count(), 1);
        fs::remove_dir_all(&dir).unwrap();
    }
}
