//! What to send, from what lies here and there. No file is touched here.

use std::collections::{BTreeMap, BTreeSet};

use crate::ledger::folder::is_fence;
use crate::store::Object;

/// Stretches of one segment that are joined into one object, so that a long run leaves no thousands of them.
const JOINED: usize = 64;

/// A segment on the disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct LocalSegment {
    pub(super) name: String,
    /// Bytes up to the end of the last complete line.
    pub(super) len: u64,
    /// Whether another one follows, so that nothing is appended any more.
    pub(super) closed: bool,
}

/// Bytes `start..end` of a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Stretch {
    pub(super) start: u64,
    pub(super) end: u64,
}

/// What the store has of one segment.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Shipped {
    /// Length of the whole segment, where it is there as one object.
    pub(super) whole: Option<u64>,
    pub(super) stretches: Vec<Stretch>,
}

/// What lies on the disk.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Local {
    /// In the order in which they were begun.
    pub(super) segments: Vec<LocalSegment>,
    /// Names of the fences, which are empty files.
    pub(super) fences: Vec<String>,
}

/// What the store has.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Inventory {
    pub(super) segments: BTreeMap<String, Shipped>,
    pub(super) fences: BTreeSet<String>,
}

/// Something to do in the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Task {
    /// Create a fence.
    Fence(String),
    /// Create the whole segment as one object.
    Whole { segment: String, len: u64 },
    /// Create a stretch of it.
    Stretch { segment: String, stretch: Stretch },
    /// Remove a stretch that a longer object covers.
    Remove { segment: String, stretch: Stretch },
}

/// Reads a listing. Objects that are none of the ledger's are left out.
pub(super) fn inventory(objects: &[Object]) -> Inventory {
    let mut inventory = Inventory::default();
    for object in objects {
        if object.name.ends_with(".jsonl") {
            inventory.segment(&object.name).whole = Some(object.size);
        } else if is_fence(&object.name) {
            inventory.fences.insert(object.name.clone());
        } else if let Some((segment, stretch)) = stretch_of(&object.name) {
            inventory.segment(&segment).stretches.push(stretch);
        }
    }
    inventory
}

/// The name of a stretch's object.
pub(super) fn stretch_name(segment: &str, stretch: Stretch) -> String {
    format!("{segment}.{:012}-{:012}", stretch.start, stretch.end)
}

fn stretch_of(name: &str) -> Option<(String, Stretch)> {
    let (segment, range) = name.rsplit_once('.')?;
    let (start, end) = range.split_once('-')?;
    let (start, end) = (start.parse().ok()?, end.parse().ok()?);
    (segment.ends_with(".jsonl") && start < end)
        .then(|| (segment.to_owned(), Stretch { start, end }))
}

/// The fewest stretches that cover a segment from its start without gap, in order.
pub(super) fn cover(stretches: &[Stretch]) -> Vec<Stretch> {
    let mut cover: Vec<Stretch> = Vec::new();
    loop {
        let reached = cover.last().map_or(0, |last| last.end);
        let next = stretches
            .iter()
            .filter(|stretch| stretch.start <= reached && stretch.end > reached)
            .max_by_key(|stretch| stretch.end);
        match next {
            Some(next) => cover.push(*next),
            None => return cover,
        }
    }
}

/// What brings the store to the state of the disk, in this order.
pub(super) fn plan(local: &Local, inventory: &Inventory) -> Vec<Task> {
    let new = local
        .fences
        .iter()
        .filter(|name| !inventory.fences.contains(*name));
    let mut tasks: Vec<Task> = new.cloned().map(Task::Fence).collect();
    for segment in &local.segments {
        let none = Shipped::default();
        let shipped = inventory.segments.get(&segment.name).unwrap_or(&none);
        if segment.closed {
            plan_closed(segment, shipped, &mut tasks);
        } else {
            plan_growing(segment, shipped, &mut tasks);
        }
    }
    tasks
}

fn plan_closed(segment: &LocalSegment, shipped: &Shipped, tasks: &mut Vec<Task>) {
    if shipped.whole.is_none() {
        tasks.push(Task::Whole {
            segment: segment.name.clone(),
            len: segment.len,
        });
    }
    tasks.extend(
        shipped
            .stretches
            .iter()
            .map(|stretch| remove(segment, *stretch)),
    );
}

fn plan_growing(segment: &LocalSegment, shipped: &Shipped, tasks: &mut Vec<Task>) {
    let reached = cover(&shipped.stretches).last().map_or(0, |last| last.end);
    // One that is there whole was closed by a coordinator that took over; what this one appends counts no more.
    if segment.len <= reached || shipped.whole.is_some() {
        return;
    }
    let join = shipped.stretches.len() >= JOINED;
    let stretch = Stretch {
        start: if join { 0 } else { reached },
        end: segment.len,
    };
    tasks.push(Task::Stretch {
        segment: segment.name.clone(),
        stretch,
    });
    if join {
        tasks.extend(shipped.stretches.iter().map(|old| remove(segment, *old)));
    }
}

