//! Text from a model: prefill, cache, sampling.
