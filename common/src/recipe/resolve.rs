//! Finds the files that a recipe names. Relative paths start at the recipe's folder, so that a recipe can be moved
//! together with its data and run from anywhere.

use std::path::{Path, PathBuf};

use super::{Problem, Recipe};

/// Makes the paths of the recipe absolute, and appends those that lead nowhere.
pub(super) fn resolve(recipe: &mut Recipe, folder: &Path, problems: &mut Vec<Problem>) {
    let mut resolver = Resolver { folder, problems };
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
    for (index, dataset) in recipe.datasets.iter_mut().enumerate() {
        let key = format!("datasets[{index}].path");
        resolver.path(&key, &mut dataset.path, "a csv, json or jsonl file");
    }
}

struct Resolver<'a> {
    folder: &'a Path,
    problems: &'a mut Vec<Problem>,
}

impl Resolver<'_> {
    fn path(&mut self, key: &str, path: &mut String, expected: &str) {
        if path.is_empty() {
            return;
        }
        let target = self.folder.join(&*path);
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
            (false, _) => self.missing(key, path, expected),
        }
    }

    fn missing(&mut self, key: &str, path: &str, expected: &str) {
        let nothing_here = format!(
            "there is no such file or folder (paths start at {})",
            self.folder.display()
        );
        if path.contains("://") {
            let what = "addresses of remote storage are not supported".to_owned();
            self.refuse(key, path, what, &format!("download it and give {expected}"));
        } else if is_hub_id(path) {
            let what =
                format!("{nothing_here}, and names on the Hugging Face hub are not supported");
            self.refuse(key, path, what, "download it and give the folder or file");
        } else {
            self.refuse(key, path, nothing_here, &format!("give {expected}"));
        }
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
