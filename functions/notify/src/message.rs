//! Everything that people elsewhere read, in the shapes that Slack, Datadog and Sentry take.
//!
//! Slack: <https://docs.slack.dev/messaging/sending-messages-using-incoming-webhooks>, blocks of at most 3,000 characters.
//! Datadog: <https://docs.datadoghq.com/api/latest/events/#post-an-event> (v1). Sentry:
//! <https://docs.sentry.io/api/releases/create-a-new-release-for-an-organization/> and its deploys.

use serde_json::{Value, json};
use shared::aws::codepipeline::Sibling;
use shared::manifest::{Datadog, Http, Sentry};
use shared::text::{fit, plain};
use shared::time::spoken;
use shared::{Answer, Success, Time, Verdict};

use crate::release::Told;

/// The answer for an action that could not be done: the release has been deployed all the same.
pub(crate) fn not_announced(why: Verdict) -> Answer {
    let why = why.message.trim_end_matches('.');
    let summary = format!("Warning: perhaps not everybody was told: {why}. That fails nothing.");
    Answer::Succeeded(Success { summary, ..Success::default() })
}

/// The longest name, in a title of Slack's, escaped. All parts together must fit into a block's 3,000 characters; each is cut
/// before it is escaped, so that neither a block of code nor a character that was escaped is ever cut.
const LONGEST_NAME: usize = 150;

/// The longest commit message or person, escaped.
const LONGEST_ABOUT: usize = 400;

/// The longest body, escaped.
const LONGEST_BODY: usize = 1500;

/// The longest warnings together, escaped.
const LONGEST_WARNINGS: usize = 500;

/// How many verdicts and warnings are shown; the console has all.
const MOST_SHOWN: usize = 5;

/// What has happened, as Slack is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum News {
    Started,
    ApprovalWanted {
        asks: Option<String>,
        link: Option<String>,
    },
    Rejected {
        by: String,
        why: String,
    },
    /// Nobody has answered in time, or nobody could be asked.
    NotApproved {
        why: String,
    },
    Succeeded,
    Failed {
        verdicts: Vec<(String, String)>,
    },
    /// What it left was taken back: it was stopped, or has failed by itself.
    Halted {
        said: String,
        by_itself: bool,
    },
}

impl News {
    /// What stands in the release's log once it was told, so that it is told once.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Started => "that it has started",
            Self::ApprovalWanted { .. } => "that it waits for an approval",
            Self::Rejected { .. } => "that it was rejected",
            Self::NotApproved { .. } => "that it was not approved",
            Self::Succeeded => "that it has succeeded",
            Self::Failed { .. } => "that it has failed",
            Self::Halted { by_itself: false, .. } => "that it was stopped",
            Self::Halted { by_itself: true, .. } => "that what it left was taken back",
        }
    }
}

/// What whoever rejects a release should know.
fn stays(told: &Told) -> &'static str {
    match told.is_back {
        true => "Nothing was changed.",
        false => "Nothing was deployed. Tasks that have run before (migrations) are not undone.",
    }
}

/// What its own lines in the release's log begin with.
pub(crate) const OWN: &str = "notify | ";

/// "notify | Slack was told that it has started".
pub(crate) fn told(who: &str, what: &str) -> String {
    format!("{OWN}{who} was told {what}")
}

/// "notify | warning: Slack could not be told ...".
pub(crate) fn not_told(who: &str, what: &str, why: &str) -> String {
    format!("{OWN}warning: {who} could not be told {what}: {why}")
}

/// "notify | warning: ...": found when the release starts, not at its end.
pub(crate) fn misconfigured(why: &str) -> String {
    format!("{OWN}warning: {why}")
}

