//! Passes, the planner and the streaming pump: all parallelism is here.
#![forbid(unsafe_code)]
