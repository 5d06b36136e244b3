//! Objects that are created only once.

use std::sync::Arc;

use object_store::path::Path as Key;
use object_store::{ObjectStore, PutMode, PutOptions, PutPayload};

use super::{Store, read};
use crate::store::error::{StoreError, StoreFault};
use crate::store::retry::Failed;

/// Whether a store creates an object only where there is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Creation {
    /// In one step: of many that try at once, one succeeds.
    Conditional,
    /// It overwrites what is there, or refuses the condition.
    Unconditional,
}

/// What became of a creation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Created {
    /// The object is there with this content.
    Ours,
    /// There is one with other content, which was left alone.
    Theirs,
}

impl Store {
    /// Whether it creates in one step only where nothing is. Asked of the store once, with an object that is removed again.
    ///
    /// # Errors
    /// If the store cannot be written to.
    pub fn creation(&self) -> Result<Creation, StoreError> {
        if let Some(known) = self.inner.creation.get() {
            return Ok(*known);
        }
        let name = format!(".weft-probe/{}", uuid::Uuid::now_v7().simple());
        let first = self.try_create(&name, b"first");
        let second = first.and_then(|_| self.try_create(&name, b"second"));
        let found = match second {
            Ok(Created::Theirs) => Creation::Conditional,
            Ok(Created::Ours) => Creation::Unconditional,
            Err(error) if error.fault == StoreFault::Unsupported => Creation::Unconditional,
            Err(error) => return Err(error),
        };
        self.delete(&name)?;
        if found == Creation::Unconditional {
            tracing::warn!(store = %self.inner.url, "this store has no conditional writes; names alone keep writers apart");
        }
        Ok(*self.inner.creation.get_or_init(|| found))
    }

    /// Writes an object where there is none. On a store without conditional writes two that create at the same moment
    /// may both be told that it is theirs; see [`creation`](Self::creation).
    ///
    /// # Errors
    /// If the store does not take it in time.
    pub fn create(&self, name: &str, bytes: &[u8]) -> Result<Created, StoreError> {
        match self.creation()? {
            Creation::Conditional => self.try_create(name, bytes),
            Creation::Unconditional => match self.get(name)? {
                Some(found) if found == bytes => Ok(Created::Ours),
                Some(_) => Ok(Created::Theirs),
                None => self.put(name, bytes).map(|()| Created::Ours),
            },
        }
    }

    fn try_create(&self, name: &str, bytes: &[u8]) -> Result<Created, StoreError> {
        let payload = PutPayload::from(bytes.to_vec());
        let ours: Arc<[u8]> = bytes.into();
        let (objects, key) = self.object(name);
        self.run(
            self.operation("create", name, bytes.len() as u64),
            move || {
                let (objects, key) = (objects.clone(), key.clone());
                Box::pin(create_once(objects, key, payload.clone(), ours.clone()))
            },
        )
    }
}

/// Creates, and finds out whose the object is that is there already: an answer may have been lost on its way.
async fn create_once(
    objects: Arc<dyn ObjectStore>,
    key: Key,
    payload: PutPayload,
    ours: Arc<[u8]>,
) -> Result<Created, Failed> {
    let options = PutOptions::from(PutMode::Create);
    match objects.put_opts(&key, payload, options).await {
        Ok(_) => return Ok(Created::Ours),
        Err(object_store::Error::AlreadyExists { .. }) => {}
        Err(error) => return Err(error.into()),
    }
    match read(&*objects, &key).await? {
        Some(found) if *found == *ours => Ok(Created::Ours),
        Some(_) => Ok(Created::Theirs),
        None => Err(Failed::new(
            StoreFault::Failing,
            "it says that the object exists, and that it does not",
        )),
    }
}
