//! What CodePipeline shows of pipelines, their state, executions and actions.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::OfExecution;
use crate::world::ecs::stamp;
use crate::world::pipeline::{ActionExecution, ActionStatus};
use crate::world::{Fault, World};

impl World {
    pub(super) fn shown_execution(&self, id: &str, whole: bool) -> Value {
        let Some(one) = self.pipeline.execution(id) else { return Value::Null };
        let revision = one.revision.as_ref();
        let declared = &self.pipeline.declared[one.pipeline];
        let source = declared.stages.first().and_then(|stage| stage.actions.first());
        let mut shown = json!({
            "pipelineExecutionId": one.id, "status": self.status_shown(id, one.status).name(), "statusSummary": one.summary,
            "trigger": {"triggerType": "StartPipelineExecution", "triggerDetail": "local"},
            "executionMode": mode_name(declared.execution_mode),
        });
        if whole {
            shown["pipelineName"] = json!(declared.name);
            shown["pipelineVersion"] = json!(1);
            shown["artifactRevisions"] = revision.map_or(json!([]), |made| {
                json!([{"name": source.and_then(|action| action.output_artifacts.first()).map(|named| named.name.clone()),
                    "revisionId": made.revision, "revisionSummary": made.summary}])
            });
        } else {
            shown["startTime"] = stamp(one.started);
            shown["lastUpdateTime"] = stamp(one.updated);
            if let Some(reason) = &one.stop_reason {
                shown["stopTrigger"] = json!({"reason": reason});
            }
            shown["sourceRevisions"] = revision.map_or(json!([]), |made| {
                json!([{"actionName": source.map(|action| action.name.clone()), "revisionId": made.revision,
                    "revisionSummary": made.summary}])
            });
        }
        shown
    }

    pub(super) fn pipeline_state(&self, pipeline: usize) -> Value {
        let declared = &self.pipeline.declared[pipeline];
        let stages = declared.stages.iter().enumerate().map(|(at, stage)| {
            let state = &self.pipeline.stages[pipeline][at];
            let latest = state.latest.as_ref();
            let of_action = |(place, action): (usize, &crate::template::Action)| {
                let runs = self.pipeline.actions.iter().rev();
                let newest = runs.into_iter().find(|one| one.pipeline == pipeline && one.stage == at && one.action == place);
                let mut shown = json!({"actionName": action.name});
                if let Some(one) = newest {
                    shown["latestExecution"] = self.shown_run(one);
                }
                shown
            };
            let mut shown = json!({
                "stageName": stage.name,
                "inboundTransitionState": {"enabled": true},
                "inboundExecutions": state.waiting.iter().map(|id| json!({"pipelineExecutionId": id, "status": "InProgress"})).collect::<Vec<_>>(),
                "actionStates": stage.actions.iter().enumerate().map(of_action).collect::<Vec<_>>(),
            });
            if let Some(id) = latest {
                shown["latestExecution"] = json!({"pipelineExecutionId": id, "status": self.stage_status(id, at)});
            }
            shown
        });
        json!({"pipelineName": declared.name, "pipelineVersion": 1, "stageStates": stages.collect::<Vec<_>>()})
    }

