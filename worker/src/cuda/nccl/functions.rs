//! The functions of NCCL that are used, with the types of nccl.h from 2.18 on.

use std::ffi::{c_char, c_int, c_uint, c_void};

use crate::cuda::library::Opened;

/// Bytes of what members of a communicator have in common.
const ID_BYTES: usize = 128;

/// Words of 64 bits of the same.
pub const ID_WORDS: usize = ID_BYTES / 8;

/// What members of a communicator have in common: where the first of them listens, and a secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub struct UniqueId([u8; ID_BYTES]);

impl UniqueId {
    /// As integers, to be sent.
    #[must_use]
    pub fn words(&self) -> [i64; ID_WORDS] {
        std::array::from_fn(|word| {
            i64::from_le_bytes(std::array::from_fn(|byte| self.0[word * 8 + byte]))
        })
    }

    /// What was sent.
    #[must_use]
    pub fn from_words(words: &[i64; ID_WORDS]) -> Self {
        let bytes = words.map(i64::to_le_bytes);
        Self(std::array::from_fn(|at| bytes[at / 8][at % 8]))
    }
}

/// NCCL's `ncclComm_t`.
pub(super) type RawComm = *mut c_void;

/// NCCL's `ncclConfig_t` as 2.18 to 2.24 lay it out. Later versions append fields, and give those that are beyond `size`
/// their defaults, so that every version takes this one.
#[derive(Debug)]
#[repr(C)]
pub(super) struct Config {
    size: usize,
    magic: c_uint,
    version: c_uint,
    blocking: c_int,
    cga_cluster_size: c_int,
    min_ctas: c_int,
    max_ctas: c_int,
    net_name: *const c_char,
    split_share: c_int,
}

/// `NCCL_CONFIG_UNDEF_INT`: as the library thinks best.
const UNDEFINED: c_int = c_int::MIN;

impl Config {
    /// All as the library thinks best, but that calls return before they are done.
    pub(super) fn non_blocking() -> Self {
        Self {
            size: size_of::<Self>(),
            magic: 0xcafe_beef,
            version: super::version::OLDEST.number(),
            blocking: 0,
            cga_cluster_size: UNDEFINED,
            min_ctas: UNDEFINED,
            max_ctas: UNDEFINED,
            net_name: std::ptr::null(),
            split_share: UNDEFINED,
        }
    }
}

type GetUniqueId = unsafe extern "C" fn(*mut UniqueId) -> c_int;
type CommInitRankConfig =
    unsafe extern "C" fn(*mut RawComm, c_int, UniqueId, c_int, *mut Config) -> c_int;
type CommGetAsyncError = unsafe extern "C" fn(RawComm, *mut c_int) -> c_int;
type AllReduce = unsafe extern "C" fn(
    *const c_void,
    *mut c_void,
    usize,
    c_int,
    c_int,
    RawComm,
    *mut c_void,
) -> c_int;
type CommAbort = unsafe extern "C" fn(RawComm) -> c_int;
type GetErrorString = unsafe extern "C" fn(c_int) -> *const c_char;
type GetLastError = unsafe extern "C" fn(RawComm) -> *const c_char;

/// The functions. None is called once the library is closed: whoever holds this holds the library too.
#[derive(Debug, Clone, Copy)]
pub(super) struct Functions {
    pub(super) get_unique_id: GetUniqueId,
    pub(super) comm_init_rank_config: CommInitRankConfig,
    pub(super) comm_get_async_error: CommGetAsyncError,
    pub(super) all_reduce: AllReduce,
    pub(super) comm_abort: CommAbort,
    pub(super) get_error_string: GetErrorString,
    /// Not in every build.
    pub(super) get_last_error: Option<GetLastError>,
}

impl Functions {
    /// # Errors
    /// A function that the library does not have.
    pub(super) fn of(opened: &Opened) -> Result<Self, String> {
        let missing = |error: libloading::Error| error.to_string();
        // SAFETY: the types are those of nccl.h.
        unsafe {
            Ok(Self {
                get_unique_id: opened.function("ncclGetUniqueId").map_err(missing)?,
                comm_init_rank_config: opened
                    .function("ncclCommInitRankConfig")
                    .map_err(missing)?,
                comm_get_async_error: opened.function("ncclCommGetAsyncError").map_err(missing)?,
                all_reduce: opened.function("ncclAllReduce").map_err(missing)?,
                comm_abort: opened.function("ncclCommAbort").map_err(missing)?,
                get_error_string: opened.function("ncclGetErrorString").map_err(missing)?,
                get_last_error: opened.function("ncclGetLastError").ok(),
            })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_survives_its_way_as_integers() {
        let id = UniqueId(std::array::from_fn(|byte| 255 - byte as u8));
        assert_eq!(UniqueId::from_words(&id.words()), id);
    }

    #[test]
    fn the_configuration_is_that_of_the_oldest_version() {
        let config = Config::non_blocking();
        assert_eq!((config.size, config.version), (48, 21_800));
    }
}
