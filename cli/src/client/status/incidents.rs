//! What went wrong with a job, and when training went on.

use serde::Serialize;
use weft_proto::v1::{EventLevel, JobEvent, StepFigures};

use super::super::clock::between;
use super::super::event::EventDocument;

/// Incidents that are shown; the others are in `weft logs`.
const MOST: usize = 10;

/// The newest incidents, oldest first.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(transparent)]
pub(super) struct Incidents {
    pub(super) newest: Vec<Incident>,
    /// How many happened before.
    #[serde(skip)]
    pub(super) earlier: usize,
}

/// One incident.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Incident {
    #[serde(flatten)]
    document: EventDocument,
    #[serde(skip)]
    pub(super) event: JobEvent,
    /// Whether training stood still for it.
    #[serde(skip)]
    pub(super) interrupts: bool,
    /// The next step that was committed.
    pub(super) next_commit_step: Option<u64>,
    /// How long that took.
    pub(super) next_commit_after_seconds: Option<f64>,
}

/// Whether an event is one that people ask about afterwards.
pub(super) fn is_incident(event: &JobEvent) -> bool {
    let level = match event.level() {
        EventLevel::Warning | EventLevel::Error => true,
        EventLevel::Unspecified | EventLevel::Info => false,
    };
    // How the job ended is told elsewhere.
    (level || interrupts(event)) && event.kind != "ended"
}

fn interrupts(event: &JobEvent) -> bool {
    ["member_lost", "rolled_back"].contains(&event.kind.as_str())
}

impl Incidents {
    /// From a job's events, and the newest of its steps.
    pub(super) fn of(events: &[JobEvent], steps: &[StepFigures]) -> Self {
        let all = events.iter().filter(|event| is_incident(event));
        let all: Vec<&JobEvent> = all.collect();
        let earlier = all.len().saturating_sub(MOST);
        let newest = all.into_iter().skip(earlier);
        Self {
            newest: newest.map(|event| Incident::of(event, steps)).collect(),
            earlier,
        }
    }
}

impl Incident {
    fn of(event: &JobEvent, steps: &[StepFigures]) -> Self {
        let next = if interrupts(event) {
            next_commit(event, steps)
        } else {
            None
        };
        Self {
            document: event.into(),
            event: event.clone(),
            interrupts: interrupts(event),
            next_commit_step: next.map(|step| step.step),
            next_commit_after_seconds: next
                .map(|step| between(event.unix_ms, step.unix_ms).as_secs_f64()),
        }
    }
}

/// The first step committed after an event, where the steps go back so far.
fn next_commit<'a>(event: &JobEvent, steps: &'a [StepFigures]) -> Option<&'a StepFigures> {
    let first = steps.first()?;
    if first.step > 1 && first.unix_ms > event.unix_ms {
        return None;
    }
    steps.iter().find(|step| step.unix_ms >= event.unix_ms)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(unix_ms: i64, kind: &str, level: EventLevel) -> JobEvent {
        JobEvent {
            unix_ms,
            kind: kind.to_owned(),
            level: level.into(),
            ..JobEvent::default()
        }
    }

    fn step(step: u64, unix_ms: i64) -> StepFigures {
        StepFigures {
            step,
            unix_ms,
            ..StepFigures::default()
        }
    }

    #[test]
    fn an_incident_ends_with_the_next_commit() {
        let events = [
            event(0, "submitted", EventLevel::Info),
            event(1_500, "member_lost", EventLevel::Warning),
            event(9_000, "ended", EventLevel::Error),
        ];
        let incidents = Incidents::of(&events, &[step(1, 1_000), step(2, 2_250), step(3, 3_000)]);

        let [lost] = incidents.newest.as_slice() else {
            panic!("{incidents:?}");
        };
        assert_eq!(lost.next_commit_step, Some(2));
        assert_eq!(lost.next_commit_after_seconds, Some(0.75));
    }

    #[test]
    fn what_happened_before_the_first_known_step_is_not_guessed_at() {
        let lost = event(1_000, "member_lost", EventLevel::Warning);
        let known = Incidents::of(std::slice::from_ref(&lost), &[step(50, 60_000)]);
        assert_eq!(known.newest[0].next_commit_step, None);
        let known = Incidents::of(&[lost], &[step(1, 60_000)]);
        assert_eq!(known.newest[0].next_commit_step, Some(1));
    }

    #[test]
    fn of_many_incidents_the_newest_are_shown() {
        let events: Vec<JobEvent> = (0..25)
            .map(|second| event(second, "member_lost", EventLevel::Warning))
            .collect();
        let incidents = Incidents::of(&events, &[]);
        assert_eq!((incidents.newest.len(), incidents.earlier), (10, 15));
        assert_eq!(incidents.newest[9].event.unix_ms, 24);
    }
}
