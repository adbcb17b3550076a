//! The pipeline and its releases: `GetPipeline`, `ListPipelineExecutions`, `ListActionExecutions`, `GetPipelineState`.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use shared::Time;

use super::Stamp;
use super::standing::{Mark, Standing};
use crate::console::address;
use crate::console::aws::{Aws, Refused, Service};
use crate::console::said::Said;

/// The pipeline, and how one of its releases goes through it.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Pipeline {
    pub(crate) name: Said,
    /// The newest first.
    pub(crate) releases: Vec<Release>,
    /// Which of them is shown; none before the first.
    pub(crate) shown: Option<Release>,
    pub(crate) stages: Vec<Stage>,
}

/// A release: one execution of the pipeline.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Release {
    pub(crate) id: Said,
    pub(crate) standing: Standing,
    /// Why it stands so, where somebody said.
    pub(crate) reason: Said,
    pub(crate) commit: Said,
    pub(crate) message: Said,
    pub(crate) began: Time,
    pub(crate) changed: Time,
}

impl Release {
    pub(crate) fn is_over(&self) -> bool {
        self.standing.mark != Mark::Runs
    }
}

/// A stage.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Stage {
    pub(crate) name: Said,
    pub(crate) standing: Standing,
    pub(crate) actions: Vec<Action>,
    /// Whether the release waits for another one to leave this stage.
    pub(crate) waits_to_enter: bool,
    /// Whether it can be retried for this release.
    pub(crate) can_retry: bool,
}

/// An action, in its newest run.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Action {
    pub(crate) name: Said,
    pub(crate) provider: Said,
    pub(crate) standing: Standing,
    pub(crate) began: Time,
    pub(crate) changed: Time,
    /// How often it has run in this release.
    pub(crate) runs: usize,
    pub(crate) summary: Said,
    /// Why it failed.
    pub(crate) verdict: Said,
    pub(crate) link: Option<Link>,
    pub(crate) approval: Option<Approval>,
}

/// Where an action leads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Link {
    /// To the release's log, which stands on the page.
    Log,
    /// Into the web.
    Outside(String),
}

/// An approval that waits.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Approval {
    /// What answers it.
    pub(crate) token: Said,
    /// What it tells who is asked.
    pub(crate) tells: Said,
}

/// How many releases are listed.
const LISTED: usize = 20;

/// Looks at the pipeline of this name, and at the release that is wanted; unless given, at the one that is under way longest, or
/// the newest.
///
/// # Errors
/// What AWS does not answer.
pub(crate) fn look(aws: &Aws, name: &str, wanted: Option<&str>) -> Result<Pipeline, Refused> {
    let declared: Declared = aws.ask(Service::Codepipeline, "GetPipeline", &json!({"name": name}))?;
    let list = json!({"pipelineName": name, "maxResults": LISTED});
    let Executions { all } = aws.ask(Service::Codepipeline, "ListPipelineExecutions", &list)?;
    let releases: Vec<_> = all.into_iter().take(LISTED).map(Release::from).collect();
    let shown = chosen(&releases, wanted).cloned();
    let runs: Vec<Run> = match &shown {
        Some(release) => runs(aws, name, release.id.raw())?,
        None => Vec::new(),
    };
    let state: State = aws.ask(Service::Codepipeline, "GetPipelineState", &json!({"name": name}))?;
    Ok(assemble(declared, releases, shown, &runs, &state))
}

fn chosen<'a>(releases: &'a [Release], wanted: Option<&str>) -> Option<&'a Release> {
    match wanted {
        Some(id) => releases.iter().find(|release| release.id.raw() == id),
        None => releases.iter().rev().find(|release| !release.is_over()).or(releases.first()),
    }
}

/// All runs of a release's actions, the newest first.
fn runs(aws: &Aws, name: &str, release: &str) -> Result<Vec<Run>, Refused> {
    let mut input = json!({"pipelineName": name, "filter": {"pipelineExecutionId": release}, "maxResults": 100});
    let mut all = Vec::new();
    loop {
        let page: Runs = aws.ask(Service::Codepipeline, "ListActionExecutions", &input)?;
        all.extend(page.all);
        match page.next {
            Some(token) => input["nextToken"] = token.into(),
            None => return Ok(all),
        }
    }
}

