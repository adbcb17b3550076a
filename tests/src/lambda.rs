//! What the world wants done outside of it: containers play their scripts, functions run in process.

use std::collections::BTreeMap;
use std::sync::PoisonError;
use std::time::Duration;

use local::world::{Effect, FunctionError, Happening, Made};
use serde_json::Value;
use shared::{Aws, Event, Invocation};

use crate::{Stage, client};

/// What happens to an invocation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// It is killed this long after its begin, wherever it is.
    Killed(Duration),
    /// It is delivered once more, this much later.
    Twice(Duration),
    /// It sleeps this long after its begin, for so long, wherever it is; where that is longer than forty seconds, it is delivered once more
    /// that long after its begin.
    Frozen {
        /// How long after its begin.
        after: Duration,
        /// How long.
        lasts: Duration,
    },
    /// It comes this much later.
    Late(Duration),
    /// It never comes.
    Lost,
    /// The continuation token in it is none that Cutover wrote.
    Garbled,
}

/// How long a function may sleep before its event is delivered once more.
const HEARD_OF: Duration = Duration::from_secs(40);

impl Stage {
    pub(crate) async fn keep_time(self) {
        loop {
            self.world().advance(self.now());
            let effects = self.world().effects();
            for effect in effects {
                self.carry_out(effect);
            }
            let next = self.world().next();
            let pause = next.map_or(Duration::from_secs(3600), |next| next.since(self.now()));
            tokio::select! { biased;
                () = tokio::time::sleep(pause.max(Duration::from_millis(1))) => {}
                () = self.0.wires.changed.notified() => {}
            }
        }
    }

    fn happened(&self, happening: Happening) {
        self.0.wires.story.happening(self.now(), &happening);
        self.world().happened(happening, self.now());
        self.0.wires.changed.notify_one();
    }

    fn carry_out(&self, effect: Effect) {
        self.0.wires.story.effect(self.now(), &effect);
        let stage = self.clone();
        match effect {
            Effect::StartContainer(start) => {
                let script = (self.0.props.script)(&start);
                let (signals, received) = tokio::sync::mpsc::unbounded_channel();
                let key = (start.task.clone(), start.container.clone());
                self.0.props.containers.lock().unwrap_or_else(PoisonError::into_inner).insert(key, signals);
                tokio::task::spawn_local(async move {
                    script.play(&start, received, |happening| stage.happened(happening)).await;
                });
            }
            Effect::Signal { task, container, kill } => {
                let containers = self.0.props.containers.lock().unwrap_or_else(PoisonError::into_inner);
                if let Some(signals) = containers.get(&(task, container)) {
                    let _ = signals.send(kill);
                }
            }
            Effect::Route { .. } => {}
            Effect::Invoke { id, function, payload, timeout } => {
                let fate = (self.0.props.fate.borrow_mut())(&function, &payload);
                let mut payload = payload;
                if fate == Some(Fate::Garbled) {
                    payload["CodePipeline.job"]["data"]["continuationToken"] = "of nobody".into();
                }
                if let Some(fate) = fate {
                    self.0.wires.story.tell(self.now(), format_args!("{function} ({id})  <-- {fate:?}"));
                }
                let again = match fate {
                    Some(Fate::Twice(later)) => Some(later),
                    Some(Fate::Frozen { lasts, .. }) if lasts > HEARD_OF => Some(HEARD_OF),
                    _ => None,
                };
                if let Some(later) = again {
                    let (stage, id, function, payload) = (stage.clone(), id.clone(), function.clone(), payload.clone());
                    // How this one ends, Lambda tells nobody.
                    tokio::task::spawn_local(async move {
                        tokio::time::sleep(later).await;
                        let _ = stage.invoke((&id, &function), payload, timeout).await;
                    });
                }
                tokio::task::spawn_local(async move {
                    let result = match fate {
                        Some(Fate::Lost) => Ok(Value::Null),
                        Some(Fate::Killed(after)) => {
                            let killed = tokio::time::timeout(after, stage.invoke((&id, &function), payload, timeout));
                            killed
                                .await
                                .unwrap_or_else(|_| Err(FunctionError::new("Runtime.ExitError", "it was killed")))
                        }
                        Some(Fate::Frozen { after, lasts }) => {
                            let mut invoked = Box::pin(stage.invoke((&id, &function), payload, timeout));
                            match tokio::time::timeout(after, &mut invoked).await {
                                Ok(done) => done,
                                Err(_) => {
                                    tokio::time::sleep(lasts).await;
                                    invoked.await
                                }
                            }
                        }
                        Some(Fate::Late(by)) => {
                            tokio::time::sleep(by).await;
                            stage.invoke((&id, &function), payload, timeout).await
                        }
                        Some(Fate::Twice(_) | Fate::Garbled) | None => {
                            stage.invoke((&id, &function), payload, timeout).await
                        }
                    };
                    stage.happened(Happening::Invoked { id, result });
                });
            }
            Effect::FetchSource { action } => {
                let variables = [("CommitId", "abcdef0123"), ("CommitMessage", "Sell teapots")];
                let variables = variables.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
                let made = Made {
                    artifact: Vec::new(),
                    revision: "abcdef0123".into(),
                    summary: "Sell teapots".into(),
                    variables,
                };
                tokio::task::spawn_local(async move { stage.happened(Happening::Worked { action, result: Ok(made) }) });
            }
            Effect::Build { action, commit } => {
                self.0.build_ids.borrow_mut().push(action.clone());
                let artifact = self.0.props.artifact(self.0.build_ids.borrow().len());
                let made = Made { artifact, revision: commit, summary: "Built".into(), variables: BTreeMap::new() };
                tokio::task::spawn_local(async move { stage.happened(Happening::Worked { action, result: Ok(made) }) });
            }
            Effect::CallHook { id, function, stage: at } => {
                let (after, result) = (self.0.props.hook)(&function, &at);
                tokio::task::spawn_local(async move {
                    tokio::time::sleep(after).await;
                    stage.happened(Happening::Hooked { id, result });
                });
            }
            Effect::Note(note) => self.0.log.lock().unwrap_or_else(PoisonError::into_inner).push(note),
        }
    }

