//! Which model on which rows.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use weft_common::data::{ChatTokenizer, RowStat};
use weft_common::recipe::{DatasetSection, Format, Recipe};
use weft_worker::eval::{AdapterConfig, Examiners, OpenError, open};
use weft_worker::model::loader::read_spec;

use super::{Args, Split};
use crate::exit::{Exit, Failure};
use crate::output::print;
use crate::preflight::load_tokenizer;
use crate::recipe::RecipeArgs;

/// Rows are cut at this many tokens, where no recipe says otherwise and the model can see so many.
const MAX_SEQ_LENGTH: usize = 2048;

/// What the arguments choose.
#[derive(Debug)]
pub(super) struct Chosen {
    /// Base model, adapter's shape and rows, as a recipe says them: its `datasets` are what is evaluated on.
    pub(super) recipe: Recipe,
    /// The adapter's folder.
    pub(super) adapter: Option<PathBuf>,
    split: Option<Split>,
}

impl Chosen {
    pub(super) fn from_args(args: &Args) -> Result<Self, Failure> {
        let config = AdapterConfig::is_in(&args.model)
            .then(|| AdapterConfig::read(&args.model))
            .transpose()
            .map_err(|error| Failure::new(Exit::Model, error))?;
        let base = config
            .as_ref()
            .map_or_else(|| args.model.clone(), |config| config.base(&args.model));
        let (mut recipe, split) = match &args.recipe {
            Some(path) => Self::by_recipe(args, path, &base, config.is_some())?,
            None => (Self::without_recipe(args, &base, config.is_some())?, None),
        };
        if let Some(config) = &config {
            recipe.lora = config.lora();
        }
        Ok(Self {
            recipe,
            adapter: config.is_some().then(|| args.model.clone()),
            split,
        })
    }

    /// The recipe's model for an adapter, whose base it names; its rows, or those of --data read in its way.
    fn by_recipe(
        args: &Args,
        path: &Path,
        base: &Path,
        adapted: bool,
    ) -> Result<(Recipe, Option<Split>), Failure> {
        let mut recipe = RecipeArgs::new(path.to_owned(), args.sets.clone())
            .load()?
            .recipe;
        if !adapted {
            // Another model than the recipe's is what its files say, unless it is said otherwise: a merged one in 4 bits again
            // would be none that anybody uses.
            let its_own = same_place(base, Path::new(&recipe.model.base_model));
            let said = args
                .sets
                .iter()
                .any(|set| set.starts_with("model.load_in_4bit"));
            recipe.model.load_in_4bit &= its_own || said;
            recipe.model.base_model = base.display().to_string();
        }
        if !args.data.is_empty() {
            let like = recipe.datasets.first().cloned().unwrap_or_default();
            recipe.datasets = with_paths(args, &like)?;
            return Ok((recipe, None));
        }
        let split = split(args.split, &recipe)?;
        if split == Split::Validation {
            recipe.datasets = std::mem::take(&mut recipe.eval_datasets);
        }
        Ok((recipe, Some(split)))
    }

    fn without_recipe(args: &Args, base: &Path, adapted: bool) -> Result<Recipe, Failure> {
        let spec = read_spec(base).map_err(|error| Failure::new(Exit::Model, error))?;
        let datasets = with_paths(args, &DatasetSection::default())?;
        let recipe = json!({
            "model": {
                "base_model": base,
                "max_seq_length": spec.context.min(MAX_SEQ_LENGTH),
                // Under an adapter the base is what it was trained on; alone it is what its files say.
                "load_in_4bit": adapted,
                "tokenizer": tokenizer_of(&args.model, adapted),
            },
            "datasets": datasets,
        });
        Recipe::parse(&without_nulls(recipe).to_string(), Format::Json)
            .map_err(|errors| Failure::new(Exit::Recipe, errors))
    }

    /// What the split is called for people.
    pub(super) fn split_name(&self) -> &'static str {
        match self.split {
            Some(Split::Train) => "train",
            Some(Split::Validation) => "validation",
            None => "data",
        }
    }

    pub(super) fn tokenizer(&self) -> Result<ChatTokenizer, Failure> {
        load_tokenizer(&self.recipe).map_err(|error| Failure::new(Exit::Data, error))
    }

    /// Opens the model on the devices that the arguments name.
    pub(super) fn open(&self, args: &Args, rows: &[RowStat]) -> Result<Examiners, Failure> {
        let threads = crate::worker::compute_threads(args.threads)?;
        let devices = args.device.every(threads, &args.cache)?;
        let longest = rows.iter().map(|row| row.tokens as usize).max();
        let room = (args.workers.get(), longest.unwrap_or(0));
        let opened = open(&self.recipe, self.adapter.as_deref(), &devices, room)
            .map_err(|error| Failure::new(exit_of(&error), error))?;
        let each = (threads / opened.len().max(1)).max(1);
        Examiners::new(opened, each).map_err(|error| Failure::new(Exit::Environment, error))
    }
}

fn exit_of(error: &OpenError) -> Exit {
    match error {
        OpenError::Base(_) | OpenError::Model(_) | OpenError::Adapter { .. } => Exit::Model,
        OpenError::Device(_) => Exit::Environment,
    }
}

/// Whether two paths name one file or folder.
fn same_place(one: &Path, other: &Path) -> bool {
    let real = |path: &Path| path.canonicalize().ok();
    one == other || real(one).is_some_and(|place| real(other) == Some(place))
}

/// The split that was asked for, else the validation rows where there are any.
fn split(asked: Option<Split>, recipe: &Recipe) -> Result<Split, Failure> {
    match (asked, recipe.eval_datasets.is_empty()) {
        (Some(Split::Validation), true) => Err(Failure::new(
            Exit::Recipe,
            "the recipe has no eval_datasets; name them there, rows of --data here, or take --split train",
        )),
        (Some(split), _) => Ok(split),
        (None, false) => Ok(Split::Validation),
        (None, true) => {
            print::error(
                "warning: the recipe has no eval_datasets, so these are the rows that it trains on; name others there \
                 or with --data",
            );
            Ok(Split::Train)
        }
    }
}

/// A section for each file of --data, otherwise like `like`.
fn with_paths(args: &Args, like: &DatasetSection) -> Result<Vec<DatasetSection>, Failure> {
    let mut columns = like.columns.clone();
    for column in &args.columns {
        let (old, new) = column.split_once('=').ok_or_else(|| {
            let problem = format!("--column {column} names no new column; write it as OLD=NEW");
            Failure::new(Exit::Data, problem)
        })?;
        columns.insert(old.to_owned(), new.to_owned());
    }
    let section = |path: &PathBuf| DatasetSection {
        path: path.display().to_string(),
        columns: columns.clone(),
        slices: Vec::new(),
        limit: None,
        ..like.clone()
    };
    Ok(args.data.iter().map(section).collect())
}

/// The adapter's own tokenizer, which has the template that it was trained with.
fn tokenizer_of(adapter: &Path, adapted: bool) -> Option<&Path> {
    (adapted && adapter.join("tokenizer.json").is_file()).then_some(adapter)
}

/// Without keys that say nothing, which a recipe need not hold.
fn without_nulls(mut tree: Value) -> Value {
    match &mut tree {
        Value::Object(keys) => {
            keys.retain(|_, value| !value.is_null());
            for value in keys.values_mut() {
                *value = without_nulls(value.take());
            }
        }
        Value::Array(items) => {
            for item in items {
                *item = without_nulls(item.take());
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
    tree
}
