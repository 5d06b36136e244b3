//! Writes and reads the checkpoint folder: PEFT adapter, optimizer state, position.
