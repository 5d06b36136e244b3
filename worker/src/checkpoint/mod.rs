//! Writes and reads the checkpoint folder: PEFT adapter, optimizer state, position.
//!
//! | file | holds |
//! | --- | --- |
//! | `adapter_model.safetensors`, `adapter_config.json` | the adapter, as PEFT loads it |
//! | `optimizer.safetensors` | both moments of every matrix, codes and scales where they have 8 bits |
//! | `state.json` | how many updates were made and how many steps skipped, and the loss scale where there is one |
//! | `MANIFEST.json` | sizes and digests, written last; [`weft_common::checkpoint`] owns it |
//!
//! Nothing in the first four depends on time, host or number of workers.

mod adapter_config;
mod adapter_file;
mod error;
mod folder;
mod moments_file;
mod progress_file;
mod sent;
mod shared;
mod state;
mod tensors;
#[cfg(test)]
mod testing;

pub use adapter_config::{ADAPTER_CONFIG_FILE, adapter_config};
pub use adapter_file::{ADAPTER_MODEL_FILE, adapter_model, read_adapter_model};
pub use error::CheckpointError;
pub use folder::{read, write};
pub use sent::{StateHeader, take_over};
pub use shared::SharedStore;
pub(crate) use state::StateHash;
pub use state::{Progress, TrainState};
