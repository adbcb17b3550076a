//! A real browser, headless, driven over WebDriver: HTTP and JSON, as `chromedriver` speaks them.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::os::unix::fs::MetadataExt as _;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use aws_smithy_types::base64;
use serde_json::{Value, json};

/// How long something may take until the page shows it, unless said otherwise.
const PATIENCE: Duration = Duration::from_secs(60);

/// A browser with one page; it ends when it is dropped.
#[derive(Debug)]
pub struct Browser {
    driver: Child,
    port: u16,
    session: String,
}

/// What a machine without a browser is told.
pub const MISSING: &str = "there is no chromedriver: `apt-get install chromium chromium-driver`, as .ci/run does";

/// How many stops of Tab a page may have.
const MOST_STOPS: usize = 150;

impl Browser {
    /// Starts one.
    ///
    /// # Errors
    /// There is none on this machine, or it does not start.
    pub fn start() -> Result<Self, String> {
        let started = Command::new("chromedriver").arg("--port=0").stdout(Stdio::piped()).stderr(Stdio::null()).spawn();
        let mut driver = started.map_err(|error| format!("{MISSING} ({error})"))?;
        let out = driver.stdout.take().ok_or("chromedriver has no output")?;
        let mut lines = BufReader::new(out).lines().map_while(Result::ok);
        let port = lines.find_map(|line| {
            let (_, rest) = line.split_once("started successfully on port ")?;
            rest.trim_end_matches('.').parse().ok()
        });
        // What else it says is read and thrown away, so that it never waits for a reader.
        std::thread::spawn(move || lines.for_each(drop));
        let mut browser = Self { driver, port: port.ok_or("chromedriver does not start")?, session: String::new() };
        let mut arguments = vec![
            "--headless=new",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--hide-scrollbars",
            "--window-size=1280,900",
        ];
        // Chromium's sandbox refuses to run as root, which machines that test often are.
        if std::fs::metadata("/proc/self").is_ok_and(|own| own.uid() == 0) {
            arguments.push("--no-sandbox");
        }
        let wanted = json!({"capabilities": {"alwaysMatch": {
            "goog:chromeOptions": {"args": arguments}, "goog:loggingPrefs": {"browser": "ALL"}}}});
        let answer = browser.request("POST", "/session", &wanted)?;
        browser.session = answer["sessionId"].as_str().ok_or(format!("no session: {answer}"))?.to_owned();
        Ok(browser)
    }

