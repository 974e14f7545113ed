//! What files a tree holds, folder by folder.
//!
//! Nothing is changed and no content is read. Links to files are taken for the files; a link to a
//! folder is followed unless that folder is walked already, which ends loops and keeps a model that
//! two paths lead to from being migrated twice.

use crate::place::{self, Place};
use crate::{MigrateError, stage};
use ir::{Cancel, Error, Kind, Remote, Result};
use std::collections::{BTreeMap, BTreeSet, HashSet, VecDeque};
use std::path::{Path, PathBuf};
use walkdir::{DirEntry, WalkDir};

/// What a tree holds.
#[derive(Debug, Default)]
pub(crate) struct Tree {
    /// Files by the folder they are in, both as paths from the root, sorted.
    pub(crate) folders: BTreeMap<String, Vec<Found>>,
    /// What was passed over, and why.
    pub(crate) remarks: Vec<Remark>,
}

/// A file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Found {
    /// Its name in its folder.
    pub(crate) name: String,
    /// Bytes, of the file that a link leads to.
    pub(crate) bytes: u64,
}

/// Something in a tree that no line of the plan is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Remark {
    /// Where, from the root; what is not UTF-8 in it is replaced.
    pub path: String,
    /// What it is and what became of it.
    pub what: String,
}

/// Folders of the hub's cache that are not walked: blobs are reached through the links of
/// snapshots, and absences are noted anew by whoever looks.
const CACHE_INNER: &[&str] = &["blobs", ".no_exist"];

/// Most objects below a prefix: each is a name in memory.
const OBJECTS_MAX: u64 = 10_000_000;
/// Keys that cannot be paths and are told one by one; the rest are counted.
const UNUSABLE_TOLD: usize = 100;

/// The tree at a root. The name of one object stands for a tree of it alone: behind `http` there are
/// no listings.
pub(crate) fn tree(root: Place, cancel: &Cancel) -> Result<(Place, Tree)> {
    let one = match root.remote() {
        Some(remote) => remote.kind(root.path())? == Kind::File,
        None => false,
    };
    let text = root.to_string();
    let Some((above, name)) = text.rsplit_once('/').filter(|_| one) else {
        let tree = walk(&root, cancel)?;
        return Ok((root, tree));
    };
    if let Some(why) = place::objection(name) {
        let what = format!("its name {why}");
        return Err(Error::from(MigrateError::BadLine { what }).in_file(root.path()));
    }
    let above = Place::parse(above, root.places())?;
    let bytes = above.fact(name)?.bytes;
    let mut tree = Tree::default();
    let name = name.to_owned();
    tree.folders
        .insert(String::new(), vec![Found { name, bytes }]);
    Ok((above, tree))
}

/// Walks a tree.
pub(crate) fn walk(root: &Place, cancel: &Cancel) -> Result<Tree> {
    if let Some(remote) = root.remote() {
        return walk_storage(root, &**remote);
    }
    let mut walker = Walker {
        tree: Tree::default(),
        seen: HashSet::new(),
        links: VecDeque::new(),
    };
    let top = root.path();
    if !top.is_dir() {
        // Says why a folder that is there cannot be looked at.
        std::fs::metadata(top).map_err(|source| Error::io("list", top, source))?;
        return Err(Error::from(MigrateError::NotAFolder).in_file(top));
    }
    walker.folder(top, "", cancel)?;
    // Real folders first: a link then only adds what no real path leads to.
    while let Some((path, relative)) = walker.links.pop_front() {
        let real = path.canonicalize().unwrap_or_else(|_| path.clone());
        if walker.seen.contains(&real) {
            let what = format!(
                "leads to {}, which is walked already: not followed",
                real.display()
            );
            walker.remark(relative, what);
        } else {
            walker.folder(&path, &relative, cancel)?;
        }
    }
    for files in walker.tree.folders.values_mut() {
        files.sort_by(|a, b| a.name.cmp(&b.name));
    }
    Ok(walker.tree)
}

