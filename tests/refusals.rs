//! For real: what the command line refuses, and what it says of it.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should panic where it stands")]

use std::process::{Command, Stdio};

use crate::machine::{ports, programs, shop, workspace};

#[test]
fn the_version_is_that_of_the_workspace() {
    let output = Command::new(programs().join("local")).arg("--version").output().unwrap();
    assert_eq!(String::from_utf8(output.stdout).unwrap(), format!("cutover {}\n", env!("CARGO_PKG_VERSION")));
}

#[test]
fn what_cannot_start_says_why_and_leaves_nothing() {
    let folder = programs().join("releases/bad");
    drop(std::fs::remove_dir_all(&folder));
    std::fs::create_dir_all(&folder).unwrap();
    let good = std::fs::read_to_string(shop().join("deploy.yaml")).unwrap();
    let local = std::fs::read_to_string(shop().join("local.yaml")).unwrap();
    let port = ports();
    let taken = std::net::TcpListener::bind(("127.0.0.1", port)).unwrap();
    let cannot_be_used = format!("port {port} of this machine cannot be used");
    let cases: [(&str, String, String); 8] = [
        (
            "deploy.yaml:5:1: `enviroments` is not known: did you mean `environments`?",
            good.replacen("environments:", "enviroments:", 1),
            local.clone(),
        ),
        (
            "deploy.yaml:29:20: tasks.prepare: there is no environment `su`: did you mean `us`?",
            good.replace("environments: [us]", "environments: [su]"),
            local.clone(),
        ),
        (
            "the pipeline's action Migrate/Migrate runs the task `migrate`, but there is no task `migrate`: did you mean `migrat`?",
            good.replace("  migrate:\n", "  migrat:\n"),
            local.clone(),
        ),
        (
            "containers.shop-web: in deploy.yaml, there is no family `shop-web`: did you mean `shop-wbe`?",
            good.replace("family: shop-web", "family: shop-wbe"),
            local.clone(),
        ),
        (
            "services.web.port: 8102 would be that of eu/web and of us/web: give one of them another",
            good.clone(),
            local.replace("  us: {containers", "  us: {services: {web: {port: 8102}}, containers"),
        ),
        ("`buidl` is not known: did you mean `build`?", good.clone(), local.replace("\nbuild:", "\nbuidl:")),
        (&cannot_be_used, good.clone(), local.replace("port: 8101", &format!("port: {port}"))),
        (
            "`no-such-program` cannot be started",
            good.clone(),
            local.replacen("- command: [cargo, build", "- command: [no-such-program", 1),
        ),
    ];
    for (said, manifest, local) in cases {
        std::fs::write(folder.join("deploy.yaml"), manifest).unwrap();
        std::fs::write(folder.join("local.yaml"), local).unwrap();
        let mut command = Command::new(programs().join("local"));
        command.arg("release").arg(&folder).arg("--state").arg(folder.join("state"));
        let output = command.stdin(Stdio::null()).output().unwrap();
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{said}\n{error}");
        assert!(error.contains(said), "expected: {said}\nsaid: {error}");
    }
    drop(taken);
    std::fs::remove_file(folder.join("deploy.yaml")).unwrap();
    let output = Command::new(programs().join("local")).arg("release").arg(&folder).output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2));
    assert!(
        error.contains("deploy.yaml: No such file") && error.contains("`cargo run -- init DIR` writes one"),
        "{error}"
    );
}

