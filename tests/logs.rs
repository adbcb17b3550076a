//! What the person who watches a migration sees, whatever CloudWatch does: every line once, soon, in order.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should panic where it stands")]

use std::collections::BTreeMap;
use std::time::Duration;

use local::world::{ActionStatus, ExecutionStatus, Quirks, Start};
use serde_json::json;
use shared::names::read_started_by;
use tests::{Call, Fate, Meddling, Script, Setting, Stage, of_task, play, wide};

const ENVIRONMENTS: [&str; 3] = ["ap", "eu", "us"];

/// The shop whose migration does this.
fn migrating(script: impl Fn(&Start) -> Script + 'static) -> Setting {
    let script = move |start: &Start| if of_task(start, "migrate") { script(start) } else { Script::of_shop(start) };
    Setting { script: Box::new(script), ..Setting::default() }
}

/// A migration that writes these lines, this long apart.
fn writing(pause: Duration, lines: impl Iterator<Item = String>) -> Script {
    Script { lines: lines.map(|line| (pause, line)).collect(), ..Script::task(0) }
}

fn numbered(lines: usize) -> impl Iterator<Item = String> {
    (1..=lines).map(|n| format!("row {n}"))
}

/// The numbers of the rows of an environment, in the merged stream's order.
fn rows(stage: &Stage, release: &str, label: &str) -> Vec<usize> {
    let lines = stage.lines(release);
    let own = lines.iter().filter_map(|line| line.strip_prefix(label)?.trim_start().strip_prefix("| row "));
    own.map(|row| row.split(' ').next().unwrap().parse().unwrap()).collect()
}

fn closing(stage: &Stage, release: &str, environment: &str) -> String {
    let begins = format!("{environment} | migrate ");
    let lines = stage.lines(release);
    let found = lines.iter().rfind(|line| line.starts_with(&begins) && line.contains("complete"));
    found.unwrap_or_else(|| panic!("no last line of {environment} in {lines:#?}")).clone()
}

async fn released(stage: &Stage) -> String {
    let release = stage.start();
    assert_eq!(stage.end(&release).await, ExecutionStatus::Succeeded, "{:#?}", stage.actions(&release));
    release
}

#[test]
fn lines_that_are_shown_after_their_task_has_stopped_are_waited_for() {
    // The last ones are shown 4 seconds after they were written, and the task ends 0.1 seconds after that.
    let lag = |line: &str| if line.ends_with('9') { Duration::from_secs(4) } else { Duration::ZERO };
    let setting = migrating(|_| writing(Duration::from_millis(100), numbered(29)));
    play(Setting { quirks: Quirks { lag, ..Quirks::default() }, ..setting }, async |stage| {
        let release = released(&stage).await;
        for environment in ENVIRONMENTS {
            let mut rows = rows(&stage, &release, environment);
            rows.sort_unstable();
            assert_eq!(rows, (1..=29).collect::<Vec<_>>(), "{environment}");
            assert!(closing(&stage, &release, environment).contains("migrate complete: 29 lines"));
        }
    });
}

#[test]
fn lines_that_come_with_an_older_timestamp_behind_the_cursor_are_found_when_the_lines_are_counted() {
    let lag = |line: &str| if line == "row 3" || line == "row 7" { Duration::from_secs(5) } else { Duration::ZERO };
    let setting = migrating(|_| writing(Duration::from_secs(1), numbered(20)));
    play(Setting { quirks: Quirks { lag, ..Quirks::default() }, ..setting }, async |stage| {
        let release = released(&stage).await;
        for environment in ENVIRONMENTS {
            let rows = rows(&stage, &release, environment);
            let in_time: Vec<_> = (1..=20).filter(|n| ![3, 7].contains(n)).collect();
            assert_eq!(rows[..18], in_time, "{environment}: what came in time is in order");
            assert_eq!(rows[18..], [3, 7], "{environment}: what came late is there, once");
            assert!(closing(&stage, &release, environment).contains("migrate complete: 20 lines"));
        }
    });
}

