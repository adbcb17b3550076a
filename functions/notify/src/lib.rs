//! Tells people: Slack while the release goes on, Datadog, Sentry and others once it has been deployed.
//!
//! Invariants: what cannot be told is a warning in the release's log and never fails a release; what was told stands in
//! that log, so that it is told once however often an event comes; no secret is ever printed.

mod message;
mod release;
mod send;

use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use shared::aws::codepipeline::{ActionStatus, Codepipeline, Sibling, tries};
use shared::job::Release;
use shared::{Aws, Error, Event, Invocation, Job, Manifest, Next, Progress, Success, Tick, Time, artifact};
use tracing::{info, warn};

use message::News;
use release::Told;
use send::Notifier;

/// The action's parameters.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
struct Parameters {
    /// The manifest's name in the input artifact, `deploy.yaml` unless given.
    manifest: Option<String>,
}

/// Nothing: the release's log tells what was told.
#[derive(Debug, Default, Serialize, Deserialize)]
struct State {}

/// Handles one event of CodePipeline's, or one job.
///
/// # Errors
/// When the answer to a job could not be delivered, or CodePipeline could not be asked.
pub async fn handle(aws: Aws, event: Event, invocation: Invocation) -> Result<(), Error> {
    if Job::read(&event).is_some() {
        return shared::run_leniently(&aws, &event, invocation, message::not_announced, announce).await;
    }
    Box::pin(tell(&aws, event.value(), invocation)).await
}

/// The action after the deployment: Datadog, Sentry, and whoever else takes JSON.
async fn announce(tick: &Tick<'_>, _: &mut State, _: &mut Option<()>) -> Result<Next, Error> {
    let parameters: Parameters = tick.job.parameters()?;
    let manifest = artifact::read(tick.aws, tick.job, parameters.manifest.as_deref()).await?.manifest;
    if tick.halted {
        return Ok(Next::Succeed(Success {
            summary: "The release was stopped: nobody is told.".into(),
            ..Success::default()
        }));
    }
    // What is said cannot be taken back.
    if !tick.goes_on().await? {
        let summary = "Looking whether the release goes on.".to_owned();
        return Ok(Next::Wait(LOOK, Progress { summary, ..Progress::default() }));
    }
    let (told, _) = look(tick.aws, tick.release, &manifest).await?;
    let mut notifier = Notifier::new(tick.aws, tick.release, told.started).await;
    let to = &manifest.notifications;
    if let Some(datadog) = &to.datadog {
        notifier.datadog(&told, datadog, tick.now).await;
    }
    if let Some(sentry) = &to.sentry {
        notifier.sentry(&told, sentry, tick.now).await;
    }
    for (name, http) in &to.http {
        notifier.http(&told, name, http, tick.now).await;
    }
    let summary = notifier.end(tick.now).await;
    Ok(Next::Succeed(Success { variables: vec![("Summary", summary.clone())], summary, link: None }))
}

/// Slack, on an event.
async fn tell(aws: &Aws, event: &Value, invocation: Invocation) -> Result<(), Error> {
    let now = invocation.clock.now();
    let Some((mut release, what)) = read(event) else { return Ok(()) };
    let codepipeline = Codepipeline::new(aws);
    let mut actions = codepipeline.siblings(&release).await?;
    let at = event.get("time").and_then(Value::as_str).and_then(Time::read);
    while !is_shown(&what, at, &actions, now) && invocation.clock.now().since(now) < SHOWN {
        tokio::time::sleep(LOOK).await;
        actions = codepipeline.siblings(&release).await?;
    }
    // One whose list lags still has failed all the same.
    if matches!(&what, What::Execution(state) if state == "FAILED")
        && actions.iter().any(Sibling::is_running)
        && codepipeline.execution(&release).await?.status != "Failed"
    {
        info!(execution = release.execution, "it was tried again meanwhile, and has not failed");
        return Ok(());
    }
    // What was taken back is the try that the one who did it says.
    if release.attempt == 0 {
        release.attempt = tries(&actions, &release).attempt;
    }
    let Some(manifest) = manifest(aws, &release, &actions).await? else {
        info!(execution = release.execution, "there is no manifest yet that names anybody to tell");
        return Ok(());
    };
    let Some(news) = news(&what, &actions) else { return Ok(()) };
    let Some(slack) = &manifest.notifications.slack else { return Ok(()) };
    let (told, _) = look(aws, &release, &manifest).await?;
    let mut notifier = Notifier::new(aws, &release, told.started).await;
    let warnings = if news == News::Started { notifier.check(&manifest.notifications).await } else { Vec::new() };
    notifier.slack(&told, slack, &news, &warnings, &invocation).await;
    let summary = notifier.end(invocation.clock.now()).await;
    info!(execution = release.execution, summary, "told");
    Ok(())
}

