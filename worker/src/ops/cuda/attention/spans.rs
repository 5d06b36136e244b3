//! Stretches of documents: the work of one block of threads.

use std::cmp::Reverse;

use cudarc::driver::DeviceRepr;

/// Queries or keys of one document, at most a tile, as the kernels see them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub(super) struct Span {
    /// The first of the tile.
    first: u32,
    /// The end of the document, among what the tile counts.
    end: u32,
    /// For queries their document's first key, for keys the end of its queries.
    other: u32,
    /// Query i sees keys up to i + shift; wraps where there are fewer keys before than queries.
    shift: u32,
}

// SAFETY: four integers, laid out as the kernels' struct.
unsafe impl DeviceRepr for Span {}

/// Tiles of queries, those with the most keys first, so that the last blocks to start are short.
pub(super) fn of_queries(queries: &[u32], keys: &[u32], tile: u32) -> Vec<Span> {
    assert_eq!(
        queries.len(),
        keys.len(),
        "boundaries of the same documents"
    );
    let documents = bounds(queries).zip(bounds(keys));
    let mut spans: Vec<Span> = documents
        .flat_map(|([begin, end], [first_key, end_key])| {
            assert!(
                end - begin <= end_key - first_key,
                "a query for which there is no key"
            );
            (begin..end).step_by(tile as usize).map(move |first| Span {
                first,
                end,
                other: first_key,
                shift: end_key.wrapping_sub(end),
            })
        })
        .collect();
    let keys_seen = |span: &Span| {
        let last = span.end.min(span.first + tile);
        last.wrapping_add(span.shift) - span.other
    };
    spans.sort_by_key(|span| Reverse(keys_seen(span)));
    spans
}

/// Tiles of keys, those with the most queries first.
pub(super) fn of_keys(documents: &[u32], tile: u32) -> Vec<Span> {
    let mut spans: Vec<Span> = bounds(documents)
        .flat_map(|[begin, end]| {
            (begin..end).step_by(tile as usize).map(move |first| Span {
                first,
                end,
                other: end,
                shift: 0,
            })
        })
        .collect();
    spans.sort_by_key(|span| Reverse(span.end - span.first));
    spans
}

/// Where each document begins and ends.
fn bounds(documents: &[u32]) -> impl Iterator<Item = [u32; 2]> + '_ {
    documents.windows(2).map(|pair| [pair[0], pair[1]])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_query_and_key_is_in_one_tile_and_long_tiles_come_first() {
        let documents = [0, 300, 301, 301, 700];
        for spans in [
            of_queries(&documents, &documents, 128),
            of_keys(&documents, 128),
        ] {
            let mut seen = vec![0; 700];
            for span in &spans {
                let last = span.end.min(span.first + 128);
                (span.first..last).for_each(|row| seen[row as usize] += 1);
            }
            assert!(seen.iter().all(|&times| times == 1));
        }
        assert_eq!(of_queries(&documents, &documents, 128)[0].first, 685);
        assert_eq!(of_keys(&documents, 128)[0].first, 301);
    }

    #[test]
    fn queries_are_the_last_positions_of_their_keys() {
        let spans = of_queries(&[0, 1, 3], &[0, 100, 150], 128);
        let seen = |span: &Span, query: u32| query.wrapping_add(span.shift) + 1 - span.other;
        assert_eq!(
            (seen(&spans[0], 0), seen(&spans[1], 1), seen(&spans[1], 2)),
            (100, 49, 50)
        );
    }
}
