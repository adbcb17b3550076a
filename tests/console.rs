//! The console in a real browser: one start of the shop for everything that is clicked on.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should panic where it stands")]

use std::io::Write as _;

use serde_json::json;
use tests::browser::Browser;
use tests::served::{Served, ask};

use crate::machine::{account, ports, processes_of, programs, shop};

/// What is wrong with a page for who does not see it well.
const ACCESSIBLE: &str = include_str!("src/accessible.js");

/// A browser; none is a failure where the whole of the tests must have run.
fn browser() -> Option<Browser> {
    match Browser::start() {
        Ok(browser) => Some(browser),
        Err(why) if std::env::var_os("CUTOVER_EVERY_TEST").is_none() => {
            // Not by a macro, whose words are kept back when a test succeeds.
            let said = format!("\n!!! THE CONSOLE WAS NOT TESTED: {why}\n\n");
            std::io::stderr().write_all(said.as_bytes()).unwrap();
            None
        }
        Err(why) => panic!("{why}"),
    }
}

/// What who has no cookie is answered, and who sends a form of his own.
fn strangers_are_refused(served: &Served) {
    let (address, path) = served.link.strip_prefix("http://").unwrap().split_once('/').unwrap();
    let (folder, _) = path.split_once("/?key=").unwrap();
    for (request, host) in [
        (format!("GET /{folder}/"), address),
        (format!("GET /{folder}/events"), address),
        (format!("GET /{folder}/?key=00000000000000000000000000000000"), address),
        (format!("GET /{path}"), "evil.example"),
        (format!("POST /{folder}/do/start"), address),
        ("GET /".to_owned(), address),
    ] {
        let whole = format!("{request} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\ncontent-length: 0\r\n\r\n");
        let answer = ask(address, &whole);
        assert!(answer.starts_with("HTTP/1.1 403") && !answer.contains("set-cookie"), "{request}: {answer}");
        assert!(answer.contains("content-security-policy: default-src 'none'"), "{answer}");
    }
}

/// Puts lines into the log of the release that the page shows, as a program of the application's might.
fn write(served: &Served, browser: &Browser, lines: &[&str]) {
    let release = browser.text("return document.querySelector('#release h2 code').title");
    let now = browser.eval("return Date.now()");
    let events: Vec<_> = lines.iter().map(|line| json!({"timestamp": now, "message": line})).collect();
    served.call(
        "Logs_20140328.PutLogEvents",
        &json!({"logGroupName": "cutover-releases", "logStreamName": format!("cutover-pipeline/{release}"), "logEvents": events}),
    );
}

/// As WebDriver calls the key.
const ENTER: char = '\u{e007}';

