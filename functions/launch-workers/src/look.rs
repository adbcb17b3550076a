//! One kind of worker in one environment, looked at until nothing is left to do.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use futures_util::future::join_all;
use serde_json::json;
use shared::aws::Place;
use shared::aws::ecs::Task;
use shared::aws::s3::{Bucket, Object, Written};
use shared::workers::Kind;
use shared::workers::jobs::{Job, Keys, id_of};
use shared::workers::ledger::{Ledger, Place as Worker};
use shared::{Aws, Error, Invocation, Time, Trouble};
use tracing::{error, info, warn};

use crate::decide::{Act, Decided, Left, Observation, Waiting, decide};
use crate::follow::News;
use crate::message;
use crate::metrics::{Counts, emit};
use crate::start::Starts;
use crate::take_in::tell_dead;

/// When less than this is left, no other look begins: the next minute's does.
const LAST_LOOK: Duration = Duration::from_secs(5);

/// The pause after a look that failed.
const PAUSE: Duration = Duration::from_secs(1);

/// The longest pause after another function has written the ledger meanwhile.
const COLLISION: Duration = Duration::from_millis(200);

/// How long it is asked whether a release runs the task: a family may have thousands of tasks, and the rest of the look has its time, too.
const ASKED: Duration = Duration::from_secs(40);

/// How many jobs are read beyond those that there is room for: some of them may have been taken before.
const SPARE: usize = 10;

/// A kind in an environment.
#[derive(Debug)]
pub(crate) struct Look<'a> {
    aws: &'a Aws,
    bucket: &'a Bucket,
    environment: &'a str,
    name: &'a str,
    kind: Option<&'a Kind>,
    keys: Keys,
    counts: Counts,
    starts: Starts<'a>,
    /// The tasks of which it was said how they have ended.
    told: BTreeSet<String>,
}

/// What follows from a look.
enum Then {
    Done,
    LookAgain(Duration),
}

impl<'a> Look<'a> {
    pub(crate) fn new(
        aws: &'a Aws,
        bucket: &'a Bucket,
        environment: &'a str,
        name: &'a str,
        kind: Option<&'a Kind>,
    ) -> Self {
        let keys = Keys::new(environment, name);
        let starts = Starts::new(aws, environment, name);
        let told = BTreeSet::new();
        Self { aws, bucket, environment, name, kind, keys, counts: Counts::default(), starts, told }
    }

    /// Looks and acts until nothing is left to do, or the time is over.
    ///
    /// # Errors
    /// What it could not do.
    pub(crate) async fn follow(mut self, invocation: Invocation) -> Result<(), Error> {
        let mut trouble = Trouble::default();
        let last = loop {
            let now = invocation.clock.now();
            let looked = self.look(now, invocation.left()).await;
            let said = looked.as_ref().err().map(ToString::to_string);
            let pause = match trouble.note(now, looked) {
                Ok(Some(Then::Done)) => break Ok(()),
                Ok(Some(Then::LookAgain(pause))) => pause,
                Ok(None) => PAUSE,
                Err(verdict) => break Err(Error::from(verdict)),
            };
            if invocation.left() < pause + LAST_LOOK {
                break said.map_or(Ok(()), |why| Err(Error::Again(why)));
            }
            tokio::time::sleep(pause).await;
        };
        // What was never seen is not told: it would look as if nothing waited.
        if self.counts.are_noted {
            emit(self.environment, self.name, &self.counts);
        }
        match last {
            Ok(()) => Ok(()),
            Err(Error::Again(why)) if self.counts.are_noted => {
                warn!(environment = self.environment, worker = self.name, why, "the rest waits for the next look");
                Ok(())
            }
            Err(why) => Err(why),
        }
    }

