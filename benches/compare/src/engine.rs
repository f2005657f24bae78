//! vocabd, behind the calls that every engine is measured by.

use measure::{Batch, Engine, Failure, Task};
use std::cell::RefCell;
use std::sync::atomic::{AtomicUsize, Ordering};
use vocabd::engine::{EncodeOptions, OffsetUnit, Scratch, SpecialPolicy, Tokenizer};
use vocabd::formats::{self, ImportOptions};

/// Loads a vocabulary from any file that vocabd reads.
pub fn load(task: &Task) -> Result<Box<dyn Engine>, Failure> {
    let bytes = std::fs::read(&task.file).map_err(|e| format!("{}: {e}", task.file.display()))?;
    let tokenizer = formats::import(&bytes, None, &ImportOptions::default())?;
    drop(bytes);
    Ok(Box::new(Vocabd { tokenizer, scratch: Scratch::default(), pool: None }))
}

struct Vocabd {
    tokenizer: Tokenizer,
    scratch: Scratch,
    /// For batches.
    pool: Option<rayon::ThreadPool>,
}

impl Engine for Vocabd {
    fn encode(&mut self, text: &str) -> Result<Vec<u32>, Failure> {
        Ok(self.tokenizer.encode(text, &EncodeOptions::default(), &mut self.scratch)?.ids)
    }

    fn count(&mut self, text: &str) -> Result<usize, Failure> {
        Ok(self.tokenizer.count(text, &SpecialPolicy::default(), None, &mut self.scratch)?.tokens)
    }

    fn count_within(&mut self, text: &str, limit: usize) -> Result<(), Failure> {
        let special = SpecialPolicy::default();
        self.tokenizer.count(text, &special, Some(limit), &mut self.scratch)?;
        Ok(())
    }

    fn decode(&mut self, ids: &[u32]) -> Result<Vec<u8>, Failure> {
        Ok(self.tokenizer.decode_bytes(ids, false)?)
    }

    fn encode_with_offsets(&mut self, text: &str) -> Result<Vec<u32>, Failure> {
        let options = EncodeOptions { offsets: Some(OffsetUnit::Byte), ..EncodeOptions::default() };
        let encoding = self.tokenizer.encode(text, &options, &mut self.scratch)?;
        std::hint::black_box(encoding.spans);
        Ok(encoding.ids)
    }

    /// The threads of a pool, which stays from batch to batch as those of a server do, take text by text.
    fn encode_batch(&mut self, texts: &[&str], threads: usize) -> Result<Box<dyn Batch>, Failure> {
        if self.pool.as_ref().is_none_or(|pool| pool.current_num_threads() != threads) {
            self.pool = Some(rayon::ThreadPoolBuilder::new().num_threads(threads).build()?);
        }
        let (Some(pool), tokenizer, next) = (&self.pool, &self.tokenizer, AtomicUsize::new(0)) else {
            return Err("a pool was made".into());
        };
        let work = |_: rayon::BroadcastContext<'_>| -> Result<Vec<(usize, Vec<u32>)>, String> {
            thread_local! {
                static SCRATCH: RefCell<Scratch> = RefCell::default();
            }
            SCRATCH.with_borrow_mut(|scratch| {
                let mut done = Vec::new();
                while let at = next.fetch_add(1, Ordering::Relaxed)
                    && let Some(text) = texts.get(at)
                {
                    let encoding = tokenizer.encode(text, &EncodeOptions::default(), scratch);
                    done.push((at, encoding.map_err(|e| e.to_string())?.ids));
                }
                Ok(done)
            })
        };
        let mut batch = vec![Vec::new(); texts.len()];
        for done in pool.broadcast(work) {
            for (at, ids) in done? {
                batch[at] = ids;
            }
        }
        Ok(Box::new(batch))
    }
}
