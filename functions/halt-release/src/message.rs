//! Every sentence of `halt-release` that a person reads.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use shared::aws::codepipeline::Sibling;
use shared::aws::ecs::Task;
use shared::text::fit;
use shared::time::spoken;
use shared::{Verdict, names};

use crate::decide::Came;

/// A quick way back was begun, and is brought to its end.
pub(crate) fn goes_on_quickly() -> String {
    "the quick way back had begun, and half of it would be traffic on two versions: it is brought to its end".into()
}

/// What new workers run is what it was before the release.
pub(crate) fn workers_are_back() -> String {
    "workers that are started from now on are of the release before again".into()
}

/// The longest list of what was stopped.
const LONGEST_LIST: usize = 1500;

/// "migrate in us".
pub(crate) fn task(task: &Task) -> String {
    let whose = names::read_started_by(&task.started_by);
    whose.map_or_else(|| "?".into(), |whose| format!("{} in {}", whose.task, whose.environment))
}

/// "the deployment of us/web".
pub(crate) fn deployment(name: &str) -> String {
    format!("the deployment of {name}")
}

/// The same of one that had ended by itself.
pub(crate) fn ended_deployment(name: &str) -> String {
    format!("the deployment of {name} (it had ended: the revision before was deployed)")
}

/// "halt | us: task 1234 of migrate is being stopped".
pub(crate) fn stopped_task(task: &Task) -> String {
    let whose = names::read_started_by(&task.started_by);
    let (environment, name) = whose.map_or(("?", "?"), |whose| (whose.environment, whose.task));
    format!("halt | {environment}: task {} of {name} is being stopped", task.id())
}

/// "halt | us/web: deployment d-1 is being stopped and rolled back".
pub(crate) fn stopped_deployment(name: &str, id: &str) -> String {
    format!("halt | {name}: deployment {} is being stopped and rolled back", short(id))
}

/// "halt | us/web: rolled back".
pub(crate) fn rolled_back(name: &str) -> String {
    format!("halt | {name}: rolled back")
}

/// "halt | us/web: deployment d-1 had ended by itself, and its old tasks are gone: shop-web:41 is being deployed again".
pub(crate) fn brings_back(name: &str, id: &str, before: Option<&str>) -> String {
    let before = before.unwrap_or("the revision before");
    format!(
        "halt | {name}: deployment {} had ended by itself, and its old tasks are gone: {before} is being deployed again",
        short(id)
    )
}

/// "halt | us/web: shop-web:50 runs here by now, which the release has not deployed: it is left alone".
pub(crate) fn overtaken(name: &str, by: &str) -> String {
    format!("halt | {name}: {}", shared::targets::words::overtaken(by))
}

/// "halt | us/web: brought back by a deployment of the revision before".
pub(crate) fn brought_back(name: &str) -> String {
    format!("halt | {name}: brought back by a deployment of the revision before")
}

/// A service deployment's id is the last part of its ARN.
fn short(id: &str) -> &str {
    id.rsplit('/').next().unwrap_or(id)
}

/// Why nothing could be stopped.
pub(crate) fn too_late(id: &str) -> String {
    format!(
        "deployment {} had ended before it could be stopped, its old tasks are gone, and what ran before is not known",
        short(id)
    )
}

/// What the last line begins with where the release's own deployment has succeeded before: that is not undone.
const STAYS: &str =
    "*Deploy* had succeeded, and what it deployed STAYS LIVE (to go back, start the pipeline that rolls back)";

/// The last line, and what people are told; `stays` when a deployment had succeeded before.
pub(crate) fn done(stopped: &[String], stuck: &BTreeMap<String, String>, outcomes: &[String], stays: bool) -> String {
    let what = if stays { "nothing else of the release" } else { "nothing of the release" };
    let mut said = match stopped {
        [] => format!("{what} was running any more"),
        _ => format!("stopped {}; {what} runs any more", fit(&stopped.join(", "), LONGEST_LIST)),
    };
    if stays {
        said = format!("{STAYS}; {said}");
    }
    for (name, why) in stuck {
        said = not_rolled_back(name, why) + &said;
    }
    for outcome in outcomes {
        let _ = write!(said, ". {outcome}");
    }
    format!("halt complete: {said}")
}

