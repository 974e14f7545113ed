//! Real faults: files cut while they are read, full disks, reads that fail, signals, kills.
//!
//! What is promised: the exit code and a message that fit, the old output as it was, nothing beside
//! it. Each test makes its fault with what Linux has, and says so where the machine does not let it.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stderr)] // tests

use rustix::process::{Pid, Signal, kill_process};
use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

const MIB: u64 = 1 << 20;
const OLD: &[u8] = b"the old output";

fn weightbridge(args: &[&dyn AsRef<std::ffi::OsStr>]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_weightbridge"));
    command.args(args.iter().map(AsRef::as_ref));
    command.stdin(Stdio::null());
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// A safetensors file of zeros with eight tensors of F32, which takes no room on disk.
fn sparse(path: &Path, bytes: u64) {
    let each = bytes / 8;
    let tensors = (0..8u64).map(|n| {
        let (start, end) = (n * each, (n + 1) * each);
        let elements = each / 4;
        format!(r#""t{n}":{{"dtype":"F32","shape":[{elements}],"data_offsets":[{start},{end}]}}"#)
    });
    let header = format!("{{{}}}", tensors.collect::<Vec<_>>().join(","));
    let mut file = File::create(path).unwrap();
    file.write_all(&(header.len() as u64).to_le_bytes())
        .unwrap();
    file.write_all(header.as_bytes()).unwrap();
    file.set_len(8 + header.len() as u64 + 8 * each).unwrap();
}

/// What is in a folder, hidden files too.
fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap();
    let mut names: Vec<_> = entries
        .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

/// How many bytes a process has written so far, by files and by copies inside the kernel.
fn written(child: &Child) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/{}/io", child.id())).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("wchar: "))?;
    line.parse().ok()
}

/// Waits until a process is in the middle of its output. False if it ended before.
fn under_way(child: &mut Child, bytes: u64) -> bool {
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(60) {
        if child.try_wait().unwrap().is_some() {
            return false;
        }
        if written(child).is_some_and(|n| n >= bytes) {
            return true;
        }
        std::thread::sleep(Duration::from_micros(200));
    }
    panic!("nothing was written in a minute");
}

/// A cast and a plain copy, and how each is asked for.
const WAYS: [&[&str]; 2] = [&[], &["--dtype", "bf16"]];

#[test]
fn a_file_cut_while_it_is_read() {
    let mut caught = 0;
    for way in WAYS {
        for target in ["out.safetensors", "out.pt", "out.gguf"] {
            let dir = tempfile::tempdir().unwrap();
            let input = dir.path().join("in.safetensors");
            let home = dir.path().join("home");
            let out = home.join(target);
            fs::create_dir(&home).unwrap();
            fs::write(&out, OLD).unwrap();
            sparse(&input, 512 * MIB);
            let mut command = weightbridge(&[&"convert", &input, &out, &"--overwrite"]);
            command
                .args(["--as", "container", "--threads", "2"])
                .args(way);
            let mut child = command.spawn().unwrap();
            let in_time = under_way(&mut child, MIB);
            File::options()
                .write(true)
                .open(&input)
                .unwrap()
                .set_len(MIB)
                .unwrap();
            let done = child.wait_with_output().unwrap();
            assert!(done.status.signal().is_none(), "{:?}", done.status);
            if done.status.success() {
                continue; // it was faster
            }
            caught += u32::from(in_time);
            assert_eq!(done.status.code(), Some(3), "{}", stderr(&done));
            let told = stderr(&done);
            assert!(
                told.contains("in.safetensors") && told.contains("the file ends at byte"),
                "{told}"
            );
            assert_eq!(names(&home), [target]);
            assert_eq!(fs::read(&out).unwrap(), OLD);
        }
    }
    assert!(caught > 0, "the program was always faster than the fault");
}

#[test]
fn a_source_replaced_while_it_is_read() {
    let dir = tempfile::tempdir().unwrap();
    let [input, other, out, wanted] = [
        "in.safetensors",
        "other",
        "out.safetensors",
        "wanted.safetensors",
    ]
    .map(|name| dir.path().join(name));
    sparse(&input, 64 * MIB);
    let calm = weightbridge(&[&"convert", &input, &wanted, &"--dtype", &"bf16"])
        .output()
        .unwrap();
    assert!(calm.status.success(), "{}", stderr(&calm));
    fs::write(&other, b"something else").unwrap();
    let mut child = weightbridge(&[
        &"convert",
        &input,
        &out,
        &"--dtype",
        &"bf16",
        &"--threads",
        &"1",
    ])
    .spawn()
    .unwrap();
    under_way(&mut child, MIB);
    fs::rename(&other, &input).unwrap();
    // What was opened is what is read, to the end.
    let done = child.wait_with_output().unwrap();
    assert_eq!(done.status.code(), Some(0), "{}", stderr(&done));
    assert!(fs::read(&out).unwrap() == fs::read(&wanted).unwrap());
}

#[test]
fn an_output_folder_that_goes_away() {
    let mut caught = 0;
    for way in WAYS {
        let dir = tempfile::tempdir().unwrap();
        let input = dir.path().join("in.safetensors");
        let home = dir.path().join("home");
        fs::create_dir(&home).unwrap();
        sparse(&input, 128 * MIB);
        let mut command = weightbridge(&[&"convert", &input, &home.join("out.safetensors")]);
        let mut child = command.args(["--threads", "1"]).args(way).spawn().unwrap();
        let in_time = under_way(&mut child, MIB);
        if !in_time || fs::remove_dir(&home).is_err() {
            // It has a name where files without one cannot be had, and then the folder stays.
            child.wait().unwrap();
            continue;
        }
        caught += 1;
        let done = child.wait_with_output().unwrap();
        assert_eq!(done.status.code(), Some(4), "{}", stderr(&done));
        assert!(
            stderr(&done).contains("out.safetensors"),
            "{}",
            stderr(&done)
        );
        assert!(!home.exists());
    }
    assert!(caught > 0, "no folder could be taken away in time");
}

/// The conversions a full disk is tried with: input, output, options.
fn fills(dir: &Path) -> Vec<(PathBuf, &'static str, &'static [&'static str])> {
    let input = dir.join("in.safetensors");
    sparse(&input, 24 * MIB);
    vec![
        (input.clone(), "out.safetensors", &[]),
        (input.clone(), "out.safetensors", &["--dtype", "bf16"]),
        (input.clone(), "out.pt", &[]),
        (input.clone(), "out.gguf", &["--as", "container"]),
        (
            input.clone(),
            "out.gguf",
            &["--as", "container", "--quantize", "Q8_0"],
        ),
        (input, "out.onnx", &["--as", "container", "--external-data"]),
    ]
}

#[test]
fn a_limit_on_file_sizes() {
    let dir = tempfile::tempdir().unwrap();
    for (input, name, options) in fills(dir.path()) {
        let home = dir.path().join("home");
        fs::create_dir(&home).unwrap();
        let out = home.join(name);
        fs::write(&out, OLD).unwrap();
        // 2048 blocks of 512 bytes, or of 1024.
        let done = Command::new("sh")
            .args(["-c", "ulimit -f 2048 && exec \"$@\"", "sh"])
            .arg(env!("CARGO_BIN_EXE_weightbridge"))
            .arg("convert")
            .args([&input, &out])
            .arg("--overwrite")
            .args(options)
            .output()
            .unwrap();
        assert_eq!(
            done.status.code(),
            Some(4),
            "{name} {options:?}: {:?} {}",
            done.status,
            stderr(&done)
        );
        assert!(
            stderr(&done).contains("File too large"),
            "{}",
            stderr(&done)
        );
        assert_eq!(names(&home), [name]);
        assert_eq!(fs::read(&out).unwrap(), OLD);
        fs::remove_dir_all(&home).unwrap();
    }
}

/// Mounts a small file system where nobody else sees it, runs the program inside, and tells what
/// is left: the last lines of stdout are the exit code and the names.
const IN_TMPFS: &str = r#"
mount -t tmpfs -o size=4m tmpfs "$1" || exit 77
home=$1 out=$2; shift 2
printf 'the old output' > "$out"
"$@"
echo "code $?"
ls -A "$home" | sed 's/^/left /'
printf 'old %s\n' "$(cat "$out")"
"#;

#[test]
fn a_full_disk() {
    let dir = tempfile::tempdir().unwrap();
    let home = dir.path().join("disk");
    fs::create_dir(&home).unwrap();
    for (input, name, options) in fills(dir.path()) {
        let out = home.join(name);
        let done = Command::new("unshare")
            .args(["-m", "sh", "-c", IN_TMPFS, "sh"])
            .args([&home, &out])
            .arg(env!("CARGO_BIN_EXE_weightbridge"))
            .arg("convert")
            .args([&input, &out])
            .arg("--overwrite")
            .args(options)
            .output();
        let done = match done {
            Ok(done) if done.status.success() => done,
            other => {
                // Needs root, or leave to make namespaces.
                eprintln!("skipped: no private mount here: {other:?}");
                return;
            }
        };
        let told = String::from_utf8_lossy(&done.stdout).into_owned();
        assert_eq!(
            told,
            format!("code 4\nleft {name}\nold the old output\n"),
            "{options:?} {}",
            stderr(&done)
        );
        assert!(
            stderr(&done).contains("No space left on device"),
            "{}",
            stderr(&done)
        );
    }
    assert_eq!(
        names(&home),
        Vec::<String>::new(),
        "the mount was not private"
    );
}

#[test]
fn reads_that_fail() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("out.safetensors");
    // Nothing is mapped at address 0: a read there is EIO.
    for command in ["convert", "inspect"] {
        let mut command = weightbridge(&[&command, &"-"]);
        if command
            .get_args()
            .next()
            .is_some_and(|arg| arg == "convert")
        {
            command.arg(&out);
        }
        command.stdin(File::open("/proc/self/mem").unwrap());
        let done = command.output().unwrap();
        assert_eq!(done.status.code(), Some(4), "{}", stderr(&done));
        assert!(
            stderr(&done).contains("Input/output error"),
            "{}",
            stderr(&done)
        );
    }
    let mut command = weightbridge(&[&"inspect", &"-"]);
    let done = command
        .stdin(File::open(dir.path()).unwrap())
        .output()
        .unwrap();
    assert_eq!(done.status.code(), Some(4), "{}", stderr(&done));
    // A file of 4096 bytes, says the kernel, whose reads it refuses.
    let odd = Path::new("/sys/class/net/lo/speed");
    let mut byte = [0];
    match File::open(odd).and_then(|file| file.read_at(&mut byte, 0)) {
        Err(_) if odd.exists() => {
            for command in ["inspect", "scan"] {
                let done = weightbridge(&[&command, &odd]).output().unwrap();
                assert_eq!(done.status.code(), Some(4), "{command}: {}", stderr(&done));
            }
            let done = weightbridge(&[&"convert", &odd, &out]).output().unwrap();
            assert_eq!(done.status.code(), Some(4), "{}", stderr(&done));
            assert!(
                stderr(&done).contains("speed: cannot read"),
                "{}",
                stderr(&done)
            );
        }
        other => eprintln!("skipped: {} can be read here: {other:?}", odd.display()),
    }
    assert_eq!(names(dir.path()), Vec::<String>::new());
}

/// Moments spread over a run: after so many bytes were written, and at once.
fn moments(total: u64, count: u64) -> impl Iterator<Item = u64> {
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    (0..count).map(move |n| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        if n % 8 == 0 { 0 } else { state % total }
    })
}

