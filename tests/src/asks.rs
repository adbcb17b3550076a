//! What people ask on the stage, and what they look at.

use std::collections::BTreeMap;
use std::time::Duration;

use local::world::{ActionStatus, ActionView, ExecutionStatus, LogEvent, Request, World};
use serde_json::{Value, json};
use shared::Time;

use crate::Stage;

impl Stage {
    /// Starts a release, and returns its execution.
    #[must_use]
    pub fn start(&self) -> String {
        let name = self.world().pipeline_name().to_owned();
        let started = self.call("CodePipeline_20150709.StartPipelineExecution", &json!({"name": name}));
        started["pipelineExecutionId"].as_str().expect("an execution").to_owned()
    }

    /// Starts a way back: to the release before the one that runs, or to another; `behind` is a task with `no_way_back`.
    #[must_use]
    pub fn start_back(&self, to: Option<&str>, behind: Option<&str>) -> String {
        let names = self.world().pipeline_names();
        let mut input = json!({"name": names[1]});
        if let Some(release) = to {
            let key = shared::record::Store::artifact(&names[0], release);
            input["sourceRevisions"] =
                json!([{"actionName": "Source", "revisionType": "S3_OBJECT_KEY", "revisionValue": key}]);
        }
        if let Some(task) = behind {
            input["variables"] = json!([{"name": "Behind", "value": task}]);
        }
        let started = self.call("CodePipeline_20150709.StartPipelineExecution", &input);
        started["pipelineExecutionId"].as_str().expect("an execution").to_owned()
    }

    /// Calls CodePipeline as a person does, for the release.
    pub fn ask(&self, operation: &str, execution: &str, mut input: Value) -> Value {
        input["pipelineName"] = json!(self.world().pipeline_of(execution));
        input["pipelineExecutionId"] = json!(execution);
        self.call(&format!("CodePipeline_20150709.{operation}"), &input)
    }

    /// A person stops and abandons the release, if it is still under way.
    pub fn stop(&self, execution: &str) {
        if !self.world().status(execution).is_some_and(ExecutionStatus::is_over) {
            self.ask("StopPipelineExecution", execution, json!({"abandon": true, "reason": "a test"}));
        }
    }

    /// Calls an operation as a person does.
    pub fn call(&self, target: &str, input: &Value) -> Value {
        let response = self.handle(&Request {
            method: "POST".into(),
            path: "/".into(),
            headers: [("x-amz-target".to_owned(), target.to_owned())].into(),
            body: input.to_string().into_bytes(),
            ..Request::default()
        });
        assert_eq!(response.status, 200, "{target}: {}", String::from_utf8_lossy(&response.body));
        serde_json::from_slice(&response.body).unwrap_or(Value::Null)
    }

    /// The same in another Region.
    pub fn call_in(&self, region: &str, target: &str, input: &Value) -> Value {
        let credential = format!("AWS4-HMAC-SHA256 Credential=local/20231114/{region}/service/aws4_request");
        let headers = [("x-amz-target".to_owned(), target.to_owned()), ("authorization".to_owned(), credential)];
        let response = self.handle(&Request {
            method: "POST".into(),
            path: "/".into(),
            headers: headers.into(),
            body: input.to_string().into_bytes(),
            ..Request::default()
        });
        assert_eq!(response.status, 200, "{target}: {}", String::from_utf8_lossy(&response.body));
        serde_json::from_slice(&response.body).unwrap_or(Value::Null)
    }

    /// The same where it may be refused: the answer, or the status and what came with it.
    ///
    /// # Errors
    /// What it was refused with.
    pub fn try_call(&self, region: &str, target: &str, input: &Value) -> Result<Value, String> {
        let credential = format!("AWS4-HMAC-SHA256 Credential=local/20231114/{region}/service/aws4_request");
        let headers = [("x-amz-target".to_owned(), target.to_owned()), ("authorization".to_owned(), credential)];
        let response = self.handle(&Request {
            method: "POST".into(),
            path: "/".into(),
            headers: headers.into(),
            body: input.to_string().into_bytes(),
            ..Request::default()
        });
        match response.status {
            200 => Ok(serde_json::from_slice(&response.body).unwrap_or(Value::Null)),
            status => Err(format!("{status}: {}", String::from_utf8_lossy(&response.body))),
        }
    }

    /// The image that a release was built with, once it was.
    #[must_use]
    pub fn image_of(&self, execution: &str) -> Option<String> {
        let build = self.actions(execution).into_iter().find(|one| one.action == "Build")?;
        let builds = self.0.build_ids.borrow();
        let at = builds.iter().position(|id| *id == build.id)?;
        Some(self.0.props.image(at + 1))
    }

    /// Lets the world look at what has just happened.
    pub(crate) fn hurry(&self) {
        self.0.wires.changed.notify_one();
    }

