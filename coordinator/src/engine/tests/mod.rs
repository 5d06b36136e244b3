//! The engine, event by event: the new state and every action.

mod age;
mod faults;
mod fixture;
mod hangs;
mod properties;
mod queue;
mod steps;
mod storms;
