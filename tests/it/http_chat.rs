//! `/chat/render` and `/chat/encode` over the router, with vocabularies that have templates.

use crate::data;
use crate::support::{Answer, CANARY, TestServer, and, ids, json_body, request};
use axum::http::Method;
use serde_json::{Value, json};
use vocabd::config::Config;
use vocabd::engine::{ChatTemplates, Pattern, Special, Tokenizer, TokenizerParts};
use vocabd::formats::{Format, export};

const START: u32 = 300;
const END: u32 = 301;
const THINK: u32 = 302;

/// Bytes as tokens, three added tokens and templates.
pub(crate) fn vocabulary(sources: &[(&str, &str)]) -> Vec<u8> {
    let special = Special::new;
    let tokenizer = Tokenizer::new(TokenizerParts {
        specials: vec![
            special("<|im_start|>", START, true),
            special("<|im_end|>", END, true),
            special("</think>", THINK, false),
        ],
        chat: ChatTemplates {
            sources: sources.iter().map(|(name, source)| ((*name).into(), (*source).into())).collect(),
            tokens: [("eos_token".to_owned(), "<|im_end|>".to_owned())].into(),
        },
        ..TokenizerParts::byte_level(
            (0..=255).map(|byte| (u32::from(byte), vec![byte])).collect(),
            Vec::new(),
            Pattern::parse("cl100k").unwrap(),
        )
    });
    export(&tokenizer.unwrap(), Format::Native).unwrap()
}

/// A server with `chat@1`, which has Qwen2.5's template and two more, and `bare@1`, which has none.
async fn server_with(change: impl FnOnce(&mut Config)) -> TestServer {
    let server = TestServer::with(change).await;
    let qwen = String::from_utf8(data::local("chat/qwen2.5.jinja")).unwrap();
    let named = "{% if messages[0].role == 'bad' %}{{ raise_exception('No ' + messages[0].content) }}{% endif %}\
        {{ bos_token }}{{ eos_token }}{{ enable_thinking }}{{ documents }}{{ messages | length }}";
    let sources = [
        ("default", &*qwen),
        ("named", named),
        ("loops", "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}"),
    ];
    server.post("/vocabs?name=chat&format=native", vocabulary(&sources)).await.ok(201);
    server.post("/vocabs?name=bare&format=native", vocabulary(&[])).await.ok(201);
    server
}

async fn server() -> TestServer {
    server_with(|_| ()).await
}

async fn ask(server: &TestServer, path: &str, fields: Value) -> Answer {
    let mut body = json!({"vocab": "chat", "messages": [{"role": "user", "content": "Hi"}]});
    body.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    server.post_json(path, body).await
}

const SYSTEM: &str =
    "<|im_start|>system\nYou are Qwen, created by Alibaba Cloud. You are a helpful assistant.<|im_end|>\n";

#[tokio::test]
async fn messages_become_text_and_ids() {
    let server = server().await;
    let text = format!("{SYSTEM}<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n");
    let rendered = ask(&server, "/chat/render", json!({})).await;
    let body = rendered.ok(200);
    assert_eq!(body["text"], text);
    assert_eq!(body.as_object().unwrap().keys().collect::<Vec<_>>(), ["text", "vocab"]);
    assert_eq!(rendered.header("vocab"), "chat@1");
    assert_eq!(rendered.header("etag"), format!("\"{}\"", body["vocab"]["digest"].as_str().unwrap()));

    let encoded = ask(&server, "/chat/encode", json!({})).await;
    let body = encoded.ok(200);
    assert_eq!(
        (&body["text"], &body["truncated"], encoded.header("vocab")),
        (&json!(text), &json!(false), "chat@1")
    );
    let parse = json!({"text": text, "vocab": "chat", "special": "parse"});
    assert_eq!(body["ids"], server.post_json("/encode", parse).await.ok(200)["ids"]);
    assert_eq!(body["count"], ids(&body["ids"]).len());
    assert_eq!(body.get("tokens").or(body.get("offsets")).or(body.get("bytes_b64")), None);

    let without = ask(&server, "/chat/render", json!({"add_generation_prompt": false})).await.ok(200);
    assert_eq!(without["text"], format!("{SYSTEM}<|im_start|>user\nHi<|im_end|>\n"));
    server.goes_on().await;
}

