//! How an action begins and ends, whatever it is: a job for a function, a source, a build, an approval (facts 1 to 10, 55).

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};

use super::{ActionExecution, ActionStatus, Artifact};
use crate::template::{self, Action};
use crate::world::jobs::JobStatus;
use crate::world::{Effect, Made, Timer, World};

/// How long an approval waits unless the action says otherwise (fact 14).
const APPROVAL: Duration = Duration::from_secs(7 * 24 * 3600);

impl World {
    pub(super) fn begin_action(&mut self, execution: &str, stage: usize, at: usize) {
        let id = self.uuid();
        let pipeline = self.pipeline.of(execution);
        let action = self.pipeline.declared[pipeline].stages[stage].actions[at].clone();
        let resolved = self.resolve(execution, &action);
        self.pipeline.actions.push(ActionExecution {
            id: id.clone(),
            execution: execution.to_owned(),
            pipeline,
            stage,
            action: at,
            status: ActionStatus::InProgress,
            started: self.now,
            updated: self.now,
            configuration: resolved.clone().unwrap_or_default(),
            summary: None,
            percent: None,
            external_id: None,
            error: None,
            token: None,
            variables: BTreeMap::new(),
        });
        self.tell_action(&id);
        if let Err(why) = resolved {
            return self.fail_action(&id, "ConfigurationError", &why);
        }
        let kind = &action.action_type_id;
        match (kind.owner.as_str(), kind.category.as_str()) {
            ("AWS", "Source") if kind.provider == "S3" => self.fetch_object(&id),
            ("AWS", "Source") => self.effects.push(Effect::FetchSource { action: id }),
            ("AWS", "Build") => {
                let revision = self.pipeline.execution(execution).and_then(|one| one.revision.clone());
                let commit = revision.map(|made| made.revision).unwrap_or_default();
                self.effects.push(Effect::Build { action: id, commit });
            }
            ("AWS", "Approval") => {
                let token = self.uuid();
                if let Some(one) = self.pipeline.action_mut(&id) {
                    one.token = Some(token);
                }
                let wait = action.timeout_in_minutes.map_or(APPROVAL, |minutes| Duration::from_secs(60 * minutes));
                self.after(wait, Timer::Approval(id));
            }
            _ => self.create_job(&id, None, Duration::ZERO),
        }
    }

    /// The configuration with its `#{namespace.variable}` replaced.
    fn resolve(&self, execution: &str, action: &Action) -> Result<BTreeMap<String, String>, String> {
        let one = self.pipeline.execution(execution);
        let value = |name: &str| match name.split_once('.') {
            Some(("codepipeline", "PipelineExecutionId")) => Some(execution.to_owned()),
            Some((namespace, variable)) => one?.variables.get(namespace)?.get(variable).cloned(),
            None => None,
        };
        let mut resolved = BTreeMap::new();
        for (name, raw) in &action.configuration {
            let raw = raw.as_str().map_or_else(|| raw.to_string(), str::to_owned);
            let mut text = String::new();
            let mut rest = raw.as_str();
            while let Some(begin) = rest.find("#{") {
                let end = rest[begin..].find('}').map_or(rest.len(), |end| begin + end);
                let variable = &rest[begin + 2..end];
                let found = value(variable);
                text.push_str(&rest[..begin]);
                text.push_str(
                    &found.ok_or_else(|| format!("The variable #{{{variable}}} in {name} cannot be resolved."))?,
                );
                rest = rest.get(end + 1..).unwrap_or_default();
            }
            text.push_str(rest);
            resolved.insert(name.clone(), text);
        }
        Ok(resolved)
    }

    /// Where an action's artifacts are, as `ListActionExecutions` shows them.
    pub(in crate::world) fn shown_artifacts(&self, one: &ActionExecution, named: &[template::Named]) -> Value {
        let artifacts = self.pipeline.execution(&one.execution).map(|execution| &execution.artifacts);
        let shown = named.iter().filter_map(|named| {
            let found = artifacts?.get(&named.name)?;
            let bucket = &self.pipeline.declared_of(one).artifact_store.location;
            Some(json!({"name": named.name, "s3location": {"bucket": bucket, "key": found.key}}))
        });
        shown.collect::<Vec<_>>().into()
    }

