//! The worker processes that the coordinator knows, whether they are members of a job or not.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use weft_common::id::{JobId, Rank, Term, WorkerId};
use weft_common::time::Timestamp;
use weft_common::wire::{
    Heartbeat, Hello, PROTOCOL_VERSION, Refusal, WEFT_VERSION, Welcome, WorkerFacts,
};

use super::flapping::Flapping;
use super::gpu::{GpuNews, GpuRecord};
use super::outcome::{LossCause, WorkerName};
use super::terms::{Limits, Needs};

/// All known workers.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Fleet {
    workers: BTreeMap<WorkerId, WorkerRecord>,
    flapping: Flapping,
    /// Whether a job gave workers back since this was last asked.
    freed: bool,
    last_tick: Option<Timestamp>,
}

/// One worker process.
#[derive(Debug, Clone, PartialEq)]
pub struct WorkerRecord {
    /// What it said of itself.
    pub facts: WorkerFacts,
    /// Where it was seen to come from.
    pub ip: IpAddr,
    /// Its newest session.
    pub session: u32,
    /// Whether that is open.
    pub link: Link,
    /// Since when this coordinator knows it.
    pub since: Timestamp,
    /// When it was last heard.
    pub last_heard: Timestamp,
    /// Its last sign of life.
    pub heartbeat: Heartbeat,
    /// What people were told of its GPU.
    pub gpu: GpuRecord,
    /// The job it works for.
    pub job: Option<JobId>,
    /// Why it is given no job any more: it is about to end, or did what an honest, healthy worker cannot.
    pub kept_out: Option<String>,
    /// The job that it came back with the state of, as long as no other one may have it for that.
    pub kept: Option<Kept>,
}

/// A worker that is kept for a job, whose state it holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    /// The job.
    pub job: JobId,
    /// Since when.
    pub since: Timestamp,
    /// Until when.
    pub until: Timestamp,
}

/// Data that were prepared before are there at once; nobody keeps workers from others for those that were not.
pub(super) const LONGEST_KEPT: Duration = Duration::from_secs(60);

/// What becomes of a worker that is kept for a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keep {
    /// The job is over, or has it.
    No,
    /// Until the moment that was set when it came.
    AsAgreed,
    /// The job cannot have it yet, because its data are being prepared: for a while longer.
    WhilePrepared,
}

/// Whether a worker can be talked to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Link {
    /// It introduced itself.
    Registered,
    /// Its session is open.
    Attached,
}

impl WorkerRecord {
    /// The worker as people find it.
    #[must_use]
    pub fn name(&self, worker: WorkerId, rank: Option<Rank>) -> WorkerName {
        WorkerName {
            worker,
            host: self.facts.host.clone(),
            device: self.facts.device.clone(),
            rank,
        }
    }
}

impl Fleet {
    /// Decides on a worker that introduces itself.
    ///
    /// # Errors
    /// The refusal, with both sides' values.
    pub fn register(
        &mut self,
        hello: Hello,
        ip: IpAddr,
        term: Term,
        limits: &Limits,
        now: Timestamp,
    ) -> Result<Welcome, Refusal> {
        self.admit(&hello, limits)?;
        let record = WorkerRecord {
            facts: hello.facts,
            ip,
            session: hello.session,
            link: Link::Registered,
            since: now,
            last_heard: now,
            heartbeat: Heartbeat::default(),
            gpu: GpuRecord::default(),
            job: None,
            kept_out: None,
            kept: None,
        };
        self.workers.insert(hello.worker, record);
        Ok(Welcome {
            term,
            heartbeat_every: limits.heartbeat_every,
        })
    }

    fn admit(&self, hello: &Hello, limits: &Limits) -> Result<(), Refusal> {
        if hello.protocol_version != PROTOCOL_VERSION {
            return Err(Refusal::ProtocolVersion {
                worker: hello.protocol_version,
                coordinator: PROTOCOL_VERSION,
            });
        }
        if hello.weft_version != WEFT_VERSION {
            return Err(Refusal::WeftVersion {
                worker: hello.weft_version.clone(),
                coordinator: WEFT_VERSION.to_owned(),
            });
        }
        if let Some(known) = self.workers.get(&hello.worker) {
            debug_assert!(known.session >= hello.session, "a newer session replaces");
            return Err(Refusal::Duplicate {
                worker: hello.worker,
                session: hello.session,
            });
        }
        if self.workers.len() >= limits.max_workers {
            return Err(Refusal::Full {
                limit: limits.max_workers,
            });
        }
        Ok(())
    }

