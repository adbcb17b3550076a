//! What a release will need, looked at before its first task starts: clusters, services and who deploys them, deployment
//! groups, task definitions, their containers and roles, and that the environments' roles may be assumed and see them.
//!
//! Invariants: nothing is changed; a mistake is said together with all the others; what AWS does not answer is asked again, and
//! what it has answered is not. Roles are the exception: IAM is one service for all Regions, and a release into one of them must not
//! wait for another; a role that IAM does not tell of is taken for good, and ECS has the last word.

use std::collections::BTreeMap;

use futures_util::future::join_all;
use indexmap::IndexMap;
use tracing::warn;

use crate::aws::codedeploy::Codedeploy;
use crate::aws::ecs::{Ecs, Half, Of, chosen};
use crate::aws::iam::{Iam, Role};
use crate::aws::{Aws, Place};
use crate::error::{Error, Kind, Verdict};
use crate::manifest::{Manifest, in_environment};
use crate::targets::{Site, deployed_by, words};
use crate::workers::kinds;

/// How many questions are asked of one place at one look: two seconds of its reads, so that a halt is noticed meanwhile.
const AT_ONCE: usize = 4;

/// All that is asked, and what was answered.
#[derive(Debug, Default)]
pub struct Survey {
    questions: Vec<Question>,
}

#[derive(Debug)]
struct Question {
    place: Place,
    ecs: Ecs,
    codedeploy: Codedeploy,
    iam: Iam,
    what: What,
    /// What is wrong, each with where in the manifest, once that is known.
    answer: Option<Vec<Wrong>>,
}

/// Where, and what.
type Wrong = (String, String);

/// Whose a family is, and which container it must have.
type Users = Vec<(String, Option<String>)>;

#[derive(Debug, Clone)]
enum What {
    /// A cluster with its services, and what is asked once it is known that it may be asked there.
    Cluster { name: String, environments: Vec<String>, sites: Vec<Site>, then: Vec<What> },
    /// A family.
    Family { name: String, users: Users },
    /// A role that task definitions name, and whose they are.
    Role { role: String, users: Vec<String> },
    /// The groups of a CodeDeploy application.
    Groups { application: String, sites: Vec<(Site, String)> },
}

impl Survey {
    /// Of all that the manifest names.
    pub async fn new(aws: &Aws, manifest: &Manifest) -> Self {
        let mut questions: Vec<Question> = Vec::new();
        let mut families: BTreeMap<Place, IndexMap<String, Users>> = BTreeMap::new();
        let mut uses = |place: Place, family: String, user: String, container: Option<&str>| {
            let of_place = families.entry(place).or_default();
            of_place.entry(family).or_default().push((user, container.map(str::to_owned)));
        };
        for (name, task) in &manifest.tasks {
            for (environment_name, environment) in manifest.environments_of(task.environments.as_ref()) {
                let family = in_environment(&task.family, environment_name);
                let user = format!("{environment_name}/{name}");
                uses(Place::from(environment), family, user, task.container.as_deref());
            }
        }
        for kind in kinds(manifest) {
            let user = kind.place();
            uses(Place::from(kind.environment()), kind.family, user, kind.container.as_deref());
        }
        let mut sites = Vec::new();
        for service in &manifest.services {
            for environment in manifest.environments_of(service.1.environments.as_ref()) {
                let site = Site::new(aws, environment, (service.0, service.1)).await;
                uses(site.place.clone(), site.family(), site.name(), Some(&site.service.container));
                sites.push(site);
            }
        }
        for (environment_name, environment) in &manifest.environments {
            let place = Place::from(environment);
            let here = |one: &Question| {
                one.place == place && matches!(&one.what, What::Cluster { name, .. } if *name == environment.cluster)
            };
            let own = sites.iter().filter(|site| site.environment_name == *environment_name).cloned();
            if let Some(known) = questions.iter_mut().find(|one| here(one)) {
                if let What::Cluster { environments, sites, .. } = &mut known.what {
                    environments.push(environment_name.clone());
                    sites.extend(own);
                }
                continue;
            }
            let families = families.remove(&place).unwrap_or_default().into_iter();
            let what = What::Cluster {
                name: environment.cluster.clone(),
                environments: vec![environment_name.clone()],
                sites: own.collect(),
                then: families.map(|(name, users)| What::Family { name, users }).collect(),
            };
            let (ecs, codedeploy, iam) = (aws.ecs(&place).await, aws.codedeploy(&place).await, aws.iam(&place).await);
            questions.push(Question { place, ecs, codedeploy, iam, what, answer: None });
        }
        Self { questions }
    }

    /// Asks some of what is not answered yet, in every place at once; whether everything is.
    ///
    /// # Errors
    /// The first question that was not answered: look again. Once all are: everything that is wrong, in one verdict.
    pub async fn look(&mut self) -> Result<bool, Error> {
        let mut asked: BTreeMap<&Place, usize> = BTreeMap::new();
        let due = self.questions.iter().enumerate().filter(|(_, one)| one.answer.is_none()).filter(|(_, one)| {
            let asked = asked.entry(&one.place).or_default();
            *asked += 1;
            *asked <= AT_ONCE
        });
        let due: Vec<_> = due.collect();
        let answers = join_all(due.into_iter().map(async |(at, one)| (at, one.ask().await))).await;
        let mut unanswered = None;
        for (at, answer) in answers {
            match answer {
                Ok((wrong, then)) => {
                    self.questions[at].answer = Some(wrong);
                    for what in then {
                        self.ask_after(at, what);
                    }
                }
                Err(error) => drop(unanswered.get_or_insert(error)),
            }
        }
        if let Some(error) = unanswered {
            return Err(error);
        }
        if self.questions.iter().any(|one| one.answer.is_none()) {
            return Ok(false);
        }
        let wrong: Vec<_> = self.questions.iter().filter_map(|one| one.answer.as_ref()).flatten().cloned().collect();
        if wrong.is_empty() { Ok(true) } else { Err(words::do_not_fit(&wrong).into()) }
    }
}

