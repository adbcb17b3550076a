//! What CloudWatch counts of a release: see docs/releases.md, and `shared::metrics` for how.

use shared::Time;
use shared::metrics::{Unit, metrics};
use shared::record::{Record, Step};

/// Metrics with the same dimensions.
struct Told<'a> {
    dimensions: Vec<(&'static str, &'a str)>,
    values: Vec<(&'static str, Unit, f64)>,
}

/// Tells CloudWatch of a release whose record was written; `others` are the records before, the newest first, and `earlier` is the
/// record of an end that it had come to before it was tried again.
///
/// Should the function die right before it, the release is not counted: its record is what counts.
pub(crate) fn tell(record: &Record, others: &[Record], earlier: Option<&Record>) {
    for told in told(record, others, earlier) {
        metrics(record.ended, &told.dimensions, &told.values);
    }
}

/// When the traffic was on the new version everywhere.
fn traffic(record: &Record) -> Option<Time> {
    record.deployments().map(|step| step.ended).max()
}

fn told<'a>(record: &'a Record, others: &[Record], earlier: Option<&Record>) -> Vec<Told<'a>> {
    let pipeline = ("Pipeline", record.pipeline.as_str());
    // A release is counted once, however often it ends: what is told of a later end is the difference to the earlier one.
    let count = |of: &dyn Fn(&Record) -> bool| {
        f64::from(u8::from(of(record))) - earlier.map_or(0.0, |earlier| f64::from(u8::from(of(earlier))))
    };
    let is_deployed = |one: &Record| traffic(one).is_some();
    let mut values = vec![
        ("Releases", Unit::Count, count(&|_| true)),
        ("Failed", Unit::Count, count(&|one| !one.has_succeeded())),
        ("Deployed", Unit::Count, count(&is_deployed)),
        ("WentBack", Unit::Count, count(&|one| one.back && is_deployed(one))),
    ];
    let is_new = !earlier.is_some_and(is_deployed);
    if let Some(traffic) = traffic(record).filter(|_| is_new) {
        let took = traffic.since(record.began).as_secs_f64();
        values.push((if record.back { "WayBack" } else { "MergeToTraffic" }, Unit::Seconds, took));
        let bad = others.iter().filter(|one| !one.back).filter_map(self::traffic).filter(|at| *at < traffic).max();
        if let Some(bad) = bad.filter(|_| record.back) {
            values.push(("TimeToRestore", Unit::Seconds, traffic.since(bad).as_secs_f64()));
        }
    }
    let mut all = vec![Told { dimensions: vec![pipeline], values }];
    let is_told = |step: &&Step| earlier.is_none_or(|earlier| step.began > earlier.ended);
    let mut stages: Vec<(&str, Time, Time)> = Vec::new();
    for step in record.actions.iter().filter(is_told) {
        match stages.iter_mut().find(|(name, ..)| *name == step.stage) {
            Some((_, began, ended)) => (*began, *ended) = ((*began).min(step.began), (*ended).max(step.ended)),
            None => stages.push((&step.stage, step.began, step.ended)),
        }
    }
    all.extend(stages.into_iter().map(|(stage, began, ended)| Told {
        dimensions: vec![pipeline, ("Stage", stage)],
        values: vec![("StageTime", Unit::Seconds, ended.since(began).as_secs_f64())],
    }));
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    fn release(back: bool, began: u64, traffic: Option<u64>) -> Record {
        let at = |seconds: u64| Time::from_millis(seconds * 1000);
        let ended = at(traffic.unwrap_or(began + 100));
        let deploy = Step {
            stage: "Deploy".into(),
            action: "Deploy".into(),
            began: at(began),
            ended,
            status: if traffic.is_some() { "Succeeded" } else { "Failed" }.into(),
            ..Step::default()
        };
        let status = deploy.status.clone();
        Record {
            pipeline: "p".into(),
            back,
            status,
            began: at(began),
            ended,
            actions: vec![deploy],
            ..Record::default()
        }
    }

    fn value(told: &[Told<'_>], name: &str) -> Option<f64> {
        let values = told.iter().flat_map(|one| &one.values);
        values.into_iter().find(|(one, ..)| *one == name).map(|(.., value)| *value)
    }

    #[test]
    fn a_way_back_is_counted_with_how_long_the_bad_release_had_the_traffic() {
        let back = release(true, 500, Some(530));
        let told = told(&back, &[release(false, 0, Some(100))], None);
        for (name, expected) in [("WentBack", 1.0), ("Failed", 0.0), ("WayBack", 30.0), ("TimeToRestore", 430.0)] {
            assert_eq!(value(&told, name), Some(expected), "{name}");
        }
        assert_eq!(told[1].dimensions, [("Pipeline", "p"), ("Stage", "Deploy")]);
        assert_eq!(value(&told, "StageTime"), Some(30.0));
        let out = release(false, 0, Some(100));
        let told = super::told(&out, &[], None);
        assert_eq!((value(&told, "MergeToTraffic"), value(&told, "TimeToRestore")), (Some(100.0), None));
    }

    #[test]
    fn a_release_that_is_tried_again_after_its_end_is_counted_once() {
        let failed = release(false, 0, None);
        let mut again = release(false, 200, Some(300));
        again.began = failed.began;
        again.actions.insert(0, failed.actions[0].clone());
        let told = told(&again, &[], Some(&failed));
        for (name, expected) in [("Releases", 0.0), ("Failed", -1.0), ("Deployed", 1.0), ("MergeToTraffic", 300.0)] {
            assert_eq!(value(&told, name), Some(expected), "{name}");
        }
        assert_eq!(value(&told, "StageTime"), Some(100.0), "of its second try alone");
        let finished = Record { ended: Time::from_millis(400_000), ..again.clone() };
        let told = super::told(&finished, &[], Some(&again));
        assert_eq!((value(&told, "Deployed"), value(&told, "MergeToTraffic")), (Some(0.0), None));
    }
}
