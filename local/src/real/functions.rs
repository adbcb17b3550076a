//! Lambda functions as processes that speak the Lambda Runtime API.
//!
//! Invariant: a sandbox has one invocation at a time; one that runs out of time, or dies, is not used again.

use std::collections::BTreeMap;
use std::fs::File;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde_json::Value;
use shared::Time;
use tokio::net::TcpListener;
use tokio::process::{Child, Command};
use tokio::sync::{mpsc, oneshot};

use super::gate::{self, Gate, not_from_a_page};
use super::{Setting, http, supervisor};
use crate::template::Function;
use crate::world::{FunctionError, Request, Response};

/// Where the functions' programs are.
#[derive(Debug, Clone)]
pub enum Binaries {
    /// In this program, which is all of them: it is started with this argument and the function's name.
    Within {
        /// The program.
        program: PathBuf,
        /// The argument that makes it a function.
        argument: String,
    },
    /// In a folder, each under its own name.
    In(PathBuf),
}

/// The functions and their sandboxes.
pub(super) struct Functions {
    functions: BTreeMap<String, Function>,
    binaries: Binaries,
    environment: BTreeMap<String, String>,
    gate: Gate,
    logs: PathBuf,
    idle: Mutex<BTreeMap<String, Vec<Sandbox>>>,
    ended: tokio::sync::watch::Sender<bool>,
}

/// A process that waits for invocations, or has one.
struct Sandbox {
    invocations: mpsc::Sender<Invocation>,
    process: Child,
    _group: supervisor::Group,
}

struct Invocation {
    id: String,
    payload: String,
    deadline: Time,
    function: String,
    answer: oneshot::Sender<Result<Value, FunctionError>>,
}

impl Functions {
    pub(super) fn new(setting: &Setting<'_>, endpoint: SocketAddr, gate: &Gate) -> Self {
        let environment = [
            ("AWS_ENDPOINT_URL", format!("http://{endpoint}")),
            ("AWS_REGION", setting.stack.region.clone()),
            ("AWS_SECRET_ACCESS_KEY", gate.developer().1.to_owned()),
            ("AWS_LAMBDA_FUNCTION_VERSION", "$LATEST".into()),
            ("AWS_LAMBDA_LOG_STREAM_NAME", "local".into()),
        ];
        let sink = ("CUTOVER_HTTP", format!("{}/sink", gate.unsigned(endpoint)));
        let environment = environment.into_iter().chain((!setting.account.real_notifications).then_some(sink));
        Self {
            functions: setting.stack.functions.iter().map(|one| (one.name.clone(), one.clone())).collect(),
            binaries: setting.binaries.clone(),
            environment: environment.map(|(name, value)| (name.to_owned(), value)).collect(),
            gate: gate.clone(),
            logs: setting.state.join("functions"),
            idle: Mutex::default(),
            ended: tokio::sync::watch::Sender::new(false),
        }
    }

