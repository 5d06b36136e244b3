//! Frozen matrices in few bits: NF4 with double quantization, as bitsandbytes stores it, and the blocks of GGUF files.
//!
//! An NF4 matrix is flattened row by row and cut into blocks of 64. A block is its largest magnitude and 64 four-bit codes
//! into [`nf4::TABLE`]. The magnitudes are quantized once more, to bytes of the signed dynamic map
//! ([`dynamic_map::signed`]) in groups of 256. Source: QLoRA (2305.14314) §3; bitsandbytes `functional.py`.

mod absmax;
mod blocks;
pub mod dynamic_map;
mod error;
pub mod nf4;
#[cfg(target_arch = "x86_64")]
mod q8_dot;

pub use absmax::Absmax;
pub use blocks::BlockMatrix;
pub use error::Nf4Error;
pub use nf4::{Nf4Matrix, StoredDtype};
