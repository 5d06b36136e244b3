//! Coordinator and workers over real connections on loopback, with an engine whose arithmetic is trivial.

mod cluster;
mod fake_engine;
mod faults;
mod raw;
mod steps;
