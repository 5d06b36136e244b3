//! Where machines keep CUDA's libraries.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use super::Component;

/// What led to a folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// `CUDA_HOME` or `CUDA_PATH`.
    CudaHome,
    /// A Python environment's `nvidia/*/lib`.
    Python,
    /// The system's loader: `LD_LIBRARY_PATH`, `ldconfig`.
    Loader,
    /// A folder where installers put it.
    System,
}

/// A folder to look in; for [`Origin::Loader`] no folder, but names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The folder.
    pub folder: PathBuf,
    /// What led there.
    pub origin: Origin,
}

/// The variables and folders that decide where libraries are looked for.
#[derive(Debug, Clone, Default)]
pub struct Environment {
    variables: BTreeMap<&'static str, OsString>,
    asks_loader: bool,
    system: Vec<PathBuf>,
}

const VARIABLES: [&str; 7] = [
    "CUDA_HOME",
    "CUDA_PATH",
    "VIRTUAL_ENV",
    "CONDA_PREFIX",
    "PYTHONPATH",
    "PATH",
    "HOME",
];

/// Where packages, drivers and containers put libraries.
const SYSTEM: [&str; 8] = [
    "/usr/local/cuda/lib64",
    "/usr/local/cuda/targets/x86_64-linux/lib",
    "/opt/cuda/lib64",
    "/usr/local/nvidia/lib64",
    "/usr/lib/wsl/lib",
    "/usr/lib/x86_64-linux-gnu",
    "/usr/lib/aarch64-linux-gnu",
    "/usr/lib64",
];

impl Environment {
    /// This process's.
    #[must_use]
    pub fn of_process() -> Self {
        let variables = VARIABLES
            .into_iter()
            .filter_map(|name| Some((name, std::env::var_os(name)?)))
            .filter(|(_, value)| !value.is_empty())
            .collect();
        Self {
            variables,
            asks_loader: true,
            system: SYSTEM.map(PathBuf::from).to_vec(),
        }
    }

    /// One where only `CUDA_HOME` is set: libraries come from there or from nowhere.
    #[must_use]
    pub fn of_folder(folder: &Path) -> Self {
        Self {
            variables: BTreeMap::from([("CUDA_HOME", folder.as_os_str().to_owned())]),
            ..Self::default()
        }
    }

    /// Where to look, best first. The driver belongs to the kernel, so that the system's loader knows best; the others
    /// are taken from where the user pointed, else from the Python environment, else from the system.
    #[must_use]
    pub fn places(&self, component: Component) -> Vec<Place> {
        let loader = self.asks_loader.then(|| Place {
            folder: PathBuf::new(),
            origin: Origin::Loader,
        });
        let named = |origin, folders: Vec<PathBuf>| {
            folders
                .into_iter()
                .map(move |folder| Place { folder, origin })
        };
        let system = named(Origin::System, self.system.clone());
        match component {
            Component::Driver => loader.into_iter().chain(system).collect(),
            Component::Nvrtc | Component::CublasLt | Component::Nccl => {
                named(Origin::CudaHome, self.cuda_home())
                    .chain(named(Origin::Python, self.python()))
                    .chain(loader)
                    .chain(system)
                    .collect()
            }
        }
    }

    fn paths(&self, variable: &str) -> Vec<PathBuf> {
        self.variables
            .get(variable)
            .map(|value| std::env::split_paths(value).collect())
            .unwrap_or_default()
    }

    fn cuda_home(&self) -> Vec<PathBuf> {
        let roots = ["CUDA_HOME", "CUDA_PATH"]
            .into_iter()
            .flat_map(|name| self.paths(name));
        roots
            .flat_map(|root| {
                ["lib64", "lib", "targets/x86_64-linux/lib", ""].map(|folder| root.join(folder))
            })
            .collect()
    }

    /// The `nvidia/*/lib` folders of the active environment, of `PYTHONPATH`, and of the Python on `PATH`.
    fn python(&self) -> Vec<PathBuf> {
        let interpreters = self
            .paths("PATH")
            .into_iter()
            .map(|folder| folder.join("python3"));
        let on_path = interpreters
            .filter(|python| python.exists())
            .flat_map(|python| {
                let real = python.canonicalize().unwrap_or_else(|_| python.clone());
                [python, real]
            })
            .filter_map(|python| Some(python.parent()?.parent()?.to_owned()));
        let home = self
            .paths("HOME")
            .into_iter()
            .map(|home| home.join(".local"));
        let prefixes = ["VIRTUAL_ENV", "CONDA_PREFIX"]
            .into_iter()
            .flat_map(|name| self.paths(name))
            .chain(on_path.take(4))
            .chain(home);
        let sites = self
            .paths("PYTHONPATH")
            .into_iter()
            .chain(prefixes.flat_map(|prefix| site_packages(&prefix)));
        let mut folders = Vec::new();
        for folder in sites.flat_map(|site| library_folders(&site)) {
            if !folders.contains(&folder) {
                folders.push(folder);
            }
        }
        folders
    }
}

