//! The way from a function's SDK clients to the world, in process, with what can go wrong on it.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use aws_config::stalled_stream_protection::StalledStreamProtectionConfig;
use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_sdk_ecs::config::{Credentials, SharedCredentialsProvider};
use aws_smithy_async::rt::sleep::{SharedAsyncSleep, TokioSleep};
use aws_smithy_async::time::{SharedTimeSource, TimeSource};
use aws_smithy_runtime_api::client::http::{
    HttpClient, HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpConnector,
};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use aws_smithy_runtime_api::client::result::ConnectorError;
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use aws_smithy_types::body::SdkBody;
use local::template::Function;
use local::world::{self, Request, Response, World, decoded};
use shared::{Clock, Time};
use tokio::sync::{Notify, oneshot};

use crate::{Meddle, Story, Witness, pages};

/// How long a call takes, one way.
const WAY: Duration = Duration::from_millis(10);

/// A call that a function makes.
#[derive(Debug)]
pub struct Call<'a> {
    /// Which function's.
    pub function: &'a str,
    /// Which invocation's, counted from the play's begin.
    pub sandbox: u32,
    /// Which operation, such as `RunTask` or `PutObject`, or the path where the address says it.
    pub operation: &'a str,
    /// In which Region.
    pub region: &'a str,
    /// Whether it changes anything.
    pub writes: bool,
    /// When.
    pub at: Time,
}

/// What happens to a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Meddling {
    /// It goes through.
    Pass,
    /// "Too often."
    Throttle,
    /// "You may not."
    Refuse,
    /// The same in STS's words.
    RefuseRole,
    /// Nothing answers.
    Unreachable,
    /// It is done, and the reply is lost.
    LoseReply,
    /// It hangs for as long as an attempt may take, and is done then: nobody hears of it.
    HangThenDo,
    /// The same, and a person stops and abandons the release meanwhile.
    AbandonAndHang,
    /// A person stops and abandons the release before it.
    AbandonBefore,
    /// A person stops and abandons the release right after it.
    AbandonAfter,
    /// The same before it, and the function dies then.
    AbandonAndCrash,
    /// It is done, a person stops and abandons the release, and the function dies then.
    AbandonAndCrashAfter,
    /// The service has trouble of its own, and nothing is done.
    Internal,
    /// It says so, and has done it all the same.
    InternalDone,
    /// Nothing comes back, and nothing is done.
    Hang,
    /// The connection is lost; it is done that much later.
    DoneLate(Duration),
    /// A list or a log comes in pages of so many.
    SmallPage(u8),
    /// A page is empty, and not the last.
    EmptyPage,
    /// Another write of the same object is under way, as S3 says it of a write that has a condition.
    Conflict,
    /// ECS finds no room for the task.
    NoRoom,
    /// The account has as many deployments under way as it may have.
    TooMany,
    /// The function dies before it.
    CrashBefore,
    /// It is done, and the function dies before it hears of it.
    CrashAfter,
}

impl Meddling {
    /// Whether the function dies of it.
    #[must_use]
    pub fn is_death(self) -> bool {
        matches!(self, Self::CrashBefore | Self::CrashAfter | Self::AbandonAndCrash | Self::AbandonAndCrashAfter)
    }
}

/// The world's time, as the SDK asks for it: signatures, and credentials that expire.
#[derive(Debug)]
struct VirtualTime(Clock);

impl TimeSource for VirtualTime {
    fn now(&self) -> std::time::SystemTime {
        std::time::UNIX_EPOCH + Duration::from_millis(self.0.now().millis())
    }
}

/// An HTTP client whose other end is the world.
#[derive(Clone)]
pub(crate) struct InProcess(Arc<Inner>);

