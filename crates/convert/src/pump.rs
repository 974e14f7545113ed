//! The parallel pump.
//!
//! An output's pieces are cut into jobs: bytes to write, spans to copy inside the kernel, chunks
//! to compute. Workers take jobs in order from one counter, so the file is read and written nearly
//! front to back whatever the number of threads, and each holds one buffer, so memory is threads
//! times chunk and nothing else. Every job knows its place in the file: order of completion does
//! not matter, and the bytes are the same at any thread count.

use ir::{Body, Context, Error, Fault, OutFile, Piece, Pump, Region, Result, Tensor};
use native::KernelCopy;
use rayon::{ThreadPool, ThreadPoolBuilder};
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

mod abreast;

/// Bytes of one kernel copy: large enough that calls cost nothing, small enough that Ctrl-C is
/// heard at once.
const COPY_SPAN: u64 = 16 << 20;
/// A chunk that is computed is at most this long: the buffers of a cast stay in the cache.
const CHUNK_MAX: u64 = 1 << 20;
/// A chunk is at least this long, however little memory is allowed.
const CHUNK_MIN: u64 = 64 << 10;
/// Of the memory allowed, a worker's own buffer gets this share; the rest is for what computations
/// below it need.
const BUFFER_SHARE: u64 = 4;

/// Beyond this a thread more only costs its start.
const THREADS_MAX: usize = 256;

/// Pours pieces with a pool of threads inside a bound of memory.
#[derive(Debug)]
pub struct ParallelPump {
    pool: ThreadPool,
    chunk: u64,
}

/// A job: what part of which piece.
#[derive(Debug)]
enum Job {
    Bytes,
    /// Copy this span of the region.
    Copy(Region, Range<u64>),
    /// Compute these elements.
    Elements(Range<u64>),
}

#[derive(Debug)]
struct Task {
    piece: usize,
    job: Job,
}

impl ParallelPump {
    /// A pump of `threads` workers (0: as many as there are cores; never more than 256) whose
    /// buffers stay within `memory` bytes.
    pub fn new(threads: usize, memory: u64) -> Result<Self> {
        let pool = ThreadPoolBuilder::new()
            .num_threads(threads.min(THREADS_MAX))
            .thread_name(|i| format!("pump-{i}"))
            .build()
            .map_err(|error| Fault::Usage {
                what: format!("cannot start threads: {error}"),
            })?;
        let workers = pool.current_num_threads() as u64;
        let chunk = (memory / workers.max(1) / BUFFER_SHARE).clamp(CHUNK_MIN, CHUNK_MAX);
        Ok(Self { pool, chunk })
    }

    /// Runs `work` for every index below `count`, in parallel, taking indices in order; each
    /// worker has a state of its own. The error of the lowest index wins, so that a failure is
    /// the same at any thread count as far as scheduling allows.
    pub(crate) fn for_each<S: Default>(
        &self,
        count: usize,
        work: impl Fn(usize, &mut S) -> Result<()> + Sync,
    ) -> Result<()> {
        self.for_each_by(self.pool.current_num_threads(), count, work)
    }

    /// The same with at most so many of the workers.
    fn for_each_by<S: Default>(
        &self,
        workers: usize,
        count: usize,
        work: impl Fn(usize, &mut S) -> Result<()> + Sync,
    ) -> Result<()> {
        let next = AtomicUsize::new(0);
        let stop = AtomicBool::new(false);
        let failed: Mutex<Option<(usize, Error)>> = Mutex::new(None);
        self.pool.broadcast(|worker| {
            if worker.index() >= workers {
                return;
            }
            let mut state = S::default();
            while !stop.load(Ordering::Relaxed) {
                let index = next.fetch_add(1, Ordering::Relaxed);
                if index >= count {
                    break;
                }
                if let Err(error) = work(index, &mut state) {
                    stop.store(true, Ordering::Relaxed);
                    let mut failed = failed.lock().unwrap_or_else(PoisonError::into_inner);
                    if failed.as_ref().is_none_or(|(first, _)| index < *first) {
                        *failed = Some((index, error));
                    }
                }
            }
        });
        match failed.into_inner().unwrap_or_else(PoisonError::into_inner) {
            Some((_, error)) => Err(error),
            None => Ok(()),
        }
    }

    /// Element ranges of a tensor, a chunk each.
    pub(crate) fn chunks(&self, tensor: &Tensor) -> impl Iterator<Item = Range<u64>> + use<> {
        let (per, bytes) = tensor.dtype().block();
        let elements = tensor.spec.elements().unwrap_or(0);
        let step = (self.chunk / u64::from(bytes.max(1)))
            .max(1)
            .saturating_mul(u64::from(per));
        (0..elements.div_ceil(step)).map(move |i| i * step..elements.min((i + 1) * step))
    }

