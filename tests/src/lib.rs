//! The stage that scenarios play on: the world, the real functions in process, scripts for tasks, in virtual time.
//!
//! Invariant: on it, nothing waits for real. Every wait is tokio's, the clock is paused, and a release of an hour takes as
//! long as its decisions do.

mod asks;
pub mod browser;
mod client;
pub mod halt;
mod kinds;
mod lambda;
pub mod laws;
mod pages;
mod script;
pub mod served;
mod settings;
mod story;
pub mod sweep;
mod turns;
pub mod writes;

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::io::{Cursor, Write as _};
use std::rc::Rc;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use local::account::Account;
use local::template::{self, Stack};
use local::world::{Lateness, Quirks, Request, Response, World};
use serde_json::Value;
use shared::{Clock, Time};

use client::Wires;
pub use client::{Call, Meddling};
pub use kinds::{Kind, with_kinds};
pub use lambda::Fate;
pub use script::Script;
pub use settings::{SMALL, as_invoke_actions, is_in, of_task, wide, with_parameter};
pub use story::Story;

/// When every scenario begins.
pub const BEGIN: Time = Time::from_millis(1_700_000_000_000);

/// What becomes of an invocation, by the function and its event.
pub type Fates = Box<dyn FnMut(&str, &Value) -> Option<Fate>>;

/// What a function of the application's own answers, by its name and the stage, and how long after.
pub type Hook = Box<dyn Fn(&str, &str) -> (Duration, Result<(), String>)>;

