//! Makes the tiny model of the quickstart, from a fixed seed.

fn main() {}
