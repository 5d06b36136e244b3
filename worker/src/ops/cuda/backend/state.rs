//! A job's adapter, optimizer and gradient sums on the GPU.

use std::ops::Range;

use cudarc::driver::CudaSlice;
use weft_common::id::Digest;
use weft_common::sum_digest::SumDigest;

use super::ops::Held;
use super::profile::OpClass;
use super::{Cuda, CudaSizes, Halves};
use crate::agent::EngineError;
use crate::checkpoint::{Progress, TrainState};
use crate::collective::{Cancel, Collective, GpuLink};
use crate::cuda::{GpuError, HalfFormat};
use crate::lora::Adapter;
use crate::model::Spec;
use crate::ops::DeviceError;
use crate::ops::cuda::{Array, DeviceAdamW, DeviceSums};
use crate::train::accumulator::ReducedSum;
use crate::train::optimizer::AdamW;
use crate::train::{Backend, StepScalars};

/// A job's adapter and optimizer.
#[derive(Debug)]
pub struct CudaState {
    /// Its numbers in 16 bits, as products read them.
    adapter: Adapter<Held<Halves>>,
    /// The same in f32, as the optimizer updates them.
    values: Array<f32>,
    adamw: DeviceAdamW,
    /// Names and settings of the optimizer's matrices; its moments are those of when the state was placed.
    optimizer: AdamW,
    progress: Progress,
}

/// The exact gradient sums of a step.
#[derive(Debug)]
pub struct CudaSums {
    pub(super) own: Held<DeviceSums>,
    pub(super) len: usize,
    /// The sum over all members, where there are others.
    pub(super) reduced: Option<DeviceSums>,
    /// Whether the last reduction was over other members too.
    of_all: bool,
}

impl Cuda {
    /// An adapter's numbers as products read them.
    pub fn upload_params(&self, values: &[f32]) -> Held<Halves> {
        self.hold(|| self.rounded(values))
    }

    fn rounded(&self, values: &[f32]) -> Result<Halves, GpuError> {
        let rounded = self.kernels.gpu().half().round(values);
        self.kernels.upload_halves(1, values.len(), &rounded)
    }

    fn place(&self, state: TrainState) -> Result<CudaState, GpuError> {
        let values = state.adapter.values();
        let rounded = self.rounded(values)?;
        let values = self.kernels.array(self.seldom(), values)?;
        Ok(CudaState {
            adapter: state.adapter.map(|_| rounded.into()),
            values,
            adamw: self.kernels.upload_adamw(&state.optimizer)?,
            optimizer: state.optimizer,
            progress: state.progress,
        })
    }

    fn fetch(&self, state: &CudaState) -> Result<TrainState, GpuError> {
        let stream = self.kernels.gpu().stream();
        let failed = self.kernels.during("reading the adapter");
        let values = stream.clone_dtoh(&*state.values).map_err(&failed)?;
        stream.synchronize().map_err(failed)?;
        let mut optimizer = state.optimizer.clone();
        self.kernels.download_adamw(&state.adamw, &mut optimizer)?;
        Ok(TrainState {
            adapter: state.adapter.map_ref(|_| values),
            optimizer,
            progress: state.progress,
        })
    }
}

impl Backend for Cuda {
    type State = CudaState;
    type Sums = CudaSums;

    fn scales_loss(&self) -> bool {
        self.kernels.gpu().half() == HalfFormat::F16
    }

    fn pass_budget(&self) -> u64 {
        CudaSizes::budget(self.free_bytes().unwrap_or(0))
    }

    fn free_bytes(&self) -> Option<u64> {
        self.end_loading();
        let context = self.kernels.gpu().stream().context();
        let asked = self.attempt(|| {
            let asked = context.mem_get_info();
            asked.map_err(self.kernels.during("asking for free memory"))
        });
        let (free, total) = asked?;
        let (free, total) = (free as u64, total as u64);
        let limit = self.options.memory_limit.unwrap_or(total).min(total);
        Some(free.saturating_sub(total - limit))
    }

    fn used_bytes(&self) -> Option<u64> {
        self.used_memory()
    }

    fn gpu_link(&self) -> Option<GpuLink> {
        Some(self.link.clone())
    }

