//! The checkpoint folder: which files it has and when it counts as complete.