/// Of what AWS answered, the picture.
fn assemble(
    declared: Declared,
    releases: Vec<Release>,
    shown: Option<Release>,
    runs: &[Run],
    state: &State,
) -> Pipeline {
    let id = shown.as_ref().map(|release| release.id.clone()).unwrap_or_default();
    let is_over = shown.as_ref().is_none_or(Release::is_over);
    let states: BTreeMap<_, _> = state.stages.iter().map(|stage| (&stage.name, stage)).collect();
    let stages = declared.pipeline.stages.into_iter().map(|stage| {
        let known = states.get(&stage.name);
        let actions: Vec<_> = stage
            .actions
            .iter()
            .map(|action| {
                let own: Vec<_> =
                    runs.iter().filter(|run| run.stage == stage.name && run.action == action.name).collect();
                let token = known.and_then(|known| known.token(action, own.first().map(|run| &run.id)?));
                seen(action, &own, token)
            })
            .collect();
        let standing = together(&actions, is_over);
        let is_here = known.and_then(|known| known.latest.as_ref()).is_some_and(|latest| latest.id == id);
        Stage {
            waits_to_enter: known.is_some_and(|known| known.inbound.iter().any(|one| one.id == id)),
            can_retry: is_here && is_over && matches!(standing.mark, Mark::Bad | Mark::Stopped),
            name: stage.name,
            standing,
            actions,
        }
    });
    Pipeline { stages: stages.collect(), name: declared.pipeline.name, releases, shown }
}

/// An action, from all its runs in the release.
fn seen(action: &DeclaredAction, runs: &[&Run], token: Option<Said>) -> Action {
    let Some(run) = runs.first() else {
        return Action { name: action.name.clone(), provider: action.kind.provider.clone(), ..Action::default() };
    };
    let result = run.output.result.clone().unwrap_or_default();
    let configured = |name: &str| run.input.configuration.get(name).cloned().unwrap_or_default();
    let given = configured("ExternalEntityLink");
    let standing = match token {
        Some(_) => asking(),
        None => run.standing.clone(),
    };
    Action {
        name: action.name.clone(),
        provider: action.kind.provider.clone(),
        began: run.began.into(),
        changed: run.changed.into(),
        runs: runs.len(),
        summary: result.summary,
        verdict: result.error.unwrap_or_default().message,
        link: match (result.id.is_empty(), address::outside(result.url.raw()).or(address::outside(given.raw()))) {
            // Cutover's own actions name the release's stream.
            (false, _) if run.is_of_cutover() => Some(Link::Log),
            (_, Some(url)) if is_log(url) => Some(Link::Log),
            (_, Some(url)) => Some(Link::Outside(url.to_owned())),
            (_, None) => None,
        },
        approval: token.map(|token| Approval { token, tells: configured("CustomData") }),
        standing,
    }
}

/// Whether an address leads to a log in AWS's console: here, that log stands on the page, and AWS knows nothing of it.
fn is_log(url: &str) -> bool {
    url.contains("console.aws.amazon.com/cloudwatch/") && url.contains("log-events")
}

/// How an approval stands that nobody has answered: to CodePipeline it is in progress.
fn asking() -> Standing {
    Standing { mark: Mark::Asks, word: "Waits for approval".into() }
}

/// How a stage stands, from its actions.
fn together(actions: &[Action], is_over: bool) -> Standing {
    let any = |mark: Mark| actions.iter().find(|action| action.standing.mark == mark);
    let all_good = actions.iter().all(|action| action.standing.mark == Mark::Good);
    match (any(Mark::Asks), any(Mark::Runs), any(Mark::Bad), any(Mark::Stopped)) {
        (Some(_), _, _, _) => asking(),
        (None, Some(_), _, _) => Standing::of("InProgress"),
        (None, None, Some(_), _) => Standing::of("Failed"),
        (None, None, None, Some(_)) => Standing::of("Stopped"),
        (None, None, None, None) if all_good => Standing::of("Succeeded"),
        (None, None, None, None) if any(Mark::Good).is_none() => Standing::default(),
        (None, None, None, None) if is_over => Standing::of("Stopped"),
        (None, None, None, None) => Standing::of("InProgress"),
    }
}

