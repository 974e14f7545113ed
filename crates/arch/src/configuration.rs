//! Which architecture a repository is of, and its config with everything filled in that its class
//! fills in: for those who make something else of it than GGUF.

use crate::choose::{Choice, for_graph};
use crate::hparams::class_params;
use crate::table::Table;
use ir::{Model, Result};
use serde_json::{Map, Value};

/// A repository's architecture.
#[derive(Clone, Debug)]
pub struct Configuration {
    /// The name of the table that fits.
    pub table: String,
    /// The first class that `config.json` names; empty where it names none.
    pub class: String,
    /// The config of the text model as its class has it: keys under the class's names, defaults
    /// filled in that the table knows (those that GGUF keys need: `[[config]]` of the model type),
    /// what is about rope under `rope` (of layers that see all) and `rope_all`.
    pub values: Map<String, Value>,
}

/// Finds the table for a repository as [`crate::hf_to_gguf`] does, or by one of its classes that
/// only graphs are made of, and reads its config.
/// `arch` and `map` are the user's own choice.
pub fn configuration(
    model: &Model,
    config: &Value,
    arch: Option<&str>,
    map: Option<&Table>,
) -> Result<Configuration> {
    let table = for_graph(model, config, Choice { name: arch, map })?;
    let class = config.get("architectures").and_then(|list| list.get(0));
    Ok(Configuration {
        table: table.name.clone(),
        class: class.and_then(Value::as_str).unwrap_or_default().to_owned(),
        values: class_params(table, config)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn defaults_are_filled_in() {
        let config = json!({"architectures": ["MistralForCausalLM"], "model_type": "mistral",
            "hidden_size": 64, "num_attention_heads": 4, "num_hidden_layers": 2});
        let found = configuration(&Model::default(), &config, None, None).unwrap();
        assert_eq!(
            (&found.table[..], &found.class[..]),
            ("llama", "MistralForCausalLM")
        );
        assert_eq!(found.values["head_dim"], json!(16));
        assert_eq!(found.values["rope"]["rope_theta"], json!(10000.0));
    }
}
