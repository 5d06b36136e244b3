//! The model card: what a model is, what it was trained on, and how the training went.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use serde_json::Value;

use super::run::Summary;
use super::{Format, PeftAdapter, TrainingRecord};

/// Points of the loss curve that a card shows at most.
const POINTS: usize = 20;

/// All that a card is made of.
pub(super) struct Card<'a> {
    pub(super) name: &'a str,
    pub(super) summary: &'a Summary,
    pub(super) format: Format,
    pub(super) adapter: &'a PeftAdapter,
    pub(super) record: Option<&'a TrainingRecord>,
}

impl Card<'_> {
    /// The text of `README.md`, with the head that the hub reads.
    pub(super) fn text(&self) -> String {
        let mut text = self.head();
        let _ = writeln!(text, "# {}\n\n{}\n", self.name, self.introduction());
        self.files(&mut text);
        let _ = writeln!(text, "## Use\n\n{}\n", self.usage());
        self.adapter_table(&mut text);
        if let Some(record) = self.record {
            training(&mut text, record);
        }
        loss_curve(&mut text, self.adapter.path());
        text
    }

    fn head(&self) -> String {
        let (library, tags) = match self.format {
            Format::Adapter => ("peft", "base_model:adapter"),
            Format::Merged16Bit => ("transformers", "merged"),
            Format::Merged4Bit => ("transformers", "bitsandbytes"),
            Format::Gguf => ("gguf", "gguf"),
            Format::GgufLora => ("gguf", "lora-gguf"),
        };
        // Only what looks like a name on the hub means something there.
        let base = &self.summary.base_model;
        let base = match is_hub_name(base) {
            true => format!("base_model: {base}\n"),
            false => String::new(),
        };
        format!(
            "---\n{base}library_name: {library}\npipeline_tag: text-generation\ntags:\n- weft\n- qlora\n- lora\n- {tags}\n---\n\n"
        )
    }

    fn introduction(&self) -> String {
        let what = match self.format {
            Format::Adapter => "A LoRA adapter",
            Format::Merged16Bit => "A model with its LoRA adapter merged, in 16 bits,",
            Format::Merged4Bit => {
                "A model with its LoRA adapter merged, in bitsandbytes' NF4 with double quantization,"
            }
            Format::Gguf => "A model with its LoRA adapter merged, as GGUF files,",
            Format::GgufLora => "A LoRA adapter for llama.cpp",
        };
        let merged = match self.summary.merge_base {
            Some("nf4") => " The adapter was added to the 4-bit values that it was trained on.",
            Some(_) => " The adapter was added to the base model's own numbers.",
            None => "",
        };
        format!(
            "{what} for `{}`, trained with weft.{merged}",
            base_label(&self.summary.base_model)
        )
    }

    fn files(&self, text: &mut String) {
        text.push_str("| file | bytes |\n| --- | --- |\n");
        for file in &self.summary.files {
            let _ = writeln!(text, "| `{}` | {} |", file.name, file.bytes);
        }
        text.push('\n');
    }

    fn usage(&self) -> String {
        let file = self.summary.files.first().map_or("", |file| &file.name);
        let base = base_label(&self.summary.base_model);
        match self.format {
            Format::Adapter => format!(
                "```python\nfrom peft import PeftModel\nfrom transformers import AutoModelForCausalLM\n\n\
                 base = AutoModelForCausalLM.from_pretrained(\"{base}\")\nmodel = PeftModel.from_pretrained(base, \".\")\n```"
            ),
            Format::Merged16Bit | Format::Merged4Bit => {
                "```python\nfrom transformers import AutoModelForCausalLM, AutoTokenizer\n\n\
                 model = AutoModelForCausalLM.from_pretrained(\".\", device_map=\"auto\")\n\
                 tokenizer = AutoTokenizer.from_pretrained(\".\")\n```"
                    .to_owned()
            }
            Format::Gguf => format!(
                "```bash\nllama-cli --model {file}\nollama create {} --file Modelfile\n```",
                self.name
            ),
            Format::GgufLora => format!("```bash\nllama-cli --model BASE.gguf --lora {file}\n```"),
        }
    }

    fn adapter_table(&self, text: &mut String) {
        text.push_str("## Adapter\n\n| key | value |\n| --- | --- |\n");
        for key in [
            "r",
            "lora_alpha",
            "lora_dropout",
            "use_rslora",
            "target_modules",
        ] {
            let value = &self.adapter.config()[key];
            if !value.is_null() {
                let _ = writeln!(text, "| `{key}` | `{value}` |");
            }
        }
        text.push('\n');
    }
}

