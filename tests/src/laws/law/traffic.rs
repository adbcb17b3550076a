//! Laws 3 and 4, as far as they are about traffic: everywhere or nowhere, or exactly where it is said to be.

use std::collections::BTreeSet;

use local::world::{ActionStatus, ActionView, ExecutionStatus};

use shared::aws::SHOWN;

use super::{Ended, none};
use crate::Meddling;
use crate::laws::fault::Fault;
use crate::laws::shape::{By, How, Shape};

/// Whatever was deployed or taken back, a service's tasks are placed by the capacity providers that it had, but for those that somebody
/// deployed by hand.
pub(super) fn every_service_is_placed_as_before(ended: &Ended<'_>) -> Result<(), String> {
    let mut misplaced = ended.stage.world().misplaced();
    misplaced.retain(|name| !ended.deeds.touched.contains_key(name));
    match misplaced.is_empty() {
        true => Ok(()),
        false => Err(format!("has lost its capacity providers: {}", misplaced.join(", "))),
    }
}

/// The traffic of every service is, in every environment, on the version of the last release whose
/// deployment succeeded, or on the version before all of them. Only where somebody has deployed by hand since that deployment began, and
/// where it is said in capitals since, may it be elsewhere.
pub(super) fn traffic_is_where_the_last_good_release_put_it(ended: &Ended<'_>) -> Result<(), String> {
    let good = ended.releases.iter().filter_map(|release| Some((release.deployed()?, &release.image)));
    let last = good.max_by_key(|(at, _)| *at);
    let expected = last.map_or("registry.example/shop:1.0", |(_, image)| image.as_str());
    let began = last.and_then(|(at, _)| {
        let runs = ended.releases.iter().flat_map(|release| &release.actions);
        runs.filter(|run| run.action == "Deploy" && run.updated == at).map(|run| run.started).min()
    });
    let began = began.unwrap_or_default().before(SHOWN);
    let traffic = ended.stage.world().traffic();
    let said: Vec<_> = ended.said_at().into_iter().filter(|(at, _)| *at >= began).map(|(_, text)| text).collect();
    let shape = &ended.plan.shape;
    let each = shape.environments.iter().flat_map(|place| shape.services.iter().map(move |service| (place, service)));
    let each = each.filter_map(|(place, service)| {
        let name = Shape::ecs_service(service, place);
        let label = format!("NOT ROLLED BACK: {}/{} ", place.name, service.name);
        let is_touched = ended.deeds.touched.get(&name).is_some_and(|at| *at >= began);
        let excused = is_touched || said.iter().any(|text| text.contains(&label));
        let found = traffic.iter().find(|view| view.service == name).filter(|_| !excused)?;
        Some((service, found))
    });
    let each: Vec<_> = each.collect();
    // A quick way back that was begun comes to its end, whatever becomes of its release; so it is of all web services or of none.
    // What was deployed after it stands.
    let has_some = |image: &String| each.iter().any(|(service, found)| !service.worker && found.image == *image);
    let is_written = |release: &super::Release| {
        let key = format!("_claims/{}.quick", release.execution);
        !ended.stage.world().kept_objects(&key).is_empty()
    };
    let is_quick = |release: &super::Release| {
        release.went_quickly() || (release.is_back && is_written(release) && has_some(&release.image))
    };
    let quick = ended.releases.iter().find(|release| release.deployed().is_none() && is_quick(release));
    let quick = quick.filter(|release| {
        // A run of it after that may have begun nothing.
        let ended = release.went_quickly_at().or_else(|| Some(release.action("Deploy")?.updated));
        last.is_none_or(|(at, _)| ended.is_some_and(|ended| at <= ended))
    });
    let expected_of_web = quick.map_or(expected, |release| release.image.as_str());
    let mut wrong = Vec::new();
    for (service, found) in each {
        let expected = if service.worker { expected } else { expected_of_web };
        if found.image != expected {
            wrong.push(format!("{} has {}, expected is {expected}", found.service, found.image));
        }
    }
    none("traffic in the wrong place", &wrong)
}

