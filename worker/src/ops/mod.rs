//! Compute: one contract, one backend a folder.
