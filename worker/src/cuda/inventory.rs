//! What of CUDA is on this machine.

use super::cublas_lt::CublasLt;
use super::driver::{Driver, GpuFacts};
use super::library::{Environment, Missing};
use super::nccl::Nccl;
use super::nvrtc::Nvrtc;

/// Everything that the CUDA backend needs, as found.
#[derive(Debug)]
pub struct Inventory {
    /// The driver.
    pub driver: Result<Driver, Missing>,
    /// The kernels' compiler.
    pub nvrtc: Result<Nvrtc, Missing>,
    /// Matrix products.
    pub cublas_lt: Result<CublasLt, Missing>,
    /// Sums over GPUs; no obstacle where it is missing.
    pub nccl: Result<Nccl, Missing>,
    /// The GPUs, or why the driver does not tell.
    pub gpus: Result<Vec<GpuFacts>, String>,
}

impl Inventory {
    /// Looks everywhere. Cost: opens some libraries, some 0.1 s; makes no context on any GPU.
    #[must_use]
    pub fn take(environment: &Environment) -> Self {
        let driver = Driver::find(environment);
        let newest = driver.as_ref().ok().map(|driver| driver.cuda.0);
        let gpus = match &driver {
            Ok(driver) => driver.gpus().map_err(|error| {
                format!(
                    "the driver gives no GPU: {error:?}; nvidia-smi says more, and CUDA_VISIBLE_DEVICES may hide them"
                )
            }),
            Err(_) => Ok(Vec::new()),
        };
        Self {
            nvrtc: Nvrtc::find(environment, newest),
            cublas_lt: CublasLt::find(environment, newest),
            nccl: Nccl::find(environment),
            driver,
            gpus,
        }
    }

    /// What stands in the way of training on a GPU, each with its remedy; nothing if it is possible.
    #[must_use]
    pub fn obstacles(&self) -> Vec<String> {
        let missing = [
            self.driver.as_ref().err(),
            self.nvrtc.as_ref().err(),
            self.cublas_lt.as_ref().err(),
        ];
        let mut obstacles: Vec<String> = missing
            .into_iter()
            .flatten()
            .map(Missing::to_string)
            .collect();
        match &self.gpus {
            Err(why) => obstacles.push(why.clone()),
            Ok(gpus) if gpus.is_empty() && self.driver.is_ok() => obstacles.push(
                "the driver has no GPU for this process; CUDA_VISIBLE_DEVICES may hide them"
                    .to_owned(),
            ),
            Ok(_) => {}
        }
        obstacles
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cuda::library::Component;

    #[test]
    fn an_empty_machine_is_told_what_to_install() {
        let inventory = Inventory::take(&Environment::default());
        let obstacles = inventory.obstacles();
        assert_eq!(obstacles.len(), 3, "{obstacles:?}");
        assert!(inventory.nccl.is_err());
        let needed = [Component::Driver, Component::Nvrtc, Component::CublasLt];
        for (component, obstacle) in needed.iter().zip(&obstacles) {
            assert!(
                obstacle.contains(&component.to_string()) && obstacle.contains("install"),
                "{obstacle}"
            );
        }
    }

    #[test]
    fn a_file_that_is_no_library_is_named_with_the_reason() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("libnvrtc.so.13"), "no library").unwrap();
        let missing = Nvrtc::find(&Environment::of_folder(folder.path()), None).unwrap_err();
        let text = missing.to_string();
        assert!(text.contains("libnvrtc.so.13 cannot be used"), "{text}");
    }
}
