//! What each named pre-tokenizer does, in the words of `tokenizer.json`.
//!
//! Facts from `llm_tokenizer_bpe` in llama.cpp's `src/llama-vocab.cpp` (MIT, 0.5.0-dev of 2026-10)
//! and, where that file quotes it, the original `tokenizer.json`. llama.cpp splits by each regex
//! in turn and keeps what lies between the matches, which is a `Split` with `Isolated` each.
//! Whether a tokenizer normalizes to NFC is not in a GGUF file; it is in the tokenizers the names
//! were taken from. `afmoe` and `kimi-k2` have code of their own in llama.cpp; here they are regexes.

/// How text becomes the model's characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shape {
    /// GPT-2's: every byte is a character.
    Bytes,
    /// SentencePiece's: a space is `\u{2581}`, unknown characters are bytes `<0xNN>`.
    Spaces,
    /// Characters as they are.
    Plain,
}

/// Pre-tokenizers that do the same.
#[derive(Debug)]
pub(crate) struct Family {
    pub(crate) names: &'static [&'static str],
    pub(crate) regexes: &'static [&'static str],
    pub(crate) shape: Shape,
    /// Whether a word that is a token is not merged.
    pub(crate) ignore_merges: bool,
    pub(crate) nfc: bool,
}

/// The family of a name.
pub(crate) fn family(name: &str) -> Option<&'static Family> {
    FAMILIES.iter().find(|family| family.names.contains(&name))
}

/// GPT-2's regex, which is `ByteLevel`'s own.
pub(crate) const GPT2: &str =
    r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+";

