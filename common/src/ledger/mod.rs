//! The append-only record of committed steps.