/// What a scenario is set up from: good by default, with one thing changed.
pub struct Setting {
    /// `deploy.yaml`.
    pub manifest: String,
    /// `local.yaml`.
    pub account: String,
    /// The stack.
    pub change_stack: Box<dyn Fn(&mut Stack)>,
    /// What containers do.
    pub script: Box<dyn Fn(&local::world::Start) -> Script>,
    /// What functions of the application's own answer when a deployment calls them at a stage, and how long after.
    pub hook: Hook,
    /// How CloudWatch behaves.
    pub quirks: Quirks,
    /// How late CodeDeploy shows what it has done.
    pub lateness: Lateness,
    /// Whether a continuation keeps the id of the job before it.
    pub keep_job_ids: bool,
    /// Whether a job has another nonce each time that it is polled.
    pub renew_nonces: bool,
    /// What happens to calls of functions.
    pub meddle: Box<dyn FnMut(&Call<'_>) -> Meddling + Send>,
    /// What sees every call of functions, with what was done to it and what came back.
    pub witness: Witness,
    /// What happens to an invocation of a function with this event.
    pub fate: Fates,
    /// What the manifest is from the second release on, where that is another one.
    pub later_manifest: Option<String>,
    /// Whether each release has an image of its own: `:2.0`, `:3.0` and so on, rather than `:2.0`.
    pub own_images: bool,
    /// Whether a build names its image by digest, as the buildspecs do: `@sha256:222...` rather than `:2.0`.
    pub digests: bool,
    /// The registry that images are built into.
    pub registry: String,
    /// Something beside the manifest in the artifact.
    pub ballast: Vec<u8>,
    /// What all chance of the play follows from: ids, jitter, nonces.
    pub seed: u64,
    /// Whether the story is kept to be read, and not only its hash.
    pub keep_story: bool,
}

impl Default for Setting {
    fn default() -> Self {
        Self {
            manifest: include_str!("../../examples/shop/deploy.yaml").into(),
            account: include_str!("account.yaml").into(),
            change_stack: Box::new(|_| {}),
            script: Box::new(Script::of_shop),
            hook: Box::new(|_, _| (Duration::from_secs(1), Ok(()))),
            quirks: Quirks::default(),
            lateness: Lateness::default(),
            keep_job_ids: false,
            renew_nonces: false,
            meddle: Box::new(|_| Meddling::Pass),
            witness: Box::new(|_, _, _, _| {}),
            fate: Box::new(|_, _| None),
            later_manifest: None,
            own_images: false,
            digests: false,
            registry: "registry.example".into(),
            ballast: Vec::new(),
            seed: 0,
            keep_story: false,
        }
    }
}

/// What sees every call: the call, its request, what was done to it, and the answer that was sent, if any.
pub type Witness = Box<dyn FnMut(&Call<'_>, &Request, Meddling, Option<&Response>) + Send>;

/// A scenario under way.
#[derive(Clone)]
pub struct Stage(Rc<Inner>);

struct Inner {
    wires: Wires,
    stack: Stack,
    props: Props,
    log: Mutex<Vec<String>>,
    /// How many invocations there were, and the ids of the builds.
    sandboxes: Cell<u32>,
    build_ids: RefCell<Vec<String>>,
}

type Meddle = Arc<Mutex<Box<dyn FnMut(&Call<'_>) -> Meddling + Send>>>;

/// What of the setting is still needed.
struct Props {
    script: Box<dyn Fn(&local::world::Start) -> Script>,
    hook: Hook,
    fate: RefCell<Fates>,
    manifest: String,
    later_manifest: Option<String>,
    registry: String,
    ballast: Vec<u8>,
    own_images: bool,
    digests: bool,
    containers: Mutex<BTreeMap<(String, String), tokio::sync::mpsc::UnboundedSender<bool>>>,
}

/// Runs a scenario: sets the stage, lets the old version come up, and plays. What a function does in it, its role in the
/// template must allow.
pub fn play<F: Future<Output = ()>>(setting: Setting, scenario: impl FnOnce(Stage) -> F) {
    play_denied(setting, async |stage| {
        scenario(stage.clone()).await;
        let is_denied = |note: &String| note.contains("no identity-based policy allows");
        let denied: Vec<_> = stage.notes().into_iter().filter(is_denied).collect();
        assert!(denied.is_empty(), "{denied:#?}");
    });
}

/// The same where a function may try what its role does not allow, and is refused.
pub fn play_denied<F: Future<Output = ()>>(setting: Setting, scenario: impl FnOnce(Stage) -> F) {
    // Every chance in the functions and in the SDK comes from this thread's generator.
    fastrand::seed(setting.seed);
    // Without sockets: each timer would wake their driver, which costs two system calls.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    let runtime = runtime.expect("a runtime");
    let _turn = turns::take();
    tokio::task::LocalSet::new().block_on(&runtime, async {
        let stage = Stage::set(setting);
        tokio::task::spawn_local(stage.clone().keep_time());
        stage.until("the old version runs", Duration::from_secs(60), |world| world.is_settled()).await;
        scenario(stage).await;
    });
}

/// The stack of an account. Hundreds of plays are of the same few accounts, and reading the template takes as long as many calls.
fn stack_of(account: &Account) -> Stack {
    static READ: Mutex<BTreeMap<String, Stack>> = Mutex::new(BTreeMap::new());
    let of = format!("{:?} {} {}", account.parameters, account.account, account.region);
    let mut read = READ.lock().unwrap_or_else(PoisonError::into_inner);
    let text = include_str!("../../template.yaml");
    let new = || template::read(text, &account.parameters, &account.account, &account.region).expect("a good template");
    read.entry(of).or_insert_with(new).clone()
}

impl Stage {
    fn set(setting: Setting) -> Self {
        let account = Account::parse("local.yaml", &setting.account).expect("a good local.yaml");
        let mut stack = stack_of(&account);
        (setting.change_stack)(&mut stack);
        let mut world = World::new(stack.clone(), &account, setting.seed, BEGIN).expect("a good world");
        world.set_quirks(setting.quirks);
        world.set_lateness(setting.lateness);
        world.keep_job_ids(setting.keep_job_ids);
        world.renew_nonces(setting.renew_nonces);
        Self(Rc::new(Inner {
            wires: Wires {
                world: Arc::new(Mutex::new(world)),
                clock: Clock::set(BEGIN),
                changed: Arc::default(),
                meddle: Arc::new(Mutex::new(setting.meddle)),
                witness: Arc::new(Mutex::new(setting.witness)),
                late: Arc::default(),
                story: Story::new(BEGIN, setting.keep_story),
            },
            stack,
            props: Props {
                script: setting.script,
                hook: setting.hook,
                fate: RefCell::new(setting.fate),
                manifest: setting.manifest,
                later_manifest: setting.later_manifest,
                registry: setting.registry,
                ballast: setting.ballast,
                own_images: setting.own_images,
                digests: setting.digests,
                containers: Mutex::default(),
            },
            log: Mutex::default(),
            sandboxes: Cell::new(0),
            build_ids: RefCell::default(),
        }))
    }

    /// The world, to look at.
    pub fn world(&self) -> MutexGuard<'_, World> {
        self.0.wires.world.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The time.
    #[must_use]
    pub fn now(&self) -> Time {
        self.0.wires.clock.now()
    }

    /// What has happened so far.
    #[must_use]
    pub fn story(&self) -> &Story {
        &self.0.wires.story
    }

    /// What the world noted: requests that it does not know, functions that failed.
    #[must_use]
    pub fn notes(&self) -> Vec<String> {
        self.0.log.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Props {
    /// The image of a build, the first of which is 1.
    fn image(&self, build: usize) -> String {
        let version = if self.own_images { build + 1 } else { 2 };
        match self.digests {
            true => format!("{}/shop@sha256:{version:0>64}", self.registry),
            false => format!("{}/shop:{version}.0", self.registry),
        }
    }

    /// What the build of a release makes.
    fn artifact(&self, build: usize) -> Vec<u8> {
        let image = format!(r#"{{"ImageURI":"{}"}}"#, self.image(build));
        let manifest = self.later_manifest.as_ref().filter(|_| build > 1).unwrap_or(&self.manifest);
        zip(&[("deploy.yaml", manifest.as_bytes()), ("imageDetail.json", image.as_bytes()), ("ballast", &self.ballast)])
    }
}

/// An artifact that has these files.
#[must_use]
pub fn zip(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut writer = zip::ZipWriter::new(Cursor::new(Vec::new()));
    for (name, content) in files {
        writer.start_file(*name, zip::write::SimpleFileOptions::default()).expect("a zip");
        writer.write_all(content).expect("a zip");
    }
    writer.finish().expect("a zip").into_inner()
}
