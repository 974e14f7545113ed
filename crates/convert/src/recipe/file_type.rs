//! The file types of `llama-quantize`: what a user asks for, what `general.file_type` says.
//!
//! Names, numbers and descriptions are those of llama.cpp's `tools/quantize/quantize.cpp` and
//! `include/llama.h` (release v0.5.0), base types those of `llama_ftype_get_default_type`.

use super::RecipeError;
use ir::{BlockFormat, DType};
use std::fmt;
use std::str::FromStr;

/// A mixture of types a model is quantized to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(non_camel_case_types, missing_docs)] // the field's own spelling; the table documents each
#[non_exhaustive]
pub enum FileType {
    F32,
    F16,
    BF16,
    Q1_0,
    Q2_0,
    Q4_0,
    Q4_1,
    Q5_0,
    Q5_1,
    Q8_0,
    Q2_K,
    Q2_K_S,
    Q3_K_S,
    Q3_K_M,
    Q3_K_L,
    Q4_K_S,
    Q4_K_M,
    Q5_K_S,
    Q5_K_M,
    Q6_K,
    IQ1_S,
    IQ1_M,
    IQ2_XXS,
    IQ2_XS,
    IQ2_S,
    IQ2_M,
    IQ3_XXS,
    IQ3_XS,
    IQ3_S,
    IQ3_M,
    IQ4_NL,
    IQ4_XS,
    TQ1_0,
    TQ2_0,
    MXFP4_MOE,
    /// Every tensor as it is; only order and metadata change.
    Copy,
}

/// What the tables know of a file type.
struct Row {
    file_type: FileType,
    name: &'static str,
    /// `enum llama_ftype`. `Copy` has none of its own: the file keeps the one it has.
    id: Option<u32>,
    /// The type of a tensor that no rule bumps.
    base: DType,
    about: &'static str,
}

const fn row(
    file_type: FileType,
    name: &'static str,
    id: u32,
    base: BlockFormat,
    about: &'static str,
) -> Row {
    Row {
        file_type,
        name,
        id: Some(id),
        base: DType::Block(base),
        about,
    }
}

const fn plain(
    file_type: FileType,
    name: &'static str,
    id: u32,
    base: DType,
    about: &'static str,
) -> Row {
    Row {
        file_type,
        name,
        id: Some(id),
        base,
        about,
    }
}

