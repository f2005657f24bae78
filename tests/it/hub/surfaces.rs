//! Imports from the hub and of several files, by the command line and over HTTP.

use super::{COMMIT, StandIn};
use crate::data;
use crate::process::{Server, finish, serve, vocabd, wait_for};
use crate::support::{TestServer, and, json_body, request, with_body};
use axum::http::Method;
use serde_json::{Value, json};
use std::io::Write;
use std::net::TcpStream;
use std::path::Path;
use std::process::Command;

fn cl100k() -> Vec<u8> {
    data::local("vocabs/cl100k_base.tiktoken")
}

fn model() -> StandIn {
    StandIn::with(vec![
        ("config.json", b"{}".to_vec()),
        ("cl100k_base.tiktoken", cl100k()),
        ("tokenizer_config.json", b"{}".to_vec()),
    ])
}

/// The program over a data directory, with the stand-in as its hub.
fn command(data: &Path, hub: &StandIn, args: &[&str]) -> Command {
    let mut command = vocabd();
    command.arg("--data-dir").arg(data).args(args).env("HF_ENDPOINT", hub.url()).env("HF_TOKEN", "hf_secret");
    command
}

#[test]
fn the_command_line_imports_a_model() {
    let (data, hub) = (tempfile::tempdir().unwrap(), model());
    let data = data.path();
    let (code, out, err) =
        finish(command(data, &hub, &["import", "gpt4", "hf://org/model@main", "--alias", "prod"]));
    assert_eq!((code, err.as_str()), (Some(0), ""));
    assert!(out.starts_with("gpt4@1 sha256:") && out.contains("100261 tokens, new"), "{out}");
    let (_, facts, _) = finish(command(data, &hub, &["inspect", "gpt4@prod"]));
    let facts: Value = serde_json::from_str(&facts).unwrap();
    assert_eq!(facts["source"], format!("hf://org/model@{COMMIT}"));
    assert_eq!(facts["format"], "tiktoken");

    for (source, said) in [
        ("hf://org/nothing.git", ".git"),
        ("hf://../model", "organisation and model"),
        ("hf://org/model@..", "revision"),
    ] {
        let (code, out, err) = finish(command(data, &hub, &["import", "x", source]));
        assert_eq!((code, out.as_str()), (Some(1), ""));
        assert!(err.contains(source) && err.contains(said), "{err}");
    }
    let mut small = command(data, &hub, &["import", "x", "hf://org/model"]);
    small.env("VOCABD_MAX_VOCAB_BYTES", "4096");
    let (code, _, err) = finish(small);
    assert!(code == Some(1) && err.contains("max_vocab_bytes") && err.contains("hf://org/model"), "{err}");
    let mut odd = command(data, &hub, &["import", "x", "hf://org/model"]);
    odd.env("HF_ENDPOINT", "nowhere");
    let (code, _, err) = finish(odd);
    assert!(code == Some(1) && err.contains("HF_ENDPOINT"), "{err}");
}

/// What is fetched takes its room among the bytes in flight as it comes, and is given up where there is none.
#[test]
fn what_is_fetched_counts_among_the_bytes_in_flight() {
    let (data, hub) = (tempfile::tempdir().unwrap(), model());
    let limits =
        [("max_body_bytes", "1048576"), ("max_vocab_bytes", "2097152"), ("max_bytes_in_flight", "1024")];
    let allowed = [("allow_hub", "true"), ("import_urls", "127.0.0.1")];
    let mut start = serve(vocabd(), data.path(), &[&limits[..], &allowed].concat());
    start.env("HF_ENDPOINT", hub.url());
    let server = Server::run(start);
    let in_flight = || {
        let metrics = server.ask("GET", "/metrics", b"").text();
        let line = metrics.lines().find_map(|line| line.strip_prefix("vocabd_admitted_bytes "));
        line.unwrap().parse::<f64>().unwrap() as usize
    };
    let wait_for =
        |bytes: usize| wait_for(&format!("{bytes} bytes in flight"), || (in_flight() == bytes).then_some(()));
    let url = format!("{}/some/cl100k_base.tiktoken", hub.url());
    let import = |(name, source): (&str, &str)| {
        server.ask("POST", &format!("/vocabs?name={name}&source={source}"), b"")
    };
    let sources = [("byhub", "hf://org/model"), ("byurl", url.as_str())];

    // Imports have three quarters of a third more than the largest file may have, which the file and another request's body pass.
    let mut other = TcpStream::connect(server.address).unwrap();
    let head = "POST /encode HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 1048576\r\n\r\n";
    other.write_all(head.as_bytes()).unwrap();
    wait_for(1 << 20);
    for source in sources {
        assert_eq!(import(source).expect(503)["code"], "overloaded");
        wait_for(1 << 20);
    }
    drop(other);
    wait_for(0);
    for source in sources {
        import(source).expect(201);
    }
    wait_for(0);
}

