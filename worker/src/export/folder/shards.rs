//! safetensors files: what lies where, planned before anything is written.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};
use weft_common::storage::{StorageError, write_atomic};

/// What transformers puts into one file at most, by default.
pub(super) const SHARD_BYTES: u64 = 5_000_000_000;
const SINGLE: &str = "model.safetensors";
const INDEX: &str = "model.safetensors.index.json";

/// A tensor to be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) name: String,
    pub(super) dtype: ShardDtype,
    pub(super) shape: Vec<usize>,
}

/// Number formats that are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ShardDtype {
    F32,
    F16,
    Bf16,
    U8,
}

impl ShardDtype {
    fn name(self) -> &'static str {
        match self {
            Self::F32 => "F32",
            Self::F16 => "F16",
            Self::Bf16 => "BF16",
            Self::U8 => "U8",
        }
    }

    fn width(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::F16 | Self::Bf16 => 2,
            Self::U8 => 1,
        }
    }
}

impl Entry {
    fn bytes(&self) -> u64 {
        (self.shape.iter().product::<usize>() * self.dtype.width()) as u64
    }
}

/// One file.
#[derive(Debug, PartialEq, Eq)]
struct Shard {
    file: String,
    /// Length, JSON, padding.
    header: Vec<u8>,
    bytes: u64,
}

/// All files.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Plan {
    shards: Vec<Shard>,
    /// Shard and offset in its file.
    places: BTreeMap<String, (usize, u64)>,
    total_bytes: u64,
}

impl Plan {
    /// Fills files of at most `limit` bytes with groups of tensors that stay together, in order; a group that is larger
    /// has a file of its own.
    pub(super) fn new(groups: Vec<Vec<Entry>>, limit: u64) -> Self {
        let mut files: Vec<Vec<Entry>> = Vec::new();
        let mut filled = limit;
        for group in groups {
            let bytes: u64 = group.iter().map(Entry::bytes).sum();
            if files.is_empty() || filled + bytes > limit {
                files.push(Vec::new());
                filled = 0;
            }
            filled += bytes;
            files.last_mut().expect("one was pushed").extend(group);
        }
        let count = files.len();
        let mut plan = Self {
            shards: Vec::new(),
            places: BTreeMap::new(),
            total_bytes: 0,
        };
        for (index, entries) in files.into_iter().enumerate() {
            let file = match count {
                1 => SINGLE.to_owned(),
                _ => format!("model-{:05}-of-{count:05}.safetensors", index + 1),
            };
            plan.add(file, entries);
        }
        plan
    }

    /// Wider numbers first, then by name: so every tensor is aligned, as the reference implementation has it.
    fn add(&mut self, file: String, mut entries: Vec<Entry>) {
        entries.sort_by(|a, b| {
            (Reverse(a.dtype.width()), &a.name).cmp(&(Reverse(b.dtype.width()), &b.name))
        });
        let mut directory = Map::new();
        directory.insert("__metadata__".to_owned(), json!({"format": "pt"}));
        let mut end = 0;
        for entry in &entries {
            let begin = end;
            end += entry.bytes();
            let value = json!({"dtype": entry.dtype.name(), "shape": entry.shape, "data_offsets": [begin, end]});
            directory.insert(entry.name.clone(), value);
            self.places
                .insert(entry.name.clone(), (self.shards.len(), begin));
        }
        let mut text = Value::Object(directory).to_string();
        text.push_str(&" ".repeat(text.len().next_multiple_of(8) - text.len()));
        let mut header = (text.len() as u64).to_le_bytes().to_vec();
        header.extend(text.into_bytes());
        self.total_bytes += end;
        self.shards.push(Shard {
            file,
            bytes: header.len() as u64 + end,
            header,
        });
    }

    /// Bytes of all files.
    pub(super) fn bytes(&self) -> u64 {
        self.shards.iter().map(|shard| shard.bytes).sum()
    }

    /// `model.safetensors.index.json`, where there are several files.
    fn index(&self) -> Option<Value> {
        if self.shards.len() < 2 {
            return None;
        }
        let file = |&(shard, _): &(usize, u64)| json!(self.shards[shard].file);
        let map = self
            .places
            .iter()
            .map(|(name, place)| (name.clone(), file(place)));
        let map: Map<String, Value> = map.collect();
        Some(json!({"metadata": {"total_size": self.total_bytes}, "weight_map": map}))
    }
}

