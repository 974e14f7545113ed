//! `requirements.txt`: packages that are installed for a model from elsewhere than the index of
//! everybody's. Installing one runs its code.

use crate::ledger::Ledger;
use crate::rules;

/// Hosts of indexes that are as good as PyPI: its own, PyTorch's, NVIDIA's.
const HOSTS: &[&str] = &["download.pytorch.org", "pypi.nvidia.com", "pypi.org"];

/// Judges each line; one that ends in `\` goes on in the next.
pub(super) fn judge(text: &str, ledger: &mut Ledger<'_>) {
    let joined = text.replace("\\\r\n", " ").replace("\\\n", " ");
    let mut at = 0u64;
    for raw in joined.split_inclusive('\n') {
        let line = raw.split(" #").next().unwrap_or_default().trim();
        if !line.starts_with('#') && elsewhere(line) {
            let shown = || line.chars().take(200).collect();
            ledger.note(rules::REMOTE_CODE, "requirements", at, shown);
        }
        at += raw.len() as u64;
    }
}

/// Whether a line has an address, of an index or of a package, on a host that is not known.
fn elsewhere(line: &str) -> bool {
    let lower = line.to_ascii_lowercase();
    lower.split("://").skip(1).any(|rest| {
        let host = rest.split(['/', '?', '#', ' ']).next().unwrap_or_default();
        !HOSTS.contains(&host)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::noted_rules;

    fn told(text: &str) -> bool {
        !noted_rules("requirements.txt", |ledger| judge(text, ledger)).is_empty()
    }

    #[test]
    fn packages_from_elsewhere() {
        for text in [
            "torch\n--index-url http://evil.example/simple\n",
            "--extra-index-url=https://evil.example/simple",
            "--extra-index-url \\\n https://evil.example/simple",
            "-i https://pypi.org@evil.example/simple",
            "-e git+https://example.org/x.git#egg=x",
            "evil @ https://evil.example/x.whl",
            "git+ssh://git@example.org/x.git",
            "https://evil.example/x.whl",
            "-f https://evil.example/",
        ] {
            assert!(told(text), "{text}");
        }
        for text in [
            "torch>=2.0\nnumpy==1.26 # see https://example.org\n# https://example.org\n-e .\n-r more.txt\n",
            "--extra-index-url https://download.pytorch.org/whl/cu121\ntorch\n",
            "--index-url https://pypi.org/simple",
            "",
        ] {
            assert!(!told(text), "{text}");
        }
    }
}
