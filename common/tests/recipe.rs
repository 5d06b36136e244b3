//! Recipes as users write them, read from files.
#![allow(clippy::unwrap_used, reason = "a test may panic; its helpers too")]

use std::fs;
use std::path::Path;

use weft_common::recipe::{
    Dtype, Format, GradientCheckpointing, LrSchedulerType, Optimizer, Recipe, RecipeErrors,
    TargetModules,
};

const MINIMAL: &str = "model: {base_model: base}\ndatasets: [{path: data.csv}]\n";

/// A folder with a base model and a dataset in it.
fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("base")).unwrap();
    fs::write(folder.path().join("data.csv"), "question,answer\n").unwrap();
    folder
}

fn load(folder: &Path, name: &str, text: &str, sets: &[&str]) -> Result<Recipe, RecipeErrors> {
    let path = folder.join(name);
    fs::write(&path, text).unwrap();
    let sets: Vec<String> = sets.iter().map(ToString::to_string).collect();
    Recipe::load(&path, &sets).map(|loaded| loaded.recipe)
}

fn problems(text: &str) -> Vec<String> {
    let folder = folder();
    let errors = load(folder.path(), "recipe.yaml", text, &[]).unwrap_err();
    errors.problems.iter().map(ToString::to_string).collect()
}

#[test]
fn a_minimal_recipe_gets_the_documented_defaults() {
    let folder = folder();
    let recipe = load(folder.path(), "recipe.yaml", MINIMAL, &[]).unwrap();
    assert_eq!(
        (recipe.lora.r, recipe.rows_per_step(), recipe.max_slots()),
        (16, 8, 4)
    );
    assert_eq!(recipe.worker_bounds(), 1..=4);
    assert_eq!(recipe.training.max_steps(), None);
    assert_eq!(
        Path::new(&recipe.model.base_model),
        folder.path().join("base")
    );
    assert_eq!(
        Path::new(&recipe.datasets[0].path),
        folder.path().join("data.csv")
    );
}

#[test]
fn a_notebooks_nested_configuration_is_read_as_it_is() {
    let folder = folder();
    let text = r#"{
        "hugging_face_username": "someone",
        "model_config": {"base_model": "base", "finetuned_model": "x", "max_seq_length": 2048, "dtype": "torch.float16", "load_in_4bit": true},
        "lora_config": {"r": 16, "target_modules": ["q_proj", "v_proj"], "lora_alpha": 16, "lora_dropout": 0, "bias": "none",
                        "use_gradient_checkpointing": true, "use_rslora": false, "use_dora": false, "loftq_config": null},
        "training_dataset": {"name": "data.csv", "split": "train", "input_field": "prompt"},
        "training_config": {"per_device_train_batch_size": 2, "gradient_accumulation_steps": 4, "warmup_steps": 5, "max_steps": 0,
                            "num_train_epochs": 1, "learning_rate": 2e-4, "fp16": true, "bf16": false, "logging_steps": 1,
                            "optim": "adamw_8bit", "weight_decay": 0.01, "lr_scheduler_type": "linear", "seed": 42, "output_dir": "outputs"}
    }"#;
    let recipe = load(folder.path(), "config", text, &[]).unwrap();
    assert_eq!(recipe.model.dtype, Dtype::Fp16);
    assert_eq!(
        recipe.lora.use_gradient_checkpointing,
        GradientCheckpointing::True
    );
    assert_eq!(recipe.datasets[0].text_field.as_deref(), Some("prompt"));
    assert_eq!(
        (recipe.training.seed, recipe.training.max_steps()),
        (42, None)
    );
}