/// All families.
#[rustfmt::skip]
#[allow(clippy::unicode_not_nfc)] // ranges of letters, not text
pub(crate) const FAMILIES: &[Family] = &[
    Family {
        names: &["llama-bpe", "llama3", "llama-v3", "falcon3", "falcon-h1", "pixtral", "midm-2.0", "lfm2", "jina-v5-nano"],
        regexes: &[r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"],
        shape: Shape::Bytes,
        ignore_merges: true,
        nfc: false,
    },
    Family {
        names: &["smaug-bpe", "dbrx", "chatglm-bpe"],
        regexes: &[r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"],
        shape: Shape::Bytes,
        ignore_merges: false,
        nfc: false,
    },
    Family {
        names: &["glm4", "glm5"],
        regexes: &[r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"],
        shape: Shape::Bytes,
        ignore_merges: true,
        nfc: false,
    },
    Family {
        names: &["qwen2", "deepseek-r1-qwen", "kormo", "f2llmv2"],
        regexes: &[r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"],
        shape: Shape::Bytes,
        ignore_merges: false,
        nfc: true,
    },
    Family {
        names: &["megrez", "stablelm2", "hunyuan", "solar-open", "grok-2"],
        regexes: &[r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"],
        shape: Shape::Bytes,
        ignore_merges: false,
        nfc: false,
    },
    Family {
        names: &["qwen35"],
        regexes: &[r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"],
        shape: Shape::Bytes,
        ignore_merges: false,
        nfc: true,
    },
    Family {
        names: &["gpt-2", "phi-2", "jina-es", "jina-de", "gigachat", "jina-v2-es", "jina-v2-de", "a.x-4.0", "mellum", "exaone4", "jais", "trillion", "granite-docling"],
        regexes: &[GPT2],
        shape: Shape::Bytes,
        ignore_merges: false,
        nfc: false,
    },
    Family {
        names: &["olmo", "mpt", "modern-bert"],
        regexes: &[GPT2],
        shape: Shape::Bytes,
        ignore_merges: false,
        nfc: true,
    },
    Family {
        names: &["roberta-bpe", "jina-v1-en", "jina-v2-en", "jina-v2-code"],
        regexes: &[GPT2],
        shape: Shape::Bytes,
        ignore_merges: false,
        nfc: false,
    },
    Family {
        names: &["starcoder", "refact", "command-r", "smollm", "codeshell", "exaone", "minerva-7b", "mellum2"],
        regexes: &[r"\p{N}", GPT2],
        shape: Shape::Bytes,
        ignore_merges: false,
        nfc: false,
    },
    Family {
        names: &["falcon"],
        regexes: &[r"[\p{P}\$\+<=>\^~\|`]+", GPT2, r"[0-9][0-9][0-9]"],
        shape: Shape::Bytes,
        ignore_merges: false,
        nfc: false,
    },
    Family {
        names: &["deepseek-llm"],
        regexes: &[r"[\r\n]", r"\s?[A-Za-zµÀ-ÖØ-öø-ƺƼ-ƿǄ-ʓʕ-ʯͰ-ͳͶͷͻ-ͽͿΆΈ-ΊΌΎ-ΡΣ-ϵϷ-ҁҊ-ԯԱ-ՖႠ-ჅᎠ-Ᏽᏸ-ᏽᲐ-ᲺᲽ-Ჿᴀ-ᴫᵫ-ᵷᵹ-ᶚḀ-ἕἘ-Ἕἠ-ὅὈ-Ὅὐ-ὗὙὛὝὟ-ώᾀ-ᾴᾶ-ᾼιῂ-ῄῆ-ῌῐ-ΐῖ-Ίῠ-Ῥῲ-ῴῶ-ῼℂℇℊ-ℓℕℙ-ℝℤΩℨK-ℭℯ-ℴℹℼ-ℿⅅ-ⅉⅎↃↄⰀ-ⱻⱾ-ⳤⳫ-ⳮⳲⳳꙀ-ꙭꚀ-ꚛꜢ-ꝯꝱ-ꞇꞋ-ꞎꭰ-ꮿﬀ-ﬆﬓ-ﬗＡ-Ｚａ-ｚ𐐀-𐑏𐒰-𐓓𐓘-𐓻𐲀-𐲲𐳀-𐳲𑢠-𑣟𞤀-𞥃]+", r"\s?[!-/:-~！-／：-～‘-‟　-。]+", r"\s+$", r"[一-龥ࠀ-一가-퟿]+", r"\p{N}+"],
        shape: Shape::Bytes,
        ignore_merges: false,
        nfc: false,
    },
    Family {
        names: &["deepseek-coder"],
        regexes: &[r"[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+", r"[一-龥ࠀ-一가-퟿]+", r"\p{N}"],
        shape: Shape::Bytes,
        ignore_merges: false,
        nfc: false,
    },
    Family {
        names: &["deepseek-v3", "hunyuan-dense", "joyai-llm", "hy_v4"],
        regexes: &[r"\p{N}{1,3}", r"[一-龥぀-ゟ゠-ヿ]+", r##"[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"##],
        shape: Shape::Bytes,
        ignore_merges: false,
        nfc: false,
    },
    Family {
        names: &["spark2_5"],
        regexes: &[r"\p{N}{1,3}", r"[一-龥぀-ゟ゠-ヿ]+", r##"[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+|[\r\n]|\s+(?!\S)|\s+"##, r"\p{N}"],
        shape: Shape::Bytes,
        ignore_merges: false,
        nfc: false,
    },
    Family {
        names: &["youtu"],
        regexes: &[r"[가-힣ㄱ-ㆎ]+|[！…“”‘’—：；，、-〿︰-﹏]+|[ㄅ-ㄯ]+|[一-龥぀-ゟ゠-ヿ]+", r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"],
        shape: Shape::Bytes,
        ignore_merges: true,
        nfc: false,
    },
    Family {
        names: &["tekken"],
        regexes: &[r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"],
        shape: Shape::Bytes,
        ignore_merges: true,
        nfc: false,
    },
    Family {
        names: &["gpt-4o", "llama4", "kanana2", "talkie", "minimax-m2"],
        regexes: &[r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"],
        shape: Shape::Bytes,
        ignore_merges: false,
        nfc: false,
    },
    Family {
        names: &["granite-embed-multi-97m"],
        regexes: &[r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"],
        shape: Shape::Bytes,
        ignore_merges: true,
        nfc: false,
    },
    Family {
        names: &["tiny_aya", "cohere2moe"],
        regexes: &[r"\d{1,3}(?=(?:\d{3})*\b)", r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"],
        shape: Shape::Bytes,
        ignore_merges: false,
        nfc: false,
    },
    Family {
        names: &["kimi-k2"],
        regexes: &[r"[\p{Han}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]*[\p{Ll}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]+[\p{Ll}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"],
        shape: Shape::Bytes,
        ignore_merges: false,
        nfc: false,
    },
    Family {
        names: &["poro-chat", "bloom", "gpt3-finnish"],
        regexes: &[r" ?[^(\s|.,!?…。，、।۔،)]+"],
        shape: Shape::Bytes,
        ignore_merges: false,
        nfc: false,
    },
    Family {
        names: &["viking"],
        regexes: &[r" ?[^(\s|.,!?…。，、।۔،)]+", r"\p{N}"],
        shape: Shape::Bytes,
        ignore_merges: false,
        nfc: false,
    },
    Family {
        names: &["jais-2"],
        regexes: &[r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s{512}(?!\S)|\s{256}(?!\S)|\s{128}(?!\S)|\s{64}(?!\S)|\s{32}(?!\S)|\s{16}(?!\S)|\s{8}(?!\S)|\s{4}(?!\S)|\s{1,2}(?!\S)|\s{1}"],
        shape: Shape::Bytes,
        ignore_merges: false,
        nfc: false,
    },
    Family {
        names: &["chameleon"],
        regexes: &[r"<sentinel:[0-9]+>", r"(IMGIMG)((A|B|C|D|E|F|G|H|I){1,4})Z", r"([\t\n]|    |  )", r"\p{N}", r"[\p{P}!-/:-@\[-`{-~]", GPT2],
        shape: Shape::Bytes,
        ignore_merges: false,
        nfc: false,
    },
    Family {
        names: &["superbpe"],
        regexes: &[r"\p{N}+", r"(?=(\d{3})+(?!\d))"],
        shape: Shape::Bytes,
        ignore_merges: false,
        nfc: false,
    },
    Family {
        names: &["bailingmoe", "bailingmoe2", "llada-moe"],
        regexes: &[r"'(?:[sSdDmMtT]|[lL][lL]|[vV][eE]|[rR][eE])|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+"],
        shape: Shape::Bytes,
        ignore_merges: false,
        nfc: false,
    },
    Family {
        names: &["seed-coder"],
        regexes: &[r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1}| ?[^\s\p{L}\p{N}\r\n]+|\s*[\r\n]+|\s+(?!\S)|\s+"],
        shape: Shape::Bytes,
        ignore_merges: false,
        nfc: false,
    },
    Family {
        names: &["ufakzeka"],
        regexes: &[r"[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"],
        shape: Shape::Bytes,
        ignore_merges: false,
        nfc: false,
    },
    Family {
        names: &["laguna"],
        regexes: &[r"[^\n]+|[\n]+", r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"],
        shape: Shape::Bytes,
        ignore_merges: false,
        nfc: false,
    },
    Family {
        names: &["exaone-moe"],
        regexes: &[r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?(?:\p{L}\p{M}*(?: \p{L}\p{M}*)*)+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]?|\s*[\r\n]|\s+(?!\S)|\s+"],
        shape: Shape::Bytes,
        ignore_merges: false,
        nfc: false,
    },
    Family {
        names: &["minicpm5"],
        regexes: &[r"\p{N}{1,3}", r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}+| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"],
        shape: Shape::Bytes,
        ignore_merges: true,
        nfc: false,
    },
    Family {
        names: &["afmoe"],
        regexes: &[r"\d{1,3}(?=(?:\d{3})*(?!\d))", r"[一-鿿㐀-䶿豈-﫿぀-ゟ゠-ヿ･-ﾟ⼀-⿟เ-๿຀-໿ក-៿က-႟ꩠ-ꩿꧠ-꧿가-힯ᄀ-ᇿ]+", r##"[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"##],
        shape: Shape::Bytes,
        ignore_merges: false,
        nfc: false,
    },
    Family {
        names: &["gemma4", "granite-embed-multi-311m", "sarvam-moe"],
        regexes: &[],
        shape: Shape::Spaces,
        ignore_merges: false,
        nfc: false,
    },
    Family {
        names: &["whitespace"],
        regexes: &[r"\S+"],
        shape: Shape::Plain,
        ignore_merges: false,
        nfc: false,
    },
    Family {
        names: &["default"],
        regexes: &[r"[\p{P}\$\+<=>\^~\|]+", GPT2, r"\p{N}+", r"[0-9][0-9][0-9]"],
        shape: Shape::Bytes,
        ignore_merges: false,
        nfc: false,
    },
];