/// The objects below a prefix, which come in order of their names.
fn walk_storage(root: &Place, remote: &dyn Remote) -> Result<Tree> {
    let mut tree = Tree::default();
    let walked = remote.walk(root.path(), OBJECTS_MAX)?;
    if walked.files.is_empty() && walked.unusable.is_empty() {
        return Err(ir::missing(root.path()));
    }
    let mut hidden = BTreeSet::new();
    for (path, bytes) in walked.files {
        let Some(path) = path.strip_prefix(root.path()).ok().and_then(text_of) else {
            continue;
        };
        if let Some(why) = place::objection(&path) {
            let what = format!("its key {why}: left alone; give it another");
            tree.remarks.push(Remark { path, what });
            continue;
        }
        let mut above = path.match_indices('/').filter_map(|(at, _)| path.get(..at));
        match above.find_map(passed) {
            None => {
                let (folder, name) = (place::parent(&path), place::name(&path));
                let name = name.to_owned();
                let files = tree.folders.entry(folder.to_owned()).or_default();
                files.push(Found { name, bytes });
            }
            Some(Passed::Hidden(folder)) if hidden.insert(folder.to_owned()) => {
                let (path, what) = (folder.to_owned(), HIDDEN.to_owned());
                tree.remarks.push(Remark { path, what });
            }
            Some(_) => {}
        }
    }
    let more = walked.unusable.len().saturating_sub(UNUSABLE_TOLD);
    for path in walked.unusable.into_iter().take(UNUSABLE_TOLD) {
        let what = "a key that is no path: left alone; give it another".to_owned();
        tree.remarks.push(Remark { path, what });
    }
    if more > 0 {
        let what = format!("{more} more keys that are no paths: left alone");
        let path = String::new();
        tree.remarks.push(Remark { path, what });
    }
    Ok(tree)
}

/// Why nothing below a folder is walked.
enum Passed<'a> {
    /// It is a migration's own, or a cache's.
    Inner,
    /// Its name begins with a point.
    Hidden(&'a str),
}

/// Whether a folder is none of a migration's business.
fn passed(folder: &str) -> Option<Passed<'_>> {
    let name = place::name(folder);
    let in_cache = place::name(place::parent(folder)).starts_with("models--");
    if stage::is_stage(name) || in_cache && CACHE_INNER.contains(&name) {
        return Some(Passed::Inner);
    }
    name.starts_with('.').then_some(Passed::Hidden(folder))
}

/// What is told of a folder whose name begins with a point.
const HIDDEN: &str = "a hidden folder: not walked";

struct Walker {
    tree: Tree,
    /// Real paths of the folders walked.
    seen: HashSet<PathBuf>,
    /// Links to folders, with their paths from the root.
    links: VecDeque<(PathBuf, String)>,
}

impl Walker {
    fn remark(&mut self, path: String, what: String) {
        self.tree.remarks.push(Remark { path, what });
    }

    /// Everything below a folder but what lies behind links to folders.
    fn folder(&mut self, top: &Path, relative: &str, cancel: &Cancel) -> Result<()> {
        // Behind a link a path has no name of its own: the real one, and everything below, is it.
        let real_top = top.canonicalize().unwrap_or_else(|_| top.to_owned());
        let mut walk = WalkDir::new(&real_top).sort_by_file_name().into_iter();
        while let Some(entry) = walk.next() {
            cancel.check()?;
            let entry = match entry {
                Ok(entry) => entry,
                Err(error) => {
                    let below = error
                        .path()
                        .and_then(|path| path.strip_prefix(&real_top).ok());
                    let below =
                        below.map_or_else(String::new, |p| p.to_string_lossy().into_owned());
                    let why = error
                        .io_error()
                        .map_or_else(|| error.to_string(), ToString::to_string);
                    self.remark(
                        place::join(relative, &below),
                        format!("cannot be looked at: {why}"),
                    );
                    continue;
                }
            };
            let below = entry.path().strip_prefix(&real_top).unwrap_or(entry.path());
            let Some(path) = text_of(below) else {
                let shown = place::join(relative, &below.to_string_lossy());
                self.remark(
                    shown,
                    "its name is not UTF-8: left alone; rename it".to_owned(),
                );
                skip(&entry, &mut walk);
                continue;
            };
            let path = place::join(relative, &path);
            if entry.file_type().is_dir() {
                let passed = entry.depth() > 0 && self.passes_over(&path);
                if passed || !self.seen.insert(entry.path().to_owned()) {
                    walk.skip_current_dir();
                }
                continue;
            }
            self.file(&path, top, below);
        }
        Ok(())
    }

