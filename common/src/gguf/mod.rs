//! The GGUF container: header, metadata and tensor directory; no tensor arithmetic.
