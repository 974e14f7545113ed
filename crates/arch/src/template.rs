//! Tensor names with places in them: `model.layers.{bid}.mlp.experts.{xid}.up_proj.{s}`.
//!
//! `{bid}` is a block's number, `{xid}` an expert's, `{s}` is `weight` or `bias`.

/// A name with places.
#[derive(Clone, Debug)]
pub(crate) struct Template {
    text: String,
    parts: Vec<Part>,
}

/// A part of a name. There are thousands of templates and a model needs those of one table: a regex for
/// each took 40 MB.
#[derive(Clone, Debug)]
enum Part {
    Text(String),
    Bid,
    Xid,
    S,
}

/// The places as they are written.
const PLACES: [(&str, Part); 3] = [("{bid}", Part::Bid), ("{xid}", Part::Xid), ("{s}", Part::S)];
/// Most digits of a number.
const DIGITS: usize = 9;

/// What stood in the places of a name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Places {
    pub(crate) bid: Option<u64>,
    pub(crate) xid: Option<u64>,
    pub(crate) s: Option<String>,
}

impl Template {
    /// Reads a template.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let bad = || format!("{text:?} has an unknown place or one twice");
        let mut parts = Vec::new();
        let mut free: Vec<_> = PLACES.iter().collect();
        let mut rest = text;
        while let Some(at) = rest.find('{') {
            let (before, from) = rest.split_at(at);
            let found = free.iter().position(|(place, _)| from.starts_with(place));
            let (place, part) = free.swap_remove(found.ok_or_else(bad)?);
            if !before.is_empty() {
                parts.push(Part::Text(before.to_owned()));
            }
            parts.push(part.clone());
            rest = from.strip_prefix(place).unwrap_or_default();
        }
        if !rest.is_empty() {
            parts.push(Part::Text(rest.to_owned()));
        }
        let text = text.to_owned();
        Ok(Self { text, parts })
    }

    /// What stands in the places of `name`, if it is of this form.
    pub(crate) fn matches(&self, name: &str) -> Option<Places> {
        let mut places = Places::default();
        fits(&self.parts, name, &mut places).then_some(places)
    }

    /// The name with these in its places.
    pub(crate) fn fill(&self, places: &Places) -> String {
        let mut name = self.text.clone();
        for (place, value) in [("{bid}", places.bid), ("{xid}", places.xid)] {
            if let Some(value) = value {
                name = name.replace(place, &value.to_string());
            }
        }
        match &places.s {
            Some(s) => name.replace("{s}", s),
            None => name,
        }
    }

    /// Whether it has the place.
    pub(crate) fn has(&self, place: &str) -> bool {
        self.text.contains(place)
    }

    /// As it is written.
    pub(crate) fn text(&self) -> &str {
        &self.text
    }
}

/// Whether the parts are all of `name`. A number takes as many digits as it can; the calls nest as deep
/// as there are parts.
fn fits(parts: &[Part], name: &str, places: &mut Places) -> bool {
    let Some((part, parts)) = parts.split_first() else {
        return name.is_empty();
    };
    match part {
        Part::Text(text) => {
            let rest = name.strip_prefix(text.as_str());
            rest.is_some_and(|rest| fits(parts, rest, places))
        }
        Part::S => ["weight", "bias"].into_iter().any(|word| {
            let rest = name.strip_prefix(word);
            let fit = rest.is_some_and(|rest| fits(parts, rest, places));
            if fit {
                places.s = Some(word.to_owned());
            }
            fit
        }),
        Part::Bid | Part::Xid => {
            let digits = name.bytes().take(DIGITS);
            let most = digits.take_while(u8::is_ascii_digit).count();
            (1..=most).rev().any(|len| {
                // Digits are a byte each.
                let Some((digits, rest)) = name.split_at_checked(len) else {
                    return false;
                };
                let fit = fits(parts, rest, places);
                if fit {
                    let number = digits.parse().ok();
                    match part {
                        Part::Bid => places.bid = number,
                        _ => places.xid = number,
                    }
                }
                fit
            })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_and_words_go_where_they_fit() {
        let of = |text: &str, name: &str| {
            let found = Template::parse(text).unwrap().matches(name)?;
            Some((found.bid, found.xid, found.s))
        };
        let s = |word: &str| Some(word.to_owned());
        assert_eq!(
            of("l{bid}2.{s}", "l1222.weight"),
            Some((Some(122), None, s("weight")))
        );
        assert_eq!(of("{bid}{xid}", "123"), Some((Some(12), Some(3), None)));
        assert_eq!(of("{s}es", "biases"), Some((None, None, s("bias"))));
        assert_eq!(
            of("a.{bid}", "a.123456789"),
            Some((Some(123_456_789), None, None))
        );
        for (text, name) in [
            ("a.{bid}", "a.1234567890"),
            ("a.{bid}", "a."),
            ("a.{bid}", "a.1\n"),
            ("a.{bid}", "a.\u{665}"),
            ("a", "ab"),
            ("a.{s}", "a.weights"),
            ("a.b", "axb"),
        ] {
            assert_eq!(of(text, name), None, "{text} {name}");
        }
        assert!(Template::parse("{bid}.{bid}").is_err());
        assert!(Template::parse("{bid").is_err());
    }

    #[test]
    fn matches_and_fills() {
        let template = Template::parse("model.layers.{bid}.experts.{xid}.w.{s}").unwrap();
        let places = template
            .matches("model.layers.12.experts.3.w.bias")
            .unwrap();
        assert_eq!(
            (places.bid, places.xid, places.s.as_deref()),
            (Some(12), Some(3), Some("bias"))
        );
        assert_eq!(template.fill(&places), "model.layers.12.experts.3.w.bias");
        assert!(
            template
                .matches("model.layers.x.experts.3.w.bias")
                .is_none()
        );
        assert!(
            template
                .matches("model_layers.1.experts.3.w.bias")
                .is_none()
        );
        assert!(Template::parse("{nope}").is_err());
    }
}