/// Ends a conversion over an old output at a moment, and answers how it ended.
fn interrupted(home: &Path, input: &Path, signal: Signal, moment: u64, options: &[&str]) -> Output {
    let out = home.join("out.safetensors");
    fs::write(&out, OLD).unwrap();
    let mut command = weightbridge(&[&"convert", &input, &out, &"--overwrite", &"--threads", &"2"]);
    let mut child = command.args(options).spawn().unwrap();
    // One that has ended has no number any more.
    let there = moment == 0 || under_way(&mut child, moment);
    if let Some(pid) = i32::try_from(child.id())
        .ok()
        .and_then(Pid::from_raw)
        .filter(|_| there)
    {
        kill_process(pid, signal).unwrap();
    }
    child.wait_with_output().unwrap()
}

#[test]
fn signals_at_any_moment() {
    let dir = tempfile::tempdir().unwrap();
    let input = dir.path().join("in.safetensors");
    let home = dir.path().join("home");
    fs::create_dir(&home).unwrap();
    sparse(&input, 32 * MIB);
    let mut stopped = 0;
    for (n, moment) in moments(17 * MIB, 60).enumerate() {
        let signal = [Signal::INT, Signal::TERM][n % 2];
        let way: &[&str] = WAYS[n / 2 % 2];
        let done = interrupted(&home, &input, signal, moment, way);
        let left = fs::read(home.join("out.safetensors")).unwrap();
        match done.status.code() {
            Some(130) => {
                stopped += 1;
                assert!(
                    stderr(&done).contains("stopped; no output was left behind"),
                    "{}",
                    stderr(&done)
                );
                assert!(left == OLD);
            }
            // It came too late.
            Some(0) => assert!(left.len() as u64 > 16 * MIB),
            Some(other) => panic!("exit {other}: {}", stderr(&done)),
            // It came before the program could listen.
            None => {
                assert_eq!(done.status.signal(), Some(signal.as_raw()));
                assert!(left == OLD);
            }
        }
        assert_eq!(names(&home), ["out.safetensors"]);
    }
    assert!(stopped > 10, "only {stopped} signals were heard");
}

