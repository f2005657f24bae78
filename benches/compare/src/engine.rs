//! vocabd, behind the calls that every engine is measured by.

use measure::{Batch, Engine, Failure, Task};
use std::sync::atomic::{AtomicUsize, Ordering};
use vocabd::engine::{EncodeOptions, OffsetUnit, Scratch, SpecialPolicy, Tokenizer};
use vocabd::formats::{self, ImportOptions};

/// Loads a vocabulary from any file that vocabd reads.
pub fn load(task: &Task) -> Result<Box<dyn Engine>, Failure> {
    let bytes = std::fs::read(&task.file).map_err(|e| format!("{}: {e}", task.file.display()))?;
    let tokenizer = formats::import(&bytes, None, &ImportOptions::default())?;
    drop(bytes);
    Ok(Box::new(Vocabd { tokenizer, scratches: vec![Scratch::default()] }))
}

struct Vocabd {
    tokenizer: Tokenizer,
    /// One for each thread.
    scratches: Vec<Scratch>,
}

impl Engine for Vocabd {
    fn encode(&mut self, text: &str) -> Result<Vec<u32>, Failure> {
        Ok(self.tokenizer.encode(text, &EncodeOptions::default(), &mut self.scratches[0])?.ids)
    }

    fn count(&mut self, text: &str) -> Result<usize, Failure> {
        Ok(self.tokenizer.count(text, &SpecialPolicy::default(), None, &mut self.scratches[0])?.tokens)
    }

    fn count_within(&mut self, text: &str, limit: usize) -> Result<(), Failure> {
        let special = SpecialPolicy::default();
        self.tokenizer.count(text, &special, Some(limit), &mut self.scratches[0])?;
        Ok(())
    }

    fn decode(&mut self, ids: &[u32]) -> Result<Vec<u8>, Failure> {
        Ok(self.tokenizer.decode_bytes(ids, false)?)
    }

    fn encode_with_offsets(&mut self, text: &str) -> Result<Vec<u32>, Failure> {
        let options = EncodeOptions { offsets: Some(OffsetUnit::Byte), ..EncodeOptions::default() };
        let encoding = self.tokenizer.encode(text, &options, &mut self.scratches[0])?;
        std::hint::black_box(encoding.spans);
        Ok(encoding.ids)
    }

    /// The calling thread and others that are started for the batch take text by text.
    fn encode_batch(&mut self, texts: &[&str], threads: usize) -> Result<Box<dyn Batch>, Failure> {
        self.scratches.resize_with(threads.max(1), Scratch::default);
        let (tokenizer, next) = (&self.tokenizer, AtomicUsize::new(0));
        let work = |scratch: &mut Scratch| -> Result<Vec<(usize, Vec<u32>)>, Failure> {
            let mut done = Vec::new();
            while let at = next.fetch_add(1, Ordering::Relaxed)
                && let Some(text) = texts.get(at)
            {
                done.push((at, tokenizer.encode(text, &EncodeOptions::default(), scratch)?.ids));
            }
            Ok(done)
        };
        let work = &work;
        let done = std::thread::scope(|scope| -> Result<_, Failure> {
            let [own, others @ ..] = &mut self.scratches[..] else { return Ok(Vec::new()) };
            let others: Vec<_> =
                others.iter_mut().map(|scratch| scope.spawn(move || work(scratch))).collect();
            let mut done = work(own)?;
            for other in others {
                done.extend(other.join().map_err(|_| "a thread panicked")??);
            }
            Ok(done)
        })?;
        let mut batch = vec![Vec::new(); texts.len()];
        for (at, ids) in done {
            batch[at] = ids;
        }
        Ok(Box::new(batch))
    }
}
