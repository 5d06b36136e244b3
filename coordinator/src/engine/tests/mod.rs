//! The engine, event by event: the new state and every action.

mod acting;
mod age;
mod fixture;
mod forming;
mod gpu;
mod hangs;
mod joining;
mod leaving;
mod liars;
mod losses;
mod properties;
mod queue;
mod returning;
mod silence;
mod steps;
mod stopping;
mod storms;