/// What every function of a play is connected with.
#[derive(Clone)]
pub(crate) struct Wires {
    pub(crate) world: Arc<Mutex<World>>,
    pub(crate) clock: Clock,
    pub(crate) changed: Arc<Notify>,
    pub(crate) meddle: Meddle,
    pub(crate) witness: Arc<Mutex<Witness>>,
    /// How many calls are still on their way whose caller has given them up.
    pub(crate) late: Arc<AtomicUsize>,
    pub(crate) story: Story,
}

struct Inner {
    function: String,
    role: String,
    sandbox: u32,
    wires: Wires,
    crash: Mutex<Option<oneshot::Sender<()>>>,
}

impl std::fmt::Debug for InProcess {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "InProcess({})", self.0.function)
    }
}

impl InProcess {
    pub(crate) fn new(function: &Function, sandbox: u32, wires: Wires, crash: oneshot::Sender<()>) -> Self {
        let crash = Mutex::new(Some(crash));
        let (function, role) = (function.binary.clone(), function.name.clone());
        Self(Arc::new(Inner { function, role, sandbox, wires, crash }))
    }

    /// The account's owner, at a terminal.
    pub(crate) fn of_owner(wires: Wires) -> Self {
        let (function, role) = ("owner".to_owned(), "owner".to_owned());
        Self(Arc::new(Inner { function, role, sandbox: 0, wires, crash: Mutex::new(None) }))
    }