/// A list that AWS leaves out, or says null for.
fn list<'de, D: serde::Deserializer<'de>, T: DeserializeOwned>(deserializer: D) -> Result<Vec<T>, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

#[derive(Deserialize)]
struct Declared {
    pipeline: DeclaredPipeline,
}

#[derive(Deserialize)]
struct DeclaredPipeline {
    name: Said,
    stages: Vec<DeclaredStage>,
}

#[derive(Deserialize)]
struct DeclaredStage {
    name: Said,
    actions: Vec<DeclaredAction>,
}

#[derive(Deserialize)]
struct DeclaredAction {
    name: Said,
    #[serde(rename = "actionTypeId")]
    kind: ActionType,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct ActionType {
    provider: Said,
    owner: Said,
}

#[derive(Deserialize)]
struct Executions {
    #[serde(rename = "pipelineExecutionSummaries")]
    all: Vec<Execution>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Execution {
    pipeline_execution_id: Said,
    status: Standing,
    #[serde(default)]
    status_summary: Said,
    #[serde(default)]
    stop_trigger: StopTrigger,
    #[serde(default)]
    start_time: Stamp,
    #[serde(default)]
    last_update_time: Stamp,
    #[serde(default, deserialize_with = "list")]
    source_revisions: Vec<Revision>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct StopTrigger {
    reason: Said,
}

#[derive(Deserialize, Default, Clone)]
#[serde(rename_all = "camelCase", default)]
struct Revision {
    revision_id: Said,
    revision_summary: Said,
}

impl From<Execution> for Release {
    fn from(one: Execution) -> Self {
        let revision = one.source_revisions.into_iter().next().unwrap_or_default();
        // One that was tried again after its stop still has the reason of that.
        let reason = match one.status.word.raw() {
            "Stopping" | "Stopped" if !one.stop_trigger.reason.is_empty() => one.stop_trigger.reason,
            _ => one.status_summary,
        };
        Self {
            id: one.pipeline_execution_id,
            standing: one.status,
            reason,
            commit: revision.revision_id,
            message: revision.revision_summary,
            began: one.start_time.into(),
            changed: one.last_update_time.into(),
        }
    }
}

#[derive(Deserialize)]
struct Runs {
    #[serde(rename = "actionExecutionDetails")]
    all: Vec<Run>,
    #[serde(rename = "nextToken")]
    next: Option<String>,
}

#[derive(Deserialize)]
struct Run {
    #[serde(rename = "actionExecutionId")]
    id: Said,
    #[serde(rename = "stageName")]
    stage: Said,
    #[serde(rename = "actionName")]
    action: Said,
    #[serde(rename = "status")]
    standing: Standing,
    #[serde(rename = "startTime", default)]
    began: Stamp,
    #[serde(rename = "lastUpdateTime", default)]
    changed: Stamp,
    #[serde(default)]
    input: Input,
    #[serde(default)]
    output: Output,
}

impl Run {
    fn is_of_cutover(&self) -> bool {
        let owner = self.input.kind.owner.raw();
        owner == "Custom" || self.input.kind.provider.raw() == "Lambda"
    }
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Input {
    #[serde(rename = "actionTypeId")]
    kind: ActionType,
    #[serde(rename = "resolvedConfiguration")]
    configuration: BTreeMap<String, Said>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Output {
    #[serde(rename = "executionResult")]
    result: Option<ExecutionResult>,
}

#[derive(Deserialize, Default, Clone)]
#[serde(default)]
struct ExecutionResult {
    #[serde(rename = "externalExecutionId")]
    id: Said,
    #[serde(rename = "externalExecutionSummary")]
    summary: Said,
    #[serde(rename = "externalExecutionUrl")]
    url: Said,
    #[serde(rename = "errorDetails")]
    error: Option<ErrorDetails>,
}

#[derive(Deserialize, Default, Clone)]
#[serde(default)]
struct ErrorDetails {
    message: Said,
}

#[derive(Deserialize, Default)]
struct State {
    #[serde(rename = "stageStates", default, deserialize_with = "list")]
    stages: Vec<StageState>,
}

#[derive(Deserialize)]
struct StageState {
    #[serde(rename = "stageName")]
    name: Said,
    #[serde(rename = "latestExecution")]
    latest: Option<Inside>,
    #[serde(rename = "inboundExecutions", default, deserialize_with = "list")]
    inbound: Vec<Inside>,
    #[serde(rename = "actionStates", default, deserialize_with = "list")]
    actions: Vec<Value>,
}

impl StageState {
    /// What answers an approval, when this run of it waits.
    fn token(&self, action: &DeclaredAction, run: &Said) -> Option<Said> {
        let own = self.actions.iter().find(|one| one["actionName"].as_str() == Some(action.name.raw()))?;
        let latest = &own["latestExecution"];
        let is_it = latest["actionExecutionId"].as_str() == Some(run.raw());
        latest["token"].as_str().filter(|_| is_it).map(Said::from)
    }
}

#[derive(Deserialize)]
struct Inside {
    #[serde(rename = "pipelineExecutionId")]
    id: Said,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read<T: DeserializeOwned>(value: Value) -> T {
        serde_json::from_value(value).unwrap()
    }

    fn releases(all: &[(&str, &str)]) -> Vec<Release> {
        let one = |(id, status): &(&str, &str)| {
            json!({"pipelineExecutionId": id, "status": status, "startTime": 1.5,
            "sourceRevisions": [{"revisionId": "abc", "revisionSummary": "Sell teapots"}]})
        };
        let Executions { all } = read(json!({"pipelineExecutionSummaries": all.iter().map(one).collect::<Vec<_>>()}));
        all.into_iter().map(Release::from).collect()
    }

    #[test]
    fn why_a_release_was_stopped_is_said_of_one_that_is_stopped_and_not_when_it_was_tried_again() {
        for (status, expected) in [("Stopping", "by Ann"), ("Stopped", "by Ann"), ("InProgress", ""), ("Succeeded", "")]
        {
            let one = json!({"pipelineExecutionId": "e", "status": status, "stopTrigger": {"reason": "by Ann"}});
            assert_eq!(Release::from(read::<Execution>(one)).reason.raw(), expected, "{status}");
        }
    }

    /// One action of Cutover's and an approval in a stage, with these runs (the newest first) and this state.
    fn picture(status: &str, runs: &[Value], state: Value) -> Stage {
        let kind = |owner: &str| json!({"owner": owner, "provider": "P", "category": "Deploy", "version": "1"});
        let declared = json!({"pipeline": {"name": "p", "stages": [{"name": "S", "actions": [
            {"name": "Do", "actionTypeId": kind("Custom")}, {"name": "Ask", "actionTypeId": kind("AWS")}]}]}});
        let shown = releases(&[("r", status)]).remove(0);
        let runs: Vec<Run> = runs.iter().map(|run| read(run.clone())).collect();
        let state = read(json!({"stageStates": [state]}));
        let pipeline = assemble(read(declared), vec![shown.clone()], Some(shown), &runs, &state);
        pipeline.stages.into_iter().next().unwrap()
    }

    fn run(id: &str, action: &str, status: &str) -> Value {
        json!({"actionExecutionId": id, "stageName": "S", "actionName": action, "status": status, "startTime": 1.0,
            "lastUpdateTime": 2.0, "input": {"actionTypeId": {"owner": if action == "Do" { "Custom" } else { "AWS" }, "provider": "P"},
                "resolvedConfiguration": {"CustomData": "Commit abc", "ExternalEntityLink": "https://x.example/1"}},
            "output": {"executionResult": {"externalExecutionId": if action == "Do" { json!("p$252Fr") } else { Value::Null },
                "externalExecutionSummary": null, "externalExecutionUrl": null}}})
    }

    #[test]
    fn the_release_that_is_under_way_longest_is_shown_then_the_newest_or_the_one_that_is_asked_for() {
        for (all, wanted, shown) in [
            (&[("b", "InProgress"), ("a", "InProgress")][..], None, Some("a")),
            (&[("b", "Failed"), ("a", "Succeeded")], None, Some("b")),
            (&[("b", "Stopping"), ("a", "Succeeded")], None, Some("b")),
            (&[("b", "InProgress"), ("a", "Succeeded")], Some("a"), Some("a")),
            (&[("b", "InProgress")], Some("gone"), None),
            (&[], None, None),
        ] {
            let all = releases(all);
            assert_eq!(chosen(&all, wanted).map(|release| release.id.raw()), shown, "{all:?} {wanted:?}");
        }
        let one = releases(&[("a", "FromTomorrow")]).remove(0);
        assert_eq!((one.message.raw(), one.began.millis()), ("Sell teapots", 1500));
        assert!(one.is_over(), "what is not known is not waited for");
    }

    #[test]
    fn a_stage_stands_as_its_actions_do() {
        let nothing = || json!({"stageName": "S"});
        let is_here = || json!({"stageName": "S", "latestExecution": {"pipelineExecutionId": "r", "status": "Failed"}});
        let other =
            || json!({"stageName": "S", "latestExecution": {"pipelineExecutionId": "newer", "status": "Failed"}});
        for (status, runs, state, word, can_retry) in [
            ("InProgress", vec![], nothing(), "", false),
            ("InProgress", vec![run("1", "Do", "InProgress")], is_here(), "InProgress", false),
            ("InProgress", vec![run("1", "Do", "Succeeded")], is_here(), "InProgress", false),
            ("Stopped", vec![run("1", "Do", "Succeeded")], is_here(), "Stopped", true),
            ("Stopped", vec![run("1", "Do", "Abandoned")], is_here(), "Stopped", true),
            ("Failed", vec![run("1", "Do", "Failed")], is_here(), "Failed", true),
            ("Failed", vec![run("1", "Do", "Failed")], other(), "Failed", false),
            (
                "Failed",
                vec![run("2", "Do", "Succeeded"), run("1", "Do", "Failed"), run("3", "Ask", "Failed")],
                is_here(),
                "Failed",
                true,
            ),
            (
                "Succeeded",
                vec![run("2", "Do", "Succeeded"), run("3", "Ask", "Succeeded")],
                is_here(),
                "Succeeded",
                false,
            ),
            ("Failed", vec![], is_here(), "", false),
        ] {
            let stage = picture(status, &runs, state);
            assert_eq!((stage.standing.word.raw(), stage.can_retry), (word, can_retry), "{status} {runs:?}");
        }
        let waits =
            json!({"stageName": "S", "inboundExecutions": [{"pipelineExecutionId": "r", "status": "InProgress"}]});
        assert!(picture("InProgress", &[], waits).waits_to_enter);
    }

    #[test]
    fn an_action_is_shown_in_its_newest_run_and_an_approval_with_what_answers_it() {
        let token = |run: &str| {
            json!({"stageName": "S", "actionStates": [{"actionName": "Ask",
            "latestExecution": {"actionExecutionId": run, "token": "t", "status": "InProgress"}}]})
        };
        let runs = [run("3", "Ask", "InProgress"), run("2", "Do", "Succeeded"), run("1", "Do", "Failed")];
        let stage = picture("InProgress", &runs, token("3"));
        let [does, asks] = stage.actions.as_slice() else { panic!("{stage:?}") };
        assert_eq!(
            (does.runs, does.standing.mark, &does.link, &does.approval),
            (2, Mark::Good, &Some(Link::Log), &None)
        );
        assert_eq!(asks.approval, Some(Approval { token: "t".into(), tells: "Commit abc".into() }));
        assert_eq!((asks.standing.mark, stage.standing.mark), (Mark::Asks, Mark::Asks));
        assert_eq!(asks.link, Some(Link::Outside("https://x.example/1".into())));
        // The state of another release's approval is no answer to this one's.
        let stage = picture("InProgress", &runs, token("99"));
        assert_eq!((&stage.actions[1].approval, stage.standing.mark), (&None, Mark::Runs));
    }
}