#[test]
fn check_says_what_a_release_would_do_or_every_mistake_with_its_place() {
    let folder = programs().join("releases/checked");
    drop(std::fs::remove_dir_all(&folder));
    std::fs::create_dir_all(&folder).unwrap();
    let good = std::fs::read_to_string(shop().join("deploy.yaml")).unwrap();
    let bad = good.replace("port: 8080", "prot: 8080").replace("[us]", "[su]");
    let without = good.replace("  prepare:\n", "  before:\n");
    for (manifest, arguments, status, said, complained) in [
        (
            &good,
            [].as_slice(),
            0,
            "\neu: eu-west-1, cluster shop\n  Migrate  migrate: runs `shop migrate` as a task",
            "",
        ),
        (
            &bad,
            &[],
            1,
            "deploy.yaml:29:20: tasks.prepare: there is no environment `su`: did you mean `",
            "error: 5 mistakes",
        ),
        (&bad, &[], 1, "`prot` is not known: did you mean `port`?\n", "error: 5 mistakes"),
        (
            &without,
            &[],
            1,
            "the pipeline's action Prepare/Prepare runs the task `prepare`, but there is no task",
            "error: 1 mistake\n",
        ),
        (
            &good,
            &["--parameter", "PreTask=migrate"],
            1,
            "the pipeline's actions Prepare/Prepare and Migrate/Migrate run the same task `migrate`",
            "error: 1 mistake\n",
        ),
        (&without, &["--parameter", "PreTask=before"], 0, "  Prepare  before: runs `shop prepare`", ""),
        (
            &without,
            &["--parameter", "PreTask=none"],
            0,
            "Neither an action of the pipeline nor a schedule runs the task `before`.",
            "",
        ),
        (&good, &["--parameter", "PreTsk=none"], 2, "", "there is no parameter `PreTsk`: did you mean `PreTask`?"),
        (&good, &["--parameter", "PreTask"], 2, "", "error: --parameter PreTask: write it as NAME=VALUE"),
    ] {
        std::fs::write(folder.join("deploy.yaml"), manifest).unwrap();
        let checked =
            Command::new(programs().join("local")).arg("check").arg(&folder).args(arguments).output().unwrap();
        let (out, err) = (String::from_utf8(checked.stdout).unwrap(), String::from_utf8(checked.stderr).unwrap());
        assert!(out.contains(said) && err.contains(complained), "{arguments:?}: expected: {said}\n{out}\n{err}");
        assert_eq!(checked.status.code(), Some(status), "{arguments:?}: {out}\n{err}");
    }
    // Nothing that is written in a file moves the cursor.
    std::fs::write(folder.join("deploy.yaml"), good.replace("  us:\n", "  \"u\\u001b[2Js\\u0007\":\n")).unwrap();
    let checked = Command::new(programs().join("local")).arg("check").arg(&folder).output().unwrap();
    let out = String::from_utf8(checked.stdout).unwrap();
    assert!(out.contains("environments.us: a name has 1 to 20 of"), "{out:?}");
    assert!(!out.contains(|char: char| char.is_control() && char != '\n'), "{out:?}");
    // With what the account has: mistakes of both files, or where they do not fit.
    let local = std::fs::read_to_string(shop().join("local.yaml")).unwrap();
    let unfit =
        good.replacen("family: shop-web", "family: shop-wbe", 1).replacen("cluster: shop\n", "cluster: shpo\n", 1);
    let bad_local = local.replacen("port: 8101", "prot: 8101", 1).replacen("image: registry", "imgae: registry", 1);
    let full = include_str!("src/account.yaml").to_owned();
    for (manifest, local, said, complained) in [
        (&good, &local, "\neu: eu-west-1, cluster shop\n", ""),
        (
            &unfit,
            &full,
            "environments.us: in local.yaml there is no cluster `shpo`: did you mean `shop`?",
            "3 mistakes",
        ),
        (&unfit, &full, "services.web: local.yaml has no task definition `shop-wbe` in eu-west-1", "3 mistakes"),
        (&bad, &bad_local, "`prot` is not known: did you mean `port`?", "error: 7 mistakes"),
        (&bad, &bad_local, "`imgae` is not known: did you mean `image`?", "error: 7 mistakes"),
    ] {
        std::fs::write(folder.join("deploy.yaml"), manifest).unwrap();
        std::fs::write(folder.join("local.yaml"), local).unwrap();
        let checked = Command::new(programs().join("local")).arg("check").arg(&folder).output().unwrap();
        let (out, err) = (String::from_utf8(checked.stdout).unwrap(), String::from_utf8(checked.stderr).unwrap());
        assert!(out.contains(said) && err.contains(complained), "expected: {said} {complained}\n{out}\n{err}");
    }
}

#[test]
fn on_a_terminal_of_80_columns_what_is_said_is_broken_between_words() {
    let program = programs().join("local");
    let folder = workspace().join("examples/shop");
    let broken = programs().join("releases/narrow");
    std::fs::create_dir_all(&broken).unwrap();
    std::fs::write(
        broken.join("deploy.yaml"),
        "application: shop\nenvironments: {us: {region: us-east-1, claster: shop}}\n",
    )
    .unwrap();
    let checks = [&folder, &broken].map(|folder| format!("check '{}'", folder.display()));
    let verbs = ["", "release", "serve", "check", "workers", "releases", "rollback", "init", "verify"];
    for verb in checks.into_iter().chain(verbs.map(|verb| format!("{verb} --help"))) {
        let command = format!("stty cols 80 rows 40; exec '{}' {verb}", program.display());
        let mut script = Command::new("script");
        script.args(["--quiet", "--return", "--command", &command, "/dev/null"]).stdin(Stdio::null());
        // A help's words are bold and underlined.
        let said = String::from_utf8(script.output().unwrap().stdout).unwrap();
        let said = said.replace("\u{1b}[1m", "").replace("\u{1b}[4m", "").replace("\u{1b}[0m", "");
        assert!(said.len() > 80, "{said}");
        let wide: Vec<_> = said.lines().filter(|line| line.trim_end().chars().count() > 80).collect();
        assert!(wide.is_empty(), "{verb}: {wide:#?}");
    }
}