    fn tasks(&self, pieces: &[Piece<'_>]) -> Vec<Task> {
        let mut tasks = Vec::new();
        for (index, piece) in pieces.iter().enumerate() {
            let mut add = |job| tasks.push(Task { piece: index, job });
            match &piece.body {
                Body::Bytes(_) => add(Job::Bytes),
                Body::Tensor(tensor) => match tensor.as_plain().filter(|region| {
                    // A sum wants the bytes here anyway.
                    !piece.crc && region.file().is_some()
                }) {
                    Some(region) => {
                        let len = region.len();
                        for i in 0..len.div_ceil(COPY_SPAN) {
                            let span = i * COPY_SPAN..len.min((i + 1) * COPY_SPAN);
                            add(Job::Copy(region.clone(), span));
                        }
                    }
                    None => self
                        .chunks(tensor)
                        .for_each(|range| add(Job::Elements(range))),
                },
            }
        }
        tasks
    }
}

impl Pump for ParallelPump {
    fn pour(&self, file: &OutFile, pieces: &[Piece<'_>], cx: &Context) -> Result<Vec<u32>> {
        let tasks = self.tasks(pieces);
        // Copies inside the kernel take turns on the file's lock: a second worker only spins.
        let copies_only = file.file().is_some()
            && (tasks.iter()).all(|task| !matches!(task.job, Job::Elements(_)));
        let workers = if copies_only {
            1
        } else {
            self.pool.current_num_threads()
        };
        let sums: Mutex<Vec<(usize, crc32fast::Hasher)>> = Mutex::new(Vec::new());
        self.for_each_by(workers, tasks.len(), |index, buffer: &mut Vec<u8>| {
            cx.cancel.check()?;
            let task = &tasks[index];
            let piece = &pieces[task.piece];
            let (offset, len) = match (&piece.body, &task.job) {
                (Body::Bytes(bytes), _) => {
                    file.write_at(piece.offset, bytes)?;
                    if piece.crc {
                        keep_sum(&sums, index, bytes);
                    }
                    (piece.offset, bytes.len() as u64)
                }
                (Body::Tensor(_), Job::Copy(region, span)) => {
                    let offset = piece.offset.saturating_add(span.start);
                    copy(region, span.clone(), file, offset, self.chunk, buffer)?;
                    (offset, span.end - span.start)
                }
                (Body::Tensor(tensor), Job::Elements(range)) => {
                    let dtype = tensor.dtype();
                    let skipped = dtype.byte_len(range.start).unwrap_or(0);
                    let len = dtype.byte_len(range.end - range.start).unwrap_or(0);
                    resize(buffer, len)?;
                    tensor.read(range.clone(), buffer)?;
                    if piece.crc {
                        keep_sum(&sums, index, buffer);
                    }
                    let offset = piece.offset.saturating_add(skipped);
                    file.write_at(offset, buffer)?;
                    (offset, len)
                }
                (Body::Tensor(_), Job::Bytes) => (piece.offset, 0),
            };
            write_back(file, offset, len);
            cx.progress.advance(len);
            Ok(())
        })?;
        Ok(combine(sums, &tasks, pieces.len()))
    }

    fn pour_all(&self, files: &[(&OutFile, &[Piece<'_>])], cx: &Context) -> Result<()> {
        if let [(file, pieces)] = files {
            return self.pour(file, pieces, cx).map(drop);
        }
        let (together, apart) = abreast::split(files, self.chunk);
        self.for_each(together.len(), |index, buffer: &mut Vec<u8>| {
            cx.cancel.check()?;
            together[index].run(files, buffer, cx)
        })?;
        for ((file, _), pieces) in files.iter().zip(&apart) {
            self.pour(file, pieces, cx)?;
        }
        Ok(())
    }
}

/// Lets the kernel begin to write what is final.
fn write_back(file: &OutFile, offset: u64, len: u64) {
    if let Some(file) = file.file() {
        native::start_writeback(file, offset, len);
    }
}

fn keep_sum(sums: &Mutex<Vec<(usize, crc32fast::Hasher)>>, index: usize, bytes: &[u8]) {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(bytes);
    sums.lock()
        .unwrap_or_else(PoisonError::into_inner)
        .push((index, hasher));
}

/// The sum of each piece from the sums of its chunks, put together in the order of the bytes.
fn combine(
    sums: Mutex<Vec<(usize, crc32fast::Hasher)>>,
    tasks: &[Task],
    pieces: usize,
) -> Vec<u32> {
    let mut sums = sums.into_inner().unwrap_or_else(PoisonError::into_inner);
    sums.sort_by_key(|(index, _)| *index);
    let mut whole = vec![None::<crc32fast::Hasher>; pieces];
    for (index, part) in sums {
        match &mut whole[tasks[index].piece] {
            Some(hasher) => hasher.combine(&part),
            none => *none = Some(part),
        }
    }
    whole
        .into_iter()
        .map(|hasher| hasher.map_or(0, crc32fast::Hasher::finalize))
        .collect()
}

fn resize(buffer: &mut Vec<u8>, len: u64) -> Result<()> {
    let len = usize::try_from(len).map_err(|_| Fault::OverLimit {
        what: "bytes of a chunk",
        found: len,
        limit: usize::MAX as u64,
    })?;
    buffer.resize(len, 0);
    Ok(())
}

/// Copies a span of a file: inside the kernel, or through the buffer where the kernel cannot.
fn copy(
    region: &Region,
    span: Range<u64>,
    file: &OutFile,
    offset: u64,
    chunk: u64,
    buffer: &mut Vec<u8>,
) -> Result<()> {
    let len = span.end - span.start;
    let mut done = 0;
    if let (Some((source, start)), Some(target)) = (region.file(), file.file()) {
        let from = start.saturating_add(span.start);
        match native::copy_range(source, from, target, offset, len)
            .map_err(|source| Error::io("write", file.path(), source))?
        {
            KernelCopy::Done => return Ok(()),
            // A read at that place says what is missing, in the source's words.
            KernelCopy::SourceEnded(n) | KernelCopy::Unsupported(n) => done = n,
        }
    }
    while done < len {
        let n = chunk.min(len - done);
        resize(buffer, n)?;
        region.read_at(span.start + done, buffer)?;
        file.write_at(offset.saturating_add(done), buffer)?;
        done += n;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use ir::{DType, Output, PatternCompute, SerialPump, TensorSpec, View};
    use std::path::PathBuf;

    fn folder(name: &str) -> PathBuf {
        let path = std::env::temp_dir().join(format!("convert-pump-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir_all(&path).unwrap();
        path
    }

    /// The parallel pump gives what the serial one gives, sums included, at any thread count.
    #[test]
    fn equals_the_serial_pump() {
        let dir = folder("equal");
        let source = dir.join("source");
        let data: Vec<u8> = (0..300_000u64).map(PatternCompute::byte).collect();
        std::fs::write(&source, &data).unwrap();
        let region = Region::open(&source).unwrap();
        let stored = |name: &str, offset, len| {
            let view = View::contiguous(region.slice(offset, len).unwrap());
            Tensor::stored(name, TensorSpec::new(DType::U8, [len]), view)
        };
        let tensors = [
            stored("a", 13, 200_001),
            PatternCompute::tensor("b", DType::F32, [3, 100_000]),
            stored("c", 299_999, 1),
            stored("d", 0, 0),
        ];
        let mut pieces = Vec::new();
        let mut offset = 7;
        for (i, tensor) in tensors.iter().enumerate() {
            pieces.push(Piece {
                offset,
                body: Body::Tensor(tensor),
                crc: i % 2 == 1,
            });
            offset += tensor.byte_len() + 5;
        }
        pieces.push(Piece {
            offset: 0,
            body: Body::Bytes("header".into()),
            crc: true,
        });
        let run = |pump: &dyn Pump, name: &str| {
            let mut out = Output::new(&dir.join(name), false);
            let n = out.main_file().unwrap();
            out.get(n).unwrap().set_len(offset).unwrap();
            let sums = pump
                .pour(out.get(n).unwrap(), &pieces, &Context::default())
                .unwrap();
            out.commit().unwrap();
            (sums, std::fs::read(dir.join(name)).unwrap())
        };
        let wanted = run(&SerialPump, "serial");
        for threads in [1, 2, 5] {
            let pump = ParallelPump::new(threads, 1 << 20).unwrap();
            assert!(run(&pump, &format!("parallel-{threads}")) == wanted);
        }
        std::fs::remove_dir_all(&dir).unwrap();
    }

    #[test]
    fn the_first_error_wins_and_stops() {
        let pump = ParallelPump::new(3, 1 << 20).unwrap();
        let ran = AtomicUsize::new(0);
        let error = pump
            .for_each(1_000_000, |index, (): &mut ()| {
                ran.fetch_add(1, Ordering::Relaxed);
                if index == 5 {
                    return Err(Fault::Invalid {
                        what: format!("job {index}"),
                    }
                    .into());
                }
                Ok(())
            })
            .unwrap_err();
        assert_eq!(error.message(), "job 5");
        assert!(ran.load(Ordering::Relaxed) < 1_000_000);
    }
}
