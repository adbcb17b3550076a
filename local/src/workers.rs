//! What people see of workers that are started one by one: which run, for which jobs and since when, which wait, what was
//! released, and when something runs by the clock next.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use shared::aws::{Settings, WorkerSettings};
use shared::text::plain;
use shared::time::spoken;
use shared::workers::jobs::{Keys, id_of};
use shared::workers::ledger::{Ledger, Place};
use shared::workers::{Kind, Known, Planned, Pointers, Released};
use shared::{Aws, Error, Time};

use crate::{Mistake, clock};

/// What there is to be seen of a kind in an environment.
#[derive(Debug)]
struct Seen {
    places: Vec<Place>,
    /// The jobs that have no worker, with since when the oldest waits.
    waiting: usize,
    oldest: Option<Time>,
    no_room: Option<String>,
}

/// What there is of a stack's workers, in the account whose credentials the environment has.
///
/// # Errors
/// What could not be asked.
pub(crate) async fn shown(stack: &str) -> Result<String, Mistake> {
    let workers = WorkerSettings {
        pointers: format!("/cutover/{stack}/workers"),
        schedules: String::new(),
        jobs: String::new(),
        scheduler_role: String::new(),
        dead_letters: String::new(),
    };
    let config = crate::cloud::configured().await?.config().clone();
    let aws = Aws::new(&config, Settings { workers: Some(workers), ..Settings::default() });
    crate::verify::somebody_asks(&aws).await?;
    let found = look(&aws, stack).await.map_err(|error| Mistake(error.message().to_owned()))?;
    found.ok_or_else(|| {
        Mistake(format!("There is no stack `{stack}` in {}, or it has no workers: name it with --stack.", aws.region()))
    })
}

async fn look(aws: &Aws, stack: &str) -> Result<Option<String>, Error> {
    let parameter = format!("/cutover/{stack}/bucket");
    let bucket = aws.parameters(&format!("/cutover/{stack}")).await?.remove(&parameter);
    let Some((bucket, pointers)) = bucket.zip(Pointers::new(aws)) else { return Ok(None) };
    let bucket = aws.bucket(&bucket);
    let known = pointers.read().await?;
    let mut seen = BTreeMap::new();
    for place in known.kinds.keys() {
        let keys = Keys::new(&place.0, &place.1);
        let ledger = match bucket.get(&keys.ledger()).await? {
            Some(object) => Some(Ledger::read(&keys.ledger(), &object.body)?),
            None => None,
        };
        let held = |id: &str| {
            ledger.iter().flat_map(|one| &one.places).filter_map(|one| one.job.as_ref()).any(|job| job.id == id)
        };
        let listed = bucket.list(&keys.waiting()).await?;
        let waiting: Vec<_> = listed.iter().filter(|one| id_of(&one.key).is_some_and(|id| !held(&id))).collect();
        let no_room = ledger.as_ref().and_then(|one| one.no_room.as_ref()).map(|none| none.why.clone());
        let oldest = waiting.iter().map(|one| one.modified).min();
        let (waiting, places) = (waiting.len(), ledger.map(|one| one.places).unwrap_or_default());
        seen.insert(place.clone(), Seen { places, waiting, oldest, no_room });
    }
    Ok(Some(told(&known, &seen, Time::of_system())))
}

/// In words.
fn told(known: &Known, seen: &BTreeMap<(String, String), Seen>, now: Time) -> String {
    if known.kinds.is_empty() {
        return "No release of this stack has brought any worker yet.".into();
    }
    let mut text = String::new();
    for ((environment, name), released) in &known.kinds {
        let Some(Seen { places, waiting, oldest, no_room }) = seen.get(&(environment.clone(), name.clone())) else {
            continue;
        };
        let busy = places.iter().filter(|place| place.job.is_some()).count();
        let most = released.what.as_ref().map_or_else(|| "0".to_owned(), |kind| kind.most.to_string());
        let _ = writeln!(text, "{environment}/{name}: {}", version(released));
        let _ = writeln!(text, "  {} of {most} run: {busy} busy, {} idle", places.len(), places.len() - busy);
        for place in places.iter().filter(|place| place.job.is_some()) {
            let _ = writeln!(text, "    {}", busy_with(place, now));
        }
        if *waiting > 0 {
            let since = oldest.map(|oldest| spoken(now.since(oldest))).unwrap_or_default();
            let _ = writeln!(text, "  {waiting} wait, the oldest for {since}");
        }
        if let Some(why) = no_room {
            let _ = writeln!(text, "  none can be started at the moment: {}", plain(why));
        }
    }
    for (environment, released) in &known.schedules {
        for planned in released.what.iter().flatten() {
            let _ = writeln!(text, "{}", by_clock(environment, planned, now));
        }
    }
    text.trim_end().to_owned()
}

