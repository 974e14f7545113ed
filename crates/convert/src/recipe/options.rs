//! The options of `quantize`, read from the texts of the command line.

use super::{RecipeError, file_type::parse_type};
use bytes::Bytes;
use fancy_regex::Regex;
use ir::{DType, MetaValue};
use std::str::FromStr;

/// What the user asked for besides the file type. The names are those of `llama-quantize`.
#[derive(Clone, Debug, Default)]
pub struct QuantizeOptions {
    /// `--pure`: the base type everywhere.
    pub pure: bool,
    /// `--leave-output-tensor`: `output.weight` stays as it is.
    pub leave_output: bool,
    /// `--output-tensor-type`.
    pub output_type: Option<DType>,
    /// `--token-embedding-type`.
    pub embedding_type: Option<DType>,
    /// `--tensor-type` and the lines of `--tensor-type-file`; the first that matches wins.
    pub tensor_types: Vec<TypeRule>,
    /// `--allow-requantize`: blocks may be read and quantized again.
    pub allow_requantize: bool,
    /// `--prune-layers`, sorted; see [`super::parse_layers`].
    pub prune_layers: Vec<u32>,
    /// `--override-kv`, in the order given.
    pub overrides: Vec<Override>,
    /// `--keep-split`: the tensors keep the shards they are in.
    pub keep_split: bool,
    /// `--allow-nan`: values that are not finite are no error.
    pub allow_nan: bool,
    /// `--dry-run`: only the plan is wanted, so a missing importance matrix is a remark.
    pub dry_run: bool,
    /// `--stats`: the error of each tensor is measured while it is written.
    pub stats: bool,
}

/// `REGEX=TYPE`.
#[derive(Clone, Debug)]
pub struct TypeRule {
    pattern: Regex,
    dtype: DType,
}

impl TypeRule {
    /// The type, if the pattern is found in the name. A pattern that runs away over a name is not
    /// found in it.
    pub fn of(&self, name: &str) -> Option<DType> {
        let found = self.pattern.is_match(name).unwrap_or(false);
        found.then_some(self.dtype)
    }

    /// The pattern as it is matched.
    pub fn pattern(&self) -> &str {
        self.pattern.as_str()
    }
}

impl FromStr for TypeRule {
    type Err = RecipeError;

    /// Reads `REGEX=TYPE`. Like `llama-quantize`, the pattern ends at the first `=`, is taken in
    /// lower case and may match any part of a name. It is a regular expression of ECMAScript, with
    /// look-ahead and back references.
    fn from_str(text: &str) -> Result<Self, RecipeError> {
        let bad = |why: String| RecipeError::BadOption {
            flag: "--tensor-type",
            text: text.to_owned(),
            why,
        };
        let (pattern, dtype) = text
            .split_once('=')
            .ok_or_else(|| bad("expected PATTERN=TYPE".to_owned()))?;
        if pattern.is_empty() || dtype.is_empty() {
            return Err(bad("expected PATTERN=TYPE".to_owned()));
        }
        let pattern = pattern.to_ascii_lowercase();
        Ok(Self {
            pattern: Regex::new(&literal_classes(&pattern))
                .map_err(|error| bad(error.to_string()))?,
            dtype: parse_type(dtype)?,
        })
    }
}

/// The pattern with what ECMAScript takes literally inside brackets, and Rust does not, escaped:
/// another bracket, and the operators `&&`, `--` and `~~`. Classes like `[:alpha:]` stay.
fn literal_classes(pattern: &str) -> String {
    let mut out = String::with_capacity(pattern.len());
    let mut inside = false;
    let mut chars = pattern.chars().peekable();
    while let Some(c) = chars.next() {
        let next = chars.peek().copied();
        match c {
            '\\' => {
                out.push(c);
                out.extend(chars.next());
                continue;
            }
            '[' if inside && next == Some(':') => {
                out.push(c);
                // To the end of its name.
                for c in chars.by_ref() {
                    out.push(c);
                    if c == ']' {
                        break;
                    }
                }
                continue;
            }
            '[' | '&' | '~' if inside => out.push('\\'),
            '[' => inside = true,
            ']' => inside = false,
            '-' if inside && next == Some('-') => out.push('\\'),
            _ => {}
        }
        out.push(c);
    }
    out
}

