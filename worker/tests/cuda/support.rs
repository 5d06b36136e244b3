//! The GPU, random numbers, and comparison.

use std::cell::Cell;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use cudarc::driver::CudaSlice;
use half::{bf16, f16};
use weft_worker::cuda::kernels::HEAD_DIMS;
use weft_worker::cuda::library::Environment;
use weft_worker::cuda::{Compiler, Gpu, HalfFormat, Inventory, KernelCache, Nvrtc};
use weft_worker::ops::Ops;
use weft_worker::ops::cuda::{Cuda, CudaKernels, CudaOptions, Gemm, Halves};

thread_local!(static FORMAT: Cell<HalfFormat> = const { Cell::new(HalfFormat::Bf16) });

/// Runs a test with 16-bit matrices of this format; it is bfloat16 otherwise.
pub(crate) fn in_format(half: HalfFormat, test: impl FnOnce()) {
    let before = FORMAT.replace(half);
    test();
    FORMAT.set(before);
}

/// The 16-bit format of the test that runs.
pub(crate) fn format() -> HalfFormat {
    FORMAT.get()
}

/// Something for each format.
#[derive(Debug)]
struct OfFormats<T> {
    bf16: OnceLock<Option<T>>,
    f16: OnceLock<Option<T>>,
}

impl<T> OfFormats<T> {
    const fn new() -> Self {
        Self {
            bf16: OnceLock::new(),
            f16: OnceLock::new(),
        }
    }

    fn get_or_init(&self, init: impl FnOnce() -> Option<T>) -> Option<&T> {
        let of_format = match format() {
            HalfFormat::Bf16 => &self.bf16,
            HalfFormat::F16 => &self.f16,
        };
        of_format.get_or_init(init).as_ref()
    }
}

/// Relative error that 16-bit outputs may have.
fn tolerance() -> f64 {
    match format() {
        HalfFormat::Bf16 => 1e-2,
        HalfFormat::F16 => 2e-3,
    }
}

/// Products on that GPU.
pub(crate) fn gemm() -> Option<&'static Gemm> {
    static GEMM: OfFormats<Gemm> = OfFormats::new();
    GEMM.get_or_init(|| {
        let library = Inventory::take(&Environment::of_process()).cublas_lt.ok()?;
        Some(Gemm::new(gpu()?, library).unwrap())
    })
}

/// The kernels on the first GPU; nothing, said aloud, where there is none.
pub(crate) fn gpu() -> Option<&'static CudaKernels> {
    static GPU: OfFormats<CudaKernels> = OfFormats::new();
    let found = GPU.get_or_init(open);
    if found.is_none() {
        println!("SKIPPED: no GPU");
    }
    found
}

/// The backend on the first GPU; nothing, said aloud, where there is none.
pub(crate) fn opened(options: CudaOptions) -> Option<Cuda> {
    gpu()?;
    let inventory = Inventory::take(&Environment::of_process());
    let compiler = compiler(inventory.nvrtc.unwrap());
    Some(Cuda::open(&compiler, inventory.cublas_lt.unwrap(), options).unwrap())
}

fn compiler(nvrtc: Nvrtc) -> Compiler {
    Compiler::new(
        nvrtc,
        KernelCache::new(std::env::temp_dir().join("weft-test-kernels")),
    )
}

fn open() -> Option<CudaKernels> {
    let inventory = Inventory::take(&Environment::of_process());
    let obstacles = inventory.obstacles();
    if !obstacles.is_empty() {
        assert!(
            std::env::var_os("WEFT_REQUIRE_GPU").is_none(),
            "WEFT_REQUIRE_GPU is set, but {obstacles:?}"
        );
        println!("SKIPPED: no GPU to test on: {obstacles:?}");
        return None;
    }
    let native = inventory
        .gpus
        .unwrap()
        .first()
        .map(|gpu| HalfFormat::of(gpu.arch));
    if (native, format()) == (Some(HalfFormat::F16), HalfFormat::Bf16) {
        println!("SKIPPED: this GPU has no bfloat16");
        return None;
    }
    let compiler = compiler(inventory.nvrtc.unwrap());
    let gpu = Gpu::open(0, &compiler, &HEAD_DIMS, Some(format())).unwrap();
    Some(CudaKernels::new(gpu).unwrap())
}

/// Numbers between −1 and 1 that both 16-bit formats hold exactly.
pub(crate) fn random(len: usize, seed: u64) -> Vec<f32> {
    (0..len as u64)
        .map(|i| {
            let mut z = (i + (seed << 32)).wrapping_mul(0x9E37_79B9_7F4A_7C15);
            z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
            z ^= z >> 27;
            let short = bf16::from_f32((z >> 40) as f32 / (1 << 23) as f32 - 1.0);
            f16::from_f32(short.to_f32()).to_f32()
        })
        .collect()
}

