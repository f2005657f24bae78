//! One regex by itself: where it matches, whatever is then done with the stretches between.

use super::SplitError;
use super::free::Stage;
use std::ops::Range;
use std::sync::Arc;

/// A compiled regex; a clone shares everything with its original.
#[derive(Clone)]
pub struct Regex {
    text: Arc<str>,
    stage: Arc<Stage>,
}

impl Regex {
    /// Compiles a regex: a published one to its scanner, a regular one to an automaton, another to a backtracking
    /// engine with a limit of steps.
    ///
    /// # Errors
    /// It is longer or needs more memory than the limits, or is no regex.
    pub fn new(regex: &str) -> Result<Self, SplitError> {
        Ok(Self { text: regex.into(), stage: Arc::new(Stage::compile(regex)?) })
    }

    /// Its text.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// All matches in order; an empty one directly behind another match is none.
    pub(in crate::engine) fn matches(&self, text: &str) -> Result<Vec<Range<usize>>, SplitError> {
        self.stage.matches(text)
    }
}
