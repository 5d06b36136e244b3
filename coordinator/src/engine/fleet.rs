//! The worker processes that the coordinator knows, whether they are members of a job or not.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use weft_common::id::{Rank, Term, WorkerId};
use weft_common::time::Timestamp;
use weft_common::wire::{
    Heartbeat, Hello, PROTOCOL_VERSION, Refusal, WEFT_VERSION, Welcome, WorkerFacts,
};

use super::outcome::{LossCause, WorkerName};
use super::terms::Limits;

/// All known workers.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Fleet {
    workers: BTreeMap<WorkerId, WorkerRecord>,
    last_tick: Option<Timestamp>,
}

/// One worker process.
#[derive(Debug, Clone, PartialEq)]
pub struct WorkerRecord {
    /// What it said of itself.
    pub facts: WorkerFacts,
    /// Where it was seen to come from.
    pub ip: IpAddr,
    /// Whether its session is open.
    pub session: Session,
    /// When it was last heard.
    pub last_heard: Timestamp,
    /// Its last sign of life.
    pub heartbeat: Heartbeat,
}

/// Whether a worker can be talked to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Session {
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
            session: Session::Registered,
            last_heard: now,
            heartbeat: Heartbeat::default(),
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
        if self.workers.contains_key(&hello.worker) {
            return Err(Refusal::Duplicate {
                worker: hello.worker,
            });
        }
        if self.workers.len() >= limits.max_workers {
            return Err(Refusal::Full {
                limit: limits.max_workers,
            });
        }
        Ok(())
    }

    /// Opens the session of a registered worker; false where it is unknown or open already.
    pub fn attach(&mut self, worker: WorkerId, now: Timestamp) -> bool {
        match self.workers.get_mut(&worker) {
            Some(record) if record.session == Session::Registered => {
                record.session = Session::Attached;
                record.last_heard = now;
                true
            }
            Some(_) | None => false,
        }
    }

    /// Notes that a worker was heard; false where it has no session.
    pub fn heard(&mut self, worker: WorkerId, now: Timestamp) -> bool {
        match self.workers.get_mut(&worker) {
            Some(record) if record.session == Session::Attached => {
                record.last_heard = now;
                true
            }
            Some(_) | None => false,
        }
    }

    /// Keeps a sign of life.
    pub fn beat(&mut self, worker: WorkerId, heartbeat: Heartbeat) {
        if let Some(record) = self.workers.get_mut(&worker) {
            record.heartbeat = heartbeat;
        }
    }

    /// Forgets a worker.
    pub fn remove(&mut self, worker: WorkerId) -> Option<WorkerRecord> {
        self.workers.remove(&worker)
    }

    /// One worker.
    #[must_use]
    pub fn get(&self, worker: WorkerId) -> Option<&WorkerRecord> {
        self.workers.get(&worker)
    }

    /// Workers that can be talked to, in the order they started.
    pub fn attached(&self) -> impl Iterator<Item = (WorkerId, &WorkerRecord)> {
        let open = |record: &WorkerRecord| record.session == Session::Attached;
        self.workers
            .iter()
            .filter(move |(_, record)| open(record))
            .map(|(worker, record)| (*worker, record))
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
            let patience = match record.session {
                Session::Registered => limits.attach_within,
                Session::Attached => limits.dead_after,
            };
            let silence = now.since(record.last_heard);
            if silence >= patience {
                silent.push((*worker, LossCause::Silent(silence)));
            }
        }
        silent
    }
}
