//! `/docs`: the contract as a page for people, made here from the same document as `openapi.yaml`. It has no script and asks
//! no other host for anything.

use axum::http::{HeaderName, header};
use axum::response::IntoResponse;
use serde_json::{Map, Value};
use std::fmt::Write as _;
use std::sync::LazyLock;

/// Nothing but the page itself and its own style.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

const STYLE: &str = "body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:0 auto;padding:1rem;color:#1c1c1c;background:#fff}\
h1,h2,h3{line-height:1.2}h2{margin-top:2.5rem;border-bottom:1px solid #ccc}code,pre{font:14px/1.45 ui-monospace,monospace}\
pre{background:#f4f4f2;padding:.6rem;overflow:auto}details{border:1px solid #ddd;border-radius:.4rem;margin:.5rem 0;padding:.4rem .8rem}\
summary{cursor:pointer}b.m{display:inline-block;min-width:4.5rem}table{border-collapse:collapse;width:100%}\
td,th{text-align:left;vertical-align:top;padding:.2rem .6rem .2rem 0;border-top:1px solid #eee}a{color:#0b57d0}\
@media(prefers-color-scheme:dark){body{color:#e6e6e6;background:#161616}pre{background:#242424}details{border-color:#444}\
td,th{border-color:#333}a{color:#8ab4f8}}";

/// The contract as a page.
#[utoipa::path(get, path = "/docs", tag = "operations", responses(
    (status = 200, description = "What this document says, for people", content_type = "text/html", body = String)))]
pub(super) async fn docs() -> impl IntoResponse {
    static PAGE: LazyLock<String> = LazyLock::new(|| page(&super::openapi::json()));
    let policy = HeaderName::from_static("content-security-policy");
    ([(header::CONTENT_TYPE, "text/html; charset=utf-8"), (policy, POLICY)], PAGE.as_str())
}

fn page(document: &Value) -> String {
    let info = &document["info"];
    let mut out = format!(
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width\">\
         <title>{title}</title><style>{STYLE}</style><h1>{title} <small>{version}</small></h1><p>{about}</p>\
         <p>The same for programs: <a href=\"openapi.yaml\">openapi.yaml</a>. <a href=\"#schemas\">All types</a>.</p>",
        title = text(&info["title"]),
        version = text(&info["version"]),
        about = text(&info["description"]),
    );
    for tag in document["tags"].as_array().into_iter().flatten() {
        let _ = write!(out, "<h2>{}</h2><p>{}</p>", text(&tag["name"]), text(&tag["description"]));
        for (path, methods) in members(&document["paths"]) {
            for (method, operation) in members(methods) {
                if operation["tags"].as_array().is_some_and(|tags| tags.contains(&tag["name"])) {
                    write_operation(method, path, operation, &mut out);
                }
            }
        }
    }
    out.push_str("<h2 id=\"schemas\">Types</h2>");
    for (name, schema) in members(&document["components"]["schemas"]) {
        let _ = write!(out, "<h3 id=\"{0}\">{0}</h3><p>{1}</p>", escape(name), text(&schema["description"]));
        write_schema(schema, &mut out);
    }
    out
}

fn write_operation(method: &str, path: &str, operation: &Value, out: &mut String) {
    let id = operation["operationId"].as_str().unwrap_or_default();
    let _ = write!(
        out,
        "<details id=\"op-{}\"><summary><b class=\"m\">{}</b><code>{}</code> — {}</summary>",
        escape(id),
        escape(&method.to_uppercase()),
        escape(path),
        text(&operation["summary"])
    );
    let _ = write!(out, "<p>{}</p>", text(&operation["description"]));
    let parameters: Vec<&Value> = operation["parameters"].as_array().into_iter().flatten().collect();
    if !parameters.is_empty() {
        out.push_str("<table><tr><th>parameter<th>in<th>type<th>meaning");
        for parameter in parameters {
            let required = if parameter["required"] == true { ", required" } else { "" };
            let _ = write!(
                out,
                "<tr><td><code>{}</code><td>{}{required}<td>{}<td>{}",
                text(&parameter["name"]),
                text(&parameter["in"]),
                kind(&parameter["schema"]),
                text(&parameter["description"])
            );
        }
        out.push_str("</table>");
    }
    for (content, body) in members(&operation["requestBody"]["content"]) {
        let _ = write!(out, "<p>Request: <code>{}</code> {}</p>", escape(content), kind(&body["schema"]));
    }
    out.push_str("<table><tr><th>answer<th>body<th>meaning");
    for (status, answer) in members(&operation["responses"]) {
        let bodies = members(&answer["content"])
            .map(|(content, body)| format!("<code>{}</code> {}", escape(content), kind(&body["schema"])));
        let bodies: Vec<String> = bodies.collect();
        let meaning = text(&answer["description"]);
        let _ = write!(out, "<tr><td>{}<td>{}<td>{meaning}", escape(status), bodies.join("<br>"));
    }
    out.push_str("</table></details>");
}

