//! Compiled kernels on disk.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

/// Bytes of a SHA-256.
const SUM_BYTES: usize = 32;

/// A folder of compiled kernels. A file is its content's SHA-256 and the content; it is written beside its place and
/// moved there, so that workers who compile the same kernel at once do no harm, and a torn file counts as none.
#[derive(Debug, Clone)]
pub struct KernelCache {
    folder: PathBuf,
}

impl KernelCache {
    /// A cache in `folder`, which need not exist.
    #[must_use]
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        Self {
            folder: folder.into(),
        }
    }

    /// Where it lies.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The file for a kernel: `key` says everything that its code depends on.
    fn path(&self, name: &str, key: &[&str]) -> PathBuf {
        let mut hash = Sha256::new();
        for part in key {
            hash.update((part.len() as u64).to_le_bytes());
            hash.update(part);
        }
        let sum = hex::encode(&hash.finalize()[..12]);
        self.folder.join(format!("{name}-{sum}.cubin"))
    }

    /// The code kept under `key`, if there is any and it is whole.
    #[must_use]
    pub fn get(&self, name: &str, key: &[&str]) -> Option<Vec<u8>> {
        let bytes = fs::read(self.path(name, key)).ok()?;
        let (sum, content) = bytes.split_at_checked(SUM_BYTES)?;
        (Sha256::digest(content).as_slice() == sum).then(|| content.to_vec())
    }

    /// Keeps code under `key`.
    ///
    /// # Errors
    /// If the folder cannot be written. The code can be used all the same.
    pub fn put(&self, name: &str, key: &[&str], content: &[u8]) -> io::Result<()> {
        fs::create_dir_all(&self.folder)?;
        let mut file = tempfile::Builder::new()
            .prefix(".kernel")
            .tempfile_in(&self.folder)?;
        file.write_all(&Sha256::digest(content))?;
        file.write_all(content)?;
        file.persist(self.path(name, key))?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: [&str; 2] = ["source", "sm_90a"];

    #[test]
    fn what_is_put_comes_back_under_its_key_alone() {
        let folder = tempfile::tempdir().unwrap();
        let cache = KernelCache::new(folder.path().join("kernels"));
        assert_eq!(cache.get("norm", &KEY), None);
        cache.put("norm", &KEY, b"code").unwrap();
        assert_eq!(cache.get("norm", &KEY).unwrap(), b"code");
        for other in [["sources", "m_90a"], ["source", "sm_80"]] {
            assert_eq!(cache.get("norm", &other), None);
        }
    }

    #[test]
    fn a_torn_or_altered_file_counts_as_none() {
        let folder = tempfile::tempdir().unwrap();
        let cache = KernelCache::new(folder.path());
        cache.put("norm", &KEY, b"some machine code").unwrap();
        let path = cache.path("norm", &KEY);
        let whole = fs::read(&path).unwrap();
        for len in 0..whole.len() {
            fs::write(&path, &whole[..len]).unwrap();
            assert_eq!(cache.get("norm", &KEY), None, "{len} bytes");
        }
        let mut altered = whole;
        *altered.last_mut().unwrap() ^= 1;
        fs::write(&path, altered).unwrap();
        assert_eq!(cache.get("norm", &KEY), None);
    }

    #[test]
    fn concurrent_writers_leave_one_whole_file() {
        let folder = tempfile::tempdir().unwrap();
        let cache = KernelCache::new(folder.path());
        let code = vec![7_u8; 1 << 16];
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..20 {
                        cache.put("norm", &KEY, &code).unwrap();
                        assert_eq!(cache.get("norm", &KEY).as_ref(), Some(&code));
                    }
                });
            }
        });
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}
