//! The OpenAPI document, the routes and the labels tell the same paths.

use std::collections::BTreeSet;

use actix_web::http::Method;
use serde_json::Value;

use super::super::routes::PATTERNS;
use super::{Api, Ask};

#[actix_web::test]
async fn the_document_the_routes_and_the_labels_agree() {
    let api = Api::start();
    let document = api.get("/openapi.json").await.expect(200);
    assert!(document["openapi"].as_str().is_some_and(|version| version.starts_with("3.1")), "{document}");
    let paths = document["paths"].as_object().expect("paths");
    let described: BTreeSet<&str> = paths.keys().map(String::as_str).collect();
    assert_eq!(described, PATTERNS.into_iter().collect(), "every path is described and labelled");
    for (path, operations) in paths {
        let id = "0190d1c2-0000-7000-8000-000000000000";
        let path = path.replace("{id}", id).replace("{backfill}", id).replace("{name}", "holidays");
        let path = path.replace("{kind}", "queue").replace("{key}", "builtin");
        for method in [Method::GET, Method::POST, Method::PUT, Method::PATCH, Method::DELETE] {
            let described = operations.get(method.as_str().to_lowercase()).is_some();
            let routed = api.ask(Ask::of(method.clone(), &path)).await.status != 405;
            assert_eq!(described, routed, "{method} {path}");
        }
    }
}

/// Every reference of the document leads somewhere.
#[actix_web::test]
async fn the_document_is_whole() {
    fn references<'d>(value: &'d Value, found: &mut Vec<&'d str>) {
        match value {
            Value::Object(fields) => {
                found.extend(fields.get("$ref").and_then(Value::as_str));
                fields.values().for_each(|field| references(field, found));
            }
            Value::Array(elements) => elements.iter().for_each(|element| references(element, found)),
            _ => {}
        }
    }
    let api = Api::start();
    let document = api.get("/openapi.json").await.expect(200);
    let mut found = Vec::new();
    references(&document, &mut found);
    assert!(found.len() > 20, "there are references");
    for reference in found {
        let pointer = reference.strip_prefix('#').expect("a local reference");
        assert!(document.pointer(pointer).is_some(), "{reference}");
    }
}

/// What a task is described to have is what a task has and what is read of it.
#[actix_web::test]
async fn a_task_has_the_fields_that_are_described() {
    let api = Api::start();
    let document = api.get("/openapi.json").await.expect(200);
    let schema = &document["components"]["schemas"]["Task"];
    let described: BTreeSet<&String> = schema["properties"].as_object().expect("properties").keys().collect();
    let task = api.create(super::manual("one")).await;
    let answered: BTreeSet<&String> = task.as_object().expect("an object").keys().collect();
    assert_eq!(described, answered);
    api.create(task.clone()).await;
    let required: Vec<&str> =
        schema["required"].as_array().expect("a list").iter().filter_map(Value::as_str).collect();
    let written = |name: &&str| schema["properties"][*name]["readOnly"] != true;
    assert_eq!(required.into_iter().filter(written).collect::<Vec<_>>(), ["name", "trigger", "action"]);
}
