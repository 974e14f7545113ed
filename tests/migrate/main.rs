//! Migrations as their users run them: trees, plans, kills, and everything that can be wrong.

#![allow(clippy::unwrap_used, clippy::panic)] // tests

mod bench;
mod faults;
mod plans;
mod runs;
