//! The itinerary told as stories: a world of one migration, two spokes and a clock.

mod admission;
mod collection;
mod dry_run;
mod failures;
mod namespaces;
mod promotion;
mod properties;
mod world;
