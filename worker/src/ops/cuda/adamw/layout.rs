//! Where the state of each matrix lies.

use super::super::count;
use super::{DeviceTensor, ITEM, MomentKind};

/// Where each matrix' state lies.
#[derive(Debug, Default)]
pub(super) struct Layout {
    pub(super) tensors: Vec<DeviceTensor>,
    pub(super) len: usize,
    pub(super) items: usize,
    pub(super) codes: usize,
    pub(super) scales: usize,
    pub(super) floats: usize,
}

impl Layout {
    pub(super) fn new(matrices: &[(usize, MomentKind)]) -> Self {
        let mut layout = Self::default();
        for &(len, kind) in matrices {
            assert!(
                len.is_multiple_of(4) && len > 0,
                "a matrix of {len} elements"
            );
            let items = len.div_ceil(ITEM);
            let state = match kind {
                MomentKind::Blocks => layout.codes,
                MomentKind::LikeTorch | MomentKind::LikeBitsandbytes => layout.floats,
            };
            layout.tensors.push(DeviceTensor {
                start: layout.len as u64,
                state: state as u64,
                len: count(len),
                first_item: count(layout.items),
                scale: count(layout.scales),
                kind: number(kind),
            });
            match kind {
                MomentKind::Blocks => {
                    layout.codes += len;
                    layout.scales += items;
                }
                MomentKind::LikeTorch | MomentKind::LikeBitsandbytes => layout.floats += len,
            }
            layout.len += len;
            layout.items += items;
        }
        layout
    }
}

/// A kind as the kernel numbers it.
fn number(kind: MomentKind) -> u32 {
    match kind {
        MomentKind::Blocks => 0,
        MomentKind::LikeTorch => 1,
        MomentKind::LikeBitsandbytes => 2,
    }
}

impl DeviceTensor {
    /// How it keeps its moments.
    pub(super) fn kind(&self) -> MomentKind {
        let kinds = [
            MomentKind::Blocks,
            MomentKind::LikeTorch,
            MomentKind::LikeBitsandbytes,
        ];
        kinds[self.kind as usize]
    }
}
