//! NVRTC: kernel text in, machine code out.

#![allow(unsafe_code, reason = "calls into a C library")]

use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::path::{Path, PathBuf};
use std::ptr;

use libloading::os::unix::{Library, RTLD_GLOBAL, RTLD_NOW};

use super::arch::Arch;
use super::half_format::HalfFormat;
use super::kernels::KernelFile;
use super::library::{self, Component, Environment, Missing, Opened};

type Program = *mut c_void;
type Status = c_int;
type GetSize = unsafe extern "C" fn(Program, *mut usize) -> Status;
type GetBytes = unsafe extern "C" fn(Program, *mut c_char) -> Status;

/// The compiler, loaded.
#[derive(Debug)]
pub struct Nvrtc {
    functions: Functions,
    version: (u32, u32),
    opened: Opened,
}

#[derive(Debug)]
struct Functions {
    create: unsafe extern "C" fn(
        *mut Program,
        *const c_char,
        *const c_char,
        c_int,
        *const *const c_char,
        *const *const c_char,
    ) -> Status,
    destroy: unsafe extern "C" fn(*mut Program) -> Status,
    compile: unsafe extern "C" fn(Program, c_int, *const *const c_char) -> Status,
    cubin_size: GetSize,
    cubin: GetBytes,
    log_size: GetSize,
    log: GetBytes,
    error_string: unsafe extern "C" fn(Status) -> *const c_char,
}

/// Machine code for one GPU generation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Compiled {
    /// The code, as the driver loads it.
    pub cubin: Vec<u8>,
    /// What the compiler said, the assembler's resource usage among it.
    pub log: String,
}

/// A kernel file that does not compile.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("kernel {kernel} does not compile for {arch} with NVRTC {}.{}: {status}\n{log}", version.0, version.1)]
pub struct NvrtcError {
    /// Its name.
    pub kernel: &'static str,
    /// For which GPU.
    pub arch: Arch,
    /// By which compiler.
    pub version: (u32, u32),
    /// NVRTC's name for what went wrong.
    pub status: String,
    /// The compiler's messages.
    pub log: String,
}

impl Nvrtc {
    /// Finds and loads the compiler. One that is newer than CUDA `newest_major`, what the driver can load, is passed
    /// over.
    ///
    /// # Errors
    /// If there is none that can be used.
    pub fn find(environment: &Environment, newest_major: Option<u32>) -> Result<Self, Missing> {
        library::open(Component::Nvrtc, environment, |opened| {
            let nvrtc = Self::load(opened).map_err(|error| error.to_string())?;
            match newest_major {
                Some(newest) if nvrtc.version.0 > newest => Err(format!(
                    "it is of CUDA {}, and the driver only loads code of CUDA {newest} and older",
                    nvrtc.version.0
                )),
                Some(_) | None => Ok(nvrtc),
            }
        })
    }

    fn load(opened: Opened) -> Result<Self, libloading::Error> {
        keep_builtins(&opened.path);
        // SAFETY: the types are those of nvrtc.h; `opened` lives as long as the functions, in the same struct.
        let (functions, version): (_, unsafe extern "C" fn(*mut c_int, *mut c_int) -> Status) = unsafe {
            let functions = Functions {
                create: opened.function("nvrtcCreateProgram")?,
                destroy: opened.function("nvrtcDestroyProgram")?,
                compile: opened.function("nvrtcCompileProgram")?,
                cubin_size: opened.function("nvrtcGetCUBINSize")?,
                cubin: opened.function("nvrtcGetCUBIN")?,
                log_size: opened.function("nvrtcGetProgramLogSize")?,
                log: opened.function("nvrtcGetProgramLog")?,
                error_string: opened.function("nvrtcGetErrorString")?,
            };
            (functions, opened.function("nvrtcVersion")?)
        };
        let (mut major, mut minor) = (0, 0);
        // SAFETY: both point to an integer that the call may write.
        unsafe { version(&raw mut major, &raw mut minor) };
        Ok(Self {
            functions,
            version: (major.cast_unsigned(), minor.cast_unsigned()),
            opened,
        })
    }

    /// Major and minor version, which are CUDA's.
    #[must_use]
    pub fn version(&self) -> (u32, u32) {
        self.version
    }