/// One message for Slack: what happened, what it is about, where to look.
pub(crate) fn slack(told: &Told, news: &News, warnings: &[String], now: Time) -> Value {
    let after = spoken(now.since(told.started));
    let (name, kind) = (within(&told.application, LONGEST_NAME, escaped), told.kind());
    let body_of = |text: &str| within(text, LONGEST_BODY, escaped);
    let (title, body) = match news {
        News::Started => {
            (format!(":rocket: {name}: {kind} started"), format!("by {}", within(&told.who, LONGEST_ABOUT, escaped)))
        }
        News::ApprovalWanted { asks, .. } => (
            format!(":raised_hand: {name}: approval wanted"),
            body_of(asks.as_deref().unwrap_or("A person must approve.")),
        ),
        News::Rejected { by, why } => {
            let body = format!("{}\n{}", body_of(why), stays(told));
            (format!(":no_entry: {name}: rejected by {}", within(by, LONGEST_NAME, escaped)), body)
        }
        News::NotApproved { why } => {
            (format!(":no_entry: {name}: not approved"), format!("{}\n{}", body_of(why), stays(told)))
        }
        News::Succeeded => {
            let what = if told.is_back { "went back" } else { "released" };
            (format!(":white_check_mark: {name}: {what} after {after}"), body_of(&told.stages_spoken()))
        }
        News::Failed { verdicts } => (format!(":x: {name}: {kind} failed after {after}"), failed(verdicts)),
        News::Halted { said, by_itself: false } => (format!(":octagonal_sign: {name}: {kind} stopped"), body_of(said)),
        News::Halted { said, by_itself: true } => (taken_back(&name, kind, said), body_of(said)),
    };
    let mut text = format!("*{title}*\n{}", about(told));
    if !body.is_empty() {
        text.push_str(&format!("\n{body}"));
    }
    let share = LONGEST_WARNINGS / warnings.len().clamp(1, MOST_SHOWN);
    for warning in warnings.iter().take(MOST_SHOWN) {
        text.push_str(&format!("\n:warning: {}", within(warning, share, escaped)));
    }
    let review = match news {
        News::ApprovalWanted { link, .. } => link.clone(),
        News::Started
        | News::Rejected { .. }
        | News::NotApproved { .. }
        | News::Succeeded
        | News::Failed { .. }
        | News::Halted { .. } => None,
    };
    let mut links = vec![format!("<{}|Pipeline>", told.pipeline_url)];
    links.extend(review.or_else(|| told.log_url.clone()).map(|url| format!("<{url}|Log>")));
    json!({
        "text": title,
        "blocks": [
            {"type": "section", "text": {"type": "mrkdwn", "text": text, "verbatim": true}},
            {"type": "context", "elements": [{"type": "mrkdwn", "text": links.join("  |  ")}]},
        ],
    })
}

/// How what was left of a release that has failed by itself was taken back: a preview on a phone shows no more than that.
fn taken_back(name: &str, kind: &str, said: &str) -> String {
    if said.starts_with("halt not complete yet") {
        format!(":hourglass_flowing_sand: {name}: not all that the failed {kind} left is taken back yet")
    } else if said.contains("NOT ROLLED BACK") || !said.starts_with("halt complete") {
        format!(":warning: {name}: NOT ALL that the failed {kind} left was taken back")
    } else if said.contains("STAYS LIVE") {
        format!(":warning: {name}: the {kind} failed after *Deploy*, and what it deployed stays live")
    } else {
        format!(":leftwards_arrow_with_hook: {name}: what the failed {kind} left is taken back")
    }
}

/// "Sell teapots (`abcdef0`)".
fn about(told: &Told) -> String {
    match (told.message.as_str(), told.short_commit()) {
        ("", "") => format!("execution `{}`", told.execution),
        ("", commit) => format!("`{commit}`"),
        (message, "") => within(message, LONGEST_ABOUT, escaped),
        (message, commit) => format!("{} (`{commit}`)", within(message, LONGEST_ABOUT, escaped)),
    }
}

fn failed(verdicts: &[(String, String)]) -> String {
    let shown = verdicts.len().clamp(1, MOST_SHOWN);
    let share = (LONGEST_BODY / shown).saturating_sub(LONGEST_NAME + 10);
    let each = verdicts.iter().take(MOST_SHOWN).map(|(action, verdict)| {
        format!("*{}*\n```{}```", within(action, LONGEST_NAME, escaped), within(verdict, share, in_a_block))
    });
    let mut said = each.collect::<Vec<_>>().join("\n");
    if verdicts.len() > MOST_SHOWN {
        said.push_str(&format!("\nand {} more", verdicts.len() - MOST_SHOWN));
    }
    said
}

/// Somebody else's text, in at most `most` characters once it is escaped: cut before that.
fn within(text: &str, most: usize, escape: fn(&str) -> String) -> String {
    let mut raw = most;
    loop {
        let escaped = escape(&fit(text, raw));
        if escaped.chars().count() <= most || raw == 0 {
            return escaped;
        }
        raw = raw * 3 / 4;
    }
}

/// Somebody else's text where nothing formats, without what moves or hides.
fn plain_lines(text: &str) -> String {
    text.lines().map(plain).collect::<Vec<_>>().join("\n")
}

/// What stands between a character that formats or addresses and its neighbours, so that it does neither: it has no width.
const JOINER: &str = "\u{2060}";

/// The same in a block of code, where nothing formats but the end of the block.
fn in_a_block(text: &str) -> String {
    plain_lines(text).replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace("```", "'''")
}

