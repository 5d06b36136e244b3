//! A whole micro-batch over a bitsandbytes checkpoint against transformers and peft.

use weft_worker::ops::cuda::CudaOptions;

use crate::peft_case::{Bar, Computed, PeftCase, folders};
use crate::support::{opened, reader};

/// Both compute in bfloat16 and round at different places, so that neither is nearer to single precision by law, and of
/// hundreds of matrices some are further. Real weights cost more than random ones: a matrix of SmolLM2's 30 layers is off
/// by up to a tenth in transformers.
const BAR: Bar = Bar {
    loss: 5e-3,
    whole: 1.5,
    matrix: 2.0,
    plus: 2e-3,
};

fn on_gpu(case: &PeftCase) -> Option<Computed> {
    let cuda = opened(CudaOptions {
        ordinal: 0,
        head_dim: case.spec.head_dim,
        rank: case.adapter.layout().max_rank(),
        half: None,
        lean: false,
        memory_limit: None,
    })?;
    let adapter = case.adapter.map_ref(|values| cuda.upload_params(values));
    let read = reader(&cuda);
    Some(case.compute(cuda, &adapter, read))
}

#[test]
fn logits_loss_and_every_gradient_are_as_near_to_single_precision_as_peft_s() {
    for folder in folders() {
        let case = PeftCase::load(&folder);
        let Some(computed) = on_gpu(&case) else {
            return;
        };
        case.judge(&computed, BAR);
    }
}