/// The fields of an object, or the words of an enumeration, or what else it is.
fn write_schema(schema: &Value, out: &mut String) {
    let required = schema["required"].as_array();
    let fields: Vec<(&str, &Value)> = members(&schema["properties"]).collect();
    if fields.is_empty() {
        let _ = write!(out, "<p>{}</p>", kind(schema));
        return;
    }
    out.push_str("<table><tr><th>field<th>type<th>meaning");
    for (name, field) in fields {
        let is_required = required.is_some_and(|required| required.iter().any(|other| other == name));
        let mark = if is_required { " *" } else { "" };
        let default = match &field["default"] {
            Value::Null => String::new(),
            default => format!(" Default: <code>{}</code>.", escape(&default.to_string())),
        };
        let meaning = text(&field["description"]);
        let _ = write!(
            out,
            "<tr><td><code>{}</code>{mark}<td>{}<td>{meaning}{default}",
            escape(name),
            kind(field)
        );
    }
    out.push_str("</table>");
    if let Some(example) = schema.get("example") {
        let _ = write!(out, "<pre>{}</pre>", escape(&format!("{example:#}")));
    }
}

/// How deep types are written out: the document's own are three deep at most.
const DEPTH: usize = 6;

/// A type in words, with a link where it has a name.
fn kind(schema: &Value) -> String {
    kind_at(schema, DEPTH)
}

fn kind_at(schema: &Value, depth: usize) -> String {
    let Some(depth) = depth.checked_sub(1) else { return "…".to_owned() };
    if let Some(name) = schema["$ref"].as_str().and_then(|path| path.rsplit('/').next()) {
        return format!("<a href=\"#{0}\">{0}</a>", escape(name));
    }
    for several in ["oneOf", "anyOf", "allOf"] {
        if let Some(kinds) = schema[several].as_array() {
            let kinds: Vec<String> = kinds.iter().map(|schema| kind_at(schema, depth)).collect();
            return kinds.join(" or ");
        }
    }
    if let Some(words) = schema["enum"].as_array() {
        let words: Vec<String> = words.iter().map(|word| format!("<code>{}</code>", text(word))).collect();
        return words.join(", ");
    }
    let names = match &schema["type"] {
        Value::String(name) => vec![name.as_str()],
        Value::Array(names) => names.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    };
    let named = names.iter().map(|name| match *name {
        "array" => format!("array of {}", kind_at(&schema["items"], depth)),
        other => escape(other),
    });
    let named: Vec<String> = named.collect();
    if named.is_empty() { "any".to_owned() } else { named.join(" or ") }
}

/// The members of an object in their order; none of anything else.
fn members(value: &Value) -> impl Iterator<Item = (&str, &Value)> {
    value.as_object().into_iter().flat_map(Map::iter).map(|(name, value)| (name.as_str(), value))
}

/// A string for the page, with what stands between backticks as code.
fn text(value: &Value) -> String {
    let parts = value.as_str().unwrap_or_default().split('`').enumerate();
    let shown = parts.map(|(at, part)| match at % 2 {
        0 => escape(part),
        _ => format!("<code>{}</code>", escape(part)),
    });
    shown.collect()
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_operation_and_type_is_on_the_page_and_every_link_leads_somewhere() {
        let document = super::super::openapi::json();
        let page = page(&document);
        for (path, methods) in members(&document["paths"]) {
            for (_, operation) in members(methods) {
                let id = format!("id=\"op-{}\"", operation["operationId"].as_str().unwrap());
                assert_eq!(page.matches(&id).count(), 1, "{path}");
            }
        }
        for link in page.split("href=\"#").skip(1).map(|rest| rest.split('"').next().unwrap()) {
            assert_eq!(page.matches(&format!("id=\"{link}\"")).count(), 1, "{link}");
        }
        // An address elsewhere is told in the document's licence and the like at most, and never fetched.
        for asks in ["<script", "src=", "<link", "@import", "url("] {
            assert!(!page.contains(asks), "{asks}");
        }
        assert!(!page.contains('`'));
    }

    #[test]
    fn what_the_document_says_is_text_on_the_page() {
        assert_eq!(text(&Value::from("a <b> & `c<d>`")), "a &lt;b&gt; &amp; <code>c&lt;d&gt;</code>");
    }
}