/// Also while a key is still to come, which is before any input is opened.
#[test]
fn signals_before_anything_was_begun() {
    let dir = tempfile::tempdir().unwrap();
    let model = dir.path().join("model");
    fs::write(&model, "m").unwrap();
    for signal in [Signal::INT, Signal::TERM] {
        let mut command = weightbridge(&[&"sign", &model, &"--key", &"-"]);
        let mut child = command.stdin(Stdio::piped()).spawn().unwrap();
        let id = i32::try_from(child.id()).unwrap();
        let waits = || {
            let place = fs::read_to_string(format!("/proc/{id}/syscall"));
            place.is_ok_and(|place| place.starts_with("0 0x0 "))
        };
        let start = Instant::now();
        while !waits() && start.elapsed() < Duration::from_secs(2) {
            std::thread::sleep(Duration::from_millis(5));
        }
        kill_process(Pid::from_raw(id).unwrap(), signal).unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(130), "{signal:?}");
    }
    assert_eq!(names(dir.path()), ["model"]);
}

#[test]
fn a_kill_at_any_moment() {
    let dir = tempfile::tempdir().unwrap();
    let input = dir.path().join("in.safetensors");
    let home = dir.path().join("home");
    fs::create_dir(&home).unwrap();
    sparse(&input, 32 * MIB);
    let mut killed = 0;
    for (n, moment) in moments(17 * MIB, 60).enumerate() {
        let done = interrupted(&home, &input, Signal::KILL, moment, WAYS[n % 2]);
        let left = fs::read(home.join("out.safetensors")).unwrap();
        if done.status.signal().is_some() {
            killed += 1;
            assert!(left == OLD || left.len() as u64 > 16 * MIB);
        }
        // Between its two last steps, naming the file and putting it in the old one's place, a
        // kill can leave the whole file under a hidden name; nothing else, ever.
        let beside: Vec<_> = names(&home)
            .into_iter()
            .filter(|name| name != "out.safetensors")
            .collect();
        for name in &beside {
            assert!(
                name.starts_with(".out.safetensors.") && name.rsplit('.').next() == Some("part"),
                "{name}"
            );
            fs::remove_file(home.join(name)).unwrap();
        }
    }
    assert!(killed > 10, "only {killed} runs were killed in time");
}

