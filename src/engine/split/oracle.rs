//! The slow twin: the published regexes on a backtracking engine, stage by stage.

use fancy_regex::Regex;

/// The pieces of `text` by these regexes, each splitting the pieces of the one before; `None` where the engine gives
/// up, on a long run of one class.
#[expect(clippy::unwrap_used, reason = "the regexes are the published ones")]
pub fn oracle_pieces<'t>(regexes: &[String], text: &'t str) -> Option<Vec<&'t str>> {
    thread_local! {
        static COMPILED: std::cell::RefCell<std::collections::HashMap<String, Regex>> = Default::default();
    }
    let mut pieces = vec![text];
    for regex in regexes {
        let regex = COMPILED.with_borrow_mut(|compiled| {
            compiled.entry(regex.clone()).or_insert_with(|| Regex::new(regex).unwrap()).clone()
        });
        let mut parts = Vec::new();
        for piece in pieces {
            let mut last = 0;
            for found in regex.find_iter(piece) {
                let found = found.ok()?;
                parts.extend([&piece[last..found.start()], found.as_str()]);
                last = found.end();
            }
            parts.push(&piece[last..]);
        }
        parts.retain(|part| !part.is_empty());
        pieces = parts;
    }
    pieces.retain(|piece| !piece.is_empty());
    Some(pieces)
}
