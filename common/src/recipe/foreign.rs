//! Keys of other tools that weft has no counterpart for. A value that says what weft does anyway is accepted; any other
//! is refused with what to do instead, because ignoring it would train something else than the user asked for.

use serde_json::{Value, json};

use super::Problem;
use super::section::{self, Section};

/// A key of another tool.
struct Foreign {
    section: Section,
    key: &'static str,
    accepted: Accepted,
    remedy: &'static str,
}

/// Which of its values change nothing.
enum Accepted {
    /// All: it steers machinery that weft does not have.
    Any,
    /// These texts; `none` and its kind.
    Words(&'static [&'static str]),
    /// This switch position.
    Switch(bool),
}

impl Accepted {
    fn accepts(&self, value: &Value) -> bool {
        let empty = value.is_null() || *value == json!([]) || *value == json!({});
        if empty {
            return true;
        }
        match self {
            Self::Any => true,
            Self::Words(words) => value.as_str().is_some_and(|word| words.contains(&word)),
            Self::Switch(position) => value.as_bool() == Some(*position),
        }
    }
}

const fn foreign(
    section: Section,
    key: &'static str,
    accepted: Accepted,
    remedy: &'static str,
) -> Foreign {
    Foreign {
        section,
        key,
        accepted,
        remedy,
    }
}

#[rustfmt::skip]
const FOREIGN: &[Foreign] = {
    use Accepted::{Any, Switch, Words};
    use Section::{Datasets, Lora, Model, Root, Training};
    const NONE: Accepted = Words(&["none"]);
    &[
        foreign(Root, "hugging_face_username", Any, "remove it"),
        foreign(Model, "load_in_8bit", Switch(false), "weft quantizes to 4 bits: set load_in_4bit"),
        foreign(Model, "full_finetuning", Switch(false), "weft trains adapters; remove it"),
        foreign(Model, "quantization_bit", Any, "set load_in_4bit instead"),
        foreign(Model, "bnb_4bit_quant_type", Words(&["nf4"]), "weft quantizes to nf4; remove it"),
        foreign(Model, "bnb_4bit_use_double_quant", Switch(true), "weft always quantizes doubly; remove it"),
        foreign(Model, "use_bnb_nested_quant", Switch(true), "weft always quantizes doubly; remove it"),
        foreign(Model, "double_quantization", Switch(true), "weft always quantizes doubly; remove it"),
        foreign(Model, "trust_remote_code", Switch(false), "weft runs no code that comes with a model; remove it"),
        foreign(Model, "device_map", Any, "remove it"),
        foreign(Model, "attn_implementation", Any, "remove it"),
        foreign(Model, "rope_scaling", NONE, "weft takes it from the model's config.json; remove it"),
        foreign(Model, "token", NONE, "a recipe holds no secrets; remove it, and give a local folder as base_model"),
        foreign(Model, "finetuned_model", Any, "the adapter's folder is named by training.output_dir; remove it"),
        foreign(Lora, "bias", NONE, "only `none` is supported: adapters have no biases"),
        foreign(Lora, "use_dora", Switch(false), "only plain LoRA and use_rslora are supported; set it to false"),
        foreign(Lora, "peft_use_dora", Switch(false), "only plain LoRA and use_rslora are supported; set it to false"),
        foreign(Lora, "use_loftq", Switch(false), "init_lora_weights kaiming and gaussian are supported; set it to false"),
        foreign(Lora, "loftq_config", NONE, "init_lora_weights kaiming and gaussian are supported; remove it"),
        foreign(Lora, "pissa_init", Switch(false), "init_lora_weights kaiming and gaussian are supported; remove it"),
        foreign(Lora, "modules_to_save", NONE, "only adapters are trained; remove it"),
        foreign(Lora, "rank_pattern", NONE, "one rank serves all modules; remove it"),
        foreign(Lora, "alpha_pattern", NONE, "one alpha serves all modules; remove it"),
        foreign(Lora, "loraplus_lr_ratio", NONE, "A and B share one learning rate; remove it"),
        foreign(Lora, "task_type", Words(&["CAUSAL_LM"]), "only CAUSAL_LM is supported; remove it"),
        foreign(Lora, "peft_type", Words(&["LORA"]), "only LORA is supported; remove it"),
        foreign(Lora, "adapter", Words(&["qlora", "lora"]), "only qlora is supported; remove it"),
        foreign(Lora, "finetuning_type", Words(&["lora"]), "only lora is supported; remove it"),
        foreign(Datasets, "split", Words(&["train"]), "a file is one split; name the file by path, and cut it with slices"),
        foreign(Training, "report_to", NONE, "weft writes metrics.jsonl into output_dir; set it to none"),
        foreign(Training, "neftune_noise_alpha", NONE, "it is not supported; remove it"),
        foreign(Training, "group_by_length", Switch(false), "rows are packed without padding, so it gains nothing; remove it"),
        foreign(Training, "eval_strategy", Words(&["no"]), "there is no evaluation while training; remove it, and run `weft eval` on the adapter"),
        foreign(Training, "evaluation_strategy", Words(&["no"]), "there is no evaluation while training; remove it, and run `weft eval` on the adapter"),
        foreign(Training, "eval_steps", NONE, "there is no evaluation while training; remove it, and run `weft eval` on the adapter"),
        foreign(Training, "per_device_eval_batch_size", Any, "`weft eval` evaluates row by row"),
        foreign(Training, "val_size", NONE, "keep rows apart with slices: [[0, -200]] in datasets, [[-200, null]] in eval_datasets"),
        foreign(Training, "val_set_size", NONE, "keep rows apart with slices: [[0, -200]] in datasets, [[-200, null]] in eval_datasets"),
        foreign(Training, "save_strategy", Words(&["steps"]), "set save_steps instead"),
        foreign(Training, "logging_strategy", Words(&["steps"]), "set logging_steps instead"),
        foreign(Training, "push_to_hub", Switch(false), "the adapter stays in output_dir; set it to false"),
        foreign(Training, "resume_from_checkpoint", Switch(false), "run `weft run RECIPE --resume`"),
        foreign(Training, "deepspeed", NONE, "weft spreads the job itself: set resources.workers"),
        foreign(Training, "fsdp", NONE, "weft spreads the job itself: set resources.workers"),
        foreign(Training, "ddp_find_unused_parameters", Any, "remove it"),
        foreign(Training, "ddp_timeout", Any, "remove it"),
        foreign(Training, "dataloader_num_workers", Any, "remove it"),
        foreign(Training, "remove_unused_columns", Any, "remove it"),
    ]
};

