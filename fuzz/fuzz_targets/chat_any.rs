//! Any text as a chat template: a text or an error within the bounds; never a panic, an abort or a hang.
#![no_main]

use libfuzzer_sys::fuzz_target;
use vocabd::chat::{Chat, ChatParts, Wanted, render};
use vocabd::engine::ChatTemplates;

fuzz_target!(|data: &[u8]| {
    let source = String::from_utf8_lossy(data);
    let messages = r#"[{"role": "user", "content": "Hi <s>"}, {"role": "assistant", "content": null, "tool_calls": []}]"#;
    let chat = Chat::new(ChatParts {
        messages: serde_json::from_str(messages).expect("it is JSON"),
        add_generation_prompt: true,
        ..ChatParts::default()
    });
    let templates = ChatTemplates { sources: [("default".to_owned(), source.into_owned())].into(), ..Default::default() };
    let _ = render(&templates, Wanted::Usual, &chat.expect("plain messages"), None);
});
