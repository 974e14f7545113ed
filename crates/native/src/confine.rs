//! Giving up what this process does not need.

use std::fmt;
use std::path::PathBuf;

/// What a process keeps. Everything else of the file system, the running of programs, and TCP are
/// refused from then on, by the kernel, for this thread and those it starts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Keep {
    /// Files and folders to read, folders with all below them.
    pub read: Vec<PathBuf>,
    /// Folders to list, with all below them, without reading a file there.
    pub list: Vec<PathBuf>,
    /// Folders to make, write, replace and remove files in, and to read.
    pub write: Vec<PathBuf>,
    /// Folders for files without a name; files that are there could be written, none can be made.
    pub scratch: Vec<PathBuf>,
    /// Whether TCP connections may be made and taken.
    pub network: bool,
}

/// How far the kernel went along.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Confined {
    /// All of it is enforced.
    Fully,
    /// What this kernel knows of it is enforced: an older one does not refuse TCP, or cutting
    /// files.
    Partly,
    /// Nothing is enforced: no Landlock in this kernel, or it is switched off.
    No,
}

impl fmt::Display for Confined {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Fully => "enforced",
            Self::Partly => "partly enforced: this kernel's Landlock is older",
            Self::No => "not enforced: this kernel has no Landlock",
        })
    }
}

/// Confines this thread, and every thread and process it starts from now on, for good.
///
/// Paths that are not there are passed over: what is not there needs no right. Links are followed.
/// Where the kernel cannot do it, or not all of it, that is the answer and no error.
#[cfg(target_os = "linux")]
pub fn confine(keep: &Keep) -> Confined {
    linux::confine(keep).unwrap_or(Confined::No)
}

/// Confines this thread; not available here.
#[cfg(not(target_os = "linux"))]
pub fn confine(_: &Keep) -> Confined {
    Confined::No
}

#[cfg(target_os = "linux")]
mod linux {
    use super::{Confined, Keep};
    use landlock::{
        ABI, Access, AccessFs, AccessNet, BitFlags, PathBeneath, PathFd, Ruleset, RulesetAttr,
        RulesetCreated, RulesetCreatedAttr, RulesetError, RulesetStatus, Scope,
    };
    use std::path::PathBuf;

    /// The newest interface whose rights are asked for; an older kernel gives those it has.
    const ASKED: ABI = ABI::V6;

    pub(super) fn confine(keep: &Keep) -> Result<Confined, RulesetError> {
        let read = AccessFs::ReadFile | AccessFs::ReadDir;
        let tidy = AccessFs::WriteFile | AccessFs::Truncate | AccessFs::ReadFile;
        let write = read
            | tidy
            | AccessFs::MakeReg
            | AccessFs::MakeDir
            | AccessFs::RemoveFile
            | AccessFs::RemoveDir
            // A file without a name is linked into its folder, and a new one renamed over an old.
            | AccessFs::Refer;
        // Nothing is allowed of running programs, devices' commands, TCP, or what lies outside
        // this process's own domain.
        let rules = Ruleset::default().handle_access(AccessFs::from_all(ASKED))?;
        let rules = if keep.network {
            rules
        } else {
            rules.handle_access(AccessNet::from_all(ASKED))?
        };
        let rules = rules.scope(Scope::from_all(ASKED))?.create()?;
        let rules = allow(rules, &keep.read, read);
        let rules = allow(rules, &keep.list, AccessFs::ReadDir.into());
        let rules = allow(rules, &keep.write, write);
        let rules = allow(rules, &keep.scratch, tidy);
        Ok(match rules.restrict_self()?.ruleset {
            RulesetStatus::FullyEnforced => Confined::Fully,
            RulesetStatus::PartiallyEnforced => Confined::Partly,
            RulesetStatus::NotEnforced => Confined::No,
        })
    }

    fn allow(
        mut rules: RulesetCreated,
        paths: &[PathBuf],
        access: BitFlags<AccessFs>,
    ) -> RulesetCreated {
        for path in paths {
            let Ok(handle) = PathFd::new(path) else {
                continue;
            };
            let is_folder = std::fs::metadata(path).is_ok_and(|meta| meta.is_dir());
            // Rights of folders mean nothing on a file, and are refused there.
            let access = if is_folder {
                access
            } else {
                access & AccessFs::from_file(ASKED)
            };
            // A path that takes no rule, a pipe for one, stays refused where rights are asked for.
            let _ = (&mut rules).add_rule(PathBeneath::new(handle, access));
        }
        rules
    }
}

