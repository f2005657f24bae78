//! A body that is read line by line, in batches: what is held is a batch, a line under way and a piece of the body, however
//! long the body is.

use super::super::admission::Room;
use super::super::coding::Decoder;
use super::super::extract::body_error;
use super::super::problem::Problem;
use axum::body::Body;
use bytes::{Buf, Bytes};
use futures_util::FutureExt;
use http_body_util::BodyExt;
use std::ops::Range;

/// Bytes and lines with which a batch is full.
const BATCH_BYTES: usize = 256 << 10;
const BATCH_LINES: usize = 4096;

/// A line under way takes room among the bytes in flight by so many bytes at once; what has less takes none.
const ROOM_STEP: usize = 64 << 10;

/// Lines that are worked on together.
#[derive(Debug, Default)]
pub(super) struct Batch {
    bytes: Vec<u8>,
    items: Vec<(u64, Item)>,
    /// What its long lines had when they were under way.
    rooms: Vec<Room>,
}

/// A line, or what is in its place.
#[derive(Debug)]
enum Item {
    /// Its bytes in those of the batch.
    Line(Range<usize>),
    /// What is wrong with it, or with the body from here on.
    Wrong(Problem),
}

impl Batch {
    /// Bytes of its lines.
    pub(super) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Lines in their order, each with its number, counted from 1.
    pub(super) fn lines(&self) -> impl Iterator<Item = (u64, Result<&[u8], &Problem>)> {
        self.items.iter().map(|(number, item)| match item {
            Item::Line(range) => (*number, Ok(&self.bytes[range.clone()])),
            Item::Wrong(problem) => (*number, Err(problem)),
        })
    }

    /// The problem, where there is nothing else.
    pub(super) fn only_problem(&self) -> Option<&Problem> {
        match &self.items[..] {
            [(_, Item::Wrong(problem))] => Some(problem),
            _ => None,
        }
    }

    fn is_full(&self) -> bool {
        self.bytes.len() >= BATCH_BYTES || self.items.len() >= BATCH_LINES
    }
}

/// Reads lines.
#[derive(Debug)]
pub(super) struct Lines {
    body: Body,
    decoder: Option<Decoder>,
    /// Bytes of the body that were not decompressed yet.
    packed: Bytes,
    /// Bytes that were not parted into lines yet.
    plain: Bytes,
    /// The beginning of a line.
    partial: Vec<u8>,
    /// What the line under way has of the bytes in flight, if those are counted.
    room: Option<Room>,
    /// Whether the rest of a line is passed over, its beginning being over the limit.
    passes_over: bool,
    /// Lines begun.
    number: u64,
    limit: usize,
    ended: bool,
}

impl Lines {
    /// The lines of `body`, each of at most `limit` bytes, of which long ones take of the `room`.
    pub(super) fn new(body: Body, decoder: Option<Decoder>, limit: usize, room: Option<Room>) -> Self {
        let (packed, plain, partial) = (Bytes::new(), Bytes::new(), Vec::new());
        let (passes_over, number, ended) = (false, 1, false);
        Self { body, decoder, packed, plain, partial, room, passes_over, number, limit, ended }
    }

    /// The next lines: those that are there, once there is one. `None` at the end.
    pub(super) async fn batch(&mut self) -> Option<Batch> {
        let mut batch = Batch::default();
        loop {
            while !self.plain.is_empty() && !batch.is_full() {
                self.part(&mut batch);
            }
            if batch.is_full() {
                return Some(batch);
            }
            if self.ended {
                return (!batch.items.is_empty()).then_some(batch);
            }
            if let Err(problem) = self.more(&mut batch).await {
                batch.items.push((self.number, Item::Wrong(problem)));
                self.end();
            } else if self.plain.is_empty()
                && self.packed.is_empty()
                && !self.ended
                && !batch.items.is_empty()
            {
                return Some(batch);
            }
            // Much input that gives few lines must not keep the thread.
            tokio::task::consume_budget().await;
        }
    }

