//! Clipping and AdamW in one launch.

mod host;
mod layout;

use cudarc::driver::{CudaSlice, DevicePtrMut, DeviceRepr, PushKernelArg};

use super::{CudaKernels, Halves, blocks, count, resident_blocks};
use crate::cuda::GpuError;
use crate::quant::dynamic_map;
use crate::train::optimizer::{AdamWSettings, Coefficients, UpdateScalars};

use layout::Layout;

/// Elements that share a scale: one warp's work.
const ITEM: usize = 256;
/// Elements whose squares are summed together.
const NORM_CHUNK: usize = 4096;
/// Warps of a block.
const WARPS: usize = 8;

/// How a matrix keeps its moments.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MomentKind {
    /// 8-bit codes with a scale for each 256.
    Blocks,
    /// f32, updated as `torch.optim.AdamW` does.
    LikeTorch,
    /// f32, updated as bitsandbytes does with small matrices.
    LikeBitsandbytes,
}

/// One matrix of the adapter, as the kernel sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub struct DeviceTensor {
    start: u64,
    state: u64,
    len: u32,
    first_item: u32,
    scale: u32,
    kind: u32,
}

// SAFETY: plain integers, laid out as the kernel's struct.
unsafe impl DeviceRepr for DeviceTensor {}

/// What one update multiplies with, as the kernel sees it.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
struct Scalars {
    beta1: f32,
    beta2: f32,
    gain1: f32,
    gain2: f32,
    epsilon: f32,
    root_correction2: f32,
    step_size: f32,
    keep: f32,
    max_norm: f64,
}

// SAFETY: plain numbers, laid out as the kernel's struct.
unsafe impl DeviceRepr for Scalars {}

/// Pointers to the state, as the kernel sees them.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
struct StatePointers([u64; 6]);

// SAFETY: six device pointers, laid out as the kernel's struct.
unsafe impl DeviceRepr for StatePointers {}

/// AdamW's state on the device.
#[derive(Debug)]
pub struct DeviceAdamW {
    settings: AdamWSettings,
    updates: u64,
    len: usize,
    items: usize,
    tensors: CudaSlice<DeviceTensor>,
    /// The same on the host.
    layout: Vec<DeviceTensor>,
    maps: [CudaSlice<f32>; 2],
    codes: [CudaSlice<u8>; 2],
    absmax: [CudaSlice<f32>; 2],
    moments: [CudaSlice<f32>; 2],
    chunk_sums: CudaSlice<f64>,
    norm: CudaSlice<f64>,
    arrived: CudaSlice<u32>,
}

impl DeviceAdamW {
    /// How many updates were made; bias correction depends on it.
    #[must_use]
    pub fn updates(&self) -> u64 {
        self.updates
    }

    /// Codes and scales of the first or second moment, for matrices with 8-bit state.
    #[must_use]
    pub fn block_moments(&self, moment: usize) -> (&CudaSlice<u8>, &CudaSlice<f32>) {
        (&self.codes[moment], &self.absmax[moment])
    }

    /// The first or second moment of matrices with f32 state.
    #[must_use]
    pub fn float_moments(&self, moment: usize) -> &CudaSlice<f32> {
        &self.moments[moment]
    }

    /// Euclidean norm of the last update's gradients, before clipping.
    #[must_use]
    pub fn norm(&self) -> &CudaSlice<f64> {
        &self.norm
    }
}

impl CudaKernels {
    /// State for matrices that lie one after another, all moments 0.
    ///
    /// # Errors
    /// The driver's.
    ///
    /// # Panics
    /// If a length is no multiple of 4.
    pub fn new_adamw(
        &self,
        settings: AdamWSettings,
        matrices: &[(usize, MomentKind)],
    ) -> Result<DeviceAdamW, GpuError> {
        let failed = self.during("making room for the optimizer");
        let stream = self.gpu.stream();
        let layout = Layout::new(matrices);
        let bytes = || stream.alloc_zeros(layout.codes.max(1)).map_err(&failed);
        let floats = |len: usize| stream.alloc_zeros::<f32>(len.max(1)).map_err(&failed);
        let map = |map: &[f32; 256]| stream.clone_htod(map.as_slice()).map_err(&failed);
        Ok(DeviceAdamW {
            settings,
            updates: 0,
            len: layout.len,
            items: layout.items,
            tensors: stream.clone_htod(&layout.tensors).map_err(&failed)?,
            layout: layout.tensors.clone(),
            maps: [map(dynamic_map::signed())?, map(dynamic_map::unsigned())?],
            codes: [bytes()?, bytes()?],
            absmax: [floats(layout.scales)?, floats(layout.scales)?],
            moments: [floats(layout.floats)?, floats(layout.floats)?],
            chunk_sums: stream
                .alloc_zeros(layout.len.div_ceil(NORM_CHUNK).max(1))
                .map_err(&failed)?,
            norm: stream.alloc_zeros(1).map_err(&failed)?,
            arrived: stream.alloc_zeros(1).map_err(&failed)?,
        })
    }

