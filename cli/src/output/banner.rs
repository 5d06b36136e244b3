//! The start banner: what is about to run, in the figures that users of notebooks know.

use std::fmt;

use super::figures::grouped;

/// Everything that the banner says.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Banner {
    /// The base model as the recipe names it.
    pub(crate) base_model: String,
    /// Prepared rows.
    pub(crate) examples: u64,
    /// Passes over the data.
    pub(crate) epochs: f64,
    /// Optimizer steps of the whole run.
    pub(crate) total_steps: u64,
    /// Steps done by an earlier run that this one continues.
    pub(crate) resumed_steps: u64,
    /// Rows per micro-batch.
    pub(crate) batch_size: u32,
    /// Micro-batches per step.
    pub(crate) accumulation_steps: u32,
    /// Rows per step.
    pub(crate) total_batch_size: u32,
    /// Parameters of the adapter.
    pub(crate) trainable_parameters: u64,
    /// Parameters of base and adapter.
    pub(crate) parameters: u64,
    /// Worker processes.
    pub(crate) workers: u32,
    /// The GPUs that they compute on; none on the CPU.
    pub(crate) gpus: Vec<String>,
    /// Threads of each worker.
    pub(crate) threads_per_worker: Option<usize>,
    /// What is kept from the forward pass.
    pub(crate) memory_plan: String,
    /// Where the results go.
    pub(crate) output: String,
}

impl fmt::Display for Banner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let share = self.trainable_parameters as f64 / self.parameters.max(1) as f64 * 100.0;
        writeln!(
            f,
            "weft {} | {}",
            env!("CARGO_PKG_VERSION"),
            self.base_model
        )?;
        writeln!(
            f,
            "  Num examples = {} | Num Epochs = {} | Total steps = {}",
            grouped(self.examples),
            self.epochs,
            grouped(self.total_steps)
        )?;
        writeln!(
            f,
            "  Batch size per device = {} | Gradient accumulation steps = {} | Total batch size = {}",
            self.batch_size, self.accumulation_steps, self.total_batch_size
        )?;
        writeln!(
            f,
            "  Trainable parameters = {} of {} ({share:.2}% trained)",
            grouped(self.trainable_parameters),
            grouped(self.parameters)
        )?;
        write!(f, "  Workers = {} on ", self.workers)?;
        match (self.gpus.as_slice(), self.threads_per_worker) {
            ([], None) => f.write_str("CPU")?,
            ([], Some(1)) => f.write_str("CPU (1 thread each)")?,
            ([], Some(threads)) => write!(f, "CPU ({threads} threads each)")?,
            (gpus, _) => f.write_str(&gpus.join(", "))?,
        }
        writeln!(f, " | Plan = {}", self.memory_plan)?;
        write!(f, "  Output = {}", self.output)?;
        if self.resumed_steps > 0 {
            write!(f, " | Resuming after step {}", grouped(self.resumed_steps))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_banner_has_the_figures_that_users_look_for() {
        let banner = Banner {
            base_model: "models/tiny".to_owned(),
            examples: 2000,
            epochs: 1.0,
            total_steps: 250,
            resumed_steps: 100,
            batch_size: 2,
            accumulation_steps: 4,
            total_batch_size: 8,
            trainable_parameters: 41_943_040,
            parameters: 8_072_204_288,
            workers: 2,
            gpus: Vec::new(),
            threads_per_worker: Some(1),
            memory_plan: "recompute".to_owned(),
            output: "outputs".to_owned(),
        };
        let text = banner.to_string();
        for figure in [
            "Num examples = 2,000",
            "Num Epochs = 1 ",
            "Total steps = 250",
            "Batch size per device = 2",
            "Gradient accumulation steps = 4",
            "Total batch size = 8",
            "Trainable parameters = 41,943,040 of 8,072,204,288 (0.52% trained)",
            "Workers = 2 on CPU (1 thread each)",
            "Plan = recompute",
            "Resuming after step 100",
        ] {
            assert!(text.contains(figure), "{figure} is missing in\n{text}");
        }
        let on_gpus = Banner {
            gpus: vec!["2 x NVIDIA H200".to_owned()],
            ..banner
        };
        let text = on_gpus.to_string();
        assert!(text.contains("Workers = 2 on 2 x NVIDIA H200 |"), "{text}");
    }
}