    pub(crate) fn config(self, region: &str) -> SdkConfig {
        let credentials = Credentials::new(&self.0.role, "local", None, None, "tests");
        SdkConfig::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::new(region.to_owned()))
            .credentials_provider(SharedCredentialsProvider::new(credentials))
            .sleep_impl(SharedAsyncSleep::new(TokioSleep::new()))
            .time_source(SharedTimeSource::new(VirtualTime(self.0.wires.clock)))
            // Requests and answers are here as a whole: there is no throughput to watch.
            .stalled_stream_protection(StalledStreamProtectionConfig::disabled())
            .endpoint_url("http://127.0.0.1")
            .http_client(self)
            .build()
    }

    fn answer(&self, request: &Request) -> Response {
        let now = self.0.wires.clock.now();
        let response = self.0.wires.world.lock().unwrap_or_else(PoisonError::into_inner).handle(request, now);
        self.0.wires.changed.notify_one();
        response
    }

    /// A request that its caller has given up, and that arrives all the same.
    fn answer_later(self, request: Request, by: Duration) {
        self.0.wires.late.fetch_add(1, Ordering::Relaxed);
        tokio::task::spawn(async move {
            tokio::time::sleep(by).await;
            self.0
                .wires
                .story
                .tell(self.0.wires.clock.now(), format_args!("what came late from {} is done", self.0.function));
            self.answer(&request);
            self.0.wires.late.fetch_sub(1, Ordering::Relaxed);
        });
    }

    /// A person stops and abandons the release that is under way.
    fn abandon(&self) {
        let (name, execution) = {
            let world = self.0.wires.world.lock().unwrap_or_else(PoisonError::into_inner);
            let Some(execution) = world.first_under_way() else { return };
            (world.pipeline_of(&execution).to_owned(), execution)
        };
        let input = serde_json::json!({"pipelineName": name, "pipelineExecutionId": execution, "abandon": true, "reason": "a test"});
        let target = "CodePipeline_20150709.StopPipelineExecution";
        self.answer(&Request {
            method: "POST".into(),
            path: "/".into(),
            headers: [("x-amz-target".to_owned(), target.to_owned())].into(),
            body: input.to_string().into_bytes(),
            ..Request::default()
        });
    }

    async fn crash<T>(&self) -> T {
        if let Some(crash) = self.0.crash.lock().unwrap_or_else(PoisonError::into_inner).take() {
            let _ = crash.send(());
        }
        std::future::pending().await
    }

    async fn call_world(self, request: Request) -> Result<HttpResponse, ConnectorError> {
        tokio::time::sleep(WAY).await;
        let operation = operation(&request);
        let reads = ["Get", "List", "Describe", "Batch", "Poll"];
        let changes = matches!(request.method.as_str(), "POST" | "PUT" | "DELETE");
        let writes = changes && !reads.iter().any(|read| operation.starts_with(read));
        let call = Call {
            function: &self.0.function,
            sandbox: self.0.sandbox,
            operation: &operation,
            region: request.region(),
            writes,
            at: self.0.wires.clock.now(),
        };
        let meddling = (self.0.wires.meddle.lock().unwrap_or_else(PoisonError::into_inner))(&call);
        self.0.wires.story.call(&call, &request, meddling);
        let seen = |response: Option<&Response>| {
            let mut witness = self.0.wires.witness.lock().unwrap_or_else(PoisonError::into_inner);
            witness(&call, &request, meddling, response);
        };
        let lost = || ConnectorError::io("the connection was lost".into());
        let response = match meddling {
            Meddling::Pass => self.answer(&request),
            Meddling::Throttle => throttled(&request),
            Meddling::Internal => internal(&request),
            Meddling::InternalDone => {
                seen(Some(&self.answer(&request)));
                tokio::time::sleep(WAY).await;
                return Ok(as_sdk_has_it(internal(&request)));
            }
            Meddling::Refuse => refused(),
            Meddling::RefuseRole => Response {
                status: 403,
                ..Response::xml(
                    "<ErrorResponse><Error><Type>Sender</Type><Code>AccessDenied</Code><Message>User: deployer is not \
                     authorized to perform: sts:AssumeRole</Message></Error></ErrorResponse>"
                        .into(),
                )
            },
            Meddling::SmallPage(most) => self.answer(&pages::small(&request, &operation, most)),
            Meddling::EmptyPage => match pages::empty(&request, &operation) {
                Some(empty) => empty,
                None => self.answer(&request),
            },
            Meddling::Conflict if is_conditional(&request) => conflict(),
            Meddling::Conflict => self.answer(&request),
            // What was answered before is answered again (fact 18), whatever room there is by now.
            Meddling::NoRoom => {
                let now = self.0.wires.clock.now();
                let mut world = self.0.wires.world.lock().unwrap_or_else(PoisonError::into_inner);
                self.0.wires.changed.notify_one();
                world.handle_without_room(&request, now)
            }
            Meddling::TooMany => too_many(),
            Meddling::HangThenDo | Meddling::AbandonAndHang => {
                if meddling == Meddling::AbandonAndHang {
                    self.abandon();
                }
                seen(None);
                // On its way although nobody waits for it any more.
                let way = self.clone();
                tokio::spawn(async move {
                    tokio::time::sleep(shared::aws::ATTEMPT).await;
                    way.answer(&request);
                });
                return std::future::pending().await;
            }
            Meddling::AbandonBefore => {
                self.abandon();
                self.answer(&request)
            }
            Meddling::AbandonAfter => {
                let response = self.answer(&request);
                self.abandon();
                response
            }
            Meddling::Unreachable => {
                seen(None);
                return Err(lost());
            }
            Meddling::Hang => {
                seen(None);
                return std::future::pending().await;
            }
            Meddling::DoneLate(by) => {
                seen(None);
                self.clone().answer_later(request.clone(), by);
                return Err(lost());
            }
            Meddling::LoseReply => {
                seen(Some(&self.answer(&request)));
                return Err(lost());
            }
            Meddling::AbandonAndCrash => {
                seen(None);
                self.abandon();
                return self.crash().await;
            }
            Meddling::AbandonAndCrashAfter => {
                seen(Some(&self.answer(&request)));
                self.abandon();
                return self.crash().await;
            }
            Meddling::CrashBefore => {
                seen(None);
                return self.crash().await;
            }
            Meddling::CrashAfter => {
                seen(Some(&self.answer(&request)));
                return self.crash().await;
            }
        };
        seen(Some(&response));
        tokio::time::sleep(WAY).await;
        Ok(as_sdk_has_it(response))
    }
}