    /// Gets more bytes to part, if there are any. Waits for them only where the batch has nothing yet.
    async fn more(&mut self, batch: &mut Batch) -> Result<(), Problem> {
        if !self.packed.is_empty()
            && let Some(decoder) = &mut self.decoder
        {
            let taken = decoder.put(&self.packed)?;
            self.packed.advance(taken);
            let mut plain = Vec::new();
            decoder.take(&mut plain)?;
            self.plain = plain.into();
            return Ok(());
        }
        let frame = if batch.items.is_empty() {
            self.body.frame().await
        } else {
            let Some(frame) = self.body.frame().now_or_never() else { return Ok(()) };
            frame
        };
        match frame {
            Some(Ok(frame)) => {
                let data = frame.into_data().unwrap_or_default();
                *if self.decoder.is_some() { &mut self.packed } else { &mut self.plain } = data;
            }
            Some(Err(error)) => return Err(body_error(&error, 0)),
            None => {
                if let Some(decoder) = &mut self.decoder {
                    decoder.finish()?;
                    let mut plain = Vec::new();
                    decoder.take_rest(&mut plain);
                    self.plain = plain.into();
                    while !self.plain.is_empty() {
                        self.part(batch);
                    }
                }
                if !self.partial.is_empty() {
                    let last = std::mem::take(&mut self.partial);
                    self.line(&last, batch);
                    self.hand_over(last.len(), batch);
                }
                self.end();
            }
        }
        Ok(())
    }

    fn end(&mut self) {
        self.ended = true;
        (self.packed, self.plain, self.partial) = (Bytes::new(), Bytes::new(), Vec::new());
        self.body = Body::empty();
        self.give_back();
    }

    /// Takes a line, or a piece of one, from what is to be parted.
    fn part(&mut self, batch: &mut Batch) {
        let Some(end) = memchr::memchr(b'\n', &self.plain) else {
            let piece = std::mem::take(&mut self.plain);
            if self.passes_over {
                return;
            }
            match self.lengthen(piece.len()) {
                Ok(()) => self.partial.extend_from_slice(&piece),
                Err(problem) => {
                    self.refuse(problem, batch);
                    self.passes_over = true;
                }
            }
            return;
        };
        let piece = self.plain.split_to(end);
        self.plain.advance(1);
        if self.passes_over {
            self.passes_over = false;
        } else if self.partial.len() + piece.len() > self.limit {
            self.refuse(Problem::line_too_long(self.limit), batch);
        } else if self.partial.is_empty() {
            self.line(&piece, batch);
        } else {
            let mut line = std::mem::take(&mut self.partial);
            line.extend_from_slice(&piece);
            self.line(&line, batch);
            self.hand_over(line.len(), batch);
            line.clear();
            // Kept for the next line, unless it is an unusually large piece of memory.
            if line.capacity() <= BATCH_BYTES {
                self.partial = line;
            }
        }
        self.number += 1;
    }

    /// Whether the line under way may have so many bytes more.
    fn lengthen(&self, more: usize) -> Result<(), Problem> {
        let (now, then) = (self.partial.len(), self.partial.len() + more);
        if then > self.limit {
            return Err(Problem::line_too_long(self.limit));
        }
        let steps = then / ROOM_STEP - now / ROOM_STEP;
        match &self.room {
            Some(room) if steps > 0 => room.grow((steps * ROOM_STEP) as u64),
            _ => Ok(()),
        }
    }

    fn refuse(&mut self, problem: Problem, batch: &mut Batch) {
        batch.items.push((self.number, Item::Wrong(problem)));
        self.partial = Vec::new();
        self.give_back();
    }

    /// The room of a line of so many bytes goes where the line went.
    fn hand_over(&mut self, len: usize, batch: &mut Batch) {
        if let Some(room) = &mut self.room
            && len >= ROOM_STEP
        {
            let next = room.apart();
            batch.rooms.push(std::mem::replace(room, next));
        }
    }