/// Reads the text of a `--tensor-type-file`: rules between white space.
pub fn parse_type_file(text: &str) -> Result<Vec<TypeRule>, RecipeError> {
    text.split_ascii_whitespace().map(str::parse).collect()
}

/// `KEY=TYPE:VALUE`: what a key shall say in the output.
#[derive(Clone, Debug, PartialEq)]
pub struct Override {
    /// The key.
    pub key: String,
    /// Its value, in the type `llama-quantize` writes: `u32` for integers, `f32` for floats.
    pub value: MetaValue,
}

impl FromStr for Override {
    type Err = RecipeError;

    /// Reads `KEY=int:N`, `KEY=float:X`, `KEY=bool:true` or `KEY=str:TEXT`.
    fn from_str(text: &str) -> Result<Self, RecipeError> {
        let bad = |why: &str| RecipeError::BadOption {
            flag: "--override-kv",
            text: text.to_owned(),
            why: why.to_owned(),
        };
        let (key, value) = text
            .split_once('=')
            .ok_or_else(|| bad("expected KEY=TYPE:VALUE"))?;
        let (kind, value) = value
            .split_once(':')
            .ok_or_else(|| bad("expected KEY=TYPE:VALUE"))?;
        let value = match kind {
            "int" => {
                let number: i64 = value
                    .trim()
                    .parse()
                    .map_err(|_| bad("the value is no integer"))?;
                let number = u32::try_from(number.unsigned_abs());
                MetaValue::U32(number.map_err(|_| bad("the value does not fit 32 bits"))?)
            }
            "float" => {
                let number: f64 = value
                    .trim()
                    .parse()
                    .map_err(|_| bad("the value is no number"))?;
                #[allow(clippy::cast_possible_truncation)] // the key is written as f32
                MetaValue::F32(number as f32)
            }
            "bool" => MetaValue::Bool(
                value
                    .parse()
                    .map_err(|_| bad("the value is neither true nor false"))?,
            ),
            "str" => MetaValue::Str(Bytes::copy_from_slice(value.as_bytes())),
            _ => return Err(bad("the type is one of int, float, bool, str")),
        };
        Ok(Self {
            key: key.to_owned(),
            value,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ir::BlockFormat;

    #[test]
    fn rules_match_parts_of_names_in_lower_case() {
        let rule: TypeRule = r"FFN_(up|gate)=q4_K".parse().unwrap();
        assert_eq!(
            rule.of("blk.0.ffn_up.weight"),
            Some(DType::Block(BlockFormat::Q4_K))
        );
        assert_eq!(rule.of("blk.0.ffn_down.weight"), None);
        for bad in ["ffn", "=q4_K", "ffn=", "ffn=q9", "(=q4_K"] {
            assert!(bad.parse::<TypeRule>().is_err(), "{bad}");
        }
        let file = parse_type_file("a=q8_0 b=f16\n\n  c=q6_k\n").unwrap();
        assert_eq!(file.len(), 3);
        assert_eq!(file[1].pattern(), "b");
    }

    #[test]
    fn overrides_have_the_written_types() {
        let value = |text: &str| text.parse::<Override>().unwrap().value;
        assert_eq!(value("a.b=int:-7"), MetaValue::U32(7));
        assert_eq!(value("a=float:0.5"), MetaValue::F32(0.5));
        assert_eq!(value("a=bool:true"), MetaValue::Bool(true));
        assert_eq!(value("a=str:x=y:z"), MetaValue::text("x=y:z"));
        for bad in [
            "a",
            "a=1",
            "a=int:x",
            "a=bool:yes",
            "a=u8:1",
            "a=int:5000000000",
        ] {
            assert!(bad.parse::<Override>().is_err(), "{bad}");
        }
    }

    #[test]
    fn patterns_are_those_of_ecmascript() {
        let of = |pattern: &str, name: &str| {
            let rule: TypeRule = format!("{pattern}=q8_0").parse().unwrap();
            rule.of(name).is_some()
        };
        assert!(of("attn_(?!v).*", "blk.0.attn_q.weight"));
        assert!(!of("attn_(?!v).*", "blk.0.attn_v.weight"));
        assert!(of("[[a]ttn", "blk.0.attn_v.weight"));
        assert!(of(r"(\d)\.x\.\1", "blk.1.x.1"));
        assert!(of("blk.[[:digit:]]+.x", "blk.17.x"));
        assert!(of("[a&&b]x", "&x"));
    }
}