#[test]
fn a_late_line_is_found_although_the_tail_itself_began_late() {
    let lag = |line: &str| if line == "row 3" { Duration::from_secs(15) } else { Duration::ZERO };
    // Its job cannot be claimed for a while: the first lines are older than the action is known to be.
    let mut claims = 0;
    let meddle = move |call: &Call<'_>| {
        if call.function != "tail-logs" || call.operation != "AcknowledgeJob" {
            return Meddling::Pass;
        }
        claims += 1;
        if claims % 8 == 0 { Meddling::Pass } else { Meddling::Throttle }
    };
    let setting = migrating(|_| writing(Duration::from_secs(1), numbered(20)));
    let quirks = Quirks { lag, ..Quirks::default() };
    play(Setting { quirks, meddle: Box::new(meddle), ..setting }, async |stage| {
        let release = released(&stage).await;
        for environment in ENVIRONMENTS {
            let mut rows = rows(&stage, &release, environment);
            rows.sort_unstable();
            assert_eq!(rows, (1..=20).collect::<Vec<_>>(), "{environment}");
        }
        let tail = stage.action(&release, "MigrateLogs");
        let took = tail.updated.since(tail.started);
        assert!(took < Duration::from_secs(60), "it ends when all is there: {took:?}");
    });
}

#[test]
fn a_line_that_comes_late_over_a_hand_over_is_found_too() {
    let lag = |line: &str| match line.strip_prefix("row ").and_then(|n| n.parse::<u32>().ok()) {
        Some(n) if n.is_multiple_of(10) => Duration::from_secs(7),
        _ => Duration::ZERO,
    };
    let setting = migrating(|_| writing(Duration::from_secs(1), numbered(200)));
    let change_stack = |stack: &mut local::template::Stack| {
        for function in &mut stack.functions {
            function.timeout = function.timeout.min(60);
        }
    };
    let quirks = Quirks { lag, ..Quirks::default() };
    play(Setting { quirks, change_stack: Box::new(change_stack), ..setting }, async |stage| {
        let release = released(&stage).await;
        for environment in ENVIRONMENTS {
            let mut rows = rows(&stage, &release, environment);
            rows.sort_unstable();
            assert_eq!(rows, (1..=200).collect::<Vec<_>>(), "{environment}");
        }
    });
}

#[test]
fn a_stream_that_appears_late_is_followed_from_its_first_line_on() {
    let setting = migrating(|_| writing(Duration::from_millis(300), numbered(10)));
    let quirks = Quirks { lag: |_| Duration::from_secs(14), ..Quirks::default() };
    play(Setting { quirks, ..setting }, async |stage| {
        let release = released(&stage).await;
        for environment in ENVIRONMENTS {
            assert_eq!(rows(&stage, &release, environment), (1..=10).collect::<Vec<_>>(), "{environment}");
        }
    });
}

#[test]
#[ignore = "takes long: .ci/run plays it"]
fn an_empty_page_is_not_the_end() {
    let setting = migrating(|_| writing(Duration::from_millis(2), numbered(12_000)));
    let quirks = Quirks { empty_pages: true, ..Quirks::default() };
    play(Setting { quirks, ..setting }, async |stage| {
        let release = released(&stage).await;
        for environment in ENVIRONMENTS {
            assert_eq!(rows(&stage, &release, environment), (1..=12_000).collect::<Vec<_>>(), "{environment}");
            assert!(closing(&stage, &release, environment).contains("migrate complete: 12000 lines"));
        }
        let late = stage.events(&release).into_iter().map(|event| event.ingested.since(event.at)).max();
        assert!(
            late < Some(Duration::from_secs(10)),
            "they came by the cursor, not by the counting at the end: {late:?}"
        );
    });
}

#[test]
fn a_task_of_one_line_that_ends_at_once_is_shown() {
    play(migrating(|_| writing(Duration::ZERO, numbered(1))), async |stage| {
        let release = released(&stage).await;
        for environment in ENVIRONMENTS {
            assert_eq!(rows(&stage, &release, environment), [1]);
        }
    });
}

