//! What is said of one target: by whom it is deployed, how far that is, and which revisions there are.

use std::fmt::Write as _;

use serde_json::{Value, json};
use shared::aws::ecs::Strategy;
use shared::targets::{Kind, Target, ecs, words};

/// Why a target is not behind the barrier.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Free {
    Group,
    Rolling,
    NoHook,
    UnknownStrategy,
}

impl Free {
    pub(super) fn said(self, count: usize) -> &'static str {
        match (self, count) {
            (Self::Group, 1) => "its group does not wait for being continued (deploymentReadyOption)",
            (Self::Group, _) => "their groups do not wait for being continued (deploymentReadyOption)",
            (Self::Rolling, 1) => "a rolling deployment cannot wait",
            (Self::Rolling, _) => "rolling deployments cannot wait",
            (Self::NoHook, 1) => "it has no PAUSE hook before production traffic (give it one, or say `barrier: add`)",
            (Self::NoHook, _) => {
                "they have no PAUSE hook before production traffic (give them one, or say `barrier: add`)"
            }
            (Self::UnknownStrategy, _) => "its deployment strategy is not known to this version of Cutover",
        }
    }
}

pub(super) fn free(target: &Target) -> Option<Free> {
    match &target.kind {
        _ if target.waits() != Some(false) => None,
        Kind::Unknown | Kind::Absent => None,
        Kind::Codedeploy(_) => Some(Free::Group),
        Kind::Ecs(native) => Some(match native.strategy {
            Strategy::Rolling => Free::Rolling,
            Strategy::BlueGreen | Strategy::Linear | Strategy::Canary => Free::NoHook,
            Strategy::Unknown(_) => Free::UnknownStrategy,
        }),
    }
}

/// "deployed by ECS, blue/green; its traffic waits in PRE_PRODUCTION_TRAFFIC_SHIFT".
pub(super) fn by(target: &Target) -> Option<String> {
    let waits = |so: bool| if so { "its traffic waits for the others" } else { "its traffic does not wait" };
    match &target.kind {
        Kind::Unknown | Kind::Absent => None,
        Kind::Codedeploy(group) => {
            let waits = waits(group.waits == Some(true));
            Some(format!("deployed by CodeDeploy (group {} of {}); {waits}", group.group, group.application))
        }
        Kind::Ecs(native) => {
            let how = match &native.strategy {
                Strategy::Rolling => "rolling",
                Strategy::BlueGreen => "blue/green",
                Strategy::Linear => "linear",
                Strategy::Canary => "canary",
                Strategy::Unknown(word) => word,
            };
            let at = match &native.barrier {
                Some(stage) if native.adds_barrier() => format!(" in {stage}, at a PAUSE hook that Cutover adds"),
                Some(stage) => format!(" in {stage}"),
                None => String::new(),
            };
            Some(format!("deployed by ECS ({how}); {}{at}", waits(native.barrier.is_some())))
        }
    }
}

/// A service in an environment, as the release's record has it.
pub(super) fn service(target: &Target, before: String, after: String) -> Value {
    json!({"environment": target.site.environment_name, "service": target.site.service_name, "before": before, "after": after})
}

pub(super) fn before(target: &Target) -> String {
    number(target, target.before.as_deref())
}

pub(super) fn tried(target: &Target) -> String {
    match target.tried() {
        Some(tried) => number(target, Some(&tried)),
        None if target.deployment().is_some() => "?".into(),
        None => "none".into(),
    }
}

/// A revision's number where it is of the family that the manifest names, otherwise with its family.
pub(super) fn number(target: &Target, definition: Option<&str>) -> String {
    match definition.map(|definition| (definition, target.site.revision(definition))) {
        None => "?".into(),
        Some((definition, 0)) => definition.to_owned(),
        Some((_, revision)) => revision.to_string(),
    }
}

/// "Install, 1 of 2 new tasks run, 0 % of traffic, 1 died".
pub(super) fn going(target: &Target) -> String {
    let mut said = match &target.kind {
        Kind::Unknown | Kind::Absent => "starting".into(),
        Kind::Codedeploy(group) => {
            let seen = group.tried().and_then(|tried| tried.seen.as_ref());
            let mut said = seen.and_then(|seen| seen.event.clone()).unwrap_or_else(|| "starting".into());
            if let Some(new) = seen.and_then(|seen| seen.new.as_ref()) {
                let _ =
                    write!(said, ", {} of {} new tasks run, {} % of traffic", new.running, new.desired, new.traffic);
            }
            said
        }
        Kind::Ecs(native) => native.tried().map_or_else(|| "starting".into(), |tried| going_by_ecs(native, tried)),
    };
    if !target.dead.tasks.is_empty() {
        let _ = write!(said, ", {} died", target.dead.tasks.len());
    }
    said
}

/// "SCALE_UP, 1 of 2 new tasks run, 0 % of traffic, hook check-shop runs".
fn going_by_ecs(native: &ecs::Native, tried: &ecs::Tried) -> String {
    let deployment = &tried.deployment;
    let (stage, target) = (deployment.stage.as_ref(), &deployment.target);
    let mut said = match stage {
        Some(stage) => stage.word().to_owned(),
        None if native.strategy == Strategy::Rolling => "rolling".into(),
        None => "starting".into(),
    };
    let _ = write!(said, ", {} of {} new tasks run", target.running, target.requested);
    if let Some(traffic) = target.traffic {
        let _ = write!(said, ", {traffic} % of traffic");
    }
    let is_ours = stage.is_some_and(|stage| stage.is_before_traffic());
    if let Some(hooks) = words::hooks_under_way(&deployment.hooks, stage, is_ours) {
        let _ = write!(said, ", {hooks}");
    }
    if let Some((failures, most)) = deployment.breaker.filter(|(failures, _)| *failures > 0) {
        let _ = write!(said, ", the circuit breaker saw {failures} tasks fail and breaks at {most}");
    }
    if !deployment.alarms.is_empty() {
        let _ = write!(said, ", alarms: {}", deployment.alarms.join(", "));
    }
    said
}
