//! Files opened only if they are what they seem: regular, and lying where a name says.

use std::fs::File;
use std::io;
use std::path::Path;

/// Opens the regular file `relative` below `folder` for reading.
///
/// Each step is a plain name: no `..`, no root. No step is a symbolic link, the last is a regular
/// file, and it has no other name (a hard link could be somebody's secret). Otherwise the error is
/// of kind [`io::ErrorKind::PermissionDenied`] and says which of it failed. Steps are opened one
/// below the other, so nothing can be put in their place between the check and the open.
#[cfg(unix)]
pub fn open_beneath(folder: &Path, relative: &Path) -> io::Result<File> {
    use rustix::fs::{Mode, OFlags, open, openat};
    use std::os::unix::fs::MetadataExt;

    let folder = if folder.as_os_str().is_empty() {
        Path::new(".")
    } else {
        folder
    };
    let steps = plain_steps(relative)?;
    let Some((last, folders)) = steps.split_last() else {
        return Err(refused("the path is empty"));
    };
    let listing = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let mut here = open(folder, listing, Mode::empty())?;
    for step in folders {
        here = openat(&here, *step, listing | OFlags::NOFOLLOW, Mode::empty()).map_err(linked)?;
    }
    // A FIFO would block the open for ever.
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let file = File::from(openat(&here, *last, flags, Mode::empty()).map_err(linked)?);
    let meta = file.metadata()?;
    if !meta.is_file() {
        return Err(refused("it is not a regular file"));
    }
    if meta.nlink() > 1 {
        return Err(refused("it is a hard link: the file has another name too"));
    }
    Ok(file)
}

/// Opens a regular file for reading, or answers `None` for anything else; links on the way are
/// followed. It is asked what it is before, since opening a device may do something, and after,
/// since a FIFO put in its place meanwhile would block a read for ever.
#[cfg(unix)]
pub fn open_regular(path: &Path) -> io::Result<Option<File>> {
    use rustix::fs::{Mode, OFlags, open};
    if !std::fs::metadata(path)?.is_file() {
        return Ok(None);
    }
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let file = File::from(open(path, flags, Mode::empty())?);
    Ok(file.metadata()?.is_file().then_some(file))
}

/// The same where opening does not block.
#[cfg(not(unix))]
pub fn open_regular(path: &Path) -> io::Result<Option<File>> {
    if !std::fs::metadata(path)?.is_file() {
        return Ok(None);
    }
    File::open(path).map(Some)
}

/// What `O_NOFOLLOW` answers for a link, in words.
#[cfg(unix)]
fn linked(error: rustix::io::Errno) -> io::Error {
    use rustix::io::Errno;
    match error {
        Errno::LOOP | Errno::MLINK => refused("a part of the path is a symbolic link"),
        // With O_DIRECTORY a link is reported so, as is a file that stands where a folder should.
        Errno::NOTDIR => refused("a part of the path is a symbolic link or no folder"),
        other => other.into(),
    }
}

/// The same where a step cannot be opened below another: checked first, opened then.
#[cfg(not(unix))]
pub fn open_beneath(folder: &Path, relative: &Path) -> io::Result<File> {
    let mut here = folder.to_owned();
    for step in plain_steps(relative)? {
        here.push(step);
        if std::fs::symlink_metadata(&here)?.is_symlink() {
            return Err(refused("a part of the path is a symbolic link"));
        }
    }
    let file = File::open(&here)?;
    if !file.metadata()?.is_file() {
        return Err(refused("it is not a regular file"));
    }
    Ok(file)
}

/// The names of a path of plain names.
fn plain_steps(relative: &Path) -> io::Result<Vec<&std::ffi::OsStr>> {
    use std::path::Component;
    let step = |part| match part {
        Component::Normal(name) => Some(Ok(name)),
        Component::CurDir => None,
        _ => Some(Err(refused("the path leaves the folder"))),
    };
    relative.components().filter_map(step).collect()
}

fn refused(why: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::PermissionDenied, why)
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;

    #[test]
    fn only_what_lies_below_is_opened() {
        let root = std::env::temp_dir().join(format!("native-beneath-{}", std::process::id()));
        let _ = fs::remove_dir_all(&root);
        let home = root.join("home");
        fs::create_dir_all(home.join("deep")).unwrap();
        fs::write(root.join("secret"), b"s").unwrap();
        for name in ["plain", "deep/plain", "twice"] {
            fs::write(home.join(name), b"d").unwrap();
        }
        fs::hard_link(home.join("twice"), home.join("again")).unwrap();
        symlink("../secret", home.join("link")).unwrap();
        symlink("..", home.join("up")).unwrap();
        symlink("deep", home.join("side")).unwrap();
        let open = |name: &str| open_beneath(&home, Path::new(name));
        assert!(open("plain").is_ok() && open("deep/plain").is_ok() && open("./plain").is_ok());
        for name in [
            "../secret",
            "deep/../../secret",
            "/etc/hostname",
            "link",
            "up/secret",
            "side/plain",
            "again",
            "deep",
            "",
            "plain/x",
        ] {
            let error = open(name).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::PermissionDenied, "{name}");
        }
        assert_eq!(open("none").unwrap_err().kind(), io::ErrorKind::NotFound);
        fs::remove_dir_all(&root).unwrap();
    }
}
