//! Which vocabulary a request names: `vocab`, or `model` as other servers call it.

use super::problem::Problem;
use crate::registry::VocabRef;

/// The ref in either field; `None` where neither is given.
///
/// # Errors
/// 422 where both are given, or one is no ref.
pub(super) fn wanted(vocab: Option<&str>, model: Option<&str>) -> Result<Option<VocabRef>, Problem> {
    let (pointer, text) = match (vocab, model) {
        (None, None) => return Ok(None),
        (Some(vocab), None) => ("/vocab", vocab),
        (None, Some(model)) => ("/model", model),
        (Some(_), Some(_)) => {
            return Err(Problem::invalid("/model", "is another word for vocab; give one of them"));
        }
    };
    text.parse().map(Some).map_err(|e| Problem::name(pointer, &e))
}
