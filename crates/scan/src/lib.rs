//! Judges what a file would do to the person who loads it elsewhere.
#![forbid(unsafe_code)]