    /// Its file, and what led there.
    #[must_use]
    pub fn opened(&self) -> &Opened {
        &self.opened
    }

    /// Compiles one kernel file for a GPU generation and a number format that it has. Cost: 0.1 s to some seconds.
    ///
    /// # Errors
    /// If the compiler refuses it.
    pub fn compile(
        &self,
        kernel: &KernelFile,
        (arch, half): (Arch, HalfFormat),
    ) -> Result<Compiled, NvrtcError> {
        let text = CString::new(kernel.text()).expect("kernel files hold no zero byte");
        let name = CString::new(format!("{}.cu", kernel.name)).expect("names hold no zero byte");
        let mut program = ptr::null_mut();
        // SAFETY: both strings end in zero and outlive the program; there are no headers.
        let status = unsafe {
            (self.functions.create)(
                &raw mut program,
                text.as_ptr(),
                name.as_ptr(),
                0,
                ptr::null(),
                ptr::null(),
            )
        };
        let program = Live {
            nvrtc: self,
            program,
        };
        let refused = |status, log| NvrtcError {
            kernel: kernel.name,
            arch,
            version: self.version,
            status: self.status(status),
            log,
        };
        if status != 0 {
            return Err(refused(status, String::new()));
        }
        let status = program.compile(&kernel.options(arch, half));
        let log =
            String::from_utf8_lossy(&program.bytes(self.functions.log_size, self.functions.log))
                .trim_end_matches('\0')
                .to_owned();
        if status != 0 {
            return Err(refused(status, log));
        }
        let cubin = program.bytes(self.functions.cubin_size, self.functions.cubin);
        Ok(Compiled { cubin, log })
    }

    fn status(&self, status: Status) -> String {
        // SAFETY: any status may be asked for; the answer is a constant string.
        unsafe { CStr::from_ptr((self.functions.error_string)(status)) }
            .to_string_lossy()
            .into_owned()
    }
}

/// A program, destroyed in the end.
struct Live<'a> {
    nvrtc: &'a Nvrtc,
    program: Program,
}

impl Live<'_> {
    fn compile(&self, options: &[String]) -> Status {
        let options: Vec<CString> = options
            .iter()
            .map(|option| CString::new(option.as_str()).expect("options hold no zero byte"))
            .collect();
        let pointers: Vec<_> = options.iter().map(|option| option.as_ptr()).collect();
        let count = c_int::try_from(pointers.len()).expect("a handful of options");
        // SAFETY: the program is live, and the strings outlive the call.
        unsafe { (self.nvrtc.functions.compile)(self.program, count, pointers.as_ptr()) }
    }

    /// What a pair of size and content functions gives; nothing where they fail.
    fn bytes(&self, size: GetSize, content: GetBytes) -> Vec<u8> {
        let mut len = 0;
        // SAFETY: the program is live, and `len` may be written.
        if unsafe { size(self.program, &raw mut len) } != 0 {
            return Vec::new();
        }
        let mut bytes = vec![0_u8; len];
        // SAFETY: the buffer has the size that the library has just asked for.
        let status = unsafe { content(self.program, bytes.as_mut_ptr().cast()) };
        if status == 0 { bytes } else { Vec::new() }
    }
}

impl Drop for Live<'_> {
    fn drop(&mut self) {
        if !self.program.is_null() {
            // SAFETY: the program was created by this library and is not used again.
            unsafe { (self.nvrtc.functions.destroy)(&raw mut self.program) };
        }
    }
}

/// NVRTC looks for `libnvrtc-builtins` by name alone, which fails where it lies in no folder of the loader: with it in
/// the process, under the same name, it is found. It stays to the end of the process.
fn keep_builtins(nvrtc: &Path) {
    let folder = match nvrtc.canonicalize() {
        Ok(real) => real.parent().map(PathBuf::from),
        Err(_) => return,
    };
    let entries = folder.and_then(|folder| std::fs::read_dir(folder).ok());
    for entry in entries.into_iter().flatten().flatten() {
        let name = entry.file_name();
        if name.to_string_lossy().starts_with("libnvrtc-builtins.so") {
            // SAFETY: a library of data; it has no initialisers to speak of.
            let library = unsafe { Library::open(Some(entry.path()), RTLD_NOW | RTLD_GLOBAL) };
            std::mem::forget(library);
        }
    }
}
