//! The steps of a decoder, each as the reference has it: on strings, one for each token at first.
//!
//! They are quick enough for what is rare. What most vocabularies with steps have goes another way, in the parent.

use super::{DecodeStep, Loss, byte_of};
use crate::engine::SplitError;
use crate::engine::alphabet::spelt_bytes;
use crate::engine::tracked::growth_limit;

impl DecodeStep {
    /// What a step that looks at one string alone makes of it.
    pub(super) fn alone(&self, string: Vec<u8>) -> Result<Vec<u8>, SplitError> {
        match self {
            Self::Strip { content, start, stop } => {
                let mut buffer = [0; 4];
                let mark: &[u8] = content.encode_utf8(&mut buffer).as_bytes();
                let mut rest = &string[..];
                for _ in 0..*start {
                    let Some(shorter) = rest.strip_prefix(mark) else { break };
                    rest = shorter;
                }
                for _ in 0..*stop {
                    let Some(shorter) = rest.strip_suffix(mark) else { break };
                    rest = shorter;
                }
                Ok(if rest.len() == string.len() { string } else { rest.to_vec() })
            }
            Self::Replace(find, content) => {
                // Bytes that are no text stay: nothing that is looked for is in them.
                let Ok(text) = std::str::from_utf8(&string) else { return Ok(string) };
                let matches = find.matches(text)?;
                let limit = growth_limit(string.len());
                let mut out = Vec::with_capacity(string.len());
                let mut at = 0;
                for found in matches {
                    out.extend_from_slice(&string[at..found.start]);
                    out.extend_from_slice(content.as_bytes());
                    if out.len() > limit {
                        return Err(SplitError::Grows { limit });
                    }
                    at = found.end;
                }
                out.extend_from_slice(&string[at..]);
                Ok(out)
            }
            _ => Ok(string),
        }
    }

    pub(super) fn run(&self, strings: Vec<Vec<u8>>, loss: &mut Loss) -> Result<Vec<Vec<u8>>, SplitError> {
        match self {
            Self::Strip { .. } | Self::Replace(..) => {
                strings.into_iter().map(|string| self.alone(string)).collect()
            }
            Self::Fuse => Ok(vec![strings.concat()]),
            Self::ByteLevel => {
                let bytes: Vec<u8> = strings.into_iter().flat_map(unspelt).collect();
                Ok(vec![if loss.spares(&bytes) {
                    bytes
                } else {
                    String::from_utf8_lossy(&bytes).into_owned().into_bytes()
                }])
            }
            Self::ByteFallback => {
                let (mut out, mut run) = (Vec::with_capacity(strings.len()), Vec::new());
                let mut end = |run: &mut Vec<u8>, out: &mut Vec<Vec<u8>>| {
                    if loss.spares(run) {
                        out.extend((!run.is_empty()).then(|| std::mem::take(run)));
                    } else {
                        // Bytes that are no text are a string each: what comes next looks at them one by one.
                        out.extend(run.drain(..).map(|_| "\u{fffd}".into()));
                    }
                };
                for string in strings {
                    match byte_of(&string) {
                        Some(byte) => run.push(byte),
                        None => {
                            end(&mut run, &mut out);
                            out.push(string);
                        }
                    }
                }
                end(&mut run, &mut out);
                Ok(out)
            }
            Self::Metaspace { mark, prepended } => {
                let string = |(i, string): (usize, Vec<u8>)| match i == 0 && *prepended {
                    true => without(&string, *mark),
                    false => spaced(&string, *mark),
                };
                Ok(strings.into_iter().enumerate().map(string).collect())
            }
        }
    }
}

pub(super) fn unspelt(string: Vec<u8>) -> Vec<u8> {
    std::str::from_utf8(&string).ok().and_then(spelt_bytes).unwrap_or(string)
}

pub(super) fn spaced(string: &[u8], mark: char) -> Vec<u8> {
    replaced(string, mark, b" ")
}

fn without(string: &[u8], mark: char) -> Vec<u8> {
    replaced(string, mark, b"")
}

/// Bytes that are no text stay as they are.
fn replaced(string: &[u8], mark: char, content: &[u8]) -> Vec<u8> {
    let mut buffer = [0; 4];
    let mark = mark.encode_utf8(&mut buffer).as_bytes();
    let (mut out, mut at) = (Vec::with_capacity(string.len()), 0);
    for found in memchr::memmem::find_iter(string, mark) {
        out.extend_from_slice(&string[at..found]);
        out.extend_from_slice(content);
        at = found + mark.len();
    }
    out.extend_from_slice(&string[at..]);
    out
}
