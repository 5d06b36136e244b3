//! All rows over all examiners.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use weft_common::data::Row;

use super::{EvalError, ExactLoss, Examiner, Question, Subject};
use crate::generate::GenerateOptions;

/// Several examiners of the same model, each with threads of its own.
pub struct Examiners {
    examiners: Vec<(Box<dyn Examiner>, rayon::ThreadPool)>,
}

/// Hears how many rows are done; called from many threads.
pub type Progress<'a> = &'a (dyn Fn(usize) + Sync);

impl Examiners {
    /// Gives each examiner `threads` compute threads.
    ///
    /// # Errors
    /// The system starts no more threads.
    pub fn new(examiners: Vec<Box<dyn Examiner>>, threads: usize) -> Result<Self, EvalError> {
        let with_pool = |examiner| {
            let pool = rayon::ThreadPoolBuilder::new()
                .num_threads(threads)
                .build()
                .map_err(|error| EvalError::Threads(error.to_string()))?;
            Ok((examiner, pool))
        };
        let examiners: Result<_, EvalError> = examiners.into_iter().map(with_pool).collect();
        Ok(Self {
            examiners: examiners?,
        })
    }

    /// How many.
    #[must_use]
    pub fn len(&self) -> usize {
        self.examiners.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.examiners.is_empty()
    }

    /// Loss over `count` rows. The same bits for any number of examiners.
    ///
    /// # Errors
    /// The first row's that could not be evaluated.
    pub fn loss(
        &mut self,
        count: usize,
        row: &(dyn Fn(usize) -> Row + Sync),
        subject: Subject,
        progress: Progress<'_>,
    ) -> Result<ExactLoss, EvalError> {
        let losses = self.each(count, progress, &|examiner, index| {
            examiner.loss(&row(index), subject).map(ExactLoss::of_row)
        })?;
        Ok(losses
            .into_iter()
            .fold(ExactLoss::default(), ExactLoss::plus))
    }

    /// Answers to all questions, in their order. The same for any number of examiners.
    ///
    /// # Errors
    /// The first question's that could not be asked.
    pub fn answers(
        &mut self,
        questions: &[Question],
        options: &GenerateOptions,
        subject: Subject,
        progress: Progress<'_>,
    ) -> Result<Vec<Vec<u32>>, EvalError> {
        self.each(questions.len(), progress, &|examiner, index| {
            examiner.answer(&questions[index].prompt, options, subject)
        })
    }

    /// Each of `count` things done once by whoever is free; results in order. The first error ends everybody's work.
    fn each<T: Send>(
        &mut self,
        count: usize,
        progress: Progress<'_>,
        work: &(dyn Fn(&mut dyn Examiner, usize) -> Result<T, EvalError> + Sync),
    ) -> Result<Vec<T>, EvalError> {
        let (next, done) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let failed = AtomicBool::new(false);
        let results = Mutex::new(Vec::with_capacity(count));
        let keep = |index, result: Result<T, EvalError>| {
            if result.is_err() {
                failed.store(true, Ordering::Relaxed);
            }
            let mut results = results.lock().unwrap_or_else(PoisonError::into_inner);
            results.push((index, result));
        };
        std::thread::scope(|scope| {
            for (examiner, pool) in &mut self.examiners {
                let (next, done, failed, keep) = (&next, &done, &failed, &keep);
                scope.spawn(move || {
                    pool.install(|| {
                        while !failed.load(Ordering::Relaxed) {
                            let index = next.fetch_add(1, Ordering::Relaxed);
                            if index >= count {
                                break;
                            }
                            keep(index, work(examiner.as_mut(), index));
                            progress(done.fetch_add(1, Ordering::Relaxed) + 1);
                        }
                    });
                });
            }
        });
        let mut results = results.into_inner().unwrap_or_else(PoisonError::into_inner);
        results.sort_by_key(|(index, _)| *index);
        results.into_iter().map(|(_, result)| result).collect()
    }
}
