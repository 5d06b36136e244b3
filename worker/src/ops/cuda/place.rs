//! Places on the device that products and copies read and write: an address and what lies from there on.

use std::marker::PhantomData;

use cudarc::driver::{CudaSlice, DevicePtrMut};

/// 16-bit elements to read, from one of them to the end of its allocation.
#[derive(Debug, Clone, Copy)]
pub struct Place<'a> {
    address: u64,
    len: usize,
    of: PhantomData<&'a ()>,
}

impl Place<'_> {
    /// `len` elements from `address` on, in an allocation that outlives the lifetime.
    pub(super) fn new(address: u64, len: usize) -> Self {
        Self {
            address,
            len,
            of: PhantomData,
        }
    }

    /// Elements from here to the end of the allocation.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether nothing lies here.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub(super) fn address(&self) -> u64 {
        self.address
    }
}

/// Elements to write, 16 bit or f32, from one of them to the end of its allocation.
#[derive(Debug)]
pub struct PlaceMut<'a> {
    address: u64,
    len: usize,
    float: bool,
    of: PhantomData<&'a mut ()>,
}

impl<'a> PlaceMut<'a> {
    /// `len` 16-bit elements from `address` on, in an allocation that outlives the lifetime.
    pub(super) fn halves(address: u64, len: usize) -> Self {
        Self {
            address,
            len,
            float: false,
            of: PhantomData,
        }
    }

    /// f32 elements from `offset` on.
    ///
    /// # Panics
    /// If the array is shorter.
    #[must_use]
    pub fn floats(array: &'a mut CudaSlice<f32>, offset: usize) -> Self {
        let len = array.len().checked_sub(offset);
        let stream = array.stream().clone();
        Self {
            address: array.device_ptr_mut(&stream).0 + 4 * offset as u64,
            len: len.expect("an offset within the array"),
            float: true,
            of: PhantomData,
        }
    }

    /// Elements from here to the end of the allocation.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether nothing lies here.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Whether elements are f32.
    #[must_use]
    pub fn is_float(&self) -> bool {
        self.float
    }

    pub(super) fn address(&self) -> u64 {
        self.address
    }
}
