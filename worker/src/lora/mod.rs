//! The adapter: low-rank matrices beside frozen linears.
