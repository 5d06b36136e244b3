//! Engines are made, brought to a state, and described.

use std::path::Path;

use weft_common::failpoint;
use weft_common::id::Step;
use weft_common::recipe::{Format, Recipe};
use weft_common::wire::{Event, Holding, Membership, Prepare, Restore};

use super::loaded::Loaded;
use super::{Done, Training};
use crate::agent::order::{Answer, Loading, StateCopy};
use crate::agent::{EngineError, ErrorKind, JobSetup};

impl Training {
    pub(super) fn load(&mut self, loading: &Loading) -> Done {
        let prepare = &loading.prepare;
        self.listener()?;
        let setup = setup(prepare, &loading.dataset_dir)?;
        let mut engine = (self.factory)(&setup)?;
        let next_step = match &prepare.resume {
            Some(checkpoint) => engine.restore(&checkpoint.dir)?,
            None => Step(0),
        };
        let membership = prepare.membership.clone();
        self.job = Some(Loaded::new(setup, engine, membership.clone(), next_step));
        self.describe(membership)
    }

    /// Says what is held, as an answer to a command of this membership.
    pub(super) fn describe(&mut self, membership: Membership) -> Done {
        let holding = self.holding(membership)?;
        Ok(Some(Answer::Done(Event::Prepared(holding))))
    }

    /// Forgets what only this session knows of, and says what is left.
    pub(super) fn settle(&mut self, membership: Membership) -> Answer {
        failpoint::hit("settling");
        if let Some(loaded) = &mut self.job {
            loaded.leave_epoch();
            loaded.discard_staged();
        }
        Answer::Settled(self.holding(membership).ok())
    }

    /// Where there is nothing to go back to, the engine is made anew: the initial state is nowhere else.
    pub(super) fn restore(&mut self, restore: Restore) -> Done {
        let loaded = self.loaded()?;
        loaded.leave_epoch();
        loaded.drop_accumulator();
        match &restore.checkpoint {
            Some(checkpoint) => loaded.restore(&checkpoint.dir)?,
            None if loaded.is_new() => {}
            None => {
                let setup = loaded.setup().clone();
                // The old engine goes first, so that both never exist together.
                self.job = None;
                let engine = (self.factory)(&setup)?;
                let membership = restore.membership.clone();
                self.job = Some(Loaded::new(setup, engine, membership, Step(0)));
            }
        }
        self.describe(restore.membership)
    }

    /// Takes over a peer's state.
    pub(super) fn adopt(&mut self, membership: Membership, copy: &StateCopy) -> Done {
        let loaded = self.loaded()?;
        let adopted = loaded.adopt(copy);
        adopted.map_err(|error| EngineError {
            kind: ErrorKind::Checkpoint,
            message: format!("the state copied from a peer: {}", error.message),
        })?;
        loaded.leave_epoch();
        self.describe(membership)
    }

    /// What is held, under the newest membership heard of, this one included.
    fn holding(&mut self, membership: Membership) -> Result<Holding, EngineError> {
        let peer_port = self.place.peer_port;
        let ring_port = self.listener()?.address().port();
        let loaded = self.loaded()?;
        loaded.hear(&membership);
        Ok(loaded.holding(ring_port, peer_port))
    }
}

fn setup(prepare: &Prepare, dataset_dir: &Path) -> Result<JobSetup, EngineError> {
    let recipe = Recipe::parse(&prepare.recipe_json, Format::Json)
        .map_err(|errors| EngineError::new(ErrorKind::Recipe, errors))?;
    Ok(JobSetup {
        job: prepare.membership.job.clone(),
        recipe,
        dataset_dir: dataset_dir.to_owned(),
        total_steps: prepare.total_steps,
        joins: prepare.joins,
    })
}
