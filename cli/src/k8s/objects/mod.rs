//! The objects of one job.

mod coordinator;
mod metadata;
mod pod;
mod recipe;
mod storage;
mod workers;

use serde_json::Value;

use super::values::{
    Image, Name, Namespace, NodeLabel, ObjectName, PullPolicy, Quantity, Resources, Toleration,
    WorkerCount,
};

/// Where the coordinator listens, in its pod.
pub(super) const PORT: u16 = 7117;

/// Everything that the objects say.
#[derive(Debug, Clone)]
pub(super) struct Deployment {
    /// What all objects are named after.
    pub(super) name: Name,
    /// Where they lie; where `kubectl` is told to put them, if nothing is said here.
    pub(super) namespace: Option<Namespace>,
    /// What all containers run.
    pub(super) image: Image,
    /// When it is pulled.
    pub(super) pull_policy: PullPolicy,
    /// What it is pulled with.
    pub(super) pull_secret: Option<ObjectName>,
    /// The account of all pods.
    pub(super) service_account: Option<ObjectName>,
    /// A secret whose keys become variables of all containers: credentials of a bucket.
    pub(super) secret: Option<ObjectName>,
    /// The recipe, with paths as pods see them.
    pub(super) recipe_yaml: String,
    /// How many workers there may be.
    pub(super) workers: WorkerCount,
    /// How many pods of workers there are at first.
    pub(super) start_with: u32,
    /// What a worker computes on.
    pub(super) device: WorkerDevice,
    /// The volume that all pods share.
    pub(super) storage: Storage,
    /// What the coordinator asks for.
    pub(super) coordinator_resources: Resources,
    /// What a worker asks for, beside its device.
    pub(super) worker_resources: Resources,
    /// The most that `/dev/shm` of a worker may hold.
    pub(super) shm: Quantity,
    /// Labels of the nodes that workers may run on.
    pub(super) node_labels: Vec<NodeLabel>,
    /// Taints that workers put up with.
    pub(super) tolerations: Vec<Toleration>,
}

/// What a worker computes on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum WorkerDevice {
    /// One GPU, which a device plugin hands out under this name.
    Gpu(String),
    /// The cores that it asks for.
    Cpu,
}

/// The volume that all pods share.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Storage {
    /// A claim that is there.
    Claim(ObjectName),
    /// A claim of the job's own.
    New {
        /// How much it asks for.
        size: Quantity,
        /// Of which class; the cluster's default where there is none.
        class: Option<ObjectName>,
    },
}

impl Deployment {
    /// All objects, in the order in which they are to be made.
    pub(super) fn objects(&self) -> Vec<Value> {
        let mut objects = vec![recipe::config_map(self)];
        objects.extend(storage::claim(self));
        objects.extend([
            coordinator::service(self),
            coordinator::stateful_set(self),
            workers::job(self),
        ]);
        objects
    }

    /// The name of the coordinator's objects.
    pub(super) fn coordinator(&self) -> String {
        format!("{}-coordinator", self.name)
    }

    /// The name of the workers' Job.
    pub(super) fn worker(&self) -> String {
        format!("{}-worker", self.name)
    }

    /// The name of the claim that holds what all pods share.
    pub(super) fn claim(&self) -> String {
        match &self.storage {
            Storage::Claim(claim) => claim.to_string(),
            Storage::New { .. } => format!("{}-data", self.name),
        }
    }
}
