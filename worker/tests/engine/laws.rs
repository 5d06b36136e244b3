//! What must hold whatever the numbers are.

use proptest::prelude::*;
use rayon::ThreadPoolBuilder;
use weft_common::data::Row;
use weft_common::recipe::GradientCheckpointing;
use weft_worker::model::{RandomFormat, Spec, logits};
use weft_worker::ops::Cpu;
use weft_worker::train::{MemoryPlan, PackedBatch, Pass, PassError, PassShape};

use crate::models::{Case, llama, row};
use crate::support::{Collect, assert_close, assert_same};

fn deep() -> Case {
    Case::with(
        Spec {
            layers: 5,
            ..llama()
        },
        RandomFormat::Nf4,
        &[40, 90, 3],
    )
}

#[test]
fn every_memory_plan_gives_the_same_bits() {
    let case = deep();
    let expected = case.run(MemoryPlan::keep_all(&case.spec));
    let shape = PassShape {
        tokens: 133,
        rank: 4,
    };
    let bytes = |plan: MemoryPlan| plan.bytes(&Cpu::new(), &case.spec, shape);
    let partial = (1..5).map(|kept| {
        let full = bytes(MemoryPlan::keep_all(&case.spec));
        let least = bytes(MemoryPlan::recompute());
        let budget = least + (full - least) * (kept - 1) / 4;
        let auto = GradientCheckpointing::Auto;
        MemoryPlan::choose(&Cpu::new(), &case.spec, auto, shape, budget)
    });
    let kept: Vec<_> = partial.clone().map(MemoryPlan::kept_layers).collect();
    assert_eq!(kept, [1, 2, 3, 4]);
    for plan in partial.chain([MemoryPlan::offload()]) {
        let (loss, grads) = case.run(plan);
        assert_eq!(loss, expected.0, "{plan:?}");
        assert_same(&format!("{plan:?}"), &grads, &expected.1);
    }
}

#[test]
fn any_number_of_threads_gives_the_same_bits() {
    let case = deep();
    let on = |threads: usize| {
        let pool = ThreadPoolBuilder::new()
            .num_threads(threads)
            .build()
            .unwrap();
        pool.install(|| case.run(MemoryPlan::recompute()))
    };
    let expected = on(1);
    for threads in [2, 3, 7] {
        let (loss, grads) = on(threads);
        assert_eq!(loss, expected.0, "{threads} threads");
        assert_same(&format!("{threads} threads"), &grads, &expected.1);
    }
}

#[test]
fn packed_documents_equal_the_same_documents_one_by_one() {
    let case = Case::new(llama());
    let (loss, grads) = case.run(MemoryPlan::recompute());
    let mut loss_sum = 0.0;
    let mut sum = vec![0.0; grads.len()];
    for row in case
        .rows
        .iter()
        .filter(|row| row.supervised.contains(&true))
    {
        let (loss, grads) = case.run_rows(std::slice::from_ref(row), MemoryPlan::recompute());
        loss_sum += loss.loss_sum;
        sum.iter_mut().zip(&grads).for_each(|(sum, g)| *sum += g);
    }
    assert!(
        (loss.loss_sum / loss_sum - 1.0).abs() < 1e-6,
        "{} for {loss_sum}",
        loss.loss_sum
    );
    for tensor in case.adapter.layout().tensors() {
        assert_close(
            &tensor.name,
            &grads[tensor.range()],
            &sum[tensor.range()],
            1e-4,
        );
    }
}

#[test]
fn a_pass_that_ran_before_gives_what_a_fresh_one_gives() {
    let case = Case::new(llama());
    let mut pass = Pass::new(MemoryPlan::keep_all(&case.spec));
    for rows in [
        &case.rows[..],
        &case.rows[..1],
        &case.rows[1..2],
        &case.rows[..],
    ] {
        let batch = PackedBatch::from_rows(rows);
        let mut grads = Collect::new(case.adapter.layout());
        let loss = pass
            .forward_backward(&case.model, &case.adapter, &batch, case.scale(), &mut grads)
            .unwrap();
        let (fresh_loss, fresh) = case.run_rows(rows, MemoryPlan::recompute());
        assert_eq!(loss, fresh_loss);
        assert_same("gradient", &grads.values, &fresh);
    }
}