    async fn look(&mut self, now: Time, left: Duration) -> Result<Then, Error> {
        let begun = tokio::time::Instant::now();
        let key = self.keys.ledger();
        let object = self.bucket.get(&key).await?;
        let mut ledger = match &object {
            Some(object) => Ledger::read(&key, &object.body)?,
            None => Ledger::begun(now, fastrand::u64(..)),
        };
        let before = ledger.clone();
        if let Some(kind) = self.kind {
            ledger.role.clone_from(&kind.environment.role);
        }
        let mut refused = Vec::new();
        let due: Vec<_> = before.starts.iter().filter(|start| self.starts.is_due(start, now)).cloned().collect();
        // One that cannot be begun now keeps nothing else from going on, and no number from being told. It is kept: its tasks may run, and
        // only its own token would tell.
        let mut failed = None;
        for start in due {
            // What is not written down would be asked for again, and once its token is forgotten begin something else.
            if left.saturating_sub(begun.elapsed()) < LAST_LOOK {
                if ledger != before {
                    self.write(&key, object.as_ref(), &ledger).await?;
                }
                return Ok(Then::LookAgain(Duration::ZERO));
            }
            if let Err(why) = self.starts.go_on(&mut ledger, &start, now, &mut refused).await {
                failed.get_or_insert(why);
            }
        }
        let tasks = match self.tasks(&ledger).await {
            Ok(tasks) => tasks,
            Err(why) => {
                // What was started is known, whatever can be seen of it: the same start would be asked for until its token is forgotten, and
                // then begin something else.
                if ledger != before {
                    self.write(&key, object.as_ref(), &ledger).await?;
                }
                return Err(why);
            }
        };
        let listed = self.bucket.list(&self.keys.waiting()).await?;
        let mut by_age: Vec<_> = listed.iter().map(|one| (one.modified, one.key.as_str())).collect();
        by_age.sort_unstable();
        let ids: BTreeSet<String> = listed.iter().filter_map(|one| id_of(&one.key)).collect();
        let oldest = self.oldest(&ledger, &by_age).await?;
        let is_released_now = match self.kind {
            Some(kind) if kind.live.is_none() && !oldest.is_empty() => {
                let most = ASKED.min(left.saturating_sub(LAST_LOOK));
                let asked = tokio::time::timeout(most, self.starts.is_of_a_release(kind, now)).await;
                let late = || Error::Again("whether a release runs the task was not answered in time".into());
                let seen = asked.unwrap_or_else(|_| Err(late()));
                // Not knowing, it waits, as long as it may.
                seen.unwrap_or_else(|why| {
                    failed.get_or_insert(why);
                    true
                })
            }
            Some(_) | None => false,
        };
        let seen = Observation { now, kind: self.kind, tasks: &tasks, ids: &ids, oldest: &oldest, is_released_now };
        let Decided { mut acts, news } = decide(&seen, &mut ledger);
        // Of these it is said below, in ECS's own words.
        acts.retain(|act| !matches!(act, Act::Leave { job, .. } if refused.iter().any(|(id, _)| *id == job.id)));
        for act in &acts {
            if let Act::Settle { id } = act {
                self.settle(id, now).await?;
            }
        }
        // Whatever is left to do afterwards is done by whoever has written last.
        let leaves = acts.iter().any(|act| matches!(act, Act::Leave { .. })) || !refused.is_empty();
        // A worker that runs was given a job: that it waits no longer is said once that is written.
        let is_settled = |id: &String| acts.contains(&Act::Settle { id: id.clone() });
        let given = ledger.places.iter().filter(|place| place.started.is_some()).filter_map(|place| place.job.as_ref());
        // One that was given a job in this look takes it, or is seen to be dead, when ECS has shown it: the next minute's look says so.
        let mut given = given.filter(|job| now.since(job.since) >= shared::aws::SHOWN);
        let gives = given.any(|job| ids.contains(&job.id) && !is_settled(&job.id));
        if ledger != before || leaves {
            let written = self.write(&key, object.as_ref(), &ledger).await;
            if written.is_err() {
                // Better twice than never: it may be written, and then nobody knows it any more.
                news.iter().for_each(|one| self.tell(one));
            }
            if !written? {
                let pause = u64::try_from(COLLISION.as_millis()).unwrap_or(1);
                return Ok(Then::LookAgain(Duration::from_millis(fastrand::u64(1..=pause))));
            }
            let new = ledger.starts.iter().filter(|start| !before.starts.contains(start));
            self.starts.own.extend(new.map(|start| start.number));
            let was_known = |place: &&Worker| before.places.iter().any(|known| known.task == place.task);
            self.counts.started += ledger.places.iter().filter(|one| one.task.is_some() && !was_known(one)).count();
        }
        for one in &news {
            self.tell(one);
        }
        // One that cannot be left keeps nobody from being started; where nothing answers, the next look goes on.
        let mut to_leave = Vec::new();
        for act in acts {
            if let Act::Leave { job, why } = act {
                to_leave.push((job, why));
            }
        }
        for (id, why) in refused {
            to_leave.extend(self.job(&id).await?.map(|job| (job, Left::Impossible(why))));
        }
        for (job, why) in to_leave {
            match self.leave(&job, &why, now).await {
                Ok(()) => {}
                Err(stop @ Error::Stop(_)) => drop(failed.get_or_insert(stop)),
                Err(again @ Error::Again(_)) => {
                    failed = Some(again);
                    break;
                }
            }
        }
        self.counts.note(&ledger, &ids, by_age.first().map(|(since, _)| now.since(*since)));
        let goes_on = ledger.starts.iter().any(|start| self.starts.goes_on(start));
        match failed {
            // Until nothing else is left to do.
            Some(Error::Stop(_)) if goes_on => {}
            Some(why) => return Err(why),
            None => {}
        }
        Ok(if goes_on || leaves || gives { Then::LookAgain(Duration::ZERO) } else { Then::Done })
    }