    /// One update: the norm of `sums` (fixed point), its clipping to `max_norm` (0: none), then AdamW on `params`, and
    /// `rounded = params`. The host waits for nothing.
    ///
    /// # Errors
    /// The driver's.
    ///
    /// # Panics
    /// If a buffer has another length than the matrices together, or `rounded` is not packed.
    pub fn clip_and_adamw(
        &self,
        state: &mut DeviceAdamW,
        (learning_rate, max_norm): (f64, f64),
        sums: &CudaSlice<i64>,
        params: &mut CudaSlice<f32>,
        rounded: &mut Halves,
    ) -> Result<(), GpuError> {
        assert!(sums.len() == state.len && params.len() == state.len);
        assert!(rounded.is_packed() && rounded.rows() * rounded.width() == state.len);
        let rounded = rounded.address();
        let failed = self.during("clip_and_adamw");
        let stream = self.gpu.stream();
        state.updates += 1;
        let scalars = state.scalars(learning_rate, max_norm);
        stream.memset_zeros(&mut state.arrived).map_err(&failed)?;
        let pointers = state.pointers(stream);
        let (len, items) = (state.len as u64, count(state.items));
        let tensors = count(state.tensors.len());
        let grid = self.resident_blocks(state.items)?;
        let mut launch = stream.launch_builder(&self.clip_and_adamw);
        launch.arg(sums).arg(&len).arg(&state.tensors).arg(&tensors);
        launch
            .arg(&items)
            .arg(&scalars)
            .arg(&state.maps[0])
            .arg(&state.maps[1]);
        launch.arg(&pointers).arg(params).arg(&rounded);
        launch
            .arg(&mut state.chunk_sums)
            .arg(&mut state.norm)
            .arg(&mut state.arrived);
        // SAFETY: the arguments are the kernel's; the table of matrices fits the state, which `new_adamw` made together
        // with it; the lengths were checked above; all blocks are resident at once.
        unsafe { launch.launch_cooperative(blocks(grid, 256)) }
            .map(drop)
            .map_err(failed)
    }

    /// Blocks that are resident at once, no more than there is work for.
    fn resident_blocks(&self, items: usize) -> Result<u32, GpuError> {
        let resident = resident_blocks(&self.gpu, &self.clip_and_adamw)?;
        Ok(resident.min(count(items.div_ceil(WARPS))).max(1))
    }
}

impl DeviceAdamW {
    fn scalars(&self, learning_rate: f64, max_norm: f64) -> Scalars {
        let scalars = UpdateScalars {
            learning_rate,
            clip: 1.0,
        };
        let c = Coefficients::new(&self.settings, self.updates, scalars);
        Scalars {
            beta1: c.beta1,
            beta2: c.beta2,
            gain1: c.gain1,
            gain2: c.gain2,
            epsilon: c.epsilon,
            root_correction2: c.root_correction2,
            step_size: c.step_size,
            keep: c.keep,
            max_norm,
        }
    }

    fn pointers(&mut self, stream: &std::sync::Arc<cudarc::driver::CudaStream>) -> StatePointers {
        let [codes1, codes2] = &mut self.codes;
        let [absmax1, absmax2] = &mut self.absmax;
        let [first, second] = &mut self.moments;
        StatePointers([
            codes1.device_ptr_mut(stream).0,
            codes2.device_ptr_mut(stream).0,
            absmax1.device_ptr_mut(stream).0,
            absmax2.device_ptr_mut(stream).0,
            first.device_ptr_mut(stream).0,
            second.device_ptr_mut(stream).0,
        ])
    }
}
