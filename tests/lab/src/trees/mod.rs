//! Folders full of files: made from a seed, and compared exactly.
//!
//! - [`generate()`]: the benchmark's three trees.
//! - [`change()`]: a part of a tree gets new content, as between two passes.
//! - [`cms()`]: what the demo's application keeps in its volumes.
//! - [`compare_trees`]: every difference in content and metadata between two folders.

mod change;
mod compare;
mod content;
mod generate;

pub use change::change;
pub use compare::{CompareOptions, Difference, compare_trees};
pub use content::Random;
pub use generate::{CmsVolume, TreeKind, TreeSummary, cms, generate};
