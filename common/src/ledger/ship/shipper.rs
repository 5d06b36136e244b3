//! Sends the ledger as it grows.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::fence::{FenceSeen, FenceWatch};
use super::fetch::{FetchError, stored};
use super::plan::{Inventory, Local, LocalSegment, Task, inventory, plan, stretch_name};
use crate::id::{JobId, Term};
use crate::ledger::folder::{fences, segments};
use crate::storage::StorageError;
use crate::store::{Created, FenceError, Store, StoreError, still_newest};

/// How often the disk is looked at: so much later, and the time of one write, a record is in the store.
const EVERY: Duration = Duration::from_millis(500);

/// A ledger that does not grow is looked after this often: another coordinator may have taken the job over.
const FENCE_EVERY: Duration = Duration::from_secs(2);

/// Why the ledger could not be sent.
#[derive(Debug, thiserror::Error)]
pub enum ShipError {
    /// The store does not take it.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Another coordinator has taken the job over, or nobody knows.
    #[error(transparent)]
    Fence(#[from] FenceError),
    /// The disk does not give it.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// What the store has of it is not whole.
    #[error(transparent)]
    Stored(#[from] FetchError),
    /// The store has other content under a name that is written once.
    #[error("{at} holds another ledger; another coordinator runs this job")]
    Contended {
        /// Its address.
        at: String,
    },
}

/// What is sent, and where to.
#[derive(Debug, Clone)]
pub struct Shipment {
    /// To where.
    pub store: Store,
    /// Whose ledger.
    pub job: JobId,
    /// The term that was claimed for it.
    pub term: Term,
    /// Where it grows.
    pub folder: PathBuf,
}

/// Sends one job's ledger on a thread of its own. Dropping it ends the thread after the pass in hand.
#[derive(Debug)]
pub struct LedgerShipper {
    stop: SyncSender<()>,
    thread: JoinHandle<Result<(), ShipError>>,
    fence: Arc<FenceWatch>,
}

impl LedgerShipper {
    /// Starts to send what belongs to a term that was just claimed, at most a second behind where the store is quick. Once a newer term is found, nothing more is sent
    /// and `superseded` is told of it.
    ///
    /// # Errors
    /// If the system gives no thread.
    pub fn start(
        shipment: Shipment,
        superseded: impl FnOnce(Term) + Send + 'static,
    ) -> io::Result<Self> {
        let (stop, stopped) = sync_channel(1);
        let fence = Arc::new(FenceWatch::default());
        // Who claimed the term has just looked.
        fence.note(Instant::now(), &Ok(()));
        let sender = Sender::new(shipment, fence.clone());
        let thread = std::thread::Builder::new()
            .name("weft-ledger-ship".to_owned())
            .spawn(move || ship(sender, &stopped, superseded))?;
        Ok(Self {
            stop,
            thread,
            fence,
        })
    }

    /// What was seen of the fence, not long ago. Waits for a new look where the last one is older than five seconds, as
    /// after a pause of this process, but no longer than two: a store that does not answer must not stop the training.
    #[must_use]
    pub fn fence(&self) -> FenceSeen {
        self.fence.recent()
    }

    /// Sends what is left and ends. Takes no longer than the store's own limits.
    ///
    /// # Errors
    /// If what is left could not be sent.
    pub fn finish(self) -> Result<(), ShipError> {
        drop(self.stop);
        match self.thread.join() {
            Ok(ended) => ended,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    }
}

fn ship(
    mut sender: Sender,
    stopped: &Receiver<()>,
    superseded: impl FnOnce(Term),
) -> Result<(), ShipError> {
    let job = sender.shipment.job.clone();
    let mut failing = false;
    loop {
        let last = stopped.recv_timeout(EVERY) != Err(RecvTimeoutError::Timeout);
        let sent = sender.pass();
        match &sent {
            Err(ShipError::Fence(FenceError::Superseded { newest, .. })) => {
                superseded(*newest);
                return sent;
            }
            // Said when it changes, not every time.
            Err(error) if !failing => {
                tracing::warn!(%job, %error, "the ledger is not in the storage; it is sent again later");
            }
            Ok(()) if failing => tracing::info!(%job, "the ledger is in the storage again"),
            Ok(()) | Err(_) => {}
        }
        failing = sent.is_err();
        if last {
            return sent;
        }
    }
}

/// One who sends, pass by pass.
struct Sender {
    shipment: Shipment,
    /// What the store has, once it was asked.
    known: Option<Inventory>,
    fence: Arc<FenceWatch>,
}

impl Sender {
    fn new(shipment: Shipment, fence: Arc<FenceWatch>) -> Self {
        Self {
            shipment,
            known: None,
            fence,
        }
    }

    /// Sends what the store lacks.
    fn pass(&mut self) -> Result<(), ShipError> {
        let Shipment {
            store, job, folder, ..
        } = &self.shipment;
        let local = look(folder)?;
        let mut inventory = match self.known.take() {
            Some(inventory) => inventory,
            None => first_look(store, job, folder, &local)?,
        };
        let tasks = plan(&local, &inventory);
        if !tasks.is_empty() || self.fence.is_older_than(FENCE_EVERY) {
            let asked = Instant::now();
            let looked = still_newest(store, job, self.shipment.term);
            self.fence.note(asked, &looked);
            looked?;
        }
        for task in tasks {
            // Where a task fails, the store is asked anew what it has.
            perform(store, job, folder, &task)?;
            inventory.apply(&task);
        }
        self.known = Some(inventory);
        Ok(())
    }
}

/// What the store has. The growing segment must be this ledger's: stretches of two would make a ledger of neither.
fn first_look(
    store: &Store,
    job: &JobId,
    folder: &Path,
    local: &Local,
) -> Result<Inventory, ShipError> {
    let inventory = inventory(&store.list(&remote(job))?);
    let Some(growing) = local.segments.last() else {
        return Ok(inventory);
    };
    if let Some(shipped) = inventory.segments.get(&growing.name) {
        let name = format!("{}/{}", remote(job), growing.name);
        let theirs = stored(store, &name, shipped)?;
        let common = growing.len.min(theirs.len() as u64);
        let ours = read_range(&folder.join(&growing.name), 0, common)?;
        if !theirs.starts_with(&ours) {
            return Err(ShipError::Contended {
                at: store.address(&name),
            });
        }
    }
    Ok(inventory)
}

fn perform(store: &Store, job: &JobId, folder: &Path, task: &Task) -> Result<(), ShipError> {
    let remote = remote(job);
    let (name, bytes) = match task {
        Task::Fence(name) => (name.clone(), Vec::new()),
        Task::Whole { segment, len } => {
            (segment.clone(), read_range(&folder.join(segment), 0, *len)?)
        }
        Task::Stretch { segment, stretch } => {
            let bytes = read_range(&folder.join(segment), stretch.start, stretch.end)?;
            (stretch_name(segment, *stretch), bytes)
        }
        Task::Remove { segment, stretch } => {
            store.delete(&format!("{remote}/{}", stretch_name(segment, *stretch)))?;
            return Ok(());
        }
    };
    let name = format!("{remote}/{name}");
    match store.create(&name, &bytes)? {
        Created::Ours => Ok(()),
        Created::Theirs => Err(ShipError::Contended {
            at: store.address(&name),
        }),
    }
}

/// Where a job's ledger lies in a store.
pub(super) fn remote(job: &JobId) -> String {
    format!("{job}/ledger")
}

fn look(folder: &Path) -> Result<Local, StorageError> {
    let segments = segments(folder)?;
    let newest = segments.last().copied();
    let local = segments.into_iter().map(|segment| {
        Ok(LocalSegment {
            name: segment.to_string(),
            len: complete_lines(&segment.path(folder))?,
            closed: Some(segment) != newest,
        })
    });
    Ok(Local {
        segments: local.collect::<Result<_, StorageError>>()?,
        fences: fences(folder)?,
    })
}

/// Bytes up to the end of the last line. A line may just be in the writing, or have been cut short by a crash.
fn complete_lines(path: &Path) -> Result<u64, StorageError> {
    const PIECE: u64 = 64 << 10;
    let failed = |error| StorageError::new("read", path, error);
    let mut file = File::open(path).map_err(failed)?;
    let mut end = file.metadata().map_err(failed)?.len();
    loop {
        let start = end.saturating_sub(PIECE);
        file.seek(SeekFrom::Start(start)).map_err(failed)?;
        let mut piece = Vec::new();
        (&mut file)
            .take(end - start)
            .read_to_end(&mut piece)
            .map_err(failed)?;
        if let Some(at) = piece.iter().rposition(|byte| *byte == b'\n') {
            return Ok(start + at as u64 + 1);
        }
        if start == 0 {
            return Ok(0);
        }
        end = start;
    }
}

fn read_range(path: &Path, start: u64, end: u64) -> Result<Vec<u8>, StorageError> {
    let failed = |error| StorageError::new("read", path, error);
    let mut file = File::open(path).map_err(failed)?;
    file.seek(SeekFrom::Start(start)).map_err(failed)?;
    let mut bytes = Vec::new();
    file.take(end - start)
        .read_to_end(&mut bytes)
        .map_err(failed)?;
    if bytes.len() as u64 == end - start {
        return Ok(bytes);
    }
    Err(failed(io::ErrorKind::UnexpectedEof.into()))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::super::fetch_ledger;
    use super::*;
    use crate::id::{Step, Term};
    use crate::ledger::format::tests::record;
    use crate::ledger::{LedgerWriter, read};
    use crate::store::claim;
    use crate::store::testing::folder_store;

    fn job() -> JobId {
        "job-1".parse().unwrap()
    }

    fn shipment(store: &Store, folder: &Path, term: u64) -> Shipment {
        Shipment {
            store: store.clone(),
            job: job(),
            term: Term(term),
            folder: folder.to_owned(),
        }
    }

    /// A pass of a sender that knows nothing yet.
    fn ship_once(store: &Store, folder: &Path) -> Result<(), ShipError> {
        Sender::new(shipment(store, folder, 9), Arc::default()).pass()
    }

    fn writer(folder: &Path, term: u64, first_step: u64) -> LedgerWriter {
        LedgerWriter::open(folder, job(), Term(term), Step(first_step)).unwrap()
    }

    #[test]
    fn a_coordinator_that_lost_its_disk_goes_on_with_every_record() {
        let (folder, store) = folder_store();
        let lost = folder.path().join("lost");
        let mut ledger = writer(&lost, 1, 0);
        ledger.append(&record(1, 0)).unwrap();
        ship_once(&store, &lost).unwrap();
        ledger.append(&record(1, 1)).unwrap();
        ship_once(&store, &lost).unwrap();
        drop(ledger);
        let mut ledger = writer(&lost, 2, 2);
        ledger.append(&record(2, 2)).unwrap();
        ship_once(&store, &lost).unwrap();
        let before = read(&lost).unwrap();
        fs::remove_dir_all(&lost).unwrap();

        let found = folder.path().join("found");
        let fetched = fetch_ledger(&store, &job(), &found).unwrap();
        assert_eq!(fetched.records, before.records);
        assert_eq!(fetched.last_term(), Some(Term(2)));
        let mut ledger = writer(&found, 3, 3);
        ledger.append(&record(3, 3)).unwrap();
        ship_once(&store, &found).unwrap();
        let again = fetch_ledger(&store, &job(), &folder.path().join("again")).unwrap();
        assert_eq!(again.records.len(), 4);
    }

    #[test]
    fn a_line_that_is_just_written_is_sent_once_it_is_complete() {
        let (folder, store) = folder_store();
        let local = folder.path().join("ledger");
        let mut ledger = writer(&local, 1, 0);
        ledger.append(&record(1, 0)).unwrap();
        let path = segments(&local).unwrap()[0].path(&local);
        let complete = fs::read(&path).unwrap();
        fs::write(&path, [complete.as_slice(), b"{\"entry\""].concat()).unwrap();
        ship_once(&store, &local).unwrap();
        fs::write(&path, &complete).unwrap();
        ledger.append(&record(1, 1)).unwrap();
        ship_once(&store, &local).unwrap();
        let fetched = fetch_ledger(&store, &job(), &folder.path().join("found")).unwrap();
        assert_eq!((fetched.records.len(), fetched.torn), (2, vec![]));
    }

    #[test]
    fn finishing_sends_what_was_written_last() {
        let (folder, store) = folder_store();
        let local = folder.path().join("ledger");
        let mut ledger = writer(&local, 1, 0);
        let shipper = LedgerShipper::start(shipment(&store, &local, 1), |_| {}).unwrap();
        for step in 0..20 {
            ledger.append(&record(1, step)).unwrap();
        }
        shipper.finish().unwrap();
        let fetched = fetch_ledger(&store, &job(), &folder.path().join("found")).unwrap();
        assert_eq!(fetched.records.len(), 20);
    }

    #[test]
    fn a_missing_stretch_is_told_and_not_papered_over() {
        let (folder, store) = folder_store();
        let local = folder.path().join("ledger");
        let mut ledger = writer(&local, 1, 0);
        for step in 0..3 {
            ledger.append(&record(1, step)).unwrap();
            ship_once(&store, &local).unwrap();
        }
        let objects = store.list(&remote(&job())).unwrap();
        store
            .delete(&format!("{}/{}", remote(&job()), objects[1].name))
            .unwrap();
        let error = fetch_ledger(&store, &job(), &folder.path().join("found")).unwrap_err();
        assert!(error.to_string().contains("lacks bytes"), "{error}");
    }

    #[test]
    fn another_coordinators_ledger_is_not_written_over() {
        let (folder, store) = folder_store();
        let (ours, theirs) = (folder.path().join("ours"), folder.path().join("theirs"));
        writer(&theirs, 1, 0).append(&record(1, 0)).unwrap();
        ship_once(&store, &theirs).unwrap();
        let mut other = record(1, 0);
        other.learning_rate = 1.0;
        writer(&ours, 1, 0).append(&other).unwrap();
        let error = ship_once(&store, &ours).unwrap_err();
        assert!(matches!(error, ShipError::Contended { .. }), "{error}");
    }

    #[test]
    fn a_sender_whose_job_was_taken_over_sends_no_more_and_says_so() {
        let (folder, store) = folder_store();
        let local = folder.path().join("ledger");
        claim(&store, &job(), Term(1)).unwrap();
        let mut ledger = writer(&local, 1, 0);
        ledger.append(&record(1, 0)).unwrap();
        let (told, hears) = sync_channel(1);
        let taken_over = move |by| told.send(by).unwrap();
        let shipper = LedgerShipper::start(shipment(&store, &local, 1), taken_over).unwrap();
        claim(&store, &job(), Term(2)).unwrap();
        ledger.append(&record(1, 1)).unwrap();
        assert_eq!(hears.recv().unwrap(), Term(2));
        assert_eq!(shipper.fence(), FenceSeen::Newer(Term(2)));
        let ended = shipper.finish().unwrap_err();
        assert!(
            ended.to_string().contains("term 2 has taken over"),
            "{ended}"
        );
        let fetched = fetch_ledger(&store, &job(), &folder.path().join("found")).unwrap();
        assert!(fetched.records.len() < 2, "{}", fetched.records.len());
    }
}
