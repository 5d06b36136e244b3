//! The learning rate of each step.
//!
//! The formulas are Hugging Face's (`transformers/optimization.py`), in the same order of operations, so that the
//! values agree to the last few bits. The step counts from 0, so with warm-up the first update has rate 0, as there.

use std::f64::consts::PI;

use crate::id::Step;
use crate::recipe::{LrSchedulerType, TrainingSection};

/// Where `polynomial` ends, as Hugging Face's default has it.
const POLYNOMIAL_END: f64 = 1e-7;

/// Time scale of `inverse_sqrt` without warm-up, as Hugging Face's default has it.
const INVERSE_SQRT_TIMESCALE: f64 = 10_000.0;

/// The learning rate as a pure function of the step.
#[derive(Debug, Clone, PartialEq)]
pub struct LrSchedule {
    shape: LrSchedulerType,
    peak: f64,
    warmup_steps: u64,
    total_steps: u64,
    cycles: f64,
}

impl LrSchedule {
    /// The schedule of a job of `total_steps`.
    #[must_use]
    pub fn new(training: &TrainingSection, total_steps: u64) -> Self {
        let by_ratio = (training.warmup_ratio * total_steps as f64).ceil() as u64;
        Self {
            shape: training.lr_scheduler_type,
            peak: training.learning_rate,
            warmup_steps: if training.warmup_steps > 0 {
                training.warmup_steps
            } else {
                by_ratio
            },
            total_steps,
            cycles: f64::from(training.lr_scheduler_num_cycles),
        }
    }

    /// The learning rate that step `step` is applied with.
    #[must_use]
    pub fn at(&self, step: Step) -> f64 {
        self.peak * self.multiplier(step)
    }

    /// The share of the peak at `step`.
    #[must_use]
    pub fn multiplier(&self, step: Step) -> f64 {
        let warming = step.0 < self.warmup_steps && self.shape != LrSchedulerType::Constant;
        if warming {
            return step.0 as f64 / self.warmup_steps.max(1) as f64;
        }
        match self.shape {
            LrSchedulerType::Constant | LrSchedulerType::ConstantWithWarmup => 1.0,
            LrSchedulerType::Linear => self.linear(step),
            LrSchedulerType::Cosine => {
                (0.5 * (1.0 + (PI * 0.5 * 2.0 * self.progress(step)).cos())).max(0.0)
            }
            LrSchedulerType::CosineWithRestarts => self.cosine_with_restarts(step),
            LrSchedulerType::Polynomial => self.polynomial(step),
            LrSchedulerType::InverseSqrt => self.inverse_sqrt(step),
        }
    }

    /// The share of the steps after warm-up that lies behind `step`; 1 and more past the end.
    fn progress(&self, step: Step) -> f64 {
        let after_warmup = (step.0 - self.warmup_steps) as f64;
        after_warmup / self.decay_steps().max(1) as f64
    }

    fn decay_steps(&self) -> u64 {
        self.total_steps.saturating_sub(self.warmup_steps)
    }

    fn linear(&self, step: Step) -> f64 {
        self.total_steps.saturating_sub(step.0) as f64 / self.decay_steps().max(1) as f64
    }

    fn cosine_with_restarts(&self, step: Step) -> f64 {
        let progress = self.progress(step);
        if progress >= 1.0 {
            return 0.0;
        }
        (0.5 * (1.0 + (PI * (self.cycles * progress % 1.0)).cos())).max(0.0)
    }

    fn polynomial(&self, step: Step) -> f64 {
        if step.0 >= self.total_steps {
            return POLYNOMIAL_END / self.peak;
        }
        let remaining = 1.0 - self.progress(step);
        ((self.peak - POLYNOMIAL_END) * remaining + POLYNOMIAL_END) / self.peak
    }

