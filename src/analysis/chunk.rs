//! A text in chunks of at most so many tokens.
//!
//! Holds for every list of chunks: each is a stretch of the text between two characters; its count is that of its own text,
//! encoded by itself, and never over the size; together they hold the whole text, and without overlap they are the text when
//! joined; each begins behind the one before and ends behind it. Time is near-linear in the bytes of all chunks: the place that
//! so many tokens reach is read off one encoding that begins where the chunk does, and what is then cut there is counted. Where
//! that is a token too many, the cut moves back in steps that double. All bytes that are encoded on the way are bounded by
//! `BYTES_PER_BYTE` and `MORE_BYTES`.

mod borders;

use crate::engine::{EncodeError, EncodeOptions, Encoding, Keep, Matcher, OffsetUnit, Scratch, Tokenizer};
use borders::Borders;

/// Where chunks are to end. One that is over the size ends at the next smaller boundary: lines are parted into
/// sentences, sentences into words, words into tokens, tokens into characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Boundary {
    /// Between tokens.
    Token,
    /// Between words (Unicode Standard Annex 29); spaces and punctuation are words of their own.
    Word,
    /// Between sentences (the same annex). A line ends a sentence. In a run of over 64 characters none of which is a
    /// letter no sentence ends.
    Sentence,
    /// Behind the end of a line.
    Line,
}

/// How to cut.
#[derive(Debug, Clone, Copy)]
pub struct ChunkOptions<'m> {
    /// Most tokens of a chunk, at least 1.
    pub size: usize,
    /// Most tokens that a chunk repeats of the one before, less than `size`. Encoded by itself what is repeated has no more.
    pub overlap: usize,
    /// Where to cut.
    pub boundary: Boundary,
    /// Whether the tokens that the vocabulary puts around a text count, in each chunk.
    pub add_special: bool,
    /// What names of special tokens in the text mean.
    pub matcher: &'m Matcher<'m>,
    /// Most chunks.
    pub max_chunks: usize,
}

/// A stretch of the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Chunk {
    /// Its first byte.
    pub start: usize,
    /// The byte behind its last.
    pub end: usize,
    /// Characters (Unicode scalar values) before it.
    pub char_start: usize,
    /// The same with its own.
    pub char_end: usize,
    /// Its tokens, encoded by itself.
    pub count: usize,
}

/// Why a text cannot be cut.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ChunkError {
    /// The overlap is not less than the size.
    #[error("must be less than size")]
    Overlap,
    /// A character has more tokens than a chunk may have.
    #[error("the character at byte {offset} of the text has more tokens by itself")]
    SizeTooSmall {
        /// Where it stands.
        offset: usize,
    },
    /// More chunks than wanted.
    #[error("the text has over {limit} chunks")]
    TooMany {
        /// The limit.
        limit: usize,
    },
    /// With so much overlap the chunks together are too long.
    #[error("the chunks would have over {limit} bytes in all; a smaller overlap is needed")]
    TooLong {
        /// The limit, which grows with the text.
        limit: usize,
    },
    /// The text cannot be encoded.
    #[error(transparent)]
    Encode(#[from] EncodeError),
}

/// Bytes that may be encoded for each byte of the text: some three without overlap.
const BYTES_PER_BYTE: usize = 16;

/// Bytes that may be encoded beside that, so that short texts may overlap as they like. Less in tests, which come to the limit.
const MORE_BYTES: usize = if cfg!(test) { 4 << 20 } else { 64 << 20 };

/// The same for each chunk that there may be, or a text of many short ones would come to the limit.
const BYTES_PER_CHUNK: usize = 64;

/// What one more call of the encoder costs, in bytes.
const BYTES_PER_CALL: usize = 16;

/// Cuts a text.
///
/// # Errors
/// See [`ChunkError`].
pub fn chunks(
    tokenizer: &Tokenizer,
    text: &str,
    options: &ChunkOptions<'_>,
    scratch: &mut Scratch,
) -> Result<Vec<Chunk>, ChunkError> {
    if options.overlap >= options.size {
        return Err(ChunkError::Overlap);
    }
    if options.matcher.denies() {
        tokenizer.count_matched(text, options.matcher, false, Some(0), scratch)?;
    }
    let limit = text.len().saturating_mul(BYTES_PER_BYTE).saturating_add(MORE_BYTES);
    let limit = limit.saturating_add(options.max_chunks.saturating_mul(BYTES_PER_CHUNK));
    let around = match options.add_special {
        true => tokenizer.template().before.len() + tokenizer.template().after.len(),
        false => 0,
    };
    let mut cutter = Cutter {
        tokenizer,
        text,
        options,
        around,
        room: options.size.saturating_sub(around),
        width: options.size.saturating_mul(5).saturating_add(BYTES_PER_CALL),
        borders: Borders::of(text, options.boundary),
        encoding: Encoding::default(),
        scratch,
        limit,
        left: limit,
    };
    let mut chunks: Vec<Chunk> = Vec::new();
    let (mut start, mut char_start, mut done) = (0, 0, 0);
    while done < text.len() {
        let (end, count) = cutter.end(&mut start, done)?;
        char_start += chunks.last().map_or(0, |last| chars(text, last.start, start));
        let chunk = Chunk { start, end, char_start, char_end: char_start + chars(text, start, end), count };
        if chunks.len() == options.max_chunks {
            return Err(ChunkError::TooMany { limit: options.max_chunks });
        }
        chunks.push(chunk);
        done = end;
        start = if end < text.len() { cutter.next_start(&chunk)? } else { end };
    }
    Ok(chunks)
}

