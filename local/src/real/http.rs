//! HTTP on loopback: the world, good enough for the AWS CLI, and what else listens here.

use std::collections::BTreeMap;
use std::convert::Infallible;

use http_body_util::channel::Channel;
use http_body_util::{BodyExt as _, Either, Full, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::{TcpListener, TcpStream};

use super::Machine;
use crate::world::{self, decoded};

/// The largest request: CloudWatch takes a megabyte of lines, and nothing here takes more than a few.
const LARGEST_BODY: usize = 16 * 1024 * 1024;

/// Answers requests for as long as the process lives.
pub(super) async fn serve(machine: Machine, listener: TcpListener) {
    loop {
        let Ok((stream, _)) = listener.accept().await else { continue };
        let machine = machine.clone();
        tokio::spawn(connection(stream, move |request| {
            let machine = machine.clone();
            async move { machine.answer(request) }
        }));
    }
}

/// What is answered.
pub(crate) enum Reply {
    /// All of it at once.
    Whole(world::Response),
    /// A head, and a body that comes little by little: its end is the sender's.
    Stream(world::Response, Channel<Bytes>),
}

impl From<world::Response> for Reply {
    fn from(response: world::Response) -> Self {
        Self::Whole(response)
    }
}

/// Answers the requests of one connection.
pub(crate) async fn connection<F, Fut, R>(stream: TcpStream, answer: F)
where
    F: Fn(world::Request) -> Fut + Clone + Send + Sync + 'static,
    Fut: Future<Output = R> + Send,
    R: Into<Reply>,
{
    let service = service_fn(move |request| {
        let answer = answer.clone();
        async move {
            Ok::<_, Infallible>(response(match read(request).await {
                Ok(request) => answer(request).await.into(),
                Err(refused) => refused.into(),
            }))
        }
    });
    let builder = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new()).http1_only();
    // A client that goes away in the middle is its own affair.
    drop(builder.serve_connection(TokioIo::new(stream), service).await);
}

async fn read(request: hyper::Request<Incoming>) -> Result<world::Request, world::Response> {
    let (parts, body) = request.into_parts();
    let headers =
        parts.headers.iter().filter_map(|(name, value)| Some((name.to_string(), value.to_str().ok()?.to_owned())));
    let mut headers: BTreeMap<_, _> = headers.collect();
    // Where the request line names a host, that counts; one that differs from the header means nothing good.
    if let Some(named) = parts.uri.authority().map(|authority| authority.as_str().to_owned())
        && headers.insert("host".to_owned(), named.clone()).is_some_and(|host| host != named)
    {
        return Err(super::gate::refused("its request line and its `Host` name different hosts"));
    }
    let query = pairs(parts.uri.query().unwrap_or_default());
    let body = Limited::new(body, LARGEST_BODY).collect().await.map_err(|error| world::Response {
        status: 413,
        headers: Vec::new(),
        body: error.to_string().into_bytes(),
    })?;
    Ok(world::Request {
        method: parts.method.to_string(),
        path: decoded(parts.uri.path()),
        query,
        headers,
        body: body.to_bytes().to_vec(),
    })
}

fn response(reply: Reply) -> hyper::Response<Either<Full<Bytes>, Channel<Bytes>>> {
    let (head, body) = match reply {
        Reply::Whole(mut response) => {
            let body = Full::new(Bytes::from(std::mem::take(&mut response.body)));
            (response, Either::Left(body))
        }
        Reply::Stream(head, body) => (head, Either::Right(body)),
    };
    let mut built = hyper::Response::new(body);
    *built.status_mut() = hyper::StatusCode::from_u16(head.status).unwrap_or(hyper::StatusCode::INTERNAL_SERVER_ERROR);
    for (name, value) in head.headers {
        if let (Ok(name), Ok(value)) =
            (hyper::header::HeaderName::try_from(name), hyper::header::HeaderValue::try_from(value))
        {
            built.headers_mut().append(name, value);
        }
    }
    built
}

/// The pairs of a query, decoded.
fn pairs(query: &str) -> BTreeMap<String, String> {
    let pairs = query.split('&').filter(|pair| !pair.is_empty());
    let split = |pair: &str| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        (decoded(name), decoded(value))
    };
    pairs.map(split).collect()
}

/// What a form has sent (`application/x-www-form-urlencoded`): a query in which a plus is a blank.
pub(crate) fn form(body: &[u8]) -> BTreeMap<String, String> {
    pairs(&String::from_utf8_lossy(body).replace('+', " "))
}
