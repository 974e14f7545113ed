//! Read-only file maps.

use std::fs::File;
use std::io;
use std::ops::Deref;

/// A whole file mapped read-only.
///
/// Mapping is for headers and schemas that a parser wants as one slice. Tensor data is read by
/// position instead: a file cut short under a map kills the process, under a read it is an error.
#[derive(Debug)]
pub struct Map(memmap2::Mmap);

impl Map {
    /// Maps all of `file`.
    pub fn of(file: &File) -> io::Result<Self> {
        // SAFETY: the map is private to this process and read-only, so no Rust reference can see
        // a write made through it. Another process may still change the file below us: the bytes
        // are treated as hostile input that is parsed into owned values, never as a type with
        // invariants. A file that shrinks raises SIGBUS, which is why only headers are mapped.
        unsafe { memmap2::Mmap::map(file) }.map(Self)
    }
}

impl Deref for Map {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl AsRef<[u8]> for Map {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn maps_what_the_file_holds() {
        let path = std::env::temp_dir().join(format!("native-map-{}", std::process::id()));
        std::fs::write(&path, b"weights").unwrap();
        let map = Map::of(&File::open(&path).unwrap()).unwrap();
        std::fs::remove_file(&path).unwrap();
        assert_eq!(&*map, b"weights");
    }
}
