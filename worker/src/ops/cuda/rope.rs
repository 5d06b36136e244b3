//! Rotary position embedding.

use cudarc::driver::{CudaSlice, PushKernelArg};

use super::{CudaKernels, Halves, blocks, count, push_halves, whole_vectors};
use crate::cuda::GpuError;
use crate::ops::{Rotation, Turn};

impl CudaKernels {
    /// Rotates queries and keys to their positions, in place, in one launch.
    ///
    /// # Errors
    /// The driver's.
    ///
    /// # Panics
    /// If an argument is too small or half a head is not whole vectors.
    pub fn rope(
        &self,
        rotation: Rotation<'_, CudaSlice<f32>>,
        (heads, kv_heads): (usize, usize),
        q_the: &mut Halves,
        k_tke: &mut Halves,
    ) -> Result<(), GpuError> {
        let (tokens, head_dim) = (rotation.tokens, rotation.head_dim);
        let half = head_dim / 2;
        whole_vectors(half);
        assert!(rotation.cos.len() >= tokens * half && rotation.sin.len() >= tokens * half);
        q_the.check("queries", tokens, heads * head_dim);
        k_tke.check("keys", tokens, kv_heads * head_dim);
        let direction = match rotation.turn {
            Turn::Forward => 1.0_f32,
            Turn::Backward => -1.0,
        };
        let items = (heads + kv_heads) * half / 8;
        let (heads, kv_heads, half) = (count(heads), count(kv_heads), count(half));
        let mut launch = self.gpu.stream().launch_builder(&self.rope);
        push_halves(&mut launch, q_the);
        push_halves(&mut launch, k_tke);
        launch.arg(rotation.cos).arg(rotation.sin);
        launch.arg(&heads).arg(&kv_heads).arg(&half).arg(&direction);
        let threads = count(items.next_multiple_of(32).min(512));
        // SAFETY: the arguments are the kernel's, and the lengths were checked above.
        unsafe { launch.launch(blocks(count(tokens), threads)) }
            .map(drop)
            .map_err(self.during("rope"))
    }
}
