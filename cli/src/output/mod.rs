//! What commands print and a run shows and leaves: banner, progress, memory report, and the files of the output folder.

pub(crate) mod adapter;
pub(crate) mod banner;
pub(crate) mod figures;
pub(crate) mod folder;
pub(crate) mod html;
pub(crate) mod memory;
pub(crate) mod metrics;
pub(crate) mod print;
pub(crate) mod progress;
pub(crate) mod report;
pub(crate) mod timeline;
pub(crate) mod trainer;
