//! Sums integers over the members of an epoch.
