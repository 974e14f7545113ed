//! Tensor names with places in them: `model.layers.{bid}.mlp.experts.{xid}.up_proj.{s}`.
//!
//! `{bid}` is a block's number, `{xid}` an expert's, `{s}` is `weight` or `bias`.

use regex::Regex;

/// A name with places.
#[derive(Clone, Debug)]
pub(crate) struct Template {
    text: String,
    regex: Regex,
}

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
        let mut pattern = regex::escape(text);
        for (place, class) in [
            ("bid", "[0-9]{1,9}"),
            ("xid", "[0-9]{1,9}"),
            ("s", "weight|bias"),
        ] {
            let escaped = regex::escape(&format!("{{{place}}}"));
            pattern = pattern.replacen(&escaped, &format!("(?<{place}>{class})"), 1);
        }
        if pattern.contains("\\{") {
            return Err(format!("{text:?} has an unknown place or one twice"));
        }
        let regex = Regex::new(&format!("^{pattern}$")).map_err(|error| error.to_string())?;
        Ok(Self {
            text: text.to_owned(),
            regex,
        })
    }

    /// What stands in the places of `name`, if it is of this form.
    pub(crate) fn matches(&self, name: &str) -> Option<Places> {
        let found = self.regex.captures(name)?;
        let number = |place| found.name(place).and_then(|m| m.as_str().parse().ok());
        Some(Places {
            bid: number("bid"),
            xid: number("xid"),
            s: found.name("s").map(|m| m.as_str().to_owned()),
        })
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

#[cfg(test)]
mod tests {
    use super::*;

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
