//! Routes of other servers: the bodies that their clients send, and the answers and errors that those read, member by member.

use crate::data;
use crate::http_chat::vocabulary;
use crate::support::{Answer, CANARY, TestServer, and, json_body, request, with_body};
use axum::http::Method;
use serde_json::{Value, json};

const TEXT: &str = "Hello, 世界!";

/// A server with `cl100k` (byte-level, no template), `mistral` (BOS, spelt with ▁), `chat` (Qwen2.5's template over bytes), and
/// names of models that lead to them.
pub(crate) async fn server() -> TestServer {
    let server = TestServer::with(|config| {
        config.max_batch_texts = 100;
        for (model, vocab) in [
            ("gpt-4o*", "cl100k"),
            ("gpt-4o-chat", "chat@1"),
            ("claude-*", "chat"),
            ("command-r", "cl100k@1"),
            ("org/mistral", "mistral"),
            ("gone", "none"),
        ] {
            config.models.insert(model.to_owned(), vocab.to_owned());
        }
    })
    .await;
    let file = data::local("vocabs/cl100k_base.tiktoken");
    server.post("/vocabs?name=cl100k&format=tiktoken&split=cl100k", file).await.ok(201);
    let file = data::local("vocabs/mistral-v1-hf.tokenizer.json");
    server.post("/vocabs?name=mistral&format=hf", file).await.ok(201);
    let qwen = String::from_utf8(data::local("chat/qwen2.5.jinja")).unwrap();
    server.post("/vocabs?name=chat&format=native", vocabulary(&[("default", &qwen)])).await.ok(201);
    server
}

pub(crate) async fn ask(server: &TestServer, path: &str, body: Value) -> Value {
    server.post_json(path, body).await.ok(200)
}

/// An error in a shape of its own: status and body, which repeats nothing.
#[track_caller]
pub(crate) fn refused(answer: &Answer, status: u16) -> Value {
    assert_eq!((answer.status, answer.header("content-type")), (status, "application/json"), "{answer:?}");
    assert!(!String::from_utf8_lossy(&answer.bytes).contains(CANARY), "{answer:?}");
    assert!(!answer.header("x-request-id").is_empty());
    answer.json()
}

#[track_caller]
pub(crate) fn members(value: &Value, expect: &[&str]) {
    assert_eq!(value.as_object().unwrap().keys().collect::<Vec<_>>(), expect);
}

