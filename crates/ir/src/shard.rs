//! Models spread over several files: which tensor goes where, what the files are called, and the
//! index that says so.
//!
//! The names and the index are those of the Hugging Face libraries: `model-00002-of-00005.safetensors`
//! beside `model.safetensors.index.json`, which holds
//! `{"metadata": {"total_size": BYTES}, "weight_map": {TENSOR: FILE}}`.

use crate::{Aliasing, Result, TensorId, TensorTable};
use std::fmt::Write as _;

/// The tensors of one file of a set.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Shard {
    /// Its tensors, in the table's order.
    pub tensors: Vec<TensorId>,
    /// Bytes of its tensors; with [`Aliasing::Native`] tied ones count once.
    pub bytes: u64,
}

/// Spreads tensors over shards of at most `limit` bytes, in the table's order, as
/// `huggingface_hub.split_state_dict_into_shards_factory` does: a tensor that does not fit the
/// current shard begins a new one, and one that is larger than any shard has one of its own, put
/// before the shard that is being filled. Where the format ties by itself, a tied tensor goes where
/// its first twin is.
///
/// There is always one shard at least, if only an empty one.
pub fn split(tensors: &TensorTable, limit: u64, aliasing: Aliasing) -> Result<Vec<Shard>> {
    let firsts = match aliasing {
        Aliasing::Native => tensors.ties(),
        Aliasing::Note => tensors.ids().map(|(id, _)| id).collect(),
    };
    let mut done: Vec<Shard> = Vec::new();
    let mut open = Shard::default();
    for ((id, tensor), first) in tensors.ids().zip(&firsts) {
        if id != *first {
            continue;
        }
        let bytes = tensor.spec.require_byte_len(&tensor.name)?;
        if bytes > limit {
            done.push(Shard {
                tensors: vec![id],
                bytes,
            });
            continue;
        }
        let grown = open.bytes.saturating_add(bytes);
        if grown > limit {
            done.push(std::mem::take(&mut open));
        }
        open.tensors.push(id);
        open.bytes = open.bytes.saturating_add(bytes);
    }
    if !open.tensors.is_empty() || done.is_empty() {
        done.push(open);
    }
    let mut home = vec![0; firsts.len()];
    for (number, shard) in done.iter().enumerate() {
        for id in &shard.tensors {
            if let Some(home) = home.get_mut(id.index()) {
                *home = number;
            }
        }
    }
    for shard in &mut done {
        shard.tensors.clear();
    }
    for ((id, _), first) in tensors.ids().zip(&firsts) {
        let number = home.get(first.index()).copied().unwrap_or(0);
        if let Some(shard) = done.get_mut(number) {
            shard.tensors.push(id);
        }
    }
    Ok(done)
}

/// The name of shard `number` (counted from 1) of `count`: `model-00002-of-00005.safetensors`.
pub fn shard_name(stem: &str, number: usize, count: usize, extension: &str) -> String {
    format!("{}.{extension}", shard_stem(stem, number, count))
}

/// The same without the extension.
pub fn shard_stem(stem: &str, number: usize, count: usize) -> String {
    format!("{stem}-{number:05}-of-{count:05}")
}

/// What a shard's name says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShardName {
    /// The name of the set.
    pub stem: String,
    /// Which shard it is, counted from 1.
    pub number: usize,
    /// How many there are.
    pub count: usize,
    /// The extension, without the dot.
    pub extension: String,
}

impl ShardName {
    /// Reads a file name of the form `STEM-00002-of-00005.EXT`; numbers have five digits and the
    /// number is within the count.
    pub fn parse(file: &str) -> Option<Self> {
        let (left, extension) = file.rsplit_once('.')?;
        let (left, count) = left.rsplit_once("-of-")?;
        let (stem, number) = left.rsplit_once('-')?;
        let digits = |text: &str| {
            let plain = text.len() == 5 && text.bytes().all(|b| b.is_ascii_digit());
            plain.then(|| text.parse::<usize>().ok()).flatten()
        };
        let (number, count) = (digits(number)?, digits(count)?);
        let sound = !stem.is_empty() && !extension.is_empty() && (1..=count).contains(&number);
        sound.then(|| Self {
            stem: stem.to_owned(),
            number,
            count,
            extension: extension.to_owned(),
        })
    }

    /// The name of another shard of the same set.
    pub fn sibling(&self, number: usize) -> String {
        shard_name(&self.stem, number, self.count, &self.extension)
    }

    /// The name of the set's index file.
    pub fn index(&self) -> String {
        format!("{}.{}.index.json", self.stem, self.extension)
    }
}