/// `lib/python3.*/{site,dist}-packages`, newest Python first.
fn site_packages(prefix: &Path) -> Vec<PathBuf> {
    let mut sites: Vec<PathBuf> = entries(&prefix.join("lib"))
        .into_iter()
        .filter(|folder| named(folder, |name| name.starts_with("python3")))
        .flat_map(|folder| ["site-packages", "dist-packages"].map(|name| folder.join(name)))
        .filter(|site| site.is_dir())
        .collect();
    sites.reverse();
    sites
}

/// `nvidia/*/lib`; a `cu13` before a package of its own, for it is the newer layout.
fn library_folders(site: &Path) -> Vec<PathBuf> {
    let mut packages = entries(&site.join("nvidia"));
    packages.sort_by_key(|package| !named(package, |name| name.starts_with("cu1")));
    packages
        .into_iter()
        .map(|package| package.join("lib"))
        .filter(|folder| folder.is_dir())
        .collect()
}

/// What a folder holds, by name; nothing where there is none.
fn entries(folder: &Path) -> Vec<PathBuf> {
    let mut entries: Vec<PathBuf> = std::fs::read_dir(folder)
        .map(|entries| entries.flatten().map(|entry| entry.path()).collect())
        .unwrap_or_default();
    entries.sort();
    entries
}

fn named(path: &Path, test: impl Fn(&str) -> bool) -> bool {
    path.file_name()
        .and_then(|name| name.to_str())
        .is_some_and(test)
}

impl Place {
    /// The files of `component` here, highest version first; the loader is asked by name instead.
    #[must_use]
    pub fn files(&self, component: Component) -> Vec<PathBuf> {
        if self.origin == Origin::Loader {
            return component.sonames().iter().map(PathBuf::from).collect();
        }
        let stem = component.file_stem();
        let mut files: Vec<PathBuf> = entries(&self.folder)
            .into_iter()
            .filter(|path| {
                named(path, |name| {
                    name.strip_prefix(stem)
                        .is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
                })
            })
            .collect();
        files.sort_by_key(|path| std::cmp::Reverse(version(path)));
        files
    }
}

/// The numbers behind `.so`.
fn version(path: &Path) -> Vec<u32> {
    let name = path
        .file_name()
        .and_then(|name| name.to_str())
        .unwrap_or_default();
    name.split('.')
        .filter_map(|part| part.parse().ok())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn touch(path: PathBuf) {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, "").unwrap();
    }

    fn environment(variables: &[(&'static str, &Path)]) -> Environment {
        Environment {
            variables: variables
                .iter()
                .map(|(name, value)| (*name, value.as_os_str().to_owned()))
                .collect(),
            ..Environment::default()
        }
    }

    fn found(environment: &Environment, component: Component) -> Vec<PathBuf> {
        environment
            .places(component)
            .iter()
            .filter(|place| place.origin != Origin::Loader)
            .flat_map(|place| place.files(component))
            .collect()
    }

    #[test]
    fn cuda_home_comes_before_the_python_environment() {
        let root = tempfile::tempdir().unwrap();
        let (home, env) = (root.path().join("cuda"), root.path().join("env"));
        let in_home = home.join("lib64/libnvrtc.so.12");
        let in_env = env.join("lib/python3.12/site-packages/nvidia/cu13/lib/libnvrtc.so.13");
        touch(in_home.clone());
        touch(in_env.clone());
        let environment = environment(&[("CUDA_HOME", &home), ("VIRTUAL_ENV", &env)]);
        assert_eq!(found(&environment, Component::Nvrtc), [in_home, in_env]);
    }

    #[test]
    fn the_newest_file_of_a_folder_comes_first_and_helpers_are_passed_over() {
        let root = tempfile::tempdir().unwrap();
        let lib = root.path().join("lib");
        for name in [
            "libnvrtc.so",
            "libnvrtc.so.12.9.86",
            "libnvrtc.so.13",
            "libnvrtc-builtins.so.13.0",
            "libnvrtc.alt.so.13",
        ] {
            touch(lib.join(name));
        }
        let files = found(
            &environment(&[("CUDA_HOME", root.path())]),
            Component::Nvrtc,
        );
        let names = ["libnvrtc.so.13", "libnvrtc.so.12.9.86", "libnvrtc.so"];
        assert_eq!(files, names.map(|name| lib.join(name)));
    }

    #[test]
    fn the_python_on_the_path_leads_to_its_packages() {
        let root = tempfile::tempdir().unwrap();
        touch(root.path().join("bin/python3"));
        let file = root
            .path()
            .join("lib/python3.11/dist-packages/nvidia/cublas/lib/libcublasLt.so.12");
        touch(file.clone());
        let environment = environment(&[("PATH", &root.path().join("bin"))]);
        assert_eq!(found(&environment, Component::CublasLt), [file]);
    }

    #[test]
    fn the_driver_is_the_systems_own() {
        let root = tempfile::tempdir().unwrap();
        touch(root.path().join("lib64/libcuda.so.1"));
        let environment = environment(&[("CUDA_HOME", root.path())]);
        assert_eq!(
            found(&environment, Component::Driver),
            Vec::<PathBuf>::new()
        );
    }
}
