//! The worker's side of the protocol: a pure machine, its session and its driver.
