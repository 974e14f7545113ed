//! States that name files or modules: some classes open or import them while `__setstate__` runs.

use crate::calls::{full_name, holds_any, is_text, name_of};
use crate::conditions::Condition;
use crate::distributions;
use crate::objects::{Bench, DETAIL_CHARS};
use crate::render::render;
use crate::rules;
use crate::standing::canonical;
use crate::tables::loaders::{STATE_LOADERS, loads};
use ir::{Call, Object, ObjectId, Objects};
use std::borrow::Cow;

/// Modules of tokenizers whose `__setstate__` opens files, in the versions that can still be
/// installed as well as in old ones.
const OPENERS: &[&str] = &[
    "transformers.models.bert_japanese.",
    "transformers.models.cpm.",
    "transformers.models.m2m_100.",
    "transformers.models.marian.",
    "transformers.models.siglip.",
    "transformers.models.speech_to_text.",
];

/// Keys of states that name files, beside those that end in [`ENDINGS`].
const KEYS: &[&str] = &[
    "jumanpp_kwargs",
    "mecab_kwargs",
    "source_spm",
    "sudachi_kwargs",
    "target_spm",
];
const ENDINGS: &[&str] = &["_file", "_files", "_option", "_path"];

/// Notes classes that load what their state names.
pub(crate) fn judge(bench: &mut Bench<'_>, call: &Call, at: u64) {
    let objects = bench.objects;
    let Some((module, name)) = class_of(objects, call) else {
        return;
    };
    if let Some(rule) = loads(STATE_LOADERS, module, &name) {
        // What imports finds names in dictionaries, which may be filled elsewhere.
        let imports = rule == rules::IMPORT_RESOLUTION;
        let told = |state: &&ObjectId| {
            imports || holds_any(objects, vec![**state], |object| !is_blank(object))
        };
        let named = call.states().iter().find(told);
        if let Some(state) = named {
            bench.ledger.note(rule, &full_name(module, &name), at, || {
                render(objects, *state, DETAIL_CHARS)
            });
        }
    }
    tokenizer(bench, call, module, &name, at);
    distributions::judge(bench, call, module, &name, at);
}

/// Notes a tokenizer of transformers whose state names a file.
///
/// A tokenizer that keeps a `tokenizers.Tokenizer` opens nothing: it remembers where it came from.
fn tokenizer(bench: &mut Bench<'_>, call: &Call, module: &str, name: &str, at: u64) {
    let objects = bench.objects;
    if !module.starts_with("transformers.") || !name.contains("Tokenizer") {
        return;
    }
    let opens = OPENERS.iter().any(|opener| module.starts_with(opener));
    for state in call.states() {
        if !bench.files.insert((*state, opens)) {
            continue;
        }
        let pairs = objects.pairs(*state).unwrap_or_default();
        let carried = pairs.iter().any(|(key, value)| {
            objects.str(*key) == Some("_tokenizer")
                && objects
                    .named_call(*value)
                    .is_some_and(|(module, _, _)| module == "tokenizers")
        });
        if carried && !opens {
            continue;
        }
        let named = pairs.iter().find(|(key, value)| {
            objects.str(*key).is_some_and(names_file)
                && holds_any(objects, vec![*value], |object| !is_blank(object))
        });
        if let Some((key, value)) = named {
            let (key, value) = (*key, *value);
            bench
                .ledger
                .note(rules::STATE_FILE, &full_name(module, name), at, || {
                    format!(
                        "{} = {}",
                        render(objects, key, 60),
                        render(objects, value, DETAIL_CHARS)
                    )
                });
        }
    }
}

fn names_file(key: &str) -> bool {
    KEYS.contains(&key) || ENDINGS.iter().any(|ending| key.ends_with(ending))
}

/// Whether it is neither text nor made by a call that may give text.
fn is_blank(object: &Object) -> bool {
    !is_text(object) && !matches!(object, Object::Call(_))
}

