//! What a model's name tells: `Mistral-7B-Instruct-v0.3` is a base name, a size, a finetune and a
//! version.

use crate::lower::ParameterCounts;
use regex::Regex;
use std::sync::LazyLock;

/// The parts of a model's id.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NameParts {
    /// The id without its organization.
    pub full_name: Option<String>,
    /// Before the slash.
    pub organization: Option<String>,
    /// The family.
    pub basename: Option<String>,
    /// What it was tuned to.
    pub finetune: Option<String>,
    /// `v0.3`.
    pub version: Option<String>,
    /// `7B`.
    pub size_label: Option<String>,
}

/// What a part of a name is; gguf-py allows one to be several.
#[derive(Clone, Copy, Debug, Default)]
struct Kinds {
    basename: bool,
    size: bool,
    finetune: bool,
    version: bool,
    quant: bool,
}

impl Kinds {
    fn count(self) -> usize {
        let all = [
            self.basename,
            self.size,
            self.finetune,
            self.version,
            self.quant,
        ];
        all.into_iter().filter(|is| *is).count()
    }
}

struct Patterns {
    version: Regex,
    quant: Regex,
    size: Regex,
    finetune: Regex,
    keep_case: Regex,
}

static PATTERNS: LazyLock<Option<Patterns>> = LazyLock::new(|| {
    let whole = |text: &str| Regex::new(&format!("^(?i:{text})$")).ok();
    Some(Patterns {
        version: whole(r"(v|iter)?[0-9]+([.][0-9]+)*")?,
        quant: whole(r"i?q[0-9](_\w)*|b?fp?(16|32)")?,
        size: whole(
            r"(([A]|[0-9]+[x])?[0-9]+([._][0-9]+)?[KMBT][0-9]?|small|mini|medium|large|x?xl)",
        )?,
        finetune: whole("chat|instruct|vision|lora")?,
        keep_case: Regex::new(r"^(v[0-9]+(?:\.[0-9]+)*|[0-9].*)$").ok()?,
    })
});

/// Words in title case, except versions, sizes and words that have capitals already.
pub fn title(id: &str) -> String {
    let words = id.trim().replace('-', " ");
    let words = words.split_whitespace().map(|word| {
        let cased = word.chars().any(char::is_alphabetic);
        let lower = cased && !word.chars().any(char::is_uppercase);
        let kept = PATTERNS
            .as_ref()
            .is_some_and(|p| p.keep_case.is_match(word));
        if lower && !kept {
            title_case(word)
        } else {
            word.to_owned()
        }
    });
    words.collect::<Vec<_>>().join(" ")
}

/// A capital after everything that is no letter, as Python's `str.title`.
fn title_case(word: &str) -> String {
    let mut out = String::new();
    let mut inside = false;
    for c in word.chars() {
        if inside {
            out.extend(c.to_lowercase());
        } else {
            out.extend(c.to_uppercase());
        }
        inside = c.is_alphabetic();
    }
    out
}

/// Takes an id apart. `total` is the number of parameters (0 if unknown, negative for an adapter):
/// a size in the name that is far from it is something else, such as a context length.
pub fn name_parts(id: &str, total: i64) -> NameParts {
    let mut found = NameParts::default();
    if id.contains(' ') {
        // A sentence, not an id.
        found.full_name = Some(id.to_owned());
        return found;
    }
    let full = match id.split_once('/') {
        Some((organization, full)) => {
            let relative = organization.starts_with('.');
            found.organization = Some(organization.to_owned()).filter(|_| !relative);
            full
        }
        None => id,
    };
    found.full_name = Some(full.to_owned());
    let Some(patterns) = PATTERNS.as_ref() else {
        return found;
    };
    let parts = full.split('-').filter(|part| !part.is_empty());
    let mut parts: Vec<(String, Kinds)> = parts
        .enumerate()
        .map(|(i, part)| annotate(patterns, i, part, total))
        .collect();
    let numbered = parts
        .iter()
        .any(|(part, kinds)| kinds.size && part.chars().any(|c| c.is_ascii_digit()));
    if numbered {
        for (part, kinds) in &mut parts {
            kinds.size &= !part.chars().all(char::is_alphabetic);
        }
    }
    let mut at_start = true;
    for (part, kinds) in &mut parts {
        let word = part.chars().next().is_some_and(char::is_alphabetic);
        if at_start && (kinds.count() == 0 && word || kinds.version) {
            kinds.basename = true;
        } else {
            at_start = false;
            kinds.finetune |= kinds.count() == 0;
        }
    }
    for (_, kinds) in parts.iter_mut().rev() {
        if !kinds.basename || kinds.count() <= 1 {
            break;
        }
        kinds.basename = false;
    }
    let join = |is: &dyn Fn(&Kinds) -> bool| {
        let mut chosen: Vec<&str> = Vec::new();
        for (part, _) in parts.iter().filter(|(_, kinds)| is(kinds)) {
            chosen.push(part);
        }
        chosen
    };
    let some = |list: Vec<&str>| Some(list.join("-")).filter(|text| !text.is_empty());
    let mut sizes = Vec::new();
    for size in join(&|kinds| kinds.size) {
        if !sizes.contains(&size) {
            sizes.push(size);
        }
    }
    found.size_label = some(sizes);
    found.finetune = some(join(&|kinds| kinds.finetune));
    found.version = some(join(&|kinds| kinds.version && !kinds.basename));
    // A base name alone says nothing the name does not.
    let ambiguous =
        found.size_label.is_none() && found.finetune.is_none() && found.version.is_none();
    found.basename = some(join(&|kinds| kinds.basename)).filter(|_| !ambiguous);
    found
}

