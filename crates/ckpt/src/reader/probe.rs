//! Whether a file is a checkpoint.

use crate::container::{begins_tar, is_pickle_start, is_zip, members, zip};
use crate::pickle::{self, Budget};
use crate::wire;
use ir::{Limits, Peek, Region, Score};

/// Looks at a file's bytes. The name counts for nothing but a hint.
pub fn probe(peek: &Peek) -> Score {
    let region = match &peek.region {
        Some(region) => region.clone(),
        None => Region::memory(peek.head.clone()),
    };
    // The signature of a PNG begins as a pickle that names something outside of it, and breaks off.
    if peek.head.is_empty() || peek.head.starts_with(b"\x89PNG\r\n\x1a\n") {
        return Score::no();
    }
    if is_zip(&region, &peek.head).unwrap_or(false) {
        return zip_score(&region);
    }
    if wire::is_legacy_magic(&peek.head) {
        return Score::new(100, "the magic number of torch's stream before zip");
    }
    if begins_tar(&peek.head) {
        let members = members(&region).members;
        let ours = ["storages", "tensors", "pickle"];
        let n = members
            .iter()
            .filter(|m| ours.contains(&m.name.as_str()))
            .count();
        return match n {
            0 => Score::no(),
            n => Score::new(
                if n == 3 { 95 } else { 60 },
                "a tar with the members of torch 0.1",
            ),
        };
    }
    if peek.head.starts_with(b"\x93NUMPY") {
        return Score::new(5, "a numpy array, which may hold pickled objects");
    }
    pickle_score(&region, &peek.head)
}

fn zip_score(region: &Region) -> Score {
    let limits = Limits::default();
    match zip::Archive::read(region, &limits) {
        Err(_) => Score::new(30, "a zip archive whose directory is damaged"),
        Ok(archive) => {
            let data = (0..archive.len()).any(|entry| {
                let name = archive.raw_name(entry);
                name.strip_suffix(b"data.pkl")
                    .is_some_and(|folder| folder.is_empty() || folder.ends_with(b"/"))
            });
            let export = (0..archive.len()).any(|entry| {
                archive
                    .raw_name(entry)
                    .ends_with(b"model_weights_config.json")
            });
            if export {
                Score::new(95, "a PT2 archive of torch.export")
            } else if data {
                Score::new(98, "a zip archive with data.pkl")
            } else {
                Score::new(15, "a zip archive without data.pkl")
            }
        }
    }
}

/// Runs the beginning of what may be a pickle.
fn pickle_score(region: &Region, head: &[u8]) -> Score {
    let mut budget = Budget::new(&Limits {
        objects: 2000,
        steps: 4000,
        ..Limits::default()
    });
    let outcome = pickle::run(region, 0, "pickle", &mut budget);
    let start = is_pickle_start(head);
    let limit = outcome
        .error
        .as_ref()
        .is_some_and(|error| error.class() == ir::Class::Limit);
    match (outcome.error, start) {
        (None, true) => Score::new(80, format!("a pickle of protocol {}", outcome.protocol)),
        // Text opcodes are letters: a short pickle may be a word.
        (None, false) if outcome.objects.len() > 1 || outcome.end > 4 => {
            Score::new(60, "a pickle of text opcodes")
        }
        (Some(_), true) if limit => Score::new(80, "a large pickle"),
        (Some(_), true) => Score::new(40, "a pickle that breaks off"),
        (Some(_), false) if limit => Score::new(50, "a large pickle of text opcodes"),
        (Some(_), false) if outcome.objects.len() > 2 => {
            Score::new(20, "perhaps a pickle of text opcodes that breaks off")
        }
        _ => Score::no(),
    }
}