impl Survey {
    /// Adds what is to be asked after the question at this place. A role is asked for once, whatever names it: accounts have their
    /// roles in common for all Regions.
    fn ask_after(&mut self, at: usize, what: What) {
        let Question { place, ecs, codedeploy, iam, .. } = &self.questions[at];
        let new = Question {
            place: place.clone(),
            ecs: ecs.clone(),
            codedeploy: codedeploy.clone(),
            iam: iam.clone(),
            what,
            answer: None,
        };
        if let What::Role { role, users } = &new.what {
            let same = |one: &&mut Question| {
                one.place.role == new.place.role && matches!(&one.what, What::Role { role: known, .. } if known == role)
            };
            if let Some(known) = self.questions.iter_mut().find(same) {
                if let What::Role { users: all, .. } = &mut known.what {
                    all.extend(users.iter().cloned());
                }
                return;
            }
        }
        self.questions.push(new);
    }
}

impl Question {
    /// What is wrong, and what is to be asked after this.
    async fn ask(&self) -> Result<(Vec<Wrong>, Vec<What>), Error> {
        match &self.what {
            What::Cluster { name, environments, sites, then } => {
                let asked = if sites.is_empty() {
                    // Whether it is there, by a question that `run-tasks` asks anyway.
                    let nobodys = Of::Family("cutover");
                    self.ecs.list_tasks(name, nobodys, Half::Running).await.map(|_| BTreeMap::new())
                } else {
                    let mut names: Vec<_> = sites.iter().map(|site| site.ecs_service.clone()).collect();
                    names.sort();
                    names.dedup();
                    self.ecs.services(name, &names).await
                };
                let whose = || environments.join(", ");
                let services = match asked {
                    Ok(services) => services,
                    Err(again @ Error::Again(_)) => return Err(again),
                    // Whoever may not ask this may not ask the rest: it would be said once for each question.
                    Err(Error::Stop(why)) if why.kind == Kind::Permission => {
                        return Ok((vec![(whose(), why.message)], Vec::new()));
                    }
                    Err(Error::Stop(why)) => {
                        let why = words::no_cluster(why, name, &self.place.region);
                        return Ok((vec![(whose(), why.message)], then.clone()));
                    }
                };
                let mut wrong = Vec::new();
                let mut groups: IndexMap<String, Vec<(Site, String)>> = IndexMap::new();
                for site in sites {
                    let Some(seen) = services.get(&site.ecs_service) else {
                        wrong.push((site.name(), words::no_service(site).message));
                        continue;
                    };
                    match deployed_by(site, seen) {
                        Err(why) => wrong.push((site.name(), why.message)),
                        Ok(None) => {}
                        Ok(Some(names)) => {
                            let names = [names.application, names.group];
                            let [application, group] = names.map(|name| in_environment(name, &site.environment_name));
                            groups.entry(application).or_default().push((site.clone(), group));
                        }
                    }
                }
                let groups = groups.into_iter().map(|(application, sites)| What::Groups { application, sites });
                Ok((wrong, then.iter().cloned().chain(groups).collect()))
            }
            What::Family { name, users } => {
                let wrong = |why: &dyn Fn(Option<&str>) -> Option<Verdict>| {
                    let each = users.iter();
                    each.filter_map(|(user, container)| Some((user.clone(), why(container.as_deref())?.message)))
                        .collect()
                };
                match self.ecs.newest(name).await {
                    Err(again @ Error::Again(_)) => Err(again),
                    Err(Error::Stop(why)) => Ok((wrong(&|_| Some(why.clone())), Vec::new())),
                    Ok(definition) => {
                        let names: Vec<_> = definition.containers.iter().map(|one| one.name.as_str()).collect();
                        let users: Vec<_> = users.iter().map(|(user, _)| user.clone()).collect();
                        let roles = definition.roles.into_iter().map(|role| What::Role { role, users: users.clone() });
                        Ok((wrong(&|container| chosen(&names, name, container).err()), roles.collect()))
                    }
                }
            }
            What::Role { role, users } => {
                let seen = match self.iam.role(role).await {
                    // What an older role of an environment may not ask says nothing of what it may give.
                    Ok(Role::Unlisted) if self.place.role.is_some() => Role::Good,
                    Ok(seen) => seen,
                    Err(error) => {
                        warn!(%error, role, "a role was not looked at");
                        Role::Good
                    }
                };
                let why = words::no_role(role, &seen).map(|why| why.message);
                let each = users.iter().filter_map(|user| Some((user.clone(), why.clone()?)));
                Ok((each.collect(), Vec::new()))
            }
            What::Groups { application, sites } => {
                let mut names: Vec<_> = sites.iter().map(|(_, group)| group.clone()).collect();
                names.sort();
                names.dedup();
                let found = match self.codedeploy.groups(application, &names).await {
                    Ok(found) => found,
                    Err(again @ Error::Again(_)) => return Err(again),
                    Err(Error::Stop(why)) => {
                        let whose = sites.iter().map(|(site, _)| (site.name(), why.message.clone()));
                        return Ok((whose.collect(), Vec::new()));
                    }
                };
                let wrong = sites.iter().filter_map(|(site, group)| {
                    let why = match found.get(group) {
                        None => words::no_group(application, group, &self.place.region),
                        Some(seen) => words::group_deploys_it(site, group, &seen.services).err()?,
                    };
                    Some((site.name(), why.message))
                });
                Ok((wrong.collect(), Vec::new()))
            }
        }
    }
}
