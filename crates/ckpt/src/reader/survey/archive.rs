//! Archives: every entry, whatever its name says it is.

use super::{Expected, Surveyor, UNPACKED, does_something, join};
use crate::container::{self, is_pickle_start, members, zip};
use crate::pickle;
use ir::{AnomalyKind, Object, ObjectId, Objects, Region, Text};
use std::collections::HashSet;

/// Bytes of one text kept.
const TEXT: usize = 1 << 20;
/// Bytes of all texts kept.
const TEXTS: usize = 16 << 20;

/// Bytes of a numpy header.
const HEADER: usize = 1 << 20;

/// What an entry's name promises.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Promise {
    /// A pickle that some loader of PyTorch runs.
    Pickle,
    /// TorchScript code.
    Code,
    /// Something else.
    Other,
}

fn promise(name: &str) -> Promise {
    let base = name.rsplit('/').next().unwrap_or(name);
    let known = [
        "data.pkl",
        "constants.pkl",
        "bytecode.pkl",
        "attributes.pkl",
        "traced_inputs.pkl",
    ];
    let debug = base.ends_with(".debug_pkl");
    if known.contains(&base) || debug {
        Promise::Pickle
    } else if base.to_ascii_lowercase().ends_with(".py") {
        Promise::Code
    } else {
        Promise::Other
    }
}

