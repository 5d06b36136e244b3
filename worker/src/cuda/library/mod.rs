//! Finding and opening the libraries that the CUDA backend needs.

#![allow(
    unsafe_code,
    reason = "opening a library runs its initialisers, and symbols have the type that we say"
)]

mod component;
mod places;

pub use component::Component;
pub use places::{Environment, Origin, Place};

use std::fmt;
use std::path::{Path, PathBuf};

use libloading::os::unix::{Library, RTLD_LOCAL, RTLD_NOW, Symbol};

/// A library that was found and opened.
#[derive(Debug)]
pub struct Opened {
    library: Library,
    /// Which.
    pub component: Component,
    /// Where it lies.
    pub path: PathBuf,
    /// What led there.
    pub origin: Origin,
}

/// Why a library cannot be used: what to install, and what was tried.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Missing {
    /// Which.
    pub component: Component,
    /// Files that are there and could not be opened or used, with the reason.
    pub unusable: Vec<(PathBuf, String)>,
}

impl std::error::Error for Missing {}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} was not found", self.component)?;
        for (path, why) in &self.unusable {
            write!(f, "; {} cannot be used: {why}", path.display())?;
        }
        write!(f, "; {}", self.component.remedy())
    }
}

/// Opens the first file of `component` that `accept` takes, in the order of [`Environment::places`].
///
/// # Errors
/// If there is none.
pub fn open<T>(
    component: Component,
    environment: &Environment,
    mut accept: impl FnMut(Opened) -> Result<T, String>,
) -> Result<T, Missing> {
    let mut unusable = Vec::new();
    for place in environment.places(component) {
        for path in place.files(component) {
            let accepted = open_file(component, &path, place.origin)
                .map_err(|error| error.to_string())
                .and_then(&mut accept);
            match accepted {
                Ok(opened) => return Ok(opened),
                // A bare name that the loader does not know is no file that is broken.
                Err(_) if place.origin == Origin::Loader => {}
                Err(why) => unusable.push((path, why)),
            }
        }
    }
    Err(Missing {
        component,
        unusable,
    })
}

fn open_file(
    component: Component,
    path: &Path,
    origin: Origin,
) -> Result<Opened, libloading::Error> {
    // SAFETY: the file is NVIDIA's library by its name and place; its initialisers have no preconditions.
    let library = unsafe { Library::open(Some(path), RTLD_NOW | RTLD_LOCAL) }?;
    Ok(Opened {
        library,
        component,
        path: path.to_owned(),
        origin,
    })
}

impl Opened {
    /// A function of the library.
    ///
    /// # Errors
    /// If the library has none of that name.
    ///
    /// # Safety
    /// `F` is the function pointer type that the library documents for `name`, and is not used once `self` is dropped.
    pub(super) unsafe fn function<F: Copy>(&self, name: &str) -> Result<F, libloading::Error> {
        // SAFETY: the caller vouches for the type and the lifetime.
        unsafe {
            let symbol: Symbol<F> = self.library.get(name)?;
            Ok(*symbol)
        }
    }
}