    /// Whether a folder is none of a migration's business.
    fn passes_over(&mut self, path: &str) -> bool {
        let Some(passed) = passed(path) else {
            return false;
        };
        if let Passed::Hidden(_) = passed {
            self.remark(path.to_owned(), HIDDEN.to_owned());
        }
        true
    }

    fn file(&mut self, path: &str, top: &Path, below: &Path) {
        if let Some(why) = place::objection(path) {
            return self.remark(
                path.to_owned(),
                format!("its path {why}: left alone; rename it"),
            );
        }
        // Through the path as it was given, so that relative links work as they do for loaders.
        let full = top.join(below);
        match std::fs::metadata(&full) {
            Ok(meta) if meta.is_file() => {
                let name = place::name(path).to_owned();
                let folder = place::parent(path).to_owned();
                let found = Found {
                    name,
                    bytes: meta.len(),
                };
                self.tree.folders.entry(folder).or_default().push(found);
            }
            Ok(meta) if meta.is_dir() => self.links.push_back((full, path.to_owned())),
            Ok(_) => self.remark(
                path.to_owned(),
                "a device, pipe or socket: left alone".to_owned(),
            ),
            Err(error) => {
                let what = if full.is_symlink() {
                    "a link that leads nowhere"
                } else {
                    "cannot be looked at"
                };
                self.remark(path.to_owned(), format!("{what}: {error}"));
            }
        }
    }
}

fn skip(entry: &DirEntry, walk: &mut walkdir::IntoIter) {
    if entry.file_type().is_dir() {
        walk.skip_current_dir();
    }
}

/// A path as text with `/`, if it is UTF-8.
fn text_of(path: &Path) -> Option<String> {
    let parts: Option<Vec<&str>> = path.iter().map(|part| part.to_str()).collect();
    Some(parts?.join("/"))
}

