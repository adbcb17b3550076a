//! README and docs: their links lead somewhere, and their example commands are run by somebody.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should panic where it stands")]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

/// Every page: its path, and its text.
fn pages() -> Vec<(PathBuf, String)> {
    let docs = std::fs::read_dir(root().join("docs")).unwrap().map(|entry| entry.unwrap().path());
    let all = docs.filter(|path| path.extension().is_some_and(|end| end == "md")).chain([root().join("README.md")]);
    let mut pages: Vec<_> = all.map(|path| (path.clone(), std::fs::read_to_string(path).unwrap())).collect();
    pages.sort();
    pages
}

/// The lines of a page, each with the info string of the code block that it is in.
fn lines(text: &str) -> Vec<(Option<&str>, &str)> {
    let mut block = None;
    let mut lines = Vec::new();
    for line in text.lines() {
        match (line.trim_start().strip_prefix("```"), block) {
            (Some(info), None) => block = Some(info.trim()),
            (Some(_), Some(_)) => block = None,
            (None, _) => lines.push((block, line)),
        }
    }
    lines
}

/// What GitHub calls a heading in an address.
fn anchor(heading: &str) -> String {
    let kept = heading.trim().to_lowercase();
    let kept = kept.chars().filter(|char| char.is_alphanumeric() || matches!(char, ' ' | '-' | '_'));
    kept.map(|char| if char == ' ' { '-' } else { char }).collect()
}

fn anchors(text: &str) -> BTreeSet<String> {
    let headings = lines(text).into_iter().filter(|(block, line)| block.is_none() && line.starts_with('#'));
    headings.map(|(_, line)| anchor(line.trim_start_matches('#'))).collect()
}

/// The targets of a line's links: `[text](target)`.
fn links(line: &str) -> impl Iterator<Item = &str> {
    line.split("](").skip(1).filter_map(|rest| rest.split(')').next())
}

