//! The kernels: text in the binary.
//!
//! A file under `worker/kernels/` says for each of its kernels the grid and block, what it reads and writes, `=` or
//! `+=` for each output, in what it sums, and what bounds it.

use super::arch::Arch;
use super::half_format::HalfFormat;

/// One file of kernels, compiled as a whole.
#[derive(Debug)]
pub struct KernelFile {
    /// Its name: the stem, with the head size where it is compiled for one.
    pub name: &'static str,
    source: &'static str,
    /// Whether a product and a sum may be rounded once. Not where bits must equal the CPU's.
    fuses: bool,
    /// The head size that it is compiled for, where it depends on one.
    head_dim: Option<usize>,
}

/// What every file begins with.
const PRELUDE: &str = include_str!("../../kernels/prelude.cu");

/// What those with Hopper's own instructions go on with.
const HOPPER: &str = include_str!("../../kernels/hopper.cu");

macro_rules! kernel_file {
    ($name:literal, fuses: $fuses:literal) => {
        KernelFile {
            name: $name,
            source: include_str!(concat!("../../kernels/", $name, ".cu")),
            fuses: $fuses,
            head_dim: None,
        }
    };
}

/// Files that do not depend on the model.
static COMMON: [KernelFile; 10] = [
    kernel_file!("accumulate", fuses: true),
    kernel_file!("adamw", fuses: false),
    kernel_file!("attention_delta", fuses: true),
    kernel_file!("cross_entropy", fuses: true),
    kernel_file!("glu", fuses: true),
    kernel_file!("nf4", fuses: true),
    kernel_file!("norm", fuses: true),
    kernel_file!("quantize", fuses: false),
    kernel_file!("rope", fuses: true),
    kernel_file!("rows", fuses: true),
];

macro_rules! attention_file {
    ($source:literal, $name:literal, $head_dim:literal) => {
        KernelFile {
            name: $name,
            source: include_str!(concat!("../../kernels/", $source, ".cu")),
            fuses: true,
            head_dim: Some($head_dim),
        }
    };
}

/// Attention for every GPU.
static ATTENTION: [KernelFile; 3] = [
    attention_file!("attention", "attention_64", 64),
    attention_file!("attention", "attention_128", 128),
    attention_file!("attention", "attention_256", 256),
];

/// Attention for Hopper.
static ATTENTION_HOPPER: [KernelFile; 2] = [
    attention_file!("attention_sm90", "attention_sm90_64", 64),
    attention_file!("attention_sm90", "attention_sm90_128", 128),
];

/// Head sizes that there is an attention for.
pub const HEAD_DIMS: [usize; 3] = [64, 128, 256];

/// The files that a GPU of this generation needs, whatever the model.
pub fn common() -> impl Iterator<Item = &'static KernelFile> {
    COMMON.iter()
}

/// Attention with heads of this size on a GPU of this generation: the one for every GPU, and Hopper's own where there
/// is one. Turing has too little shared memory for heads of 256.
pub fn attention(arch: Arch, head_dim: usize) -> impl Iterator<Item = &'static KernelFile> {
    let hopper = ATTENTION_HOPPER.iter().filter(move |_| arch.is_hopper());
    let every = ATTENTION
        .iter()
        .filter(move |_| head_dim <= 128 || arch.number >= 80);
    every
        .chain(hopper)
        .filter(move |file| file.head_dim == Some(head_dim))
}

/// All files that a GPU of this generation may need.
pub fn for_arch(arch: Arch) -> impl Iterator<Item = &'static KernelFile> {
    common().chain(
        HEAD_DIMS
            .into_iter()
            .flat_map(move |head_dim| attention(arch, head_dim)),
    )
}

impl KernelFile {
    /// What the compiler reads.
    #[must_use]
    pub fn text(&self) -> String {
        let hopper = if self.is_hopper() { HOPPER } else { "" };
        format!(
            "{PRELUDE}\n{hopper}\n#line 1 \"{}.cu\"\n{}",
            self.name, self.source
        )
    }

    /// How the compiler is called.
    #[must_use]
    pub fn options(&self, arch: Arch, half: HalfFormat) -> Vec<String> {
        let mut options = vec![
            format!("--gpu-architecture={arch}"),
            "--std=c++17".to_owned(),
            format!("--fmad={}", self.fuses),
            "--ptxas-options=-v".to_owned(),
        ];
        if half == HalfFormat::F16 {
            options.push("--define-macro=WEFT_F16".to_owned());
        }
        options.extend(
            self.head_dim
                .map(|head_dim| format!("--define-macro=HEAD_DIM={head_dim}")),
        );
        options
    }

    fn is_hopper(&self) -> bool {
        ATTENTION_HOPPER.iter().any(|file| file.name == self.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(arch: Arch, head_dim: usize) -> Vec<&'static str> {
        attention(arch, head_dim).map(|file| file.name).collect()
    }

    #[test]
    fn attention_is_chosen_by_gpu_and_head_size() {
        let [turing, ampere, .., hopper] = Arch::TESTED;
        assert_eq!(names(turing, 128), ["attention_128"]);
        assert!(names(turing, 256).is_empty());
        assert_eq!(names(ampere, 256), ["attention_256"]);
        assert_eq!(names(hopper, 128), ["attention_128", "attention_sm90_128"]);
        assert!(names(hopper, 96).is_empty());
    }
}
