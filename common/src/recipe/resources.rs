//! `resources:` what to train with. Only `workers.max` touches the result: it bounds how finely a step is cut.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::byte_size::ByteSize;

/// What to train with.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ResourcesSection {
    /// How many workers the job may have.
    pub workers: WorkerRange,
    /// The most that a worker may take of its device's memory, as in `6.2GiB`; where unset, what is free.
    pub memory_limit: Option<String>,
}

impl ResourcesSection {
    /// `memory_limit` in bytes. A recipe that was validated holds no other text.
    #[must_use]
    pub fn memory_limit_bytes(&self) -> Option<u64> {
        let limit: ByteSize = self.memory_limit.as_ref()?.parse().ok()?;
        Some(limit.0)
    }
}

/// Bounds on the number of workers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct WorkerRange {
    /// Below this many the job waits.
    #[schemars(range(min = 1))]
    pub min: u32,
    /// Each step is cut into at least this many slots where its rows allow.
    /// Unset: the rows of a step over `per_device_train_batch_size`, so that the slots are the recipe's own
    /// micro-batches.
    #[schemars(range(min = 1))]
    pub max: Option<u32>,
}

impl Default for WorkerRange {
    fn default() -> Self {
        Self { min: 1, max: None }
    }
}

#[cfg(test)]
mod tests {
    use crate::recipe::{Format, Recipe, RecipeErrors};

    fn parsed(limit: &str) -> Result<Recipe, RecipeErrors> {
        let text = format!(
            "model: {{base_model: m}}\ndatasets: [{{path: d.csv}}]\nresources: {{memory_limit: {limit}}}\n"
        );
        Recipe::parse(&text, Format::Yaml)
    }

    #[test]
    fn a_memory_limit_has_a_unit_or_is_bytes() {
        let bytes = |limit| parsed(limit).unwrap().resources.memory_limit_bytes();
        assert_eq!(bytes("6.2GiB"), Some(6_657_199_308));
        assert_eq!(bytes("6657199308"), Some(6_657_199_308));
        assert_eq!(bytes(""), None);
        let refused = parsed("plenty").unwrap_err().to_string();
        assert!(
            refused.contains("resources.memory_limit") && refused.contains("6.2GiB"),
            "{refused}"
        );
    }
}
