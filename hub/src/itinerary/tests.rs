//! The itinerary told as stories: a world of one migration, two spokes and a clock.

mod admission;
mod collection;
mod cutover;
mod dry_run;
mod every_path;
mod failback;
mod failover;
mod failures;
mod hooks;
mod namespaces;
mod one_side;
mod patience;
mod promotion;
mod properties;
mod sides;
mod world;