#[cfg(all(test, unix))]
#[allow(clippy::unwrap_used)] // tests
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::ffi::OsStrExt;
    use std::os::unix::fs::symlink;

    fn walked(top: &Path) -> Tree {
        walk(
            &Place::parse(top.to_str().unwrap(), &ir::Places::default()).unwrap(),
            &Cancel::default(),
        )
        .unwrap()
    }

    fn paths(tree: &Tree) -> Vec<String> {
        let all = tree.folders.iter();
        all.flat_map(|(folder, files)| files.iter().map(move |f| place::join(folder, &f.name)))
            .collect()
    }

    #[test]
    fn loops_end_and_odd_names_are_told() {
        let dir = tempfile::tempdir().unwrap();
        let top = dir.path();
        fs::create_dir_all(top.join("a/b")).unwrap();
        fs::create_dir_all(top.join(".git")).unwrap();
        fs::write(top.join(".git/x.bin"), b"").unwrap();
        fs::write(top.join("a/b/x.bin"), b"abc").unwrap();
        symlink("..", top.join("a/b/up")).unwrap();
        symlink("a", top.join("again")).unwrap();
        symlink("itself", top.join("itself")).unwrap();
        symlink("b/x.bin", top.join("a/y.bin")).unwrap();
        fs::write(top.join(std::ffi::OsStr::from_bytes(b"a/bad\xff.bin")), b"").unwrap();
        let tree = walked(top);
        assert_eq!(paths(&tree), ["a/y.bin", "a/b/x.bin"]);
        assert_eq!(tree.folders["a"][0].bytes, 3);
        let told: Vec<&str> = tree.remarks.iter().map(|r| r.path.as_str()).collect();
        assert_eq!(
            told,
            [".git", "a/bad\u{fffd}.bin", "itself", "a/b/up", "again"]
        );
        assert!(tree.remarks[3].what.contains("walked already"));
    }

    /// A storage that has names only.
    #[derive(Debug)]
    struct Names(Vec<&'static str>, Vec<String>);

    impl Remote for Names {
        fn knows(&self, path: &Path) -> bool {
            ir::is_url(path)
        }
        fn kind(&self, path: &Path) -> Result<Kind> {
            let text = path.to_string_lossy();
            let one = self.0.iter().any(|name| text == format!("s3://b/{name}"));
            Ok(if one { Kind::File } else { Kind::Folder })
        }
        fn stat(&self, _: &Path) -> Result<ir::Stat> {
            Ok(ir::Stat {
                len: 7,
                modified: 5_000,
                tag: Some("tag".to_owned()),
            })
        }
        fn walk(&self, folder: &Path, _: u64) -> Result<ir::Walked> {
            let files = self.0.iter().map(|name| (folder.join(name), 7));
            Ok(ir::Walked {
                files: files.collect(),
                unusable: self.1.clone(),
            })
        }
        fn open(&self, path: &Path) -> Result<ir::Region> {
            Err(ir::missing(path))
        }
        fn list(&self, path: &Path, _: u64) -> Result<ir::Listing> {
            Err(ir::missing(path))
        }
        fn create(&self, path: &Path, _: bool) -> Result<Box<dyn ir::Upload>> {
            Err(ir::missing(path))
        }
        fn copy_new(&self, path: &Path, _: &Path) -> Result<()> {
            Err(ir::missing(path))
        }
        fn remove(&self, path: &Path) -> Result<()> {
            Err(ir::missing(path))
        }
        fn clear(&self, path: &Path, _: &[PathBuf]) -> Result<()> {
            Err(ir::missing(path))
        }
    }

    #[test]
    fn keys_that_are_no_paths_are_told_and_counted() {
        let names = vec![
            "a/.git/x.bin",
            "a/.git/y.bin",
            "a/.weightbridge-0123/out/a/x.bin",
            "a/x.bin",
            "models--o--m/blobs/0123",
            "models--o--m/snapshots/r/x.bin",
        ];
        let unusable = (0..UNUSABLE_TOLD + 5).map(|n| format!("a//{n}"));
        let storage = Names(names, unusable.collect());
        let places = ir::Places::with(std::sync::Arc::new(storage));
        let at = |text: &str| {
            let root = Place::parse(text, &places).unwrap();
            tree(root, &Cancel::default()).unwrap()
        };
        for root in ["s3://b", "s3://b/"] {
            let (_, found) = at(root);
            assert_eq!(paths(&found), ["a/x.bin", "models--o--m/snapshots/r/x.bin"]);
            assert_eq!(found.remarks[0].path, "a/.git");
            assert_eq!(found.remarks[1].path, "a//0");
            assert_eq!(found.remarks.len(), 1 + UNUSABLE_TOLD + 1);
            assert!(found.remarks.last().unwrap().what.starts_with("5 more"));
        }
        let (root, one) = at("s3://b/a/x.bin");
        assert_eq!(root.to_string(), "s3://b/a");
        assert_eq!(
            (paths(&one), one.folders[""][0].bytes),
            (vec!["x.bin".to_owned()], 7)
        );
        let fact = root.fact("x.bin").unwrap();
        assert_eq!((fact.mtime, fact.tag.as_deref()), (5, Some("tag")));
    }

    #[test]
    fn folders_elsewhere_are_followed_once() {
        let dir = tempfile::tempdir().unwrap();
        let [top, away] = ["top", "away"].map(|name| dir.path().join(name));
        fs::create_dir_all(&top).unwrap();
        fs::create_dir_all(away.join("deep")).unwrap();
        fs::write(away.join("deep/x.bin"), b"1").unwrap();
        symlink(&away, top.join("one")).unwrap();
        symlink(&away, top.join("two")).unwrap();
        let tree = walked(&top);
        assert_eq!(paths(&tree), ["one/deep/x.bin"]);
        assert_eq!(tree.remarks.len(), 1);
    }

    #[test]
    fn blobs_are_reached_through_snapshots() {
        let dir = tempfile::tempdir().unwrap();
        let repo = dir.path().join("models--org--tiny");
        for folder in ["blobs", "refs", "snapshots/abc", ".no_exist/abc"] {
            fs::create_dir_all(repo.join(folder)).unwrap();
        }
        fs::write(repo.join("blobs/0123"), b"weights").unwrap();
        fs::write(repo.join("refs/main"), b"abc").unwrap();
        symlink(
            "../../blobs/0123",
            repo.join("snapshots/abc/pytorch_model.bin"),
        )
        .unwrap();
        let tree = walked(dir.path());
        assert_eq!(
            paths(&tree),
            [
                "models--org--tiny/refs/main",
                "models--org--tiny/snapshots/abc/pytorch_model.bin"
            ]
        );
        assert!(tree.remarks.is_empty(), "{:?}", tree.remarks);
    }
}