/// Nobody is called to deploy by hand what is where it should be: "NOT ROLLED BACK" is said of a target that was not. Where somebody, or
/// something, acts on it later, it may have been true when it was said.
pub(super) fn nobody_is_called_in_vain(ended: &Ended<'_>) -> Result<(), String> {
    let acts_later = |fault: &Fault| {
        matches!(
            fault,
            Fault::Retry { .. }
                | Fault::Merge { .. }
                | Fault::GoBack { .. }
                | Fault::ByHand { .. }
                | Fault::Newcomer { .. }
                | Fault::Rival { .. }
                | Fault::Stop { .. }
        )
    };
    let dies = ended.deaths().next().is_some() || ended.seen.iter().any(|seen| seen.meddling.is_death());
    if ended.releases.len() != 1 || dies || ended.plan.faults.iter().any(acts_later) {
        return Ok(());
    }
    let (traffic, said) = (ended.stage.world().traffic(), ended.said());
    let shape = &ended.plan.shape;
    let each = shape.environments.iter().flat_map(|place| shape.services.iter().map(move |service| (place, service)));
    let in_vain = each.filter_map(|(place, service)| {
        let label = format!("NOT ROLLED BACK: {}/{} ", place.name, service.name);
        let name = Shape::ecs_service(service, place);
        let is_old = traffic.iter().any(|view| view.service == name && view.image == "registry.example/shop:1.0");
        (is_old && said.iter().any(|text| text.contains(&label))).then_some(name)
    });
    none("called for by hand, and on the old version already", &in_vain.collect::<Vec<_>>())
}

/// Workers that are started one by one are, in every environment, of the last release whose deployment succeeded; of none when
/// there is no such release.
pub(super) fn workers_are_of_the_last_good_release(ended: &Ended<'_>) -> Result<(), String> {
    let good = ended.releases.iter().filter_map(|release| Some((release.deployed()?, &release.image)));
    let expected = good.max_by_key(|(at, _)| *at).map(|(_, image)| image);
    let released = ended.stage.world().released();
    let mut wrong = Vec::new();
    for place in ended.plan.shape.environments.iter().filter(|_| ended.plan.shape.launches) {
        let found = released.get(&format!("{}/exports", place.name)).and_then(Option::as_ref);
        if found != expected {
            wrong.push(format!("{}/exports is of {found:?}, expected is {expected:?}", place.name));
        }
    }
    none("workers of the wrong version", &wrong)
}

/// What runs by the clock is, in every environment, what the last release has whose deployment succeeded; nothing when there is no such
/// release.
pub(super) fn what_runs_by_the_clock_is_of_the_last_good_release(ended: &Ended<'_>) -> Result<(), String> {
    let is_any_good = ended.releases.iter().any(|release| release.deployed().is_some());
    let expected = if is_any_good { ended.plan.shape.schedules() } else { BTreeSet::new() };
    let named = |(group, name): (String, String)| (group.trim_start_matches("cutover.").to_owned(), name);
    let found: BTreeSet<_> = ended.stage.world().schedules().into_iter().map(named).collect();
    match found == expected {
        true => Ok(()),
        false => Err(format!("by the clock runs {found:?}, expected is {expected:?}")),
    }
}

/// Behind the barrier, no traffic of a release moves before every target of it is ready.
pub(super) fn no_traffic_moves_before_all_can(ended: &Ended<'_>) -> Result<(), String> {
    let shape = &ended.plan.shape;
    let targets = shape.services.iter().filter_map(|service| match service.by {
        By::CodeDeploy { barrier, .. } => Some((&service.name, barrier)),
        By::Ecs { .. } => None,
    });
    let all: Vec<_> = targets.collect();
    let workers: Vec<_> = all.iter().filter(|(name, _)| is_worker(shape, name)).copied().collect();
    let milestones = ended.stage.world().milestones_of_deployments();
    let mut early = Vec::new();
    for (description, _, moved) in &milestones {
        let (Some(moved), Some((key, target))) = (moved, key_and_target(description)) else { continue };
        let Some((environment, service)) = target.split_once('/') else { continue };
        // Web services may have gone another way.
        let quick = ended.releases.iter().any(|one| one.went_quickly() && description.contains(&one.execution));
        let targets = if quick { &workers } else { &all };
        let behind = targets.iter().any(|(name, barrier)| *name == service && *barrier);
        if !behind || ended.deeds.touched.contains_key(&format!("{environment}-{service}")) {
            continue;
        }
        for place in &shape.environments {
            for (name, _) in targets {
                let other = format!("{}/{name}", place.name);
                let ready = milestones.iter().any(|(description, ready, moved_too)| {
                    let own = key_and_target(description) == Some((key, &other));
                    own && ready.or(*moved_too).is_some_and(|at| at <= *moved)
                });
                if !ready && !ended.deeds.touched.contains_key(&format!("{}-{name}", place.name)) {
                    early.push(format!("{target} moved at {moved:?}, before {other} could"));
                }
            }
        }
    }
    early.extend(early_rollouts(ended));
    early.extend(early_of_the_other_kind(ended));
    none("traffic that moved before all could", &early)
}

