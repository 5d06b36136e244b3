//! Real processes that are killed, stopped, cut off and started again, in every phase of a step: the adapter is the one
//! of an undisturbed run to the last bit, and the ledger's audit is clean.

#![allow(clippy::unwrap_used, reason = "an unwrap that fails is a failed test")]

mod coordinator;
mod document;
mod gpu;
mod hang;
mod joiner;
mod network;
mod schedules;
mod storage;
mod straggler;
mod worker;
