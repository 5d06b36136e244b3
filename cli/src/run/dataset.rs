//! The dataset that preflight has prepared, as the coordinator asks for it.

use std::fs;
use std::io;

use weft_common::data::Prepared;
use weft_common::recipe::Recipe;
use weft_common::wire::{DatasetFile, DatasetRef};
use weft_coordinator::{DataSource, PreparedData};

/// A dataset that is prepared already.
#[derive(Debug)]
pub(super) struct Dataset(PreparedData);

impl Dataset {
    /// What the coordinator needs to know of it.
    pub(super) fn of(prepared: &Prepared) -> io::Result<Self> {
        let listed = prepared.files().iter().map(|file| DatasetFile {
            name: file.name.clone(),
            bytes: file.size,
        });
        // Last, because it makes a copied folder complete.
        let manifest = DatasetFile {
            name: Prepared::manifest_name().to_owned(),
            bytes: fs::metadata(prepared.dir().join(Prepared::manifest_name()))?.len(),
        };
        Ok(Self(PreparedData {
            dataset: DatasetRef {
                digest: prepared.digest(),
                dir: prepared.dir().to_owned(),
                files: listed.chain([manifest]).collect(),
            },
            stats: prepared.stats(),
        }))
    }
}

impl DataSource for Dataset {
    fn prepare(&self, _: &Recipe) -> Result<PreparedData, String> {
        Ok(self.0.clone())
    }
}