#[test]
fn a_batch_that_the_model_cannot_run_is_refused() {
    let case = Case::new(llama());
    let refused = |row: Row| {
        let batch = PackedBatch::from_rows([&row]);
        let mut grads = Collect::new(case.adapter.layout());
        Pass::new(MemoryPlan::recompute()).forward_backward(
            &case.model,
            &case.adapter,
            &batch,
            1.0,
            &mut grads,
        )
    };
    let foreign = Row {
        tokens: vec![1, 97],
        supervised: vec![false, true],
    };
    assert_eq!(
        refused(foreign),
        Err(PassError::Token {
            token: 97,
            vocab: 97
        })
    );
    let long = row(&case.spec, 0, 257);
    assert_eq!(
        refused(long),
        Err(PassError::Context {
            tokens: 257,
            context: 256
        })
    );
}

#[test]
fn an_unsupervised_batch_has_no_loss_and_no_gradient() {
    let case = Case::new(llama());
    let batch = PackedBatch::from_tokens(&[1, 2, 3]);
    let mut grads = Collect::new(case.adapter.layout());
    let mut pass = Pass::new(MemoryPlan::recompute());
    let loss = pass
        .forward_backward(&case.model, &case.adapter, &batch, 1.0, &mut grads)
        .unwrap();
    assert_eq!((loss.loss_sum, loss.supervised), (0.0, 0));
    assert!(
        grads.values.iter().all(|g| g.is_nan()),
        "nothing was handed over"
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    #[test]
    fn a_token_changes_nothing_before_it_and_nothing_in_other_documents(
        lengths in prop::collection::vec(1_usize..80, 1..4),
        place in any::<prop::sample::Index>(),
    ) {
        let case = Case::with(llama(), RandomFormat::F32, &lengths);
        let batch = PackedBatch::from_rows(&case.rows);
        let place = place.index(batch.len());
        let document = batch.cu_seqlens().partition_point(|&end| end as usize <= place) - 1;
        let end = batch.cu_seqlens()[document + 1] as usize;
        let mut changed = case.rows.clone();
        let token = &mut changed[document].tokens[place - batch.cu_seqlens()[document] as usize];
        *token = (*token + 1) % 97;
        let rows: Vec<u32> = (0..batch.len() as u32).collect();
        let before = logits(&case.model, Some(&case.adapter), &batch, &rows);
        let after = logits(&case.model, Some(&case.adapter), &PackedBatch::from_rows(&changed), &rows);
        for row in 0..batch.len() {
            let same = before[row * 97..][..97] == after[row * 97..][..97];
            prop_assert_eq!(same, !(place..end).contains(&row), "row {}, token {} of document ..{}", row, place, end);
        }
    }

    #[test]
    fn twice_the_scale_is_exactly_twice_the_gradient(lengths in prop::collection::vec(2_usize..40, 1..4)) {
        let case = Case::with(llama(), RandomFormat::F32, &lengths);
        let batch = PackedBatch::from_rows(&case.rows);
        let run = |scale: f32| {
            let mut grads = Collect::new(case.adapter.layout());
            let mut pass = Pass::new(MemoryPlan::recompute());
            pass.forward_backward(&case.model, &case.adapter, &batch, scale, &mut grads).unwrap();
            grads.values
        };
        if batch.supervised() > 0 {
            let doubled: Vec<f32> = run(0.125).iter().map(|g| 2.0 * g).collect();
            prop_assert_eq!(doubled, run(0.25));
        }
    }
}
