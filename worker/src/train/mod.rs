//! Forward and backward, exact accumulation, optimizer.