/// What an event tells of.
#[derive(Debug, Clone, PartialEq, Eq)]
enum What {
    /// An execution has come to this state.
    Execution(String),
    /// An action of this category, in this stage and of this name, has come to this state.
    Action { category: String, stage: String, name: String, state: String },
    /// `halt-release` has taken a release back.
    Halted(String),
}

fn read(event: &Value) -> Option<(Release, What)> {
    let own = event.get("cutover");
    let detail = own.or_else(|| event.get("detail"))?;
    let text = |name: &str| detail.pointer(name).and_then(Value::as_str).map(str::to_owned);
    let release = Release {
        pipeline: text("/pipeline")?,
        execution: text("/execution-id")?,
        stage: None,
        action: None,
        attempt: detail.get("attempt").and_then(Value::as_u64).and_then(|attempt| attempt.try_into().ok()).unwrap_or(0),
    };
    if own.is_some() {
        return Some((release, What::Halted(text("/halted")?)));
    }
    let state = text("/state")?;
    let what = match (text("/action"), text("/stage")) {
        (Some(name), Some(stage)) => What::Action { category: text("/type/category")?, stage, name, state },
        (None, None) => What::Execution(state),
        (None, Some(_)) | (Some(_), None) => return None,
    };
    Some((release, what))
}

/// How long a list is waited for that does not show yet what an event tells of.
const SHOWN: Duration = Duration::from_secs(60);

/// How long ago an approval may have begun to be the one that an event tells of, although it was answered meanwhile.
const ANSWERED: Duration = Duration::from_secs(30);

/// How often it is looked at meanwhile.
const LOOK: Duration = Duration::from_secs(2);

/// How long before an execution's end its last action may have ended.
const ONE_END: Duration = Duration::from_secs(10);

/// Whether the actions are in the state that an event of that time tells of, as far as they tell what is said of it.
fn is_shown(what: &What, at: Option<Time>, actions: &[Sibling], now: Time) -> bool {
    match what {
        What::Action { category, state, stage, name } if category == "Approval" => {
            let run = actions.iter().find(|one| one.stage == *stage && one.action == *name);
            match state.as_str() {
                // It may have been answered already.
                "STARTED" => run.is_some_and(|run| {
                    run.is_running() || run.started.is_some_and(|started| now.since(started) < ANSWERED)
                }),
                "FAILED" => run.is_some_and(Sibling::has_failed),
                _ => true,
            }
        }
        What::Execution(state) if state == "FAILED" => {
            // A retry that has failed within seconds is not the failure before it.
            let is_of_it = |one: &Sibling| one.updated.zip(at).is_none_or(|(updated, at)| updated.plus(ONE_END) >= at);
            actions.iter().any(Sibling::has_failed)
                && !actions.iter().any(Sibling::is_running)
                && actions.iter().any(is_of_it)
        }
        What::Action { .. } | What::Execution(_) | What::Halted(_) => true,
    }
}