    /// The way to AWS of the account's owner.
    #[must_use]
    pub fn aws_of_owner(&self) -> Aws {
        let client = client::InProcess::of_owner(self.0.wires.clone());
        Aws::new(&client.config(&self.0.stack.region), shared::aws::Settings::default())
    }

    /// Runs a function in process, as Lambda would: with a deadline, and dead when it is over.
    async fn invoke(
        &self,
        (id, name): (&str, &str),
        payload: Value,
        timeout: Duration,
    ) -> Result<Value, FunctionError> {
        let function = self.0.stack.functions.iter().find(|function| function.name == name).expect("a function");
        let (crash, crashed) = tokio::sync::oneshot::channel();
        self.0.sandboxes.set(self.0.sandboxes.get() + 1);
        let client = client::InProcess::new(function, self.0.sandboxes.get(), self.0.wires.clone(), crash);
        let setting = |name: &str| function.environment.get(name).cloned();
        let mut settings = shared::aws::Settings::read(setting);
        settings.own_log_group = Some(format!("/aws/lambda/{}", function.name));
        settings.http = Some("http://127.0.0.1/sink".into());
        let aws = Aws::new(&client.config(&self.0.stack.region), settings);
        let invocation = Invocation::lasting(self.now(), timeout, id);
        let event = Event::new(payload);
        let work = async {
            match function.binary.as_str() {
                "dispatch-jobs" => {
                    let functions = setting("CUTOVER_FUNCTIONS").expect("CUTOVER_FUNCTIONS");
                    let functions = serde_json::from_str(&functions).expect("a JSON object");
                    let version = setting("CUTOVER_ACTION_VERSION").expect("CUTOVER_ACTION_VERSION");
                    let settings = dispatch_jobs::Settings { functions, version };
                    dispatch_jobs::dispatch(&aws, &settings, &event, invocation).await?;
                }
                "run-tasks" => run_tasks::handle(aws, event, invocation).await?,
                "tail-logs" => tail_logs::handle(aws, event, invocation).await?,
                "deploy-services" => deploy_services::handle(aws, event, invocation).await?,
                "drain-workers" => drain_workers::handle(aws, event, invocation).await?,
                "halt-release" => halt_release::handle(aws, event, invocation).await?,
                "record-release" => record_release::handle(aws, event, invocation).await?,
                "check-rollback" => check_rollback::handle(aws, event, invocation).await?,
                "notify" => notify::handle(aws, event, invocation).await?,
                "launch-workers" => return launch_workers::handle(aws, event, invocation).await,
                other => panic!("no function {other}"),
            }
            Ok::<_, shared::Error>(Value::Null)
        };
        tokio::select! { biased;
            done = work => done.map_err(|error| FunctionError::new(error.name(), error.to_string())),
            _ = crashed => Err(FunctionError::new("Runtime.ExitError", "it crashed")),
            () = tokio::time::sleep(timeout) => Err(FunctionError::new("Sandbox.Timedout", "it timed out")),
        }
    }
}
