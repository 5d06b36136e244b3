//! The model's thread and the queue before it.

use std::collections::VecDeque;
use std::io;
use std::ops::ControlFlow;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use tokio::runtime::Handle;
use tokio::sync::mpsc;
use weft_common::failpoint;
use weft_worker::generate::{Completion, End, GenerateError, GenerateOptions, TextModel};

use super::error::ApiError;

/// Pieces of text that may lie between model and client; what comes after them is told together.
const PIECES: usize = 64;

/// What the model has to say of a request.
#[derive(Debug)]
pub(super) enum Event {
    /// More text, never empty.
    Text(String),
    /// It is done.
    Done(Completion),
    /// It failed.
    Failed(ApiError),
}

/// What the model is to do.
pub(super) struct Work {
    pub(super) prompt: Vec<u32>,
    pub(super) options: GenerateOptions,
    pub(super) stops: Vec<String>,
    /// How long from now on.
    pub(super) time: Duration,
}

/// Work that waits or is under way.
struct Job {
    work: Work,
    until: Instant,
    events: mpsc::Sender<Event>,
    runtime: Handle,
}

/// The queue. Clones are the same one.
#[derive(Clone)]
pub(super) struct Desk(Arc<Shared>);

struct Shared {
    state: Mutex<State>,
    changed: Condvar,
    room: usize,
}

#[derive(Default)]
struct State {
    waiting: VecDeque<Job>,
    closed: bool,
}

impl Desk {
    /// A queue of at most `room` requests, and the model's thread behind it.
    pub(super) fn open(model: Arc<TextModel>, room: usize) -> io::Result<Self> {
        let desk = Self(Arc::new(Shared {
            state: Mutex::default(),
            changed: Condvar::new(),
            room,
        }));
        let behind = desk.clone();
        thread::Builder::new()
            .name("model".to_owned())
            .spawn(move || {
                while let Some(job) = behind.next() {
                    job.run(&model, &behind);
                }
            })?;
        Ok(desk)
    }

    /// Queues work. To be called within a runtime; dropping the receiver calls the work off.
    ///
    /// # Errors
    /// The queue is full, or closed.
    pub(super) fn submit(&self, work: Work) -> Result<mpsc::Receiver<Event>, ApiError> {
        let mut state = self.lock();
        if state.closed {
            return Err(ApiError::stopping());
        }
        if state.waiting.len() >= self.0.room {
            state.waiting.retain(|job| !job.events.is_closed());
        }
        if state.waiting.len() >= self.0.room {
            return Err(ApiError::queue_full(state.waiting.len()));
        }
        let (events, told) = mpsc::channel(PIECES);
        state.waiting.push_back(Job {
            until: Instant::now() + work.time,
            work,
            events,
            runtime: Handle::current(),
        });
        self.0.changed.notify_one();
        Ok(told)
    }

    /// Ends what is under way with its next token, and takes nothing more.
    pub(super) fn close(&self) {
        let mut state = self.lock();
        state.closed = true;
        state.waiting.clear();
        self.0.changed.notify_one();
    }

    fn is_closed(&self) -> bool {
        self.lock().closed
    }

    /// Waits for work; `None` once the queue is closed, which ends the wait.
    fn next(&self) -> Option<Job> {
        let mut state = self.lock();
        loop {
            if state.closed {
                return None;
            }
            if let Some(job) = state.waiting.pop_front() {
                return Some(job);
            }
            let waited = self.0.changed.wait(state);
            state = waited.unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Jobs are whole before they are queued.
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Job {
    fn run(self, model: &TextModel, desk: &Desk) {
        if self.events.is_closed() {
            return;
        }
        let last = match self.generate(model, desk) {
            Ok(Some(completion)) => Event::Done(completion),
            Ok(None) if desk.is_closed() => Event::Failed(ApiError::stopping()),
            Ok(None) => Event::Failed(ApiError::deadline(self.work.time.as_secs())),
            Err(error) => Event::Failed(ApiError::internal(error.to_string())),
        };
        self.tell_last(last);
    }

    /// `None` where it was broken off. Never waits for the client: what it does not take yet is told with what comes next.
    fn generate(
        &self,
        model: &TextModel,
        desk: &Desk,
    ) -> Result<Option<Completion>, GenerateError> {
        if self.is_over(desk) {
            return Ok(None);
        }
        let Work {
            prompt,
            options,
            stops,
            ..
        } = &self.work;
        let mut untold = String::new();
        let completion = model.generate(prompt, (options, stops), &mut |text| {
            failpoint::hit("token");
            untold.push_str(text);
            if !untold.is_empty() {
                match self
                    .events
                    .try_send(Event::Text(std::mem::take(&mut untold)))
                {
                    Ok(()) | Err(mpsc::error::TrySendError::Closed(_)) => {}
                    Err(mpsc::error::TrySendError::Full(event)) => {
                        if let Event::Text(text) = event {
                            untold = text;
                        }
                    }
                }
            }
            match self.is_over(desk) {
                true => ControlFlow::Break(()),
                false => ControlFlow::Continue(()),
            }
        })?;
        if !untold.is_empty() {
            self.tell_last(Event::Text(untold));
        }
        Ok((completion.end != End::Caller).then_some(completion))
    }

    fn is_over(&self, desk: &Desk) -> bool {
        self.events.is_closed() || Instant::now() >= self.until || desk.is_closed()
    }

    /// Waits for the client, to the end of the request's time and a second more.
    fn tell_last(&self, event: Event) {
        let left = self.until.saturating_duration_since(Instant::now()) + Duration::from_secs(1);
        let told = async { tokio::time::timeout(left, self.events.send(event)).await };
        let _ = self.runtime.block_on(told);
    }
}
