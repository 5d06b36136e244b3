//! The kernels: text in the binary.
//!
//! A file under `worker/kernels/` says for each of its kernels the grid and block, what it reads and writes, `=` or
//! `+=` for each output, in what it sums, and what bounds it.

use super::arch::Arch;

/// One file of kernels, compiled as a whole.
#[derive(Debug)]
pub struct KernelFile {
    /// Its stem.
    pub name: &'static str,
    source: &'static str,
    /// Whether a product and a sum may be rounded once. Not where bits must equal the CPU's.
    fuses: bool,
    /// The first GPU generation that it is for.
    since: u32,
}

/// What every file begins with.
const PRELUDE: &str = include_str!("../../kernels/prelude.cu");

macro_rules! kernel_file {
    ($name:literal, fuses: $fuses:literal, since: $since:literal) => {
        KernelFile {
            name: $name,
            source: include_str!(concat!("../../kernels/", $name, ".cu")),
            fuses: $fuses,
            since: $since,
        }
    };
}

/// All files.
pub static ALL: [KernelFile; 8] = [
    kernel_file!("accumulate", fuses: true, since: 75),
    kernel_file!("adamw", fuses: false, since: 75),
    kernel_file!("cross_entropy", fuses: true, since: 75),
    kernel_file!("glu", fuses: true, since: 75),
    kernel_file!("nf4", fuses: true, since: 75),
    kernel_file!("norm", fuses: true, since: 75),
    kernel_file!("rope", fuses: true, since: 75),
    kernel_file!("rows", fuses: true, since: 75),
];

/// The files that a GPU of this generation uses.
pub fn for_arch(arch: Arch) -> impl Iterator<Item = &'static KernelFile> {
    ALL.iter().filter(move |file| file.since <= arch.number)
}

impl KernelFile {
    /// What the compiler reads.
    #[must_use]
    pub fn text(&self) -> String {
        format!("{PRELUDE}\n#line 1 \"{}.cu\"\n{}", self.name, self.source)
    }

    /// How the compiler is called.
    #[must_use]
    pub fn options(&self, arch: Arch) -> Vec<String> {
        vec![
            format!("--gpu-architecture={arch}"),
            "--std=c++17".to_owned(),
            format!("--fmad={}", self.fuses),
            "--ptxas-options=-v".to_owned(),
        ]
    }
}
