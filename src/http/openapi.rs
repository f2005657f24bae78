//! The `OpenAPI` file: made from the handlers' own annotations, committed as `openapi.yaml`, which a test compares, and served as it
//! is.

use super::access::{self, Access};
use axum::http::{Method, header};
use axum::response::IntoResponse;
use utoipa::openapi::path::{Operation, ParameterIn};
use utoipa::openapi::schema::Schema;
use utoipa::openapi::security::{ApiKey, ApiKeyValue, HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::openapi::{ContentBuilder, PathItem, Ref, RefOr, Response, ResponseBuilder};
use utoipa::{Modify, OpenApi, ToSchema};

/// The parts of the document that belong to no route.
#[derive(OpenApi)]
#[openapi(
    info(
        title = "vocabd",
        description = "Trains, serves and hot-swaps byte-level BPE vocabularies. Errors are RFC 9457 problems; every \
            answer of the encode side names the version that made it, in its body and in the headers `Vocab` and `ETag`.",
        license(name = "Apache-2.0", identifier = "Apache-2.0"),
    ),
    // Only servers with a file of keys ask for one.
    security((), ("bearer" = []), ("x_api_key" = [])),
    modifiers(&Keys),
    // What only a stream of events carries.
    components(schemas(crate::jobs::Merging)),
    servers((url = "http://127.0.0.1:8080", description = "where `vocabd serve` listens unless told otherwise")),
    tags(
        (name = "encode", description = "Texts to ids and back"),
        (name = "chat", description = "Messages to the text that a model reads, and to ids"),
        (name = "analysis", description = "What vocabularies make of texts: chunks, figures, steps"),
        (name = "vocabs", description = "Vocabularies, their versions and aliases"),
        (name = "models", description = "Cards of base models: what is known, what follows, and which is best for one's own text"),
        (name = "train", description = "Training jobs and their corpora"),
        (name = "compat", description = "Routes of other servers, in the shapes of their own code: vLLM, SGLang, TEI, TGI, llama.cpp, \
            OpenVINO's model server, LocalAI, Ollama (as proposed), Cohere, Anthropic, OpenAI, Google, xAI, watsonx, LiteLLM. Each is \
            also at `/compat/NAME` and its usual path (vllm, sglang, tei, tgi, llamacpp, ovms, localai, ollama, cohere, anthropic, \
            openai, google, xai, watsonx, litellm), where TEI has `/decode` and `/info` too, and TGI `/tokenize`. Names of models lead \
            to vocabularies by the setting `models`."),
        (name = "operations", description = "Probes, limits, figures, the contract"),
    )
)]
pub(super) struct Document;

/// The two ways to send a key.
struct Keys;

impl Modify for Keys {
    fn modify(&self, document: &mut utoipa::openapi::OpenApi) {
        let components = document.components.get_or_insert_default();
        let bearer = HttpBuilder::new().scheme(HttpAuthScheme::Bearer);
        let bearer = bearer.description(Some("A key, where the server has a file of keys")).build();
        let header = ApiKeyValue::with_description("x-api-key", "The same in a header of its own");
        components.add_security_scheme("bearer", SecurityScheme::Http(bearer));
        components.add_security_scheme("x_api_key", SecurityScheme::ApiKey(ApiKey::Header(header)));
    }
}

/// Ids one after the other, little-endian; batches after n and n counts of 32 bits.
#[derive(Debug, ToSchema)]
#[schema(as = Packed, value_type = String, format = Binary)]
#[expect(dead_code, reason = "only described")]
pub(super) struct PackedBody(Vec<u8>);

/// A JSON object a line.
#[derive(Debug, ToSchema)]
#[schema(as = Lines, value_type = String)]
#[expect(dead_code, reason = "only described")]
pub(super) struct LinesBody(String);

/// The committed document.
pub const YAML: &str = include_str!("../../openapi.yaml");

/// The document as the code has it.
///
/// # Panics
/// Never: a test calls it.
pub fn of_code() -> String {
    let yaml = document().to_yaml().expect("the document is plain data");
    // The registry of formats has `uint32`; utoipa 6.0 writes `u-int32`.
    yaml.replace("format: u-int", "format: uint")
}

/// The document as JSON values.
pub(super) fn json() -> serde_json::Value {
    yaml_serde::from_str(YAML).expect("the committed document is YAML, as a test checks")
}