/// In the order `llama-quantize` lists them: a number means the first that has it.
#[rustfmt::skip]
const ROWS: &[Row] = &[
    row(FileType::Q1_0, "Q1_0", 40, BlockFormat::Q1_0, "1.125 bits a weight"),
    row(FileType::Q2_0, "Q2_0", 41, BlockFormat::Q2_0, "2.25 bits a weight, groups of 64"),
    row(FileType::Q4_0, "Q4_0", 2, BlockFormat::Q4_0, "4.34G, +0.4685 ppl @ Llama-3-8B"),
    row(FileType::Q4_1, "Q4_1", 3, BlockFormat::Q4_1, "4.78G, +0.4511 ppl @ Llama-3-8B"),
    row(FileType::MXFP4_MOE, "MXFP4_MOE", 38, BlockFormat::MXFP4, "experts MXFP4, the rest Q8_0"),
    row(FileType::Q5_0, "Q5_0", 8, BlockFormat::Q5_0, "5.21G, +0.1316 ppl @ Llama-3-8B"),
    row(FileType::Q5_1, "Q5_1", 9, BlockFormat::Q5_1, "5.65G, +0.1062 ppl @ Llama-3-8B"),
    row(FileType::IQ2_XXS, "IQ2_XXS", 19, BlockFormat::IQ2_XXS, "2.06 bits a weight"),
    row(FileType::IQ2_XS, "IQ2_XS", 20, BlockFormat::IQ2_XS, "2.31 bits a weight"),
    row(FileType::IQ2_S, "IQ2_S", 28, BlockFormat::IQ2_XS, "2.5 bits a weight"),
    row(FileType::IQ2_M, "IQ2_M", 29, BlockFormat::IQ2_S, "2.7 bits a weight"),
    row(FileType::IQ1_S, "IQ1_S", 24, BlockFormat::IQ1_S, "1.56 bits a weight"),
    row(FileType::IQ1_M, "IQ1_M", 31, BlockFormat::IQ1_M, "1.75 bits a weight"),
    row(FileType::TQ1_0, "TQ1_0", 36, BlockFormat::TQ1_0, "1.69 bits a weight, ternary"),
    row(FileType::TQ2_0, "TQ2_0", 37, BlockFormat::TQ2_0, "2.06 bits a weight, ternary"),
    row(FileType::Q2_K, "Q2_K", 10, BlockFormat::Q2_K, "2.96G, +3.5199 ppl @ Llama-3-8B"),
    row(FileType::Q2_K_S, "Q2_K_S", 21, BlockFormat::Q2_K, "2.96G, +3.1836 ppl @ Llama-3-8B"),
    row(FileType::IQ3_XXS, "IQ3_XXS", 23, BlockFormat::IQ3_XXS, "3.06 bits a weight"),
    row(FileType::IQ3_S, "IQ3_S", 26, BlockFormat::IQ3_S, "3.44 bits a weight"),
    row(FileType::IQ3_M, "IQ3_M", 27, BlockFormat::IQ3_S, "3.66 bits a weight, a mixture"),
    row(FileType::IQ3_XS, "IQ3_XS", 22, BlockFormat::IQ3_S, "3.3 bits a weight"),
    row(FileType::Q3_K_S, "Q3_K_S", 11, BlockFormat::Q3_K, "3.41G, +1.6321 ppl @ Llama-3-8B"),
    row(FileType::Q3_K_M, "Q3_K_M", 12, BlockFormat::Q3_K, "3.74G, +0.6569 ppl @ Llama-3-8B"),
    row(FileType::Q3_K_L, "Q3_K_L", 13, BlockFormat::Q3_K, "4.03G, +0.5562 ppl @ Llama-3-8B"),
    row(FileType::IQ4_NL, "IQ4_NL", 25, BlockFormat::IQ4_NL, "4.50 bits a weight, non-linear"),
    row(FileType::IQ4_XS, "IQ4_XS", 30, BlockFormat::IQ4_XS, "4.25 bits a weight, non-linear"),
    row(FileType::Q4_K_S, "Q4_K_S", 14, BlockFormat::Q4_K, "4.37G, +0.2689 ppl @ Llama-3-8B"),
    row(FileType::Q4_K_M, "Q4_K_M", 15, BlockFormat::Q4_K, "4.58G, +0.1754 ppl @ Llama-3-8B"),
    row(FileType::Q5_K_S, "Q5_K_S", 16, BlockFormat::Q5_K, "5.21G, +0.1049 ppl @ Llama-3-8B"),
    row(FileType::Q5_K_M, "Q5_K_M", 17, BlockFormat::Q5_K, "5.33G, +0.0569 ppl @ Llama-3-8B"),
    row(FileType::Q6_K, "Q6_K", 18, BlockFormat::Q6_K, "6.14G, +0.0217 ppl @ Llama-3-8B"),
    row(FileType::Q8_0, "Q8_0", 7, BlockFormat::Q8_0, "7.96G, +0.0026 ppl @ Llama-3-8B"),
    plain(FileType::F16, "F16", 1, DType::F16, "14.00G, +0.0020 ppl @ Mistral-7B"),
    plain(FileType::BF16, "BF16", 32, DType::BF16, "14.00G, -0.0050 ppl @ Mistral-7B"),
    plain(FileType::F32, "F32", 0, DType::F32, "26.00G @ 7B"),
    Row { file_type: FileType::Copy, name: "COPY", id: None, base: DType::F32,
          about: "tensors as they are, nothing is quantized" },
];

/// Second names.
const ALIASES: &[(&str, FileType)] = &[
    ("Q3_K", FileType::Q3_K_M),
    ("Q4_K", FileType::Q4_K_M),
    ("Q5_K", FileType::Q5_K_M),
];

