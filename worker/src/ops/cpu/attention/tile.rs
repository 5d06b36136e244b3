//! How documents are cut into tiles, and where a head lies.

use std::ops::Range;

use super::super::gemm::{Target, View};
use crate::ops::{AttentionShape, Write};

/// Queries of a tile.
pub(super) const QUERIES: usize = 64;
/// Keys of a tile.
pub(super) const KEYS: usize = 64;

/// Rows of one document that one task computes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Tile {
    /// The task's rows.
    pub(super) rows: Range<usize>,
    /// The document's queries.
    pub(super) queries: Range<usize>,
    /// The document's keys.
    pub(super) keys: Range<usize>,
}

impl Tile {
    /// Position, within the document, of query row `row`.
    pub(super) fn position(&self, row: usize) -> usize {
        row - self.queries.start + self.keys.len() - self.queries.len()
    }
}

/// Cuts each document's queries into tiles, in order and without gaps.
pub(super) fn over_queries(queries: &[u32], keys: &[u32]) -> Vec<Tile> {
    assert_eq!(
        queries.len(),
        keys.len(),
        "as many documents of queries as of keys"
    );
    let range = |ends: &[u32]| ends[0] as usize..ends[1] as usize;
    let documents = queries
        .windows(2)
        .map(range)
        .zip(keys.windows(2).map(range));
    let mut tiles = Vec::new();
    for (queries, keys) in documents {
        assert!(
            queries.len() <= keys.len(),
            "{} queries see {} keys",
            queries.len(),
            keys.len()
        );
        for start in queries.clone().step_by(QUERIES) {
            let rows = start..(start + QUERIES).min(queries.end);
            tiles.push(Tile {
                rows,
                queries: queries.clone(),
                keys: keys.clone(),
            });
        }
    }
    tiles
}

/// Splits a buffer of `width` elements a row into the tiles' parts.
pub(super) fn split<'a>(
    tiles: &[Tile],
    width: usize,
    mut buffer: &'a mut [f32],
) -> Vec<&'a mut [f32]> {
    (tiles.iter())
        .map(|tile| {
            let (part, rest) = std::mem::take(&mut buffer).split_at_mut(tile.rows.len() * width);
            buffer = rest;
            part
        })
        .collect()
}

/// The parts of packed rows that belong to one head.
#[derive(Clone, Copy)]
pub(super) struct Head {
    /// Position of its first element within a row.
    offset: usize,
    /// Elements of a row.
    pub(super) stride: usize,
    /// Its width.
    pub(super) width: usize,
}

impl Head {
    pub(super) fn of_query(shape: AttentionShape, head: usize) -> Self {
        Self {
            offset: head * shape.head_dim,
            stride: shape.heads * shape.head_dim,
            width: shape.head_dim,
        }
    }

    /// The key and value head that serves query head `head`.
    pub(super) fn of_keys(shape: AttentionShape, head: usize) -> Self {
        let kv_head = head / (shape.heads / shape.kv_heads);
        Self {
            offset: kv_head * shape.head_dim,
            stride: shape.kv_heads * shape.head_dim,
            width: shape.head_dim,
        }
    }

    /// The head's matrix from row `first` on.
    pub(super) fn view<'a>(&self, buffer: &'a [f32], first: usize) -> View<'a> {
        View::strided(&buffer[first * self.stride + self.offset..], self.stride)
    }

    /// The head's matrix from row `first` on, to write to.
    pub(super) fn target<'a>(
        &self,
        buffer: &'a mut [f32],
        first: usize,
        write: Write,
    ) -> Target<'a> {
        Target::strided(
            &mut buffer[first * self.stride + self.offset..],
            self.stride,
            write,
        )
    }

    /// The head's part of row `row`.
    pub(super) fn row<'a>(&self, buffer: &'a [f32], row: usize) -> &'a [f32] {
        &buffer[row * self.stride + self.offset..][..self.width]
    }

    /// The head's part of row `row`.
    pub(super) fn row_mut<'a>(&self, buffer: &'a mut [f32], row: usize) -> &'a mut [f32] {
        &mut buffer[row * self.stride + self.offset..][..self.width]
    }
}

/// The keys up to `until`, in tiles.
pub(super) fn key_tiles(keys: Range<usize>) -> impl Iterator<Item = Range<usize>> {
    let end = keys.end;
    keys.step_by(KEYS)
        .map(move |start| start..(start + KEYS).min(end))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tiles_cover_documents_in_order_without_crossing_them() {
        let tiles = over_queries(&[0, 70, 71], &[0, 70, 71]);
        let rows: Vec<_> = tiles.iter().map(|tile| tile.rows.clone()).collect();
        assert_eq!(rows, [0..64, 64..70, 70..71]);
        assert_eq!(tiles[1].position(64), 64);
        assert_eq!(tiles[2].position(70), 0);
    }

    #[test]
    fn the_last_queries_of_a_longer_document_have_its_last_positions() {
        let tiles = over_queries(&[0, 2], &[0, 10]);
        assert_eq!((tiles[0].position(0), tiles[0].position(1)), (8, 9));
    }
}
