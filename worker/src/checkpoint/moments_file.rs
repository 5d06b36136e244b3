//! `optimizer.safetensors`: the moments of every matrix, under the matrix's name.

use super::CheckpointError;
use super::tensors::{Named, Numbers, Reader, encode};
use crate::train::optimizer::{AdamW, BlockMoments, Moments, TensorState};

pub(super) const MOMENTS_FILE: &str = "optimizer.safetensors";

/// The file's bytes.
pub(super) fn moments(optimizer: &AdamW) -> Vec<u8> {
    encode(
        &optimizer
            .tensors()
            .iter()
            .flat_map(named)
            .collect::<Vec<_>>(),
    )
}

/// Named as torch's and bitsandbytes' optimizers name their state.
fn named(tensor: &TensorState) -> Vec<Named<'_>> {
    let floats = |suffix: &str, numbers| one(tensor, suffix, Numbers::F32(numbers));
    let codes = |suffix: &str, numbers| one(tensor, suffix, Numbers::U8(numbers));
    match &tensor.moments {
        Moments::Fp32 { first, second } => {
            vec![floats("exp_avg", first), floats("exp_avg_sq", second)]
        }
        Moments::Blocks { first, second } => vec![
            codes("state1", &first.codes),
            floats("absmax1", &first.absmax),
            codes("state2", &second.codes),
            floats("absmax2", &second.absmax),
        ],
    }
}

fn one<'a>(tensor: &TensorState, suffix: &str, numbers: Numbers<'a>) -> Named<'a> {
    let len = match numbers {
        Numbers::F32(numbers) => numbers.len(),
        Numbers::U8(numbers) => numbers.len(),
    };
    Named {
        name: format!("{}.{suffix}", tensor.name),
        shape: vec![len],
        numbers,
    }
}

/// Reads the state of every matrix of `optimizer`, in the same widths.
pub(super) fn read_moments(
    bytes: &[u8],
    optimizer: &AdamW,
) -> Result<Vec<TensorState>, CheckpointError> {
    let mut reader = Reader::new(MOMENTS_FILE, bytes)?;
    let read = |tensor: &TensorState| {
        Ok(TensorState {
            moments: read_tensor(&mut reader, tensor)?,
            ..tensor.clone()
        })
    };
    let tensors = optimizer
        .tensors()
        .iter()
        .map(read)
        .collect::<Result<_, CheckpointError>>()?;
    reader.finish()?;
    Ok(tensors)
}

fn read_tensor(reader: &mut Reader<'_>, tensor: &TensorState) -> Result<Moments, CheckpointError> {
    let name = |suffix: &str| format!("{}.{suffix}", tensor.name);
    match &tensor.moments {
        Moments::Fp32 { first, .. } => Ok(Moments::Fp32 {
            first: reader.f32(name("exp_avg"), &[first.len()])?,
            second: reader.f32(name("exp_avg_sq"), &[first.len()])?,
        }),
        Moments::Blocks { first, .. } => {
            let mut moment = |state: &str, absmax: &str| -> Result<BlockMoments, CheckpointError> {
                Ok(BlockMoments {
                    codes: reader.u8(name(state), &[first.codes.len()])?,
                    absmax: reader.f32(name(absmax), &[first.absmax.len()])?,
                })
            };
            Ok(Moments::Blocks {
                first: moment("state1", "absmax1")?,
                second: moment("state2", "absmax2")?,
            })
        }
    }
}