fn is_worker(shape: &Shape, name: &str) -> bool {
    shape.services.iter().any(|service| service.name == name && service.worker)
}

/// ECS's deployments, but for those that were replaced as soon as they were begun by another one of the same release: two
/// functions did the same job (which docs/operating.md names as a limit), each with a task definition of its own, and ECS has no key
/// that would have told the second one of the first.
fn rollouts(ended: &Ended<'_>) -> Vec<local::world::RolloutView> {
    let all = ended.stage.world().rollouts();
    let is_replaced = |one: &local::world::RolloutView| {
        let replaces = |other: &local::world::RolloutView| {
            let same = other.service == one.service && other.image == one.image && other.arn != one.arn;
            same && other.span.0 >= one.span.0 && other.span.0.since(one.span.0) < TWINS
        };
        one.status == "STOPPED" && one.stage.is_none() && all.iter().any(replaces)
    };
    all.iter().filter(|one| !is_replaced(one)).cloned().collect()
}

/// How long after the first of two functions that do the same job the second one comes to the same call.
const TWINS: std::time::Duration = std::time::Duration::from_secs(5);

/// A run of an action: when it began, and its id, since two may begin at the same moment.
type Run = (shared::Time, String);

fn run_at(run: &ActionView) -> Run {
    (run.started, run.id.clone())
}

/// The action's run that began it: ECS's deployments have no key that would tell. It is the last one that had begun, if
/// its release has this image; otherwise it brings the version before back.
fn run_of(ended: &Ended<'_>, one: &local::world::RolloutView) -> Option<Run> {
    let runs = ended.releases.iter().flat_map(|release| release.actions.iter().map(move |run| (run, &release.image)));
    // Whoever has waited for its turn begins when the one before it has ended.
    let is_on = |run: &ActionView| {
        run.started <= one.span.0 && (run.status == ActionStatus::InProgress || run.updated >= one.span.0)
    };
    let begun = runs.filter(|(run, _)| run.action == "Deploy" && is_on(run));
    let (last, image) = begun.max_by_key(|(run, _)| run.started)?;
    // What goes back to the version that runs already brings that one, and brings that one back.
    let earlier = ended.releases.iter().filter_map(|release| Some((release.deployed()?, &release.image)));
    let ran = earlier.filter(|(at, _)| *at < last.started).max_by_key(|(at, _)| *at);
    (*image == one.image && ran.is_none_or(|(_, ran)| ran != image)).then(|| run_at(last))
}

/// The same of what ECS deploys: behind the barrier, none moves before all of the release's are ready, and rolling services
/// begin when those are. A release is known by its image.
fn early_rollouts(ended: &Ended<'_>) -> Vec<String> {
    let rollouts = rollouts(ended);
    let by = |name: &str| {
        let of = |place: &crate::laws::shape::Place| {
            ended.plan.shape.services.iter().find(|service| Shape::ecs_service(service, place) == name)
        };
        ended.plan.shape.environments.iter().find_map(of).map(|service| service.by)
    };
    let mut early = Vec::new();
    for one in &rollouts {
        let is_rolling = matches!(by(&one.service), Some(By::Ecs { how: How::Rolling, .. }));
        let acts = match by(&one.service) {
            Some(by) if by.is_held() => one.changes.1,
            Some(_) if is_rolling => Some(one.span.0),
            _ => None,
        };
        let Some(acts) = acts.filter(|_| !ended.deeds.touched.contains_key(&one.service)) else { continue };
        // What brings the version before back waits for nobody, and web services that go back the quick way wait for no worker.
        let went_quickly = |one: &local::world::RolloutView| {
            let of = |release: &&super::Release| release.action("Deploy").map(run_at) == run_of(ended, one);
            let is_web = !ended.plan.shape.services.iter().any(|service| {
                service.worker
                    && ended.plan.shape.environments.iter().any(|at| Shape::ecs_service(service, at) == one.service)
            });
            is_web && ended.releases.iter().any(|release| of(&release) && release.went_quickly())
        };
        if run_of(ended, one).is_none() || went_quickly(one) {
            continue;
        }
        let others =
            rollouts.iter().filter(|other| other.image == one.image && by(&other.service).is_some_and(By::is_held));
        let of_this_try = others.filter(|other| run_of(ended, other) == run_of(ended, one));
        let of_this_try = of_this_try.filter(|other| !went_quickly(other));
        for other in of_this_try.filter(|other| !ended.deeds.touched.contains_key(&other.service)) {
            let ready = other.changes.0.or(other.changes.1).is_some_and(|ready| ready <= acts);
            if !ready {
                early.push(format!("{} at {acts:?}, before {} was ready: {other:?}", one.service, other.service));
            }
        }
    }
    early
}