/// A change in place that was killed is completed by the next, or was never begun.
#[test]
fn a_kill_while_a_file_is_changed_in_place() {
    let dir = tempfile::tempdir().unwrap();
    let [start, file] = ["start.gguf", "file.gguf"].map(|name| dir.path().join(name));
    let input = dir.path().join("in.safetensors");
    sparse(&input, MIB);
    let set = |value: &str| format!("general.name=str:{value}");
    let mut make = weightbridge(&[&"convert", &input, &start, &"--as", &"container"]);
    let made = make.args(["--set", &set("aaaa")]).output().unwrap();
    assert!(made.status.success(), "{}", stderr(&made));
    let old = fs::read(&start).unwrap();
    fs::copy(&start, &file).unwrap();
    let edit =
        |value: &str| weightbridge(&[&"convert", &file, &"--in-place", &"--set", &set(value)]);
    let calm = edit("bbbb").output().unwrap();
    assert!(calm.status.success(), "{}", stderr(&calm));
    let new = fs::read(&file).unwrap();
    assert!(new != old);
    let mut between = 0;
    for n in 0..40u64 {
        fs::copy(&start, &file).unwrap();
        let mut child = edit("bbbb").spawn().unwrap();
        std::thread::sleep(Duration::from_micros(n * 700));
        child.kill().unwrap();
        child.wait().unwrap();
        between += u32::from(names(dir.path()).len() > 3);
        // The same wish again finds it as it was, or completes it.
        let done = edit("bbbb").output().unwrap();
        assert!(done.status.success(), "{}", stderr(&done));
        assert!(fs::read(&file).unwrap() == new);
        assert_eq!(
            names(dir.path()),
            ["file.gguf", "in.safetensors", "start.gguf"]
        );
    }
    eprintln!("{between} of 40 kills came while the journal was there");
}