/// "migrate: done in us; not done in eu, ap; not begun in jp", when it was begun anywhere.
pub(crate) fn outcome(task: &str, environments: &[String], ends: &BTreeMap<(String, String), Came>) -> Option<String> {
    let end = |environment: &&String| ends.get(&(task.to_owned(), (*environment).clone())).copied();
    let with = |wanted: Option<Came>| {
        let named: Vec<_> = environments.iter().filter(|one| end(one) == wanted).map(String::as_str).collect();
        (!named.is_empty()).then(|| named.join(", "))
    };
    environments.iter().find_map(|one| end(&one))?;
    let parts = [
        ("done in", with(Some(Came::ToItsEnd))),
        ("ended with exit code 0 after it was asked to end in", with(Some(Came::ToAnEnd))),
        ("not done in", with(Some(Came::Nowhere))),
        ("not begun in", with(None)),
    ];
    let said: Vec<_> = parts.into_iter().filter_map(|(what, named)| Some(format!("{what} {}", named?))).collect();
    Some(format!("{task}: {}", said.join("; ")))
}

/// It took too long; `left` is what has not come back meanwhile, with why as far as that is known.
pub(crate) fn gave_up(stopped: &[String], left: &BTreeMap<String, String>, after: Duration) -> String {
    let asked = match stopped {
        [] => String::new(),
        _ => format!(" although {} was asked to", fit(&stopped.join(", "), LONGEST_LIST)),
    };
    let left: String = left.iter().map(|(name, why)| not_rolled_back(name, why)).collect();
    format!(
        "halt incomplete: {left}not all of the release has ended within {}{asked}. Stop by hand what still runs: {WHAT_RUNS}",
        spoken(after)
    )
}

/// "halt | after 15 min not back yet: us/web, eu/web", where anything is not.
pub(crate) fn still(left: &BTreeMap<String, String>, after: Duration) -> Option<String> {
    let names: Vec<_> = left.keys().map(String::as_str).collect();
    (!names.is_empty())
        .then(|| format!("halt | after {} not back yet: {}", spoken(after), fit(&names.join(", "), LONGEST_LIST)))
}

/// Why something is not back that is on its way.
pub(crate) fn not_back(after: Duration) -> String {
    format!("it is not back after {}", spoken(after))
}

fn not_rolled_back(name: &str, why: &str) -> String {
    format!("NOT ROLLED BACK: {name} ({why}). Deploy the revision before by hand. ")
}

/// Something could not be looked at or stopped, however often it was tried.
pub(crate) fn lost(why: &str) -> String {
    format!("halt incomplete: {why}. Stop by hand what still runs: {WHAT_RUNS}")
}

/// Something could not be looked at for minutes, and is tried on.
pub(crate) fn tries_on(why: &str, longest: Duration) -> String {
    format!(
        "halt not complete yet: {why}. It is tried on, for {} in all; all else is taken back meanwhile",
        spoken(longest)
    )
}

/// How what a release has started is recognized.
const WHAT_RUNS: &str = "ECS tasks whose startedBy begins with `cutover/` and this execution, CodeDeploy deployments whose \
                         description begins with `Cutover`, this pipeline and this execution, ECS service deployments to \
                         this release's image";

/// The manifest of a release that was stopped cannot be read.
pub(crate) fn no_manifest(why: &str) -> String {
    format!("what the release has started is not known, since its manifest cannot be read ({why})")
}

/// The same of one of several.
pub(crate) fn no_manifest_of(action: &Sibling, why: &str) -> String {
    let (stage, action) = (&action.stage, &action.action);
    format!("what {stage}/{action} has started is not known, since its manifest cannot be read ({why})")
}

