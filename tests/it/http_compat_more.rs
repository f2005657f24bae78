//! More routes of other servers: those of Text Generation Inference, of chat completions, and of vendors.

use crate::http_compat::{ask, members, refused, server};
use crate::support::CANARY;
use serde_json::{Value, json};

#[tokio::test]
async fn tgi() {
    let server = server().await;
    let body = json!({"model": "mistral", "inputs": "é b", "parameters": {"max_new_tokens": 20}});
    let flat = ask(&server, "/compat/tgi/tokenize", body).await;
    assert_eq!(flat[0], json!({"id": 1, "text": "", "start": 0, "stop": 0}));
    assert_eq!(flat[2], json!({"id": flat[2]["id"], "text": " b", "start": 1, "stop": 3}));
    members(&flat[1], &["id", "start", "stop", "text"]);
    let messages = json!([{"role": "user", "content": "Hi"}]);
    let native = ask(&server, "/chat/encode", json!({"vocab": "chat", "messages": messages})).await;
    for path in ["/chat_tokenize", "/compat/tgi/chat_tokenize"] {
        let reply = ask(&server, path, json!({"model": "chat", "messages": messages})).await;
        members(&reply, &["templated_text", "tokenize_response"]);
        assert_eq!(reply["templated_text"], native["text"]);
        let ids = reply["tokenize_response"].as_array().unwrap().iter().map(|token| &token["id"]);
        assert_eq!(json!(ids.collect::<Vec<_>>()), native["ids"]);
    }
    let image = json!([{"role": "user", "content": [{"type": "image_url", "image_url": {"url": CANARY}}]}]);
    for (path, body, status) in [
        ("/compat/tgi/tokenize", json!({"inputs": [CANARY]}), 422),
        ("/compat/tgi/tokenize", json!({"prompt": CANARY}), 422),
        ("/compat/tgi/tokenize", json!({"inputs": "a", "model": CANARY}), 404),
        ("/chat_tokenize", json!({"model": "chat", "messages": image}), 422),
        // Servers of one model are sent this name: the default vocabulary, which has no template.
        ("/chat_tokenize", json!({"model": "tgi", "messages": messages}), 422),
    ] {
        let error = refused(&server.post_json(path, body).await, status);
        members(&error, &["error", "error_type"]);
        assert_eq!(error["error_type"], "validation");
    }
}

#[tokio::test]
async fn input_tokens_of_a_chat_completion() {
    let server = server().await;
    let messages = json!([{"role": "user", "content": [{"type": "text", "text": "Hi"}]}]);
    let plain = json!([{"role": "user", "content": "Hi"}]);
    let native = ask(&server, "/chat/encode", json!({"vocab": "chat", "messages": plain})).await;
    for path in ["/v1/chat/completions/input_tokens", "/compat/llamacpp/v1/chat/completions/input_tokens"] {
        for messages in [&messages, &plain] {
            let reply =
                ask(&server, path, json!({"model": "gpt-4o-chat", "messages": messages, "stream": true}))
                    .await;
            assert_eq!(reply, json!({"object": "response.input_tokens", "input_tokens": native["count"]}));
        }
    }
    // The same server's routes of other servers, with its own errors.
    let reply = ask(
        &server,
        "/compat/llamacpp/v1/messages/count_tokens",
        json!({"model": "chat", "messages": plain}),
    )
    .await;
    assert_eq!(reply, json!({"input_tokens": native["count"]}));
    let reply =
        ask(&server, "/compat/llamacpp/v1/responses/input_tokens", json!({"model": "chat", "input": "Hi"}))
            .await;
    assert_eq!(reply, json!({"object": "response.input_tokens", "input_tokens": native["count"]}));
    let image = json!([{"role": "user", "content": [{"type": "image_url", "image_url": {"url": CANARY}}]}]);
    for (body, status, kind) in [
        (json!({"model": "chat", "messages": image}), 501, "not_supported_error"),
        (json!({"model": "chat"}), 400, "invalid_request_error"),
        (json!({"model": CANARY, "messages": plain}), 404, "not_found_error"),
    ] {
        let error = refused(&server.post_json("/v1/chat/completions/input_tokens", body).await, status);
        assert_eq!((&error["error"]["code"], &error["error"]["type"]), (&json!(status), &json!(kind)));
    }
}