#[test]
fn a_server_that_may_fetches_a_model() {
    let (data, hub) = (tempfile::tempdir().unwrap(), model());
    let mut start = serve(
        vocabd(),
        data.path(),
        &[("allow_hub", "true"), ("import_urls", "127.0.0.1"), ("log_level", "trace")],
    );
    start.env("HF_ENDPOINT", hub.url()).env("HF_TOKEN", "hf_secret");
    let server = Server::run(start);
    let made = server.ask("POST", "/vocabs?name=gpt4&source=hf://org/model", b"").expect(201);
    assert_eq!(made["vocab"]["name"], "gpt4");
    let facts = server.get("/vocabs/gpt4");
    assert_eq!(facts["source"], format!("hf://org/model@{COMMIT}"));
    let body = json!({"name": "gpt4", "source": "hf://org/model@v2", "format": "tiktoken", "alias": "prod"});
    let again = server
        .client()
        .try_ask("POST", "/vocabs", "Content-Type: application/json\r\n", body.to_string().as_bytes())
        .unwrap();
    assert_eq!(again.expect(200)["vocab"]["digest"], made["vocab"]["digest"]);
    assert_eq!(server.get("/vocabs/gpt4@prod")["version"], 1);
    let url = format!("/vocabs?name=byurl&source={}/some/cl100k_base.tiktoken?key=secret", hub.url());
    assert_eq!(server.ask("POST", &url, b"").expect(201)["vocab"]["digest"], made["vocab"]["digest"]);
    assert_eq!(server.get("/vocabs/byurl")["source"], "cl100k_base.tiktoken");

    let problem = |path: &str| server.ask("POST", path, b"");
    let missing = problem(&format!("/vocabs?name=x&source={}/none", hub.url())).expect(422);
    assert_eq!(
        (&missing["code"], &missing["pointer"]),
        (&json!("source_not_found"), &json!("/query/source"))
    );
    let bad_option = problem("/vocabs?name=x&source=hf://org/model&digits=some").expect(422);
    assert_eq!(bad_option["pointer"], "/query/digits");
    let log = server.stop();
    assert!(!log.contains("hf_secret") && !log.contains("key=secret"), "{log}");
}

#[test]
fn a_hub_that_cannot_be_asked_ends_the_start() {
    let data = tempfile::tempdir().unwrap();
    let mut start = serve(vocabd(), data.path(), &[("allow_hub", "true")]);
    start.env("HF_ENDPOINT", "huggingface.co");
    let (code, _, err) = finish(start);
    assert!(code == Some(1) && err.contains("HF_ENDPOINT must be an http(s) URL"), "{err}");
}

#[test]
fn what_a_hub_refuses_is_a_problem_that_says_so() {
    use axum::http::StatusCode;
    use axum::response::IntoResponse;
    let hub = StandIn::new(|ask| {
        let status = ask.path.split('/').nth(4).and_then(|model| model.strip_prefix('s'));
        let status = status.and_then(|status| status.parse().ok()).unwrap_or(StatusCode::IM_A_TEAPOT);
        (status, [("retry-after", "17")]).into_response()
    });
    let data = tempfile::tempdir().unwrap();
    let mut start = serve(vocabd(), data.path(), &[("allow_hub", "true")]);
    start.env("HF_ENDPOINT", hub.url());
    let server = Server::run(start);
    for (status, answer, code) in [
        (404, 422, "source_not_found"),
        (401, 422, "source_denied"),
        (429, 503, "source_busy"),
        (418, 502, "source_failed"),
    ] {
        let told = server.ask("POST", &format!("/vocabs?name=x&source=hf://org/s{status}"), b"");
        assert_eq!(told.expect(answer)["code"], code, "{}", told.text());
        if status == 429 {
            assert_eq!(told.header("retry-after"), Some("17"));
        }
    }
}