/// What the log's action says whose function is dead.
pub(crate) fn lost_tail(function: &str, why: &str) -> String {
    format!(
        "Warning: the log is incomplete. Cutover's function {function} failed at every try: {why}. That fails nothing; each \
         task's lines are in its own log stream."
    )
}

/// What the drain's action says whose function is dead.
pub(crate) fn lost_drain(function: &str, why: &str) -> String {
    format!(
        "Warning: the old workers were not watched to their end. Cutover's function {function} failed at every try: {why}. That fails \
         nothing; old workers end by themselves when their deployment does."
    )
}

/// The summary of an action whose function is dead, which has told people or would have.
pub(crate) fn lost_notify(function: &str, why: &str) -> String {
    format!(
        "Warning: perhaps not everybody was told. Cutover's function {function} failed at every try: {why}. That fails nothing."
    )
}

/// The verdict of an action whose function is dead.
pub(crate) fn died(function: &str, why: &str) -> Verdict {
    Verdict::failed(format!(
        "Cutover's function {function} failed at every try: {why}. What this action has begun is being taken back. Look at \
         the function's log, then retry the stage."
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_had_been_deployed_before_a_stop_is_said_to_stay_live() {
        let (none, stopped) = (BTreeMap::new(), ["finish in us".to_owned()]);
        for (stopped, stays, said) in [
            (&[][..], false, "halt complete: nothing of the release was running any more"),
            (&stopped[..], false, "halt complete: stopped finish in us; nothing of the release runs any more"),
            (
                &[][..],
                true,
                "STAYS LIVE (to go back, start the pipeline that rolls back); nothing else of the release was running",
            ),
            (
                &stopped[..],
                true,
                "STAYS LIVE (to go back, start the pipeline that rolls back); stopped finish in us; nothing else",
            ),
        ] {
            let done = done(stopped, &none, &[], stays);
            assert!(done.contains(said) && done.starts_with("halt complete: "), "{done}");
        }
    }

    #[test]
    fn what_is_not_back_when_the_halt_gives_up_is_named_in_capitals_before_all_else() {
        let left = [("us/web".to_owned(), not_back(Duration::from_secs(7200)))].into();
        let said = gave_up(&["the deployment of us/web".to_owned()], &left, Duration::from_secs(7200));
        let first = "halt incomplete: NOT ROLLED BACK: us/web (it is not back after 2 h 00 min). Deploy the revision before by hand. \
                     not all of the release has ended within 2 h 00 min although the deployment of us/web was asked to. Stop by hand";
        assert!(said.starts_with(first), "{said}");
        let meanwhile = still(&left, Duration::from_secs(900));
        assert_eq!(meanwhile.as_deref(), Some("halt | after 15 min 00 s not back yet: us/web"));
        assert_eq!(still(&BTreeMap::new(), Duration::from_secs(900)), None);
        let nothing = gave_up(&[], &BTreeMap::new(), Duration::from_secs(7200));
        assert!(nothing.starts_with("halt incomplete: not all of the release"), "{nothing}");
    }

    #[test]
    fn how_far_a_task_came_is_said_of_each_environment_and_an_end_after_the_stop_is_not_called_undone() {
        let environments = ["us", "eu", "ap", "jp"].map(str::to_owned);
        let came = [("us", Came::ToItsEnd), ("eu", Came::Nowhere), ("ap", Came::ToAnEnd)];
        let ends = came.map(|(environment, came)| (("migrate".to_owned(), environment.to_owned()), came)).into();
        let said = "migrate: done in us; ended with exit code 0 after it was asked to end in ap; not done in eu; not begun in jp";
        assert_eq!(outcome("migrate", &environments, &ends).as_deref(), Some(said));
        assert_eq!(outcome("finish", &environments, &ends), None);
    }
}