/// What `general.file_type` says of the type most tensors have when the key is missing
/// (`llama_model_loader`), with [`GUESSED`] added. Types not here count as `F32`.
const GUESSES: &[(DType, u32)] = &[
    (DType::F32, 0),
    (DType::F16, 1),
    (DType::BF16, 32),
    (DType::Block(BlockFormat::Q4_0), 2),
    (DType::Block(BlockFormat::Q4_1), 3),
    (DType::Block(BlockFormat::Q5_0), 8),
    (DType::Block(BlockFormat::Q5_1), 9),
    (DType::Block(BlockFormat::Q8_0), 7),
    (DType::Block(BlockFormat::Q2_K), 10),
    (DType::Block(BlockFormat::Q3_K), 12),
    (DType::Block(BlockFormat::Q4_K), 15),
    (DType::Block(BlockFormat::Q5_K), 17),
    (DType::Block(BlockFormat::Q6_K), 18),
    (DType::Block(BlockFormat::TQ1_0), 36),
    (DType::Block(BlockFormat::TQ2_0), 37),
    (DType::Block(BlockFormat::IQ2_XXS), 19),
    (DType::Block(BlockFormat::IQ2_XS), 20),
    (DType::Block(BlockFormat::IQ2_S), 28),
    (DType::Block(BlockFormat::IQ3_XXS), 23),
    (DType::Block(BlockFormat::IQ1_S), 24),
    (DType::Block(BlockFormat::IQ1_M), 31),
    (DType::Block(BlockFormat::IQ4_NL), 25),
    (DType::Block(BlockFormat::IQ4_XS), 30),
    (DType::Block(BlockFormat::IQ3_S), 26),
    (DType::Block(BlockFormat::NVFP4), 39),
    (DType::Block(BlockFormat::Q1_0), 40),
    (DType::Block(BlockFormat::Q2_0), 41),
];

/// Marks a file type that was guessed from the tensors (`LLAMA_FTYPE_GUESSED`).
const GUESSED: u32 = 1024;

/// The file type of a model that does not say: that of the type most tensors have. Among equals
/// the one that reached the count first wins, in the order given.
pub(crate) fn guess(dtypes: impl Iterator<Item = DType>) -> u32 {
    of_type(most(dtypes)).unwrap_or(0) | GUESSED
}

/// What `general.file_type` says of a model whose matrices have these types: the type that most of
/// them have, as `guess` has it, but as a file says it that is sure. MXFP4, of which a runtime
/// guesses nothing, is `MXFP4_MOE`.
pub fn file_type_of(matrices: impl Iterator<Item = DType>) -> u32 {
    let dtype = most(matrices);
    let mut rows = ROWS.iter();
    let row = || rows.find(|row| row.base == dtype).and_then(|row| row.id);
    of_type(dtype).or_else(row).unwrap_or(0)
}

fn of_type(dtype: DType) -> Option<u32> {
    let row = GUESSES.iter().find(|row| row.0 == dtype);
    row.map(|row| row.1)
}

fn most(dtypes: impl Iterator<Item = DType>) -> DType {
    let mut counts: Vec<(DType, u64)> = Vec::new();
    let mut most = (DType::F32, 0);
    for dtype in dtypes {
        let count = if let Some((_, count)) = counts.iter_mut().find(|(seen, _)| *seen == dtype) {
            *count += 1;
            *count
        } else {
            counts.push((dtype, 1));
            1
        };
        if count > most.1 {
            most = (dtype, count);
        }
    }
    most.0
}

impl FileType {
    /// Every file type, in the order `llama-quantize` lists them.
    pub fn all() -> impl Iterator<Item = Self> {
        ROWS.iter().map(|row| row.file_type)
    }