#[test]
fn every_link_leads_to_a_file_and_to_a_heading_that_are_there() {
    let mut wrong = Vec::new();
    for (path, text) in pages() {
        for (_, line) in lines(&text).into_iter().filter(|(block, _)| block.is_none()) {
            for link in links(line).filter(|link| !link.starts_with("https://")) {
                let (file, heading) = link.split_once('#').unwrap_or((link, ""));
                let target = if file.is_empty() { path.clone() } else { path.with_file_name(file) };
                let is_there = target.exists()
                    && (heading.is_empty()
                        || std::fs::read_to_string(&target).is_ok_and(|text| anchors(&text).contains(heading)));
                if !is_there {
                    wrong.push(format!("{}: {link}", path.strip_prefix(root()).unwrap().display()));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "these links lead nowhere:\n{}", wrong.join("\n"));
}

/// Who runs an example command, beside those that this test runs itself: a test, or a line of `.ci/run`.
const RUN_BY: [(&str, &str); 21] = [
    ("cargo run", "the_shop_is_released_and_its_customers_notice_nothing"),
    ("cargo test --workspace", "cargo test --locked --workspace"),
    ("cargo test -p tests --test all -- --ignored", "cargo test --locked --workspace --test all -- --ignored"),
    ("cargo run -- init examples/blog", "a_compose_application_is_released_with_what_init_wrote_and_nothing_else"),
    ("cargo run -- check examples/blog", "a_compose_application_is_released_with_what_init_wrote_and_nothing_else"),
    (
        "cargo run -- release examples/blog --approve",
        "a_compose_application_is_released_with_what_init_wrote_and_nothing_else",
    ),
    ("cargo run -- release examples/shop --approve", "the_shop_is_released_and_its_customers_notice_nothing"),
    ("cargo run -- --version", "the_version_is_that_of_the_workspace"),
    ("cargo run -p tests --bin laws -- --seeds 1000", "cargo run --locked --quiet --package tests --bin laws"),
    (
        "cargo run -p tests --bin laws -- --seeds 1 --from 40237",
        "cargo run --locked --quiet --package tests --bin laws",
    ),
    (
        "cargo rustc --locked --release --package worker --bin worker -- -C target-feature=+crt-static",
        "cargo rustc --locked --quiet --release --package worker --bin worker -- -C target-feature=+crt-static",
    ),
    ("cargo run --package tests --bin picture", "cargo run --locked --quiet --package tests --bin picture"),
    ("cargo run -p tests --bin figures", "cargo run --locked --quiet --package tests --bin figures"),
    ("cargo run -- generate", "the_references_in_the_docs_are_those_of_the_types"),
    ("--local examples/shop/local.drifted.yaml", "local.drifted.yaml"),
    ("--local examples/shop/local.crashing.yaml", "local.crashing.yaml"),
    ("--local examples/shop/local.broken.yaml", "local.broken.yaml"),
    ("--local examples/shop/local.ecs.yaml", "local.ecs.yaml"),
    ("--local examples/shop/local.mixed.yaml", "local.mixed.yaml"),
    ("--local examples/shop/local.chatty.yaml", "local.chatty.yaml"),
    ("--local examples/shop/local.slow.yaml", "local.slow.yaml"),
];

/// The example commands of a page: what stands in its shell blocks, and in a text as code; not those that need an account.
fn commands(text: &str) -> Vec<String> {
    let mut commands: Vec<String> = Vec::new();
    let mut goes_on = false;
    for (block, line) in lines(text) {
        let is_shell = block.is_some_and(|info| info.split(' ').next() == Some("sh"));
        match block {
            Some(info) if info.split(' ').any(|word| word == "account") => {}
            Some(_) if is_shell && !line.trim().is_empty() => {
                let line = line.trim();
                match commands.last_mut().filter(|_| goes_on) {
                    Some(begun) => begun.push_str(line.trim_end_matches('\\')),
                    None => commands.push(line.trim_end_matches('\\').to_owned()),
                }
                goes_on = line.ends_with('\\');
            }
            Some(_) => {}
            None => {
                let code = line.split('`').skip(1).step_by(2);
                let is_command = |code: &&str| code.starts_with("cargo ") || code.starts_with("--local ");
                commands.extend(code.filter(is_command).map(str::to_owned));
            }
        }
    }
    commands.into_iter().map(|command| command.split("  #").next().unwrap().trim().to_owned()).collect()
}

/// Whether a command has something in it that its reader puts there: `DIR`, `[RELEASE]`, `N`.
fn has_placeholder(command: &str) -> bool {
    let is_one = |word: &str| word == "N" || word.chars().filter(char::is_ascii_uppercase).count() > 1;
    command.split([' ', '=']).any(is_one)
}

/// What is tried of Cutover, as text: the tests that are not left out, and what CI runs.
fn tried() -> String {
    let sources = std::fs::read_dir(root().join("tests")).unwrap().map(|entry| entry.unwrap().path());
    let sources = sources.filter(|path| path.extension().is_some_and(|end| end == "rs") && !path.ends_with("docs.rs"));
    let texts = sources.chain([root().join(".ci/run")]).map(|path| std::fs::read_to_string(path).unwrap());
    let code = texts.flat_map(|text| {
        let lines = text.lines().filter(|line| !line.trim_start().starts_with("//")).map(str::to_owned);
        lines.collect::<Vec<_>>()
    });
    code.collect::<Vec<_>>().join("\n")
}

#[test]
fn every_block_says_what_it_is() {
    let mut silent = Vec::new();
    for (path, text) in pages() {
        let mut is_open = false;
        for (at, line) in text.lines().enumerate().filter(|(_, line)| line.trim_start().starts_with("```")) {
            if !is_open && line.trim() == "```" {
                silent.push(format!("{}:{}", path.strip_prefix(root()).unwrap().display(), at + 1));
            }
            is_open = !is_open;
        }
    }
    assert!(silent.is_empty(), "say `sh`, `sh account`, `text` or another language: {silent:?}");
}

#[test]
fn every_example_command_is_run_by_somebody_or_needs_an_account() {
    let tried = tried();
    let runs = |runner: &str| {
        // A test by its name, which is not left out; or a line of it, or of CI's.
        let is_test = tried.contains(&format!("#[test]\nfn {runner}()"));
        is_test || (tried.contains(runner) && runner.contains([' ', '.']))
    };
    let mut nobody = Vec::new();
    for (path, text) in pages() {
        for command in commands(&text) {
            let runner = RUN_BY.iter().find(|(known, _)| *known == command).map(|(_, runner)| *runner);
            let verb = command.strip_prefix("cargo run -- ").and_then(|rest| rest.split(' ').next());
            let is_run = match runner {
                Some(runner) => runs(runner),
                // What is put there differs; that somebody starts such a command at all, does not.
                None if has_placeholder(&command) => verb.is_none_or(|verb| tried.contains(&format!("\"{verb}\""))),
                None => tried.contains(&command) || is_tried(&command, &tried),
            };
            if !is_run {
                nobody.push(format!("{}: {command}", path.strip_prefix(root()).unwrap().display()));
            }
        }
    }
    assert!(
        nobody.is_empty(),
        "nobody runs these; add who does to RUN_BY, or mark the block as ```sh account:\n{}",
        nobody.join("\n")
    );
}

/// What is checked here, and, of a release, started by a test with the same file.
fn is_tried(command: &str, tried: &str) -> bool {
    let Some(arguments) = command.strip_prefix("cargo run -- ") else { return false };
    let words: Vec<_> = arguments.split(' ').collect();
    match words.as_slice() {
        ["release", folder, "--local", file, ..] => {
            let name = file.rsplit('/').next().unwrap_or(file);
            is_good(folder, Some(file)) && tried.contains(&format!("\"{name}\""))
        }
        ["check", folder, "--local", file] => is_good(folder, Some(file)),
        ["check", folder] => is_good(folder, None),
        _ => false,
    }
}

/// Whether a release of the application in a folder could begin.
fn is_good(folder: &str, local: Option<&str>) -> bool {
    let template = std::fs::read_to_string(root().join("template.yaml")).unwrap();
    let local = local.map(|file| root().join(file));
    let checked = local::check::check(&root().join(folder), local.as_deref(), [].into(), &template);
    matches!(checked, Ok(local::check::Outcome::Good(_)))
}

#[test]
fn every_variant_of_the_shop_is_good() {
    let files = std::fs::read_dir(root().join("examples/shop")).unwrap().map(|entry| entry.unwrap().path());
    let variants: Vec<_> = files
        .filter_map(|path| Some(format!("examples/shop/{}", path.file_name()?.to_str()?)))
        .filter(|name| name.contains("/local.") && name.ends_with(".yaml"))
        .collect();
    assert!(variants.len() > 5, "{variants:?}");
    for variant in variants {
        assert!(is_good("examples/shop", Some(&variant)), "{variant}");
    }
}
