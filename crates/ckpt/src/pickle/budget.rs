//! What the pickles of one input may use together.

use ir::{Fault, Limits, Result};

/// Counts what pickles use, against [`Limits`].
///
/// An object is 32 bytes and what it holds, a reference 4; with the defaults the records of a pickle
/// built to hurt stay below 200 MiB.
#[derive(Debug)]
pub(crate) struct Budget {
    limits: Limits,
    objects: u64,
    steps: u64,
    beside: u64,
    held: u64,
    references: u64,
    tolerant: bool,
}

/// References held by containers, for each object allowed.
pub(crate) const REFERENCES_AN_OBJECT: u64 = 4;
/// Places on the stack, marks, and slots of the memo, for each object allowed.
const SLOTS_AN_OBJECT: u64 = 2;

/// References that what stands in a place of its own costs beside its own: more than two items, what is
/// done to a call's result.
pub(crate) const APART: usize = 8;

/// Bytes a string takes in memory beside its own.
const HELD_COST: u64 = 32;

impl Budget {
    pub(crate) fn new(limits: &Limits) -> Self {
        Self {
            limits: limits.clone(),
            objects: 0,
            steps: 0,
            beside: 0,
            held: 0,
            references: 0,
            tolerant: false,
        }
    }

    /// For looking at a file: pickles on which unpicklers disagree are run on.
    pub(crate) fn tolerant(limits: &Limits) -> Self {
        Self {
            tolerant: true,
            ..Self::new(limits)
        }
    }

    /// Whether what only some unpicklers take is run on: frames that do not fit, odd numbers.
    pub(crate) fn is_tolerant(&self) -> bool {
        self.tolerant
    }

    pub(crate) fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Another pickle.
    pub(crate) fn begin(&mut self) {
        self.beside += 16;
    }

    /// Another call, which is judged with all that was done to its result.
    pub(crate) fn call(&mut self) {
        self.beside += 8;
    }

    /// What was done: opcodes, and what takes as long as some of them.
    pub(crate) fn work(&self) -> u64 {
        self.steps.saturating_add(self.beside)
    }

    /// Another opcode.
    pub(crate) fn step(&mut self) -> Result<()> {
        self.steps += 1;
        Limits::check("opcodes of the pickles", self.steps, self.limits.steps)
    }

    /// Another object.
    pub(crate) fn object(&mut self) -> Result<()> {
        self.objects += 1;
        Limits::check("objects of the pickles", self.objects, self.limits.objects)
    }

    /// So many more references in containers and calls.
    pub(crate) fn reference(&mut self, n: usize) -> Result<()> {
        self.references = self.references.saturating_add(n as u64);
        let limit = self.limits.objects.saturating_mul(REFERENCES_AN_OBJECT);
        Limits::check("references between objects", self.references, limit)
    }

    /// The size a stack, a list of marks or a memo has now.
    pub(crate) fn slots(&self, n: usize) -> Result<()> {
        let limit = self.limits.objects.saturating_mul(SLOTS_AN_OBJECT);
        Limits::check("values on the pickle's stack and memo", n as u64, limit)
    }

    /// So many more bytes held in memory.
    pub(crate) fn hold(&mut self, bytes: u64) -> Result<()> {
        self.held = self.held.saturating_add(bytes).saturating_add(HELD_COST);
        Limits::check("bytes of text to hold", self.held, self.limits.held_bytes)
    }

    /// Bytes that may still be held.
    pub(crate) fn holdable(&self) -> u64 {
        self.limits.held_bytes.saturating_sub(self.held)
    }

    /// An error when `bytes` more than may be held are asked for.
    pub(crate) fn over_held(&self, bytes: u64) -> Result<()> {
        Err(Fault::OverLimit {
            what: "bytes of text to hold",
            found: self.held.saturating_add(bytes),
            limit: self.limits.held_bytes,
        }
        .into())
    }
}