/// What of it is news for people.
fn news(what: &What, actions: &[Sibling]) -> Option<News> {
    let approvals = || actions.iter().filter(|one| one.category == "Approval");
    match what {
        What::Halted(said) => {
            // One that nobody has stopped has failed, and that was told already.
            let newest = || actions.iter().filter(|one| !message::was_repeated(one, actions));
            let by_itself =
                newest().any(Sibling::has_failed) && !newest().any(|one| one.status == ActionStatus::Abandoned);
            Some(News::Halted { said: said.clone(), by_itself })
        }
        What::Action { category, state, .. } if category == "Source" && state == "SUCCEEDED" => Some(News::Started),
        What::Action { category, state, stage, name } if category == "Approval" => {
            let run = approvals().find(|one| one.stage == *stage && one.action == *name)?;
            match state.as_str() {
                "STARTED" => Some(News::ApprovalWanted { asks: run.asks.0.clone(), link: run.asks.1.clone() }),
                "FAILED" => {
                    let why = run.error.clone().unwrap_or_default();
                    Some(match run.updated_by.as_deref().filter(|by| !by.is_empty()) {
                        Some(by) => News::Rejected { by: by.rsplit('/').next().unwrap_or(by).to_owned(), why },
                        None => News::NotApproved { why },
                    })
                }
                _ => None,
            }
        }
        What::Action { .. } => None,
        What::Execution(state) => match state.as_str() {
            "SUCCEEDED" => Some(News::Succeeded),
            // A rejection was told with its own words; what has failed since was not.
            "FAILED" if newest_failure(actions).is_some_and(|newest| newest.category == "Approval") => None,
            "FAILED" => Some(News::Failed { verdicts: message::verdicts(actions) }),
            _ => None,
        },
    }
}

fn newest_failure(actions: &[Sibling]) -> Option<&Sibling> {
    // The newest first: of two at the same moment it is the first.
    actions.iter().rev().filter(|one| one.has_failed()).max_by_key(|one| one.started)
}

/// The release as people are told of it, and its actions.
async fn look(aws: &Aws, release: &Release, manifest: &Manifest) -> Result<(Told, Vec<Sibling>), Error> {
    let codepipeline = Codepipeline::new(aws);
    let execution = codepipeline.execution(release).await?;
    let actions = codepipeline.siblings(release).await?;
    let place = (aws.region(), aws.settings().log_group.clone());
    let is_back = execution.is_rollback || aws.settings().goes_back(&release.pipeline);
    let place = (place.0.as_str(), place.1.as_deref());
    let told = Told::new(&manifest.application, release, &execution, &actions, place, is_back);
    Ok((told, actions))
}

/// The manifest of the release's own artifact; before that is built, the one of the pipeline's release before.
async fn manifest(aws: &Aws, release: &Release, actions: &[Sibling]) -> Result<Option<Manifest>, Error> {
    let goes_back = aws.settings().goes_back(&release.pipeline);
    if let Some(manifest) = manifest_of(aws, actions, goes_back).await? {
        return Ok(Some(manifest));
    }
    let before = Codepipeline::new(aws).newest_actions(release).await?;
    manifest_of(aws, &before, goes_back).await
}

/// How many artifacts are tried: of one release they are one or two, whatever how many actions were given them.
const MOST_ARTIFACTS: usize = 5;

