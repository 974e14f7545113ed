//! HyperPyYAML, in which SpeechBrain writes its `hyperparams.yaml`: tags that import and call
//! while the text is read.
//!
//! | tag | what the loader does |
//! |---|---|
//! | `!new:a.B`, `!apply:a.b`, `!applyref:a.b` | imports `a` and calls what the name leads to |
//! | `!name:a.b` | the same, and keeps it to be called |
//! | `!module:a` | imports `a` |
//! | `!include:x.yaml` | reads another file in the same way |

use super::called::{called, handed, imported};
use super::config::leaves;
use crate::ledger::Ledger;
use crate::rules;

/// Tags whose rest is a name that is called.
const CALLS: &[&str] = &["!apply:", "!applyref:", "!new:"];
const NAMED: &str = "!name:";
const MODULE: &str = "!module:";
const INCLUDE: &str = "!include:";
/// Bytes of a name that are looked at: what is longer is none.
const NAME: usize = 1025;

/// Judges the tags of one line, its `%6f` resolved.
pub(super) fn line(line: &str, at: u64, ledger: &mut Ledger<'_>) {
    if !line.contains('!') {
        return;
    }
    for tag in CALLS {
        for name in behind(line, tag) {
            called(rules::YAML_OBJECT, tag, name, at, ledger);
        }
    }
    for name in behind(line, NAMED) {
        handed(rules::YAML_OBJECT, NAMED, name, at, ledger);
    }
    for module in behind(line, MODULE) {
        imported(rules::YAML_OBJECT, MODULE, module, at, ledger);
    }
    for file in behind(line, INCLUDE) {
        if leaves(file) {
            // A recipe includes what recipes beside it have, too.
            let beside = !file.starts_with(['/', '\\', '~']) && file.get(1..2) != Some(":");
            let rule = if beside {
                rules::REMOTE_CODE
            } else {
                rules::YAML_OBJECT
            };
            let more = || format!("it reads {file} as settings of its own");
            ledger.note(rule, file, at, more);
        }
    }
}

/// Whether a handle that a text declares stands for a part of such a tag: then the tags themselves
/// are not to be seen, and no honest recipe has one.
pub(super) fn hides(prefix: &str) -> bool {
    let tags = CALLS.iter().chain([&NAMED, &MODULE, &INCLUDE]);
    let mut tags = tags.filter(|_| prefix.len() > 1);
    tags.any(|tag| tag.starts_with(prefix) || prefix.starts_with(tag))
}

/// What stands behind each such tag.
fn behind<'a>(line: &'a str, tag: &str) -> impl Iterator<Item = &'a str> {
    let len = tag.len();
    line.match_indices(tag).map(move |(from, _)| {
        let rest = line.get(from + len..).unwrap_or_default();
        let ends = |c: char| c.is_whitespace() || matches!(c, ',' | '>' | ']' | '}' | '"' | '\'');
        let mut chars = rest.char_indices().take(NAME);
        let end = chars.find(|(_, c)| ends(*c)).map(|(end, _)| end);
        let all = if rest.len() < NAME { rest } else { "" };
        end.map_or(all, |end| rest.get(..end).unwrap_or_default())
    })
}

#[cfg(test)]
mod tests {
    use super::super::yaml::judge;
    use crate::testing::noted_rules;

    fn findings(text: &str) -> Vec<&'static str> {
        noted_rules("hyperparams.yaml", |ledger| judge(text, ledger))
    }

    #[test]
    fn tags_that_call_what_is_dangerous_or_unknown() {
        for text in [
            "a: !apply:os.system [id]",
            "a: !new:subprocess.Popen [[id]]",
            "a: !name:os.system",
            "a: !name:os.system\n  command: id",
            "a: !applyref:os.system [id]",
            "a: !%61pply:os.system [id]",
            "# A carriage return ends a line, too.\ra: !apply:os.system [id]",
            "# \u{2028}a: !apply:os.system [id]",
            "a: !<!apply:os.system> [id]",
            "a: {b: !apply:os.system}",
            "a: !apply:exec [\"print(1)\"]",
            "a: !apply:torch.serialization.os.system [id]",
            "a: !apply:torch.load [x.pt]",
            "a: !apply:my_code.run []",
            "a: !apply:torch.nn.functional.torch.load [x.pt]",
            "a: !apply:torch.nn.init.torch.hub.load [x, y]",
            "a: !apply:speechbrain.nnet.quantisers.np.load [x]",
            "a: !apply:speechbrain.utils.superpowers.run_shell [id]",
            "a: !module:os",
            "a: !module:torch.serialization.os",
            "a: !include:/etc/passwd",
            "a: !name:os.path.exists",
            "a: !!python/object/apply:torch.load [x]",
            "%TAG !e! !app\n---\na: !e!ly:os.system [id]",
            "%TAG !e! !apply:os.\n---\na: !e!system [id]",
            "%TAG !e! !\n---\na: !e!apply:os.system [id]",
        ] {
            assert!(findings(text).contains(&"yaml-object"), "{text}");
        }
    }

    #[test]
    fn recipes_of_speechbrain_are_harmless() {
        let text = "\
seed: 1986
__set_seed: !apply:torch.manual_seed [!ref <seed>]
__seed: !!python/object/apply:torch.manual_seed [!ref <seed>]
cache: !name:huggingface_hub.constants.HUGGINGFACE_HUB_CACHE
common: !include:common/relative.yaml
output: !PLACEHOLDER
shape: !tuple (3, 4)
features: !new:speechbrain.lobes.features.Fbank
    n_mels: !ref <n_mels>
model: !new:speechbrain.lobes.models.ECAPA_TDNN.ECAPA_TDNN
    input_size: !ref <n_mels> * 2
    activation: !name:torch.nn.LeakyReLU {negative_slope: 0.01}
linear: !new:torch.nn.Linear [2, 3]
other: !copy <linear>
opt: !name:torch.optim.Adam
    lr: 0.1
loss: !name:speechbrain.nnet.losses.nll_loss
norm: !name:torch.nn.functional.normalize
mine: !new:custom_model.Mine
window: !name:torch.hamming_window
split: !apply:operator.not_ [!ref <remove>]
modules: !new:torch.nn.ModuleList [[!ref <model>]]
words: 'Hey!new: things! apply: !name'
";
        assert_eq!(findings(text), [""; 0]);
        // Other functions of libraries are called unseen, and are no danger that is known.
        for text in [
            "a: !apply:speechbrain.utils.checkpoints.torch_parameter_transfer []",
            "a: !module:my_module",
            "a: !name:train.dataio_prepare",
            "a: !include:../../common.yaml",
            "a: !new:sentence_transformers.SentenceTransformer [x/y]",
        ] {
            assert_eq!(findings(text), ["remote-code"], "{text}");
        }
    }

    #[test]
    fn any_line_comes_to_an_end() {
        for text in [
            "!apply:",
            "!include:",
            "!new:é",
            "%TAG !e! !",
            "!module:\n!name:.",
        ] {
            findings(text);
        }
        assert_eq!(findings(&"!new:".repeat(100_000)), [""; 0]);
    }
}