#[test]
fn other_tools_spellings_mean_the_same() {
    let folder = folder();
    let text = "
model: {model_name_or_path: base, sequence_len: 512, dtype: bfloat16}
lora: {lora_rank: 8, lora_target_linear: true, init_lora_weights: gaussian, gradient_checkpointing: unsloth}
dataset: data.csv
training: {micro_batch_size: 1, epochs: 0.5, lr_scheduler: cosine, optimizer: adamw_torch_fused, random_seed: 7}
";
    let recipe = load(folder.path(), "recipe.yml", text, &[]).unwrap();
    assert_eq!(
        (recipe.model.max_seq_length, recipe.model.dtype),
        (512, Dtype::Bf16)
    );
    assert_eq!(
        recipe.lora.target_modules,
        TargetModules::Pattern("all-linear".to_owned())
    );
    assert_eq!(
        recipe.lora.use_gradient_checkpointing,
        GradientCheckpointing::Unsloth
    );
    assert_eq!(recipe.training.lr_scheduler_type, LrSchedulerType::Cosine);
    assert_eq!(recipe.training.optim, Optimizer::AdamW);
    assert_eq!(
        (recipe.training.seed, recipe.training.num_train_epochs),
        (7, 0.5)
    );
}

#[test]
fn set_overrides_the_file_under_any_spelling() {
    let folder = folder();
    let sets = [
        "training.max_steps=60",
        "lora.lora_rank=4",
        "datasets.0.limit=5",
        "model.cutoff_len=64",
    ];
    let recipe = load(folder.path(), "recipe.yaml", MINIMAL, &sets).unwrap();
    assert_eq!((recipe.training.max_steps(), recipe.lora.r), (Some(60), 4));
    assert_eq!(
        (recipe.datasets[0].limit, recipe.model.max_seq_length),
        (Some(5), 64)
    );
}

#[test]
fn all_problems_are_reported_together() {
    let problems = problems(
        "
model: {base_model: nowhere/model-7b, max_seq_len: 1, max_length: 3}
lora: {r: 0, lora_dropout: 0.1, use_dora: true}
datasets: [{path: data.csv, colums: {a: b}}, {path: missing.csv}]
training: {learning_rte: 1, num_train_epochs: 0, batch_size: four}
resources: {workers: {min: 9, max: 2}}
",
    );
    let expected = [
        "model.max_length: means the same as `model.max_seq_len`",
        "lora.use_dora = true: is not supported",
        "model.max_seq_length = 1: must be a whole number, at least 2",
        "lora.r = 0: must be a whole number, at least 1",
        "datasets[0].colums: unknown key; did you mean `columns`?",
        "training.learning_rte: unknown key; did you mean `learning_rate`?",
        "training.per_device_train_batch_size = \"four\": must be a whole number, at least 1",
        "training.num_train_epochs = 0: and training.max_steps is unset",
        "lora.lora_dropout = 0.1: adapter dropout is not supported; set it to 0",
        "model.base_model = nowhere/model-7b: there is no such file or folder",
        "datasets[1].path = missing.csv: there is no such file or folder",
    ];
    for expected in expected {
        let times = problems
            .iter()
            .filter(|problem| problem.starts_with(expected))
            .count();
        assert_eq!(times, 1, "{expected}\nin {problems:#?}");
    }
    assert_eq!(problems.len(), expected.len(), "{problems:#?}");
}

#[test]
fn batches_and_workers_that_contradict_are_refused() {
    let with = |training: &str, rest: &str| {
        problems(&format!("{MINIMAL}training: {{{training}}}\n{rest}"))
    };
    let contradiction = &with("global_batch_size: 64, gradient_accumulation_steps: 4", "")[0];
    assert!(
        contradiction.contains("with training.per_device_train_batch_size 2 it takes 32"),
        "{contradiction}"
    );
    assert!(
        with("global_batch_size: 2, batch_size: 4", "")[0].contains("less than one micro-batch")
    );
    assert!(with("batch_scaling: per_worker", "")[0].contains("needs resources.workers.max"));
    assert!(
        with("", "resources: {workers: {min: 5}}")[0]
            .contains("above 4, the micro-batches of a step")
    );
    assert!(
        with("lr_scheduler_type: polynomial, learning_rate: 1e-8", "")[0]
            .contains("polynomial schedule ends")
    );
}

