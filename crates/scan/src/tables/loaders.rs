//! Classes of the modules in `classes.rs` whose constructors do what no checkpoint needs: they
//! fetch, open or import what they are named. Real checkpoints hold some of them, made without a
//! constructor; called with text they are as dangerous as the functions they stand for.
//!
//! A class is looked up by its package and its own name, because libraries export one class under
//! several modules. Sorted by package; a test holds it to that.

use crate::rules::{
    CODE_EXECUTION as CODE, FILE_ACCESS as FILES, IMPORT_RESOLUTION as IMPORT, NETWORK, Rule,
};
use crate::standing::{canonical, first_part};

/// Package, names of classes in it, rule.
type Loader = (&'static str, &'static [&'static str], Rule);

pub(crate) static LOADERS: &[Loader] = &[
    ("TTS", &["TTS"], NETWORK),
    ("accelerate", &["HfDeepSpeedConfig"], FILES),
    ("fairseq", &["IndexedDataset", "MMapIndexedDataset"], FILES),
    (
        "ldm",
        &["FrozenCLIPEmbedder", "FrozenOpenCLIPEmbedder"],
        NETWORK,
    ),
    ("lightgbm", &["Booster"], FILES),
    (
        "lightning",
        &[
            "CometLogger",
            "MLFlowLogger",
            "NeptuneLogger",
            "WandbLogger",
        ],
        NETWORK,
    ),
    ("mmengine", &["LazyAttr", "LazyObject"], IMPORT),
    ("mmengine", &["LocalVisBackend"], FILES),
    ("mmengine", &["WandbVisBackend"], NETWORK),
    // `parse_model` evaluates the names of layers.
    ("models", &["DetectionModel", "Model"], CODE),
    ("pyannote", &["Inference", "Pipeline"], NETWORK),
    (
        "sentence_transformers",
        &[
            "CrossEncoder",
            "SentenceTransformer",
            "SparseEncoder",
            "Transformer",
        ],
        NETWORK,
    ),
    (
        "sentencepiece",
        &["SentencePieceProcessor", "SentencePieceTrainer"],
        FILES,
    ),
    ("sgm", &["FrozenCLIPEmbedder"], NETWORK),
    (
        "speechbrain",
        &["DeprecatedModuleRedirect", "LazyModule"],
        IMPORT,
    ),
    (
        "tokenizers",
        &[
            "BertWordPieceTokenizer",
            "ByteLevelBPETokenizer",
            "CharBPETokenizer",
            "SentencePieceBPETokenizer",
        ],
        FILES,
    ),
    (
        "torchtext",
        &["CharNGram", "FastText", "GloVe", "Vectors"],
        NETWORK,
    ),
    ("ultralytics", &["AutoBackend"], NETWORK),
    ("ultralytics", &["YOLO"], NETWORK),
    ("ultralytics", &["DetectionModel"], CODE),
    ("xgboost", &["Booster"], FILES),
    ("yolov5", &["DetectMultiBackend", "Model"], CODE),
];

/// Those whose `__setstate__` does so with a text in its state.
pub(crate) static STATE_LOADERS: &[Loader] = &[
    ("diffusers", &["_LazyModule"], IMPORT),
    (
        "fairseq",
        &[
            "IndexedCachedDataset",
            "IndexedDataset",
            "MMapIndexedDataset",
        ],
        FILES,
    ),
    (
        "megatron",
        &["GPTDataset", "IndexedDataset", "MMapIndexedDataset"],
        FILES,
    ),
    ("mmengine", &["LazyAttr", "LazyObject"], IMPORT),
    ("sklearn", &["ScoringMonitor"], NETWORK),
    (
        "speechbrain",
        &["DeprecatedModuleRedirect", "LazyModule"],
        IMPORT,
    ),
    (
        "transformers",
        &[
            "_LazyAutoMapping",
            "_LazyConfigMapping",
            "_LazyLoadAllMappings",
            "_LazyModule",
        ],
        IMPORT,
    ),
];

/// The rule for a class of one of these tables.
pub(crate) fn loads(table: &[Loader], module: &str, name: &str) -> Option<Rule> {
    let module = canonical(module);
    let package = first_part(&module);
    let class = name.rsplit('.').next().unwrap_or(name);
    let from = table.partition_point(|(p, _, _)| *p < package);
    let mut same = table
        .iter()
        .skip(from)
        .take_while(|(p, _, _)| *p == package);
    same.find(|(_, names, _)| names.contains(&class))
        .map(|(_, _, rule)| *rule)
}
