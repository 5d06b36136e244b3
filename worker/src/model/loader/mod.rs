//! Reads a base model: Hugging Face folders and GGUF files, streamed tensor by tensor.