    fn give_back(&self) {
        if let Some(room) = &self.room {
            room.becomes(0);
        }
    }

    /// Blank lines have no answer.
    fn line(&self, line: &[u8], batch: &mut Batch) {
        let line = line.trim_ascii();
        if !line.is_empty() {
            let start = batch.bytes.len();
            batch.bytes.extend_from_slice(line);
            batch.items.push((self.number, Item::Line(start..batch.bytes.len())));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::admission::{Admission, Load};
    use super::*;
    use std::io;

    /// Numbers and lines of a body that comes in these pieces; `None` for what is wrong.
    async fn read(pieces: &[&[u8]], limit: usize) -> Vec<(u64, Option<String>)> {
        let pieces: Vec<io::Result<Vec<u8>>> = pieces.iter().map(|piece| Ok(piece.to_vec())).collect();
        let body = Body::from_stream(futures_util::stream::iter(pieces));
        let (mut lines, mut all) = (Lines::new(body, None, limit, None), Vec::new());
        while let Some(batch) = lines.batch().await {
            let text = |line: &[u8]| String::from_utf8(line.to_vec()).unwrap();
            all.extend(batch.lines().map(|(number, line)| (number, line.ok().map(text))));
        }
        all
    }

    #[tokio::test]
    async fn lines_are_the_same_however_the_body_is_cut() {
        let body = b"one\n\n two \r\n0123456789abc\nfour\n0123456789abcdef\nlast";
        let own = |text: &str| Some(text.to_owned());
        let expect =
            [(1, own("one")), (3, own("two")), (4, None), (5, own("four")), (6, None), (7, own("last"))];
        assert_eq!(read(&[body], 10).await, expect);
        for size in 1..body.len() {
            let pieces: Vec<&[u8]> = body.chunks(size).collect();
            assert_eq!(read(&pieces, 10).await, expect, "in pieces of {size}");
        }
        assert_eq!(read(&[], 10).await, []);
        assert_eq!(read(&[b"\n\n"], 10).await, []);
        assert_eq!(read(&[b"0123456789a"], 10).await, [(1, None)], "the last line is too long");
    }

    #[tokio::test]
    async fn a_batch_is_bounded() {
        let body = Body::from("{}\n".repeat(100_000));
        let mut lines = Lines::new(body, None, 1000, None);
        let (mut batches, mut total) = (0, 0);
        while let Some(batch) = lines.batch().await {
            assert!(batch.items.len() <= BATCH_LINES);
            (batches, total) = (batches + 1, total + batch.items.len());
        }
        assert!(batches > 20 && total == 100_000);
    }

    #[tokio::test]
    async fn long_lines_have_room_until_their_batch_is_done() {
        let admission = Admission::new(2, 1 << 20);
        let admitted = admission.admit(Load::Encode, 0).unwrap().unwrap();
        let long = |bytes: usize| format!("{}\n", "x".repeat(bytes));
        let text = [long(300_000), long(10), long(2_000_000), long(600_000), long(20)].concat();
        let pieces: Vec<_> =
            text.as_bytes().chunks(10_000).map(|piece| io::Result::Ok(piece.to_vec())).collect();
        let body = Body::from_stream(futures_util::stream::iter(pieces));
        let mut lines = Lines::new(body, None, 1 << 22, Some(admitted.1.apart()));
        let (mut read, mut most) = (Vec::new(), 0);
        while let Some(batch) = lines.batch().await {
            most = most.max(admission.bytes_in_flight());
            read.extend(
                batch.lines().map(|(number, line)| (number, line.map(<[u8]>::len).map_err(Problem::code))),
            );
        }
        assert_eq!(
            read,
            [(1, Ok(300_000)), (2, Ok(10)), (3, Err("overloaded")), (4, Ok(600_000)), (5, Ok(20))]
        );
        assert!((600_000 - ROOM_STEP as u64..=1 << 20).contains(&most), "{most}");
        assert_eq!(admission.bytes_in_flight(), 0);
    }
}