#[cfg(test)]
#[cfg(target_os = "linux")]
mod tests {
    use super::*;
    use std::fs::{self, File};
    use std::io::ErrorKind::PermissionDenied;
    use std::io::Write as _;
    use std::net::TcpListener;
    use std::process::Command;

    /// A thread is confined, not the test's process.
    fn confined<T: Send>(keep: &Keep, work: impl FnOnce(Confined) -> T + Send) -> T {
        std::thread::scope(|scope| scope.spawn(|| work(confine(keep))).join().unwrap())
    }

    #[test]
    fn what_is_not_kept_is_refused() {
        let root = std::env::temp_dir().join(format!("native-confine-{}", std::process::id()));
        let _ = fs::remove_dir_all(&root);
        let [input, output, other] = ["in", "out", "other"].map(|name| root.join(name));
        for folder in [&input, &output, &other] {
            fs::create_dir_all(folder).unwrap();
            fs::write(folder.join("file"), b"x").unwrap();
        }
        std::os::unix::fs::symlink(other.join("file"), input.join("link")).unwrap();
        let keep = Keep {
            read: vec![input.clone(), root.join("absent")],
            write: vec![output.clone()],
            ..Keep::default()
        };
        let state = confined(&keep, |state| {
            // What is kept works, in the way outputs are written.
            assert!(fs::read(input.join("file")).is_ok());
            assert_eq!(fs::read_dir(&input).unwrap().count(), 2);
            for replace in [false, true] {
                let draft = crate::Unpublished::new(&output.join("new")).unwrap();
                draft.file().write_all(b"y").unwrap();
                draft.file().set_len(9).unwrap();
                draft.publish(replace).unwrap();
            }
            crate::sync_folder(&output).unwrap();
            fs::create_dir(output.join("deep")).unwrap();
            fs::remove_dir(output.join("deep")).unwrap();
            if state == Confined::No {
                return state;
            }
            let refused = [
                File::create(other.join("stray")).map(drop),
                File::create(input.join("stray")).map(drop),
                File::create(root.join("stray")).map(drop),
                File::options()
                    .write(true)
                    .open(input.join("file"))
                    .map(drop),
                fs::remove_file(input.join("file")),
                fs::read(other.join("file")).map(drop),
                fs::read(input.join("link")).map(drop),
                fs::read_dir(&root).map(drop),
                fs::rename(output.join("new"), other.join("new")),
                Command::new("/bin/true").status().map(drop),
            ];
            for (n, result) in refused.into_iter().enumerate() {
                let kind = result
                    .expect_err(&format!("number {n} was let through"))
                    .kind();
                let wanted = [PermissionDenied, std::io::ErrorKind::CrossesDevices];
                assert!(wanted.contains(&kind), "number {n}: {kind:?}");
            }
            if state == Confined::Fully {
                let kind = TcpListener::bind("127.0.0.1:0").unwrap_err().kind();
                assert_eq!(kind, PermissionDenied);
            }
            state
        });
        if state == Confined::No {
            eprintln!("this kernel has no Landlock: refusals were not tested");
        }
        fs::remove_dir_all(&root).unwrap();
    }

    #[test]
    fn scratch_takes_files_without_a_name_only() {
        let root = std::env::temp_dir().join(format!("native-scratch-{}", std::process::id()));
        let _ = fs::remove_dir_all(&root);
        fs::create_dir_all(&root).unwrap();
        if !crate::holds_unnamed(&root) {
            eprintln!("the file system has no files without a name: not tested");
            fs::remove_dir_all(&root).unwrap();
            return;
        }
        let keep = Keep {
            scratch: vec![root.clone()],
            ..Keep::default()
        };
        confined(&keep, |state| {
            assert!(crate::holds_unnamed(&root));
            if state != Confined::No {
                let kind = File::create(root.join("stray")).unwrap_err().kind();
                assert_eq!(kind, PermissionDenied);
            }
        });
        fs::remove_dir_all(&root).unwrap();
    }
}
