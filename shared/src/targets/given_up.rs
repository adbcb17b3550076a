//! What runs of an action that were given up have brought to a service that CodeDeploy deploys.
//!
//! Invariant: that is no revision before. A retry that fails goes back to what ran before the first of them, also where that one had
//! come to its end, and its version is all that the service shows by now.

use std::collections::BTreeMap;

use crate::aws::codedeploy::Deployment;
use crate::aws::ecs::id;
use crate::names;
use crate::targets::site::{Of, Whose};

/// Whom CodeDeploy names as the creator of its own rollbacks.
const ROLLBACK: &str = "codeDeployRollback";

/// What such runs have brought, as `family:revision`, with what ran before each.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct GivenUp(BTreeMap<String, String>);

impl GivenUp {
    /// Takes up what these deployments of a group tell of them; `own` is what the descriptions of the release's begin with.
    pub(super) fn note(&mut self, found: &[Deployment], own: &str, whose: &Whose) {
        let Of::Action { key, tried_before: Some(_), .. } = &whose.of else { return };
        // CodeDeploy's own rollback to it changes nothing of who had brought it.
        let mut found: Vec<&Deployment> = found.iter().filter(|one| one.creator != ROLLBACK).collect();
        found.sort_by_key(|one| one.created);
        for one in found {
            let Some(definition) = one.definition() else { continue };
            let brought = id(&definition).to_owned();
            let described = names::read_description(&one.description, own).filter(|described| !described.is_back);
            match described {
                Some(by) if by.key == key => {}
                // Behind a fact there is nothing to go back to.
                Some(by) if !whose.is_fact(&one.id, one.created) => {
                    let family = brought.rsplit_once(':').map_or("", |(family, _)| family);
                    if let Some(before) = by.ran_before(family).filter(|before| *before != brought) {
                        self.0.insert(brought, before);
                    }
                }
                // Whoever deploys the same version after them has it run of their own will.
                Some(_) | None => {
                    self.0.remove(&brought);
                }
            }
        }
    }

    /// What ran before such a run, where it has brought what `runs` now.
    pub(super) fn ran_before(&self, runs: &str) -> Option<String> {
        self.0.get(runs).cloned()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::job::Release;
    use crate::names::{back_description, description, own_description};
    use crate::time::Time;

    fn deployment(at: u64, description: &str, revision: u32) -> Deployment {
        let arn = format!("arn:aws:ecs:us-east-1:111122223333:task-definition/shop:{revision}");
        let properties = serde_json::json!({"Properties": {"TaskDefinition": arn}});
        Deployment {
            id: format!("d-{at}"),
            description: description.into(),
            created: Some(Time::from_millis(at)),
            app_spec: Some(serde_json::json!({"Resources": [{"TargetService": properties}]}).to_string()),
            ..Deployment::default()
        }
    }

    #[test]
    fn what_a_run_that_was_given_up_has_brought_is_no_revision_before_unless_it_is_a_fact_or_somebody_brought_it_again()
    {
        let release =
            Release { pipeline: "shop".into(), execution: "e-1".into(), stage: None, action: None, attempt: 1 };
        let own = own_description(&release, "us", "web");
        let of = |key: &str, before: u32| description(&release, "us", "web", key, before);
        let first = || deployment(1, &of("k1", 1), 2);
        let rollback = || Deployment { creator: "codeDeployRollback".into(), ..deployment(3, "rollback", 2) };
        let cases = [
            ("nothing", vec![], None),
            ("one", vec![first()], Some(1)),
            ("its own", vec![deployment(1, &of("k3", 1), 2)], None),
            ("its own after one", vec![first(), deployment(2, &of("k3", 1), 2)], Some(1)),
            ("one that did not know what ran", vec![deployment(1, &of("k1", 0), 2)], None),
            ("one that brought what ran", vec![first(), deployment(2, &of("k2", 2), 2)], Some(1)),
            ("the newest of two, in any order", vec![deployment(2, &of("k2", 4), 2), first()], Some(4)),
            (
                "one that was taken back",
                vec![first(), deployment(2, &back_description(&release, "us", "web", "k1"), 1)],
                Some(1),
            ),
            (
                "one of which CodeDeploy went back to the first",
                vec![first(), deployment(2, &of("k2", 1), 2), rollback()],
                Some(1),
            ),
            ("a person who deploys it after that", vec![first(), deployment(3, "by hand", 2)], None),
            ("a person who deploys another", vec![first(), deployment(3, "by hand", 3)], Some(1)),
        ];
        let whose = |facts: &[&str], tried_before| Whose {
            release: release.clone(),
            of: Of::Action {
                key: "k3".into(),
                facts: facts.iter().map(|id| (*id).to_owned()).collect::<BTreeSet<_>>(),
                tried_before,
            },
            since: Time::default(),
            image: None,
        };
        for (what, found, before) in cases {
            let ran_before = |whose: &Whose| {
                let mut given_up = GivenUp::default();
                given_up.note(&found, &own, whose);
                given_up.ran_before("shop:2")
            };
            let before = before.map(|revision| format!("shop:{revision}"));
            assert_eq!(ran_before(&whose(&[], Some(Time::default()))), before, "{what}");
            assert_eq!(ran_before(&whose(&["d-1", "d-2"], Some(Time::default()))), None, "{what}, a fact");
            assert_eq!(ran_before(&whose(&[], None)), None, "{what}, at the first try");
        }
    }
}