    /// Whether a hello opens a newer session of a worker that is still known by an older one.
    #[must_use]
    pub fn replaces(&self, hello: &Hello) -> bool {
        let known = self.workers.get(&hello.worker);
        known.is_some_and(|known| known.session < hello.session)
    }

    /// Opens the registered session of a worker; false where it is unknown or open already.
    pub fn attach(&mut self, worker: WorkerId, session: u32, now: Timestamp) -> bool {
        let own = self.workers.get_mut(&worker);
        match own.filter(|own| own.session == session && own.link == Link::Registered) {
            Some(own) => {
                own.link = Link::Attached;
                own.last_heard = now;
                true
            }
            None => false,
        }
    }

    /// Whether this is the open session of a worker.
    #[must_use]
    pub fn is_current(&self, worker: WorkerId, session: u32) -> bool {
        let own = self.workers.get(&worker);
        own.is_some_and(|own| own.session == session)
    }

    /// Notes that a worker was heard; false where that session is not open.
    pub fn heard(&mut self, worker: WorkerId, session: u32, now: Timestamp) -> bool {
        let own = self.workers.get_mut(&worker);
        match own.filter(|own| own.session == session && own.link == Link::Attached) {
            Some(own) => {
                own.last_heard = now;
                true
            }
            None => false,
        }
    }

    /// Keeps a sign of life; what it has to say of the worker's GPU that is new.
    pub fn beat(&mut self, worker: WorkerId, heartbeat: Heartbeat) -> GpuNews {
        let Some(record) = self.workers.get_mut(&worker) else {
            return GpuNews::default();
        };
        record.heartbeat = heartbeat;
        match &record.heartbeat.gpu {
            Some(health) => record.gpu.hear(health),
            None => GpuNews::default(),
        }
    }

    /// Gives a worker to a job, or takes it back.
    pub fn assign(&mut self, worker: WorkerId, job: Option<JobId>) {
        if let Some(record) = self.workers.get_mut(&worker) {
            self.freed |= job.is_none();
            record.kept.take_if(|kept| Some(&kept.job) != job.as_ref());
            record.job = job;
        }
    }

    /// Keeps a free worker for a job, whose state it holds.
    pub fn keep(&mut self, worker: WorkerId, job: JobId, now: Timestamp, within: Duration) {
        let free = self.workers.get_mut(&worker);
        if let Some(record) =
            free.filter(|record| record.job.is_none() && record.kept_out.is_none())
        {
            record.kept = Some(Kept {
                job,
                since: now,
                until: now.plus(within),
            });
        }
    }

    /// Workers that are kept for a job, and for which.
    pub fn kept(&self) -> impl Iterator<Item = (WorkerId, &JobId)> {
        let kept = self.workers.iter();
        kept.filter_map(|(worker, record)| Some((*worker, &record.kept.as_ref()?.job)))
    }

    /// Looks again at the workers that are kept.
    pub fn look_at_kept(&mut self, now: Timestamp, keep: impl Fn(WorkerId, &JobId) -> Keep) {
        for (worker, record) in &mut self.workers {
            record.kept.take_if(|kept| {
                let until = match keep(*worker, &kept.job) {
                    Keep::No => return true,
                    Keep::AsAgreed => kept.until,
                    Keep::WhilePrepared => kept.since.plus(LONGEST_KEPT),
                };
                now >= until
            });
        }
    }

    /// Whether a job gave workers back since this was last asked.
    pub fn take_freed(&mut self) -> bool {
        std::mem::take(&mut self.freed)
    }

    /// Takes all workers of a job back.
    pub fn free(&mut self, job: &JobId) {
        for record in self.workers.values_mut() {
            record.job.take_if(|of| of == job);
        }
    }

    /// Forgets a worker.
    pub fn remove(&mut self, worker: WorkerId) -> Option<WorkerRecord> {
        self.workers.remove(&worker)
    }

