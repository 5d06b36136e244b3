//! The recipe as pods see it.

use std::path::Path;

use weft_common::recipe::Recipe;

/// Where pods find the volume that they share. Its root is what the recipe's folder is here.
pub(super) const VOLUME: &str = "/data";

/// What the recipe reads, by key and path.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Files {
    /// What must be put on the volume, before the pods start.
    pub(super) on_volume: Vec<(String, String)>,
    /// What must be in the image, or on its nodes' disks.
    pub(super) elsewhere: Vec<(String, String)>,
}

impl Files {
    /// Those of a recipe whose paths are those of the pods.
    pub(super) fn of(recipe: &Recipe) -> Self {
        let model = &recipe.model;
        let mut named = vec![("model.base_model".to_owned(), &model.base_model)];
        if let Some(tokenizer) = &model.tokenizer {
            named.push(("model.tokenizer".to_owned(), tokenizer));
        }
        if model.chat_template.contains('/') {
            named.push(("model.chat_template".to_owned(), &model.chat_template));
        }
        let datasets = recipe.datasets.iter().enumerate();
        named.extend(
            datasets.map(|(index, dataset)| (format!("datasets[{index}].path"), &dataset.path)),
        );
        let mut files = Self::default();
        for (key, path) in named {
            let list = if is_on_volume(path) {
                &mut files.on_volume
            } else {
                &mut files.elsewhere
            };
            list.push((key, path.clone()));
        }
        files
    }
}

/// What the recipe would write to where nothing can be written, or nobody else sees it.
pub(super) fn lost_results(recipe: &Recipe) -> Vec<String> {
    let mut problems = Vec::new();
    let output = &recipe.training.output_dir;
    if !is_on_volume(output) {
        problems.push(format!(
            "recipe training.output_dir = {output}: lies outside the volume, which pods have at {VOLUME}, and nothing else can \
             be written there; give a relative path, or one below {VOLUME}"
        ));
    }
    let storage = recipe.training.storage.as_deref().unwrap_or_default();
    if let Some(path) = storage.strip_prefix("file://")
        && !is_on_volume(path)
    {
        problems.push(format!(
            "recipe training.storage = {storage}: lies outside the volume, which pods have at {VOLUME}; give a folder below \
             {VOLUME}, or a bucket"
        ));
    }
    problems
}

fn is_on_volume(path: &str) -> bool {
    Path::new(path).starts_with(VOLUME)
}

#[cfg(test)]
mod tests {
    use weft_common::recipe::Format;

    use super::*;

    fn recipe(output: &str, storage: &str) -> Recipe {
        let text = format!(
            "model: {{base_model: /data/model, chat_template: /opt/a.jinja}}\ndatasets: [{{path: /data/a.csv}}]\n\
             training: {{output_dir: {output}, storage: \"{storage}\"}}\n"
        );
        Recipe::parse(&text, Format::Yaml).unwrap()
    }

    #[test]
    fn what_lies_on_the_volume_is_told_from_what_the_image_must_hold() {
        let files = Files::of(&recipe("/data/out", "s3://bucket/runs"));
        let keys = |files: &[(String, String)]| {
            let keys = files.iter().map(|(key, _)| key.clone());
            keys.collect::<Vec<_>>()
        };
        assert_eq!(
            keys(&files.on_volume),
            ["model.base_model", "datasets[0].path"]
        );
        assert_eq!(keys(&files.elsewhere), ["model.chat_template"]);
    }

    #[test]
    fn results_must_go_to_the_volume_or_to_a_bucket() {
        assert!(lost_results(&recipe("/data/out", "s3://bucket/runs")).is_empty());
        assert!(lost_results(&recipe("/data", "file:///data/s")).is_empty());
        let lost = lost_results(&recipe("/database/out", "file:///mnt/s"));
        assert_eq!(lost.len(), 2, "{lost:?}");
    }
}
