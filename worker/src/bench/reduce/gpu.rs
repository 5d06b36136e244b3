//! A GPU's memory, summed from GPU to GPU where members can.

#![allow(unsafe_code, reason = "NCCL writes to memory that is held here")]

use std::sync::Arc;

use cudarc::driver::{CudaContext, CudaSlice, CudaStream, DevicePtrMut, DriverError};

use super::memory::Memory;
use crate::collective::{Cancel, Collective, CollectiveError, GpuLink};
use crate::cuda::nccl::{DeviceSum, Element};
use crate::cuda::{GpuError, GpuFacts, Inventory, library::Environment};
use crate::ops::cuda::link_over;

/// Memory of one GPU.
#[derive(Debug)]
pub struct GpuMemory {
    stream: Arc<CudaStream>,
    link: GpuLink,
    element: Element,
    held: CudaSlice<i64>,
    elements: usize,
}

impl GpuMemory {
    /// Opens a GPU, without any kernels, and the NCCL that is found.
    ///
    /// # Errors
    /// The driver's.
    pub fn open(gpu: &GpuFacts) -> Result<Self, GpuError> {
        let inventory = Inventory::take(&Environment::of_process());
        let failed = |doing| {
            move |error| GpuError::Driver {
                ordinal: gpu.ordinal,
                doing,
                error,
            }
        };
        let context = CudaContext::new(gpu.ordinal).map_err(failed("making a context"))?;
        let stream = context.new_stream().map_err(failed("making a stream"))?;
        let link = link_over(&stream).map_err(failed("asking for its UUID"))?;
        let held = stream.alloc_zeros(1).map_err(failed("allocating"))?;
        Ok(Self {
            link: match inventory.nccl {
                Ok(nccl) => link.with_nccl(Arc::new(nccl)),
                Err(_) => link,
            },
            stream,
            element: Element::I64,
            held,
            elements: 1,
        })
    }
}

impl Memory for GpuMemory {
    fn link(&self) -> Option<&GpuLink> {
        Some(&self.link)
    }

    fn count_in(&mut self, element: Element) {
        self.element = element;
    }

    fn hold(&mut self, elements: usize, number: i64) -> Result<(), CollectiveError> {
        if self.held.len() < elements {
            self.held = self
                .stream
                .alloc_zeros(elements)
                .map_err(gpu("allocating"))?;
        }
        self.elements = elements;
        let numbers = vec![number; elements];
        let mut room = self.held.slice_mut(..elements);
        let written = self.stream.memcpy_htod(&numbers, &mut room);
        written.map_err(gpu("writing"))?;
        self.stream.synchronize().map_err(gpu("writing"))
    }

    fn sum(
        &mut self,
        collective: &mut dyn Collective,
        cancel: &Cancel,
    ) -> Result<(), CollectiveError> {
        let Some(gpus) = collective.on_gpus() else {
            let mut numbers = self.numbers()?;
            collective.all_reduce_sum(&mut numbers, cancel)?;
            let mut room = self.held.slice_mut(..self.elements);
            let written = self.stream.memcpy_htod(&numbers, &mut room);
            written.map_err(gpu("writing"))?;
            return self.stream.synchronize().map_err(gpu("writing"));
        };
        let stream = Arc::clone(&self.stream);
        let address = self.held.device_ptr_mut(&stream).0;
        // SAFETY: so many integers of 64 bits are held, no element is larger, and they stay until the wait or an abort.
        let sum = unsafe { DeviceSum::new(address, address, self.elements, self.element) };
        gpus.enqueue(&sum, cancel)?;
        gpus.wait(cancel)
    }

    fn numbers(&mut self) -> Result<Vec<i64>, CollectiveError> {
        let held = self.held.slice(..self.elements);
        let numbers = self.stream.clone_dtoh(&held).map_err(gpu("reading"))?;
        self.stream.synchronize().map_err(gpu("reading"))?;
        Ok(numbers)
    }
}

fn gpu(doing: &'static str) -> impl Fn(DriverError) -> CollectiveError {
    move |error| CollectiveError::Gpu {
        doing,
        said: format!("{error:?}"),
    }
}