    /// Whether nothing is on its way: no event, no job, no invocation, no call that its caller has given up.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.late_calls() == 0 && self.world().is_idle()
    }

    /// How many calls are on their way that their caller has given up.
    #[must_use]
    pub fn late_calls(&self) -> usize {
        self.0.wires.late.load(std::sync::atomic::Ordering::Relaxed)
    }

    /// The id of the newest deployment of a target such as `us/web`.
    #[must_use]
    pub fn deployment(&self, target: &str) -> String {
        self.world().deployment_with(&format!(" {target} key ")).expect("a deployment")
    }

    /// What deploy-services and drain-workers have said in the release's log.
    #[must_use]
    pub fn say(&self, execution: &str) -> Vec<String> {
        self.lines(execution).into_iter().filter(|line| !line.contains("line ")).collect()
    }

    /// How long after each change of a deployment it was said in the release's log: ready, and moved.
    #[must_use]
    pub fn noticed(&self, execution: &str) -> Vec<Duration> {
        let said = self.events(execution);
        let changes = self.world().changes_of_deployments();
        let delay = |(target, what, at): &(String, &'static str, Time)| {
            let (environment, service) = target.split_once('/')?;
            let found = said.iter().find(|event| {
                event.message.starts_with(&format!("{environment} {service}")) && event.message.contains(what)
            })?;
            Some(found.at.since(*at))
        };
        changes.iter().filter_map(delay).collect()
    }

    /// What the world answers to a request.
    pub fn handle(&self, request: &Request) -> local::world::Response {
        self.0.wires.story.tell(self.now(), format_args!("a person asks: {}", String::from_utf8_lossy(&request.body)));
        let response = self.world().handle(request, self.now());
        self.0.wires.changed.notify_one();
        response
    }

    /// Answers the approval that waits.
    pub fn answer_approval(&self, execution: &str, status: &str) {
        let actions = self.actions(execution);
        let action = actions.iter().find(|action| action.approval.is_some()).expect("an approval that waits");
        let name = self.world().pipeline_of(execution).to_owned();
        self.call(
            "CodePipeline_20150709.PutApprovalResult",
            &json!({"pipelineName": name, "stageName": action.stage, "actionName": action.action,
                "token": action.approval, "result": {"status": status, "summary": "by the test"}}),
        );
    }

    /// The actions of a release.
    #[must_use]
    pub fn actions(&self, execution: &str) -> Vec<ActionView> {
        self.world().actions(execution)
    }

    /// The newest run of an action.
    #[must_use]
    pub fn action(&self, execution: &str, name: &str) -> ActionView {
        let found = self.actions(execution).into_iter().rev().find(|action| action.action == name);
        found.unwrap_or_else(|| panic!("the action {name} has not begun"))
    }

    /// The lines of the release's log stream.
    #[must_use]
    pub fn lines(&self, execution: &str) -> Vec<String> {
        self.events(execution).into_iter().map(|event| event.message).collect()
    }

    /// The same by stream: each try of a release has its own.
    #[must_use]
    pub fn streams(&self, execution: &str) -> BTreeMap<String, Vec<String>> {
        let streams = self.world().release_streams(execution);
        let texts = |events: Vec<LogEvent>| events.into_iter().map(|event| event.message).collect();
        streams.into_iter().map(|(name, events)| (name, texts(events))).collect()
    }

    /// The same with when each was written, and when it was shown.
    #[must_use]
    pub fn events(&self, execution: &str) -> Vec<LogEvent> {
        self.world().release_lines(execution)
    }

    /// Waits until something is so, for at most `most` of the world's time.
    pub async fn until(&self, what: &str, most: Duration, so: impl Fn(&World) -> bool) {
        let begun = self.now();
        while !so(&self.world()) {
            assert!(self.now().since(begun) < most, "still not so after {most:?}: {what}; notes: {:?}", self.notes());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Waits until an action has begun.
    pub async fn until_begun(&self, execution: &str, action: &str) {
        let begun = |world: &World| world.actions(execution).iter().any(|one| one.action == action);
        self.until(action, Duration::from_secs(7200), begun).await;
    }

    /// Waits for the end of a release; an approval is given when it comes to that.
    pub async fn end(&self, execution: &str) -> ExecutionStatus {
        let begun = self.now();
        loop {
            let status = self.world().status(execution).expect("an execution");
            if status.is_over() && self.world().is_quiet(execution) {
                return status;
            }
            if self.actions(execution).iter().any(|action| action.approval.is_some()) {
                self.answer_approval(execution, "Approved");
            }
            let actions = || self.actions(execution).into_iter().filter(|one| one.status == ActionStatus::InProgress);
            assert!(
                self.now().since(begun) < Duration::from_secs(2 * 3600),
                "the release does not end: {status:?}, {:#?}, notes: {:?}",
                actions().collect::<Vec<_>>(),
                self.notes()
            );
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// The same, of a release that others wait behind: what they do is their own affair.
    pub async fn end_alone(&self, execution: &str) -> ExecutionStatus {
        let begun = self.now();
        loop {
            let status = self.world().status(execution).expect("an execution");
            if status.is_over() {
                return status;
            }
            if self.actions(execution).iter().any(|action| action.approval.is_some()) {
                self.answer_approval(execution, "Approved");
            }
            assert!(self.now().since(begun) < Duration::from_secs(2 * 3600), "the release does not end: {status:?}");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// The release's tasks, as environment and task definition's family, each as often as it was started.
    #[must_use]
    pub fn started(&self, execution: &str) -> Vec<String> {
        let world = self.world();
        let own = world.tasks().filter_map(|task| {
            let whose = shared::names::read_started_by(&task.started_by)?;
            (whose.execution == execution).then(|| format!("{}/{}", whose.task, whose.environment))
        });
        let mut own: Vec<_> = own.collect();
        own.sort();
        own
    }
}
