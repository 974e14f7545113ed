//! Bytes from file to file: inside the kernel where it can, by positioned reads where not.

use std::fs::File;
use std::io;

/// How far an in-kernel copy got.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KernelCopy {
    /// All bytes were copied.
    Done,
    /// The source ended early: this many bytes were copied.
    SourceEnded(u64),
    /// The kernel cannot copy between these files: nothing past this many bytes was copied, go on
    /// with reads and writes from there.
    Unsupported(u64),
}

/// Copies `len` bytes of `source` at `source_offset` to `target` at `target_offset` without
/// bringing them into this process.
///
/// On Linux this is `copy_file_range`, which shares extents on file systems that can and works
/// page cache to page cache elsewhere. Elsewhere the answer is `Unsupported(0)`.
#[cfg(target_os = "linux")]
pub fn copy_range(
    source: &File,
    mut source_offset: u64,
    target: &File,
    mut target_offset: u64,
    len: u64,
) -> io::Result<KernelCopy> {
    use rustix::io::Errno;
    let mut done = 0;
    while done < len {
        // The kernel cuts a longer request itself; this bound only keeps the cast exact.
        let want = usize::try_from((len - done).min(1 << 30)).unwrap_or(1 << 30);
        match rustix::fs::copy_file_range(
            source,
            Some(&mut source_offset),
            target,
            Some(&mut target_offset),
            want,
        ) {
            Ok(0) => return Ok(KernelCopy::SourceEnded(done)),
            Ok(n) => done += n as u64,
            Err(Errno::INTR | Errno::AGAIN) => {}
            Err(
                Errno::XDEV
                | Errno::INVAL
                | Errno::NOSYS
                | Errno::OPNOTSUPP
                | Errno::PERM
                | Errno::BADF,
            ) => return Ok(KernelCopy::Unsupported(done)),
            Err(error) => return Err(error.into()),
        }
    }
    Ok(KernelCopy::Done)
}

/// Copies inside the kernel; not available here.
#[cfg(not(target_os = "linux"))]
pub fn copy_range(_: &File, _: u64, _: &File, _: u64, _: u64) -> io::Result<KernelCopy> {
    Ok(KernelCopy::Unsupported(0))
}

/// Asks the kernel to begin writing `len` bytes at `offset` to disk now, so that a later sync has
/// less to wait for. A hint: where there is no such call, nothing happens.
#[cfg(target_os = "linux")]
pub fn start_writeback(file: &File, offset: u64, len: u64) {
    use std::os::fd::AsRawFd;
    let (Ok(offset), Ok(len)) = (i64::try_from(offset), i64::try_from(len)) else {
        return;
    };
    // SAFETY: sync_file_range takes a descriptor, which `file` keeps open for the call, and three
    // numbers; it touches no memory of this process. Its result is a hint's and is not needed.
    unsafe {
        libc::sync_file_range(file.as_raw_fd(), offset, len, libc::SYNC_FILE_RANGE_WRITE);
    }
}

/// Asks the kernel to begin writing; not available here.
#[cfg(not(target_os = "linux"))]
pub fn start_writeback(_: &File, _: u64, _: u64) {}

/// Reads at `offset` until `buffer` is full or the file ends; answers how many bytes were read.
pub fn read_at(file: &File, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    let mut done = 0;
    while let Some(rest) = buffer.get_mut(done..).filter(|rest| !rest.is_empty()) {
        match read_some_at(file, rest, offset.saturating_add(done as u64)) {
            Ok(0) => break,
            Ok(n) => done += n,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(done)
}

/// Writes all of `bytes` at `offset`.
pub fn write_all_at(file: &File, mut bytes: &[u8], mut offset: u64) -> io::Result<()> {
    while !bytes.is_empty() {
        match write_some_at(file, bytes, offset) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(n) => {
                bytes = bytes.get(n..).unwrap_or_default();
                offset += n as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

#[cfg(unix)]
fn read_some_at(file: &File, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    std::os::unix::fs::FileExt::read_at(file, buffer, offset)
}

#[cfg(unix)]
fn write_some_at(file: &File, bytes: &[u8], offset: u64) -> io::Result<usize> {
    std::os::unix::fs::FileExt::write_at(file, bytes, offset)
}

#[cfg(windows)]
fn read_some_at(file: &File, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    std::os::windows::fs::FileExt::seek_read(file, buffer, offset)
}

#[cfg(windows)]
fn write_some_at(file: &File, bytes: &[u8], offset: u64) -> io::Result<usize> {
    std::os::windows::fs::FileExt::seek_write(file, bytes, offset)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scratch(bytes: &[u8]) -> File {
        let path = std::env::temp_dir().join(format!(
            "native-copy-{}-{:?}",
            std::process::id(),
            std::thread::current().id()
        ));
        std::fs::write(&path, bytes).unwrap();
        let file = File::options().read(true).write(true).open(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        file
    }

    #[test]
    fn copies_ranges_and_notices_a_short_source() {
        let source = scratch(b"0123456789");
        let target = scratch(b"..........");
        let outcome = copy_range(&source, 3, &target, 1, 4).unwrap();
        if outcome == KernelCopy::Done {
            let mut seen = [0; 10];
            assert_eq!(read_at(&target, &mut seen, 0).unwrap(), 10);
            assert_eq!(&seen, b".3456.....");
            assert_eq!(
                copy_range(&source, 8, &target, 0, 5).unwrap(),
                KernelCopy::SourceEnded(2)
            );
        } else {
            assert_eq!(outcome, KernelCopy::Unsupported(0));
        }
    }

    #[test]
    fn positioned_reads_stop_at_the_end() {
        let file = scratch(b"abc");
        let mut buffer = [0; 8];
        assert_eq!(read_at(&file, &mut buffer, 1).unwrap(), 2);
        write_all_at(&file, b"XY", 2).unwrap();
        assert_eq!(read_at(&file, &mut buffer, 0).unwrap(), 4);
        assert_eq!(&buffer[..4], b"abXY");
    }
}
