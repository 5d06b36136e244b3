//! A stand-in for NCCL, compiled from `tests/nccl_stub`, for tests without a GPU.

#![allow(unsafe_code, reason = "calls into the stand-in")]

use std::ffi::{CString, c_char, c_int, c_uint, c_void};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use libloading::os::unix::Library;
use tempfile::TempDir;

use super::{GpuId, GpuLink, GpuStream, Mark};
use crate::cuda::library::{Environment, Missing};
use crate::cuda::nccl::Nccl;

/// The stand-in, in a folder of its own: nothing it is told concerns other tests.
pub(crate) struct Stub {
    folder: TempDir,
}

/// The functions that the real library does not have.
#[derive(Debug, Clone, Copy)]
struct Own {
    misbehave: unsafe extern "C" fn(*const c_char, c_int),
    aborts: unsafe extern "C" fn() -> c_uint,
    new_stream: unsafe extern "C" fn() -> *mut c_void,
    is_done: unsafe extern "C" fn(*mut c_void) -> c_int,
}

impl Stub {
    /// One of version 2.28.9; nothing, said aloud, where there is no C compiler.
    pub(crate) fn new() -> Option<Self> {
        Self::with(&["-DVERSION=22809"])
    }

    /// One with other definitions.
    pub(crate) fn with(definitions: &[&str]) -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/nccl_stub/nccl.c");
        let compiled = Command::new("cc")
            .args(["-shared", "-fPIC", "-pthread", "-Wall", "-o"])
            .arg(folder.path().join("libnccl.so.2"))
            .arg(source)
            .args(definitions)
            .status();
        let Ok(compiled) = compiled else {
            println!("SKIPPED: there is no C compiler to make a stand-in for NCCL with");
            return None;
        };
        assert!(compiled.success(), "the stand-in for NCCL does not compile");
        Some(Self { folder })
    }

    /// As weft finds it.
    pub(crate) fn find(&self) -> Result<Nccl, Missing> {
        Nccl::find(&Environment::of_folder(self.folder.path()))
    }

    /// From now on something goes wrong for a rank, or for all.
    pub(crate) fn misbehave(&self, what: &str, rank: Option<u32>) {
        let what = CString::new(what).unwrap();
        let rank = rank.map_or(-1, |rank| c_int::try_from(rank).unwrap());
        // SAFETY: the text ends with a zero and is copied.
        unsafe { (self.own().misbehave)(what.as_ptr(), rank) }
    }

    /// How many communicators were aborted.
    pub(crate) fn aborts(&self) -> u32 {
        // SAFETY: it has no preconditions.
        unsafe { (self.own().aborts)() }
    }

    /// What a worker with the GPU of this number offers.
    pub(crate) fn link(&self, gpu: u8) -> GpuLink {
        self.bare_link(gpu)
            .with_nccl(Arc::new(self.find().unwrap()))
    }

    /// The same without a library.
    pub(crate) fn bare_link(&self, gpu: u8) -> GpuLink {
        let own = self.own();
        // SAFETY: it has no preconditions.
        let address = unsafe { (own.new_stream)() } as usize;
        GpuLink::new(GpuId([gpu; 16]), Arc::new(StubStream { own, address }))
    }

    fn own(&self) -> Own {
        // SAFETY: the types are those of the stand-in's source, and it is never closed.
        unsafe {
            let library = Library::new(self.folder.path().join("libnccl.so.2")).unwrap();
            let own = Own {
                misbehave: *library.get("stub_misbehave").unwrap(),
                aborts: *library.get("stub_aborts").unwrap(),
                new_stream: *library.get("stub_stream_new").unwrap(),
                is_done: *library.get("stub_stream_is_done").unwrap(),
            };
            std::mem::forget(library);
            own
        }
    }
}

#[derive(Debug, Clone)]
struct StubStream {
    own: Own,
    address: usize,
}

impl GpuStream for StubStream {
    fn make_current(&self) -> Result<(), String> {
        Ok(())
    }

    fn handle(&self) -> *mut c_void {
        self.address as *mut c_void
    }

    fn mark(&self) -> Result<Box<dyn Mark>, String> {
        Ok(Box::new(self.clone()))
    }
}

impl Mark for StubStream {
    fn is_passed(&self) -> Result<bool, String> {
        // SAFETY: the stream is never freed, and nobody else uses it.
        Ok(unsafe { (self.own.is_done)(self.handle()) } != 0)
    }
}