#[test]
fn scaling_per_worker_multiplies_by_the_recipes_bound() {
    let text = format!(
        "{MINIMAL}training: {{batch_scaling: per_worker}}\nresources: {{workers: {{max: 3}}}}"
    );
    let recipe = Recipe::parse(&text, Format::Yaml).unwrap();
    assert_eq!((recipe.rows_per_step(), recipe.max_slots()), (24, 3));
}

#[test]
fn a_name_on_the_hub_says_to_download_it() {
    let text = MINIMAL.replace("base}", "unsloth/llama-3-8b-Instruct-bnb-4bit}");
    let problem = &problems(&text)[0];
    assert!(
        problem.contains("hub are not supported; download it and give the folder"),
        "{problem}"
    );
    let remote = MINIMAL.replace("data.csv", "s3://bucket/data.csv");
    assert!(problems(&remote)[0].contains("remote storage are not supported"));
}

#[test]
fn a_store_that_is_no_address_or_holds_a_secret_is_refused() {
    let with = |storage: &str| problems(&format!("{MINIMAL}training: {{storage: '{storage}'}}"));
    let problem = &with("gs://runs")[0];
    assert!(
        problem.starts_with("training.storage = gs://runs: is neither file:// nor s3://"),
        "{problem}"
    );
    let problem = &with("s3://key:secret@runs")[0];
    assert!(
        problem.contains("holds credentials") && !problem.contains("secret@"),
        "{problem}"
    );
}

#[test]
fn a_file_that_is_no_recipe_is_refused_with_its_name() {
    let folder = folder();
    for (name, text) in [
        ("recipe.yaml", "model: [1"),
        ("recipe.json", "{"),
        ("recipe.toml", "a = "),
        ("list.yaml", "- 1"),
    ] {
        let text = load(folder.path(), name, text, &[])
            .unwrap_err()
            .to_string();
        assert!(
            text.contains(name) && text.contains("1 problem\n"),
            "{text}"
        );
    }
    let missing = Recipe::load(&folder.path().join("absent.yaml"), &[])
        .unwrap_err()
        .to_string();
    assert!(
        missing.contains("absent.yaml") && missing.contains("cannot be read"),
        "{missing}"
    );
}

#[test]
fn what_is_written_out_reads_back_as_the_same_recipe() {
    let extras = "
lora: {target_modules: '.*q_proj', use_gradient_checkpointing: false, init_lora_weights: true, random_state: 18446744073709551615}
training: {global_batch_size: 63, warmup_ratio: 0.03, learning_rate: 1.23456789e-5, num_train_epochs: 2.5, data_seed: 1}
resources: {workers: {min: 2, max: 7}}
";
    let dataset = "datasets: [{path: data.csv, slices: [[null, 5], [-5, null]], speakers: [A, B], kind: two_speaker, columns: {q: input, a: output}}]";
    let text = format!("model: {{base_model: base}}\n{dataset}{extras}");
    for text in [MINIMAL, &text] {
        let recipe = Recipe::parse(text, Format::Yaml).unwrap();
        let yaml = serde_yaml_ng::to_string(&recipe).unwrap();
        assert_eq!(
            Recipe::parse(&recipe.to_json(), Format::Json).unwrap(),
            recipe
        );
        assert_eq!(Recipe::parse(&yaml, Format::Yaml).unwrap(), recipe);
        assert_eq!(
            Recipe::parse(&recipe.to_json(), Format::Json)
                .unwrap()
                .digest(),
            recipe.digest()
        );
    }
}

#[test]
fn warnings_name_what_has_no_effect() {
    let folder = folder();
    let path = folder.path().join("recipe.yaml");
    fs::write(
        &path,
        format!("{MINIMAL}training: {{packing: true, dataloader_num_workers: 2}}"),
    )
    .unwrap();
    let warnings = Recipe::load(&path, &[]).unwrap().warnings;
    assert_eq!(warnings.len(), 2);
    assert!(
        warnings[0].contains("dataloader_num_workers") && warnings[1].contains("packing"),
        "{warnings:?}"
    );
}