    /// Forgets the workers of a job; whom, in the order they started.
    pub fn clear_of(&mut self, job: &JobId) -> Vec<WorkerId> {
        let own = |(worker, record): (&WorkerId, &WorkerRecord)| {
            (record.job.as_ref() == Some(job)).then_some(*worker)
        };
        let workers: Vec<WorkerId> = self.workers.iter().filter_map(own).collect();
        self.workers.retain(|worker, _| !workers.contains(worker));
        workers
    }

    /// Forgets everybody; whom, in the order they started.
    pub fn clear(&mut self) -> Vec<WorkerId> {
        std::mem::take(&mut self.workers).into_keys().collect()
    }

    /// Counts the loss of a worker against its host.
    pub fn struck(&mut self, record: &WorkerRecord, now: Timestamp) {
        let lived = now.since(record.since);
        self.flapping.lost(&record.facts.host, lived, now);
    }

    /// Keeps this worker process out of jobs for good.
    pub fn expel(&mut self, worker: WorkerId, why: impl Into<String>) {
        if let Some(record) = self.workers.get_mut(&worker) {
            record.kept_out = Some(why.into());
            record.job = None;
            record.kept = None;
        }
    }

    /// One worker.
    #[must_use]
    pub fn get(&self, worker: WorkerId) -> Option<&WorkerRecord> {
        self.workers.get(&worker)
    }

    /// Workers that can be talked to, in the order they started.
    pub fn attached(&self) -> impl Iterator<Item = (WorkerId, &WorkerRecord)> {
        self.workers
            .iter()
            .filter(|(_, record)| record.link == Link::Attached)
            .map(|(worker, record)| (*worker, record))
    }

    /// Workers of a job that can be talked to.
    #[must_use]
    pub fn of(&self, job: &JobId) -> Vec<WorkerId> {
        let own = self
            .attached()
            .filter(|(_, of)| of.job.as_ref() == Some(job));
        own.map(|(worker, _)| worker).collect()
    }

    /// Workers that could be given to a job with these needs, or are its own, in the order they started.
    pub fn suited<'a>(
        &'a self,
        needs: &'a Needs,
        now: Timestamp,
    ) -> impl Iterator<Item = (WorkerId, &'a WorkerRecord)> {
        self.attached().filter(move |(_, record)| {
            let barred = record.job.is_none() && self.flapping.is_barred(&record.facts.host, now);
            record.kept_out.is_none() && !barred && needs.suits(&record.facts)
        })
    }

    /// Workers that would suit a job with these needs, but are given no job any more.
    #[must_use]
    pub fn kept_out(&self, needs: &Needs) -> usize {
        let out = self.attached();
        let out = out.filter(|(_, record)| record.kept_out.is_some() && needs.suits(&record.facts));
        out.count()
    }

    /// Workers that a job with these needs could be given now: those that are kept for it first.
    #[must_use]
    pub fn available(&self, job: &JobId, needs: &Needs, now: Timestamp) -> Vec<WorkerId> {
        if self.workers.values().all(|record| record.job.is_some()) {
            return Vec::new();
        }
        let free = |record: &WorkerRecord| record.job.is_none() && record.gpu.sickness().is_none();
        let suited = self.suited(needs, now).filter(|(_, record)| free(record));
        let (mut own, mut others) = (Vec::new(), Vec::new());
        for (worker, record) in suited {
            match &record.kept {
                None => others.push(worker),
                Some(kept) if &kept.job == job => own.push(worker),
                Some(_) => {}
            }
        }
        own.append(&mut others);
        own
    }

    /// Whether nobody is left.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.workers.is_empty()
    }

    /// The workers that were silent for too long. A pause of the coordinator itself is no worker's silence: after
    /// one, everybody's clock starts anew.
    pub fn silent(&mut self, limits: &Limits, now: Timestamp) -> Vec<(WorkerId, LossCause)> {
        let gap = self.last_tick.map_or(Duration::ZERO, |at| now.since(at));
        self.last_tick = Some(now);
        if gap > limits.own_pause {
            for record in self.workers.values_mut() {
                record.last_heard = now;
            }
            return Vec::new();
        }
        let mut silent = Vec::new();
        for (worker, record) in &self.workers {
            let patience = match record.link {
                Link::Registered => limits.attach_within,
                Link::Attached => limits.dead_after,
            };
            let silence = now.since(record.last_heard);
            if silence >= patience {
                silent.push((*worker, LossCause::Silent(silence)));
            }
        }
        silent
    }
}