/// The text of an index file, as `transformers` writes it: `json.dumps(index, indent=2,
/// sort_keys=True)` and a newline. `files` pairs each tensor's name with its file.
pub fn render_index<'a>(
    total_size: u64,
    files: impl IntoIterator<Item = (&'a str, &'a str)>,
) -> String {
    let mut files: Vec<_> = files.into_iter().collect();
    files.sort_unstable();
    let mut out = format!(
        "{{\n  \"metadata\": {{\n    \"total_size\": {total_size}\n  }},\n  \"weight_map\": {{"
    );
    for (n, (tensor, file)) in files.iter().enumerate() {
        out.push_str(if n == 0 { "\n    " } else { ",\n    " });
        push_json_string(&mut out, tensor);
        out.push_str(": ");
        push_json_string(&mut out, file);
    }
    out.push_str(if files.is_empty() {
        "}\n}\n"
    } else {
        "\n  }\n}\n"
    });
    out
}

/// A JSON string in plain ASCII, escaped as Python's `json` does.
fn push_json_string(out: &mut String, text: &str) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            ' '..='~' => out.push(c),
            _ => {
                for unit in c.encode_utf16(&mut [0; 2]) {
                    // Writing to a String cannot fail.
                    let _ = write!(out, "\\u{unit:04x}");
                }
            }
        }
    }
    out.push('"');
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{DType, Region, Tensor, TensorSpec, View};

    fn table(sizes: &[u64]) -> TensorTable {
        let tensors = sizes.iter().enumerate().map(|(n, &size)| {
            let bytes = vec![0; usize::try_from(size).unwrap()];
            let view = View::contiguous(Region::memory(bytes));
            Tensor::stored(format!("t{n}"), TensorSpec::new(DType::U8, [size]), view)
        });
        TensorTable::from_tensors(tensors).unwrap()
    }

    fn places(shards: &[Shard]) -> Vec<Vec<usize>> {
        let indices = |shard: &Shard| shard.tensors.iter().map(|id| id.index()).collect();
        shards.iter().map(indices).collect()
    }

    #[test]
    fn splits_as_the_hub_does() {
        // The example of huggingface_hub's own documentation.
        let shards = split(&table(&[6, 6, 2, 6, 2, 2]), 10, Aliasing::Note).unwrap();
        assert_eq!(places(&shards), [vec![0], vec![1, 2], vec![3, 4, 5]]);
        // A large one goes before the shard that is being filled, which goes on.
        let shards = split(&table(&[2, 20, 3, 9]), 10, Aliasing::Note).unwrap();
        assert_eq!(places(&shards), [vec![1], vec![0, 2], vec![3]]);
        assert_eq!(
            shards.iter().map(|s| s.bytes).collect::<Vec<_>>(),
            [20, 5, 9]
        );
        assert_eq!(split(&table(&[]), 10, Aliasing::Note).unwrap().len(), 1);
        assert_eq!(split(&table(&[5, 5]), 10, Aliasing::Note).unwrap().len(), 1);
    }

    #[test]
    fn ties_stay_together() {
        let mut table = table(&[6, 6]);
        let mut twin = table.iter().next().unwrap().clone();
        twin.name = "twin".to_owned();
        table.push(twin).unwrap();
        let shards = split(&table, 10, Aliasing::Native).unwrap();
        assert_eq!(places(&shards), [vec![0, 2], vec![1]]);
        assert_eq!(shards[0].bytes, 6);
        let shards = split(&table, 10, Aliasing::Note).unwrap();
        assert_eq!(places(&shards), [[0], [1], [2]]);
    }

    #[test]
    fn names_go_both_ways() {
        let name = shard_name("pytorch_model", 2, 5, "bin");
        assert_eq!(name, "pytorch_model-00002-of-00005.bin");
        let parsed = ShardName::parse(&name).unwrap();
        assert_eq!(parsed.sibling(5), "pytorch_model-00005-of-00005.bin");
        assert_eq!(parsed.index(), "pytorch_model.bin.index.json");
        for bad in [
            "a.bin",
            "a-0000a-of-00002.bin",
            "a-00003-of-00002.bin",
            "a-1-of-2.bin",
            "-00001-of-00002.bin",
            "a-00000-of-00002.bin",
        ] {
            assert_eq!(ShardName::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn the_index_is_python_json() {
        let text = render_index(7, [("b", "f2"), ("a\"\u{e9}\u{1f600}\n", "f1")]);
        assert_eq!(
            text,
            "{\n  \"metadata\": {\n    \"total_size\": 7\n  },\n  \"weight_map\": {\n    \
             \"a\\\"\\u00e9\\ud83d\\ude00\\n\": \"f1\",\n    \"b\": \"f2\"\n  }\n}\n"
        );
        assert!(render_index(0, []).ends_with("\"weight_map\": {}\n}\n"));
    }
}