#[tokio::test]
async fn nothing_is_fetched_unless_the_settings_allow_it() {
    let server = TestServer::new().await;
    let query = "/vocabs?name=x&source=hf://org/model";
    let problem = server.post(query, "").await.problem(403, "fetch_not_allowed", Some("/query/source"));
    assert_eq!(problem["setting"], "allow_hub");
    let body = json!({"name": "x", "source": "https://example.org/x.tiktoken"});
    let problem = server.post_json("/vocabs", body).await.problem(403, "fetch_not_allowed", Some("/source"));
    assert_eq!(problem["setting"], "import_urls");

    for source in
        ["hf://org", "hf://org/model@a%20b", "file:///etc/passwd", "ftp://x/y", "tokenizer.json", ""]
    {
        let answer = server.post(&format!("/vocabs?name=x&source={source}"), "").await;
        answer.problem(422, "invalid_field", Some("/query/source"));
    }
    for (body, pointer) in [
        (json!({"name": "x"}), "/source"),
        (json!({"source": "hf://org/model"}), "/name"),
        (json!({"name": "a b", "source": "hf://org/model"}), "/name"),
        (json!({"name": "x", "source": "file:///x"}), "/source"),
        (json!({"name": "x", "source": "hf://org/model", "format": "zip"}), "/format"),
        (json!({"name": "x", "source": "hf://org/model", "alias": "7"}), "/alias"),
        (json!({"name": "x", "source": "hf://org/model", "special": {"a": -1}}), "/special/a"),
        (json!({"name": "x", "source": "hf://org/model", "split": 5}), "/split"),
        (json!({"name": "x", "source": "hf://org/model", "other": 1}), "/other"),
    ] {
        server.post_json("/vocabs", body).await.problem(422, "invalid_field", Some(pointer));
    }
    // Body and source exclude each other, and so do query and JSON body.
    server.post(query, "x").await.problem(422, "invalid_field", Some(""));
    let both = json_body(Method::POST, "/vocabs?split=cl100k", &json!({"name": "x", "source": "hf://a/b"}));
    server.send(both).await.problem(422, "invalid_field", Some("/query"));
    // With a name in the query, JSON is a file.
    let file = json_body(Method::POST, "/vocabs?name=x", &json!({"model": {}}));
    server.send(file).await.problem(422, "bad_vocabulary", Some("/model"));
    server.goes_on().await;
}

/// Neither a source nor what it redirects to may lead inside, and a hub's own host is no way to its neighbours.
#[test]
fn imports_do_not_lead_inside() {
    let data = tempfile::tempdir().unwrap();
    let elsewhere = StandIn::new(|_| unreachable!("asked all the same"));
    let inside = [elsewhere.url().replace("127.0.0.1", "localhost"), elsewhere.url()];
    let public = Server::start_with(data.path(), &[("import_urls", "*")]);
    for url in &inside {
        let told = public.ask("POST", &format!("/vocabs?name=x&source={url}/x.tiktoken"), b"");
        assert!(matches!(told.status, 422 | 502), "{url}: {}", told.text());
    }
    drop(public);

    let hub = StandIn::new(move |ask| match ask.path.as_str() {
        "/file" => super::redirect(&format!("{}/x.tiktoken", inside[0])),
        path => super::redirect(&format!("http://127.0.0.2:1{path}")),
    });
    let mut start = serve(vocabd(), data.path(), &[("allow_hub", "true"), ("import_urls", "127.0.0.1")]);
    start.env("HF_ENDPOINT", hub.url());
    let server = Server::run(start);
    let told = server.ask("POST", &format!("/vocabs?name=x&source={}/file", hub.url()), b"").expect(502);
    assert_eq!(told["detail"], "the server cannot be reached");
    let told = server.ask("POST", "/vocabs?name=x&source=hf://org/model", b"").expect(502);
    assert!(told["detail"].as_str().unwrap().contains("neither the hub's own"), "{told}");
    assert_eq!((hub.asked().len(), elsewhere.asked().len()), (2, 0));
}

/// A form; each part is a head without its line ends, and a content.
fn form(parts: &[(&str, &[u8])]) -> (String, Vec<u8>) {
    let mut body = Vec::new();
    for (head, content) in parts {
        body.extend_from_slice(format!("--XX\r\nContent-Disposition: form-data; {head}\r\n\r\n").as_bytes());
        body.extend_from_slice(content);
        body.extend_from_slice(b"\r\n");
    }
    body.extend_from_slice(b"--XX--\r\n");
    ("multipart/form-data; boundary=XX".to_owned(), body)
}