    /// Invokes a function in a sandbox of its own, an idle one if there is one.
    pub(super) async fn invoke(
        &self,
        id: &str,
        name: &str,
        payload: &Value,
        timeout: Duration,
    ) -> Result<Value, FunctionError> {
        let gone = || FunctionError::new("Runtime.ExitError", "its sandbox is gone");
        let missing = || FunctionError::new("ResourceNotFoundException", format!("there is no function {name}"));
        let function = self.functions.get(name).ok_or_else(missing)?;
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).get_mut(name).and_then(Vec::pop);
        let mut sandbox = match idle {
            Some(sandbox) => sandbox,
            None => self.start(function).await.map_err(|why| FunctionError::new("Runtime.InvalidEntrypoint", why))?,
        };
        let (answer, answered) = oneshot::channel();
        let deadline = Time::of_system().plus(timeout);
        let (id, function) = (id.to_owned(), name.to_owned());
        let invocation = Invocation { id, payload: payload.to_string(), deadline, function, answer };
        sandbox.invocations.send(invocation).await.map_err(|_| gone())?;
        let mut ended = self.ended.subscribe();
        let outcome = tokio::select! {
            answered = answered => answered.unwrap_or_else(|_| Err(gone())),
            status = sandbox.process.wait() => {
                let why = status.map_or_else(|error| error.to_string(), |status| format!("Runtime exited with {status}"));
                return Err(FunctionError::new("Runtime.ExitError", why));
            }
            () = tokio::time::sleep(timeout) => {
                let why = format!("Task timed out after {} seconds", timeout.as_secs());
                return Err(FunctionError::new("Sandbox.Timedout", why));
            }
            // The sandbox dies with its drop.
            _ = ended.wait_for(|ended| *ended) => return Err(FunctionError::new("Sandbox.Failure", "the machine was shut down")),
        };
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).entry(name.to_owned()).or_default().push(sandbox);
        outcome
    }

    async fn start(&self, function: &Function) -> Result<Sandbox, String> {
        let failed = |error: std::io::Error| format!("{}: {error}", function.binary);
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        // Lambda's own clients keep the path that the address has.
        let folder = gate::secret().map_err(|mistake| mistake.0)?;
        std::fs::create_dir_all(&self.logs).map_err(failed)?;
        let log = self.logs.join(format!("{}.log", function.binary));
        let log = File::options().create(true).append(true).open(log).map_err(failed)?;
        let mut command = match &self.binaries {
            Binaries::Within { program, argument } => {
                let mut command = Command::new(program);
                command.arg(argument).arg(&function.binary);
                command
            }
            Binaries::In(folder) => Command::new(folder.join(&function.binary)),
        };
        command
            .env_clear()
            .envs(&self.environment)
            .envs(&function.environment)
            .env("AWS_LAMBDA_RUNTIME_API", format!("http://{address}/{folder}"))
            // Who it is, for what its role allows.
            .env("AWS_ACCESS_KEY_ID", self.gate.key(&function.name))
            .env("AWS_LAMBDA_FUNCTION_NAME", &function.name)
            .env("AWS_LAMBDA_LOG_GROUP_NAME", format!("/aws/lambda/{}", function.name))
            .env("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", function.memory.to_string())
            .stdin(Stdio::null())
            .stdout(log.try_clone().map_err(failed)?)
            .stderr(log)
            .process_group(0)
            .kill_on_drop(true);
        let process = command.spawn().map_err(failed)?;
        let (invocations, waiting) = mpsc::channel(1);
        tokio::spawn(runtime_api(listener, folder, waiting));
        let group = supervisor::take_charge(process.id());
        Ok(Sandbox { invocations, process, _group: group })
    }

    /// Ends all sandboxes.
    pub(super) fn end(&self) {
        self.ended.send_replace(true);
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

/// The Lambda Runtime API of one sandbox, in a folder that only its process knows: what an invocation carries are live
/// credentials, and whoever answers it says what becomes of the release.
async fn runtime_api(listener: TcpListener, folder: String, waiting: mpsc::Receiver<Invocation>) {
    let folder = Arc::<str>::from(folder);
    let waiting = Arc::new(tokio::sync::Mutex::new(waiting));
    let answers = Arc::<Answers>::default();
    loop {
        let Ok((stream, _)) = listener.accept().await else { continue };
        let (waiting, answers, folder) = (waiting.clone(), answers.clone(), folder.clone());
        tokio::spawn(http::connection(stream, move |mut request: Request| {
            let (waiting, answers, folder) = (waiting.clone(), answers.clone(), folder.clone());
            async move {
                if let Err(refused) = not_from_a_page(&request) {
                    return refused;
                }
                let below = request.path.strip_prefix('/').and_then(|path| path.strip_prefix(&*folder));
                match below.filter(|path| path.starts_with('/')).map(str::to_owned) {
                    Some(path) => request.path = path,
                    None => return gate::refused("this is the Runtime API of another process"),
                }
                if request.path == "/2018-06-01/runtime/invocation/next" {
                    return match waiting.lock().await.recv().await {
                        Some(invocation) => next(&answers, invocation),
                        None => plain(410, "the sandbox is gone"),
                    };
                }
                answer(&answers, &request)
            }
        }));
    }
}

type Answers = Mutex<BTreeMap<String, oneshot::Sender<Result<Value, FunctionError>>>>;

fn next(answers: &Answers, invocation: Invocation) -> Response {
    answers.lock().unwrap_or_else(PoisonError::into_inner).insert(invocation.id.clone(), invocation.answer);
    let headers = [
        ("lambda-runtime-aws-request-id", invocation.id),
        ("lambda-runtime-deadline-ms", invocation.deadline.millis().to_string()),
        ("lambda-runtime-invoked-function-arn", format!("arn:aws:lambda:local:function:{}", invocation.function)),
        ("lambda-runtime-trace-id", "Root=1-00000000-000000000000000000000000".into()),
        ("content-type", "application/json".into()),
    ];
    let headers = headers.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
    Response { status: 200, headers, body: invocation.payload.into_bytes() }
}

fn answer(answers: &Answers, request: &Request) -> Response {
    let parts: Vec<_> = request.path.trim_matches('/').split('/').collect();
    let ["2018-06-01", "runtime", "invocation", id, how] = parts.as_slice() else {
        return plain(404, "not part of the Lambda Runtime API");
    };
    let result = match *how {
        "response" => Ok(serde_json::from_slice(&request.body).unwrap_or_default()),
        "error" => {
            let body: Value = serde_json::from_slice(&request.body).unwrap_or_default();
            let field = |name: &str| body.get(name).and_then(Value::as_str);
            let message = field("errorMessage").unwrap_or("an error without a message");
            Err(FunctionError::new(field("errorType").unwrap_or("Error"), message))
        }
        _ => return plain(404, "not part of the Lambda Runtime API"),
    };
    match answers.lock().unwrap_or_else(PoisonError::into_inner).remove(*id) {
        Some(waiting) => {
            // Nobody waits for an invocation that has run out of time.
            drop(waiting.send(result));
            plain(202, "")
        }
        None => plain(400, "there is no such invocation"),
    }
}

fn plain(status: u16, text: &str) -> Response {
    Response { status, headers: Vec::new(), body: text.as_bytes().to_vec() }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    async fn ask(port: u16, request: &str) -> String {
        let mut stream = tokio::net::TcpStream::connect(("127.0.0.1", port)).await.unwrap();
        stream.write_all(format!("{request}\r\nconnection: close\r\n\r\n").as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    #[tokio::test]
    async fn an_invocation_is_given_only_to_the_process_that_it_is_for() {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (invocations, waiting) = mpsc::channel(1);
        tokio::spawn(runtime_api(listener, "0123abcd".into(), waiting));
        let (answer, mut answered) = oneshot::channel();
        let payload = "{\"credentials\": 1}".to_owned();
        let invocation =
            Invocation { id: "i-1".into(), payload, deadline: Time::default(), function: "f".into(), answer };
        invocations.send(invocation).await.unwrap();
        let next = "/2018-06-01/runtime/invocation/next";
        let host = format!("host: 127.0.0.1:{port}");
        for (line, host) in [
            (format!("GET {next} HTTP/1.1"), host.clone()),
            (format!("GET /0123abce{next} HTTP/1.1"), host.clone()),
            (format!("GET /{next} HTTP/1.1"), host.clone()),
            ("POST /2018-06-01/runtime/invocation/i-1/response HTTP/1.1\r\ncontent-length: 0".into(), host.clone()),
            (format!("GET /0123abcd{next} HTTP/1.1"), format!("host: evil.example:{port}")),
            (format!("GET http://evil.example:{port}/0123abcd{next} HTTP/1.1"), format!("host: evil.example:{port}")),
            (format!("GET http://evil.example:{port}/0123abcd{next} HTTP/1.1"), host.clone()),
        ] {
            let answer = ask(port, &format!("{line}\r\n{host}")).await;
            assert!(answer.starts_with("HTTP/1.1 403") && !answer.contains("credentials"), "{line} {host}: {answer}");
        }
        assert!(answered.try_recv().is_err());
        let answer = ask(port, &format!("GET /0123abcd{next} HTTP/1.1\r\n{host}")).await;
        assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("credentials"), "{answer}");
        // What it says of its error is kept: the sort, and the words.
        let body = r#"{"errorType": "PermissionError", "errorMessage": "ecs:RunTask was refused"}"#;
        let error = format!(
            "POST /0123abcd/2018-06-01/runtime/invocation/i-1/error HTTP/1.1\r\n{host}\r\nconnection: close\r\n\
             content-length: {}\r\n\r\n{body}",
            body.len()
        );
        let mut stream = tokio::net::TcpStream::connect(("127.0.0.1", port)).await.unwrap();
        stream.write_all(error.as_bytes()).await.unwrap();
        let expected = FunctionError::new("PermissionError", "ecs:RunTask was refused");
        assert_eq!(answered.await.unwrap(), Err(expected));
    }
}
