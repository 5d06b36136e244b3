//! What is looked at before anything starts: model, adapter, tokenizer, data and plan. All problems are told together.

use std::path::Path;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use weft_common::data::{self, ChatTokenizer, PrepareProgress, Prepared};
use weft_common::plan::{PlanSpec, StepPlanner};
use weft_common::recipe::Recipe;
use weft_worker::lora::AdapterLayout;
use weft_worker::model::Spec;
use weft_worker::model::loader::{check_context, inspect};

use crate::exit::{Exit, Failure, Problems};

/// A recipe whose parts are known to fit together.
pub(crate) struct Preflight {
    /// The recipe.
    pub(crate) recipe: Recipe,
    /// The base model's dimensions.
    pub(crate) spec: Spec,
    /// Where the adapter's matrices lie.
    pub(crate) adapter: AdapterLayout,
    /// The tokenizer, with the chat template.
    pub(crate) tokenizer: ChatTokenizer,
    /// The prepared dataset.
    pub(crate) prepared: Prepared,
    /// Which rows each step takes.
    pub(crate) planner: StepPlanner,
}

impl Preflight {
    /// Looks at everything. Prepares the dataset in `cache` where it is not there yet; writes nothing else.
    /// `problems` may hold some already.
    pub(crate) fn inspect(
        recipe: Recipe,
        cache: &Path,
        mut problems: Problems,
    ) -> Result<Self, Failure> {
        let model = inspect_model(&recipe, &mut problems);
        let data = inspect_data(&recipe, cache, &mut problems);
        problems.finish()?;
        let (Some((spec, layout)), Some((tokenizer, prepared, planner))) = (model, data) else {
            return Err(failed_silently());
        };
        Ok(Self {
            recipe,
            spec,
            adapter: layout,
            tokenizer,
            prepared,
            planner,
        })
    }

    /// Trainable parameters.
    pub(crate) fn adapter_parameters(&self) -> u64 {
        self.adapter.len() as u64
    }

    /// Parameters of base and adapter.
    pub(crate) fn parameters(&self) -> u64 {
        self.spec.parameters() as u64 + self.adapter_parameters()
    }

    /// Parameters without the embedding tables: what the usual count of operations per token multiplies.
    pub(crate) fn non_embedding_parameters(&self) -> u64 {
        let tables = if self.spec.tied_head { 1 } else { 2 };
        self.parameters() - (tables * self.spec.vocab * self.spec.hidden) as u64
    }
}

/// Looks at what costs nothing to look at: the model's header, the tokenizer and its template.
pub(crate) fn glance(recipe: &Recipe, problems: &mut Problems) {
    inspect_model(recipe, problems);
    problems.keep(Exit::Data, load_tokenizer(recipe));
}

/// The model's header, without its weights.
fn inspect_model(recipe: &Recipe, problems: &mut Problems) -> Option<(Spec, AdapterLayout)> {
    let spec = problems.keep(Exit::Model, inspect(Path::new(&recipe.model.base_model)))?;
    let context = check_context(&spec, recipe.model.max_seq_length as usize);
    problems.keep(Exit::Model, context);
    let layout = problems.keep(Exit::Model, AdapterLayout::new(&spec, &recipe.lora))?;
    Some((spec, layout))
}

/// The dataset of a recipe and its plan, without a look at the model's weights.
pub(crate) fn prepare_data(
    recipe: &Recipe,
    cache: &Path,
) -> Result<(Prepared, StepPlanner), Failure> {
    let mut problems = Problems::default();
    let data = inspect_data(recipe, cache, &mut problems);
    problems.finish()?;
    let (_, prepared, planner) = data.ok_or_else(failed_silently)?;
    Ok((prepared, planner))
}

fn failed_silently() -> Failure {
    Failure::new(Exit::Internal, "a check failed without saying why")
}

fn inspect_data(
    recipe: &Recipe,
    cache: &Path,
    problems: &mut Problems,
) -> Option<(ChatTokenizer, Prepared, StepPlanner)> {
    let tokenizer = problems.keep(Exit::Data, load_tokenizer(recipe))?;
    let bar = prepare_bar();
    let show = |progress: PrepareProgress| {
        bar.set_length(progress.total);
        bar.set_position(progress.done);
    };
    let prepared = data::prepare(recipe, &tokenizer, cache, &show);
    bar.finish_and_clear();
    let prepared = problems.keep(Exit::Data, prepared)?;
    let planner = StepPlanner::new(PlanSpec::from_recipe(recipe), prepared.stats());
    let planner = problems.keep(Exit::Data, planner)?;
    Some((tokenizer, prepared, planner))
}

/// The tokenizer that a recipe names, with its chat template.
pub(crate) fn load_tokenizer(recipe: &Recipe) -> Result<ChatTokenizer, data::TokenizerError> {
    let model = &recipe.model;
    let own = model.tokenizer.as_deref().map(Path::new);
    ChatTokenizer::load(Path::new(&model.base_model), own, &model.chat_template)
}

fn prepare_bar() -> ProgressBar {
    let style = ProgressStyle::with_template("preparing data {bar:30} {percent}%");
    let style = style.unwrap_or_else(|_| ProgressStyle::default_bar());
    // Hidden by itself where standard error is no terminal.
    ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr()).with_style(style)
}