/// The class of an instance, also where a function of `copyreg` makes it.
pub(crate) fn class_of<'a>(
    objects: &'a Objects,
    call: &'a Call,
) -> Option<(&'a str, Cow<'a, str>)> {
    let (module, name) = name_of(objects, call.callee)?;
    let made = matches!(
        (module, &*name),
        (
            "copyreg" | "copy_reg",
            "_reconstructor" | "__newobj__" | "__newobj_ex__"
        )
    ) || Condition::of(&canonical(module), &name) == Some(Condition::NewObj);
    if !made {
        return Some((module, name));
    }
    let class: ObjectId = *objects.sequence(call.args)?.first()?;
    name_of(objects, class)
}

#[cfg(test)]
mod tests {
    use crate::testing::Builder;
    use ir::CallKind;

    fn tokenizer(module: &str, name: &str, key: &str) -> Builder {
        let mut b = Builder::new();
        let object = b.new_object(module, name);
        let file = b.str("/etc/passwd");
        let state = b.dict(&[(key, file)]);
        b.build(object, state);
        b
    }

    #[test]
    fn tokenizers_that_open_files_are_told() {
        for (module, name, key) in [
            (
                "transformers.models.cpm.tokenization_cpm",
                "CpmTokenizer",
                "vocab_file",
            ),
            (
                "transformers.models.marian.tokenization_marian",
                "MarianTokenizer",
                "spm_files",
            ),
            (
                "transformers.models.bert_japanese.tokenization_bert_japanese",
                "BertJapaneseTokenizer",
                "mecab_kwargs",
            ),
            (
                "transformers.models.albert.tokenization_albert",
                "AlbertTokenizer",
                "vocab_file",
            ),
        ] {
            let found = tokenizer(module, name, key).only();
            assert_eq!(found, format!("state-file {module}.{name}"));
        }
        let harmless = tokenizer(
            "transformers.models.bert.tokenization_bert",
            "BertTokenizer",
            "name",
        );
        assert_eq!(harmless.findings(), [""; 0]);
    }

    #[test]
    fn classes_that_load_what_a_state_names() {
        for (module, name, rule) in [
            (
                "fairseq.data.indexed_dataset",
                "MMapIndexedDataset",
                "file-access",
            ),
            (
                "speechbrain.utils.importutils",
                "LazyModule",
                "import-resolution",
            ),
            (
                "transformers.models.auto.configuration_auto",
                "_LazyConfigMapping",
                "import-resolution",
            ),
        ] {
            let found = tokenizer(module, name, "target").only();
            assert_eq!(found, format!("{rule} {module}.{name}"));
            let mut b = Builder::new();
            let object = b.new_object(module, name);
            let none = b.none();
            let state = b.dict(&[("path", none)]);
            b.build(object, state);
            let told = usize::from(rule == "import-resolution");
            assert_eq!(b.findings().len(), told, "{name}");
        }
    }

    #[test]
    fn also_where_copyreg_makes_them() {
        let mut b = Builder::new();
        let class = b.global("transformers.models.cpm.tokenization_cpm", "CpmTokenizer");
        let object = b.global("builtins", "object");
        let none = b.none();
        let made = b.global("copyreg", "_reconstructor");
        let made = b.call_of(CallKind::Reduce, made, &[class, object, none]);
        let file = b.str("/etc/passwd");
        let state = b.dict(&[("vocab_file", file)]);
        b.build(made, state);
        assert!(b.only().starts_with("state-file"));
    }

    #[test]
    fn a_tokenizer_that_carries_its_own_opens_nothing() {
        for (module, name, flagged) in [
            (
                "transformers.models.bert.tokenization_bert",
                "BertTokenizer",
                false,
            ),
            (
                "transformers.models.cpm.tokenization_cpm",
                "CpmTokenizer",
                true,
            ),
        ] {
            let mut b = Builder::new();
            let object = b.new_object(module, name);
            let file = b.str("vocab.txt");
            let inner = b.new_object("tokenizers", "Tokenizer");
            let state = b.dict(&[("vocab_file", file), ("_tokenizer", inner)]);
            b.build(object, state);
            assert_eq!(!b.findings().is_empty(), flagged, "{name}");
        }
    }
}
