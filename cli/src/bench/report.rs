//! What `weft bench step` says to people.

use std::fmt;

use weft_worker::bench::{Spread, StepReport};

use crate::output::figures::{gib, grouped};

/// A report in lines.
pub(super) struct Text<'a>(pub(super) &'a StepReport);

impl fmt::Display for Text<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.work(f)?;
        self.speed(f)?;
        self.memory(f)?;
        self.floor(f)
    }
}

impl Text<'_> {
    fn work(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let report = self.0;
        let settings = &report.settings;
        writeln!(
            f,
            "model      {}, {} parameters, {} trained (rank {})",
            report.model,
            grouped(report.parameters),
            grouped(report.adapter_parameters),
            settings.rank
        )?;
        writeln!(f, "device     {}", report.device)?;
        writeln!(
            f,
            "step       {} x {} rows of {} tokens, {} in all; {} of {} layers keep their activations",
            settings.micro_batch,
            settings.accumulation,
            grouped(settings.sequence_length.into()),
            grouped(report.tokens_per_step),
            report.kept_layers,
            report.layers
        )
    }

    fn speed(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let report = self.0;
        let Spread { median, min, max } = report.tokens_per_second;
        writeln!(
            f,
            "speed      {} tokens/s ({} to {}), {:.4} s a step, median of {}",
            rate(median),
            rate(min),
            rate(max),
            report.step_seconds.median,
            report.settings.steps
        )?;
        writeln!(
            f,
            "loss       {:.4} at first, {:.4} at last (uniform {:.4}), gradient norm {:.4}",
            report.first_loss, report.last_loss, report.uniform_loss, report.grad_norm
        )?;
        if report.skipped_steps > 0 {
            let skipped = report.skipped_steps;
            writeln!(
                f,
                "           {skipped} steps without an update: the gradient was not finite"
            )?;
        }
        writeln!(
            f,
            "setup      weights {:.2} s, trainer {:.2} s",
            report.weights_seconds, report.trainer_seconds
        )
    }

    fn memory(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (report, memory) = (self.0, &self.0.memory);
        writeln!(
            f,
            "memory     {:.3} GiB by own accounting: base {:.3}, adapter {:.3}, optimizer {:.3}, sums {:.3}, \
             activations {:.3}",
            gib(memory.total_bytes),
            gib(memory.base_bytes),
            gib(memory.adapter_bytes),
            gib(memory.optimizer_bytes),
            gib(memory.accumulator_bytes),
            gib(memory.activation_bytes)
        )?;
        if let Some(bytes) = report.device_memory_bytes {
            writeln!(
                f,
                "           {:.3} GiB in use by the driver's count",
                gib(bytes)
            )?;
        }
        writeln!(
            f,
            "           {:.3} GiB of host memory at its highest",
            gib(report.host_peak_bytes)
        )
    }

    fn floor(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (report, floor) = (self.0, &self.0.floor_seconds);
        let flops = &report.flops;
        writeln!(
            f,
            "work       {:.4} TFLOP a step: forward {:.4}, backward {:.4}, again {:.4}, head {:.4}, attention {:.4}, \
             adapters {:.4}; {:.3} GB beside",
            flops.total / 1e12,
            flops.forward / 1e12,
            flops.input_gradients / 1e12,
            flops.recompute / 1e12,
            flops.head / 1e12,
            flops.attention / 1e12,
            flops.adapters / 1e12,
            report.bytes.total / 1e9
        )?;
        writeln!(
            f,
            "floor      {:.4} s a step: products {:.4}, attention {:.4}, adapters {:.4}, bytes {:.4}, at {:.3} TFLOP/s \
             and {:.1} GB/s as measured here",
            floor.total,
            floor.products,
            floor.attention,
            floor.adapters,
            floor.bytes,
            report.rates.gemm_flops / 1e12,
            report.rates.copy_bytes / 1e9
        )?;
        let parts = report.seconds_by_class.iter();
        let parts: Vec<String> = parts
            .map(|(class, seconds)| format!("{class} {seconds:.4}"))
            .collect();
        if !parts.is_empty() {
            writeln!(f, "parts      {} s", parts.join(", "))?;
        }
        write!(
            f,
            "share      {:.1} % of the floor's speed",
            100.0 * report.floor_share
        )
    }
}

fn rate(tokens_per_second: f64) -> String {
    grouped(tokens_per_second.round() as u64)
}