fn remove(segment: &LocalSegment, stretch: Stretch) -> Task {
    Task::Remove {
        segment: segment.name.clone(),
        stretch,
    }
}

impl Inventory {
    fn segment(&mut self, name: &str) -> &mut Shipped {
        self.segments.entry(name.to_owned()).or_default()
    }

    /// Takes note of a task that is done.
    pub(super) fn apply(&mut self, task: &Task) {
        match task {
            Task::Fence(name) => {
                self.fences.insert(name.clone());
            }
            Task::Whole { segment, len } => self.segment(segment).whole = Some(*len),
            Task::Stretch { segment, stretch } => self.segment(segment).stretches.push(*stretch),
            Task::Remove { segment, stretch } => {
                let stretches = &mut self.segment(segment).stretches;
                stretches.retain(|known| known != stretch);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NAME: &str = "0000000001-000000.jsonl";

    fn segment(len: u64, closed: bool) -> Local {
        let segment = LocalSegment {
            name: NAME.to_owned(),
            len,
            closed,
        };
        Local {
            segments: vec![segment],
            fences: vec![],
        }
    }

    fn stretch(start: u64, end: u64) -> Stretch {
        Stretch { start, end }
    }

    fn shipped(stretches: &[Stretch]) -> Inventory {
        let shipped = Shipped {
            whole: None,
            stretches: stretches.to_vec(),
        };
        Inventory {
            segments: BTreeMap::from([(NAME.to_owned(), shipped)]),
            ..Inventory::default()
        }
    }

    fn send(start: u64, end: u64) -> Task {
        Task::Stretch {
            segment: NAME.to_owned(),
            stretch: stretch(start, end),
        }
    }

    #[test]
    fn only_what_is_new_is_sent() {
        assert_eq!(
            plan(&segment(100, false), &Inventory::default()),
            [send(0, 100)]
        );
        let some = shipped(&[stretch(0, 60), stretch(60, 100)]);
        assert_eq!(plan(&segment(100, false), &some), []);
        assert_eq!(plan(&segment(130, false), &some), [send(100, 130)]);
        assert_eq!(plan(&segment(0, false), &Inventory::default()), []);
    }

    #[test]
    fn what_follows_a_gap_is_sent_again() {
        let gap = shipped(&[stretch(0, 60), stretch(80, 100)]);
        assert_eq!(plan(&segment(100, false), &gap), [send(60, 100)]);
    }

    #[test]
    fn a_closed_segment_becomes_one_object_before_its_stretches_go() {
        let tasks = plan(&segment(100, true), &shipped(&[stretch(0, 60)]));
        let whole = Task::Whole {
            segment: NAME.to_owned(),
            len: 100,
        };
        let gone = Task::Remove {
            segment: NAME.to_owned(),
            stretch: stretch(0, 60),
        };
        assert_eq!(tasks, [whole, gone]);
    }

    #[test]
    fn names_of_objects_are_read_back_and_strangers_left_out() {
        let object = |name: &str| Object {
            name: name.to_owned(),
            size: 7,
        };
        let listing = [
            object(NAME),
            object(&stretch_name(NAME, stretch(5, 9))),
            object("notes.txt"),
            object("0000000001.fence"),
            object("0000000001-000000.jsonl.9-5"),
        ];
        let found = inventory(&listing);
        let expected = Shipped {
            whole: Some(7),
            stretches: vec![stretch(5, 9)],
        };
        assert_eq!(
            found.segments,
            BTreeMap::from([(NAME.to_owned(), expected)])
        );
        assert_eq!(
            found.fences,
            BTreeSet::from(["0000000001.fence".to_owned()])
        );
    }

    #[test]
    fn a_fence_is_sent_once_and_before_all_else() {
        let mut local = segment(100, false);
        local.fences = vec!["0000000001.fence".to_owned()];
        let mut inventory = Inventory::default();
        let tasks = plan(&local, &inventory);
        assert_eq!(tasks, [Task::Fence(local.fences[0].clone()), send(0, 100)]);
        tasks.iter().for_each(|task| inventory.apply(task));
        assert_eq!(plan(&local, &inventory), []);
    }

    proptest! {
        #[test]
        fn after_every_task_the_store_covers_what_it_covered_before(
            growths in proptest::collection::vec(1u64..50, 1..200),
        ) {
            let mut inventory = Inventory::default();
            let reached = |inventory: &Inventory| {
                let known = inventory.segments.get(NAME).map(|shipped| shipped.stretches.clone()).unwrap_or_default();
                cover(&known).last().map_or(0, |last| last.end)
            };
            let mut len = 0;
            for growth in growths {
                len += growth;
                let mut before = reached(&inventory);
                for task in plan(&segment(len, false), &inventory) {
                    inventory.apply(&task);
                    prop_assert!(reached(&inventory) >= before);
                    before = reached(&inventory);
                }
                prop_assert_eq!(reached(&inventory), len);
                prop_assert!(inventory.segments[NAME].stretches.len() <= JOINED);
            }
        }
    }
}
