//! Which models of a tree are meant.

use crate::MigrateError;
use globset::{Glob, GlobBuilder, GlobSet, GlobSetBuilder};
use ir::Result;

/// `--include` and `--exclude`.
#[derive(Debug)]
pub(crate) struct Selection {
    include: Patterns,
    exclude: Patterns,
}

/// Patterns with a `/` are about whole paths, the others about any one part of a path.
#[derive(Debug)]
struct Patterns {
    paths: GlobSet,
    parts: GlobSet,
}

impl Selection {
    pub(crate) fn new(include: &[String], exclude: &[String]) -> Result<Self> {
        Ok(Self {
            include: Patterns::new(include)?,
            exclude: Patterns::new(exclude)?,
        })
    }

    /// Whether a path from the root is meant: no pattern of `--include`, or one that fits it or a
    /// folder above it; and none of `--exclude`.
    pub(crate) fn takes(&self, path: &str) -> bool {
        let wanted = self.include.is_empty() || self.include.fit(path);
        wanted && !self.exclude.fit(path)
    }

    /// Patterns of a list that none of the paths fits.
    pub(crate) fn unmatched(patterns: &[String], paths: &[&str]) -> Result<Vec<String>> {
        let mut unmatched = Vec::new();
        for pattern in patterns {
            let one = Patterns::new(std::slice::from_ref(pattern))?;
            if !paths.iter().any(|path| one.fit(path)) {
                unmatched.push(pattern.clone());
            }
        }
        Ok(unmatched)
    }

    /// Whether a path fits a pattern of `--exclude`.
    pub(crate) fn excludes(&self, path: &str) -> bool {
        self.exclude.fit(path)
    }
}

impl Patterns {
    fn new(patterns: &[String]) -> Result<Self> {
        let mut paths = GlobSetBuilder::new();
        let mut parts = GlobSetBuilder::new();
        for pattern in patterns {
            let trimmed = pattern.trim_end_matches('/');
            let glob = glob(trimmed).map_err(|error| MigrateError::Glob {
                pattern: pattern.clone(),
                why: error.kind().to_string(),
            })?;
            let set = if trimmed.contains('/') {
                &mut paths
            } else {
                &mut parts
            };
            set.add(glob);
        }
        let build = |set: GlobSetBuilder| {
            set.build().map_err(|error| MigrateError::Glob {
                pattern: patterns.join(" "),
                why: error.kind().to_string(),
            })
        };
        Ok(Self {
            paths: build(paths)?,
            parts: build(parts)?,
        })
    }

    fn is_empty(&self) -> bool {
        self.paths.is_empty() && self.parts.is_empty()
    }

    fn fit(&self, path: &str) -> bool {
        let mut above = path;
        loop {
            let part = crate::place::name(above);
            if self.paths.is_match(above) || self.parts.is_match(part) {
                return true;
            }
            above = crate::place::parent(above);
            if above.is_empty() {
                return false;
            }
        }
    }
}

/// `*` stays inside one folder, `**` does not.
fn glob(pattern: &str) -> std::result::Result<Glob, globset::Error> {
    GlobBuilder::new(pattern.trim_start_matches("./"))
        .literal_separator(true)
        .backslash_escape(true)
        .build()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn takes(include: &[&str], exclude: &[&str], path: &str) -> bool {
        let owned = |list: &[&str]| list.iter().map(|p| (*p).to_owned()).collect::<Vec<_>>();
        Selection::new(&owned(include), &owned(exclude))
            .unwrap()
            .takes(path)
    }

    #[test]
    fn patterns_are_about_paths_or_their_parts() {
        let path = "org/tiny/pytorch_model.bin";
        for include in [
            "org",
            "org/*",
            "org/tiny/",
            "*.bin",
            "**/pytorch_model.bin",
            "tiny",
        ] {
            assert!(takes(&[include], &[], path), "{include}");
        }
        for include in ["org/*.bin", "tin", "other/**"] {
            assert!(!takes(&[include], &[], path), "{include}");
        }
        assert!(takes(&[], &[], path));
        assert!(!takes(&[], &["t*y"], path));
        assert!(Selection::new(&["a[".to_owned()], &[]).is_err());
        let patterns = ["tiny", "tini"].map(str::to_owned);
        assert_eq!(
            Selection::unmatched(&patterns, &[path, "other"]).unwrap(),
            ["tini"]
        );
    }
}