/// Takes the keys of other tools out of the tree: harmless ones with a warning where they do nothing, others as problems.
pub(super) fn take_out(tree: &mut Value, problems: &mut Vec<Problem>, warnings: &mut Vec<String>) {
    section::for_each(tree, |section, path, keys| {
        for foreign in FOREIGN.iter().filter(|foreign| foreign.section == section) {
            let Some(value) = keys.shift_remove(foreign.key) else {
                continue;
            };
            let key = section::join(path, foreign.key);
            if !foreign.accepted.accepts(&value) {
                problems.push(Problem::new(key, "is not supported", foreign.remedy).found(value));
            } else if matches!(foreign.accepted, Accepted::Any) {
                warnings.push(format!(
                    "recipe {key} has no effect in weft; {}",
                    foreign.remedy
                ));
            }
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(mut tree: Value) -> (Value, Vec<Problem>, Vec<String>) {
        let (mut problems, mut warnings) = (Vec::new(), Vec::new());
        take_out(&mut tree, &mut problems, &mut warnings);
        (tree, problems, warnings)
    }

    #[test]
    fn a_value_that_asks_for_what_weft_does_is_accepted() {
        let lora = json!({"bias": "none", "use_dora": false, "loftq_config": {}, "r": 16});
        assert_eq!(
            taken(json!({ "lora": lora })),
            (json!({"lora": {"r": 16}}), vec![], vec![])
        );
    }

    #[test]
    fn a_value_that_asks_for_something_else_is_refused_with_a_remedy() {
        let (_, problems, _) =
            taken(json!({"lora": {"use_dora": true}, "training": {"report_to": "wandb"}}));
        let texts: Vec<String> = problems.iter().map(Problem::to_string).collect();
        assert!(
            texts[0].starts_with("lora.use_dora = true: is not supported; only plain LoRA"),
            "{texts:?}"
        );
        assert!(texts[1].contains("metrics.jsonl"), "{texts:?}");
    }

    #[test]
    fn what_does_nothing_is_dropped_aloud() {
        let (tree, problems, warnings) = taken(json!({"training": {"dataloader_num_workers": 4}}));
        assert_eq!((tree, problems), (json!({"training": {}}), vec![]));
        assert!(
            warnings[0].contains("training.dataloader_num_workers"),
            "{warnings:?}"
        );
    }
}
