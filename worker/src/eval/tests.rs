//! Evaluation against training's losses and generation.

use std::sync::Arc;

use weft_common::data::Row;
use weft_common::recipe::{Format, LoraSection, Recipe};

use super::{ExactLoss, Examiner, Examiners, ModelExaminer, Question, Subject};
use crate::checkpoint::{Progress, TrainState};
use crate::generate::GenerateOptions;
use crate::lora::Adapter;
use crate::model::Model;
use crate::model::tests_support::{random_weights, toy};
use crate::ops::Cpu;
use crate::train::optimizer::AdamW;
use crate::train::{GradSink, MemoryPlan, PackedBatch, Pass};

fn adapter() -> Adapter {
    let lora = LoraSection {
        r: 4,
        lora_alpha: 8.0,
        ..LoraSection::default()
    };
    let mut adapter = Adapter::new(&toy(), &lora, 5).unwrap();
    for (index, value) in adapter.values_mut().iter_mut().enumerate() {
        *value += (index as f32 * 0.7).sin() * 0.1;
    }
    adapter
}

fn rows() -> Vec<Row> {
    let row = |index: usize| {
        let len = 5 + index * 7 % 13;
        Row {
            tokens: (0..len)
                .map(|at| ((index * 31 + at * 17) % 97) as u32)
                .collect(),
            supervised: (0..len).map(|at| at > 2).collect(),
        }
    };
    (0..24).map(row).collect()
}

fn examiners(count: usize, threads: usize) -> Examiners {
    let model = Arc::new(Model::new(Cpu::new(), toy(), random_weights(&toy(), 11)).unwrap());
    let text = "model: {base_model: m}\ndatasets: [{path: d.csv}]\n";
    let recipe = Recipe::parse(text, Format::Yaml).unwrap();
    let examiner = || -> Box<dyn Examiner> {
        let adapter = adapter();
        let tensors = adapter.layout().tensors().iter();
        let matrices: Vec<_> = tensors
            .map(|tensor| (tensor.name.clone(), tensor.range()))
            .collect();
        let state = TrainState {
            adapter,
            optimizer: AdamW::new((&recipe.training).into(), matrices),
            progress: Progress::default(),
        };
        Box::new(ModelExaminer::new(model.clone(), Some(state)))
    };
    Examiners::new((0..count).map(|_| examiner()).collect(), threads).unwrap()
}

fn loss(examiners: &mut Examiners, subject: Subject) -> ExactLoss {
    let rows = rows();
    examiners
        .loss(rows.len(), &|index| rows[index].clone(), subject, &|_| ())
        .unwrap()
}

struct Nowhere;

impl GradSink for Nowhere {
    fn accept(&mut self, _: std::ops::Range<usize>, _: &Vec<f32>) {}
}

#[test]
fn the_loss_is_that_of_training_and_the_adapter_counts() {
    let model = Model::new(Cpu::new(), toy(), random_weights(&toy(), 11)).unwrap();
    let mut pass = Pass::new(MemoryPlan::recompute());
    let mut trained = ExactLoss::default();
    for row in rows() {
        let batch = PackedBatch::from_rows([&row]);
        let loss = pass
            .forward_backward(&model, &adapter(), &batch, 1.0, &mut Nowhere)
            .unwrap();
        trained = trained.plus(ExactLoss::of_row(loss));
    }
    let mut examiners = examiners(1, 1);
    assert_eq!(loss(&mut examiners, Subject::Adapted), trained);
    assert_ne!(loss(&mut examiners, Subject::Base), trained);
}

#[test]
fn the_number_of_examiners_and_threads_changes_no_bit() {
    let questions: Vec<_> = rows().iter().filter_map(Question::of).collect();
    assert_eq!(questions.len(), rows().len());
    let options = GenerateOptions {
        max_new_tokens: 6,
        ..GenerateOptions::default()
    };
    let mut all = [(1, 1), (3, 1), (2, 2)].map(|(count, threads)| {
        let mut examiners = examiners(count, threads);
        let loss = loss(&mut examiners, Subject::Adapted);
        let answers = examiners
            .answers(&questions, &options, Subject::Adapted, &|_| ())
            .unwrap();
        (loss, answers)
    });
    let first = std::mem::take(&mut all[0].1);
    assert_eq!(first.len(), questions.len());
    for (other, answers) in &all[1..] {
        assert_eq!(*other, all[0].0);
        assert_eq!(*answers, first);
    }
}

#[test]
fn a_row_that_cannot_be_read_is_told() {
    let bad = Row {
        tokens: vec![1, 2, 3, 4000],
        supervised: vec![false, false, false, true],
    };
    let refused = examiners(2, 1)
        .loss(5, &|_| bad.clone(), Subject::Base, &|_| ())
        .unwrap_err();
    assert!(refused.to_string().contains("4000"), "{refused}");
}