#[test]
fn an_answer_that_nobody_gets_is_none() {
    let dir = tempfile::tempdir().unwrap();
    let input = dir.path().join("a.safetensors");
    sparse(&input, 64);
    for arguments in [
        &["scan", "--json"][..],
        &["scan"],
        &["inspect", "--json"],
        &["inspect"],
    ] {
        let full = File::options().write(true).open("/dev/full").unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_weightbridge"));
        let done = command
            .args(arguments)
            .arg(&input)
            .stdout(full)
            .output()
            .unwrap();
        let told = stderr(&done);
        assert_eq!(done.status.code(), Some(4), "{arguments:?} {told}");
        assert!(
            told.contains("standard output") && told.contains("No space left"),
            "{told}"
        );
    }
}

#[test]
fn a_reader_that_leaves_is_no_error() {
    let dir = tempfile::tempdir().unwrap();
    let input = dir.path().join("a.safetensors");
    sparse(&input, 64);
    fs::write(dir.path().join("b.safetensors"), b"no header").unwrap();
    for (arguments, code) in [("scan", 3), ("inspect", 3)] {
        let mut shell = Command::new("sh");
        // Both streams go to a pipe that is closed before anything is written.
        let script = "(sleep 0.2; \"$@\"; echo $? > code) 2>&1 | true; sleep 0.6; cat code";
        let shell = shell.args(["-c", script, "sh"]).current_dir(dir.path());
        let shell = shell.arg(env!("CARGO_BIN_EXE_weightbridge"));
        let done = shell.args([arguments, "b.safetensors"]).output().unwrap();
        let told = String::from_utf8_lossy(&done.stdout).into_owned();
        assert_eq!(
            told.trim(),
            code.to_string(),
            "{arguments} {}",
            stderr(&done)
        );
    }
}

#[test]
fn a_log_that_cannot_be_written_leaves_the_old_one() {
    let dir = tempfile::tempdir().unwrap();
    let (input, home) = (dir.path().join("a.safetensors"), dir.path().join("logs"));
    sparse(&input, 64);
    fs::create_dir(&home).unwrap();
    let log = home.join("scan.sarif");
    let scan = |limit: &str| {
        let mut shell = Command::new("sh");
        shell.args(["-c", "ulimit -f $1; shift; exec \"$@\"", "sh", limit]);
        let shell = shell
            .arg(env!("CARGO_BIN_EXE_weightbridge"))
            .arg("scan")
            .arg(&input);
        shell.arg("--sarif").arg(&log).output().unwrap()
    };
    assert_eq!(scan("unlimited").status.code(), Some(0));
    let old = fs::read(&log).unwrap();
    assert!(old.len() > 1024);
    let done = scan("1");
    assert_eq!(done.status.code(), Some(4), "{}", stderr(&done));
    assert!(
        stderr(&done).contains("File too large"),
        "{}",
        stderr(&done)
    );
    assert_eq!(names(&home), ["scan.sarif"]);
    assert_eq!(fs::read(&log).unwrap(), old);
}