fn chars(text: &str, from: usize, to: usize) -> usize {
    text[from..to].chars().count()
}

/// The work on one text.
struct Cutter<'c, 't> {
    tokenizer: &'c Tokenizer,
    text: &'t str,
    options: &'c ChunkOptions<'c>,
    /// Tokens around each chunk.
    around: usize,
    /// Tokens of a chunk without those.
    room: usize,
    /// Bytes that a chunk will have, by those before.
    width: usize,
    /// Places to cut at that are no borders of tokens, the widest first.
    borders: Vec<Borders<'t>>,
    encoding: Encoding,
    scratch: &'c mut Scratch,
    limit: usize,
    /// Bytes that may still be encoded.
    left: usize,
}

impl Cutter<'_, '_> {
    /// Where the chunk from `start` ends, behind `done`, and its count. Where nothing more fits behind an overlap, `start` moves.
    fn end(&mut self, start: &mut usize, done: usize) -> Result<(usize, usize), ChunkError> {
        loop {
            if let Some(found) = self.end_from(*start, done)? {
                return Ok(found);
            }
            if *start == done {
                return Err(ChunkError::SizeTooSmall { offset: done });
            }
            // What is repeated then may begin inside a token, and so may have more of them than it had.
            loop {
                *start = ceil_char(self.text, *start + (done - *start).div_ceil(2));
                if *start == done || self.count(*start, done, false, self.options.overlap)?.is_some() {
                    break;
                }
            }
        }
    }

    fn end_from(&mut self, start: usize, done: usize) -> Result<Option<(usize, usize)>, ChunkError> {
        let ends = match self.reach(start, done)? {
            Reach::Whole(count) => return Ok(Some((self.text.len(), count))),
            Reach::Tokens(ends) => ends,
        };
        let reach = ends.last().copied().unwrap_or(done);
        for kind in 0..self.borders.len() {
            let borders = self.borders[kind].between(start, done, reach);
            if let Some(found) = self.last_that_fits(start, &borders)? {
                return Ok(Some(found));
            }
        }
        if let Some(found) = self.last_that_fits(start, &ends)? {
            return Ok(Some(found));
        }
        // Ends of tokens may lie inside characters, or be others when the text ends there.
        let reach = reach.max(ceil_char(self.text, done + 1));
        let behind = self.text[done..reach].char_indices().map(|(at, c)| done + at + c.len_utf8());
        let borders: Vec<usize> = behind.collect();
        self.last_that_fits(start, &borders)
    }

    /// The places between characters, behind `done`, at which tokens of the text from `start` end, as far as a chunk may reach.
    fn reach(&mut self, start: usize, done: usize) -> Result<Reach, ChunkError> {
        let least = ceil_char(self.text, done + 1) - start;
        loop {
            let end = ceil_char(self.text, start.saturating_add(self.width.max(least)));
            self.encode(start, end, self.room, Keep::Start)?;
            if !self.encoding.truncated && end == self.text.len() && self.around <= self.options.size {
                return Ok(Reach::Whole(self.encoding.ids.len() + self.around));
            }
            if !self.encoding.truncated && end < self.text.len() {
                self.width = (end - start).saturating_mul(2);
                continue;
            }
            let mut ends: Vec<usize> = Vec::new();
            for span in &self.encoding.spans {
                let at = start + span.end;
                if at > ends.last().copied().unwrap_or(done) && self.text.is_char_boundary(at) {
                    ends.push(at);
                }
            }
            let reached = ends.last().map_or(least, |end| end - start);
            self.width = reached + reached / 4 + BYTES_PER_CALL;
            return Ok(Reach::Tokens(ends));
        }
    }

