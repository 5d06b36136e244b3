//! Where hosts meet beside the network: disks, rings, and what is known of the run.

use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::sleep;
use weft_common::data::RowStat;
use weft_common::id::{Digest, Step, Term, WorkerId};
use weft_common::ledger;
use weft_common::plan::{LrSchedule, PlanSpec, StepPlanner};
use weft_common::recipe::{Format, Recipe};
use weft_common::wire::{CheckpointRef, DatasetRef, Round, TakeCheckpoint};
use weft_coordinator::engine::{Limits, Needs, OnNonFinite, RunData};
use weft_coordinator::{
    CoordinatorConfig, JobOutcome, JobSpec, Notice, PreparedData, WorkersBefore,
};
use weft_worker::agent::machine::Copy;
use weft_worker::agent::{Order, StateCopy};

use super::super::arithmetic::trajectory;
use super::super::disk::Disk;
use super::super::invariants::{self, Facts};
use super::super::job;
use super::super::rng::Rng;
use super::super::trainer::{Given, pack, step_of};
use super::trainer::{Books, look};
use super::{NetSetup, worker_host};

/// Where hosts meet beside the network.
#[derive(Clone)]
pub(super) struct Hub {
    folder: Arc<PathBuf>,
    setup: Arc<NetSetup>,
    recipe: Arc<Recipe>,
    prepared: PreparedData,
    shared: Arc<Mutex<Shared>>,
}

struct Shared {
    rng: Rng,
    data: Arc<RunData>,
    disk: Disk,
    facts: Facts,
    /// The training threads that run, with their hosts.
    workers: BTreeMap<WorkerId, (u32, Books)>,
    waiting: Vec<Waiting>,
    processes: usize,
    coordinators: u64,
    outcome: Option<JobOutcome>,
    log: bool,
}

/// A member that waits for the others to sum.
struct Waiting {
    worker: WorkerId,
    round: Round,
    summed: oneshot::Sender<i64>,
}

impl Hub {
    pub(super) fn new(setup: &NetSetup, folder: &Path) -> Self {
        let recipe = recipe(setup);
        let stat = RowStat {
            tokens: 10,
            supervised: 4,
        };
        let prepared = PreparedData {
            dataset: DatasetRef {
                digest: Digest::of(b"rows"),
                dir: folder.join("data"),
                files: Vec::new(),
            },
            stats: Arc::from(vec![stat; 48]),
        };
        let planner = StepPlanner::new(PlanSpec::from_recipe(&recipe), prepared.stats.clone());
        let planner = planner.expect("every row fits into a slot");
        let facts = Facts::new(trajectory(&planner));
        let data = RunData {
            dataset: prepared.dataset.clone(),
            schedule: LrSchedule::new(&recipe.training, planner.total_steps()),
            planner,
        };
        let shared = Shared {
            rng: Rng::new(setup.seed ^ 0x0F0F),
            data: Arc::new(data),
            disk: Disk::default(),
            facts,
            workers: BTreeMap::new(),
            waiting: Vec::new(),
            processes: 0,
            coordinators: 0,
            outcome: None,
            log: std::env::var_os("WEFT_SIM_LOG").is_some(),
        };
        Self {
            folder: Arc::new(folder.to_owned()),
            setup: Arc::new(setup.clone()),
            recipe: Arc::new(recipe),
            prepared,
            shared: Arc::new(Mutex::new(shared)),
        }
    }