    fn inverse_sqrt(&self, step: Step) -> f64 {
        let timescale = match self.warmup_steps {
            0 => INVERSE_SQRT_TIMESCALE,
            warmup_steps => warmup_steps as f64,
        };
        let shift = timescale - self.warmup_steps as f64;
        1.0 / ((step.0 as f64 + shift) / timescale).sqrt()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schedule(shape: LrSchedulerType, warmup_steps: u64, total_steps: u64) -> LrSchedule {
        let training = TrainingSection {
            lr_scheduler_type: shape,
            warmup_steps,
            ..TrainingSection::default()
        };
        LrSchedule::new(&training, total_steps)
    }

    #[test]
    fn five_steps_of_warmup_start_from_zero() {
        let schedule = schedule(LrSchedulerType::Linear, 5, 60);
        let rates = [0, 1, 2, 3, 4, 5].map(|step| schedule.at(Step(step)));
        let logged = [0.0, 4e-5, 8e-5, 1.2e-4, 1.6e-4, 2e-4];
        for (rate, logged) in rates.iter().zip(logged) {
            assert!((rate - logged).abs() < 1e-18, "{rates:?}");
        }
    }

    #[test]
    fn a_ratio_warms_up_over_its_share_rounded_up_and_steps_win() {
        let by_ratio = TrainingSection {
            warmup_steps: 0,
            warmup_ratio: 0.1,
            ..TrainingSection::default()
        };
        assert_eq!(LrSchedule::new(&by_ratio, 11).multiplier(Step(1)), 0.5);
        let both = TrainingSection {
            warmup_steps: 4,
            ..by_ratio
        };
        assert_eq!(LrSchedule::new(&both, 11).multiplier(Step(1)), 0.25);
    }

    /// The file is written by `tests/fixtures/golden/make_goldens.py` with `transformers.get_scheduler`.
    #[test]
    fn every_shape_agrees_with_transformers() {
        #[derive(serde::Deserialize)]
        struct Case {
            name: LrSchedulerType,
            peak: f64,
            warmup_steps: u64,
            total_steps: u64,
            num_cycles: u32,
            rates: Vec<f64>,
        }
        let path = concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/../tests/fixtures/golden/schedules.json"
        );
        let cases: Vec<Case> = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
        assert_eq!(cases.len(), 16);
        for case in cases {
            let training = TrainingSection {
                lr_scheduler_type: case.name,
                learning_rate: case.peak,
                warmup_steps: case.warmup_steps,
                lr_scheduler_num_cycles: case.num_cycles,
                ..TrainingSection::default()
            };
            let schedule = LrSchedule::new(&training, case.total_steps);
            for (rate, step) in case.rates.iter().zip(0..) {
                let off = (schedule.at(Step(step)) - rate).abs();
                assert!(
                    off <= 1e-12 * case.peak,
                    "{:?} step {step}: off by {off:e}",
                    case.name
                );
            }
        }
    }

    #[test]
    fn constant_has_no_warmup() {
        assert_eq!(
            schedule(LrSchedulerType::Constant, 5, 10).multiplier(Step(0)),
            1.0
        );
        assert_eq!(
            schedule(LrSchedulerType::ConstantWithWarmup, 5, 10).multiplier(Step(0)),
            0.0
        );
    }

    #[test]
    fn every_shape_is_finite_and_within_bounds_when_warmup_outlasts_the_job() {
        use LrSchedulerType as T;
        for shape in [
            T::Linear,
            T::Cosine,
            T::CosineWithRestarts,
            T::Polynomial,
            T::Constant,
            T::InverseSqrt,
        ] {
            for (warmup_steps, total_steps) in [(0, 1), (5, 3), (3, 3), (0, 0)] {
                let schedule = schedule(shape, warmup_steps, total_steps);
                for step in 0..12 {
                    let multiplier = schedule.multiplier(Step(step));
                    assert!(
                        (0.0..=1.0).contains(&multiplier),
                        "{shape:?} {warmup_steps} {total_steps} {step}"
                    );
                }
            }
        }
    }
}
