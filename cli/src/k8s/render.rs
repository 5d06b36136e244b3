//! `weft k8s render`: reads the recipe, says what to mind, prints the manifests.

use std::path::{Path, PathBuf};

use weft_common::recipe::{LoadedRecipe, Recipe};
use weft_common::storage::write_atomic;
use weft_common::store::StoreUrl;

use super::manifest::manifest;
use super::objects::{Deployment, Storage, WorkerDevice};
use super::pods::{Files, VOLUME, lost_results};
use super::values::{
    Image, Name, Namespace, NodeLabel, ObjectName, PullPolicy, Quantity, Resources, Toleration,
    WorkerCount, gpu_resource,
};
use crate::exit::{Exit, Failure, Problems};
use crate::output::print;
use crate::recipe::RecipeArgs;

/// Arguments of `weft k8s render`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    recipe: RecipeArgs,
    /// From how few to how many workers, as in 1..8: sets the recipe's resources.workers
    #[arg(long, value_name = "MIN..MAX")]
    workers: WorkerCount,
    /// How many pods of workers to begin with; those that find no room wait for it [default: the most]
    #[arg(long, value_name = "N")]
    start_with: Option<u32>,
    /// What all pods run: built from deploy/Containerfile, where the cluster can pull it
    #[arg(long)]
    image: Image,
    /// When it is pulled
    #[arg(long, value_name = "WHEN", default_value = "IfNotPresent")]
    image_pull_policy: PullPolicy,
    /// A secret of the namespace that it is pulled with
    #[arg(long, value_name = "SECRET")]
    image_pull_secret: Option<ObjectName>,
    /// Where the objects lie [default: where kubectl puts them]
    #[arg(long)]
    namespace: Option<Namespace>,
    /// What the objects are named after
    #[arg(long, default_value = "weft")]
    name: Name,
    /// What the device plugin hands GPUs out as; a worker takes one
    #[arg(long, value_name = "RESOURCE", default_value = "nvidia.com/gpu", value_parser = gpu_resource)]
    gpu_resource: String,
    /// Workers compute on CPUs, with as many threads as --worker-resources says cores
    #[arg(long, conflicts_with = "gpu_resource")]
    cpu: bool,
    /// A claim of the namespace for all pods (ReadWriteMany): what lies in the recipe's folder here is at its root
    #[arg(long, value_name = "CLAIM", required_unless_present = "storage_size")]
    storage: Option<ObjectName>,
    /// Makes such a claim, of so much, in place of --storage
    #[arg(long, value_name = "SIZE", conflicts_with = "storage")]
    storage_size: Option<Quantity>,
    /// The class of the claim that is made [default: the cluster's]
    #[arg(long, value_name = "CLASS", requires = "storage_size")]
    storage_class: Option<ObjectName>,
    /// Cores and host memory of the coordinator
    #[arg(long, value_name = "AMOUNTS", default_value = "cpu=1,memory=4Gi")]
    coordinator_resources: Resources,
    /// Cores and host memory of each worker
    #[arg(long, value_name = "AMOUNTS", default_value = "cpu=4,memory=16Gi")]
    worker_resources: Resources,
    /// The most that /dev/shm of a worker may hold; it counts as memory
    #[arg(long, value_name = "SIZE", default_value = "1Gi")]
    shm: Quantity,
    /// A label of the nodes for workers; may be given several times
    #[arg(long, value_name = "KEY=VALUE")]
    node_selector: Vec<NodeLabel>,
    /// A taint that workers put up with beside that of the GPUs; may be given several times
    #[arg(long, value_name = "KEY[=VALUE][:EFFECT]")]
    toleration: Vec<Toleration>,
    /// The account of all pods
    #[arg(long, value_name = "ACCOUNT")]
    service_account: Option<ObjectName>,
    /// A secret of the namespace whose keys become variables of all pods, for credentials of training.storage
    #[arg(long, value_name = "SECRET")]
    secret: Option<ObjectName>,
    /// A file, a folder that is there, or - for standard output
    #[arg(long, value_name = "PATH", default_value = "-")]
    output: PathBuf,
}