/// The same between the two kinds: what CodeDeploy holds and what ECS holds of one try move when all of it is ready.
fn early_of_the_other_kind(ended: &Ended<'_>) -> Vec<String> {
    let world = ended.stage.world();
    let (spans, milestones) = (world.spans_of_deployments(), world.milestones_of_deployments());
    drop(world);
    let shape = &ended.plan.shape;
    let is_untouched = |service: &str| !ended.deeds.touched.contains_key(service);
    let by = |name: &str| {
        let of = |place| shape.services.iter().find(|one| Shape::ecs_service(one, place) == name);
        shape.environments.iter().find_map(of)
    };
    let (mut held, mut early) = (Vec::new(), Vec::new());
    for (description, ready, moved) in milestones {
        let Some((_, target)) = key_and_target(&description) else { continue };
        let service = target.replace('/', "-");
        let created = spans.iter().find(|(one, _, _)| *one == description).map(|(_, created, _)| *created);
        let release = ended.releases.iter().find(|one| description.contains(&one.execution) && !one.went_quickly());
        let runs = release.into_iter().flat_map(|one| &one.actions).filter(|run| run.action == "Deploy");
        let run = runs.map(run_at).filter(|(at, _)| created.is_some_and(|created| *at <= created)).max();
        if by(&service).is_some_and(|one| one.by.is_held()) && is_untouched(&service) {
            held.extend(run.map(|run| (run, target.to_owned(), ready, moved, "CodeDeploy")));
        }
    }
    for one in rollouts(ended) {
        let quick = ended.releases.iter().any(|release| release.image == one.image && release.went_quickly());
        if by(&one.service).is_some_and(|one| one.by.is_held()) && is_untouched(&one.service) && !quick {
            held.extend(run_of(ended, &one).map(|run| (run, one.service.clone(), one.changes.0, one.changes.1, "ECS")));
        }
    }
    for (run, target, _, moved, kind) in &held {
        let Some(moved) = moved else { continue };
        for (other_run, other, ready, other_moved, other_kind) in &held {
            let is_ready = ready.or(*other_moved).is_some_and(|ready| ready <= *moved);
            if run == other_run && kind != other_kind && !is_ready {
                early.push(format!(
                    "{target} ({kind}) moved at {moved:?}, before {other} ({other_kind}) was ready: {ready:?}"
                ));
            }
        }
    }
    early
}

/// How long before it asks for a way back a function may have listed what is there.
const LISTED_BEFORE: std::time::Duration = std::time::Duration::from_secs(10);