#[tokio::test]
async fn vllm() {
    let server = server().await;
    let ids = server.ids("mistral", TEXT).await;
    for path in ["/tokenize", "/compat/vllm/tokenize"] {
        let body = json!({"model": "org/mistral", "prompt": TEXT, "add_special_tokens": true, "return_token_strs": true, "user": 1});
        let answer = server.post_json(path, body).await;
        assert_eq!(answer.header("vocab"), "mistral@1");
        let reply = answer.ok(200);
        members(&reply, &["count", "max_model_len", "token_strs", "tokens"]);
        let with_bos = [&[1][..], &ids].concat();
        assert_eq!((&reply["tokens"], &reply["count"]), (&json!(with_bos), &json!(with_bos.len())));
        assert_eq!((&reply["token_strs"][0], &reply["token_strs"][1]), (&json!("<s>"), &json!("▁Hello")));
        assert_eq!(reply["max_model_len"], -1);
        let plain =
            ask(&server, path, json!({"model": "mistral", "prompt": TEXT, "add_special_tokens": false}))
                .await;
        assert_eq!((&plain["tokens"], &plain["token_strs"]), (&json!(ids), &Value::Null));
        let spelt =
            ask(&server, path, json!({"model": "cl100k", "prompt": "a world", "return_token_strs": true}))
                .await;
        assert_eq!(spelt["token_strs"], json!(["a", "Ġworld"]));
        let empty = ask(&server, path, json!({"model": "cl100k", "prompt": ""})).await;
        assert_eq!((&empty["count"], &empty["tokens"]), (&json!(0), &json!([])));

        let messages = json!([{"role": "user", "content": "Hi"}]);
        let chat = ask(
            &server,
            path,
            json!({"model": "chat", "messages": messages, "add_generation_prompt": false}),
        )
        .await;
        let native = json!({"vocab": "chat", "messages": messages, "add_generation_prompt": false});
        let expect = ask(&server, "/chat/encode", native).await;
        assert_eq!((&chat["tokens"], &chat["count"]), (&expect["ids"], &expect["count"]));
        let parts = json!([{"role": "user", "content": [{"type": "text", "text": "Hi"}]}]);
        let same =
            ask(&server, path, json!({"model": "chat", "messages": parts, "add_generation_prompt": false}))
                .await;
        assert_eq!(same["tokens"], chat["tokens"]);
    }
    for (path, key) in [("/detokenize", 3), ("/compat/vllm/detokenize", 1)] {
        let reply = ask(&server, path, json!({"model": "mistral", "tokens": [1, ids[0], ids[1]]})).await;
        assert_eq!((&reply["prompt"], reply.as_object().unwrap().len()), (&json!("<s> Hello,"), key));
    }
    for path in ["/tokenizer_info?model=chat", "/compat/vllm/tokenizer_info?model=claude-3"] {
        let info = server.get(path).await.ok(200);
        assert_eq!(
            (&info["tokenizer_class"], &info["eos_token"]),
            (&json!("PreTrainedTokenizerFast"), &json!("<|im_end|>"))
        );
        assert!(info["chat_template"].as_str().unwrap().contains("im_start"));
    }

    let error = async |body: Value, status: u16, kind: &str, param: Value| {
        let error = refused(&server.post_json("/compat/vllm/tokenize", body).await, status);
        members(&error, &["error"]);
        members(&error["error"], &["code", "message", "param", "type"]);
        let error = &error["error"];
        assert_eq!(
            (&error["code"], &error["type"], &error["param"]),
            (&json!(status), &json!(kind), &param),
            "{error}"
        );
    };
    error(json!({"model": CANARY, "prompt": "a"}), 404, "NotFoundError", json!("model")).await;
    error(json!({"model": "../x", "prompt": "a"}), 404, "NotFoundError", json!("model")).await;
    error(json!({"prompt": [CANARY]}), 400, "BadRequestError", json!("prompt")).await;
    error(
        json!({"prompt": CANARY, "add_special_tokens": CANARY}),
        400,
        "BadRequestError",
        json!("add_special_tokens"),
    )
    .await;
    error(json!({}), 400, "BadRequestError", json!("messages")).await;
    let image = json!([{"role": "user", "content": [{"type": "image_url", "image_url": {"url": CANARY}}]}]);
    error(json!({"model": "chat", "messages": image}), 400, "BadRequestError", json!("messages.0.content.0"))
        .await;
    let both = json!({"model": "chat", "messages": [{"role": "user", "content": "a"}], "continue_final_message": true,
        "add_generation_prompt": true});
    error(both, 400, "BadRequestError", json!("add_generation_prompt")).await;
    error(
        json!({"model": "cl100k", "messages": [{"role": "user", "content": "a"}]}),
        400,
        "BadRequestError",
        Value::Null,
    )
    .await;
    let unknown = json!({"model": "cl100k", "tokens": [1, 4_000_000_000_u32]});
    let error = refused(&server.post_json("/compat/vllm/detokenize", unknown).await, 400);
    assert_eq!(error["error"]["param"], "tokens.1");
}

