//! A whole micro-batch over a bitsandbytes checkpoint against transformers and peft.

use weft_worker::ops::Cpu;

use crate::peft_case::{Bar, PeftCase, folders};

/// Both compute in single precision, in another order: far less than what the 16 bits cost that bfloat16 leaves out.
const BAR: Bar = Bar {
    loss: 1e-5,
    whole: 5e-3,
    matrix: 5e-3,
    plus: 1e-5,
};

#[test]
fn logits_loss_and_every_gradient_are_those_of_peft_in_single_precision() {
    let folders = folders();
    assert!(!folders.is_empty(), "there is a case in the repository");
    for folder in folders {
        let case = PeftCase::load(&folder);
        let computed = case.compute(Cpu::new(), &case.adapter, Vec::clone);
        case.judge(&computed, BAR);
    }
}