/// A try of the action creates one deployment for each of its targets, and at most one of CodeDeploy's to bring it back.
pub(super) fn a_try_deploys_a_target_once(ended: &Ended<'_>) -> Result<(), String> {
    let mut seen = std::collections::BTreeSet::new();
    let ours = ended.stage.world().deployments().into_iter().map(|(description, _)| description);
    let ours = ours.filter(|description| shared::names::is_ours(description));
    let twice = ours.filter(|description| !seen.insert(description.clone()));
    // Several functions bring back at once, and each has listed what is there some seconds before it asks. A deployment of CodeDeploy's takes
    // longer than that, and it refuses a second one meanwhile; here it may be over.
    let spans = ended.stage.world().spans_of_deployments();
    let is_at_once = |description: &String| {
        let created: Vec<_> =
            spans.iter().filter(|(one, ..)| one == description).map(|(_, created, _)| *created).collect();
        let first = created.iter().min().copied().unwrap_or_default();
        description.contains(" back, ") && created.iter().all(|at| at.since(first) < LISTED_BEFORE)
    };
    let twice: Vec<_> = twice.filter(|description| !is_at_once(description)).collect();
    // A call that does what it was asked for only after everybody has stopped waiting for it (docs/operating.md names that as a limit).
    let comes_late = |seen: &&crate::laws::record::Seen| match seen.meddling {
        Meddling::DoneLate(by) => seen.operation == "CreateDeployment" && by > shared::aws::SHOWN,
        _ => false,
    };
    let late = ended.seen.iter().filter(comes_late).count();
    none("deployments that were created twice", if twice.len() > late { &twice } else { &[] })?;
    // ECS has no key that would tell the second one of the first.
    if ended.may_have_two("deploy-services") {
        return Ok(());
    }
    let mut rolled_out: std::collections::BTreeMap<(String, String, Run), usize> = std::collections::BTreeMap::new();
    for one in rollouts(ended) {
        let Some(run) = run_of(ended, &one) else { continue };
        if !ended.deeds.touched.contains_key(&one.service) {
            *rolled_out.entry((one.service, one.image, run)).or_default() += 1;
        }
    }
    rolled_out.retain(|_, count| *count > 1);
    none("service deployments that were begun twice", &rolled_out.into_iter().collect::<Vec<_>>())
}

/// The key of the try and the target, of a deployment of Cutover's that is no way back.
fn key_and_target(description: &str) -> Option<(&str, &str)> {
    let (rest, key) = description.split_once(" key ")?;
    // Behind it is what the target ran before, which differs from target to target.
    let key = key.split(' ').next()?;
    let target = rest.rsplit(' ').next()?;
    (target.contains('/') && shared::names::is_ours(description)).then_some((key, target))
}

/// How often Lambda tries an event.
const LAMBDAS_TRIES: usize = 3;

/// How long old workers are waited for before they are left to finish by themselves.
const DRAIN_FOR: std::time::Duration = std::time::Duration::from_secs(120);

/// After success, the old tasks of workers that CodeDeploy deployed are gone, or the drain's action says that some are busy.
pub(super) fn old_workers_are_gone_or_reported(ended: &Ended<'_>) -> Result<(), String> {
    // A merge and a way back deploy in their turns, and not in the order in which they were begun.
    let last = ended.releases.iter().max_by_key(|release| release.action("Deploy").map(|deploy| deploy.updated));
    let Some(release) = last.filter(|release| release.status == ExecutionStatus::Succeeded) else { return Ok(()) };
    let Some(drain) = release.action("Drain") else { return Ok(()) };
    let mut left = Vec::new();
    for place in &ended.plan.shape.environments {
        for service in ended.plan.shape.services.iter().filter(|service| service.worker) {
            let name = Shape::ecs_service(service, place);
            let old = ended.lives.iter().filter(|life| {
                life.service.as_deref() == Some(&name) && life.image != release.image && life.stopping.is_none()
            });
            let label = format!("{}/{}: ", place.name, service.name);
            let of_it =
                drain.summary.split_once(&label).map_or("", |(_, rest)| rest.split("; ").next().unwrap_or(rest));
            let said = ["bake time", "ran this version", "could not be seen in time", "could not be watched"]
                .iter()
                .any(|word| of_it.contains(word))
                || (of_it.contains("busy") && drain.updated.since(drain.started) >= DRAIN_FOR);
            // So it is after a stop that is still shown when its stage was tried again.
            let said = said || drain.summary.contains("the old workers are left alone");
            // Nobody watched them: the function died at each of Lambda's tries.
            let died = ended.deaths().filter(|function| *function == "drain-workers").count();
            let said = said || (drain.summary.contains("were not watched to their end") && died >= LAMBDAS_TRIES);
            // A summary has an end (fact 6).
            let cut = drain.summary.chars().count() >= 2000;
            if old.count() > 0 && !said && !cut && !ended.deeds.touched.contains_key(&name) {
                left.push(format!("{name}: {}", drain.summary));
            }
        }
    }
    none("old workers that nobody speaks of", &left)
}