#[tokio::test]
async fn sglang() {
    let server = server().await;
    let ids = server.ids("mistral", "a").await;
    let with_bos = [&[1][..], &ids].concat();
    for path in ["/v1/tokenize", "/compat/sglang/v1/tokenize", "/compat/sglang/tokenize"] {
        let one = ask(&server, path, json!({"model": "mistral", "prompt": "a"})).await;
        assert_eq!(one, json!({"tokens": with_bos, "count": 2, "max_model_len": -1}));
        let many = json!({"model": "mistral", "prompt": ["a", ""], "add_special_tokens": false});
        let many = ask(&server, path, many).await;
        assert_eq!(many, json!({"tokens": [ids, []], "count": [1, 0], "max_model_len": -1}));
        let chat = json!({"model": "chat", "messages": [{"role": "user", "content": "Hi"}]});
        let native =
            ask(&server, "/chat/encode", json!({"vocab": "chat", "messages": chat["messages"]})).await;
        assert_eq!(ask(&server, path, chat).await["tokens"], native["ids"]);
    }
    let listed = ask(&server, "/tokenize", json!({"model": "mistral", "prompt": ["a"]})).await;
    assert_eq!(listed, json!({"tokens": [with_bos], "count": [2], "max_model_len": -1}));
    for path in ["/v1/detokenize", "/detokenize", "/compat/sglang/v1/detokenize"] {
        let text = async |body: Value| ask(&server, path, body).await["text"].clone();
        assert_eq!(text(json!({"model": "mistral", "tokens": with_bos})).await, "a");
        let kept = json!({"model": "mistral", "tokens": with_bos, "skip_special_tokens": false});
        assert_eq!(text(kept).await, "<s> a");
        assert_eq!(text(json!({"model": "mistral", "tokens": [with_bos, []]})).await, json!(["a", ""]));
        assert_eq!(text(json!({"tokens": []})).await, "");
    }
    for body in [
        json!({"model": "mistral"}),
        json!({"prompt": "a", "messages": []}),
        json!({"prompt": 5}),
        json!({"prompt": ["a", {"x": CANARY}]}),
        json!({"model": "mistral", "prompt": vec![""; 101]}),
    ] {
        let error = refused(&server.post_json("/compat/sglang/v1/tokenize", body).await, 400);
        members(&error, &["code", "message", "object", "param", "type"]);
        assert_eq!(
            (&error["object"], &error["code"], &error["type"]),
            (&json!("error"), &json!(400), &json!("BadRequestError"))
        );
    }
    for tokens in [json!([1, [2]]), json!([[1], 2]), json!([-1]), json!(["1"]), json!([1.5]), json!(7)] {
        refused(&server.post_json("/compat/sglang/v1/detokenize", json!({ "tokens": tokens })).await, 400);
    }
}

#[tokio::test]
async fn tei() {
    let server = server().await;
    for path in ["/tokenize", "/compat/tei/tokenize"] {
        let one = ask(&server, path, json!({"model": "mistral", "inputs": "é b"})).await;
        assert_eq!(one.as_array().unwrap().len(), 1);
        members(&one[0][0], &["id", "special", "start", "stop", "text"]);
        assert_eq!(one[0][0], json!({"id": 1, "text": "<s>", "special": true, "start": null, "stop": null}));
        let last = one[0].as_array().unwrap().last().unwrap();
        assert_eq!(
            (&last["text"], &last["start"], &last["stop"], &last["special"]),
            (&json!(" b"), &json!(2), &json!(4), &json!(false))
        );
        let many = json!({"model": "cl100k", "inputs": ["a", ""], "add_special_tokens": false});
        let many = ask(&server, path, many).await;
        assert_eq!(many, json!([[{"id": 64, "text": "a", "special": false, "start": 0, "stop": 1}], []]));
    }
    let texts = ask(&server, "/compat/tei/decode", json!({"model": "mistral", "ids": [1, 264]})).await;
    assert_eq!(texts, json!(["a"]));
    let texts = json!({"model": "mistral", "ids": [[1, 264], [264]], "skip_special_tokens": false});
    assert_eq!(ask(&server, "/compat/tei/decode", texts).await, json!(["<s> a", "a"]));
    let info = server.get("/compat/tei/info").await.ok(200);
    assert!(
        info["model_id"] == "default" && info["max_client_batch_size"] == 100 && info["version"].is_string()
    );
    for (body, status) in [
        (json!({"inputs": 5}), 422),
        (json!({}), 422),
        (json!({"inputs": CANARY, "prompt_name": CANARY}), 422),
        (json!({"inputs": vec!["a"; 101]}), 422),
        (json!({"inputs": "a", "model": CANARY}), 404),
    ] {
        let error = refused(&server.post_json("/compat/tei/tokenize", body).await, status);
        members(&error, &["error", "error_type"]);
        assert_eq!(error["error_type"], "Validation");
    }
}