/// "shop-work:7, released by ...".
fn version(released: &Released<Kind>) -> String {
    let by = format!("released by {}", plain(&released.execution));
    match &released.what {
        Some(kind) => format!("{}, {by}", shared::aws::ecs::id(&kind.definition)),
        None => "no more in the release; those that run go on".into(),
    }
}

fn busy_with(place: &Place, now: Time) -> String {
    let task = place.task.as_deref().map_or("a task that is being started", shared::aws::ecs::id);
    let revision = shared::aws::ecs::id(&place.definition);
    match &place.job {
        Some(job) => {
            let what = match &job.schedule {
                Some(schedule) => format!("by the clock, `{}`", plain(schedule)),
                None => format!("job {}", plain(&job.id)),
            };
            format!("{task} of {revision}: {what}, for {}", spoken(now.since(job.since)))
        }
        None => format!("{task} of {revision}: idle"),
    }
}

fn by_clock(environment: &str, planned: &Planned, now: Time) -> String {
    let next = match clock::next(&planned.expression, &planned.zone, now) {
        Ok(Some(next)) => format!("next at {next}"),
        Ok(None) => "never again".into(),
        Err(why) => why,
    };
    format!("{environment}, `{}` by the clock: starts {}, {next}", planned.name, planned.starts)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use shared::Manifest;
    use shared::job::Release;
    use shared::workers::ledger::Held;
    use shared::workers::{kinds, plan};

    use super::*;

    /// 2023-11-14T22:13:20Z.
    const NOW: Time = Time::from_millis(1_700_000_000_000);

    #[test]
    fn what_runs_waits_and_comes_next_is_said_by_environment_and_kind() {
        let manifest = Manifest::read(
            "deploy.yaml",
            "\
application: shop
environments: {us: {region: us-east-1, cluster: shop}}
workers:
  exports: {family: shop-export, most: 3}
  old: {family: shop-export}
schedules:
  nightly: {cron: 0 3 * * *, worker: exports, time_zone: Europe/Berlin}
",
        )
        .unwrap();
        let release = Release { pipeline: "p".into(), execution: "e-1".into(), stage: None, action: None, attempt: 1 };
        let mut known = Known::default();
        for kind in kinds(&manifest) {
            let place = (kind.environment_name.clone(), kind.name.clone());
            let what = (kind.name != "old").then(|| kind.registered("arn:x/shop-export:7".into(), "shop".into()));
            known.kinds.insert(place, Released::by(&release, "k", what));
        }
        let (environment, schedules) = plan(&manifest).remove(0);
        known.schedules.insert(environment, Released::by(&release, "k", Some(schedules)));
        let ago = |seconds| NOW.before(Duration::from_secs(seconds));
        let place = |job: Option<&str>| Place {
            start: 0,
            asked: ago(250),
            unseen: None,
            container: None,
            definition: "arn:x/shop-export:6".into(),
            task: Some("arn:x/t-1".into()),
            started: Some(ago(245)),
            job: job.map(|id| Held { id: id.into(), since: ago(250), schedule: None }),
        };
        let none = || Seen { places: Vec::new(), waiting: 0, oldest: None, no_room: None };
        let seen = [
            (
                ("us".to_owned(), "exports".to_owned()),
                Seen {
                    places: vec![place(Some("17")), place(None)],
                    waiting: 2,
                    oldest: Some(ago(65)),
                    no_room: Some("RESOURCE:CPU".into()),
                },
            ),
            (("us".to_owned(), "old".to_owned()), none()),
        ];
        let expected = "\
us/exports: shop-export:7, released by e-1
  2 of 3 run: 1 busy, 1 idle
    t-1 of shop-export:6: job 17, for 4 min 10 s
  2 wait, the oldest for 1 min 05 s
  none can be started at the moment: RESOURCE:CPU
us/old: no more in the release; those that run go on
  0 of 0 run: 0 busy, 0 idle
us, `nightly` by the clock: starts exports, next at 2023-11-15T02:00:00Z";
        assert_eq!(told(&known, &seen.into(), NOW), expected);
        assert!(told(&Known::default(), &BTreeMap::new(), NOW).starts_with("No release"));
    }
}