    fn request(&self, method: &str, path: &str, body: &Value) -> Result<Value, String> {
        let failed = |error: std::io::Error| format!("{method} {path}: {error}");
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).map_err(failed)?;
        stream.set_read_timeout(Some(PATIENCE)).map_err(failed)?;
        let body = if method == "POST" { body.to_string() } else { String::new() };
        let head = format!(
            "{method} {path} HTTP/1.1\r\nhost: 127.0.0.1:{}\r\ncontent-type: application/json\r\nconnection: close\r\n\
             content-length: {}\r\n\r\n",
            self.port,
            body.len()
        );
        stream.write_all(format!("{head}{body}").as_bytes()).map_err(failed)?;
        let mut reader = BufReader::new(stream);
        let mut length = 0;
        loop {
            let mut line = String::new();
            reader.read_line(&mut line).map_err(failed)?;
            match line.trim_end().to_lowercase().split_once(':') {
                Some(("content-length", value)) => length = value.trim().parse().unwrap_or_default(),
                Some(_) => {}
                None if line.trim_end().is_empty() => break,
                None => {}
            }
        }
        let mut text = vec![0; length];
        reader.read_exact(&mut text).map_err(failed)?;
        let answer: Value = serde_json::from_slice(&text).map_err(|error| format!("{method} {path}: {error}"))?;
        match answer["value"].get("error") {
            Some(error) => Err(format!("{method} {path}: {error}: {}", answer["value"]["message"])),
            None => Ok(answer["value"].clone()),
        }
    }

    fn post(&self, path: &str, body: &Value) -> Result<Value, String> {
        self.request("POST", &format!("/session/{}/{path}", self.session), body)
    }

    /// Opens an address.
    ///
    /// # Panics
    /// It cannot be opened.
    pub fn open(&self, address: &str) {
        self.post("url", &json!({"url": address})).unwrap_or_else(|why| panic!("{why}"));
    }

    /// What a piece of script returns in the page.
    ///
    /// # Panics
    /// It fails.
    pub fn eval(&self, script: &str) -> Value {
        self.try_eval(script).unwrap_or_else(|why| panic!("{script}: {why}"))
    }

    fn try_eval(&self, script: &str) -> Result<Value, String> {
        self.post("execute/sync", &json!({"script": script, "args": []}))
    }

    /// What a piece of script returns, as text.
    pub fn text(&self, script: &str) -> String {
        self.eval(script).as_str().unwrap_or_default().to_owned()
    }

    /// Waits until an expression is true in the page, which may be another one by then.
    ///
    /// # Panics
    /// It never is; the page's text is in the message.
    pub fn until(&self, expression: &str) {
        let begun = Instant::now();
        while !matches!(self.try_eval(&format!("return Boolean({expression})")), Ok(Value::Bool(true))) {
            if begun.elapsed() > PATIENCE {
                let page = self.try_eval("return document.body.innerText").unwrap_or_else(|why| json!(why));
                panic!("it is never so: {expression}\n{}", page.as_str().unwrap_or_default());
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Clicks on what a person would click on, and types there what is given.
    ///
    /// # Panics
    /// It is never there to be clicked on.
    pub fn click(&self, selector: &str) {
        self.element(selector, "click", &json!({}));
    }

    /// Types into a field.
    ///
    /// # Panics
    /// It is never there to be typed into.
    pub fn type_into(&self, selector: &str, text: &str) {
        self.element(selector, "value", &json!({"text": text}));
    }

    /// Presses a key, as WebDriver calls it (`\u{e004}` is Tab, `\u{e007}` Enter).
    ///
    /// # Panics
    /// The browser does not take it.
    pub fn press(&self, key: char) {
        let key = key.to_string();
        let actions = json!([{"type": "keyDown", "value": key}, {"type": "keyUp", "value": key}]);
        let asked = self.post("actions", &json!({"actions": [{"type": "key", "id": "keyboard", "actions": actions}]}));
        asked.unwrap_or_else(|why| panic!("{why}"));
    }

    /// Goes with Tab to an element, from wherever the focus is, and sees at each stop where it is.
    ///
    /// # Panics
    /// It is never come to, or a stop cannot be seen.
    pub fn tab_to(&self, selector: &str) {
        let stop = format!(
            "const at = document.activeElement, look = getComputedStyle(at);
             const shown = at === document.body || (look.outlineStyle !== 'none' && parseFloat(look.outlineWidth) > 0) || look.boxShadow !== 'none';
             return (at.matches({selector:?}) ? 'there ' : '') + (shown ? '' : 'unseen: ' + at.outerHTML)"
        );
        for _ in 0..MOST_STOPS {
            self.press('\u{e004}');
            let said = self.text(&stop);
            assert!(!said.contains("unseen"), "{said}");
            if said.starts_with("there") {
                return;
            }
        }
        panic!("Tab does not lead to {selector}");
    }

    /// Does something with an element. One that is put in anew right then is found again.
    fn element(&self, selector: &str, does: &str, body: &Value) {
        let begun = Instant::now();
        loop {
            let found = self.post("element", &json!({"using": "css selector", "value": selector}));
            let done = found.and_then(|found| {
                let id = found.as_object().and_then(|ids| ids.values().next()).and_then(Value::as_str);
                self.post(&format!("element/{}/{does}", id.unwrap_or_default()), body)
            });
            match done {
                Ok(_) => return,
                Err(why) if begun.elapsed() > PATIENCE => panic!("{does} {selector}: {why}"),
                Err(_) => std::thread::sleep(Duration::from_millis(50)),
            }
        }
    }

    /// Makes the page so large, for eyes that want it light or dark.
    ///
    /// # Panics
    /// The browser does not know how.
    pub fn look(&self, width: u32, height: u32, scheme: &str) {
        let size = json!({"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600});
        let media = json!({"features": [{"name": "prefers-color-scheme", "value": scheme},
            {"name": "prefers-reduced-motion", "value": "reduce"}]});
        for (command, parameters) in
            [("Emulation.setDeviceMetricsOverride", size), ("Emulation.setEmulatedMedia", media)]
        {
            let asked = self.post("goog/cdp/execute", &json!({"cmd": command, "params": parameters}));
            asked.unwrap_or_else(|why| panic!("{command}: {why}"));
        }
    }

    /// A picture of what is seen, or of the whole page, as PNG.
    ///
    /// # Panics
    /// None can be taken.
    pub fn picture(&self, whole: bool) -> Vec<u8> {
        let parameters = json!({"format": "png", "captureBeyondViewport": whole, "optimizeForSpeed": false});
        let taken = self.post("goog/cdp/execute", &json!({"cmd": "Page.captureScreenshot", "params": parameters}));
        let taken = taken.unwrap_or_else(|why| panic!("{why}"));
        base64::decode(taken["data"].as_str().unwrap_or_default()).unwrap_or_else(|why| panic!("{why}"))
    }

    /// What the browser itself has complained of since it was asked last: scripts that failed, what the page's policy refused.
    ///
    /// # Panics
    /// It does not tell.
    pub fn complaints(&self) -> Vec<String> {
        let told = self.post("se/log", &json!({"type": "browser"})).unwrap_or_else(|why| panic!("{why}"));
        let lines = told.as_array().into_iter().flatten();
        lines.filter(|line| line["level"] == "SEVERE").map(|line| line["message"].to_string()).collect()
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // Ends Chromium, and then who drives it.
        drop(self.request("DELETE", &format!("/session/{}", self.session), &Value::Null));
        drop(self.driver.kill());
        drop(self.driver.wait());
    }
}