#[tokio::test]
async fn answers_have_what_was_asked_for() {
    let server = server().await;
    let fields = json!({"chat_template": "named", "return": ["tokens", "bytes", "offsets"], "max_tokens": 3, "offset_unit": "char"});
    let body = ask(&server, "/chat/encode", fields).await.ok(200);
    assert_eq!(body["text"], "<|im_end|>None1");
    assert_eq!((&body["count"], &body["truncated"], body.get("ids")), (&json!(3), &json!(true), None));
    assert_eq!(body["tokens"], json!(["<|im_end|>", "N", "o"]));
    assert_eq!(body["offsets"], json!([[0, 10], [10, 11], [11, 12]]));
    assert_eq!(body["bytes_b64"][1], "Tg==");
    let fields = json!({"chat_template": "named", "max_tokens": 2, "truncation_side": "left"});
    assert_eq!(ask(&server, "/chat/encode", fields).await.ok(200)["ids"], json!([b'e', b'1']));
    let fields = json!({"chat_template": "named", "chat_template_kwargs": {"enable_thinking": true, "bos_token": "B"}, "documents": [{"id": 1}]});
    assert_eq!(ask(&server, "/chat/render", fields).await.ok(200)["text"], "B<|im_end|>True[{'id': 1}]1");
}

/// Tools are written as they came: `tojson` shows the order of keys.
#[tokio::test]
async fn the_order_of_keys_and_unknown_keys_reach_the_template() {
    let server = server().await;
    let body = r#"{"vocab": "chat", "tools": [{"type": "function", "function": {"name": "f", "z": 1, "a": 2.0}}],
        "messages": [{"role": "user", "content": "q"}, {"content": "", "role": "assistant", "tool_calls":
        [{"function": {"name": "f", "arguments": {"z": "天", "a": null}}}]}]}"#;
    let text = server.post("/chat/render", body).await.ok(200)["text"].as_str().unwrap().to_owned();
    assert!(text.contains(r#"{"type": "function", "function": {"name": "f", "z": 1, "a": 2.0}}"#), "{text}");
    assert!(text.contains(r#"{"name": "f", "arguments": {"z": "天", "a": null}}"#), "{text}");
}

#[tokio::test]
async fn names_of_special_tokens_in_contents_are_tokens_or_text() {
    let server = server().await;
    let messages = json!([{"role": "user", "content": "<|im_end|></think>x"}]);
    let specials = async |fields: Value| {
        let mut fields = fields;
        fields["messages"] = messages.clone();
        let body = ask(&server, "/chat/encode", fields).await.ok(200);
        let text = body["text"].as_str().unwrap();
        assert!(text.contains("user\n<|im_end|></think>x<|im_end|>\n"), "{text}");
        ids(&body["ids"]).into_iter().filter(|id| *id >= START).collect::<Vec<_>>()
    };
    let parsed = [START, END, START, END, THINK, END, START];
    assert_eq!(specials(json!({})).await, parsed);
    assert_eq!(specials(json!({"content_special": "parse"})).await, parsed);
    // A token that is added without the flag is recognised everywhere.
    assert_eq!(specials(json!({"content_special": "text"})).await, [START, END, START, THINK, END, START]);
    // As text the name has a token for each of its bytes, and its offsets are those of the text.
    let fields = json!({"content_special": "text", "messages": messages, "return": ["ids", "offsets"]});
    let body = ask(&server, "/chat/encode", fields).await.ok(200);
    let end = body["text"].as_str().unwrap().len();
    assert_eq!(body["offsets"].as_array().unwrap().last().unwrap()[1], end);
    assert_eq!(body["offsets"].as_array().unwrap().len(), ids(&body["ids"]).len());
}

#[tokio::test]
async fn the_vocabulary_is_named_and_guarded_as_in_encode() {
    let server = server().await;
    for path in ["/chat/render", "/chat/encode"] {
        let tag = ask(&server, path, json!({})).await.header("etag").to_owned();
        let body = json!({"model": "chat@1", "messages": [{"role": "user", "content": "a"}]});
        let same = and(json_body(Method::POST, path, &body), "if-match", &tag);
        server.send(same).await.ok(200);
        let other = and(json_body(Method::POST, path, &body), "if-match", "\"sha256:0\"");
        server.send(other).await.problem(412, "vocab_changed", None);
        ask(&server, path, json!({"model": "chat"})).await.problem(422, "invalid_field", Some("/model"));
        ask(&server, path, json!({"vocab": "chatt"})).await.problem(404, "unknown_vocab", None);
        ask(&server, path, json!({"vocab": "bare"})).await.problem(422, "no_chat_template", None);
        assert_eq!(server.send(request(Method::GET, path)).await.status, 405);
    }
}

#[tokio::test]
async fn bad_fields_are_told_by_their_place() {
    let server = server().await;
    let check = async |fields: Value, code: &str, pointer: &str| {
        for path in ["/chat/render", "/chat/encode"] {
            ask(&server, path, fields.clone()).await.problem(422, code, Some(pointer));
        }
    };
    let content = |content: Value| json!({"messages": [{"role": "user", "content": content}]});
    check(json!({"messages": []}), "invalid_field", "/messages").await;
    check(json!({"messages": [CANARY]}), "invalid_field", "/messages/0").await;
    check(json!({"messages": CANARY}), "invalid_field", "/messages").await;
    check(content(json!(5)), "invalid_field", "/messages/0/content").await;
    check(
        content(json!([{"type": "image_url", "image_url": CANARY}])),
        "not_countable",
        "/messages/0/content/0",
    )
    .await;
    check(json!({"tools": [1]}), "invalid_field", "/tools/0").await;
    check(json!({"documents": [CANARY]}), "invalid_field", "/documents/0").await;
    check(json!({"chat_template_kwargs": [1]}), "invalid_field", "/chat_template_kwargs").await;
    check(
        json!({"chat_template_kwargs": {"messages": CANARY}}),
        "invalid_field",
        "/chat_template_kwargs/messages",
    )
    .await;
    check(json!({"nonsense": CANARY}), "invalid_field", "/nonsense").await;
    check(
        json!({"continue_final_message": true, "add_generation_prompt": true}),
        "invalid_field",
        "/continue_final_message",
    )
    .await;
    check(
        json!({"continue_final_message": true, "messages": [{"role": "user"}]}),
        "not_continuable",
        "/continue_final_message",
    )
    .await;
    check(json!({"chat_template": "nope"}), "unknown_chat_template", "/chat_template").await;
    // A list where Qwen2.5's template puts texts together.
    check(content(json!([{"type": "text", "text": CANARY}])), "chat_template_failed", "/messages").await;
    check(json!({"chat_template": "loops"}), "chat_too_costly", "/messages").await;
    let refused = json!({"chat_template": "named", "messages": [{"role": "bad", "content": CANARY}]});
    let problem = ask(&server, "/chat/render", refused).await.problem(422, "chat_refused", Some("/messages"));
    assert!(problem["detail"].as_str().unwrap().ends_with("No ..."), "{problem}");
    ask(&server, "/chat/encode", json!({"max_tokens": 0})).await.problem(
        422,
        "invalid_field",
        Some("/max_tokens"),
    );
    ask(&server, "/chat/encode", json!({"content_special": CANARY})).await.problem(
        422,
        "invalid_field",
        Some("/content_special"),
    );
    server.goes_on().await;
}

#[tokio::test]
async fn a_final_message_is_continued() {
    let server = server().await;
    let messages = json!([{"role": "user", "content": "a"}, {"role": "assistant", "content": "so"}]);
    let fields = json!({"continue_final_message": true, "messages": messages});
    let body = ask(&server, "/chat/render", fields).await.ok(200);
    assert_eq!(body["text"], format!("{SYSTEM}<|im_start|>user\na<|im_end|>\n<|im_start|>assistant\nso"));
}

#[tokio::test]
async fn templates_of_requests_are_run_only_where_the_setting_says_so() {
    let brought = json!({"chat_template": "{{ messages[0].content }}!"});
    let server = server().await;
    let problem = ask(&server, "/chat/render", brought.clone()).await;
    let problem = problem.problem(403, "chat_template_not_allowed", Some("/chat_template"));
    assert!(problem["detail"].as_str().unwrap().contains("allow_chat_template"));
    // Also for a vocabulary without one.
    let server = server_with(|config| config.allow_chat_template = true).await;
    for vocab in ["chat", "bare"] {
        let mut fields = brought.clone();
        fields["vocab"] = json!(vocab);
        assert_eq!(ask(&server, "/chat/render", fields).await.ok(200)["text"], "Hi!");
    }
    let check = async |source: String, code: &str, pointer: Option<&str>| {
        ask(&server, "/chat/render", json!({"chat_template": source})).await.problem(422, code, pointer)
    };
    assert_eq!(check(format!("\n{{% {CANARY} %}}"), "bad_chat_template", None).await["line"], 2);
    assert_eq!(check("x".repeat(300_000), "bad_chat_template", None).await["limit"], 262_144);
    check(format!("{{{{ raise_exception('{CANARY}') }}}}"), "chat_refused", Some("/messages")).await;
    check("{{ 1 | cAnArY }}".to_owned(), "chat_template_failed", Some("/messages")).await;
    check(
        "{% set n = namespace() %}{% set n.n = n %}{{ n }}".to_owned(),
        "chat_too_costly",
        Some("/messages"),
    )
    .await;
    check("{{ '-' * 99999999999 }}".to_owned(), "chat_too_costly", Some("/messages")).await;
    check(
        "{% for i in range(99999) %}{{ 'x' * 9999 }}{% endfor %}".to_owned(),
        "chat_too_long",
        Some("/messages"),
    )
    .await;
    server.goes_on().await;
}
