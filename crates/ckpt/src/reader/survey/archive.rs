//! Archives: every entry, whatever its name says it is.

use super::{Expected, Surveyor, UNPACKED, does_something, join};
use crate::container::{self, begins_tar, is_pickle_start, members, zip};
use crate::pickle;
use ir::{AnomalyKind, Object, ObjectId, Objects, Region, Text};
use std::collections::HashSet;

/// Bytes of one text kept.
const TEXT: usize = 1 << 20;
/// Bytes of all texts kept.
const TEXTS: usize = 16 << 20;

/// Methods beside PyTorch's two that Python unpacks: bzip2 and LZMA.
const OTHERWISE: [u16; 2] = [12, 14];

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
        if let Some(parts) = zip::chain(region, self.budget.limits()) {
            for (n, part) in parts.iter().enumerate() {
                self.zip(part, &join(place, &format!("archive {}", n + 1)));
            }
            return;
        }
        let methods = OTHERWISE.map(|method| format!("compression method {method}"));
        for mut anomaly in archive.anomalies(self.budget.limits()) {
            // Told below, where it cannot be unpacked after all.
            if anomaly.kind == AnomalyKind::Unreadable && methods.contains(&anomaly.what) {
                continue;
            }
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
            for bytes in self.contents(&archive, entry, &here) {
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
            let here = join(place, &archive.place(entry));
            if storages.contains(&name) {
                if let Some((method, ..)) = archive.otherwise(entry) {
                    let what = format!("a storage packed by method {method}");
                    self.odd(AnomalyKind::Unreadable, here, what);
                }
                continue;
            }
            for bytes in self.contents(&archive, entry, &here) {
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

    /// The archive that a file of another kind ends as.
    pub(super) fn zip_end(&mut self, region: &Region, place: &str) {
        let here = join(place, "as the zip archive it ends as");
        let what = "a zip archive to whoever looks for one from the end";
        self.odd(AnomalyKind::HiddenPayload, here.clone(), what);
        self.zip(region, &here);
    }

    /// An entry's contents, as long as not too much has been unpacked.
    fn contents(&mut self, archive: &zip::Archive, entry: usize, place: &str) -> Vec<Region> {
        if !self.counts_entry() {
            return Vec::new();
        }
        if let Err(error) = ir::Limits::check("bytes unpacked", self.unpacked, UNPACKED) {
            self.error(error.at(archive.place(entry)));
            return Vec::new();
        }
        let mut contents = archive.loose(entry);
        if let Some((method, packed, crc)) = archive.otherwise(entry) {
            contents.extend(self.otherwise(method, &packed, archive.size(entry), crc, place));
        }
        let held = contents.iter().filter(|bytes| bytes.path().is_none());
        self.unpacked += held.map(Region::len).sum::<u64>();
        contents
    }

    /// An entry packed by a method that Python knows and PyTorch does not.
    fn otherwise(
        &mut self,
        method: u16,
        packed: &Region,
        len: u64,
        crc: u32,
        place: &str,
    ) -> Option<Region> {
        let Some(unpacked) = self.beside.unpack(method, packed, len) else {
            // Other methods are told by the archive's audit.
            if OTHERWISE.contains(&method) {
                let what = format!("compression method {method}");
                self.odd(AnomalyKind::Unreadable, place, what);
            }
            return None;
        };
        match unpacked {
            Ok((region, stopped)) => {
                self.unpacked += region.path().map_or(0, |_| region.len());
                match stopped {
                    Some(error) => self.odd(AnomalyKind::Unreadable, place, error.message()),
                    None if container::inflate::checksum(&region).is_ok_and(|sum| sum != crc) => {
                        let what = format!("its checksum is not {crc:08x}, as it says");
                        self.odd(AnomalyKind::ChecksumMismatch, place, what);
                    }
                    None => {}
                }
                Some(region)
            }
            Err(error) => {
                self.odd(AnomalyKind::Unreadable, place, error.message());
                None
            }
        }
    }

    /// An entry that no loader of PyTorch takes for a pickle.
    fn entry(&mut self, bytes: &Region, place: &str, name: &str) {
        let len = usize::try_from(bytes.len()).unwrap_or(usize::MAX).min(512);
        let Ok(head) = bytes.bytes(0, len) else {
            return;
        };
        let archive = head.starts_with(b"PK\x03\x04") || begins_tar(&head);
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
        let container::Listing {
            members,
            odd,
            end,
            error,
        } = members(region);
        if let Some(error) = error {
            self.error(error);
        }
        for (name, what) in odd {
            let here = join(place, &format!("tar member {name:?}"));
            self.odd(AnomalyKind::UnsafeName, here, what);
        }
        let ours = ["sys_info", "pickle", "storages", "tensors"];
        let outer = self.plain;
        self.plain = !members.iter().any(|m| ours.contains(&m.name.as_str()));
        for member in &members {
            let here = join(place, &format!("tar member {:?}", member.name));
            if !self.counts_entry() {
                break;
            }
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
        // What looks for a zip archive's end does not see the tar.
        let end = end.min(region.len());
        let behind = region.len() - end;
        if container::ends_as_zip_within(region, behind).unwrap_or(false) {
            self.zip_end(region, place);
        }
        // Nor does what unpickles the file: a member's name may be its first opcodes.
        let here = join(place, "as the pickle it begins as");
        self.stream(region, &here, Expected::Perhaps);
        self.plain = outer || (self.plain && self.depth <= 1);
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
