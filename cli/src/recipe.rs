//! The arguments that every command on a recipe takes.

use std::path::PathBuf;

use weft_common::recipe::{LoadedRecipe, Recipe, RecipeErrors};

use crate::exit::{Exit, Failure};
use crate::output::print;

/// Which recipe, with which changes.
#[derive(Debug, clap::Args)]
pub(crate) struct RecipeArgs {
    /// The recipe: YAML, JSON or TOML
    recipe: PathBuf,
    /// Changes a key of the recipe, as in `--set training.max_steps=10`; may be given several times
    #[arg(long = "set", value_name = "KEY=VALUE")]
    sets: Vec<String>,
}

impl RecipeArgs {
    /// A recipe with these changes.
    pub(crate) fn new(recipe: PathBuf, sets: Vec<String>) -> Self {
        Self { recipe, sets }
    }

    /// Reads and validates the recipe for machines where its folder is `root`, with further changes.
    pub(crate) fn load_elsewhere(
        &self,
        more: &[String],
        root: &str,
    ) -> Result<LoadedRecipe, RecipeErrors> {
        let sets = [&self.sets, more].concat();
        Recipe::load_elsewhere(&self.recipe, &sets, root)
    }

    /// Reads and validates the recipe; warnings go to standard error.
    pub(crate) fn load(&self) -> Result<LoadedRecipe, Failure> {
        let loaded = Recipe::load(&self.recipe, &self.sets)
            .map_err(|errors| Failure::new(Exit::Recipe, errors))?;
        for warning in &loaded.warnings {
            print::error(format_args!("warning: {warning}"));
        }
        Ok(loaded)
    }
}

/// How many workers start: as asked for, else one for each of `gpus`, else the fewest that the recipe allows.
pub(crate) fn worker_count(
    recipe: &Recipe,
    asked: Option<u32>,
    gpus: usize,
) -> Result<u32, String> {
    let bounds = recipe.worker_bounds();
    let gpus = u32::try_from(gpus).unwrap_or(u32::MAX);
    let wanted = asked.unwrap_or_else(|| gpus.min(*bounds.end()).max(*bounds.start()));
    if bounds.contains(&wanted) {
        return Ok(wanted);
    }
    Err(format!(
        "--workers {wanted} lies outside resources.workers, {} to {}; choose a number within, or change \
         resources.workers.min or resources.workers.max",
        bounds.start(),
        bounds.end()
    ))
}

/// Where prepared datasets are kept between runs.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct CacheArgs {
    /// Folder for prepared datasets [default: ~/.cache/weft]
    #[arg(long = "cache", value_name = "DIR", env = "WEFT_CACHE")]
    cache: Option<PathBuf>,
    /// Folder for compiled GPU kernels; one that cannot be written serves those that are in it [default: kernels in the
    /// cache folder]
    #[arg(long, value_name = "DIR", env = "WEFT_KERNELS")]
    kernels: Option<PathBuf>,
}

impl CacheArgs {
    /// Where compiled GPU kernels are kept.
    pub(crate) fn kernels(&self) -> PathBuf {
        let own = self.kernels.clone();
        own.unwrap_or_else(|| self.folder().join("kernels"))
    }

    /// The folder: as given, else where the system keeps caches, else a temporary one.
    pub(crate) fn folder(&self) -> PathBuf {
        let from_env = |key: &str| {
            std::env::var_os(key)
                .filter(|value| !value.is_empty())
                .map(PathBuf::from)
        };
        self.cache
            .clone()
            .or_else(|| from_env("XDG_CACHE_HOME").map(|folder| folder.join("weft")))
            .or_else(|| from_env("HOME").map(|folder| folder.join(".cache/weft")))
            .unwrap_or_else(|| std::env::temp_dir().join("weft-cache"))
    }
}
