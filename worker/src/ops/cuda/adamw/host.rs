//! The state to and from the host, and what of it is digested.

use std::ops::Range;

use cudarc::driver::{CudaSlice, DeviceRepr};
use weft_common::recipe;

use super::super::CudaKernels;
use super::super::digest::DeviceBytes;
use super::{DeviceAdamW, DeviceTensor, ITEM, MomentKind};
use crate::cuda::GpuError;
use crate::train::optimizer::{AdamW, AdamWSettings, BlockMoments, Moments, TensorState};

/// The state of all matrices on the host, first and second moments, as it lies on the device.
#[derive(Debug, Default)]
struct Flat {
    codes: [Vec<u8>; 2],
    absmax: [Vec<f32>; 2],
    moments: [Vec<f32>; 2],
}

impl CudaKernels {
    /// The optimizer on the device, where the host's stands.
    ///
    /// # Errors
    /// The driver's.
    ///
    /// # Panics
    /// If a matrix has a number of elements that is no multiple of 4.
    pub fn upload_adamw(&self, optimizer: &AdamW) -> Result<DeviceAdamW, GpuError> {
        let settings = *optimizer.settings();
        let tensors = optimizer.tensors();
        let matrices: Vec<_> = tensors
            .iter()
            .map(|tensor| (tensor.range.len(), kind(&settings, &tensor.moments)))
            .collect();
        let mut state = self.new_adamw(settings, &matrices)?;
        state.updates = optimizer.updates();
        let mut flat = Flat::default();
        tensors.iter().for_each(|tensor| flat.push(&tensor.moments));
        for moment in [0, 1] {
            self.replace(&mut state.codes[moment], &flat.codes[moment])?;
            self.replace(&mut state.absmax[moment], &flat.absmax[moment])?;
            self.replace(&mut state.moments[moment], &flat.moments[moment])?;
        }
        Ok(state)
    }

    /// Makes the host's optimizer stand where the device's does. Waits for the device.
    ///
    /// # Errors
    /// The driver's.
    ///
    /// # Panics
    /// If the host's is of other matrices or settings.
    pub fn download_adamw(&self, state: &DeviceAdamW, into: &mut AdamW) -> Result<(), GpuError> {
        assert_eq!(
            *into.settings(),
            state.settings,
            "settings of the optimizer"
        );
        assert_eq!(into.tensors().len(), state.layout.len(), "its matrices");
        let read_all = |arrays: &[CudaSlice<f32>; 2]| {
            let [first, second] = arrays;
            Ok::<_, GpuError>([self.read_array(first)?, self.read_array(second)?])
        };
        let [codes1, codes2] = &state.codes;
        let flat = Flat {
            codes: [self.read_array(codes1)?, self.read_array(codes2)?],
            absmax: read_all(&state.absmax)?,
            moments: read_all(&state.moments)?,
        };
        let failed = self.during("reading the optimizer's state");
        self.gpu.stream().synchronize().map_err(failed)?;
        let tensors = into.tensors().iter().zip(&state.layout);
        let tensors = tensors.map(|(tensor, lies)| {
            assert_eq!(
                kind(&state.settings, &tensor.moments),
                lies.kind(),
                "how {} keeps its moments",
                tensor.name
            );
            assert_eq!(tensor.range.len(), lies.len as usize, "{}", tensor.name);
            TensorState {
                name: tensor.name.clone(),
                range: tensor.range.clone(),
                moments: flat.moments_of(lies),
            }
        });
        let tensors = tensors.collect();
        into.restore(state.updates, tensors);
        Ok(())
    }

    /// Euclidean norm of the last update's gradients, before clipping. Waits for the device.
    ///
    /// # Errors
    /// The driver's.
    pub fn grad_norm(&self, state: &DeviceAdamW) -> Result<f64, GpuError> {
        let norm = self.read_array(&state.norm)?;
        let failed = self.during("reading the gradient's norm");
        self.gpu.stream().synchronize().map_err(failed)?;
        Ok(norm[0])
    }

    fn replace<T: DeviceRepr>(
        &self,
        array: &mut CudaSlice<T>,
        values: &[T],
    ) -> Result<(), GpuError> {
        if values.is_empty() {
            return Ok(());
        }
        let copied = self.gpu.stream().memcpy_htod(values, array);
        copied.map_err(self.during("uploading the optimizer's state"))
    }

    fn read_array<T: DeviceRepr>(&self, array: &CudaSlice<T>) -> Result<Vec<T>, GpuError> {
        let copied = self.gpu.stream().clone_dtoh(array);
        copied.map_err(self.during("reading the optimizer's state"))
    }
}

/// How a matrix keeps its moments on the device.
fn kind(settings: &AdamWSettings, moments: &Moments) -> MomentKind {
    match (moments, settings.kind) {
        (Moments::Blocks { .. }, _) => MomentKind::Blocks,
        (Moments::Fp32 { .. }, recipe::Optimizer::AdamW) => MomentKind::LikeTorch,
        (Moments::Fp32 { .. }, recipe::Optimizer::AdamW8bit) => MomentKind::LikeBitsandbytes,
    }
}

impl Flat {
    fn push(&mut self, moments: &Moments) {
        match moments {
            Moments::Fp32 { first, second } => {
                for (flat, moment) in self.moments.iter_mut().zip([first, second]) {
                    flat.extend_from_slice(moment);
                }
            }
            Moments::Blocks { first, second } => {
                for (moment, own) in [first, second].into_iter().enumerate() {
                    self.codes[moment].extend_from_slice(&own.codes);
                    self.absmax[moment].extend_from_slice(&own.absmax);
                }
            }
        }
    }

    fn moments_of(&self, tensor: &DeviceTensor) -> Moments {
        match tensor.kind() {
            MomentKind::Blocks => {
                let block = |moment: usize| BlockMoments {
                    codes: self.codes[moment][tensor.state_range()].to_vec(),
                    absmax: self.absmax[moment][tensor.scale_range()].to_vec(),
                };
                Moments::Blocks {
                    first: block(0),
                    second: block(1),
                }
            }
            MomentKind::LikeTorch | MomentKind::LikeBitsandbytes => {
                let [first, second] = &self.moments;
                Moments::Fp32 {
                    first: first[tensor.state_range()].to_vec(),
                    second: second[tensor.state_range()].to_vec(),
                }
            }
        }
    }
}

impl DeviceTensor {
    /// Its elements among the codes or the f32 moments.
    fn state_range(&self) -> Range<usize> {
        let start = usize::try_from(self.state).expect("device arrays are counted in usize");
        start..start + self.len as usize
    }

    /// Its scales.
    fn scale_range(&self) -> Range<usize> {
        let start = self.scale as usize;
        start..start + (self.len as usize).div_ceil(ITEM)
    }
}

impl DeviceAdamW {
    /// The arrays of all matrices in the order in which a state's digest takes them.
    pub(in super::super) fn arrays<'a>(&'a self, into: &mut Vec<DeviceBytes<'a>>) {
        for tensor in &self.layout {
            for moment in [0, 1] {
                match tensor.kind() {
                    MomentKind::Blocks => into.extend([
                        DeviceBytes::range(&self.codes[moment], tensor.state_range()),
                        DeviceBytes::range(&self.absmax[moment], tensor.scale_range()),
                    ]),
                    MomentKind::LikeTorch | MomentKind::LikeBitsandbytes => {
                        into.push(DeviceBytes::range(
                            &self.moments[moment],
                            tensor.state_range(),
                        ));
                    }
                }
            }
        }
    }
}