fn document() -> utoipa::openapi::OpenApi {
    let (_, mut document) = super::documented().split_for_parts();
    // An import that names its source has no body; the macro knows only of bodies that are always there.
    let import = document.paths.paths.get_mut("/vocabs").and_then(|path| path.post.as_mut());
    if let Some(RefOr::T(body)) = import.and_then(|import| import.request_body.as_mut()) {
        body.required = None;
    }
    // The rules for names, which are the same wherever one stands in a path.
    let all = document.paths.paths.values_mut().flat_map(operations);
    for parameter in all.flat_map(|operation| operation.parameters.iter_mut().flatten()) {
        let RefOr::T(parameter) = parameter else { continue };
        let Some((_, pattern, example)) = PATTERNS.iter().find(|(name, ..)| *name == parameter.name) else {
            continue;
        };
        if parameter.parameter_in != ParameterIn::Path {
            continue;
        }
        if let Some(RefOr::T(Schema::Object(schema))) = &mut parameter.schema {
            schema.pattern = Some((*pattern).to_owned());
            schema.examples.extend(example.map(Into::into));
        }
    }
    // What every route may answer is not said by each.
    for operation in document.paths.paths.values_mut().flat_map(operations) {
        let refused = operation.responses.responses.contains_key("4XX");
        if !refused {
            operation.responses.responses.insert("4XX".to_owned(), refusal().into());
        }
    }
    // What a key needs, route by route.
    for (path, item) in &mut document.paths.paths {
        let methods = [
            (Method::GET, &mut item.get),
            (Method::PUT, &mut item.put),
            (Method::POST, &mut item.post),
            (Method::DELETE, &mut item.delete),
        ];
        for (method, operation) in methods {
            let Some(operation) = operation else { continue };
            let scope = match access::needed(&method, path) {
                Access::Open => {
                    operation.security = Some(Vec::new());
                    continue;
                }
                Access::AnyKey => "any",
                Access::Scoped(scope) => scope.name(),
            };
            let extensions = operation.extensions.get_or_insert_default();
            extensions.insert("x-scope".to_owned(), scope.into());
        }
    }
    // Names of models have slashes, which axum has a sign for and the document has not.
    let paths = std::mem::take(&mut document.paths.paths);
    document.paths.paths =
        paths.into_iter().map(|(path, item)| (path.replace("{*model}", "{model}"), item)).collect();
    document
}

/// What may stand for a parameter of the path, and an example of one that every server has.
const PATTERNS: &[(&str, &str, Option<&str>)] = &[
    ("name", "^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$", None),
    ("id", "^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$", None),
    ("alias", "^(?!latest$)(?![0-9]+$)[A-Za-z0-9][A-Za-z0-9._-]{0,63}$", None),
    ("ref", REF, Some("default")),
    ("a", REF, Some("default")),
    ("b", REF, Some("default@1")),
    ("call", "^[^/:]+:countTokens$", Some("default:countTokens")),
    ("model", "^.+$", Some("default")),
];

/// `name`, `name@3` or `name@alias`.
const REF: &str = "^[A-Za-z0-9][A-Za-z0-9._-]{0,63}(@[A-Za-z0-9][A-Za-z0-9._-]{0,63})?$";

fn operations(path: &mut PathItem) -> impl Iterator<Item = &mut Operation> {
    [&mut path.get, &mut path.put, &mut path.post, &mut path.delete].into_iter().flatten()
}

fn refusal() -> Response {
    let problem = ContentBuilder::new().schema(Some(Ref::from_schema_name("Problem"))).build();
    ResponseBuilder::new().description("Refused").content("application/problem+json", problem).build()
}

/// This contract.
#[utoipa::path(get, path = "/openapi.yaml", tag = "operations", responses(
    (status = 200, description = "The OpenAPI 3.1 document", content_type = "application/yaml", body = String)))]
pub(super) async fn openapi() -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "application/yaml")], YAML)
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_committed_document_reads_as_the_code_has_it() {
        let of_code: serde_json::Value = yaml_serde::from_str(&super::of_code()).unwrap();
        assert!(super::json() == of_code, "openapi.yaml is out of step");
        assert!(of_code["paths"].as_object().unwrap().len() > 40);
    }
}