    /// Writes the ledger over what was read of it; `false` when somebody else has done so before.
    ///
    /// Safe to repeat: it is written over what was read, and what stands there may be its own, when the answer to the first try was lost.
    async fn write(&self, key: &str, object: Option<&Object>, ledger: &Ledger) -> Result<bool, Error> {
        let content = ledger.written(fastrand::u64(..));
        let written = match object {
            Some(object) => self.bucket.replace(key, content.clone(), &object.etag).await?,
            None => self.bucket.create(key, content.clone()).await?,
        };
        Ok(written != Written::Refused || self.bucket.get(key).await?.is_some_and(|there| there.body == content))
    }

    /// The tasks of the ledger's places, as far as ECS shows them: those of a release before may be in another cluster than the
    /// released kind's.
    async fn tasks(&self, ledger: &Ledger) -> Result<BTreeMap<String, Task>, Error> {
        let mut by_cluster: BTreeMap<(String, String), Vec<String>> = BTreeMap::new();
        for arn in ledger.places.iter().filter_map(|place| place.task.clone()) {
            // arn:aws:ecs:REGION:ACCOUNT:task/CLUSTER/ID
            let region = arn.split(':').nth(3).unwrap_or_default().to_owned();
            let cluster = arn.split('/').nth(1).unwrap_or_default().to_owned();
            by_cluster.entry((region, cluster)).or_default().push(arn);
        }
        let role = self.kind.map_or_else(|| ledger.role.clone(), |kind| kind.environment.role.clone());
        // Those of a release before may be in another account than its role is now for, or in a cluster that it may not see.
        let account_of = |arn: &str| arn.split(':').nth(4).map(str::to_owned);
        let current =
            self.kind.map(|kind| (account_of(&kind.definition), shared::aws::ecs::id(&kind.environment.cluster)));
        let account =
            current.as_ref().map_or_else(|| role.as_deref().and_then(account_of), |(account, _)| account.clone());
        let is_elsewhere = |cluster: &str, arns: &[String]| {
            let of_task = arns.first().and_then(|arn| account_of(arn));
            let is_other_cluster = current.as_ref().is_some_and(|(_, current)| *current != cluster);
            is_other_cluster || (account.is_some() && of_task != account)
        };
        let looked = join_all(by_cluster.into_iter().map(async |((region, cluster), arns)| {
            let ecs = self.aws.ecs(&Place { region, role: role.clone() }).await;
            match ecs.describe_tasks(&cluster, &arns).await {
                // One that is gone shows none, and keeps nobody else's from being seen.
                Err(Error::Stop(why))
                    if why.message.contains("ClusterNotFoundException") || is_elsewhere(&cluster, &arns) =>
                {
                    warn!(cluster, why = why.message, "workers of a release before cannot be seen any more");
                    Ok(Vec::new())
                }
                described => described,
            }
        }))
        .await;
        let tasks = looked.into_iter().collect::<Result<Vec<_>, _>>()?;
        Ok(tasks.into_iter().flatten().map(|task| (task.arn.clone(), task)).collect())
    }

