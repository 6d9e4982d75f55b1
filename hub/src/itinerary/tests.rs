//! The itinerary told as stories: a world of one migration, two spokes and a clock.

mod admission;
mod failures;
mod promotion;
mod properties;
mod world;