    /// Nobody panics while holding the lock.
    fn look(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    pub(super) fn say(&self, line: impl FnOnce() -> String) {
        if self.look().log {
            println!("{}", line());
        }
    }

    pub(super) fn broken(&self, what: String) {
        self.look().facts.violations.push(what);
    }

    pub(super) fn is_over(&self) -> bool {
        let shared = self.look();
        shared.outcome.is_some() || !shared.facts.violations.is_empty()
    }

    /// What broke, and how many processes of workers and of the coordinator there were.
    pub(super) fn end(&self) -> (Vec<String>, usize, u64) {
        let mut shared = self.look();
        shared.read_ledger(&self.ledger_dir());
        let Shared {
            facts,
            outcome,
            disk,
            data,
            ..
        } = &mut *shared;
        invariants::end(facts, outcome.as_ref(), disk, data);
        let violations = std::mem::take(&mut facts.violations);
        (violations, shared.processes, shared.coordinators)
    }

    fn ledger_dir(&self) -> PathBuf {
        self.folder.join("out").join("ledger")
    }

    /// What a coordinator that starts now is started with.
    pub(super) fn coordinator(&self, listen: SocketAddr) -> (CoordinatorConfig, JobSpec) {
        let mut shared = self.look();
        shared.coordinators += 1;
        let config = CoordinatorConfig {
            listen,
            state_dir: self.folder.join("state"),
            after: Term(0),
            data: Arc::new(self.prepared.clone()),
            queue: None,
            limits: Limits::default(),
        };
        let newest = shared.disk.newest_checkpoint();
        let before = if shared.coordinators == 1 {
            WorkersBefore::Gone
        } else {
            WorkersBefore::MayReturn
        };
        let mut spec = JobSpec {
            id: job::id(),
            name: String::new(),
            recipe: (*self.recipe).clone(),
            priority: 0,
            workers: self.setup.hosts,
            gang: Some(1),
            needs: Needs::default(),
            form_within: Duration::from_secs(600),
            output_dir: self.folder.join("out"),
            resume: None,
            workers_before: before,
            on_non_finite: OnNonFinite::Fail,
        };
        spec.resume = newest.map(|next_step| CheckpointRef {
            dir: weft_common::checkpoint::folder(&spec.checkpoints_dir(), next_step),
            next_step,
        });
        (config, spec)
    }

    /// The term of the coordinator that started last.
    pub(super) fn term(&self) -> Term {
        let text = fs::read_to_string(self.folder.join("state").join("term"));
        Term(
            text.ok()
                .and_then(|text| text.trim().parse().ok())
                .unwrap_or(0),
        )
    }

    pub(super) fn notice(&self, term: Term, notice: &Notice) {
        self.say(|| format!("-- {notice:?}"));
        let mut shared = self.look();
        match notice {
            Notice::EpochFormed(epoch) => shared.facts.formed(term, epoch),
            Notice::StepCommitted(step) => shared.facts.told(step),
            Notice::Ended(outcome) => shared.outcome = Some(outcome.clone()),
            _ => {}
        }
    }

    /// A worker process starts.
    pub(super) fn started(&self, host: u32, books: Books) -> WorkerId {
        let mut shared = self.look();
        shared.processes += 1;
        let worker = WorkerId::from_number(shared.processes as u128);
        shared.workers.insert(worker, (host, books));
        worker
    }

    /// What ran on a worker's host does not any more.
    pub(super) fn crashed(&self, host: u32) {
        let mut shared = self.look();
        shared.workers.retain(|_, (on, _)| *on != host);
        let Shared {
            workers, waiting, ..
        } = &mut *shared;
        waiting.retain(|waits| workers.contains_key(&waits.worker));
    }

    pub(super) fn time_for(&self, order: &Order) -> Duration {
        let rng = &mut self.look().rng;
        match order {
            Order::Load(_) => rng.millis(20, 300),
            Order::Compute { .. } => rng.millis(3, 25),
            Order::Restore(_) => rng.millis(1, 50),
            Order::Apply { .. } | Order::Adopt { .. } => rng.millis(1, 4),
            Order::Describe(_)
            | Order::Settle(_)
            | Order::Join(_)
            | Order::Merge { .. }
            | Order::Discard(_)
            | Order::Reduce(_)
            | Order::Snapshot(_)
            | Order::Unload => Duration::ZERO,
        }
    }

    pub(super) fn given(&self, order: &Order, elapsed: Duration) -> Given {
        let step = match order {
            Order::Load(loading) => step_of(loading.prepare.resume.as_ref()),
            Order::Restore(restore) => step_of(restore.checkpoint.as_ref()),
            Order::Describe(_)
            | Order::Settle(_)
            | Order::Adopt { .. }
            | Order::Join(_)
            | Order::Compute { .. }
            | Order::Merge { .. }
            | Order::Discard(_)
            | Order::Reduce(_)
            | Order::Apply { .. }
            | Order::Snapshot(_)
            | Order::Unload => None,
        };
        let shared = self.look();
        let state = step.and_then(|step| Some((*shared.disk.checkpoints.get(&step)?, step)));
        Given {
            sum: None,
            state,
            elapsed,
        }
    }

    /// A worker has applied a step.
    pub(super) fn applied(&self, worker: WorkerId) {
        let mut shared = self.look();
        shared.read_ledger(&self.ledger_dir());
        let Shared {
            facts,
            workers,
            disk,
            ..
        } = &mut *shared;
        if let Some((host, books)) = workers.get(&worker)
            && let Some(loaded) = &look(books).loaded
        {
            facts.applied(*host as usize, loaded, disk);
        }
    }

    /// Waits for all members of a round, and sums.
    pub(super) fn sum(&self, worker: WorkerId, round: &Round) -> oneshot::Receiver<i64> {
        let (summed, sum) = oneshot::channel();
        let mut shared = self.look();
        shared.waiting.retain(|waits| !waits.summed.is_closed());
        shared.waiting.push(Waiting {
            worker,
            round: round.clone(),
            summed,
        });
        shared.sum_if_all_are_there(round);
        sum
    }

    /// The state that goes into a checkpoint, and how long that takes.
    pub(super) fn snapshot(
        &self,
        worker: WorkerId,
        take: &TakeCheckpoint,
    ) -> Option<(u64, Duration)> {
        let mut shared = self.look();
        let time = shared.rng.millis(2, 200);
        let Shared { facts, workers, .. } = &mut *shared;
        let books = look(&workers.get(&worker)?.1);
        let loaded = books.loaded.as_ref()?;
        facts.snapshot(loaded, take);
        Some((loaded.state, time))
    }

    pub(super) fn saved(&self, step: Step, state: u64) {
        self.look().disk.checkpoints.insert(step, state);
    }

    /// The state of a peer, between two of its orders.
    pub(super) async fn copy(self, wanted: Copy) -> Result<StateCopy, String> {
        let time = self.look().rng.millis(1, 100);
        sleep(time).await;
        let shared = self.look();
        let source = shared.workers.get(&wanted.source);
        let (host, books) = source.ok_or("the source is gone")?;
        let books = look(books);
        let gone = || format!("{} holds no job", worker_host(*host));
        let loaded = books.loaded.as_ref().ok_or_else(gone)?;
        Ok(pack(loaded.state, loaded.next_step))
    }
}

impl Shared {
    /// Takes what the ledger says that it did not say before.
    fn read_ledger(&mut self, folder: &Path) {
        let Ok(found) = ledger::read(folder) else {
            return;
        };
        let known = &mut self.disk.ledger;
        let same = known.iter().zip(&found.records).take_while(|(a, b)| a == b);
        let same = same.count();
        self.disk.replaced.extend(known.drain(same..));
        for record in found.records.into_iter().skip(same) {
            self.facts.recorded(&record, &self.disk, &self.data);
            self.disk.ledger.push(record);
        }
    }