    /// The jobs that have waited longest and have no place yet: as many as there may be room for.
    async fn oldest(&self, ledger: &Ledger, by_age: &[(Time, &str)]) -> Result<Vec<Waiting>, Error> {
        let most = self.kind.map_or(usize::MAX, |kind| usize::try_from(kind.most).unwrap_or(usize::MAX));
        let idle = ledger.places.iter().filter(|place| place.job.is_none()).count();
        let room = most.saturating_sub(ledger.places.len()).saturating_add(idle).saturating_add(SPARE);
        let held: BTreeSet<&str> =
            ledger.places.iter().filter_map(|place| place.job.as_ref()).map(|job| job.id.as_str()).collect();
        let unheld = by_age.iter().filter_map(|(_, key)| id_of(key)).filter(|id| !held.contains(id.as_str()));
        let ids: Vec<String> = unheld.take(room.min(LARGEST_LOOK)).collect();
        let mut oldest = Vec::new();
        for some in ids.chunks(AT_ONCE) {
            let read = join_all(some.iter().map(async |id| {
                // After the ledger was read: whoever has given up a place has said before that its job is taken.
                let taken = self.bucket.get(&self.keys.taken(id)).await?.is_some();
                Ok::<_, Error>(self.job(id).await?.map(|job| Waiting { job, taken }))
            }))
            .await;
            for one in read {
                oldest.extend(one?);
            }
        }
        Ok(oldest)
    }

    /// A job that waits; none when somebody has taken it meanwhile.
    async fn job(&self, id: &str) -> Result<Option<Job>, Error> {
        let key = self.keys.job(id);
        let Some(object) = self.bucket.get(&key).await? else { return Ok(None) };
        match serde_json::from_slice(&object.body) {
            Ok(job) => Ok(Some(job)),
            Err(error) => {
                error!(key, %error, "a job cannot be read; it is left where it is");
                Ok(None)
            }
        }
    }

    /// A job waits no longer: first it is said that it was taken, for its message may come again.
    ///
    /// Safe to repeat: nothing is written twice, and what is gone is gone.
    async fn settle(&self, id: &str, now: Time) -> Result<(), Error> {
        let content = json!({"id": id, "at": now.to_string()});
        self.bucket.create(&self.keys.taken(id), content.to_string().into_bytes()).await?;
        self.bucket.delete(&self.keys.job(id)).await
    }

    /// Nobody works on a job: people are told, then it waits no longer. One that could not be done may be sent again when the reason is
    /// gone, as it is: nobody has worked on it.
    ///
    /// Safe to repeat: at worst, people are told twice.
    async fn leave(&mut self, job: &Job, why: &Left, now: Time) -> Result<(), Error> {
        let said = message::left(job, why);
        match why {
            Left::Taken => info!(
                environment = self.environment,
                worker = self.name,
                job = job.id,
                "this job had its worker already"
            ),
            Left::Skipped => self.counts.skipped += 1,
            Left::Missed => self.counts.missed += 1,
            Left::Impossible(_) => {
                let body = job.to_send_again();
                tell_dead(self.aws, &body, said.as_deref().unwrap_or_default()).await?;
                self.counts.impossible += 1;
            }
        }
        if let Some(said) = said {
            warn!(environment = self.environment, worker = self.name, "{said}");
        }
        match why {
            Left::Impossible(_) => self.bucket.delete(&self.keys.job(&job.id)).await,
            Left::Taken | Left::Skipped | Left::Missed => self.settle(&job.id, now).await,
        }
    }

    /// Says it, once.
    fn tell(&mut self, news: &News) {
        let (News::Done { task, .. } | News::Failed { task, .. } | News::NotStarted { task, .. }) = news;
        if !self.told.insert(task.clone()) {
            return;
        }
        let said = message::news(self.environment, self.name, news);
        match news {
            News::Done { .. } => info!(environment = self.environment, worker = self.name, "{said}"),
            News::Failed { .. } => {
                self.counts.failed += 1;
                warn!(environment = self.environment, worker = self.name, "{said}");
            }
            News::NotStarted { .. } => {
                self.counts.not_started += 1;
                warn!(environment = self.environment, worker = self.name, "{said}");
            }
        }
    }
}

/// The most jobs that one look reads: each is two reads.
const LARGEST_LOOK: usize = 100;

/// How many of them at once.
const AT_ONCE: usize = 20;
