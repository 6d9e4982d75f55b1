//! The progress of a migration: statuses in, bars or lines out.
//!
//! ```text
//!   status ──▶ Meter ──▶ Frame ──▶ bars (a terminal) or plain (anything else)
//! ```
//!
//! [`meter`] and [`plain`] are pure; only [`bars`] draws, and `screen` chooses between the two.
//! Rates are taken over the last seconds, so the time left follows what the network does now.

mod bars;
mod meter;
mod plain;
mod screen;
mod summary;

pub use screen::Screen;
pub use summary::summary;