    fn sum_if_all_are_there(&mut self, round: &Round) {
        let mut sum = 0;
        let mut members = 0;
        let there: Vec<WorkerId> = self
            .waiting
            .iter()
            .filter(|waits| &waits.round == round)
            .map(|waits| waits.worker)
            .collect();
        for worker in &there {
            let Some((_, books)) = self.workers.get(worker) else {
                return;
            };
            let books = look(books);
            let Some((loaded, epoch)) = books.loaded.as_ref().and_then(|l| Some((l, l.epoch()?)))
            else {
                return;
            };
            members = epoch.members.len();
            sum += loaded.part();
        }
        if there.len() < members || members == 0 {
            return;
        }
        let (summed, waiting) = std::mem::take(&mut self.waiting)
            .into_iter()
            .partition::<Vec<_>, _>(|waits| &waits.round == round);
        self.waiting = waiting;
        for waits in summed {
            // A member may have ended meanwhile.
            let _ = waits.summed.send(sum);
        }
    }
}

/// Six slots a step.
fn recipe(setup: &NetSetup) -> Recipe {
    let (steps, save_steps) = (setup.steps, setup.save_steps);
    let text = format!(
        r#"{{"model": {{"base_model": "/fake", "max_seq_length": 32}},
             "datasets": [{{"path": "/fake.jsonl"}}],
             "training": {{"per_device_train_batch_size": 2, "gradient_accumulation_steps": 6,
                           "max_steps": {steps}, "save_steps": {save_steps}}}}}"#
    );
    Recipe::parse(&text, Format::Json).expect("the recipe is valid")
}