    fn spend(&self, spec: &Spec, bytes: u64) -> u64 {
        let bytes = bytes.min(self.sizes().resident_bytes(spec));
        self.let_weights_stay(bytes);
        bytes
    }

    fn place_state(&self, state: TrainState) -> Result<CudaState, DeviceError> {
        match self.attempt(|| self.place(state)) {
            Some(placed) => Ok(placed),
            None => Err(self.failure()),
        }
    }

    fn fetch_state(&self, state: &CudaState) -> Result<TrainState, DeviceError> {
        match self.attempt(|| self.fetch(state)) {
            Some(fetched) => Ok(fetched),
            None => Err(self.failure()),
        }
    }

    fn adapter<'a>(&self, state: &'a CudaState) -> &'a Adapter<Held<Halves>> {
        &state.adapter
    }

    fn progress<'a>(&self, state: &'a mut CudaState) -> &'a mut Progress {
        &mut state.progress
    }

    fn state_digest(&self, state: &CudaState) -> Digest {
        let digest = self.attempt(|| {
            self.kernels
                .state_digest(state.progress, &state.values, &state.adamw)
        });
        digest.unwrap_or(Digest([0; 32]))
    }

    fn optimizer_bytes(&self, state: &CudaState) -> u64 {
        state.optimizer.state_bytes()
    }

    fn new_sums(&self, len: usize) -> CudaSums {
        CudaSums {
            own: self.hold(|| self.room_for_sums(len)),
            len,
            reduced: None,
            of_all: false,
        }
    }

    fn sums_bytes(&self, sums: &CudaSums) -> u64 {
        let own = sums.own.get().device_bytes();
        (own + sums.reduced.as_ref().map_or(0, DeviceSums::device_bytes)) as u64
    }

    fn add(
        &self,
        sums: &mut CudaSums,
        range: Range<usize>,
        grads: &Held<CudaSlice<f32>>,
        unscale: f32,
    ) {
        self.measured(OpClass::Sums, || {
            let place = (range.start, range.len());
            self.kernels
                .accumulate(place, (grads.get(), unscale), sums.own.get_mut())
        });
    }

    fn end_slot(&self, sums: &mut CudaSums) -> SumDigest {
        self.attempt(|| self.kernels.end_slot(sums.own.get_mut()))
            .unwrap_or_default()
    }

    fn absorb(&self, sums: &mut CudaSums, staged: &mut CudaSums) {
        self.attempt(|| {
            let (own, staged) = (sums.own.get_mut(), staged.own.get_mut());
            self.kernels.absorb_sums(own, staged)
        });
    }

    fn clear(&self, sums: &mut CudaSums) {
        self.attempt(|| self.kernels.clear_sums(sums.own.get_mut()));
    }

    fn reduce(
        &self,
        sums: &mut CudaSums,
        collective: &mut dyn Collective,
        cancel: &Cancel,
    ) -> Result<ReducedSum, EngineError> {
        self.check()?;
        sums.of_all = collective.world() > 1;
        if sums.of_all {
            if let Some(gpus) = collective.on_gpus() {
                return self.reduce_on_gpus(sums, gpus, cancel);
            }
            return self.reduce_through_host(sums, collective, cancel);
        }
        // Nothing to add; the collective tells whether the reduction was called off.
        collective.all_reduce_sum(&mut [], cancel)?;
        let part = self.part(sums)?;
        Ok(ReducedSum {
            digest: part,
            part,
            flags: part.flags(),
        })
    }

    fn update(&self, state: &mut CudaState, sums: &mut CudaSums, scalars: StepScalars) -> f64 {
        let CudaSums {
            own,
            reduced,
            of_all,
            ..
        } = sums;
        let norm = self.attempt(|| {
            let sums = match reduced {
                Some(reduced) if *of_all => &*reduced,
                Some(_) | None => own.get(),
            };
            let rounded = state.adapter.held_mut().get_mut();
            self.timed(OpClass::Update, || {
                self.kernels.clip_and_adamw(
                    &mut state.adamw,
                    (scalars.learning_rate, scalars.max_norm),
                    sums.sums(),
                    &mut state.values,
                    rounded,
                )
            })?;
            self.kernels.grad_norm(&state.adamw)
        });
        norm.unwrap_or(f64::NAN)
    }
}