/// Columns that lie before a matrix in its rows.
const BEFORE: usize = 8;

/// A matrix in 16 bits among columns that hold NaN, before a row that does. How many lie behind it differs from one
/// to the next.
pub(crate) fn halves(gpu: &CudaKernels, rows: usize, values: &[f32]) -> Halves {
    thread_local!(static MADE: Cell<usize> = const { Cell::new(0) });
    let width = values.len() / rows;
    let made = MADE.replace(MADE.get() + 1);
    let stride = BEFORE + width + 8 * (1 + made % 5);
    let mut lying = vec![f32::NAN; (rows + 1) * stride];
    for (row, values) in lying.chunks_mut(stride).zip(values.chunks(width)) {
        row[BEFORE..][..width].copy_from_slice(values);
    }
    let lying = gpu.gpu().half().round(&lying);
    let whole = gpu.upload_halves(rows + 1, stride, &lying).unwrap();
    whole.split(&[BEFORE, width]).remove(1)
}

/// A matrix in 16 bits with nothing around it.
pub(crate) fn packed(gpu: &CudaKernels, rows: usize, values: &[f32]) -> Halves {
    let bits = gpu.gpu().half().round(values);
    gpu.upload_halves(rows, values.len() / rows, &bits).unwrap()
}

/// An output that nothing has been written to, lying as [`halves`] does.
pub(crate) fn poisoned(gpu: &CudaKernels, rows: usize, width: usize) -> Halves {
    halves(gpu, rows, &vec![f32::NAN; rows * width])
}

/// What [`halves`], [`packed`] or [`poisoned`] made, back on the host. Panics if what lies around it was written to.
pub(crate) fn read(gpu: &CudaKernels, matrix: &Halves) -> Vec<f32> {
    let half = gpu.gpu().half();
    if matrix.is_packed() {
        return half.widen(&gpu.download_halves(matrix, matrix.rows()).unwrap());
    }
    let rows = matrix.rows() - 1;
    let lying = half.widen(&read_plain(gpu, matrix.memory()));
    let within = BEFORE..BEFORE + matrix.width();
    let written = (0..lying.len()).find(|&at| {
        let (row, column) = (at / matrix.stride(), at % matrix.stride());
        !(lying[at].is_nan() || row < rows && within.contains(&column))
    });
    assert_eq!(
        written, None,
        "an element outside of {matrix:?} was written"
    );
    half.widen(&gpu.download_halves(matrix, rows).unwrap())
}

/// On the device, in f32.
pub(crate) fn floats(gpu: &CudaKernels, values: &[f32]) -> CudaSlice<f32> {
    gpu.gpu().stream().clone_htod(values).unwrap()
}

/// Back on the host.
pub(crate) fn read_plain<T: cudarc::driver::DeviceRepr + Clone + Default>(
    gpu: &CudaKernels,
    values: &CudaSlice<T>,
) -> Vec<T> {
    let values = gpu.gpu().stream().clone_dtoh(values).unwrap();
    gpu.gpu().stream().synchronize().unwrap();
    values
}

/// Panics unless ‖ours − expected‖ / ‖expected‖ is within the tolerance. NaN never is.
pub(crate) fn assert_close(ours: &[f32], expected: &[f32], what: &str) {
    assert_eq!(ours.len(), expected.len(), "{what}");
    let square = |values: &mut dyn Iterator<Item = f64>| values.map(|v| v * v).sum::<f64>().sqrt();
    let pairs = || ours.iter().zip(expected);
    let apart = square(&mut pairs().map(|(a, b)| f64::from(*a) - f64::from(*b)));
    let size = square(&mut expected.iter().map(|v| f64::from(*v)));
    let error = apart / size;
    println!("{what}: relative error {error:.1e}");
    assert!(error <= tolerance(), "{what}: relative error {error}");
}

/// A golden model's folder: of this repository, or, for a binary that was built elsewhere, of the one that it runs in.
pub(crate) fn golden(name: &str) -> PathBuf {
    let fixtures = Path::new("tests/fixtures/golden").join(name);
    let built_in = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("..")
        .join(&fixtures);
    if built_in.is_dir() {
        built_in
    } else {
        fixtures
    }
}

/// Brings numbers on the device to the host, also once the backend belongs to a model.
pub(crate) fn reader(cuda: &Cuda) -> impl Fn(&<Cuda as Ops>::Floats) -> Vec<f32> + use<> {
    let stream = cuda.kernels().gpu().stream().clone();
    move |floats| {
        let read = stream.clone_dtoh(floats.get()).unwrap();
        stream.synchronize().unwrap();
        read
    }
}