    pub(super) fn stage_status(&self, execution: &str, stage: usize) -> &'static str {
        let mut newest = BTreeMap::new();
        for one in self.pipeline.actions.iter().filter(|one| one.execution == execution && one.stage == stage) {
            newest.insert(one.action, one.status);
        }
        let any = |status| newest.values().any(|one| *one == status);
        let total = self.pipeline.declared[self.pipeline.of(execution)].stages[stage].actions.len();
        if any(ActionStatus::InProgress) {
            "InProgress"
        } else if any(ActionStatus::Failed) {
            "Failed"
        } else if any(ActionStatus::Abandoned) {
            "Stopped"
        } else if newest.len() == total {
            "Succeeded"
        } else {
            "InProgress"
        }
    }

    pub(super) fn external_url(&self, one: &ActionExecution) -> Option<String> {
        let action = self.pipeline.action_of(one);
        let template = self.pipeline.type_of(action)?.settings.as_ref()?.execution_url_template.clone()?;
        let mut url = template.replace("{ExternalExecutionId}", one.external_id.as_deref()?);
        for (name, value) in &one.configuration {
            url = url.replace(&format!("{{Config:{name}}}"), value);
        }
        Some(url)
    }

    pub(super) fn shown_run(&self, one: &ActionExecution) -> Value {
        let mut shown =
            json!({"actionExecutionId": one.id, "status": one.status.name(), "lastStatusChange": stamp(one.updated)});
        for (field, value) in [
            ("summary", one.summary.clone().map(Value::from)),
            ("percentComplete", one.percent.map(Value::from)),
            ("externalExecutionId", one.external_id.clone().map(Value::from)),
            ("externalExecutionUrl", self.external_url(one).map(Value::from)),
            ("token", one.token.clone().filter(|_| one.status == ActionStatus::InProgress).map(Value::from)),
            ("errorDetails", one.error.as_ref().map(|(code, message)| json!({"code": code, "message": message}))),
        ] {
            if let Some(value) = value {
                shown[field] = value;
            }
        }
        shown
    }

    pub(super) fn list_action_executions(&self, input: &OfExecution) -> Result<Value, Fault> {
        let pipeline = self.known_pipeline(&input.pipeline_name)?;
        let filter = input.filter.as_ref();
        if filter.is_some_and(|filter| filter.latest_in_pipeline_execution.is_some()) {
            return Err(Fault::unknown("the filter latestInPipelineExecution"));
        }
        let wanted = filter.and_then(|filter| filter.pipeline_execution_id.as_ref());
        let own = self.pipeline.actions.iter().rev().filter(|one| one.pipeline == pipeline);
        let own = own.filter(|one| wanted.is_none_or(|id| one.execution == *id));
        let all: Vec<_> = own.filter_map(|one| self.run_shown(one)).collect();
        let skip: usize = input.next_token.as_ref().and_then(|token| token.parse().ok()).unwrap_or_default();
        let most = input.max_results.unwrap_or(100);
        let shown = all.iter().skip(skip).take(most).map(|one| {
            let action = self.pipeline.action_of(one);
            let kind = &action.action_type_id;
            let mut result = json!({"externalExecutionId": one.external_id, "externalExecutionSummary": one.summary,
                "externalExecutionUrl": self.external_url(one)});
            if let Some((code, message)) = &one.error {
                result["errorDetails"] = json!({"code": code, "message": message});
            }
            json!({
                "pipelineExecutionId": one.execution, "actionExecutionId": one.id, "pipelineVersion": 1,
                "stageName": self.pipeline.stage_of(one).name, "actionName": action.name,
                "startTime": stamp(one.started), "lastUpdateTime": stamp(one.updated), "status": one.status.name(),
                "updatedBy": format!("arn:aws:iam::{}:user/local", self.account),
                "input": {"actionTypeId": {"category": kind.category, "owner": kind.owner, "provider": kind.provider, "version": kind.version},
                    "configuration": action.configuration.iter().map(|(name, value)| (name.clone(), json!(value.as_str().map_or_else(|| value.to_string(), str::to_owned)))).collect::<Map<_, _>>(),
                    "resolvedConfiguration": one.configuration, "region": self.region,
                    "inputArtifacts": self.shown_artifacts(one, &action.input_artifacts),
                    "namespace": action.namespace},
                "output": {"outputArtifacts": self.shown_artifacts(one, &action.output_artifacts), "executionResult": result, "outputVariables": one.variables},
            })
        });
        let mut answer = json!({"actionExecutionDetails": shown.collect::<Vec<_>>()});
        if skip + most < all.len() {
            answer["nextToken"] = (skip + most).to_string().into();
        }
        Ok(answer)
    }

    pub(super) fn shown_pipeline(&self, pipeline: usize) -> Value {
        let declared = &self.pipeline.declared[pipeline];
        let stages = declared.stages.iter().map(|stage| {
            let actions = stage.actions.iter().map(|action| {
                let kind = &action.action_type_id;
                let names = |all: &[crate::template::Named]| all.iter().map(|one| json!({"name": one.name})).collect::<Vec<_>>();
                json!({"name": action.name, "runOrder": action.run_order, "configuration": action.configuration,
                    "actionTypeId": {"category": kind.category, "owner": kind.owner, "provider": kind.provider, "version": kind.version},
                    "inputArtifacts": names(&action.input_artifacts), "outputArtifacts": names(&action.output_artifacts),
                    "namespace": action.namespace})
            });
            json!({"name": stage.name, "actions": actions.collect::<Vec<_>>()})
        });
        json!({"pipeline": {"name": declared.name, "roleArn": declared.role_arn, "version": 1,
            "pipelineType": declared.pipeline_type, "executionMode": mode_name(declared.execution_mode),
            "artifactStore": {"type": declared.artifact_store.r#type, "location": declared.artifact_store.location},
            "stages": stages.collect::<Vec<_>>()}})
    }
}

fn mode_name(mode: crate::template::ExecutionMode) -> &'static str {
    match mode {
        crate::template::ExecutionMode::Superseded => "SUPERSEDED",
        crate::template::ExecutionMode::Queued => "QUEUED",
        crate::template::ExecutionMode::Parallel => "PARALLEL",
    }
}