    /// The last of the places, or one near it, at which a chunk from `start` has no token too many.
    fn last_that_fits(&mut self, start: usize, ends: &[usize]) -> Result<Option<(usize, usize)>, ChunkError> {
        let count = |cutter: &mut Self, index: usize| {
            let count = cutter.count(start, ends[index], cutter.options.add_special, cutter.options.size)?;
            Ok(count.map(|count| (ends[index], count)))
        };
        nearest(ends.len(), |back| count(self, ends.len() - 1 - back))
    }

    /// Where the chunk behind `chunk` starts.
    fn next_start(&mut self, chunk: &Chunk) -> Result<usize, ChunkError> {
        let Chunk { start, end, count, .. } = *chunk;
        let overlap = self.options.overlap;
        if overlap == 0 {
            return Ok(end);
        }
        let mut width =
            ((end - start) / count.max(1)).saturating_add(2).saturating_mul(overlap).saturating_add(16);
        let tail = loop {
            let tail = ceil_char(self.text, end - width.min(end - start));
            self.encode(tail, end, overlap, Keep::End)?;
            if self.encoding.truncated || tail == start {
                break tail;
            }
            width = width.saturating_mul(2);
        };
        let mut starts: Vec<usize> = Vec::new();
        for span in &self.encoding.spans {
            let at = tail + span.start;
            if at > starts.last().copied().unwrap_or(start) && at < end && self.text.is_char_boundary(at) {
                starts.push(at);
            }
        }
        let Some(&from) = starts.first() else { return Ok(end) };
        for kind in 0..self.borders.len() {
            let borders = self.borders[kind].between(start, from - 1, end - 1);
            if let Some(found) = self.first_that_overlaps(end, &borders)? {
                return Ok(found);
            }
        }
        Ok(self.first_that_overlaps(end, &starts)?.unwrap_or(end))
    }

    fn first_that_overlaps(&mut self, end: usize, starts: &[usize]) -> Result<Option<usize>, ChunkError> {
        let overlap = self.options.overlap;
        nearest(starts.len(), |index| {
            Ok(self.count(starts[index], end, false, overlap)?.map(|_| starts[index]))
        })
    }

    /// The tokens of a stretch, unless they are more than `most`.
    fn count(
        &mut self,
        start: usize,
        end: usize,
        add_special: bool,
        most: usize,
    ) -> Result<Option<usize>, ChunkError> {
        self.spend(end - start)?;
        let (text, matcher) = (&self.text[start..end], self.options.matcher);
        let count = self.tokenizer.count_matched(text, matcher, add_special, Some(most), self.scratch)?;
        Ok((!count.exceeded).then_some(count.tokens))
    }

    /// Encodes a stretch with spans.
    fn encode(&mut self, start: usize, end: usize, most: usize, keep: Keep) -> Result<(), ChunkError> {
        self.spend(end - start)?;
        let options = EncodeOptions {
            offsets: Some(OffsetUnit::Byte),
            max_tokens: Some(most),
            keep,
            ..EncodeOptions::default()
        };
        let text = &self.text[start..end];
        self.encoding = self.tokenizer.encode_matched(text, self.options.matcher, &options, self.scratch)?;
        Ok(())
    }

    fn spend(&mut self, bytes: usize) -> Result<(), ChunkError> {
        let rest = self.left.checked_sub(bytes + BYTES_PER_CALL);
        self.left = rest.ok_or(ChunkError::TooLong { limit: self.limit })?;
        Ok(())
    }
}

/// How far so many tokens reach.
enum Reach {
    /// To the end of the text, which has this count from there.
    Whole(usize),
    /// To the last of these places.
    Tokens(Vec<usize>),
}

/// What the first index gives that gives anything: looked for in steps that double, and then between the last two. If it is not the
/// first one it is near it.
fn nearest<T>(
    len: usize,
    mut look: impl FnMut(usize) -> Result<Option<T>, ChunkError>,
) -> Result<Option<T>, ChunkError> {
    let (mut below, mut step, mut at) = (None, 1, 0);
    let mut found = loop {
        if at >= len {
            // The last one was not looked at yet where a step went beyond it.
            let last = len.checked_sub(1).filter(|&last| below.is_none_or(|below| below < last));
            match last.map(&mut look).transpose()?.flatten() {
                Some(value) => break (len - 1, value),
                None => return Ok(None),
            }
        }
        if let Some(value) = look(at)? {
            break (at, value);
        }
        below = Some(at);
        at += step;
        step *= 2;
    };
    while let Some(low) = below.filter(|low| low + 1 < found.0) {
        let middle = low + (found.0 - low) / 2;
        match look(middle)? {
            Some(value) => found = (middle, value),
            None => below = Some(middle),
        }
    }
    Ok(Some(found.1))
}

/// The first place between characters at or behind `at`.
fn ceil_char(text: &str, at: usize) -> usize {
    if at >= text.len() { text.len() } else { text.ceil_char_boundary(at) }
}

#[cfg(test)]
mod tests;
