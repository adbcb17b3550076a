//! `serve` as a program of its own, with what it prints: the console's link, and the keys for AWS's own tools.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

/// A world that is kept up; it ends when this is dropped.
#[derive(Debug)]
pub struct Served {
    process: Child,
    /// The link that opens the console.
    pub link: String,
    endpoint: String,
    key: String,
    /// What AWS's own tools need in their environment to ask it.
    pub environment: Vec<(String, String)>,
}

impl Served {
    /// Serves the application in a folder.
    ///
    /// # Panics
    /// It does not come up.
    #[must_use]
    pub fn start(program: &Path, folder: &Path, local: &Path, state: &Path) -> Self {
        let mut command = Command::new(program);
        command.arg("serve").arg(folder).arg("--local").arg(local).arg("--state").arg(state);
        let spawned = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn();
        let mut process = spawned.unwrap_or_else(|error| panic!("{}: {error}", program.display()));
        let Some(out) = process.stdout.take() else { panic!("it has no output") };
        let mut lines = BufReader::new(out).lines().map_while(Result::ok);
        let (mut environment, mut said) = (Vec::new(), String::new());
        let link = lines.find_map(|line| {
            let words = line.strip_prefix("export ").into_iter().flat_map(|words| words.split(' '));
            let pairs = words.filter_map(|word| word.split_once('='));
            environment.extend(pairs.map(|(name, value)| (name.to_owned(), value.to_owned())));
            said.push_str(&line);
            said.push('\n');
            line.strip_prefix("Console ").map(str::to_owned)
        });
        let Some(link) = link else { panic!("it does not come up:\n{said}") };
        std::thread::spawn(move || lines.for_each(drop));
        let named = |name: &str| environment.iter().find(|(one, _)| one == name).map(|(_, value)| value.clone());
        let endpoint = named("AWS_ENDPOINT_URL").unwrap_or_default().trim_start_matches("http://").to_owned();
        let key = named("AWS_ACCESS_KEY_ID").unwrap_or_default();
        Self { process, link, endpoint, key, environment }
    }

    /// Calls an operation as AWS's own tools do.
    ///
    /// # Panics
    /// It is refused.
    pub fn call(&self, target: &str, input: &Value) -> Value {
        let body = input.to_string();
        let request = format!(
            "POST / HTTP/1.1\r\nhost: {}\r\nx-amz-target: {target}\r\nauthorization: AWS4-HMAC-SHA256 \
             Credential={}/20261124/us-east-1/aws/aws4_request, Signature=0\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}",
            self.endpoint,
            self.key,
            body.len()
        );
        let answer = ask(&self.endpoint, &request);
        assert!(answer.starts_with("HTTP/1.1 200"), "{target}: {answer}");
        let body = answer.split_once("\r\n\r\n").map(|(_, body)| body).unwrap_or_default();
        serde_json::from_str(body).unwrap_or_default()
    }

    /// Ends it as Ctrl-C does.
    ///
    /// # Panics
    /// It does not end.
    pub fn interrupt(&mut self) {
        let pid = self.process.id().to_string();
        assert!(Command::new("kill").args(["-INT", &pid]).status().is_ok_and(|status| status.success()));
        let begun = Instant::now();
        while self.process.try_wait().is_ok_and(|status| status.is_none()) {
            assert!(begun.elapsed() < Duration::from_secs(60), "it does not end");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        drop(self.process.kill());
        drop(self.process.wait());
    }
}

/// Sends a form of the console, as its page does without a script: `what` it does, and its fields as they go over the wire.
///
/// # Panics
/// The console does not let the page in, or refuses the form.
pub fn press(link: &str, what: &str, fields: &str) {
    let (address, path) = link.trim_start_matches("http://").split_once('/').unwrap_or_default();
    let folder = path.split('/').next().unwrap_or_default();
    let send = |method: &str, path: &str, headers: &str, body: &str| {
        let length = body.len();
        ask(
            address,
            &format!(
                "{method} /{path} HTTP/1.1\r\nhost: {address}\r\n{headers}connection: close\r\ncontent-length: {length}\r\n\r\n{body}"
            ),
        )
    };
    let between = |text: &str, begin: &str, end: &str| {
        let found = text.split_once(begin).and_then(|(_, rest)| rest.split_once(end));
        found.map(|(found, _)| found.to_owned()).unwrap_or_else(|| panic!("no {begin:?} in {text}"))
    };
    let cookie = format!("cookie: {}\r\n", between(&send("GET", path, "", ""), "set-cookie: ", ";"));
    let word = between(&send("GET", &format!("{folder}/"), &cookie, ""), "name=\"word\" value=\"", "\"");
    let headers = format!("{cookie}origin: http://{address}\r\ncontent-type: application/x-www-form-urlencoded\r\n");
    let answer = send("POST", &format!("{folder}/do/{what}"), &headers, &format!("word={word}&{fields}"));
    assert!(answer.starts_with("HTTP/1.1 303"), "{what}: {answer}");
}

/// What is answered at this address to a request that ends its connection.
///
/// # Panics
/// Nobody answers.
#[must_use]
pub fn ask(address: &str, request: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap_or_else(|error| panic!("{address}: {error}"));
    stream.write_all(request.as_bytes()).unwrap_or_else(|error| panic!("{address}: {error}"));
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap_or_else(|error| panic!("{address}: {error}"));
    String::from_utf8_lossy(&answer).into_owned()
}
