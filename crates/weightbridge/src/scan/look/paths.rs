//! Files of paths for Python: `site` runs those of their lines that begin with `import`.

use super::{Looker, TEXT, decode};
use ir::{AnomalyKind, Region, Survey, Text};

impl Looker {
    /// Judges what such a file has Python run. Answers whether there is anything: a checkpoint may
    /// have the same extension.
    pub(super) fn paths(&mut self, region: &Region, place: &str) -> ir::Result<bool> {
        let len = region.len().min(TEXT);
        let bytes = region.bytes(0, usize::try_from(len).unwrap_or(usize::MAX))?;
        let lines = decode(&bytes)
            .map(|text| imports(&text))
            .unwrap_or_default();
        let cut = region.len() > TEXT && decode(&bytes).is_some();
        if lines.is_empty() && !cut {
            return Ok(false);
        }
        self.name("python");
        if cut {
            let what = "longer than any of its kind: not all of it is looked at";
            self.odd(AnomalyKind::Unreadable, place, what);
        }
        if lines.is_empty() {
            return Ok(true);
        }
        let text = Text {
            place: "lines that Python runs when it starts".to_owned(),
            language: "python",
            text: lines,
        };
        let survey = Survey {
            texts: vec![text],
            ..Survey::default()
        };
        self.keep(survey, place);
        Ok(true)
    }
}

/// The lines that are run: all others are names of folders, or comments.
fn imports(text: &str) -> String {
    let runs = |line: &&str| line.starts_with("import ") || line.starts_with("import\t");
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let lines = text.split_inclusive(scan::LINE_ENDS).filter(runs);
    lines.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_lines_that_import_are_run() {
        assert_eq!(imports("# import a\n../lib\nimportant\n"), "");
        let text = "\u{feff}import os; os.system('id')\n./x\r\nimport\ty";
        assert_eq!(imports(text), "import os; os.system('id')\nimport\ty");
        // From 3.13 on `site` has `splitlines` tell where a line ends.
        for end in ['\u{c}', '\u{1c}', '\u{85}', '\u{2028}'] {
            assert_eq!(imports(&format!("# x{end}import os")), "import os");
        }
    }
}