async fn send(server: &TestServer, query: &str, parts: &[(&str, &[u8])]) -> crate::support::Answer {
    let (kind, body) = form(parts);
    let request = with_body(Method::POST, &format!("/vocabs?name=zh{query}"), body);
    server.send(and(request, "content-type", &kind)).await
}

#[tokio::test]
async fn files_come_as_the_parts_of_a_form() {
    let server = TestServer::with(|config| config.max_vocab_bytes = 10_000).await;
    let file = crate::support::tiktoken(&["hello"]);
    let file = file.as_bytes();
    let alone = server.post("/vocabs?name=zh&split=cl100k", file.to_vec()).await.ok(201);
    let config: &[u8] = b"{}";
    for parts in [
        &[(r#"name="file"; filename="zh.tiktoken""#, file)][..],
        &[(r#"name="file"; filename="anything""#, file)],
        &[(r#"name="zh.tiktoken""#, file)],
        // In any order, and whatever folder a client has them in.
        &[
            (r#"name="a"; filename="tokenizer_config.json""#, config),
            (r#"name="b"; filename="models/zh/zh.tiktoken""#, file),
        ],
    ] {
        let made = send(&server, "&split=cl100k", parts).await.ok(200);
        assert_eq!(made["vocab"]["digest"], alone["vocab"]["digest"]);
    }
    let facts = server.get("/vocabs/zh").await.ok(200);
    assert_eq!((&facts["format"], &facts["source"]), (&json!("tiktoken"), &json!("request")));

    let zh = (r#"name="file"; filename="zh.tiktoken""#, file);
    let many: Vec<(String, &[u8])> =
        (0..17).map(|n| (format!("name=\"f\"; filename=\"{n}.gguf\""), &b"x"[..])).collect();
    let many: Vec<(&str, &[u8])> = many.iter().map(|(head, content)| (head.as_str(), *content)).collect();
    for (parts, pointer) in [
        (&[(r#"name="split""#, &b"cl100k"[..]), zh][..], "/parts/0"),
        (&[zh, (r#"name="special""#, b"cAnArY-7f3a=300")], "/parts/1"),
        (&[zh, (r#"name="f"; filename="zh.toml""#, b"split = 'gpt2'")], "/parts/1"),
        (&[zh, zh], "/parts/1"),
        (&[zh, (r#"name="f"; filename="config.json""#, b"{}")], "/parts/1"),
        (&[zh, (r#"name="f"; filename="other.tokenizer_config.json""#, b"{}")], "/parts/1"),
        (&[zh, (r#"name="f"; filename="other.tiktoken""#, file)], "/parts"),
        (&[(r#"name="f"; filename="a""#, file), (r#"name="f"; filename="b""#, file)], "/parts"),
        (&[(r#"name="f"; filename="x/""#, file)], "/parts/0"),
        (&[], "/parts"),
        (&many, "/parts"),
    ] {
        send(&server, "&split=cl100k", parts).await.problem(422, "invalid_field", Some(pointer));
    }
    send(&server, "", &[zh]).await.problem(422, "bad_vocabulary", Some("/query/split"));
    let long = vec![b'x'; 6000];
    let (a, b) = (r#"name="f"; filename="tokenizer.json""#, r#"name="f"; filename="tokenizer_config.json""#);
    send(&server, "", &[(a, &long), (b, &long)]).await.problem(413, "body_too_large", None);
    send(&server, "", &[(a, &[b'x'; 100_000])]).await.problem(413, "body_too_large", None);
    server.goes_on().await;
}

#[tokio::test]
async fn a_form_that_is_none_is_refused() {
    let server = TestServer::new().await;
    let post = async |kind: &str, body: &[u8]| {
        let request = with_body(Method::POST, "/vocabs?name=zh", body.to_vec());
        server.send(and(request, "content-type", kind)).await
    };
    let good = form(&[(r#"name="f"; filename="x.tiktoken""#, b"x")]);
    for (kind, body) in [
        ("multipart/form-data", &good.1[..]),
        ("multipart/form-data; boundary=", &good.1),
        ("multipart/form-data; boundary=YY", &good.1),
        (&good.0, b"cAnArY-7f3a"),
        (&good.0, &good.1[..good.1.len() - 8]),
        (&good.0, b"--XX\r\nno head"),
        (&good.0, b""),
    ] {
        post(kind, body).await.problem(400, "bad_multipart", None);
    }
    let zipped = and(request(Method::POST, "/vocabs?name=zh"), "content-encoding", "gzip");
    let zipped = and(zipped, "content-type", &good.0);
    server.send(zipped).await.problem(415, "unsupported_media_type", None);
    // A body without an end, over the limit.
    let server = TestServer::with(|config| config.max_vocab_bytes = 1024).await;
    let head = bytes::Bytes::from_static(
        b"--XX\r\nContent-Disposition: form-data; name=\"a\"; filename=\"a\"\r\n\r\n",
    );
    let pieces = std::iter::once(head).chain((0..200).map(|_| bytes::Bytes::from_static(&[b'x'; 1024])));
    let body = axum::body::Body::from_stream(futures_util::stream::iter(
        pieces.map(Ok::<_, std::convert::Infallible>),
    ));
    let endless = and(with_body(Method::POST, "/vocabs?name=zh", body), "content-type", &good.0);
    server.send(endless).await.problem(413, "body_too_large", None);
    server.goes_on().await;
}

#[test]
fn folders_and_companions_are_read_by_the_command_line() {
    let (data, dir) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (data, dir) = (data.path(), dir.path());
    let run = |args: &[&str]| {
        let mut command = vocabd();
        command.arg("--data-dir").arg(data).args(args);
        finish(command)
    };
    let at = |name: &str| dir.join(name).to_str().unwrap().to_owned();
    let (_, small) = crate::process::numbered(0);
    std::fs::create_dir(dir.join("mine")).unwrap();
    std::fs::write(dir.join("mine/qwen.tiktoken"), &small).unwrap();
    std::fs::write(dir.join("mine/tokenizer_config.json"), "{}").unwrap();
    std::fs::write(dir.join("mine/README.md"), "# mine").unwrap();
    let (code, _, err) = run(&["import", "a", &at("mine")]);
    assert!(code == Some(1) && err.contains("split"), "{err}");
    // The sidecar of a folder is beside it or, named as the file, in it.
    std::fs::write(dir.join("mine/qwen.toml"), "split = \"qwen2\"").unwrap();
    let (code, inner, err) = run(&["import", "a", &at("mine")]);
    assert_eq!((code, err.as_str()), (Some(0), ""));
    let (_, facts, _) = run(&["inspect", "a"]);
    let facts: Value = serde_json::from_str(&facts).unwrap();
    assert_eq!((&facts["source"], &facts["format"]), (&json!("mine"), &json!("tiktoken")));
    assert_eq!(facts["split"], "qwen2");
    let (_, of_folder, _) = run(&["inspect", &(at("mine") + "/")]);
    let of_folder: Value = serde_json::from_str(&of_folder).unwrap();
    assert_eq!(of_folder["digest"], facts["digest"]);
    let (_, of_file, _) = run(&["import", "a", &at("mine/qwen.tiktoken")]);
    assert_eq!(of_file, inner.replace("new", "there already"));
    std::fs::write(dir.join("mine.toml"), "split = \"gpt2\"").unwrap();
    let (_, outer, _) = run(&["import", "b", &at("mine")]);
    let (_, facts, _) = run(&["inspect", "b"]);
    assert!(outer.starts_with("b@1") && facts.contains("\"gpt2\""), "{facts}");

    // A folder with the name of a vocabulary does not hide it.
    let mut in_dir = vocabd();
    in_dir.current_dir(dir).arg("--data-dir").arg(data).args(["inspect", "default"]);
    std::fs::create_dir(dir.join("default")).unwrap();
    assert!(finish(in_dir).1.contains("\"embedded\""));
    let (code, _, err) = run(&["import", "c", &at("default")]);
    assert!(code == Some(1) && err.contains("default: ") && err.contains("no vocabulary file"), "{err}");
    std::fs::write(dir.join("default/a.tiktoken"), &small).unwrap();
    std::fs::write(dir.join("default/b.tiktoken"), &small).unwrap();
    let (code, _, err) = run(&["import", "c", &at("default")]);
    assert!(code == Some(1) && err.contains("a.tiktoken") && err.contains("b.tiktoken"), "{err}");

    // The limit is one for all files together.
    std::fs::write(dir.join("mine/tokenizer_config.json"), vec![b' '; 3000]).unwrap();
    let mut limited = vocabd();
    limited.arg("--data-dir").arg(data).args(["import", "d", &at("mine")]);
    limited.env("VOCABD_MAX_VOCAB_BYTES", "4096");
    let (code, _, err) = finish(limited);
    assert!(code == Some(1) && err.contains("max_vocab_bytes"), "{err}");
}
