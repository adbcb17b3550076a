//! What is generated from the types of the manifest is what stands in the files.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should panic where it stands")]

use std::path::Path;

use local::reference;

const WRITE: &str = "run `cargo run -- generate`";

#[test]
fn the_schema_of_the_manifest_is_that_of_its_types() {
    assert_eq!(include_str!("../shared/deploy.schema.json"), reference::schema_file(), "{WRITE}");
}

#[test]
fn the_references_in_the_docs_are_those_of_the_types() {
    for name in reference::PAGES {
        let page = std::fs::read_to_string(Path::new("..").join(name)).unwrap();
        assert_eq!(Some(page.clone()), reference::page(name, &page), "{name}: {WRITE}");
    }
}

#[test]
fn the_shops_manifest_names_its_schema() {
    let manifest = include_str!("../examples/shop/deploy.yaml");
    let named = manifest.lines().find_map(|line| line.strip_prefix("# yaml-language-server: $schema=")).unwrap();
    assert!(Path::new("../examples/shop").join(named).ends_with("shared/deploy.schema.json"), "{named}");
}