    pub(in crate::world) fn fail_action(&mut self, id: &str, code: &str, message: &str) {
        if let Some(one) = self.pipeline.action_mut(id) {
            one.error = Some((code.to_owned(), message.to_owned()));
        }
        self.end_action(id, ActionStatus::Failed);
    }

    /// An action has ended: when it was the last of its run order, the execution moves on.
    pub(in crate::world) fn end_action(&mut self, id: &str, status: ActionStatus) {
        let now = self.now;
        let Some(one) = self.pipeline.action_mut(id).filter(|one| one.status == ActionStatus::InProgress) else {
            return;
        };
        one.status = status;
        one.updated = now;
        let (execution, stage) = (one.execution.clone(), one.stage);
        let variables = one.variables.clone();
        for job in self.pipeline.jobs.values_mut().filter(|job| job.action == id) {
            job.status = JobStatus::Over;
        }
        self.tell_action(id);
        if status == ActionStatus::Succeeded {
            let namespace = self.pipeline.action(id).and_then(|one| self.pipeline.action_of(one).namespace.clone());
            if let (Some(namespace), Some(one)) = (namespace, self.pipeline.execution_mut(&execution)) {
                one.variables.insert(namespace, variables);
            }
        }
        if status != ActionStatus::Abandoned {
            self.after_action(&execution, stage);
        }
    }

    pub(in crate::world) fn approval_timed_out(&mut self, id: &str) {
        self.fail_action(id, "TimeoutError", "The approval was not given in time.");
    }

    /// A source or build action has ended.
    pub(in crate::world) fn worked(&mut self, id: &str, result: Result<Made, String>) {
        let Some(one) = self.pipeline.action(id).filter(|one| one.status == ActionStatus::InProgress).cloned() else {
            return;
        };
        let made = match result {
            Ok(made) => made,
            Err(why) => return self.fail_action(id, "JobFailed", &why),
        };
        let action = self.pipeline.action_of(&one).clone();
        let bucket = self.pipeline.declared_of(&one).artifact_store.location.clone();
        for output in &action.output_artifacts {
            let unique = self.hex();
            let key = format!("{}/{}/{}", self.pipeline.declared_of(&one).name, output.name, &unique[..7]);
            self.s3.put(&bucket, &key, made.artifact.clone(), self.now);
            if let Some(execution) = self.pipeline.execution_mut(&one.execution) {
                let artifact = Artifact { key, revision: made.revision.clone() };
                execution.artifacts.insert(output.name.clone(), artifact);
            }
        }
        if action.action_type_id.category == "Source"
            && let Some(execution) = self.pipeline.execution_mut(&one.execution)
        {
            execution.revision = Some(Made { artifact: Vec::new(), ..made.clone() });
        }
        if let Some(one) = self.pipeline.action_mut(id) {
            one.summary = Some(made.summary);
            one.variables = made.variables;
        }
        self.end_action(id, ActionStatus::Succeeded);
    }

    /// A source action of S3's: what its key leads to, or the one that was given at the start (fact 55).
    fn fetch_object(&mut self, id: &str) {
        let Some(one) = self.pipeline.action(id).cloned() else { return };
        let name = self.pipeline.action_of(&one).name.clone();
        let setting = |name: &str| one.configuration.get(name).cloned().unwrap_or_default();
        let given =
            self.pipeline.execution(&one.execution).and_then(|execution| execution.overrides.get(&name).cloned());
        let (bucket, key) = (setting("S3Bucket"), given.unwrap_or_else(|| setting("S3ObjectKey")));
        let result = match self.s3.content(&bucket, &key) {
            Some((artifact, etag)) => Ok(Made {
                artifact,
                revision: etag.clone(),
                summary: format!("Amazon S3 version id: {etag}"),
                variables: [("BucketName", bucket), ("ObjectKey", key), ("ETag", etag)]
                    .map(|(name, value)| (name.to_owned(), value))
                    .into(),
            }),
            None => Err(format!(
                "The specified S3 object {key} in bucket {bucket} cannot be read: make sure that it exists and that the role may read it."
            )),
        };
        self.worked(id, result);
    }
}
