//! A source that several computations read, one after the other.

use super::scratch::size;
use ir::{Compute, Result, Tensor, TensorSpec};
use std::cell::RefCell;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Numbers the sources of this process.
static NEXT: AtomicU64 = AtomicU64::new(0);

/// Most bytes kept from one read to the next: a step of `f32`, with room for long rows.
const KEPT_MAX: usize = 4 << 20;

/// What a thread read last.
#[derive(Default)]
struct Kept {
    /// The source and the elements; `None` before the first read.
    what: Option<(u64, Range<u64>)>,
    bytes: Vec<u8>,
}

thread_local! {
    static KEPT: RefCell<Kept> = RefCell::default();
}

/// A tensor whose last range each thread keeps: when several outputs ask for the same range in
/// turn, it is read, and its blocks are dequantized, once.
pub(crate) struct ShareCompute {
    input: [Tensor; 1],
    id: u64,
}

impl ShareCompute {
    /// `input` as a tensor to be read by several.
    pub(crate) fn tensor(input: Tensor) -> Tensor {
        let name = input.name.clone();
        let id = NEXT.fetch_add(1, Ordering::Relaxed);
        Tensor::computed(name, Arc::new(Self { input: [input], id }))
    }
}

impl Compute for ShareCompute {
    fn spec(&self) -> &TensorSpec {
        let [input] = &self.input;
        &input.spec
    }

    fn inputs(&self) -> &[Tensor] {
        &self.input
    }

    fn label(&self) -> &'static str {
        "read once"
    }

    fn read(&self, elements: Range<u64>, out: &mut [u8]) -> Result<()> {
        let [input] = &self.input;
        let len = input.dtype().byte_len(elements.end - elements.start);
        if len.is_none_or(|len| size(len) != out.len()) || out.len() > KEPT_MAX {
            return input.read(elements, out);
        }
        let what = (self.id, elements.clone());
        let mut kept = KEPT.take();
        if kept.what.as_ref() != Some(&what) {
            kept.what = None;
            kept.bytes.resize(out.len(), 0);
            input.read(elements, &mut kept.bytes)?;
            kept.what = Some(what);
        }
        out.copy_from_slice(&kept.bytes);
        KEPT.set(kept);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ir::{DType, Fault};
    use std::sync::atomic::AtomicUsize;

    struct Counting(TensorSpec, AtomicUsize);

    impl Compute for Counting {
        fn spec(&self) -> &TensorSpec {
            &self.0
        }
        fn inputs(&self) -> &[Tensor] {
            &[]
        }
        fn label(&self) -> &'static str {
            "counting"
        }
        fn read(&self, elements: Range<u64>, out: &mut [u8]) -> Result<()> {
            self.1.fetch_add(1, Ordering::Relaxed);
            if elements.start == 90 {
                let what = "bad".to_owned();
                return Err(Fault::Invalid { what }.into());
            }
            out.fill(u8::try_from(elements.start).unwrap());
            Ok(())
        }
    }

    #[test]
    fn a_range_is_read_once_and_another_again() {
        let count = Arc::new(Counting(
            TensorSpec::new(DType::U8, [100]),
            AtomicUsize::new(0),
        ));
        let [a, b] = [(), ()].map(|()| {
            let inner: Arc<dyn Compute> = count.clone();
            ShareCompute::tensor(Tensor::computed("t", inner))
        });
        let mut out = [0; 10];
        for (tensor, start, reads) in [
            (&a, 0, 1),
            (&a, 0, 1),
            (&b, 0, 2),
            (&a, 0, 3),
            (&a, 10, 4),
            (&a, 10, 4),
            (&a, 90, 5),
            (&a, 90, 6),
            (&a, 10, 7),
        ] {
            let read = tensor.read(start..start + 10, &mut out);
            assert_eq!(read.is_err(), start == 90);
            if start != 90 {
                assert!(out.iter().all(|&byte| u64::from(byte) == start));
            }
            assert_eq!(count.1.load(Ordering::Relaxed), reads);
        }
    }
}
