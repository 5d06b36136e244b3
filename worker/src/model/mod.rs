//! The decoder: its dimensions, its frozen weights, its layer.

pub mod loader;
