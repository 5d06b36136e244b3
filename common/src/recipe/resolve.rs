//! Finds the files that a recipe names. Relative paths start at the recipe's folder, so that a recipe can be moved
//! together with its data and run from anywhere, on this machine or on others.

use std::path::{Component, Path, PathBuf};

use super::{Problem, Recipe};

/// Where the files of a recipe are.
pub(super) enum Files<'a> {
    /// On this machine; relative paths start at this folder.
    Here(&'a Path),
    /// On others, where the recipe's folder is this one.
    Elsewhere(&'a str),
}

/// Makes the paths of the recipe absolute, and appends those that lead nowhere.
pub(super) fn resolve(recipe: &mut Recipe, files: &Files<'_>, problems: &mut Vec<Problem>) {
    let mut resolver = Resolver { files, problems };
    if let Files::Elsewhere(root) = files {
        // Here it starts at the current folder, which processes of other machines do not share.
        resolver.place("training.output_dir", &mut recipe.training.output_dir, root);
    }
    resolver.path(
        "model.base_model",
        &mut recipe.model.base_model,
        "a model folder or .gguf file",
    );
    if let Some(tokenizer) = &mut recipe.model.tokenizer {
        resolver.path(
            "model.tokenizer",
            tokenizer,
            "a tokenizer's folder or tokenizer.json",
        );
    }
    let template = &mut recipe.model.chat_template;
    if template.ends_with(".jinja") || template.contains('/') {
        resolver.path(
            "model.chat_template",
            template,
            "a .jinja file, or the name of a built-in template",
        );
    }
    for (name, datasets) in [
        ("datasets", &mut recipe.datasets),
        ("eval_datasets", &mut recipe.eval_datasets),
    ] {
        for (index, dataset) in datasets.iter_mut().enumerate() {
            let key = format!("{name}[{index}].path");
            resolver.path(&key, &mut dataset.path, "a csv, json or jsonl file");
        }
    }
}

struct Resolver<'a> {
    files: &'a Files<'a>,
    problems: &'a mut Vec<Problem>,
}

impl Resolver<'_> {
    fn path(&mut self, key: &str, path: &mut String, expected: &str) {
        if path.is_empty() {
            return;
        }
        let folder = match self.files {
            Files::Here(folder) => *folder,
            Files::Elsewhere(root) => return self.place(key, path, root),
        };
        let target = folder.join(&*path);
        let target = std::path::absolute(&target).unwrap_or(target);
        match (target.exists(), target.into_os_string().into_string()) {
            (true, Ok(text)) => *path = text,
            (true, Err(text)) => {
                let what = format!(
                    "leads to {}, which is not UTF-8",
                    PathBuf::from(text).display()
                );
                self.refuse(key, path, what, "rename the folder");
            }
            (false, _) => self.missing(key, path, (folder, expected)),
        }
    }

    /// Where a path leads below `root`, the recipe's folder on other machines.
    fn place(&mut self, key: &str, path: &mut String, root: &str) {
        if path.contains("://") {
            return self.refuse_remote(key, path, "a path");
        }
        let mut target = PathBuf::from(root);
        for part in Path::new(&*path).components() {
            match part {
                Component::ParentDir => {
                    let what = format!(
                        "leads out of the recipe's folder, which is {root} where it is to run"
                    );
                    let remedy =
                        "move it into the recipe's folder, or give an absolute path of there";
                    return self.refuse(key, path, what, remedy);
                }
                Component::CurDir => {}
                Component::RootDir | Component::Prefix(_) | Component::Normal(_) => {
                    target.push(part);
                }
            }
        }
        *path = target.to_string_lossy().into_owned();
    }

    fn missing(&mut self, key: &str, path: &str, (folder, expected): (&Path, &str)) {
        let nothing_here = format!(
            "there is no such file or folder (paths start at {})",
            folder.display()
        );
        if path.contains("://") {
            self.refuse_remote(key, path, expected);
        } else if is_hub_id(path) {
            let what =
                format!("{nothing_here}, and names on the Hugging Face hub are not supported");
            self.refuse(key, path, what, "download it and give the folder or file");
        } else {
            self.refuse(key, path, nothing_here, &format!("give {expected}"));
        }
    }

    fn refuse_remote(&mut self, key: &str, path: &str, expected: &str) {
        let what = "addresses of remote storage are not supported".to_owned();
        self.refuse(key, path, what, &format!("download it and give {expected}"));
    }

    fn refuse(&mut self, key: &str, path: &str, what: String, remedy: &str) {
        self.problems
            .push(Problem::new(key, what, remedy).found(path));
    }
}

/// `owner/name`, as the hub writes it; a path's last part usually has an extension or more than one folder above it.
fn is_hub_id(path: &str) -> bool {
    let word = |part: &str| {
        let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        part.starts_with(|c: char| c.is_ascii_alphanumeric()) && part.chars().all(legal)
    };
    let data_file = [".gguf", ".csv", ".json", ".jsonl", ".jinja", ".parquet"]
        .iter()
        .any(|end| path.ends_with(end));
    !data_file
        && path
            .split_once('/')
            .is_some_and(|(owner, name)| word(owner) && word(name))
}

#[cfg(test)]
mod tests {
    use crate::recipe::{Recipe, RecipeErrors};

    fn elsewhere(model: &str, set: &str) -> Result<Recipe, RecipeErrors> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("recipe.yaml");
        let text = format!(
            "model: {{base_model: {model}}}\ndatasets: [{{path: ./rows/d.csv}}, {{path: /mnt/e.csv}}]\n"
        );
        std::fs::write(&path, text).unwrap();
        let sets = [set.to_owned()];
        let loaded = Recipe::load_elsewhere(&path, &sets, "/data");
        loaded.map(|loaded| loaded.recipe)
    }

    #[test]
    fn elsewhere_relative_paths_start_at_the_given_folder_and_nothing_need_be_here() {
        let recipe = elsewhere("models/tiny", "training.output_dir=out").unwrap();
        assert_eq!(recipe.model.base_model, "/data/models/tiny");
        assert_eq!(recipe.model.chat_template, "auto");
        let paths = recipe.datasets.iter().map(|dataset| dataset.path.as_str());
        assert_eq!(
            paths.collect::<Vec<_>>(),
            ["/data/rows/d.csv", "/mnt/e.csv"]
        );
        assert_eq!(recipe.training.output_dir, "/data/out");
    }

    #[test]
    fn elsewhere_all_that_is_wrong_is_told_together() {
        let refused = elsewhere("../models/tiny", "model.tokenizer=hf://a/b").unwrap_err();
        let refused = refused.to_string();
        for part in [
            "has 2 problems",
            "model.base_model = ../models/tiny: leads out of the recipe's folder",
            "model.tokenizer = hf://a/b: addresses of remote storage",
        ] {
            assert!(refused.contains(part), "{part}: {refused}");
        }
    }
}
