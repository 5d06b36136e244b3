//! From a file to a recipe that is known to make sense.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::resolve::Files;
use super::{Format, Problem, Recipe, RecipeErrors};
use super::{aliases, check, foreign, overrides, resolve, source, validate, values};

/// A recipe and where it came from.
#[derive(Debug, Clone, PartialEq)]
pub struct LoadedRecipe {
    /// The recipe; the paths in it are absolute, there where it is to run.
    pub recipe: Recipe,
    /// The recipe's folder.
    pub folder: PathBuf,
    /// What the user should know and the run can live with.
    pub warnings: Vec<String>,
}

impl Recipe {
    /// Reads a recipe in YAML, JSON or TOML, lays `sets` (`key.path=value`) over it, and finds the files it names.
    ///
    /// # Errors
    /// All problems at once, each with key, value and remedy.
    pub fn load(path: &Path, sets: &[String]) -> Result<LoadedRecipe, RecipeErrors> {
        Self::load_with(path, sets, &Files::Here(&folder_of(path)))
    }

    /// As [`Recipe::load`], for machines where the recipe's folder is `root`. Nothing is looked for here; what lies
    /// relative to the recipe's folder, `training.output_dir` included, is found below `root` there.
    ///
    /// # Errors
    /// As [`Recipe::load`]; and paths that lead out of the recipe's folder.
    pub fn load_elsewhere(
        path: &Path,
        sets: &[String],
        root: &str,
    ) -> Result<LoadedRecipe, RecipeErrors> {
        Self::load_with(path, sets, &Files::Elsewhere(root))
    }

    fn load_with(
        path: &Path,
        sets: &[String],
        files: &Files<'_>,
    ) -> Result<LoadedRecipe, RecipeErrors> {
        let errors = |problems| RecipeErrors {
            source: path.display().to_string(),
            problems,
        };
        let text = source::read(path).map_err(|problem| errors(vec![problem]))?;
        let mut draft = Draft::read(&text, Format::of(path, &text), sets);
        if let Some(recipe) = &mut draft.recipe {
            resolve::resolve(recipe, files, &mut draft.problems);
        }
        let (recipe, warnings) = draft.finish().map_err(errors)?;
        Ok(LoadedRecipe {
            recipe,
            folder: folder_of(path),
            warnings,
        })
    }

    /// Reads a recipe from text, without looking at any file.
    ///
    /// # Errors
    /// All problems at once, each with key, value and remedy.
    pub fn parse(text: &str, format: Format) -> Result<Self, RecipeErrors> {
        let errors = |problems| RecipeErrors {
            source: "text".to_owned(),
            problems,
        };
        let (recipe, _) = Draft::read(text, format, &[]).finish().map_err(errors)?;
        Ok(recipe)
    }

    /// The recipe as JSON, every default written out. [`Recipe::parse`] gives the same recipe back.
    #[must_use]
    pub fn to_json(&self) -> String {
        serde_json::to_string_pretty(self)
            .expect("a recipe holds only numbers, text, lists and maps with text keys")
    }
}

/// A recipe on its way, with what has been found wrong so far.
struct Draft {
    /// What could be made of it. Where there are problems, refused keys have their defaults, so that later stages can
    /// look at the others.
    recipe: Option<Recipe>,
    problems: Vec<Problem>,
    warnings: Vec<String>,
}

impl Draft {
    fn read(text: &str, format: Format, sets: &[String]) -> Self {
        let (mut problems, mut warnings) = (Vec::new(), Vec::new());
        let recipe = match source::parse(text, format) {
            Ok(tree) => read_tree(tree, sets, &mut problems, &mut warnings),
            Err(problem) => {
                problems.push(problem);
                None
            }
        };
        if let Some(recipe) = &recipe
            && recipe.training.packing
        {
            let fact = "rows are always packed without padding, and never see each other";
            warnings.push(format!(
                "recipe training.packing = true has no effect: {fact}"
            ));
        }
        Self {
            recipe,
            problems,
            warnings,
        }
    }

    fn finish(self) -> Result<(Recipe, Vec<String>), Vec<Problem>> {
        match self.recipe {
            Some(recipe) if self.problems.is_empty() => Ok((recipe, self.warnings)),
            Some(_) | None => Err(self.problems),
        }
    }
}

fn read_tree(
    mut tree: Value,
    sets: &[String],
    problems: &mut Vec<Problem>,
    warnings: &mut Vec<String>,
) -> Option<Recipe> {
    if tree.is_null() {
        tree = json!({});
    }
    aliases::rename(&mut tree, problems);
    overrides::apply(&mut tree, sets, problems);
    foreign::take_out(&mut tree, problems, warnings);
    values::normalize(&mut tree, problems);
    let reported = problems.len();
    check::check(&tree, problems);
    for problem in &problems[reported..] {
        withdraw(&mut tree, &problem.key);
    }
    match serde_json::from_value(tree) {
        Ok(recipe) => {
            let refused: BTreeSet<String> = problems
                .iter()
                .map(|problem| refused_key(&problem.key))
                .collect();
            validate::validate(&recipe, &refused, problems);
            Some(recipe)
        }
        Err(error) => {
            // The schema is made from the types, so this is reached only where a refused key has no default.
            if problems.is_empty() {
                problems.push(Problem::new("", error.to_string(), "correct the value"));
            }
            None
        }
    }
}

/// The key of a section that a problem's path lies under: `lora.target_modules` for `lora.target_modules[1]`.
fn refused_key(path: &str) -> String {
    let mut parts = path.splitn(3, '.');
    let (Some(section), Some(key)) = (parts.next(), parts.next()) else {
        return path.to_owned();
    };
    let key = key.split_once('[').map_or(key, |(key, _)| key);
    format!("{section}.{key}")
}

/// Takes a refused key out of the tree, so that the rest can still be looked at.
fn withdraw(tree: &mut Value, path: &str) {
    let refused = refused_key(path);
    let Some((section, key)) = refused.split_once('.') else {
        let empty = if refused == "datasets" {
            json!([])
        } else {
            json!({})
        };
        match refused.as_str() {
            "model" | "datasets" => tree[&refused] = empty,
            _ => {
                _ = tree
                    .as_object_mut()
                    .and_then(|root| root.shift_remove(&refused))
            }
        }
        return;
    };
    let pointer = format!("/{}", section.replace('[', "/").replace(']', ""));
    let keys = tree.pointer_mut(&pointer).and_then(Value::as_object_mut);
    keys.and_then(|keys| keys.shift_remove(key));
}

fn folder_of(path: &Path) -> PathBuf {
    let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    path.parent().map_or_else(PathBuf::new, Path::to_owned)
}
