//! A stand-in for the ECS agent that does what it is told: answer, fail, hang, vanish.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use serde_json::{Value, json};

/// What it does with requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mood {
    Good,
    /// Status 500, as when ECS cannot be reached.
    Failing,
    /// Status 200 with a `failure`, as when the task is none of a service.
    Refusing,
    /// Takes the request and never answers.
    Hanging,
    /// Closes the connection in the middle of its answer.
    Breaking,
    /// Is not there.
    Gone,
}

#[derive(Debug)]
struct Told {
    mood: Mood,
    requests: Vec<Value>,
    hung: Vec<TcpStream>,
    over: bool,
}

/// The agent.
pub(crate) struct Agent {
    address: SocketAddr,
    told: Arc<Mutex<Told>>,
    serving: Option<JoinHandle<()>>,
}

impl Agent {
    pub(crate) fn new(mood: Mood) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let told = Arc::new(Mutex::new(Told { mood, requests: Vec::new(), hung: Vec::new(), over: false }));
        let mut agent = Self { address, told, serving: None };
        if mood != Mood::Gone {
            agent.serve(listener);
        }
        agent
    }

    /// What `$ECS_AGENT_URI` is.
    pub(crate) fn uri(&self) -> String {
        format!("http://{}/api/0123", self.address)
    }

    /// Does something else from now on.
    pub(crate) fn become_(&mut self, mood: Mood) {
        self.told.lock().unwrap().mood = mood;
        if mood == Mood::Gone {
            self.stop();
        } else if self.serving.is_none() {
            self.told.lock().unwrap().over = false;
            self.serve(TcpListener::bind(self.address).unwrap());
        }
    }

    /// What it was asked for: the minutes of protection, 0 for none.
    pub(crate) fn asked(&self) -> Vec<u64> {
        let minutes = |request: &Value| match request["ProtectionEnabled"].as_bool().unwrap() {
            true => request["ExpiresInMinutes"].as_u64().unwrap(),
            false => 0,
        };
        self.told.lock().unwrap().requests.iter().map(minutes).collect()
    }

    fn serve(&mut self, listener: TcpListener) {
        let told = self.told.clone();
        self.serving = Some(std::thread::spawn(move || {
            for stream in listener.incoming() {
                if told.lock().unwrap().over {
                    return;
                }
                answer(stream.unwrap(), &told);
            }
        }));
    }

    fn stop(&mut self) {
        self.told.lock().unwrap().over = true;
        drop(TcpStream::connect(self.address));
        if let Some(serving) = self.serving.take() {
            serving.join().unwrap();
        }
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        self.stop();
    }
}

fn answer(mut stream: TcpStream, told: &Mutex<Told>) {
    let (mut text, mut piece) = (String::new(), [0; 1024]);
    while !text.ends_with('}') {
        match stream.read(&mut piece) {
            Ok(read) if read > 0 => text.push_str(std::str::from_utf8(&piece[..read]).unwrap()),
            _ => return,
        }
    }
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("PUT /api/0123/task-protection/v1/state HTTP/1.1\r\n"), "{head}");
    assert!(head.to_lowercase().contains("content-type: application/json"), "{head}");
    let request: Value = serde_json::from_str(body).unwrap();
    let enabled = request["ProtectionEnabled"].clone();
    let mut told = told.lock().unwrap();
    told.requests.push(request);
    let (status, body) = match told.mood {
        Mood::Good => ("200 OK", json!({"protection": {"ProtectionEnabled": enabled, "TaskArn": "arn"}})),
        Mood::Failing => {
            ("500 Internal Server Error", json!({"error": {"Code": "ServerException", "Message": "no ECS"}}))
        }
        Mood::Refusing => ("200 OK", json!({"failure": {"Arn": "arn", "Reason": "TASK_NOT_VALID"}})),
        Mood::Hanging => return told.hung.push(stream),
        Mood::Breaking => return drop(stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-le")),
        Mood::Gone => return,
    };
    let body = body.to_string();
    let answer = format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\n\r\n{body}", body.len());
    drop(stream.write_all(answer.as_bytes()));
}
