//! Parts of an archive, handed over by the reader of checkpoints.

use super::{Looker, head, join};
use crate::detect;
use foreign::Kind;
use ir::{Input, Limits, Region};

/// The way ckpt's walk of an archive hands over what is no pickle.
pub(super) struct Part<'a> {
    pub(super) looker: &'a mut Looker,
    /// Where the archive lies.
    pub(super) outer: &'a str,
}

impl ckpt::Beside for Part<'_> {
    fn look(&mut self, place: &str, name: &str, bytes: &Region) -> bool {
        let Ok(head) = head(bytes) else { return false };
        // Pickles, archives of them and arrays are the caller's own.
        let kind = foreign::kind(name, &head);
        let closed = ir::sniff(&head).is_some_and(|it| it.closed);
        let theirs = kind == Kind::Other && !closed;
        let input = Input::from_region(name, bytes.clone());
        let others = || {
            let found = detect(&input).ok().filter(|found| found.points >= 50);
            found.is_some_and(|found| found.format.id != ckpt::FORMAT.id)
        };
        if theirs && !others() {
            return false;
        }
        let here = join(self.outer, place);
        self.looker.look(&input, &here)
    }

    fn unpack(&mut self, method: u16, packed: &Region, len: u64) -> Option<ckpt::Unpacked> {
        let looker = &mut *self.looker;
        // Not once more for each entry that follows.
        let spent = Limits::check("bytes unpacked of one file", looker.unpacked, looker.most);
        if let Err(error) = spent {
            return foreign::unpacks(method).then_some(Err(error));
        }
        let unpacked = foreign::unpack_entry(packed, method, len, &looker.cx.scratch)?;
        Some(unpacked.and_then(|(region, stopped)| {
            looker.unpacked = looker.unpacked.saturating_add(region.len());
            Limits::check("bytes unpacked of one file", looker.unpacked, looker.most)?;
            Ok((region, stopped))
        }))
    }
}