/// Somebody else's text in Slack: its three special characters, and those that format.
fn escaped(text: &str) -> String {
    let lines = plain_lines(text);
    let each = lines.chars().map(|char| match char {
        '&' => "&amp;".to_owned(),
        '<' => "&lt;".to_owned(),
        '>' => "&gt;".to_owned(),
        '*' | '_' | '~' | '`' => format!("{char}{JOINER}"),
        _ => char.to_string(),
    });
    each.collect()
}

/// Somebody else's text in Datadog, where `@` addresses people and channels; without `%%%`, nothing formats.
fn unaddressed(text: &str) -> String {
    plain(text).replace('@', &format!("@{JOINER}"))
}

/// Datadog's event.
pub(crate) fn datadog(told: &Told, to: &Datadog, now: Time) -> Value {
    let text = format!(
        "{} ({}), {} by {} after {}: {}.\n{}",
        unaddressed(&told.message),
        told.short_commit(),
        if told.is_back { "gone back to" } else { "released" },
        unaddressed(&told.who),
        spoken(now.since(told.started)),
        told.stages_spoken(),
        told.pipeline_url
    );
    let mut tags = vec![format!("application:{}", told.application)];
    tags.extend(Some(format!("version:{}", told.commit)).filter(|_| !told.commit.is_empty()));
    tags.extend(to.tags.iter().cloned());
    json!({
        "title": format!("{} {}", told.application, if told.is_back { "went back" } else { "released" }),
        "text": fit(&text, 3900),
        "alert_type": "success",
        "date_happened": now.millis() / 1000,
        "aggregation_key": fit(&told.execution, 100),
        "tags": tags,
    })
}

/// Sentry's release, with its commit.
pub(crate) fn sentry_release(told: &Told, to: &Sentry) -> Value {
    let mut release = json!({"version": told.commit, "projects": to.projects, "url": told.pipeline_url});
    if !told.repository.is_empty() {
        release["commits"] = json!([
            {"id": told.commit, "repository": plain(&told.repository), "message": plain_lines(&told.message)}
        ]);
    }
    release
}

/// Sentry's deploy.
pub(crate) fn sentry_deploy(told: &Told, to: &Sentry, now: Time) -> Value {
    json!({
        "environment": to.environment,
        "name": told.execution,
        "url": told.pipeline_url,
        "dateStarted": told.started.to_string(),
        "dateFinished": now.to_string(),
    })
}

/// Somebody's own body, with the release's own words in its texts.
pub(crate) fn http(told: &Told, to: &Http, now: Time) -> Value {
    let seconds = now.since(told.started).as_secs().to_string();
    // Whoever gets it may take `@` for people and `<` for links: a commit's message addresses nobody.
    let message = plain_lines(&told.message).replace('@', &format!("@{JOINER}")).replace('<', &format!("<{JOINER}"));
    let words = [
        ("{application}", told.application.as_str()),
        ("{pipeline}", &told.pipeline),
        ("{execution}", &told.execution),
        ("{commit}", &told.commit),
        ("{message}", &message),
        ("{seconds}", &seconds),
    ];
    filled(&to.body, &words)
}

fn filled(value: &Value, words: &[(&str, &str)]) -> Value {
    match value {
        Value::String(text) => words.iter().fold(text.clone(), |text, (word, with)| text.replace(word, with)).into(),
        Value::Array(items) => items.iter().map(|item| filled(item, words)).collect(),
        Value::Object(fields) => fields.iter().map(|(name, item)| (name.clone(), filled(item, words))).collect(),
        Value::Null | Value::Bool(_) | Value::Number(_) => value.clone(),
    }
}

/// Whether an action was tried again since.
pub(crate) fn was_repeated(one: &Sibling, actions: &[Sibling]) -> bool {
    actions.iter().any(|other| other.stage == one.stage && other.action == one.action && other.started > one.started)
}

