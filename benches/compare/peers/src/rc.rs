//! Hugging Face's tokenizers 1.0, whose interface is another one than that of the versions before.

use measure::{Batch, Engine, Failure, Task};
use tokenizers_rc::pipeline::{EncodeOptions, Encoding, PipelineToken, PipelineTokenizer};

/// Loads a `tokenizer.json`.
pub fn load(task: &Task) -> Result<Box<dyn Engine>, Failure> {
    // Files of older versions are rewritten first, as its documentation says.
    let json = tokenizers_rc::canonicalize_file(&task.file).map_err(|e| e.to_string())?;
    let tokenizer = tokenizers_rc::from_json(&json).map_err(|e| e.to_string())?;
    let options = EncodeOptions { encode_special_tokens: true, ..EncodeOptions::no_specials() };
    Ok(Box::new(Pipeline { tokenizer, options }))
}

struct Pipeline {
    tokenizer: PipelineTokenizer,
    options: EncodeOptions,
}

impl Engine for Pipeline {
    fn encode(&mut self, text: &str) -> Result<Vec<u32>, Failure> {
        // The room that its `encode` begins with.
        let mut ids = Vec::with_capacity(text.len() / 4);
        self.tokenizer.encode_into(text, &self.options, &mut ids).map_err(|e| e.to_string())?;
        Ok(numbers(ids))
    }

    fn decode(&mut self, ids: &[u32]) -> Result<Vec<u8>, Failure> {
        Ok(self.tokenizer.decode(ids, false).map_err(|e| e.to_string())?.into_bytes())
    }

    fn encode_batch(&mut self, texts: &[&str], _threads: usize) -> Result<Box<dyn Batch>, Failure> {
        let encodings = self.tokenizer.encode(texts, &self.options).wait().map_err(|e| e.to_string())?;
        Ok(Box::new(Encodings(encodings)))
    }
}

struct Encodings(Vec<Encoding>);

impl Batch for Encodings {
    fn each(&self, answer: &mut dyn FnMut(&[u32])) {
        for encoding in &self.0 {
            answer(&encoding.ids().iter().map(|id| id.id()).collect::<Vec<_>>());
        }
    }
}

/// Its ids as numbers, without a copy that its users would not make.
fn numbers(ids: Vec<PipelineToken>) -> Vec<u32> {
    let mut ids = std::mem::ManuallyDrop::new(ids);
    // SAFETY: `PipelineToken` is `repr(transparent)` over `u32`, so layout, length and capacity stay what they are, and
    // the old vector is not dropped.
    unsafe { Vec::from_raw_parts(ids.as_mut_ptr().cast::<u32>(), ids.len(), ids.capacity()) }
}