fn annotate(patterns: &Patterns, i: usize, part: &str, total: i64) -> (String, Kinds) {
    let mut kinds = Kinds::default();
    let mut part = part.to_owned();
    if patterns.version.is_match(&part) {
        kinds.version = true;
    } else if patterns.quant.is_match(&part) {
        kinds.quant = true;
        part = part.to_uppercase();
    } else if i > 0 && patterns.size.is_match(&part) {
        part = size(&part, total, &mut kinds);
    } else if i > 0 && patterns.finetune.is_match(&part) {
        if total < 0 && part.eq_ignore_ascii_case("lora") {
            kinds.quant = true;
        } else {
            kinds.finetune = true;
        }
    }
    (part, kinds)
}

/// A size as it is usually written, or a finetune if the model is far from that size.
fn size(part: &str, total: i64, kinds: &mut Kinds) -> String {
    let mut chars: Vec<char> = part.replace('_', ".").chars().collect();
    // bloom-7b1 is 7.1B.
    if let [.., unit, digit] = chars.as_slice()
        && digit.is_ascii_digit()
    {
        let (unit, digit) = (*unit, *digit);
        chars.truncate(chars.len() - 2);
        chars.extend(['.', digit, unit]);
    }
    if let [.., before, unit] = chars.as_mut_slice()
        && before.is_ascii_digit()
        && "kmbt".contains(*unit)
    {
        *unit = unit.to_ascii_uppercase();
    }
    if let Some((unit, number)) = chars.split_last()
        && let Ok(number) = number.iter().collect::<String>().parse::<f64>()
        && total != 0
    {
        let power = " KMBT"
            .find(*unit)
            .map_or(-1, |power| i32::try_from(power).unwrap_or(0));
        let told = number * 1000f64.powi(power);
        let size = total.unsigned_abs();
        let far = if total < 0 {
            told < (size / 8) as f64
        } else {
            (told - size as f64).abs() > (u128::from(size) * 7 / 8) as f64
        };
        if far {
            kinds.finetune = true;
            if let Some(unit) = chars.last_mut() {
                *unit = unit.to_ascii_lowercase();
            }
        }
    }
    kinds.size = kinds.count() == 0;
    chars.into_iter().collect()
}

/// The size of a model in words: `8.0B`, `8x6.6B`.
pub fn size_label(counts: &ParameterCounts) -> String {
    if counts.experts > 0 {
        let one = counts.shared.saturating_add(counts.expert);
        format!("{}x{}", counts.experts, rounded(one))
    } else {
        rounded(counts.total)
    }
}

/// At least two digits, and a unit.
fn rounded(n: u64) -> String {
    let n = n as f64;
    let (scaled, unit) = if n > 1e12 {
        (n * 1e-12, 'T')
    } else if n > 1e9 {
        (n * 1e-9, 'B')
    } else if n > 1e6 {
        (n * 1e-6, 'M')
    } else {
        (n * 1e-3, 'K')
    };
    let digits = scaled.round_ties_even().to_string();
    let digits = digits.trim_start_matches('0').len();
    format!("{scaled:.*}{unit}", 2usize.saturating_sub(digits))
}