#[test]
fn a_line_with_control_sequences_or_what_was_no_utf_8_is_forwarded_as_it_is() {
    // What is no UTF-8 has become U+FFFD by the time that it is in CloudWatch.
    const ODD: [&str; 4] = ["\u{1b}[31mred\u{1b}[0m", "caf\u{fffd}", "a\ttab and \r a return", "  \u{1f600}  "];
    play(migrating(|_| writing(Duration::from_millis(50), ODD.into_iter().map(str::to_owned))), async |stage| {
        let release = released(&stage).await;
        let lines = stage.lines(&release);
        for environment in ENVIRONMENTS {
            for odd in ODD {
                let expected = format!("{environment} | {odd}");
                assert_eq!(lines.iter().filter(|line| **line == expected).count(), 1, "{expected:?} in {lines:#?}");
            }
        }
    });
}

/// `local.yaml` with a second container beside the one that migrates.
fn with_sidecar(account: &str) -> String {
    let before = "          - name: shop\n            image: registry.example/shop:1.0\n            essential: true\n            environment:";
    let sidecar = "          - name: proxy\n            image: registry.example/proxy:3\n            essential: false\n            logConfiguration: {logDriver: awslogs, options: {awslogs-group: /shop/proxy, awslogs-stream-prefix: shop, mode: blocking}}\n";
    assert!(account.contains(before));
    account.replace(before, &format!("{sidecar}{before}"))
}

/// The manifest with the container named, as a definition with several needs it.
fn naming_the_container(manifest: &str) -> String {
    manifest
        .replace("family: shop-task", "family: shop-task\n    container: shop")
        .replace("{family: shop-task\n    container: shop", "{family: shop-task, container: shop")
}

/// What the second container does: a row every two seconds, for as long as the first one runs.
fn two_containers(start: &Start, rows: usize) -> Script {
    match start.container.as_str() {
        "proxy" => Script { ends: None, ..writing(Duration::from_secs(2), numbered(rows / 2)) },
        _ => writing(Duration::from_secs(1), numbered(rows)),
    }
}

#[test]
fn every_container_of_a_task_is_followed_under_its_own_name_and_prefixes_are_aligned() {
    let script = |start: &Start| {
        if start.port.is_some() { Script::service() } else { two_containers(start, 10) }
    };
    let good = Setting::default();
    let (account, manifest) = (with_sidecar(&good.account), naming_the_container(&good.manifest));
    play(Setting { account, manifest, script: Box::new(script), ..Setting::default() }, async |stage| {
        let release = released(&stage).await;
        let lines = stage.lines(&release);
        for environment in ENVIRONMENTS {
            let of_service = |line: &&String| ["web", "worker"].iter().any(|name| line[3..].starts_with(name));
            let own = lines.iter().filter(|line| line.starts_with(environment) && !of_service(line));
            let own: Vec<_> = own.collect();
            assert!(own.iter().all(|line| line.find('|') == Some(9)), "{own:#?}");
            let tasks = if environment == "us" { 3 } else { 2 };
            let count = |begins: &str| own.iter().filter(|line| line.starts_with(begins)).count();
            assert_eq!(count(&format!("{environment} shop  | row ")), 10 * tasks);
            assert_eq!(count(&format!("{environment} proxy | row ")), 5 * tasks);
            assert!(own.iter().any(|line| line.contains("migrate complete: 15 lines")), "{own:#?}");
        }
    });
}

#[test]
#[ignore = "takes long: .ci/run plays it"]
fn a_hundred_containers_are_handed_over_from_job_to_job_without_a_line_lost_or_doubled() {
    let script = |start: &Start| {
        if start.port.is_some() { Script::service() } else { two_containers(start, 24) }
    };
    let change_stack = |stack: &mut local::template::Stack| {
        for function in &mut stack.functions {
            function.timeout = function.timeout.min(60);
        }
    };
    let account = with_sidecar(&Setting::default().account);
    let manifest = naming_the_container(&wide(50));
    let change_stack = Box::new(change_stack);
    play(Setting { account, manifest, script: Box::new(script), change_stack, ..Setting::default() }, async |stage| {
        let release = released(&stage).await;
        for n in 1..=50 {
            for (container, expected) in [("shop ", 24), ("proxy", 12)] {
                let label = format!("e{n:02} {container} ");
                let found = rows(&stage, &release, &label);
                let tasks = found.len() / expected;
                assert_eq!(found.len(), tasks * expected, "{label}: {found:?}");
                assert_eq!(found[..expected], (1..=expected).collect::<Vec<_>>(), "{label}");
            }
        }
    });
}