/// Open files, written at any place from any thread.
pub(super) struct Writer<'a> {
    plan: &'a Plan,
    files: Vec<(PathBuf, File)>,
}

impl<'a> Writer<'a> {
    /// Makes all files, with their headers and their whole length.
    pub(super) fn create(plan: &'a Plan, folder: &Path) -> Result<Self, StorageError> {
        let mut files = Vec::new();
        for shard in &plan.shards {
            let path = folder.join(&shard.file);
            let failed = |error| StorageError::new("write", &path, error);
            let file = File::create(&path).map_err(failed)?;
            file.set_len(shard.bytes).map_err(failed)?;
            file.write_all_at(&shard.header, 0).map_err(failed)?;
            files.push((path, file));
        }
        if let Some(index) = plan.index() {
            write_atomic(&folder.join(INDEX), format!("{index:#}\n").as_bytes())?;
        }
        Ok(Self { plan, files })
    }

    /// Writes a part of a tensor of the plan, `offset` bytes behind its start.
    pub(super) fn write(
        &self,
        name: &str,
        offset: usize,
        bytes: &[u8],
    ) -> Result<(), StorageError> {
        let (shard, begin) = self.plan.places[name];
        let (path, file) = &self.files[shard];
        let at = self.plan.shards[shard].header.len() as u64 + begin + offset as u64;
        file.write_all_at(bytes, at)
            .map_err(|error| StorageError::new("write", path, error))
    }

    /// Brings everything onto the disk; gives the files' names and sizes.
    pub(super) fn finish(self) -> Result<Vec<(String, u64)>, StorageError> {
        for (path, file) in &self.files {
            file.sync_all()
                .map_err(|error| StorageError::new("write", path, error))?;
        }
        let shards = self.plan.shards.iter();
        Ok(shards
            .map(|shard| (shard.file.clone(), shard.bytes))
            .collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(name: &str, dtype: ShardDtype, len: usize) -> Entry {
        Entry {
            name: name.to_owned(),
            dtype,
            shape: vec![len],
        }
    }

    #[test]
    fn files_are_filled_up_to_the_limit_and_groups_stay_together() {
        let group = |name: &str| {
            vec![
                entry(name, ShardDtype::U8, 30),
                entry(&format!("{name}.absmax"), ShardDtype::F32, 5),
            ]
        };
        let plan = Plan::new(vec![group("a"), group("b"), group("c")], 100);
        let places: Vec<_> = plan
            .places
            .iter()
            .map(|(name, (shard, _))| (name.as_str(), *shard))
            .collect();
        let expected = [
            ("a", 0),
            ("a.absmax", 0),
            ("b", 0),
            ("b.absmax", 0),
            ("c", 1),
            ("c.absmax", 1),
        ];
        assert_eq!(places, expected);
        assert_eq!(plan.shards[1].file, "model-00002-of-00002.safetensors");
        let index = plan.index().unwrap();
        assert_eq!(index["metadata"]["total_size"], 150);
        assert_eq!(index["weight_map"]["b"], "model-00001-of-00002.safetensors");
    }

    #[test]
    fn the_reference_implementation_reads_what_is_written() {
        let folder = tempfile::tempdir().unwrap();
        let plan = Plan::new(
            vec![vec![
                entry("codes", ShardDtype::U8, 3),
                entry("scale", ShardDtype::F32, 2),
                entry("w", ShardDtype::Bf16, 1),
            ]],
            SHARD_BYTES,
        );
        let writer = Writer::create(&plan, folder.path()).unwrap();
        writer.write("codes", 1, &[8, 9]).unwrap();
        writer.write("scale", 4, &2.5_f32.to_le_bytes()).unwrap();
        writer.write("w", 0, &[1, 2]).unwrap();
        assert_eq!(
            writer.finish().unwrap(),
            [(SINGLE.to_owned(), plan.bytes())]
        );
        let bytes = std::fs::read(folder.path().join(SINGLE)).unwrap();
        let read = safetensors::SafeTensors::deserialize(&bytes).unwrap();
        assert_eq!(read.tensor("codes").unwrap().data(), [0, 8, 9]);
        assert_eq!(
            read.tensor("scale").unwrap().data()[4..],
            2.5_f32.to_le_bytes()
        );
        assert_eq!(read.tensor("w").unwrap().data(), [1, 2]);
        assert!(!folder.path().join(INDEX).exists());
    }
}
