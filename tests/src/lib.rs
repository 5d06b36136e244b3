//! Helpers for the tests that drive weft from outside.