#[test]
fn with_ten_streams_of_fifty_lines_a_second_in_one_region_a_line_is_shown_within_two_and_a_half_seconds() {
    let script = |start: &Start| {
        if of_task(start, "migrate") {
            writing(Duration::from_millis(20), numbered(1500))
        } else {
            Script::of_shop(start)
        }
    };
    play(Setting { manifest: wide(10), script: Box::new(script), ..Setting::default() }, async |stage| {
        let release = released(&stage).await;
        let events = stage.events(&release);
        // When each line was written is to be seen at its source: the merged stream has later times for lines that came
        // after younger ones of other streams.
        let mut written = BTreeMap::new();
        let world = stage.world();
        for task in world.tasks() {
            let Some(whose) = read_started_by(&task.started_by).filter(|whose| whose.task == "migrate") else {
                continue;
            };
            for event in world.lines_of_task(&task.arn) {
                written.insert(format!("{} | {}", whose.environment, event.message), event.at);
            }
        }
        let shown = events.iter().filter(|event| event.message.contains("| row "));
        let mut delays: Vec<_> = shown.map(|event| event.ingested.since(written[&event.message])).collect();
        assert_eq!((delays.len(), written.len()), (15_000, 15_000));
        delays.sort();
        let p95 = delays[delays.len() * 95 / 100];
        assert!(p95 < Duration::from_millis(2500), "{p95:?}");
        assert!(p95 > Duration::from_millis(200), "ten streams cannot all be read at once: {p95:?}");
    });
}

#[test]
fn a_log_that_may_not_be_read_is_a_warning_and_the_others_are_complete() {
    let meddle = |call: &Call<'_>| match (call.function, call.operation, call.region) {
        ("tail-logs", "GetLogEvents", "eu-west-1") => Meddling::Refuse,
        _ => Meddling::Pass,
    };
    let setting = migrating(|_| writing(Duration::from_millis(100), numbered(20)));
    play(Setting { meddle: Box::new(meddle), ..setting }, async |stage| {
        let release = released(&stage).await;
        for (environment, count) in [("ap", 20), ("us", 20), ("eu", 0)] {
            assert_eq!(rows(&stage, &release, environment).len(), count, "{environment}");
        }
        let last = closing(&stage, &release, "eu");
        assert!(
            last.contains("migrate incomplete after 0 lines")
                && last.contains("logs:GetLogEvents in eu-west-1 was refused"),
            "{last}"
        );
        let tail = stage.action(&release, "MigrateLogs");
        assert_eq!(tail.status, ActionStatus::Succeeded);
        assert!(
            tail.summary.contains("Not complete: eu: logs:GetLogEvents in eu-west-1 was refused"),
            "{}",
            tail.summary
        );
    });
}

#[test]
fn a_cluster_that_may_not_be_looked_at_does_not_keep_the_others_from_being_followed() {
    let meddle = |call: &Call<'_>| match (call.function, call.operation, call.region) {
        ("tail-logs", "ListTasks", "eu-west-1") => Meddling::Refuse,
        _ => Meddling::Pass,
    };
    let setting = migrating(|_| writing(Duration::from_millis(100), numbered(20)));
    play(Setting { meddle: Box::new(meddle), ..setting }, async |stage| {
        let release = released(&stage).await;
        assert_eq!(rows(&stage, &release, "ap").len(), 20);
        assert_eq!(rows(&stage, &release, "us").len(), 20);
        let last = closing(&stage, &release, "eu");
        assert!(last.contains("migrate incomplete: ecs:ListTasks in eu-west-1 was refused"), "{last}");
    });
}

