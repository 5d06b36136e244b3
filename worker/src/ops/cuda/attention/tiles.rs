//! Tile sizes and shared memory of each attention, as the kernel files choose them.

use crate::cuda::Arch;

/// Which file computes, and how it cuts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Tiles {
    /// Whether Hopper's own file computes.
    pub(super) hopper: bool,
    /// Threads of a block.
    pub(super) threads: u32,
    /// Queries of a forward's block.
    pub(super) forward: u32,
    /// Queries of a block of the queries' backward.
    pub(super) queries: u32,
    /// Keys of a block of the keys' backward.
    pub(super) keys: u32,
    /// Bytes of shared memory: forward, queries, keys.
    pub(super) shared: [usize; 3],
}

impl Tiles {
    /// Of attention_sm90.cu.
    pub(super) fn hopper(head_dim: usize) -> Self {
        let row = 2 * head_dim;
        Self {
            hopper: true,
            threads: 384,
            forward: 128,
            queries: 128,
            keys: 128,
            shared: [640, 768, 640].map(|rows| 1024 + rows * row),
        }
    }

    /// Of attention.cu.
    pub(super) fn portable(arch: Arch, head_dim: usize) -> Self {
        let stages = if arch.number >= 80 { 2 } else { 1 };
        let row = 2 * head_dim;
        let (forward, forward_keys) = if head_dim == 256 { (64, 32) } else { (128, 64) };
        let (queries, queries_keys) = if head_dim == 256 {
            (64, 16)
        } else {
            (64 * stages, 32)
        };
        let keys_queries = match (head_dim, stages) {
            (256, _) => 16,
            (_, 1) => 32,
            (128, _) => 48,
            _ => 64,
        };
        Self {
            hopper: false,
            threads: 128,
            forward,
            queries: u32::try_from(queries).unwrap_or(u32::MAX),
            keys: 64,
            shared: [
                (forward as usize + 2 * forward_keys) * row,
                (2 * queries + stages * 2 * queries_keys) * row,
                (128 + stages * 2 * keys_queries) * row + stages * 8 * keys_queries,
            ],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shared_memory_fits_each_generation() {
        let limits = [(75, 64), (80, 163), (86, 99), (89, 99), (90, 227)];
        for (arch, (number, kibibytes)) in Arch::TESTED.into_iter().zip(limits) {
            assert_eq!(arch.number, number);
            for head_dim in [64, 128, 256] {
                if arch.number == 75 && head_dim == 256 {
                    continue;
                }
                let tiles = Tiles::portable(arch, head_dim);
                let fits = tiles.shared.iter().all(|&bytes| bytes <= kibibytes * 1024);
                assert!(fits, "{arch}, heads of {head_dim}: {tiles:?}");
            }
        }
        for head_dim in [64, 128] {
            let tiles = Tiles::hopper(head_dim);
            assert!(
                tiles.shared.iter().all(|&bytes| bytes <= 227 * 1024),
                "{tiles:?}"
            );
        }
    }
}
