//! One communicator of NCCL, call by call.

use std::ffi::{CStr, c_char, c_int, c_void};
use std::fmt;
use std::sync::Arc;

use super::Nccl;
use super::functions::{Config, ID_WORDS, RawComm, UniqueId};

/// What a call of NCCL came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// It is done.
    Success,
    /// It goes on by itself; [`Comm::status`] tells when it is done.
    InProgress,
    /// It failed, with this number.
    Failed(c_int),
}

impl From<c_int> for Status {
    fn from(number: c_int) -> Self {
        match number {
            0 => Self::Success,
            7 => Self::InProgress,
            failed => Self::Failed(failed),
        }
    }
}

/// What is summed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Element {
    /// 64-bit integers, which wrap.
    I64,
    /// Single precision.
    F32,
    /// bfloat16.
    Bf16,
}

impl Element {
    /// Bytes of one.
    #[must_use]
    pub fn bytes(self) -> usize {
        match self {
            Self::I64 => 8,
            Self::F32 => 4,
            Self::Bf16 => 2,
        }
    }

    /// `ncclDataType_t`.
    fn number(self) -> c_int {
        match self {
            Self::I64 => 4,
            Self::F32 => 7,
            Self::Bf16 => 9,
        }
    }
}

/// `ncclRedOp_t`: the sum.
const SUM: c_int = 0;

/// Memory to sum over all members, element by element.
#[derive(Debug, Clone, Copy)]
pub struct DeviceSum {
    send: u64,
    receive: u64,
    len: usize,
    element: Element,
}

impl DeviceSum {
    /// The sum of `len` elements at `send` to `receive`, which may be the same address.
    ///
    /// # Safety
    /// Both are memory of the GPU, or memory that it reads and writes, of `len` elements. It stays until the sum is done or
    /// its communicator aborted, and meanwhile only work of the same stream touches it.
    #[must_use]
    pub unsafe fn new(send: u64, receive: u64, len: usize, element: Element) -> Self {
        Self {
            send,
            receive,
            len,
            element,
        }
    }

    /// How many bytes each member puts in.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        (self.len * self.element.bytes()) as u64
    }
}

/// A communicator, from the first call that makes it to [`Comm::abort`]. Dropped without that, it is leaked: NCCL's other
/// ends wait for every member.
pub struct Comm {
    nccl: Arc<Nccl>,
    raw: RawComm,
}

// SAFETY: NCCL lets any thread call, one at a time, and a communicator is not shared. What must stay on one thread is its
// forming until it is ready or aborted, which `Communicator::form` does in one call.
unsafe impl Send for Comm {}

impl fmt::Debug for Comm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Comm").field(&self.raw).finish()
    }
}

impl Nccl {
    /// An id for a new communicator; who makes it listens for its members.
    ///
    /// # Errors
    /// What NCCL says.
    pub fn unique_id(self: &Arc<Self>) -> Result<UniqueId, String> {
        self.keep_open();
        let mut id = UniqueId::from_words(&[0; ID_WORDS]);
        // SAFETY: it writes the id.
        let status = unsafe { (self.functions.get_unique_id)(&raw mut id) };
        match Status::from(status) {
            Status::Success => Ok(id),
            Status::InProgress | Status::Failed(_) => Err(self.words(status)),
        }
    }

    /// Threads of the library's own may outlive what they are for: once it was used it stays to the end of the process.
    fn keep_open(self: &Arc<Self>) {
        std::mem::forget(Arc::clone(self));
    }

    /// What NCCL says of an error.
    fn words(&self, status: c_int) -> String {
        // SAFETY: it takes any number and gives a constant.
        let said = text(unsafe { (self.functions.get_error_string)(status) });
        let last = self.functions.get_last_error.map_or(String::new(), |last| {
            // SAFETY: the communicator is not looked at, by any version, and the text is the library's.
            text(unsafe { last(std::ptr::null_mut()) })
        });
        let last = last.trim();
        if last.is_empty() {
            said
        } else {
            format!("{said}: {last}")
        }
    }
}

/// The text at an address of the library's; nothing at none.
fn text(chars: *const c_char) -> String {
    if chars.is_null() {
        return String::new();
    }
    // SAFETY: NCCL's texts end with a zero.
    unsafe { CStr::from_ptr(chars) }
        .to_string_lossy()
        .into_owned()
}

impl Comm {
    /// Begins to form one with the other members, on the calling thread's GPU.
    ///
    /// # Errors
    /// What NCCL says.
    pub fn begin(
        nccl: Arc<Nccl>,
        id: UniqueId,
        (rank, world): (u32, u32),
    ) -> Result<(Self, Status), String> {
        let (Ok(world), Ok(rank)) = (c_int::try_from(world), c_int::try_from(rank)) else {
            return Err(format!("rank {rank} of {world} is beyond its integers"));
        };
        nccl.keep_open();
        let mut raw: RawComm = std::ptr::null_mut();
        let mut config = Config::non_blocking();
        // SAFETY: the types are those of nccl.h; the call copies id and configuration before it returns.
        let number = unsafe {
            (nccl.functions.comm_init_rank_config)(&raw mut raw, world, id, rank, &raw mut config)
        };
        if raw.is_null() {
            return Err(nccl.words(number));
        }
        Ok((Self { nccl, raw }, number.into()))
    }

    /// How the last call that was in progress stands, or what failed since.
    #[must_use]
    pub fn status(&self) -> Status {
        let mut number: c_int = 0;
        // SAFETY: the communicator lives, and the call writes one number.
        let asked =
            unsafe { (self.nccl.functions.comm_get_async_error)(self.raw, &raw mut number) };
        match Status::from(asked) {
            Status::Success => number.into(),
            Status::InProgress => Status::InProgress,
            failed @ Status::Failed(_) => failed,
        }
    }

    /// Puts a sum into a stream. Nothing may be called but [`Self::status`] and [`Self::abort`] while it is in progress.
    ///
    /// # Safety
    /// `stream` is a stream of the GPU that the communicator was made on, and the calling thread's GPU is that one.
    pub unsafe fn all_reduce(&self, sum: &DeviceSum, stream: *mut c_void) -> Status {
        // SAFETY: whoever made the sum promised its memory, the caller the stream, and the communicator lives.
        let status = unsafe {
            (self.nccl.functions.all_reduce)(
                sum.send as *const c_void,
                sum.receive as *mut c_void,
                sum.len,
                sum.element.number(),
                SUM,
                self.raw,
                stream,
            )
        };
        status.into()
    }

    /// Ends it: what is in the stream gives up. May take for ever where the library or the GPU hangs.
    pub fn abort(self) -> Status {
        // SAFETY: the communicator lives, and is not used again.
        unsafe { (self.nccl.functions.comm_abort)(self.raw) }.into()
    }

    /// The library.
    #[must_use]
    pub fn nccl(&self) -> &Nccl {
        &self.nccl
    }

    /// What NCCL says of a failure.
    #[must_use]
    pub fn words(&self, failed: c_int) -> String {
        self.nccl.words(failed)
    }
}
