//! From a training to everything that comes out of it: exports of each format, which write, are measured, and serve.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use weft_tests::process::{Finished, Weft};
use weft_tests::quickstart::Quickstart;

use crate::http::{Server, answer};
use crate::serve::openai_client;

const TOKENS: usize = 24;

/// The quickstart, trained a little, and all that it is exported to.
struct Trained(Quickstart);

impl Trained {
    fn new() -> Self {
        let trained = Self(Quickstart::new());
        trained.0.run("run", 1).finish().succeeded();
        let adapter = trained.adapter();
        let export = |formats: &str, more: &[&str]| {
            let fixed = ["export", adapter.to_str().unwrap(), "--format", formats];
            trained.weft(&fixed, more).succeeded();
        };
        let as_trained = ["--merge-base", "nf4"];
        export("adapter,gguf-lora", &[]);
        export("merged-16bit,merged-4bit", &as_trained);
        export(
            "gguf",
            &[&as_trained[..], &["--quantization", "f32,f16,q8_0,q4_k_m"]].concat(),
        );
        trained
    }

    fn adapter(&self) -> PathBuf {
        self.made("adapter")
    }

    fn made(&self, name: &str) -> PathBuf {
        self.0.output("run").join(name)
    }

    fn weft(&self, arguments: &[&str], more: &[&str]) -> Finished {
        Weft::new(&self.0.folder().join("cache"), arguments)
            .args(more)
            .finish()
    }

    /// What a model writes.
    fn writes(&self, model: &Path) -> String {
        let tokens = TOKENS.to_string();
        let prompt = ["--prompt", "What is anaemia?", "--max-new-tokens", &tokens];
        let fixed = [
            "generate",
            model.to_str().unwrap(),
            "--device",
            "cpu",
            "--json",
        ];
        let finished = self.weft(&fixed, &prompt);
        let told: Value = serde_json::from_str(&finished.succeeded().printed).unwrap();
        told["text"].as_str().unwrap().to_owned()
    }

    /// What a model's loss is on the first rows.
    fn loss(&self, model: &Path) -> f64 {
        let recipe = Quickstart::recipe();
        let output = self.0.output("eval").join(model.file_name().unwrap());
        let fixed = ["eval", model.to_str().unwrap(), "--no-answers", "--recipe"];
        let rows = [
            recipe.to_str().unwrap(),
            "--split",
            "train",
            "--limit",
            "8",
            "--output",
            output.to_str().unwrap(),
        ];
        self.weft(&fixed, &rows).succeeded();
        let results = fs::read(output.join("eval_results.json")).unwrap();
        let results: Value = serde_json::from_slice(&results).unwrap();
        results["eval_loss"].as_f64().unwrap()
    }
}

#[test]
fn what_is_exported_writes_is_measured_and_serves_as_the_adapter_beside_its_base_does() {
    let trained = Trained::new();
    let text = trained.writes(&trained.adapter());
    let loss = trained.loss(&trained.adapter());
    let gguf = |name: &str| trained.made("gguf").join(format!("run-{name}.gguf"));
    assert_eq!(trained.writes(&trained.made("adapter-export")), text);
    assert_eq!(trained.writes(&gguf("F32")), text);
    for (model, within) in [
        (gguf("F32"), 1e-4),
        (gguf("F16"), 0.01),
        (gguf("Q8_0"), 0.01),
        (gguf("Q4_K_M"), 0.15),
        (trained.made("merged-16bit"), 0.01),
        (trained.made("merged-4bit"), 0.15),
    ] {
        assert!(!trained.writes(&model).is_empty(), "{}", model.display());
        let found = trained.loss(&model);
        let apart = (found - loss).abs() / loss;
        assert!(
            apart <= within,
            "{}: {found}, and the adapter's {loss}",
            model.display()
        );
    }

    let server = Server::of(&gguf("F32"), &[], None);
    let said = answer(server.chat(TOKENS, false)).json();
    assert_eq!(said["choices"][0]["message"]["content"], json!(text));
    if let Some(said) = openai_client(&server, "any") {
        assert_eq!(said["streamed"], said["chat"]);
    }
}
