//! `trainer_state.json` and `trainer_stats.json`, with the keys and layout that Hugging Face's trainer writes.

use std::io;

use serde::Serialize;
use serde_json::{Map, Value, json};

use super::figures::rounded;
use super::metrics::StepRecord;

/// What the two files say beyond the steps themselves.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Summary {
    /// Steps of the whole run.
    pub(crate) max_steps: u64,
    /// Passes over the data that the recipe asks for.
    pub(crate) num_train_epochs: f64,
    /// Rows per micro-batch.
    pub(crate) train_batch_size: u32,
    /// Steps between log lines.
    pub(crate) logging_steps: u64,
    /// Steps between checkpoints.
    pub(crate) save_steps: u64,
    /// Parameters without the embeddings: what a token costs.
    pub(crate) non_embedding_parameters: u64,
    /// Wall time of the training loop, without what an earlier run took.
    pub(crate) train_runtime: f64,
    /// Steps that an earlier run took.
    pub(crate) resumed_steps: u64,
}

impl Summary {
    /// The final metrics over `records`.
    fn metrics(&self, records: &[StepRecord]) -> Map<String, Value> {
        let own = || {
            records
                .iter()
                .filter(|record| record.step > self.resumed_steps)
        };
        let rows: u64 = own().map(|record| record.rows).sum();
        let steps = own().count() as f64;
        let per_second = |count: f64| {
            if self.train_runtime > 0.0 {
                rounded(count / self.train_runtime, 3)
            } else {
                0.0
            }
        };
        let mut metrics = Map::new();
        metrics.insert(
            "train_runtime".into(),
            rounded(self.train_runtime, 4).into(),
        );
        metrics.insert(
            "train_samples_per_second".into(),
            per_second(rows as f64).into(),
        );
        metrics.insert("train_steps_per_second".into(), per_second(steps).into());
        metrics.insert("total_flos".into(), self.total_flos(records).into());
        metrics.insert("train_loss".into(), mean_loss(records).into());
        metrics.insert("epoch".into(), last_epoch(records).into());
        metrics
    }

    /// Six floating-point operations per parameter and token, as the trainer counts them.
    fn total_flos(&self, records: &[StepRecord]) -> f64 {
        let tokens: u64 = records.iter().map(|record| record.tokens).sum();
        6.0 * self.non_embedding_parameters as f64 * tokens as f64
    }

    /// `trainer_state.json`: keys sorted, indent 2.
    pub(crate) fn state(&self, records: &[StepRecord]) -> io::Result<Vec<u8>> {
        let mut log_history = log_history(records, self.logging_steps);
        let mut last = self.metrics(records);
        last.insert("step".into(), records.len().into());
        log_history.push(Value::Object(last));
        let state = json!({
            "best_global_step": null,
            "best_metric": null,
            "best_model_checkpoint": null,
            "epoch": last_epoch(records),
            "eval_steps": 500,
            "global_step": records.len(),
            "is_hyper_param_search": false,
            "is_local_process_zero": true,
            "is_world_process_zero": true,
            "log_history": log_history,
            "logging_steps": self.logging_steps,
            "max_steps": self.max_steps,
            "num_input_tokens_seen": records.iter().map(|record| record.tokens).sum::<u64>(),
            "num_train_epochs": self.num_train_epochs.ceil() as u64,
            "save_steps": self.save_steps,
            "stateful_callbacks": {},
            "total_flos": self.total_flos(records),
            "train_batch_size": self.train_batch_size,
            "trial_name": null,
            "trial_params": null,
        });
        indented(&state, b"  ")
    }

    /// `trainer_stats.json`: `[global_step, training_loss, metrics]`, indent 4.
    pub(crate) fn stats(&self, records: &[StepRecord]) -> io::Result<Vec<u8>> {
        let stats = json!([records.len(), mean_loss(records), self.metrics(records)]);
        indented(&stats, b"    ")
    }
}

/// One entry every `logging_steps` steps, with the mean loss since the entry before.
fn log_history(records: &[StepRecord], logging_steps: u64) -> Vec<Value> {
    let every = usize::try_from(logging_steps.max(1)).unwrap_or(usize::MAX);
    records
        .chunks_exact(every)
        .filter_map(|chunk| chunk.last().map(|last| (chunk, last)))
        .map(|(chunk, last)| {
            json!({
                "epoch": last.epoch,
                "grad_norm": last.grad_norm,
                "learning_rate": last.learning_rate,
                "loss": mean_loss(chunk),
                "step": last.step,
            })
        })
        .collect()
}

fn mean_loss(records: &[StepRecord]) -> f64 {
    records.iter().map(|record| record.loss).sum::<f64>() / records.len().max(1) as f64
}

fn last_epoch(records: &[StepRecord]) -> f64 {
    records.last().map_or(0.0, |record| record.epoch)
}

/// JSON with the given indent and a final newline.
pub(crate) fn indented(value: &impl Serialize, indent: &[u8]) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let formatter = serde_json::ser::PrettyFormatter::with_indent(indent);
    let mut serializer = serde_json::Serializer::with_formatter(&mut bytes, formatter);
    value.serialize(&mut serializer)?;
    bytes.push(b'\n');
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::super::metrics::sample;
    use super::*;

    fn summary() -> Summary {
        Summary {
            max_steps: 4,
            num_train_epochs: 1.0,
            train_batch_size: 2,
            logging_steps: 2,
            save_steps: 50,
            non_embedding_parameters: 1000,
            train_runtime: 8.0,
            resumed_steps: 0,
        }
    }

    fn records() -> Vec<StepRecord> {
        [4.0, 3.0, 2.0, 1.0]
            .iter()
            .zip(1..)
            .map(|(loss, step)| sample(step, *loss))
            .collect()
    }

    #[test]
    fn stats_are_the_three_element_array_that_json_dump_makes_of_the_train_output() {
        let bytes = summary().stats(&records()).unwrap();

        assert!(bytes.starts_with(b"[\n    4,\n    2.5,\n    {\n        \"train_runtime\": 8.0,"));
        let stats: Value = serde_json::from_slice(&bytes).unwrap();
        assert_eq!(stats[2]["train_samples_per_second"], 4.0);
        assert_eq!(stats[2]["train_steps_per_second"], 0.5);
        assert_eq!(stats[2]["total_flos"], 6.0 * 1000.0 * 3200.0);
        assert_eq!(stats[2]["epoch"], 1.0);
    }

    #[test]
    fn the_speed_of_a_resumed_run_counts_only_its_own_steps() {
        let resumed = Summary {
            resumed_steps: 2,
            ..summary()
        };
        let stats: Value = serde_json::from_slice(&resumed.stats(&records()).unwrap()).unwrap();
        assert_eq!(stats[0], 4);
        assert_eq!(stats[2]["train_steps_per_second"], 0.25);
        assert_eq!(stats[2]["train_loss"], 2.5);
    }

    #[test]
    fn state_logs_the_mean_loss_of_each_window_and_ends_with_the_metrics() {
        let state: Value = serde_json::from_slice(&summary().state(&records()).unwrap()).unwrap();

        let history = state["log_history"].as_array().unwrap();
        assert_eq!(history.len(), 3);
        assert_eq!(history[0]["loss"], 3.5);
        assert_eq!(history[0]["step"], 2);
        assert_eq!(history[1]["loss"], 1.5);
        assert_eq!(history[2]["train_loss"], 2.5);
        let keys: Vec<&String> = state.as_object().unwrap().keys().collect();
        assert!(keys.is_sorted(), "{keys:?}");
    }
}