fn is_hub_name(base: &str) -> bool {
    let allowed = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    let part = |part: &str| !part.is_empty() && !part.starts_with('.') && part.chars().all(allowed);
    base.split_once('/')
        .is_some_and(|(owner, name)| part(owner) && part(name))
        && !Path::new(base).exists()
}

/// A path's last part: what lies above it is this machine's business.
fn base_label(base: &str) -> &str {
    match is_hub_name(base) {
        true => base,
        false => base
            .trim_end_matches('/')
            .rsplit('/')
            .next()
            .unwrap_or(base),
    }
}

fn training(text: &mut String, record: &TrainingRecord) {
    let inputs = &record.inputs;
    let _ = writeln!(
        text,
        "## Training\n\n{} steps with weft {}, seed {}.\n\n| input | digest |\n| --- | --- |\n\
         | base model | `{}` |\n| data | `{}` |\n| tokenizer | `{}` |\n| chat template | `{}` |\n| recipe | `{}` |\n",
        record.steps,
        record.weft_version,
        record.seed,
        inputs.base_model,
        inputs.dataset,
        inputs.tokenizer,
        inputs.template,
        inputs.recipe,
    );
    let recipe = serde_json::to_string_pretty(&without_paths(&record.recipe)).unwrap_or_default();
    let _ = writeln!(
        text,
        "<details><summary>Recipe</summary>\n\n```json\n{recipe}\n```\n\n</details>\n"
    );
}

/// The recipe with the last parts of paths alone, and without what says where a run computed.
fn without_paths(recipe: &Value) -> Value {
    match recipe {
        Value::String(text) if text.starts_with('/') => Value::String(base_label(text).to_owned()),
        Value::Array(values) => Value::Array(values.iter().map(without_paths).collect()),
        Value::Object(entries) => Value::Object(
            entries
                .iter()
                .filter(|(key, _)| !["resources", "output_dir", "storage"].contains(&key.as_str()))
                .map(|(key, value)| (key.clone(), without_paths(value)))
                .collect(),
        ),
        other => other.clone(),
    }
}

/// The curve of `trainer_state.json`, where that lies beside the adapter.
fn loss_curve(text: &mut String, adapter: &Path) {
    let state = adapter
        .parent()
        .unwrap_or(Path::new("."))
        .join("trainer_state.json");
    let Ok(state) = fs::read(state) else { return };
    let state: Value = serde_json::from_slice(&state).unwrap_or(Value::Null);
    let history = state["log_history"].as_array().into_iter().flatten();
    let points: Vec<(u64, f64)> = history
        .filter_map(|entry| Some((entry["step"].as_u64()?, entry["loss"].as_f64()?)))
        .collect();
    if points.is_empty() {
        return;
    }
    let _ = writeln!(text, "## Loss\n\n| step | loss |\n| --- | --- |");
    let every = points.len().div_ceil(POINTS);
    let last = points.len() - 1;
    for (index, (step, loss)) in points.iter().enumerate() {
        if index % every == 0 || index == last {
            let _ = writeln!(text, "| {step} | {loss:.4} |");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_on_the_hub_is_told_from_a_path() {
        assert!(is_hub_name("HuggingFaceTB/SmolLM2-135M-Instruct"));
        for path in ["/models/llama", "model", "./a/b", "a/b/c"] {
            assert!(!is_hub_name(path), "{path}");
        }
        assert_eq!(base_label("/models/llama-3/"), "llama-3");
    }

    #[test]
    fn a_card_says_nothing_of_this_machine_s_folders() {
        let recipe = serde_json::json!({
            "model": {"base_model": "/home/x/llama"},
            "training": {"output_dir": "/home/x/out", "seed": 1},
            "datasets": [{"path": "/home/x/d.csv"}],
        });
        let expected = serde_json::json!({
            "model": {"base_model": "llama"}, "training": {"seed": 1}, "datasets": [{"path": "d.csv"}],
        });
        assert_eq!(without_paths(&recipe), expected);
    }
}