    fn row(self) -> &'static Row {
        // The table names every variant, which a test asserts.
        ROWS.iter()
            .find(|row| row.file_type == self)
            .unwrap_or(&ROWS[0])
    }

    /// The name, e.g. `Q4_K_M`.
    pub fn name(self) -> &'static str {
        self.row().name
    }

    /// What `general.file_type` says; `None` for [`FileType::Copy`], which keeps what is there.
    pub fn id(self) -> Option<u32> {
        self.row().id
    }

    /// The type of tensors that no rule bumps.
    pub fn base(self) -> DType {
        self.row().base
    }

    /// A few words for a list of types.
    pub fn about(self) -> &'static str {
        self.row().about
    }

    /// Second names, e.g. `Q4_K` for `Q4_K_M`.
    pub fn aliases() -> impl Iterator<Item = (&'static str, Self)> {
        ALIASES.iter().copied()
    }
}

impl fmt::Display for FileType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for FileType {
    type Err = RecipeError;

    /// Reads a name in any case, or the number of the type, as `llama-quantize` does.
    fn from_str(text: &str) -> Result<Self, RecipeError> {
        let names = ROWS.iter().map(|row| (row.name, row.file_type));
        let named = names
            .chain(FileType::aliases())
            .find(|(name, _)| name.eq_ignore_ascii_case(text));
        if let Some((_, file_type)) = named {
            return Ok(file_type);
        }
        let id: Option<u32> = text.trim().parse().ok();
        ROWS.iter()
            .find(|row| id.is_some() && row.id == id)
            .map(|row| row.file_type)
            .ok_or_else(|| RecipeError::UnknownFileType {
                text: text.to_owned(),
            })
    }
}

/// The tensor type of a name as ggml spells it, in any case: `q6_K`, `f16`. Only types that
/// weights can be quantized to.
pub fn parse_type(text: &str) -> Result<DType, RecipeError> {
    let targets = [DType::F32, DType::F16, DType::BF16].into_iter();
    let blocks = BlockFormat::all()
        .filter(|block| !matches!(block, BlockFormat::Q8_1 | BlockFormat::Q8_K))
        .map(DType::Block);
    targets
        .chain(blocks)
        .find(|dtype| dtype.name().eq_ignore_ascii_case(text))
        .ok_or_else(|| RecipeError::UnknownType {
            text: text.to_owned(),
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers_read_back() {
        for file_type in FileType::all() {
            assert_eq!(file_type.name().parse::<FileType>().unwrap(), file_type);
            assert_eq!(file_type.row().file_type, file_type);
            if let Some(id) = file_type.id() {
                assert_eq!(id.to_string().parse::<FileType>().unwrap(), file_type);
            }
        }
        assert_eq!(FileType::all().count(), 36);
        assert_eq!("q4_k".parse::<FileType>().unwrap(), FileType::Q4_K_M);
        assert_eq!("0".parse::<FileType>().unwrap(), FileType::F32);
        assert!("4".parse::<FileType>().is_err());
        assert!("NVFP4".parse::<FileType>().is_err());
        assert!("out.gguf".parse::<FileType>().is_err());
    }

    #[test]
    fn types_are_ggmls() {
        assert_eq!(parse_type("q6_k").unwrap(), DType::Block(BlockFormat::Q6_K));
        assert_eq!(parse_type("BF16").unwrap(), DType::BF16);
        for no in ["q8_k", "q8_1", "F8_E4M3", "i32", ""] {
            assert!(parse_type(no).is_err(), "{no}");
        }
    }

    #[test]
    fn the_first_to_reach_the_most_is_guessed() {
        let q8 = DType::Block(BlockFormat::Q8_0);
        assert_eq!(
            guess([DType::F32, q8, q8, DType::F32].into_iter()),
            1024 + 7
        );
        assert_eq!(guess([DType::I32].into_iter()), 1024);
        assert_eq!(guess(std::iter::empty()), 1024);
        let mx = DType::Block(BlockFormat::MXFP4);
        assert_eq!(guess([mx].into_iter()), 1024);
        assert_eq!(file_type_of([mx].into_iter()), 38);
        assert_eq!(file_type_of([q8, DType::F16, q8].into_iter()), 7);
    }
}