fn as_sdk_has_it(response: Response) -> HttpResponse {
    let status = aws_smithy_runtime_api::http::StatusCode::try_from(response.status).expect("a status");
    let mut answer = HttpResponse::new(status, SdkBody::from(response.body));
    for (name, value) in response.headers {
        answer.headers_mut().insert(name, value);
    }
    answer
}

/// An operation's name; of what is neither one of a JSON protocol nor S3's nor IAM's, the path.
fn operation(request: &Request) -> String {
    if let Some((_, operation)) = request.headers.get("x-amz-target").and_then(|target| target.split_once('.')) {
        return operation.to_owned();
    }
    match world::operation(request).split_once(':') {
        Some(("s3" | "iam", operation)) => operation.to_owned(),
        Some(_) | None => request.path.clone(),
    }
}

fn is_conditional(request: &Request) -> bool {
    request.method == "PUT" && request.headers.keys().any(|name| name == "if-none-match" || name == "if-match")
}

fn conflict() -> Response {
    let body = "<Error><Code>ConditionalRequestConflict</Code><Message>The conditional request cannot succeed due to a \
                conflicting operation against this resource.</Message></Error>";
    Response { status: 409, ..Response::xml(body.into()) }
}

fn too_many() -> Response {
    let body =
        br#"{"__type":"DeploymentLimitExceededException","message":"The number of allowed deployments was exceeded."}"#;
    let headers = vec![("x-amzn-errortype".to_owned(), "DeploymentLimitExceededException".to_owned())];
    Response { status: 400, headers, body: body.to_vec() }
}

fn refused() -> Response {
    let body = br#"{"__type":"AccessDeniedException","message":"not authorized to perform this"}"#.to_vec();
    let headers = vec![("x-amzn-errortype".to_owned(), "AccessDeniedException".to_owned())];
    Response { status: 400, headers, body }
}

fn internal(request: &Request) -> Response {
    if !request.headers.contains_key("x-amz-target") {
        return Response { status: 500, headers: Vec::new(), body: Vec::new() };
    }
    let body = br#"{"__type":"InternalFailure","message":"We encountered an internal error."}"#.to_vec();
    let headers = vec![("x-amzn-errortype".to_owned(), "InternalFailure".to_owned())];
    Response { status: 500, headers, body }
}

fn throttled(request: &Request) -> Response {
    if !request.headers.contains_key("x-amz-target") {
        // S3 says it with the status: the answer to a HEAD has no body.
        return Response { status: 503, headers: Vec::new(), body: Vec::new() };
    }
    let body = br#"{"__type":"ThrottlingException","message":"Rate exceeded"}"#.to_vec();
    let headers = vec![("x-amzn-errortype".to_owned(), "ThrottlingException".to_owned())];
    Response { status: 400, headers, body }
}

impl HttpConnector for InProcess {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let (path, query) = request.uri().split_once('?').unwrap_or((request.uri(), ""));
        let path = path.split("://").last().and_then(|rest| rest.find('/').map(|at| rest[at..].to_owned()));
        let headers = request.headers().iter().map(|(name, value)| (name.to_lowercase(), value.to_owned()));
        let pairs = query.split('&').filter(|pair| !pair.is_empty());
        let pairs = pairs.map(|pair| pair.split_once('=').unwrap_or((pair, "")));
        let request = Request {
            method: request.method().to_owned(),
            path: decoded(&path.unwrap_or_else(|| "/".into())),
            query: pairs.map(|(name, value)| (decoded(name), decoded(value))).collect(),
            headers: headers.collect(),
            body: request.body().bytes().unwrap_or_default().to_vec(),
        };
        HttpConnectorFuture::new(self.clone().call_world(request))
    }
}

impl HttpClient for InProcess {
    fn http_connector(&self, _: &HttpConnectorSettings, _: &RuntimeComponents) -> SharedHttpConnector {
        SharedHttpConnector::new(self.clone())
    }
}
