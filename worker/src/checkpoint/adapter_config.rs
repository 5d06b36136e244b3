//! `adapter_config.json`: what PEFT needs to load the adapter.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use weft_common::recipe::{LoraInit, Recipe, TargetModules};

/// The file's name, as PEFT expects it.
pub const ADAPTER_CONFIG_FILE: &str = "adapter_config.json";

/// The modules that `all-linear` stands for.
const ALL_LINEAR: [&str; 7] = [
    "down_proj",
    "gate_proj",
    "k_proj",
    "o_proj",
    "q_proj",
    "up_proj",
    "v_proj",
];

/// The file's text: keys sorted and indented by 2, as PEFT writes them.
#[must_use]
pub fn adapter_config(recipe: &Recipe) -> String {
    let lora = &recipe.lora;
    let config: BTreeMap<&str, Value> = BTreeMap::from([
        ("alpha_pattern", json!({})),
        ("auto_mapping", Value::Null),
        ("base_model_name_or_path", json!(recipe.model.base_model)),
        ("bias", json!("none")),
        ("exclude_modules", Value::Null),
        ("fan_in_fan_out", json!(false)),
        ("inference_mode", json!(true)),
        ("init_lora_weights", init(lora.init_lora_weights)),
        ("layer_replication", Value::Null),
        ("layers_pattern", Value::Null),
        ("layers_to_transform", Value::Null),
        ("lora_alpha", number(lora.lora_alpha)),
        ("lora_bias", json!(false)),
        ("lora_dropout", json!(lora.lora_dropout)),
        ("modules_to_save", Value::Null),
        ("peft_type", json!("LORA")),
        ("r", json!(lora.r)),
        ("rank_pattern", json!({})),
        ("revision", Value::Null),
        ("target_modules", targets(&lora.target_modules)),
        ("task_type", json!("CAUSAL_LM")),
        ("use_dora", json!(false)),
        ("use_rslora", json!(lora.use_rslora)),
    ]);
    serde_json::to_string_pretty(&config).expect("the config holds only numbers, text and lists")
}

fn init(init: LoraInit) -> Value {
    match init {
        LoraInit::Kaiming => json!(true),
        LoraInit::Gaussian => json!("gaussian"),
    }
}

/// PEFT declares `lora_alpha` as an integer; a fraction is written as it is.
fn number(value: f64) -> Value {
    if value.fract() == 0.0 && value.abs() < 2_f64.powi(53) {
        json!(value as i64)
    } else {
        json!(value)
    }
}

fn targets(targets: &TargetModules) -> Value {
    match targets {
        TargetModules::Names(names) => {
            let mut sorted = names.clone();
            sorted.sort();
            sorted.dedup();
            json!(sorted)
        }
        TargetModules::Pattern(pattern) if pattern == "all-linear" => json!(ALL_LINEAR),
        TargetModules::Pattern(pattern) => json!(pattern),
    }
}

#[cfg(test)]
mod tests {
    use weft_common::recipe::Format;

    use super::*;

    fn config(lora: &str) -> Value {
        let text = format!(
            "model: {{base_model: some/model}}\ndatasets: [{{path: d.csv}}]\nlora: {{{lora}}}\n"
        );
        let recipe = Recipe::parse(&text, Format::Yaml).unwrap();
        serde_json::from_str(&adapter_config(&recipe)).unwrap()
    }

    #[test]
    fn it_says_what_peft_asks_for_in_peft_s_order() {
        let config = config("r: 8, lora_alpha: 16, target_modules: [v_proj, q_proj]");
        let keys: Vec<_> = config.as_object().unwrap().keys().collect();
        assert!(keys.is_sorted());
        assert_eq!(config["peft_type"], "LORA");
        assert_eq!(config["r"], 8);
        assert_eq!(config["lora_alpha"].to_string(), "16");
        assert_eq!(config["target_modules"], json!(["q_proj", "v_proj"]));
    }

    #[test]
    fn all_linear_is_expanded_and_another_pattern_is_kept() {
        assert_eq!(
            config("target_modules: all-linear")["target_modules"],
            json!(ALL_LINEAR)
        );
        assert_eq!(
            config("target_modules: '.*q_proj'")["target_modules"],
            ".*q_proj"
        );
        assert_eq!(config("lora_alpha: 12.5")["lora_alpha"], 12.5);
    }
}
