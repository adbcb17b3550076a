//! The world over HTTP on loopback, good enough for the AWS CLI.

use std::collections::BTreeMap;
use std::convert::Infallible;

use http_body_util::{BodyExt as _, Full, Limited};
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
            async move {
                match machine.0.gate.admit(request) {
                    Ok(request) => machine.handle(&request),
                    Err(refused) => refused,
                }
            }
        }));
    }
}

/// Answers the requests of one connection.
pub(super) async fn connection<F, Fut>(stream: TcpStream, answer: F)
where
    F: Fn(world::Request) -> Fut + Clone + Send + Sync + 'static,
    Fut: Future<Output = world::Response> + Send,
{
    let service = service_fn(move |request| {
        let answer = answer.clone();
        async move {
            Ok::<_, Infallible>(response(match read(request).await {
                Ok(request) => answer(request).await,
                Err(refused) => refused,
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
    let query = parts.uri.query().unwrap_or_default().split('&').filter(|pair| !pair.is_empty());
    let query: BTreeMap<_, _> = query
        .map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            (decoded(name), decoded(value))
        })
        .collect();
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

fn response(response: world::Response) -> hyper::Response<Full<Bytes>> {
    let mut built = hyper::Response::new(Full::new(Bytes::from(response.body)));
    *built.status_mut() =
        hyper::StatusCode::from_u16(response.status).unwrap_or(hyper::StatusCode::INTERNAL_SERVER_ERROR);
    for (name, value) in response.headers {
        if let (Ok(name), Ok(value)) =
            (hyper::header::HeaderName::try_from(name), hyper::header::HeaderValue::try_from(value))
        {
            built.headers_mut().insert(name, value);
        }
    }
    built
}