/// Renders.
pub(super) fn run(args: &Args) -> Result<(), Failure> {
    let loaded = check(args)?;
    let recipe = &loaded.recipe;
    let files = Files::of(recipe);
    for warning in loaded
        .warnings
        .iter()
        .chain(&cautions(args, recipe, &files))
    {
        print::error(format_args!("warning: {warning}"));
    }
    let internal = |error: serde_yaml_ng::Error| Failure::new(Exit::Internal, error);
    let recipe_yaml = serde_yaml_ng::to_string(recipe).map_err(internal)?;
    let deployment = deployment(args, recipe_yaml);
    let text = manifest(&deployment, &files, &recipe.training.output_dir).map_err(internal)?;
    write(&args.output, &args.name, &text)
}

/// All that can be found wrong here.
fn check(args: &Args) -> Result<LoadedRecipe, Failure> {
    let mut problems = Problems::default();
    let WorkerCount { min, max } = args.workers;
    let start_with = args.start_with.unwrap_or(max);
    if !(min..=max).contains(&start_with) {
        problems.push(
            Exit::Recipe,
            format_args!(
                "--start-with {start_with} lies outside --workers {min}..{max}; choose a number within"
            ),
        );
    }
    let bounds = format!("resources.workers={{min: {min}, max: {max}}}");
    let loaded = problems.keep(Exit::Recipe, args.recipe.load_elsewhere(&[bounds], VOLUME));
    for lost in loaded
        .iter()
        .flat_map(|loaded| lost_results(&loaded.recipe))
    {
        problems.push(Exit::Recipe, lost);
    }
    problems.finish()?;
    loaded.ok_or_else(|| Failure::new(Exit::Internal, "a check failed without saying why"))
}

/// What the user should know although it can be rendered.
fn cautions(args: &Args, recipe: &Recipe, files: &Files) -> Vec<String> {
    let mut cautions = vec![
        "connections between the pods are neither encrypted nor authenticated; keep others out of their network"
            .to_owned(),
    ];
    // It was read with other bounds already, so that nothing is wrong with it.
    let own = args.recipe.load_elsewhere(&[], VOLUME).ok();
    let own = own.map(|own| own.recipe.max_slots());
    let max = args.workers.max;
    if own.is_some_and(|own| own != max) {
        cautions.push(format!(
            "--workers {} sets the recipe's resources.workers.max to {max}, in place of {}: into so many micro-batches a step \
             is cut, which is part of the result",
            args.workers,
            own.unwrap_or_default()
        ));
    }
    for (key, path) in &files.elsewhere {
        cautions.push(format!(
            "{key} = {path} lies outside the volume, which pods have at {VOLUME}: the image must hold it"
        ));
    }
    let bucket = matches!(recipe.training.store_url(), Some(StoreUrl::Bucket { .. }));
    if bucket && args.secret.is_none() && args.service_account.is_none() {
        cautions.push(
            "training.storage is a bucket, and no --secret says with which key; the nodes' own role will be asked for"
                .to_owned(),
        );
    }
    cautions
}

fn deployment(args: &Args, recipe_yaml: String) -> Deployment {
    let storage = match (&args.storage, &args.storage_size) {
        (Some(claim), _) => Storage::Claim(claim.clone()),
        (None, size) => Storage::New {
            size: size.clone().expect("clap asks for one of the two"),
            class: args.storage_class.clone(),
        },
    };
    Deployment {
        name: args.name.clone(),
        namespace: args.namespace.clone(),
        image: args.image.clone(),
        pull_policy: args.image_pull_policy,
        pull_secret: args.image_pull_secret.clone(),
        service_account: args.service_account.clone(),
        secret: args.secret.clone(),
        recipe_yaml,
        workers: args.workers,
        start_with: args.start_with.unwrap_or(args.workers.max),
        device: if args.cpu {
            WorkerDevice::Cpu
        } else {
            WorkerDevice::Gpu(args.gpu_resource.clone())
        },
        storage,
        coordinator_resources: args.coordinator_resources.clone(),
        worker_resources: args.worker_resources.clone(),
        shm: args.shm.clone(),
        node_labels: args.node_selector.clone(),
        tolerations: args.toleration.clone(),
    }
}

/// To standard output, or into a file; in a folder it is named after the job.
fn write(output: &Path, name: &Name, text: &str) -> Result<(), Failure> {
    if output == Path::new("-") {
        return print::part(text).map(drop);
    }
    let file = if output.is_dir() {
        output.join(format!("{name}.yaml"))
    } else {
        output.to_owned()
    };
    write_atomic(&file, text.as_bytes()).map_err(|error| Failure::new(Exit::Environment, error))?;
    print::error(format_args!(
        "{}: `kubectl apply -f` takes it",
        file.display()
    ));
    Ok(())
}
