//! Making everything on a file system last with one call.

use std::io;
use std::path::Path;

/// A file system that can be synced as a whole, and tells what could not be written since it was
/// opened.
#[derive(Debug)]
pub struct FileSystem {
    #[cfg(target_os = "linux")]
    folder: std::fs::File,
}

/// Which file system a path is on.
pub fn device_of(path: &Path) -> io::Result<u64> {
    let meta = std::fs::metadata(path)?;
    #[cfg(unix)]
    return Ok(std::os::unix::fs::MetadataExt::dev(&meta));
    #[cfg(not(unix))]
    return Ok(u64::from(meta.is_file()));
}

#[cfg(target_os = "linux")]
mod linux {
    use super::FileSystem;
    use rustix::fs::fstatfs;
    use std::fs::File;
    use std::io;
    use std::path::Path;

    /// File systems of this machine's own disks, by their magic numbers (statfs(2)). Others may be
    /// on a server that a sync of the whole does not reach, as those in user space.
    const LOCAL: &[u32] = &[
        0x0000_EF53, // ext2, ext3, ext4
        0x5846_5342, // XFS
        0x9123_683E, // Btrfs
        0xF2F5_2010, // F2FS
        0x2FC1_2FC1, // ZFS
        0x794C_7630, // overlayfs, which syncs what it lies on
        0x0102_1994, // tmpfs
    ];

    impl FileSystem {
        /// The file system of a folder; none where only single files can be synced for certain.
        pub fn of(folder: &Path) -> io::Result<Option<Self>> {
            let folder = File::open(folder)?;
            // A signed field on some systems: its low half is the number.
            #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
            let magic = fstatfs(&folder)?.f_type as u32;
            let usable = LOCAL.contains(&magic) && tells_errors();
            Ok(usable.then_some(Self { folder }))
        }

        /// Makes all that was written to it, and all names given in it, last through a power cut.
        pub fn sync(&self) -> io::Result<()> {
            Ok(rustix::fs::syncfs(&self.folder)?)
        }
    }

    /// Whether syncfs(2) tells of what could not be written: from Linux 5.8 on.
    fn tells_errors() -> bool {
        let name = rustix::system::uname();
        at_least(&name.release().to_string_lossy(), (5, 8))
    }

    fn at_least(release: &str, wanted: (u32, u32)) -> bool {
        let mut numbers = release.split(|c: char| !c.is_ascii_digit());
        let mut next = || numbers.next().and_then(|digits| digits.parse().ok());
        let (major, minor): (Option<u32>, Option<u32>) = (next(), next());
        major.zip(minor).is_some_and(|found| found >= wanted)
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        #[test]
        fn releases_are_compared_by_number() {
            for (release, new) in [
                ("5.8.0", true),
                ("5.10.0-rc1", true),
                ("6.1-x", true),
                ("5.7.19", false),
                ("4.19.0-27-amd64", false),
                ("", false),
            ] {
                assert_eq!(at_least(release, (5, 8)), new, "{release}");
            }
        }

        #[test]
        fn a_whole_file_system_is_synced() {
            let folder = std::env::temp_dir();
            if let Some(disk) = FileSystem::of(&folder).unwrap() {
                disk.sync().unwrap();
            }
            assert!(FileSystem::of(Path::new("/proc")).unwrap().is_none());
            assert!(FileSystem::of(&folder.join("not/there")).is_err());
        }
    }
}

#[cfg(not(target_os = "linux"))]
impl FileSystem {
    /// The file system of a folder; none where only single files can be synced for certain.
    pub fn of(_: &Path) -> io::Result<Option<Self>> {
        Ok(None)
    }

    /// Makes all that was written to it, and all names given in it, last through a power cut.
    pub fn sync(&self) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }
}