/// The verdicts of the actions that have failed, and were not tried again since, those of approvals apart.
pub(crate) fn verdicts(actions: &[Sibling]) -> Vec<(String, String)> {
    let failed =
        actions.iter().filter(|one| one.has_failed() && one.category != "Approval" && !was_repeated(one, actions));
    let said = failed.map(|one| {
        let why = one.error.clone().or_else(|| one.summary.clone()).unwrap_or_else(|| "without a message".into());
        (format!("{}/{}", one.stage, one.action), why)
    });
    // The tail fails with its task, and has nothing of its own to say.
    let mut said: Vec<_> = said.filter(|(_, why)| !why.contains("failed: see the action beside this one")).collect();
    said.reverse();
    said
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn the_title_of_a_halt_says_what_was_not_taken_back() {
        for (said, title) in [
            ("halt complete: stopped migrate in us", "what the failed release left is taken back"),
            ("halt complete: NOT ROLLED BACK: us/web (why)", "NOT ALL that the failed release left was taken back"),
            ("halt incomplete: us: no answer", "NOT ALL that the failed release left was taken back"),
            ("halt not complete yet: us: no answer", "not all that the failed release left is taken back yet"),
            ("halt complete: *Deploy* had succeeded, and what it deployed STAYS LIVE", "what it deployed stays live"),
        ] {
            let found = taken_back("shop", "release", said);
            assert!(found.contains(title), "{found}");
        }
    }

    fn release() -> Told {
        Told {
            is_back: false,
            application: "shop".into(),
            pipeline: "shop-pipeline".into(),
            execution: "e-1".into(),
            commit: "abcdef0123456789".into(),
            message: "Sell <teapots> & cups".into(),
            repository: "example/shop".into(),
            who: "ada".into(),
            started: Time::from_millis(1_700_000_000_000),
            stages: vec![("Migrate".into(), Duration::from_secs(65)), ("Deploy".into(), Duration::from_secs(130))],
            pipeline_url: "https://pipeline".into(),
            log_url: Some("https://log".into()),
        }
    }

    const NOW: Time = Time::from_millis(1_700_000_200_000);

    #[test]
    fn a_verdict_is_of_the_newest_run_and_of_no_approval() {
        use shared::aws::codepipeline::ActionStatus;
        let run = |action: &str, began: u64, status| Sibling {
            stage: "S".into(),
            action: action.into(),
            category: if action == "Approve" { "Approval" } else { "Deploy" }.into(),
            status,
            started: Some(Time::from_millis(began)),
            error: Some(format!("{action} at {began}")),
            ..Sibling::default()
        };
        // The newest first, as CodePipeline lists them.
        let actions = [
            run("Deploy", 50, ActionStatus::Failed),
            run("Approve", 40, ActionStatus::Succeeded),
            run("Approve", 30, ActionStatus::Failed),
            run("Migrate", 20, ActionStatus::Succeeded),
            run("Migrate", 10, ActionStatus::Failed),
        ];
        assert_eq!(verdicts(&actions), [("S/Deploy".to_owned(), "Deploy at 50".to_owned())]);
        let actions = [run("Migrate", 20, ActionStatus::Failed), run("Migrate", 10, ActionStatus::Failed)];
        assert_eq!(verdicts(&actions), [("S/Migrate".to_owned(), "Migrate at 20".to_owned())]);
    }

    /// The bodies that are sent, as they were when somebody last looked at them with the services' documents beside.
    #[test]
    fn the_bodies_are_those_that_slack_datadog_and_sentry_document() {
        let told = release();
        let datadog_to = Datadog { api_key: "/k".into(), site: "datadoghq.eu".into(), tags: vec!["team:shop".into()] };
        let sentry = Sentry {
            token: "/t".into(),
            organization: "acme".into(),
            projects: vec!["shop".into()],
            environment: "production".into(),
            url: "https://sentry.io".into(),
        };
        let http_to = Http {
            url: "https://x".into(),
            authorization: None,
            body: json!({"text": "{application} {commit}", "n": [1, "{seconds}"]}),
        };
        let news = [
            News::Started,
            News::ApprovalWanted { asks: Some("migrate succeeded in us".into()), link: Some("https://logs".into()) },
            News::Rejected { by: "bob".into(), why: "Rejected: not today".into() },
            News::Succeeded,
            News::Failed { verdicts: vec![("Migrate/Migrate".into(), "migrate failed in ap: exit code 1".into())] },
            News::Halted { said: "halt complete: 3 stopped".into(), by_itself: false },
            News::Halted { said: "halt complete: 1 stopped".into(), by_itself: true },
        ];
        let mut sent: Vec<Value> = news.iter().map(|news| slack(&told, news, &[], NOW)).collect();
        sent.push(slack(&told, &News::Started, &["there is no SSM parameter `/k`".into()], NOW));
        sent.extend([
            datadog(&told, &datadog_to, NOW),
            sentry_release(&told, &sentry),
            sentry_deploy(&told, &sentry, NOW),
            http(&told, &http_to, NOW),
        ]);
        let text = serde_json::to_string_pretty(&sent).unwrap_or_default() + "\n";
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/bodies.json");
        let known = std::fs::read_to_string(path).unwrap_or_default();
        if known != text {
            let new = format!("{path}.new");
            std::fs::write(&new, &text).unwrap();
            panic!("the bodies differ from {path}: compare them with {new}, and take it over if it is right");
        }
    }

    #[test]
    fn what_others_wrote_can_neither_address_nor_format_nor_end_a_block() {
        let bad = "<!channel> *bold* _it_ `code` <https://evil.example|click> @here \u{1b}[2J\u{202e}x ```out";
        let told = Told { application: bad.into(), message: bad.into(), who: bad.into(), ..release() };
        let failed = News::Failed { verdicts: vec![(bad.to_owned(), bad.to_owned())] };
        for news in [
            News::Started,
            failed,
            News::Halted { said: bad.into(), by_itself: false },
            News::Rejected { by: bad.into(), why: bad.into() },
        ] {
            let body = slack(&told, &news, &[bad.to_owned()], NOW);
            let section = &body["blocks"][0]["text"];
            let (title, text) = (body["text"].as_str().unwrap(), section["text"].as_str().unwrap());
            assert!(
                !title.contains("<!channel>") && !title.contains("*bold*") && !title.contains('\u{1b}'),
                "{title:?}"
            );
            for what in ["<!channel>", "<https://evil", "\u{1b}", "\u{202e}"] {
                assert!(!text.contains(what), "{what:?} in {text:?}");
            }
            // Only our own title is bold, and only our own blocks of code begin and end.
            let (_, rest) = text.split_once('\n').unwrap();
            let outside: String = rest.split("```").step_by(2).collect();
            assert!(
                !outside.contains("*bold*") && !outside.contains("_it_") && !outside.contains("`code`"),
                "{text:?}"
            );
            assert!(rest.matches("```").count().is_multiple_of(2) && !text.contains("```out"), "{text:?}");
            assert_eq!(section["verbatim"], true, "names and addresses in it are not made links");
        }
        let to = Datadog { api_key: "/k".into(), site: "datadoghq.eu".into(), tags: Vec::new() };
        let text = datadog(&told, &to, NOW)["text"].as_str().unwrap().to_owned();
        assert!(!text.contains("@here") && !text.contains("%%%") && !text.contains('\u{1b}'), "{text:?}");
        let sentry = Sentry {
            token: "/t".into(),
            organization: "acme".into(),
            projects: vec!["shop".into()],
            environment: "production".into(),
            url: "https://sentry.io".into(),
        };
        let body = json!({"text": "{message}"});
        let http_to = Http { url: "https://x".into(), authorization: None, body };
        for sent in [sentry_release(&told, &sentry), http(&told, &http_to, NOW)] {
            let text = sent.to_string();
            assert!(!text.contains("\\u001b") && !text.contains('\u{202e}') && text.contains("bold"), "{text}");
        }
        let told = Told { message: "@everyone see <https://x.example>".into(), ..release() };
        let sent = http(&told, &http_to, NOW)["text"].as_str().unwrap_or_default().to_owned();
        assert!(!sent.contains("@e") && !sent.contains("<h"), "{sent:?}");
    }

    #[test]
    fn a_message_for_slack_stays_within_its_limits_and_shows_no_markup_of_others() {
        let long = vec![("A/B".to_owned(), "<x>".repeat(5000)); 9];
        let body = slack(&release(), &News::Failed { verdicts: long }, &[], NOW);
        let text = body["blocks"][0]["text"]["text"].as_str().unwrap();
        assert!(text.chars().count() <= 3000 && !text.contains("<x>"), "{}", text.len());
        // No block of code and no escaped character was cut: each that begins ends.
        assert_eq!(text.matches("```").count(), 2 * MOST_SHOWN, "{text}");
        assert!(text.ends_with("and 4 more"), "{text}");
        let is_whole = |rest: &str| ["lt;", "gt;", "amp;"].iter().any(|entity| rest.starts_with(entity));
        assert!(text.split('&').skip(1).all(is_whole), "{text}");
        for long in ["&".repeat(9000), "*".repeat(9000), "`".repeat(9000), "x".repeat(9000)] {
            let told = Told { application: long.clone(), message: long.clone(), who: long.clone(), ..release() };
            let verdicts = vec![(long.clone(), long.clone()); 2];
            for news in
                [News::Started, News::Failed { verdicts }, News::Rejected { by: long.clone(), why: long.clone() }]
            {
                let body = slack(&told, &news, &vec![long.clone(); 9], NOW);
                let text = body["blocks"][0]["text"]["text"].as_str().unwrap();
                assert!(text.chars().count() <= 3000, "{}", text.chars().count());
                assert!(text.matches("```").count().is_multiple_of(2));
            }
        }
    }
}