impl Surveyor<'_> {
    pub(super) fn zip(&mut self, region: &Region, place: &str) {
        let archive = match zip::Archive::read(region, self.budget.limits()) {
            Ok(archive) => archive,
            Err(error) => {
                self.error(error);
                // Without its directory the archive may still be read by others.
                return self.rest(region, 0, place, false);
            }
        };
        for mut anomaly in archive.anomalies(self.budget.limits()) {
            anomaly.place = join(place, &anomaly.place);
            self.out.anomalies.push(anomaly);
        }
        let outer = self.plain;
        self.plain = (0..archive.len())
            .all(|entry| promise(&archive.name(entry).to_ascii_lowercase()) != Promise::Pickle);
        // First what names storages, then all the rest but those.
        let mut storages = HashSet::new();
        let (pickles, others): (Vec<usize>, Vec<usize>) = (0..archive.len()).partition(|&entry| {
            promise(&archive.name(entry).to_ascii_lowercase()) == Promise::Pickle
        });
        for entry in pickles {
            let here = join(place, &archive.place(entry));
            let name = archive.name(entry);
            if promise(&name) != Promise::Pickle {
                let what = "a pickle under a name that only differs in letter case";
                self.odd(AnomalyKind::HiddenPayload, here.clone(), what);
            }
            for bytes in self.contents(&archive, entry) {
                let outcome = pickle::run(&bytes, 0, &here, &mut self.budget);
                let folder = name.rsplit_once('/').map_or("", |(folder, _)| folder);
                let part = if name.ends_with("constants.pkl") {
                    "constants"
                } else {
                    "data"
                };
                for key in keys(&outcome.objects) {
                    storages.insert(format!("{folder}/{part}/{key}"));
                }
                let (end, complete) = (outcome.end, outcome.complete());
                self.keep(outcome, &here, Expected::Yes);
                if end < bytes.len() {
                    self.rest(&bytes, end, &here, complete);
                }
            }
        }
        for entry in others {
            let name = archive.name(entry);
            if storages.contains(&name) {
                continue;
            }
            let here = join(place, &archive.place(entry));
            for bytes in self.contents(&archive, entry) {
                if promise(&name) == Promise::Code && !self.plain {
                    self.text(&bytes, &here);
                }
                self.entry(&bytes, &here, &name);
            }
        }
        if archive.before() > 0 {
            self.attempt(region, 0, &join(place, "bytes before the archive"));
        }
        if archive.end() < region.len() {
            self.rest(
                region,
                archive.end(),
                &join(place, "behind the archive"),
                false,
            );
        }
        if !archive.comment().is_empty() {
            let comment = Region::memory(archive.comment().to_vec());
            self.plain = false;
            self.entry(&comment, &join(place, "the archive's comment"), "");
        }
        self.plain = outer || (self.plain && self.depth <= 1);
    }

    /// An entry's contents, as long as not too much has been unpacked.
    fn contents(&mut self, archive: &zip::Archive, entry: usize) -> Vec<Region> {
        if let Err(error) = ir::Limits::check("bytes unpacked", self.unpacked, UNPACKED) {
            self.error(error.at(archive.place(entry)));
            return Vec::new();
        }
        let contents = archive.loose(entry);
        let held = contents.iter().filter(|bytes| bytes.path().is_none());
        self.unpacked += held.map(Region::len).sum::<u64>();
        contents
    }

    /// An entry that no loader of PyTorch takes for a pickle.
    fn entry(&mut self, bytes: &Region, place: &str, name: &str) {
        let len = usize::try_from(bytes.len()).unwrap_or(usize::MAX).min(512);
        let Ok(head) = bytes.bytes(0, len) else {
            return;
        };
        let archive = head.starts_with(b"PK\x03\x04") || head.get(257..262) == Some(b"ustar");
        // An exported program keeps the inputs it was traced with as a checkpoint of its own.
        let inputs = place.ends_with("data/sample_inputs/model.pt");
        if archive && inputs {
            return self.region(bytes, place);
        }
        if archive {
            if !self.plain {
                let what = "an archive within the archive";
                self.odd(AnomalyKind::HiddenPayload, place, what);
            }
            return self.region(bytes, place);
        }
        if head.starts_with(b"\x93NUMPY") {
            return self.region(bytes, place);
        }
        // TorchScript prints Python too, which was taken for what it is above.
        let printed = promise(name) == Promise::Code && !self.plain;
        if !printed && self.beside.look(place, name, bytes) {
            return;
        }
        if head.starts_with(b"\x1f\x8b") {
            return self.region(bytes, place);
        }
        if head.is_empty() {
            return;
        }
        let outcome = pickle::run(bytes, 0, place, &mut self.budget);
        let limit = outcome
            .error
            .as_ref()
            .is_some_and(|error| error.class() == ir::Class::Limit);
        // A pickle of numbers and words may be any data; one that names something is no accident.
        if does_something(&outcome) || (is_pickle_start(&head) && (outcome.complete() || limit)) {
            if !self.plain {
                let what = "a pickle where the loader does not look";
                self.odd(AnomalyKind::HiddenPayload, place, what);
            }
            let (end, complete) = (outcome.end, outcome.complete());
            self.keep(outcome, place, Expected::Perhaps);
            self.rest(bytes, end, place, complete);
        } else if limit && let Some(error) = outcome.error {
            self.error(error);
        }
    }

    fn text(&mut self, bytes: &Region, place: &str) {
        let held: usize = self.out.texts.iter().map(|text| text.text.len()).sum();
        if held >= TEXTS {
            return self.odd(
                AnomalyKind::Unreadable,
                place,
                "too much code to keep it all",
            );
        }
        let len = usize::try_from(bytes.len()).unwrap_or(usize::MAX).min(TEXT);
        if let Ok(text) = bytes.bytes(0, len) {
            if (len as u64) < bytes.len() {
                let what = "only the beginning of this code is kept";
                self.odd(AnomalyKind::Unreadable, place, what);
            }
            self.out.texts.push(Text {
                place: place.to_owned(),
                language: "torchscript",
                text: String::from_utf8_lossy(&text).into_owned(),
            });
        }
    }

    pub(super) fn tar(&mut self, region: &Region, place: &str) {
        let (members, error) = members(region);
        if let Some(error) = error {
            self.error(error);
        }
        let ours = ["sys_info", "pickle", "storages", "tensors"];
        let outer = self.plain;
        self.plain = !members.iter().any(|m| ours.contains(&m.name.as_str()));
        for member in &members {
            let here = join(place, &format!("tar member {:?}", member.name));
            if !ours.contains(&member.name.as_str()) {
                self.entry(&member.region, &here, &member.name);
                continue;
            }
            let (outcomes, end, error) = container::run_tar_slots(member, &mut self.budget);
            let sound = error.is_none();
            if let Some(error) = error {
                self.error(error);
            }
            for (n, outcome) in outcomes.into_iter().enumerate() {
                let slot = format!("{here}, pickle {}", n + 1);
                self.keep(outcome, &slot, Expected::Yes);
            }
            self.rest(&member.region, end, &here, sound);
        }
        self.plain = outer || (self.plain && self.depth <= 1);
    }

    /// A numpy file: of objects, its data is a pickle. See numpy's `format.py`.
    pub(super) fn npy(&mut self, region: &Region, place: &str) {
        let unreadable = |this: &mut Self, what: &str| {
            this.odd(AnomalyKind::Unreadable, join(place, "numpy header"), what);
        };
        let Ok(head) = region.bytes(0, 12.min(usize::try_from(region.len()).unwrap_or(12))) else {
            return unreadable(self, "it is cut short");
        };
        let (len, at) = match *head {
            [_, _, _, _, _, _, 1, _, a, b, ..] => (u64::from(u16::from_le_bytes([a, b])), 10),
            [_, _, _, _, _, _, 2 | 3, _, a, b, c, d] => {
                (u64::from(u32::from_le_bytes([a, b, c, d])), 12)
            }
            _ => return unreadable(self, "it is cut short, or of an unknown version"),
        };
        // numpy itself reads no more than 10,000 bytes unless it is told to.
        let text = usize::try_from(len)
            .ok()
            .filter(|len| *len <= HEADER)
            .and_then(|n| region.bytes(at, n).ok());
        let Some(text) = text else {
            return unreadable(self, "it is cut short, or longer than any");
        };
        // Every type of objects has an O in its description.
        if !text.contains(&b'O') {
            return;
        }
        let here = join(place, "objects of the numpy array");
        if let Ok(data) = region.tail(at + len) {
            let outcome = pickle::run(&data, 0, &here, &mut self.budget);
            let (end, complete) = (outcome.end, outcome.complete());
            self.keep(outcome, &here, Expected::Yes);
            self.rest(&data, end, &here, complete);
        }
    }
}

/// Keys of the storages a pickle consumes.
fn keys(objects: &Objects) -> Vec<String> {
    let ids: Vec<ObjectId> = objects
        .iter()
        .filter_map(|(_, node)| match node.object {
            Object::Persistent(id) => Some(id),
            _ => None,
        })
        .collect();
    ids.into_iter()
        .filter_map(|id| container::storage_id(objects, id).ok())
        .map(|storage| storage.key)
        .collect()
}