#[tokio::test]
async fn llamacpp() {
    let server = server().await;
    for path in ["/tokenize", "/compat/llamacpp/tokenize"] {
        let plain = ask(&server, path, json!({"model": "mistral", "content": "a"})).await;
        assert_eq!(plain, json!({"tokens": [264]}));
        let added =
            ask(&server, path, json!({"model": "mistral", "content": "a", "add_special": true})).await;
        assert_eq!(added, json!({"tokens": [1, 264]}));
        let parsed = ask(&server, path, json!({"model": "chat", "content": "<|im_end|>"})).await;
        assert_eq!(parsed, json!({"tokens": [301]}));
        let text = json!({"model": "chat", "content": "<|im_end|>", "parse_special": false});
        assert_eq!(ask(&server, path, text).await["tokens"].as_array().unwrap().len(), 10);
        let mixed = json!({"model": "chat", "content": ["a", 300, "b"], "add_special": true});
        assert_eq!(ask(&server, path, mixed).await, json!({"tokens": [97, 300, 98]}));
        let pieces = json!({"model": "chat", "content": "aé", "with_pieces": true});
        let expect = json!({"tokens": [{"id": 97, "piece": "a"}, {"id": 195, "piece": [195]}, {"id": 169, "piece": [169]}]});
        assert_eq!(ask(&server, path, pieces).await, expect);
    }
    assert_eq!(ask(&server, "/compat/llamacpp/tokenize", json!({})).await, json!({"tokens": []}));
    let text =
        ask(&server, "/compat/llamacpp/detokenize", json!({"model": "chat", "tokens": [97, 301]})).await;
    assert_eq!(text, json!({"content": "a<|im_end|>"}));
    assert_eq!(ask(&server, "/compat/llamacpp/detokenize", json!({})).await, json!({"content": ""}));
    assert_eq!(
        ask(&server, "/detokenize", json!({"model": "chat", "tokens": [97, 301]})).await["content"],
        "a<|im_end|>"
    );
    for path in ["/apply-template", "/compat/llamacpp/apply-template"] {
        let messages = json!([{"role": "user", "content": "Hi"}]);
        let native = ask(&server, "/chat/render", json!({"vocab": "chat", "messages": messages})).await;
        let prompt = ask(&server, path, json!({"model": "chat", "messages": messages})).await;
        assert_eq!(prompt, json!({"prompt": native["text"]}));
    }
    let error = async |path: &str, body: String, status: u16, kind: &str| {
        let error = refused(&server.post(path, body).await, status);
        members(&error["error"], &["code", "message", "type"]);
        assert_eq!((&error["error"]["code"], &error["error"]["type"]), (&json!(status), &json!(kind)));
    };
    error("/compat/llamacpp/tokenize", format!("{{\"content\": {CANARY}"), 400, "invalid_request_error")
        .await;
    error(
        "/compat/llamacpp/tokenize",
        json!({"content": {"a": CANARY}}).to_string(),
        400,
        "invalid_request_error",
    )
    .await;
    error(
        "/compat/llamacpp/tokenize",
        json!({"content": [[CANARY]]}).to_string(),
        400,
        "invalid_request_error",
    )
    .await;
    error(
        "/compat/llamacpp/tokenize",
        json!({"content": "a", "model": "x"}).to_string(),
        404,
        "not_found_error",
    )
    .await;
    let image = json!({"model": "chat", "messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}]});
    error("/apply-template", image.to_string(), 501, "not_supported_error").await;
    error("/apply-template", "{}".to_owned(), 400, "invalid_request_error").await;
}

#[tokio::test]
async fn cohere() {
    let server = server().await;
    for path in ["/v1/tokenize", "/compat/cohere/v1/tokenize"] {
        let reply = ask(&server, path, json!({"text": "tokenize me!", "model": "command-r"})).await;
        let ids = server.ids("cl100k", "tokenize me!").await;
        let expect = json!({"tokens": ids, "token_strings": ["token", "ize", " me", "!"], "meta": {"api_version": {"version": "1"}}});
        assert_eq!(reply, expect);
    }
    for path in ["/v1/detokenize", "/compat/cohere/v1/detokenize"] {
        let reply = ask(&server, path, json!({"tokens": [5963, 553], "model": "command-r"})).await;
        assert_eq!(
            reply,
            json!({"text": "token me".replace(" me", reply["text"].as_str().unwrap().strip_prefix("token").unwrap()),
            "meta": {"api_version": {"version": "1"}}})
        );
    }
    for (body, status) in [
        (json!({"text": "", "model": "command-r"}), 400),
        (json!({"text": "世".repeat(65_537), "model": "command-r"}), 400),
        (json!({"text": 5}), 400),
        (json!({"text": CANARY, "model": "none"}), 404),
    ] {
        let error = refused(&server.post_json("/compat/cohere/v1/tokenize", body).await, status);
        members(&error, &["id", "message"]);
    }
    ask(&server, "/v1/tokenize", json!({"text": "世".repeat(65_536), "model": "command-r"})).await;
}

#[tokio::test]
async fn anthropic() {
    let server = server().await;
    let count = async |path: &str, body: Value| ask(&server, path, body).await;
    let rendered = async |messages: Value, tools: Value| {
        let mut body = json!({"vocab": "chat", "messages": messages});
        if !tools.is_null() {
            body["tools"] = tools;
        }
        ask(&server, "/chat/encode", body).await["count"].clone()
    };
    for path in ["/v1/messages/count_tokens", "/compat/anthropic/v1/messages/count_tokens"] {
        let body = json!({"model": "claude-sonnet-4-5", "system": "Be brief.", "messages": [{"role": "user", "content": "Hi"}]});
        let expect = rendered(
            json!([{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}]),
            Value::Null,
        )
        .await;
        assert_eq!(count(path, body).await, json!({"input_tokens": expect}));
    }
    let body = json!({
        "model": "claude-3", "system": [{"type": "text", "text": "Be brief.", "cache_control": {"type": "ephemeral"}}],
        "tools": [{"name": "add", "description": "Adds", "input_schema": {"type": "object", "properties": {"a": {"type": "integer"}}}}],
        "tool_choice": {"type": "auto"}, "thinking": {"type": "enabled", "budget_tokens": 1024},
        "messages": [
            {"role": "user", "content": [{"type": "text", "text": "Add"}, {"type": "text", "text": "1 and 2"}]},
            {"role": "assistant", "content": [{"type": "text", "text": "So:"}, {"type": "tool_use", "id": "t1", "name": "add", "input": {"a": 1}}]},
            {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t1", "content": [{"type": "text", "text": "3"}]}]},
        ],
    });
    let messages = json!([
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Add\n1 and 2"},
        {"role": "assistant", "content": "So:", "tool_calls": [{"id": "t1", "type": "function", "function": {"name": "add", "arguments": "{\"a\":1}"}}]},
        {"role": "tool", "tool_call_id": "t1", "content": "3"},
    ]);
    let tools = json!([{"type": "function", "function": {"name": "add", "description": "Adds",
        "parameters": {"type": "object", "properties": {"a": {"type": "integer"}}}}}]);
    let expect = rendered(messages, tools).await;
    assert_eq!(count("/v1/messages/count_tokens", body).await["input_tokens"], expect);
    // Without a template by the formula: 3 a message, the words, 3 for the answer.
    let body = json!({"model": "cl100k", "messages": [{"role": "user", "content": "Hello"}]});
    assert_eq!(count("/v1/messages/count_tokens", body).await["input_tokens"], 3 + 1 + 1 + 3);

    for (body, status, kind) in [
        (
            json!({"model": "claude-3", "messages": [{"role": "user", "content": [{"type": "image", "source": {"type": "base64", "data": CANARY}}]}]}),
            400,
            "invalid_request_error",
        ),
        (
            json!({"model": "claude-3", "messages": [{"role": "user", "content": [{"type": CANARY}]}]}),
            400,
            "invalid_request_error",
        ),
        (json!({"model": "claude-3", "messages": []}), 400, "invalid_request_error"),
        (
            json!({"model": "claude-3", "messages": [{"role": "robot", "content": CANARY}]}),
            400,
            "invalid_request_error",
        ),
        (json!({"model": "claude-3"}), 400, "invalid_request_error"),
        (json!({"model": CANARY, "messages": [{"role": "user", "content": "a"}]}), 404, "not_found_error"),
    ] {
        let answer = server.post_json("/v1/messages/count_tokens", body).await;
        let error = refused(&answer, status);
        members(&error, &["error", "request_id", "type"]);
        assert_eq!((&error["type"], &error["error"]["type"]), (&json!("error"), &json!(kind)), "{error}");
        assert_eq!(error["request_id"], answer.header("x-request-id"));
    }
}

#[tokio::test]
async fn openai() {
    let server = server().await;
    for path in ["/v1/responses/input_tokens", "/compat/openai/v1/responses/input_tokens"] {
        let reply = ask(&server, path, json!({"model": "gpt-4o-mini", "input": "Hello"})).await;
        assert_eq!(reply, json!({"object": "response.input_tokens", "input_tokens": 8}));
    }
    let count =
        async |body: Value| ask(&server, "/v1/responses/input_tokens", body).await["input_tokens"].clone();
    let input = json!({
        "model": "gpt-4o-chat", "instructions": "Be brief.",
        "tools": [{"type": "function", "name": "add", "parameters": {"type": "object", "properties": {}}, "strict": true}],
        "input": [
            {"role": "user", "content": [{"type": "input_text", "text": "Hi"}]},
            {"type": "reasoning", "id": "r", "summary": []},
            {"type": "function_call", "call_id": "c", "name": "add", "arguments": "{}"},
            {"type": "function_call_output", "call_id": "c", "output": "3"},
            {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "3", "annotations": []}]},
        ],
    });
    assert!(count(input).await.as_u64().unwrap() > 100);
    let developer = json!({"model": "chat", "input": [{"role": "developer", "content": "Be brief."}, {"role": "user", "content": "Hi"}]});
    assert_eq!(
        count(developer).await,
        count(json!({"model": "chat", "instructions": "Be brief.", "input": "Hi"})).await
    );
    assert_eq!(count(json!({"model": "cl100k"})).await, 3);

    let models = server.get("/v1/models").await.ok(200);
    assert_eq!(models["object"], "list");
    let ids: Vec<&str> =
        models["data"].as_array().unwrap().iter().map(|model| model["id"].as_str().unwrap()).collect();
    assert_eq!(ids, ["chat", "cl100k", "default", "mistral", "command-r", "gpt-4o-chat", "org/mistral"]);
    members(&models["data"][0], &["created", "id", "object", "owned_by"]);
    assert!(models["data"][0]["created"].as_i64().unwrap() > 1_700_000_000);
    for name in ["cl100k", "org/mistral", "gpt-4o-2024-08-06", "org%2Fmistral"] {
        let model = server.get(&format!("/v1/models/{name}")).await.ok(200);
        assert_eq!((&model["id"], &model["object"]), (&json!(name.replace("%2F", "/")), &json!("model")));
    }
    for (answer, status, param, code) in [
        (server.get("/v1/models/none").await, 404, json!("model"), json!("model_not_found")),
        (server.get("/v1/models/gone").await, 404, json!("model"), json!("model_not_found")),
        (server.post_json("/v1/responses/input_tokens", json!({"model": CANARY, "input": "a"})).await, 404, json!("model"), json!("model_not_found")),
        (server.post_json("/v1/responses/input_tokens", json!({"input": 5})).await, 400, json!("input"), Value::Null),
        (server.post_json("/v1/responses/input_tokens", json!({"input": "a", "previous_response_id": "x"})).await, 400, json!("previous_response_id"), Value::Null),
        (server.post_json("/v1/responses/input_tokens", json!({"input": [{"type": "item_reference", "id": CANARY}]})).await, 400, json!("input.0.type"), Value::Null),
        (server.post_json("/v1/responses/input_tokens", json!({"input": [{"role": "user", "content": [{"type": "input_image", "image_url": CANARY}]}]})).await, 400, json!("input.0.content.0"), Value::Null),
    ] {
        let error = refused(&answer, status);
        members(&error["error"], &["code", "message", "param", "type"]);
        assert_eq!((&error["error"]["param"], &error["error"]["code"]), (&param, &code), "{error}");
        assert_eq!(error["error"]["type"], "invalid_request_error");
    }
}

#[tokio::test]
async fn litellm() {
    let server = server().await;
    for path in ["/utils/token_counter", "/compat/litellm/utils/token_counter"] {
        let reply = ask(&server, path, json!({"model": "gpt-4o-mini", "prompt": "Hello world"})).await;
        let expect = json!({"total_tokens": 2, "request_model": "gpt-4o-mini", "model_used": "cl100k", "tokenizer_type": "openai_tokenizer",
            "original_response": null, "error": false, "error_message": null, "status_code": null});
        assert_eq!(reply, expect);
    }
    let count = async |body: Value| ask(&server, "/utils/token_counter", body).await["total_tokens"].clone();
    // 3 a message, 1 for a name, 3 for the answer, and the words; templates do not count here.
    let messages = json!([{"role": "user", "content": "Hello", "name": "Ann"}, {"role": "assistant", "content": [{"type": "text", "text": "Hi"}]}]);
    assert_eq!(
        count(json!({"model": "gpt-4o", "messages": messages})).await,
        3 + 1 + 1 + 1 + 1 + 3 + 1 + 1 + 3
    );
    assert_eq!(
        count(json!({"model": "cl100k", "contents": [{"role": "user", "parts": [{"text": "Hello"}]}]})).await,
        8
    );
    let tools = json!([{"type": "function", "function": {"name": "add", "description": "Adds",
        "parameters": {"type": "object", "required": ["a"], "properties": {"a": {"type": "integer", "description": "one"}, "b": {"type": "array", "items": {"type": "string", "enum": ["x", "y"]}}}}}}]);
    let spelt = "namespace functions {\n\n// Adds\ntype add = (_: {\n// one\na: number,\nb?: \"x\" | \"y\"[],\n}) => any;\n\n} // namespace functions";
    let alone = count(json!({"model": "cl100k", "messages": [{"role": "user", "content": "Hello"}]}))
        .await
        .as_u64()
        .unwrap();
    let with = json!({"model": "cl100k", "messages": [{"role": "user", "content": "Hello"}], "tools": tools});
    assert_eq!(count(with).await, alone + 9 + server.ids("cl100k", spelt).await.len() as u64);
    for (body, status) in [
        (json!({"model": "cl100k"}), 400),
        (json!({"prompt": CANARY}), 400),
        (json!({"model": CANARY, "prompt": "a"}), 404),
        (
            json!({"model": "cl100k", "messages": [{"role": "user", "content": [{"type": "image_url", "image_url": CANARY}]}]}),
            400,
        ),
        (json!({"model": "cl100k", "messages": [5]}), 400),
    ] {
        let error = refused(&server.post_json("/utils/token_counter", body).await, status);
        assert_eq!(error["error"]["code"], status.to_string());
    }
}

#[tokio::test]
async fn a_body_that_does_not_say_whose_it_is_is_refused() {
    let server = server().await;
    for (path, body) in [
        ("/tokenize", json!({})),
        ("/tokenize", json!({"txet": CANARY})),
        ("/tokenize", json!({"prompt": null})),
        ("/tokenize", json!({"text": CANARY})),
        ("/tokenize", json!({"prompt": CANARY, "content": CANARY})),
        ("/tokenize", json!({"inputs": CANARY, "content": CANARY})),
        ("/tokenize", json!({"prompt": CANARY, "messages": []})),
        ("/v1/tokenize", json!({})),
        ("/v1/tokenize", json!({"content": CANARY, "text": CANARY})),
        ("/v1/tokenize", json!({"inputs": CANARY})),
        ("/v1/tokenize", json!({"prompt": CANARY, "text": CANARY})),
    ] {
        let error = refused(&server.post_json(path, body.clone()).await, 400);
        let message = error.pointer("/error/message").or(error.get("message")).unwrap().as_str().unwrap();
        assert!(message.contains("prompt, messages"), "{body}: {message}");
    }
    // Null is not there, so that clients which write all their fields are understood.
    let body = json!({"model": "cl100k", "prompt": "a", "messages": null, "content": null});
    assert_eq!(ask(&server, "/tokenize", body).await["tokens"], json!([64]));

    for path in [
        "/tokenize",
        "/v1/tokenize",
        "/detokenize",
        "/v1/messages/count_tokens",
        "/utils/token_counter",
        "/compat/tei/tokenize",
        "/chat_tokenize",
        "/v1/chat/completions/input_tokens",
        "/v1/tokenize-text",
        "/ml/v1/text/tokenization",
        "/v3/tokenize",
        "/api/tokenize",
        "/v1beta/models/cl100k:countTokens",
    ] {
        for body in [
            format!("{{\"prompt\": {CANARY}"),
            "[1]".to_owned(),
            "null".to_owned(),
            "[".repeat(100_000),
            String::new(),
        ] {
            let answer = server.post(path, body).await;
            assert!((400..500).contains(&answer.status), "{path}: {answer:?}");
            refused(&answer, answer.status);
        }
        let text = and(with_body(Method::POST, path, CANARY), "content-type", "text/plain");
        let answer = server.send(text).await;
        assert!(matches!(answer.status, 400 | 415), "{answer:?}");
        refused(&answer, answer.status);
        let changed = and(
            json_body(
                Method::POST,
                path,
                &json!({"model": "cl100k", "prompt": "a", "tokens": [64], "inputs": "a",
            "messages": [{"role": "user", "content": "a"}]}),
            ),
            "if-match",
            "\"sha256:0\"",
        );
        refused(
            &server.send(changed).await,
            if ["/compat/tei/tokenize", "/chat_tokenize"].contains(&path) { 422 } else { 400 },
        );
    }
    server.send(request(Method::GET, "/compat/nobody/tokenize")).await.problem(404, "unknown_route", None);
    server.send(request(Method::GET, "/compat/vllm/tokenize")).await.problem(405, "method_not_allowed", None);
    server.goes_on().await;
}