#[test]
fn a_cluster_that_cannot_be_looked_at_any_more_keeps_the_next_stage_waiting_for_no_longer_than_its_task() {
    let mut looks = 0;
    let meddle = move |call: &Call<'_>| match (call.function, call.operation, call.region) {
        ("tail-logs", "DescribeTasks", "eu-west-1") => {
            looks += 1;
            // Its task is known by then.
            if looks > 3 { Meddling::Refuse } else { Meddling::Pass }
        }
        _ => Meddling::Pass,
    };
    let setting = migrating(|_| writing(Duration::from_secs(1), numbered(20)));
    play(Setting { meddle: Box::new(meddle), ..setting }, async |stage| {
        let release = released(&stage).await;
        assert_eq!(rows(&stage, &release, "eu").len(), 20, "its log can be read all the same");
        let last = closing(&stage, &release, "eu");
        assert!(last.contains("ecs:DescribeTasks in eu-west-1 was refused"), "{last}");
        let ended = |action| stage.action(&release, action).updated;
        let after = ended("MigrateLogs").since(ended("Migrate"));
        assert!(after < Duration::from_secs(20), "{after:?}");
    });
}

#[test]
fn a_line_that_is_shown_long_after_its_task_has_ended_is_there_when_others_have_gone_on_since() {
    let lag = |line: &str| if line == "row 5" { Duration::from_secs(20) } else { Duration::ZERO };
    let setting = migrating(|start| {
        let lines = if start.task.contains("eu-west-1") { 5 } else { 40 };
        writing(
            Duration::from_secs(1),
            numbered(lines).map(move |row| if lines == 40 { format!("{row} of 40") } else { row }),
        )
    });
    play(Setting { quirks: Quirks { lag, ..Quirks::default() }, ..setting }, async |stage| {
        let release = released(&stage).await;
        assert_eq!(rows(&stage, &release, "eu"), [1, 2, 3, 4, 5]);
        assert!(closing(&stage, &release, "eu").contains("migrate complete: 5 lines"));
    });
}

#[test]
#[ignore = "takes long: .ci/run plays it"]
fn whatever_it_is_that_loses_the_log_is_a_warning_and_fails_no_release() {
    let configured = |name: &'static str, value: &'static str| Setting {
        change_stack: Box::new(move |stack| {
            for action in stack.pipeline.stages.iter_mut().flat_map(|stage| &mut stage.actions) {
                if action.name == "MigrateLogs" {
                    action.configuration.insert(name.into(), json!(value));
                }
            }
        }),
        ..Setting::default()
    };
    let meddled = |meddle: fn(&Call<'_>) -> Meddling| Setting { meddle: Box::new(meddle), ..Setting::default() };
    // Its function hands over in the middle of the migration.
    let garbled = Setting {
        change_stack: Box::new(|stack| stack.functions.iter_mut().for_each(|one| one.timeout = one.timeout.min(60))),
        fate: Box::new(|function, payload| {
            let token = payload.pointer("/CodePipeline.job/data/continuationToken");
            (function.ends_with("tail-logs") && token.is_some()).then_some(Fate::Garbled)
        }),
        ..migrating(|_| Script::task(90))
    };
    for (setting, said) in [
        (garbled, "The continuation token of this job cannot be read"),
        (
            meddled(|call| match call.function == "tail-logs" && call.operation == "ListTasks" {
                true => panic!("a bug"),
                false => Meddling::Pass,
            }),
            "Cutover itself failed: a bug. This is a bug in it",
        ),
        (configured("Task", "migrat"), "there is no task `migrat`: did you mean `migrate`?"),
        (configured("Manifest", "missing.yaml"), "There is no `missing.yaml` for this action"),
        (
            meddled(|call| {
                match call.function == "tail-logs" && matches!(call.operation, "GetObject" | "HeadObject") {
                    true => Meddling::Refuse,
                    false => Meddling::Pass,
                }
            }),
            "The artifact `Build` cannot be read: s3:HeadObject",
        ),
        (
            meddled(|call| {
                match call.function == "dispatch-jobs" && call.operation.contains("tail-logs/invocations") {
                    true => Meddling::Refuse,
                    false => Meddling::Pass,
                }
            }),
            "The function `cutover-tail-logs` could not be invoked: lambda:Invoke was refused",
        ),
    ] {
        play(setting, async |stage| {
            let release = stage.start();
            assert_eq!(stage.end(&release).await, ExecutionStatus::Succeeded, "{said}: {:#?}", stage.actions(&release));
            let summary = stage.action(&release, "MigrateLogs").summary;
            assert!(summary.starts_with("Warning: ") && summary.contains(said), "{said}: {summary}");
            assert!(summary.contains("each task's lines are in its own log stream"), "{summary}");
        });
    }
}