#[test]
fn a_release_is_watched_started_approved_rejected_stopped_and_retried_by_clicking_and_by_keyboard() {
    let Some(browser) = browser() else { return };
    let (local, state) = account("console", "local.yaml", ports());
    let mut served = Served::start(&programs().join("local"), &shop(), &local, &state);
    strangers_are_refused(&served);

    browser.open(&served.link);
    browser.until("document.title === 'shop: no release' && document.querySelector('#live.on')");
    assert!(!browser.text("return location.href").contains("key="), "the key does not stay in the address");
    let shows = |part: &str, text: &str| format!("document.querySelector('{part}').innerText.includes('{text}')");
    for row in ["us web", "eu worker"] {
        browser.until(&shows("#services-rows", row));
    }

    // By keyboard alone.
    browser.tab_to("#start button");
    browser.press(ENTER);
    browser.until(&shows("#stage-Migrate", "In progress"));
    browser.until(&shows("#lines", "us applying 003_customer_email"));

    // What a program writes is text, in its own colours, and nothing else.
    let evil = "eu | <img src=x onerror=\"document.title='owned'\">\u{1b}]0;owned\u{7}\u{1b}[31mred\u{1b}[0m</div><script>document.title='owned'</script>";
    write(&served, &browser, &[evil]);
    browser.until("document.querySelector('#lines .f1')?.innerText === 'red'");
    assert_eq!(browser.eval("return document.querySelectorAll('#lines img, #lines script').length"), 0);
    assert!(browser.text("return document.querySelector('#lines').innerText").contains("<img src=x onerror="));

    browser.until("document.title === 'shop: waits for your answer'");
    browser.until(&shows("#status", "Approve/Approve waits for your answer"));
    browser.until("document.querySelectorAll('#services-rows strong').length === 6");
    assert_eq!(browser.text("return [...new Set([...document.querySelectorAll('#services-rows strong')].map((one) => one.innerText))].join()"), "1.0");
    for (width, height, scheme) in [(1280, 900, "light"), (390, 844, "light"), (390, 844, "dark")] {
        browser.look(width, height, scheme);
        assert_eq!(browser.text(ACCESSIBLE), "", "{width} {scheme}");
        std::fs::write(state.join(format!("approval-{width}-{scheme}.png")), browser.picture(true)).unwrap();
    }
    browser.look(1280, 900, "light");
    // What is being typed stays while the page is told more.
    browser.type_into(".approval input[name=summary]", "Looks good");
    write(&served, &browser, &["us | one more line"]);
    browser.until(&shows("#lines", "one more line"));
    assert_eq!(browser.text("return document.querySelector('.approval input[name=summary]').value"), "Looks good");
    assert_eq!(browser.text("return document.activeElement.name"), "summary", "and so does the focus");
    // Who ends it with Enter has not answered.
    browser.press(ENTER);
    write(&served, &browser, &["us | another line"]);
    browser.until(&shows("#lines", "another line"));
    assert_eq!(browser.eval("return document.querySelectorAll('.approval').length"), 1, "nobody has answered");
    // Who does not see it is told.
    let heard = browser.text("return document.querySelector('[role=status]').innerText");
    assert!(heard.contains("waits for your answer"), "{heard}");
    // A job was asked for before the release: its worker outlives it.
    browser.until(&shows("#workers-list", "us exports"));
    browser.until(&shows("#workers-list", "Works on job spring"));
    // A form that does not have the page's own word does nothing.
    let forged = "return fetch('./do/start', {method: 'POST', body: new URLSearchParams({word: ''})}).then((answer) => answer.status)";
    assert_eq!(browser.eval(forged), 403);
    assert_eq!(browser.complaints().iter().filter(|line| !line.contains("403")).collect::<Vec<_>>(), [""; 0]);
    browser.tab_to(".approval button.good");
    browser.press(ENTER);
    browser.until("!document.querySelector('.approval')");
    browser.until(&shows("#stage-Approve", "Looks good"));

    browser.until(&shows("#stage-Deploy", "In progress"));
    // At once, as long as it is under way: it ends, and nothing after it begins.
    browser.click("#stop summary");
    browser.type_into("#stop input[name=reason]", "lunch");
    browser.click("#stop button");
    browser.until(&shows("#release", "Stopping"));
    browser.until("document.querySelector('#services-rows .fresh')");
    // A deployment's steps, which stay open while they are told anew.
    browser.click("#steps-us-web summary");
    browser.until("document.querySelector('#steps-us-web[open] ol.steps li')");
    write(&served, &browser, &["us | while the steps are open"]);
    browser.until(&shows("#lines", "while the steps are open"));
    browser.until("document.querySelector('#steps-us-web[open]')");
    std::fs::write(state.join("deploying-1280-light.png"), browser.picture(true)).unwrap();
    browser.until(&shows("#release", "Stopped"));
    assert!(browser.text("return document.querySelector('#release').innerText").contains("lunch"));
    assert!(browser.text("return document.querySelector('#stage-Deploy').innerText").contains("Drain"));
    // The action that was under way has ended: the traffic is on the new version everywhere.
    browser.until("[...document.querySelectorAll('#services-rows .fresh')].length === 6");
    browser
        .until("[...document.querySelectorAll('#services-rows tr')].every((row) => row.innerText.includes('100 %'))");

    browser.click("#stage-Deploy .retry button[value=no]");
    browser.until("document.title === 'shop: succeeded'");
    browser.until(&shows("#stage-Finish", "Succeeded"));
    // The old workers have gone; of web, the old tasks stay for as long as their group keeps them.
    let rows = |service: &str, is: &str| {
        format!(
            "[...document.querySelectorAll('#services-rows tr')].filter((row) => row.innerText.includes('{service}')).every((row) => {is})"
        )
    };
    browser.until(&rows("worker", "row.querySelectorAll('strong').length === 1 && !row.innerText.includes('1.0')"));
    browser.until(&rows("web", "row.innerText.includes('old tasks kept') && row.querySelector('.fresh')"));

    // Another one, given up at once.
    browser.click("#start summary");
    browser.click("#start button");
    browser.until("document.querySelector('#releases-list').children.length === 2");
    browser.click("#stop summary");
    browser.click("#stop input[value=yes]");
    browser.click("#stop button");
    browser.until("document.title === 'shop: stopped'");

    // One that is rejected.
    browser.click("#start summary");
    browser.click("#start button");
    browser.until("document.querySelector('#releases-list').children.length === 3");
    browser.type_into(".approval input[name=summary]", "Not today");
    browser.click(".approval button.bad");
    browser.until("document.title === 'shop: failed'");
    browser.until(&shows("#stage-Approve", "Not today"));
    // What is written down of those that have ended, with who answered.
    browser.until("document.querySelectorAll('#records-list li').length === 3");
    browser.click("#records-list li:last-child summary");
    browser.until(&shows("#records-list li:last-child pre", "Approved by local: Looks good"));

    // The first one has a page of its own, with its own log, of one environment if that is wanted.
    browser.click("#releases-list li:last-child a");
    browser.until("location.search.includes('release=') && document.title === 'shop: succeeded'");
    browser.click(".filters a.e0");
    browser.until("location.search.includes('environment=us') && document.querySelector('#live.on')");
    browser.until("document.querySelector('.filters [aria-current]')?.innerText === 'us'");
    let labels = browser
        .text("return [...new Set([...document.querySelectorAll('#lines .env')].map((one) => one.innerText))].join()");
    assert_eq!(labels, "us");
    let text = browser.text("return fetch('./log.txt' + location.search).then((answer) => answer.text())");
    assert!(text.contains("us | migrate complete") && !text.contains("eu | "), "{text}");
    browser.look(1280, 900, "dark");
    assert_eq!(browser.text(ACCESSIBLE), "");
    std::fs::write(state.join("succeeded-1280-dark.png"), browser.picture(true)).unwrap();

    served.interrupt();
    browser.until(&shows("#live", "The run has ended"));
    assert!(processes_of(&state).is_empty(), "{:?}", processes_of(&state));
    assert_eq!(browser.complaints(), [""; 0]);
}
