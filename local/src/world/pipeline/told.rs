//! What CodePipeline tells EventBridge: every change of an execution, a stage and an action.

use serde_json::json;

use super::ExecutionStatus;
use crate::world::World;

impl World {
    pub(super) fn tell_pipeline(&mut self, execution: &str, status: ExecutionStatus) {
        let pipeline = self.pipeline.of(execution);
        let detail = json!({"pipeline": self.pipeline.declared[pipeline].name, "execution-id": execution,
            "state": status.event(), "version": 1.0});
        self.emit(pipeline, "CodePipeline Pipeline Execution State Change", detail);
    }

    pub(super) fn tell_stage(&mut self, execution: &str, stage: usize, state: &str) {
        let pipeline = self.pipeline.of(execution);
        let declared = &self.pipeline.declared[pipeline];
        let detail = json!({"pipeline": declared.name, "execution-id": execution, "stage": declared.stages[stage].name,
            "state": state, "version": 1.0});
        self.emit(pipeline, "CodePipeline Stage Execution State Change", detail);
    }

    pub(super) fn tell_action(&mut self, id: &str) {
        let Some(one) = self.pipeline.action(id) else { return };
        let action = self.pipeline.action_of(one);
        let kind = &action.action_type_id;
        let pipeline = one.pipeline;
        let mut detail = json!({"pipeline": self.pipeline.declared_of(one).name, "execution-id": one.execution,
            "stage": self.pipeline.stage_of(one).name, "action": action.name,
            "action-execution-id": one.id, "state": one.status.event(), "region": self.region, "version": 1.0,
            "type": {"owner": kind.owner, "category": kind.category, "provider": kind.provider, "version": kind.version}});
        if let Some((code, message)) = &one.error {
            detail["execution-result"] = json!({"external-execution-summary": message, "external-execution-id": one.external_id, "error-code": code});
        }
        self.emit(pipeline, "CodePipeline Action Execution State Change", detail);
    }
}