async fn manifest_of(aws: &Aws, actions: &[Sibling], goes_back: bool) -> Result<Option<Manifest>, Error> {
    // What an older version took is gone back to all the same.
    let read = if goes_back { Manifest::read_shape } else { Manifest::read };
    let with =
        actions.iter().filter(|one| !one.artifacts.is_empty() && matches!(one.category.as_str(), "Deploy" | "Invoke"));
    let mut known = std::collections::BTreeSet::new();
    let mut is_new = |one: &&Sibling| known.insert(one.artifacts.iter().map(|one| one.key.clone()).collect::<Vec<_>>());
    for action in with.filter(|one| is_new(one)).take(MOST_ARTIFACTS) {
        match artifact::read_as_self(aws, &action.artifacts, action.manifest.as_deref(), read).await {
            Ok(Some(content)) => return Ok(Some(content.manifest)),
            Ok(None) => {}
            Err(again @ Error::Again(_)) => return Err(again),
            Err(Error::Stop(why)) => warn!(why = why.message, "an artifact cannot be read"),
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_failure_is_shown_by_the_action_that_ended_with_it_and_not_by_one_before_a_retry() {
        let at = |seconds: u64| Time::from_millis(seconds * 1000);
        let failed = |seconds| Sibling {
            status: ActionStatus::Failed,
            started: Some(at(seconds - 1)),
            updated: Some(at(seconds)),
            ..Sibling::default()
        };
        let what = What::Execution("FAILED".into());
        let running = Sibling { status: ActionStatus::InProgress, ..failed(200) };
        for (actions, told, expected) in [
            (vec![failed(100)], Some(at(101)), true),
            (vec![failed(100)], Some(at(130)), false),
            (vec![failed(129), failed(100)], Some(at(130)), true),
            // What runs beside a failed action ends the execution when it ends itself.
            (vec![Sibling { status: ActionStatus::Succeeded, ..failed(129) }, failed(100)], Some(at(130)), true),
            (vec![running, failed(100)], Some(at(101)), false),
            (vec![failed(100)], None, true),
        ] {
            assert_eq!(is_shown(&what, told, &actions, at(300)), expected, "{actions:?} {told:?}");
        }
    }

    #[test]
    fn a_try_that_was_given_up_before_makes_no_stop_of_the_failure_after_it() {
        let run = |status, seconds: u64| Sibling {
            status,
            started: Some(Time::from_millis(seconds * 1000)),
            ..Sibling::default()
        };
        let (failed, given_up) = (run(ActionStatus::Failed, 200), run(ActionStatus::Abandoned, 100));
        for (actions, expected) in [(vec![failed, given_up.clone()], true), (vec![given_up], false)] {
            let Some(News::Halted { by_itself, .. }) = news(&What::Halted("halt complete".into()), &actions) else {
                panic!("it is told")
            };
            assert_eq!(by_itself, expected, "{actions:?}");
        }
    }

    #[test]
    fn only_what_people_want_to_know_is_news() {
        let action = |category: &str, state: &str| {
            json!({"detail": {"pipeline": "shop", "execution-id": "e", "stage": "S", "action": "A", "state": state,
                "type": {"category": category, "owner": "AWS"}}})
        };
        let execution = |state: &str| json!({"detail": {"pipeline": "shop", "execution-id": "e", "state": state}});
        let approval = |failed| Sibling {
            category: "Approval".into(),
            stage: "S".into(),
            action: "A".into(),
            status: if failed { ActionStatus::Failed } else { ActionStatus::Succeeded },
            updated_by: Some("arn:aws:iam::1:user/bob".into()),
            error: Some("Rejected: no".into()),
            ..Sibling::default()
        };
        let failed = Sibling {
            status: ActionStatus::Failed,
            stage: "M".into(),
            action: "M".into(),
            error: Some("exit code 1".into()),
            ..Sibling::default()
        };
        for (event, actions, expected) in [
            (action("Source", "SUCCEEDED"), vec![], Some(News::Started)),
            (action("Source", "STARTED"), vec![], None),
            (action("Deploy", "FAILED"), vec![], None),
            (
                action("Approval", "STARTED"),
                vec![approval(false)],
                Some(News::ApprovalWanted { asks: None, link: None }),
            ),
            (
                action("Approval", "FAILED"),
                vec![approval(true)],
                Some(News::Rejected { by: "bob".into(), why: "Rejected: no".into() }),
            ),
            (execution("FAILED"), vec![approval(true)], None),
            (
                execution("FAILED"),
                vec![Sibling { started: Some(Time::from_millis(9)), ..failed.clone() }, approval(true)],
                Some(News::Failed { verdicts: vec![("M/M".into(), "exit code 1".into())] }),
            ),
            (
                action("Approval", "FAILED"),
                vec![Sibling { updated_by: None, error: Some("timed out".into()), ..approval(true) }],
                Some(News::NotApproved { why: "timed out".into() }),
            ),
            (execution("STARTED"), vec![], None),
            (execution("STOPPED"), vec![], None),
            (execution("SUCCEEDED"), vec![], Some(News::Succeeded)),
            (
                execution("FAILED"),
                vec![failed],
                Some(News::Failed { verdicts: vec![("M/M".into(), "exit code 1".into())] }),
            ),
            (
                json!({"cutover": {"halted": "x", "pipeline": "shop", "execution-id": "e"}}),
                vec![],
                Some(News::Halted { said: "x".into(), by_itself: false }),
            ),
        ] {
            let (_, what) = read(&event).unwrap();
            assert_eq!(news(&what, &actions), expected, "{event}");
        }
        assert_eq!(
            read(&json!({"detail": {"pipeline": "shop", "execution-id": "e", "stage": "S", "state": "FAILED"}})),
            None
        );
    }
}
