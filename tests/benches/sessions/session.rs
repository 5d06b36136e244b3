//! A session that does what a worker does, at once and without computing anything.

use std::collections::BTreeMap;
use std::time::Duration;

use futures::StreamExt;
use tokio::sync::mpsc;
use tokio::time::{Instant, interval_at};
use tokio_stream::wrappers::ReceiverStream;
use weft_common::id::{Digest, Step, WorkerId};
use weft_common::wire::{
    AppliedReport, Attach, CheckpointWritten, Command, EngineInfo, Event, Heartbeat, Hello,
    Holding, Lease, MemoryReport, PROTOCOL_VERSION, Prepare, ReducedReport, Round, SlotDone,
    SlotOutcome, SumHealth, TakeCheckpoint, WEFT_VERSION, WorkerFacts, registered,
};
use weft_proto::v1;
use weft_proto::v1::workers_client::WorkersClient;

/// Events under way: a heartbeat, and what a lease of two comes to.
const OUTBOX: usize = 16;

/// The digest of a gradient of zeros, and of any sum of them.
const NOTHING: Digest = Digest([0; 32]);

/// Runs all sessions until they are dismissed.
pub(crate) async fn run_all(url: &str, number: u32) {
    let sessions = (0..number).map(|_| tokio::spawn(run(url.to_owned())));
    let sessions: Vec<_> = sessions.collect();
    for session in sessions {
        session.await.unwrap();
    }
}

async fn run(url: String) {
    let mut client = WorkersClient::connect(url).await.unwrap();
    let worker = WorkerId::generate();
    let reply = client
        .register(v1::Hello::from(hello(worker)))
        .await
        .unwrap();
    let welcome = registered(reply.into_inner()).unwrap().unwrap();
    let attach = v1::WorkerEvent {
        event: Some(v1::worker_event::Event::Attach(v1::Attach::from(Attach {
            worker,
            term: welcome.term,
            session: 0,
            holding: None,
        }))),
    };
    let (outbox, events) = mpsc::channel::<Event>(OUTBOX);
    let first = futures::stream::once(std::future::ready(attach));
    let events = first.chain(ReceiverStream::new(events).map(Into::into));
    let mut commands = client.attach(events).await.unwrap().into_inner();
    let every = welcome.heartbeat_every;
    let mut heartbeats = interval_at(Instant::now() + every, every);
    loop {
        let events = tokio::select! {
            _ = heartbeats.tick() => vec![Event::Heartbeat(Heartbeat::default())],
            command = commands.message() => match command {
                Ok(Some(command)) => answers(Command::try_from(command).unwrap()),
                Ok(None) | Err(_) => return,
            },
        };
        for event in events {
            if outbox.send(event).await.is_err() {
                return;
            }
        }
    }
}

fn hello(worker: WorkerId) -> Hello {
    Hello {
        worker,
        weft_version: WEFT_VERSION.to_owned(),
        protocol_version: PROTOCOL_VERSION,
        session: 0,
        facts: WorkerFacts {
            host: worker.to_string(),
            device: "none".to_owned(),
            memory_bytes: 0,
            labels: BTreeMap::new(),
        },
    }
}

fn answers(command: Command) -> Vec<Event> {
    match command {
        Command::Prepare(prepare) => vec![prepared(prepare)],
        Command::Lease(lease) => slots_done(&lease),
        Command::Seal(round) => vec![reduced(round)],
        Command::Commit(commit) => vec![applied(commit.round)],
        Command::TakeCheckpoint(take) => vec![written(take)],
        _ => Vec::new(),
    }
}

fn prepared(prepare: Prepare) -> Event {
    Event::Prepared(Holding {
        membership: prepare.membership,
        next_step: Step(0),
        engine: EngineInfo {
            device: "none".to_owned(),
            adapter_params: 1,
            base_params: 1,
            model_digest: Digest::of(b"model"),
            state_digest: Digest::of(b"start"),
            scales_loss: false,
            memory: MemoryReport::default(),
        },
        ring_port: 1,
        peer_port: 2,
        slots: Vec::new(),
        sum: None,
    })
}

fn slots_done(lease: &Lease) -> Vec<Event> {
    let done = |slot: &weft_common::wire::LeasedSlot| {
        Event::SlotDone(SlotDone {
            round: lease.round.clone(),
            slot: slot.plan.slot,
            lease: slot.lease,
            outcome: SlotOutcome {
                loss_sum: 1.0,
                supervised: slot.plan.supervised_tokens,
                tokens: slot.plan.tokens,
                digest: NOTHING,
            },
            elapsed: Duration::ZERO,
        })
    };
    lease.slots.iter().map(done).collect()
}

fn reduced(round: Round) -> Event {
    Event::Reduced(ReducedReport {
        digest: NOTHING,
        part: NOTHING,
        round,
        health: SumHealth::Finite,
        elapsed: Duration::ZERO,
    })
}

fn applied(round: Round) -> Event {
    Event::Applied(AppliedReport {
        state_digest: Digest::of(&round.step.0.to_be_bytes()),
        round,
        grad_norm: 1.0,
        learning_rate: 1e-4,
        elapsed: Duration::ZERO,
    })
}

fn written(take: TakeCheckpoint) -> Event {
    Event::CheckpointWritten(CheckpointWritten {
        membership: take.membership,
        checkpoint: take.checkpoint,
        bytes: 1,
        elapsed: Duration::ZERO,
    })
}