#[tokio::test]
async fn google() {
    let server = server().await;
    let hello = json!({"contents": [{"role": "user", "parts": [{"text": "Hello"}]}]});
    for path in [
        "/v1/models/cl100k:countTokens",
        "/v1beta/models/cl100k:countTokens",
        "/compat/google/v1/models/gpt-4o-mini:countTokens",
        "/compat/google/v1beta/models/gpt-4o-mini:countTokens",
    ] {
        let expect =
            json!({"totalTokens": 8, "promptTokensDetails": [{"modality": "TEXT", "tokenCount": 8}]});
        assert_eq!(ask(&server, path, hello.clone()).await, expect);
    }
    let count = async |body: Value| {
        let reply = ask(&server, "/v1beta/models/chat:countTokens", body).await;
        reply["totalTokens"].clone()
    };
    let system = json!({"generateContentRequest": {"model": "models/chat", "contents": hello["contents"],
        "systemInstruction": {"parts": [{"text": "Be brief."}]},
        "tools": [{"functionDeclarations": [{"name": "add", "parameters": {"type": "OBJECT"}}]}]}});
    let messages = json!([{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hello"}]);
    let tools = json!([{"type": "function", "function": {"name": "add", "parameters": {"type": "OBJECT"}}}]);
    let native =
        ask(&server, "/chat/encode", json!({"vocab": "chat", "messages": messages, "tools": tools})).await;
    assert_eq!(count(system).await, native["count"]);
    let image = json!({"contents": [{"parts": [{"inlineData": {"mimeType": "image/png", "data": CANARY}}]}]});
    for (path, body, code, status) in [
        ("/v1beta/models/chat:countTokens", image, 400, "INVALID_ARGUMENT"),
        ("/v1beta/models/chat:countTokens", json!({}), 400, "INVALID_ARGUMENT"),
        ("/v1beta/models/nobody:countTokens", hello.clone(), 404, "NOT_FOUND"),
        ("/v1beta/models/chat:generateContent", hello.clone(), 404, "NOT_FOUND"),
        ("/v1beta/models/chat", hello, 404, "NOT_FOUND"),
    ] {
        let error = refused(&server.post_json(path, body).await, code);
        assert_eq!(
            (&error["error"]["code"], &error["error"]["status"]),
            (&json!(code), &json!(status)),
            "{error}"
        );
    }
}

#[tokio::test]
async fn vendors() {
    let server = server().await;
    for path in ["/v1/tokenize-text", "/compat/xai/v1/tokenize-text"] {
        let reply = ask(&server, path, json!({"model": "chat", "text": "aé", "user": "u"})).await;
        let expect = json!([
            {"token_id": 97, "string_token": "a", "token_bytes": [97]},
            {"token_id": 195, "string_token": "\u{fffd}", "token_bytes": [195]},
            {"token_id": 169, "string_token": "\u{fffd}", "token_bytes": [169]},
        ]);
        assert_eq!(reply, json!({ "token_ids": expect }));
    }
    for path in ["/ml/v1/text/tokenization?version=2025-01-01", "/compat/watsonx/ml/v1/text/tokenization"] {
        let body = json!({"model_id": "org/mistral", "input": "a", "project_id": "p", "parameters": {"return_tokens": true}});
        let result = json!({"token_count": 2, "tokens": ["<s>", "▁a"]});
        assert_eq!(ask(&server, path, body).await, json!({"model_id": "org/mistral", "result": result}));
        let reply = ask(&server, path, json!({"model_id": "cl100k", "input": "a"})).await;
        assert_eq!(reply, json!({"model_id": "cl100k", "result": {"token_count": 1}}));
    }
    for path in
        ["/api/tokenize", "/compat/ollama/api/tokenize", "/v1/tokenize", "/compat/localai/v1/tokenize"]
    {
        assert_eq!(
            ask(&server, path, json!({"model": "mistral", "content": "a"})).await,
            json!({"tokens": [264]})
        );
    }
    for path in ["/api/detokenize", "/compat/ollama/api/detokenize"] {
        let reply = ask(&server, path, json!({"model": "mistral", "tokens": [1, 264]})).await;
        assert_eq!(reply, json!({"content": "<s> a"}));
    }
    for path in ["/v3/tokenize", "/compat/ovms/v3/tokenize", "/compat/ovms/v1/tokenize"] {
        assert_eq!(
            ask(&server, path, json!({"model": "mistral", "text": "a"})).await,
            json!({"tokens": [1, 264]})
        );
        let many =
            json!({"model": "mistral", "text": ["a b", ""], "add_special_tokens": false, "max_length": 1});
        assert_eq!(ask(&server, path, many).await, json!({"tokens": [[264], []]}));
    }
    let many = json!({"model": "mistral", "text": ["a"]});
    assert_eq!(ask(&server, "/v1/tokenize", many).await, json!({"tokens": [[1, 264]]}));

    for (path, body, status, pointer) in [
        ("/v1/tokenize-text", json!({"text": [CANARY]}), 400, "/error"),
        ("/v1/tokenize-text", json!({"text": "a", "model": CANARY}), 404, "/error"),
        ("/ml/v1/text/tokenization", json!({"input": CANARY}), 400, "/errors/0/message"),
        ("/ml/v1/text/tokenization", json!({"model_id": CANARY, "input": "a"}), 404, "/errors/0/message"),
        ("/api/tokenize", json!({"content": [CANARY]}), 400, "/error"),
        ("/api/detokenize", json!({"tokens": [4_000_000_000_u32]}), 400, "/error"),
        ("/v3/tokenize", json!({"text": {"a": CANARY}}), 400, "/error"),
        ("/v3/tokenize", json!({"text": "a", "max_length": 0}), 400, "/error"),
        ("/v3/tokenize", json!({"text": "a", "pad_to_max_length": true}), 400, "/error"),
        ("/v3/tokenize", json!({"text": vec!["a"; 101]}), 400, "/error"),
        ("/compat/localai/v1/tokenize", json!({"content": [CANARY]}), 400, "/error/message"),
    ] {
        let error = refused(&server.post_json(path, body).await, status);
        assert!(error.pointer(pointer).is_some_and(Value::is_string), "{path}: {error}");
    }
    let error = refused(&server.post_json("/v3/tokenize", json!({"text": vec!["a"; 101]})).await, 400);
    assert_eq!(error["error"], "text: has over 100 entries");
}
