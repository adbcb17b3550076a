//! The two files of an application, and the account that follows.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::*;
use crate::account::{Controller, Engine, Protocol};

const SHOP: &str = include_str!("../../../examples/shop/deploy.yaml");

/// A folder of its own with these files; it goes with the test.
struct Folder(PathBuf);

impl Folder {
    fn with(name: &str, files: &[(&str, &str)]) -> Self {
        let folder = std::env::temp_dir().join(format!("cutover-{name}-{}", std::process::id()));
        drop(std::fs::remove_dir_all(&folder));
        std::fs::create_dir_all(&folder).unwrap();
        for (name, text) in files {
            std::fs::write(folder.join(name), text).unwrap();
        }
        Self(folder)
    }

    fn read(&self) -> Result<Account, String> {
        let read = read_application(&self.0, None, Path::new("state"));
        read.map(|read| read.account).map_err(|Mistake(why)| why.replace(&format!("{}/", self.0.display()), ""))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        drop(std::fs::remove_dir_all(&self.0));
    }
}

fn definition<'a>(account: &'a Account, region: &str, family: &str) -> &'a Value {
    account.regions[region].task_definitions.iter().find(|one| one["family"] == family).unwrap()
}

fn variables(definition: &Value) -> Vec<(&str, &str)> {
    let all = definition["containerDefinitions"][0]["environment"].as_array().unwrap();
    all.iter().map(|one| (one["name"].as_str().unwrap(), one["value"].as_str().unwrap())).collect()
}

const BLOG: &str = "\
application: Blog
environments:
  eu: {region: eu-west-1, cluster: blog}
  us: {region: us-east-1, cluster: blog, role: \"arn:aws:iam::444455556666:role/cutover\"}
tasks:
  migrate: {family: blog-web, command: [./blog, migrate]}
services:
  web: {kind: web, service: web, family: blog-web, container: blog, port: 8000}
  worker: {kind: worker, service: work-{environment}, family: blog-worker, container: blog}
";

#[test]
fn an_account_follows_from_what_is_deployed_and_how_a_container_is_started() {
    let local = "\
build: {command: [make]}
databases: [{command: [./blog, migrate, --to, \"1\"]}]
environment: {DATABASE: \"{state}/{environment}.db\"}
containers:
  blog-web: {command: [./blog, serve, \"{port}\"], environment: {MAX: \"1\"}}
  blog-worker: {command: [./blog, work], stop_timeout: 1m}
services: {web: {tasks: 2}}
environments:
  us: {containers: {blog-web: {environment: {MAX: \"2\"}}}}
";
    let folder = Folder::with(
        "follows",
        &[("deploy.yaml", &BLOG.replace("work-{environment}", "\"work-{environment}\"")), ("local.yaml", local)],
    );
    let account = folder.read().unwrap();
    let keys: Vec<_> = account.regions.keys().map(String::as_str).collect();
    assert_eq!(keys, ["444455556666/us-east-1", "eu-west-1"]);
    assert_eq!(account.regions[keys[0]].account.as_deref(), Some("444455556666"));
    assert_eq!(variables(definition(&account, "eu-west-1", "blog-web")), [("DATABASE", "state/eu.db"), ("MAX", "1")]);
    assert_eq!(variables(definition(&account, keys[0], "blog-web")), [("DATABASE", "state/us.db"), ("MAX", "2")]);
    let container = &definition(&account, "eu-west-1", "blog-worker")["containerDefinitions"][0];
    assert_eq!((&container["name"], &container["stopTimeout"]), (&json!("blog"), &json!(60)));
    let cluster = &account.regions["eu-west-1"].clusters["blog"];
    let (web, worker) = (&cluster.services["web"], &cluster.services["work-eu"]);
    assert_eq!(
        (web.desired, web.port, web.container_port, web.controller),
        (2, Some(8101), Some(8000), Controller::Ecs)
    );
    assert_eq!((worker.desired, worker.port, worker.container_port), (1, None, None), "nobody asks a worker");
    assert_eq!(account.regions[keys[0]].clusters["blog"].services["web"].port, Some(8102));
    // Each database is set up with the variables that its containers have.
    let databases: Vec<_> = account.setup.iter().map(|setup| setup.environment["DATABASE"].as_str()).collect();
    assert_eq!(databases, ["state/eu.db", "state/us.db"]);
    assert_eq!(account.build.image, "registry.example/blog");
    assert_eq!(account.parameters["EnvironmentRoles"], "arn:aws:iam::444455556666:role/cutover");
}

#[test]
fn the_shops_file_makes_the_account_that_the_tests_play_with() {
    let local = include_str!("../../../examples/shop/local.yaml");
    let folder = Folder::with("shop", &[("deploy.yaml", SHOP), ("local.yaml", local)]);
    let account = folder.read().unwrap();
    let full = Account::parse("f", include_str!("../../../tests/src/account.yaml")).unwrap();
    for (name, region) in &full.regions {
        let same = &account.regions[name];
        assert_eq!(format!("{:?}", same.clusters), format!("{:?}", region.clusters));
        assert_eq!(format!("{:?}", same.deployment_groups), format!("{:?}", region.deployment_groups));
    }
    assert_eq!(account.parameters["SecretsPath"], "/shop/");
    assert_eq!(account.ssm["/shop/sentry-token"], "local");
}

#[test]
fn a_variant_says_what_differs_and_nothing_else() {
    let base = "build: {command: [make]}\ncontainers: {blog-web: {command: [a], environment: {A: \"1\", B: \"1\"}}, blog-worker: {command: [b]}}\n";
    let variant = "\
extends: base.yaml
containers: {blog-web: {environment: {B: \"2\"}}}
services:
  web: {deployment: {strategy: CANARY}, health_check: {protocol: TCP}}
environments: {us: {services: {web: {port: 9000}}}}
";
    let blog = BLOG.replace("work-{environment}", "worker");
    let folder = Folder::with("variant", &[("deploy.yaml", &blog), ("base.yaml", base), ("local.yaml", variant)]);
    let account = folder.read().unwrap();
    assert_eq!(variables(definition(&account, "eu-west-1", "blog-web")), [("A", "1"), ("B", "2")]);
    let web = &account.regions["444455556666/us-east-1"].clusters["blog"].services["web"];
    assert_eq!(
        (web.port, web.check().unwrap().protocol, web.deployment.strategy.word()),
        (Some(9000), Protocol::Tcp, "CANARY")
    );
    let application = read_application(&folder.0, None, Path::new("state")).unwrap();
    assert!(application.root.ends_with("base.yaml"), "all variants are one account: {:?}", application.root);
}

#[test]
fn every_mistake_of_a_file_is_said_at_once_with_its_place() {
    let local = "\
build: {command: []}
containers:
  blog-wbe: {command: [a]}
  blog-web: {compose: web, taskdef: web.json, commnad: [a]}
services: {wroker: {tasks: two}}
environments:
  uk: {databases: [{command: [a]}]}
  us: {services: {web: {port: 80800}}}
";
    let folder = Folder::with(
        "mistakes",
        &[("deploy.yaml", &BLOG.replace("work-{environment}", "worker")), ("local.yaml", local)],
    );
    let said = folder.read().unwrap_err();
    assert_eq!(
        said.lines().collect::<Vec<_>>(),
        [
            "local.yaml:1:9: build.command: name the program that builds the application",
            "local.yaml:3:3: containers.blog-wbe: in deploy.yaml, there is no family `blog-wbe`: did you mean `blog-web`?",
            "local.yaml:4:3: containers.blog-web: `compose` and `taskdef` exclude each other: keep one of them",
            "local.yaml:4:47: `commnad` is not known: did you mean `command`?",
            "local.yaml:5:12: services.wroker: in deploy.yaml, there is no service `wroker`: did you mean `worker`?",
            "local.yaml:5:28: a whole number is expected",
            "local.yaml:7:3: environments.uk: in deploy.yaml, there is no environment `uk`: did you mean `us`?",
            "local.yaml:8:31: a whole number from 0 to 65535 is expected",
        ]
    );
}

#[test]
fn a_deployment_that_ecs_would_refuse_is_said_before_anything_runs() {
    let local = "\
build: {command: [make]}
account: 1234
containers: {blog-web: {command: [serve]}, blog-worker: {command: [work]}}
services:
  web:
    health_check: {path: health}
    deployment:
      strategy: CANARY
      step_percent: 150
      lifecycle_hooks: [{stages: [PRE_PRODUCTION_TRAFIC_SHIFT]}, {stages: [POST_SCALE_UP], function: nope}]
";
    let folder = Folder::with(
        "refused-deployment",
        &[("deploy.yaml", &BLOG.replace("work-{environment}", "worker")), ("local.yaml", local)],
    );
    let why = folder.read().unwrap_err();
    for said in [
        "account: an account's number has twelve digits: write it as \"111122223333\"",
        "services.web.health_check.path: a path begins with `/`, such as `/health`",
        "services.web.deployment.step_percent: a step moves 1 to 100 percent of the traffic",
        "services.web.deployment.lifecycle_hooks.0.stages: there is no stage `PRE_PRODUCTION_TRAFIC_SHIFT`: did you mean \
         `PRE_PRODUCTION_TRAFFIC_SHIFT`?",
        "services.web.deployment.lifecycle_hooks.1.function: there is no function `nope`: say what it does below `hooks`",
    ] {
        assert!(why.lines().any(|line| line.starts_with("local.yaml:") && line.ends_with(said)), "{said}\n{why}");
    }
}

#[test]
fn what_only_an_image_knows_must_be_said_and_with_real_containers_need_not() {
    let blog = BLOG.replace("work-{environment}", "worker");
    let local = "build: {command: [make]}\n";
    let folder = Folder::with("unknown", &[("deploy.yaml", &blog), ("local.yaml", local)]);
    let said = folder.read().unwrap_err();
    let why = "only its image knows what it starts: give the command that does so here";
    let expected = ["blog-web", "blog-worker"].map(|family| format!("local.yaml: containers.{family}.command: {why}"));
    assert_eq!(said.lines().collect::<Vec<_>>(), expected);
    let folder =
        Folder::with("known", &[("deploy.yaml", &blog), ("local.yaml", &format!("{local}run_with: docker\n"))]);
    assert_eq!(folder.read().unwrap().run_with, Engine::Docker);
}

#[test]
fn a_task_definition_is_taken_as_people_have_it() {
    let unnamed = BLOG.replace("work-{environment}", "worker");
    let blog = unnamed.replace("{family: blog-web, command", "{family: blog-web, container: blog, command");
    let local = "build: {command: [make]}\ncontainers: {blog-web: {taskdef: web.json, environment: {TOKEN: t}}, blog-worker: {command: [w]}}\n";
    let described = json!({"tags": [{"key": "team", "value": "blog"}], "taskDefinition": {
        "family": "blog-web", "revision": 7, "status": "ACTIVE", "taskDefinitionArn": "arn:...", "cpu": "1024",
        "containerDefinitions": [
            {"name": "blog", "command": ["./blog"], "secrets": [{"name": "TOKEN", "valueFrom": "/blog/token"}],
             "environmentFiles": [{"value": "arn:aws:s3:::blog/web.env", "type": "s3"}]},
            {"name": "agent", "image": "agent"},
            // Arguments of its image's entrypoint.
            {"name": "collector", "image": "collector", "command": ["--config=/etc/ecs/default.yaml"]},
        ],
    }});
    let files = [("deploy.yaml", blog.as_str()), ("local.yaml", local), ("web.json", &described.to_string())];
    let folder = Folder::with("taskdef", &files);
    let account = folder.read().unwrap();
    let found = definition(&account, "eu-west-1", "blog-web");
    assert_eq!(
        (&found["cpu"], &found["tags"][0]["key"], found.get("revision")),
        (&json!("1024"), &json!("team"), None)
    );
    assert_eq!(found["containerDefinitions"].as_array().unwrap().len(), 1);
    let notes = [
        "containers.blog-web: the `environmentFiles` of `blog` are in S3 and not read here: say below `environment` what they say",
        "containers.blog-web: agent, collector are not started here: only an image has what is started",
    ];
    assert_eq!(account.notes, notes, "and in both environments they are said once");
    let files = [("deploy.yaml", unnamed.as_str()), ("local.yaml", local), ("web.json", &described.to_string())];
    let refused = Folder::with("taskdef-unnamed", &files).read().unwrap_err().to_string();
    let said = "deploy.yaml: tasks.migrate: its task definition `blog-web` has 3 containers (blog, agent, collector): say which `container` gets";
    assert!(refused.contains(said), "{refused}");
    for (from, to, said) in [
        ("{\"tags\"", "{tags", "web.json:1:2: it is no JSON: key must be a string"),
        (
            "blog-web",
            "blog-wbe",
            "web.json: it is of the family `blog-wbe`, and deploy.yaml says `blog-web`: correct one of them, or leave `family` out here",
        ),
        (
            "TOKEN",
            "OTHER",
            "local.yaml: containers.blog-web.environment: its secrets have no value here: give `OTHER` one",
        ),
        (
            "\"name\":\"blog\"",
            "\"name\":\"blgo\"",
            "local.yaml: containers.blog-web: there is no container `blog`: did you mean `blgo`?",
        ),
        ("containerDefinitions", "containers", "web.json: `containerDefinitions` is missing: list its containers"),
    ] {
        let text = described.to_string().replace(from, to);
        assert_ne!(text, described.to_string());
        std::fs::write(folder.0.join("web.json"), text).unwrap();
        assert_eq!(folder.read().unwrap_err(), said);
    }
}

const COMPOSE: &str = "\
x-base: &base {build: ., restart: always}
services:
  web:
    <<: *base
    command: ./blog serve --name 'my blog'
    environment: [\"MODE=${MODE:-fast}\", PRICE=5$$, TOKEN]
    ports: [\"127.0.0.1:80:8000/tcp\"]
    healthcheck: {test: \"curl -f localhost:8000\", interval: 1m30s, retries: 2}
    depends_on: {db: {condition: service_healthy}}
  worker:
    <<: *base
    entrypoint: [./blog]
    command: [work]
    env_file: worker.env
    stop_grace_period: 90s
  db: {image: \"postgres:16\", volumes: [data:/data]}
volumes: {data: }
";

const COMPOSED: &str = "\
build: {command: [make]}
compose: compose.yaml
outside: {db: localhost}
containers: {blog-web: {compose: web}, blog-worker: {compose: worker}}
";

fn composed(name: &str, compose: &str, local: &str) -> Folder {
    let blog = BLOG.replace("work-{environment}", "worker").replace(", port: 8000", "");
    let (env, worker) = ("TOKEN=secret\n", "# what it works on\nQUEUE=\"mail\"\n");
    let files = [
        ("deploy.yaml", blog.as_str()),
        ("local.yaml", local),
        ("compose.yaml", compose),
        (".env", env),
        ("worker.env", worker),
    ];
    Folder::with(name, &files)
}

#[test]
fn a_compose_service_says_how_its_container_is_started() {
    let account = composed("compose", COMPOSE, COMPOSED).read().unwrap();
    let web = definition(&account, "eu-west-1", "blog-web");
    let container = &web["containerDefinitions"][0];
    assert_eq!(container["command"], json!(["./blog", "serve", "--name", "my blog"]));
    assert_eq!(variables(web), [("MODE", "fast"), ("PRICE", "5$"), ("TOKEN", "secret")]);
    assert_eq!(container["portMappings"][0]["containerPort"], 8000);
    let check = json!({"command": ["CMD-SHELL", "curl -f localhost:{port}"], "interval": 90, "retries": 2});
    assert_eq!(container["healthCheck"], check);
    assert_eq!(account.regions["eu-west-1"].clusters["blog"].services["web"].container_port, Some(8000));
    let worker = definition(&account, "eu-west-1", "blog-worker");
    let container = &worker["containerDefinitions"][0];
    assert_eq!((&container["entryPoint"], &container["command"]), (&json!(["./blog"]), &json!(["work"])));
    assert_eq!((variables(worker), &container["stopTimeout"]), (vec![("QUEUE", "mail")], &json!(90)));
    assert_eq!(account.notes, ["compose.yaml:1:26: `restart` of web, worker has no effect here",]);
}

#[test]
fn a_file_that_is_one_of_several_is_read_as_it_is_without_the_others() {
    let compose = COMPOSE.replace("ports: [\"127.0.0.1:80:8000", "ports: !override [\"127.0.0.1:80:9000");
    let compose = compose.replace("stop_grace_period: 90s", "stop_grace_period: !reset null");
    let account = composed("tags", &compose, COMPOSED).read().unwrap();
    let container = |family| &definition(&account, "eu-west-1", family)["containerDefinitions"][0];
    assert_eq!(container("blog-web")["portMappings"][0]["containerPort"], 9000);
    assert_eq!(container("blog-worker").get("stopTimeout"), None);
}

#[test]
fn what_an_anchor_says_is_noted_once_with_the_services_that_are_started_here() {
    let compose = "\
x-own: &own {restart: always, environment: {EMPTY: }}
services:
  web: {<<: *own, build: ., command: ./blog, ports: [\"8000\"]}
  worker: {<<: *own, build: ., command: ./blog work}
  db: {<<: *own, image: postgres}
";
    let local = "\
build: {command: [make]}
compose: compose.yaml
outside: {db: localhost}
containers: {blog-web: {compose: web}, blog-worker: {compose: worker}}
";
    let account = composed("anchors", compose, local).read().unwrap();
    assert_eq!(
        account.notes,
        [
            "compose.yaml:1:14: `restart` of web, worker has no effect here",
            "compose.yaml:1:45: `EMPTY` has no value, and is left out, as docker does"
        ]
    );
}

#[test]
fn what_a_compose_file_says_and_cannot_be_done_here_is_named_with_its_place() {
    for (from, to, said) in [
        (
            "    command: ./blog",
            "    extends: {service: app}\n    command: ./blog",
            "compose.yaml:5:14: `extends`: there is no service `app`: there is `web`, `worker`, `db`",
        ),
        (
            "    command: ./blog",
            "    extends: {service: app, file: base.yaml}\n    command: ./blog",
            "compose.yaml:5:14: `extends` of a service in base.yaml is not supported: write here what it takes from there",
        ),
        (
            "    command: ./blog",
            "    extends: web\n    command: ./blog",
            "compose.yaml:5:14: `extends` leads back to this service",
        ),
        ("'my blog'", "'my blog", "compose.yaml:5:14: a quote is not closed"),
        ("${MODE:-fast}", "${MODE:?no}", "compose.yaml:6:19: `MODE` has no value: no"),
        ("PRICE=5$$", "PRICE=5$", "compose.yaml:6:41: a single `$`: write `$$` for a dollar sign"),
        (":8000/tcp", ":all", "compose.yaml:7:13: `127.0.0.1:80:all` is no port: write it as \"8080\" or \"80:8080\""),
        ("1m30s", "soon", "compose.yaml:8:61: `soon` is no duration: write it as `90s` or `1m30s`"),
        ("retries: 2", "retires: 2", "compose.yaml:8:68: `healthcheck.retires` is not supported here"),
        (
            "{db: {",
            "{bd: {",
            "compose.yaml:9:18: `web` depends on `bd`, but there is no service `bd`: did you mean `db`?",
        ),
        ("worker.env", "wroker.env", "compose.yaml:14:15: wroker.env: No such file or directory (os error 2)"),
        ("volumes: {data: }", "include: []", "compose.yaml:17:1: `include` is not supported here"),
        ("services:", "servcies:", "compose.yaml:2:1: `servcies` is not supported here"),
    ] {
        let text = COMPOSE.replacen(from, to, 1);
        assert_ne!(text, COMPOSE, "{from}");
        let why = composed("composed-badly", &text, COMPOSED).read().unwrap_err();
        assert!(why.lines().any(|line| line == said), "expected: {said}\n{why}");
    }
    for (from, to, said) in [
        (
            "outside: {db: localhost}\n",
            "",
            "compose.yaml:9:18: `web` depends on `db`, which deploy.yaml does not release: start it yourself",
        ),
        (
            "compose: web}",
            "compose: wbe}",
            "local.yaml: containers.blog-web.compose: in the compose file, there is no service `wbe`: did you mean `web`?",
        ),
        (
            "compose: compose.yaml\n",
            "",
            "local.yaml: containers.blog-web.compose: say which file it is: `compose: compose.yaml`, at the top",
        ),
    ] {
        let why = composed("composed-wrongly", COMPOSE, &COMPOSED.replacen(from, to, 1)).read().unwrap_err();
        assert!(why.contains(said), "expected: {said}\n{why}");
    }
}

#[test]
fn one_family_cannot_be_two_things_in_one_region() {
    let blog = BLOG.replace("work-{environment}", "worker").replace(
        "  us: {region: us-east-1, cluster: blog, role: \"arn:aws:iam::444455556666:role/cutover\"}\n",
        "  us: {region: eu-west-1, cluster: other}\n",
    );
    let local = "build: {command: [make]}\nenvironment: {NAME: \"{environment}\"}\ncontainers: {blog-web: {command: [a]}, blog-worker: {command: [b]}}\n";
    let said = Folder::with("one-family", &[("deploy.yaml", &blog), ("local.yaml", local)]).read().unwrap_err();
    assert!(
        said.contains("two environments in one Region share the family `blog-web`: put {environment} into `family`"),
        "{said}"
    );
}

#[test]
fn files_that_extend_each_other_without_end_are_refused() {
    let chain: Vec<_> =
        (0..LONGEST_CHAIN).map(|n| (format!("{n}.yaml"), format!("extends: {}.yaml\n", n + 1))).collect();
    let mut files = vec![
        ("deploy.yaml", BLOG),
        ("own.yaml", "extends: own.yaml\n"),
        ("a.yaml", "extends: b.yaml\n"),
        ("b.yaml", "extends: ./a.yaml\n"),
    ];
    files.extend(chain.iter().map(|(name, text)| (name.as_str(), text.as_str())));
    let folder = Folder::with("extends", &files);
    for (name, said) in [
        ("own.yaml", "own.yaml: extends: it extends itself"),
        ("a.yaml", "a.yaml: extends: it extends itself"),
        ("0.yaml", "8.yaml: extends: more than 8 files extend each other in a row: use fewer"),
    ] {
        let Mistake(why) = check_alone(&folder.0.join(name)).unwrap_err();
        assert!(why.contains(said), "{why}");
    }
}

#[test]
fn a_placeholder_that_is_almost_the_environments_is_a_mistake_and_a_programs_own_braces_are_not() {
    let local = "build: {command: [make]}\ncontainers:\n  blog-web: {command: [awk, '{print}', '{stage}']}\n  blog-worker: {command: [work]}\n";
    let blog = BLOG.replace("work-{environment}", "worker");
    let folder = Folder::with("braces", &[("deploy.yaml", &blog), ("local.yaml", local)]);
    assert!(folder.read().is_ok());
    let folder = Folder::with(
        "misspelt-braces",
        &[("deploy.yaml", &blog), ("local.yaml", &local.replace("{stage}", "{enviroment}"))],
    );
    let why = folder.read().unwrap_err();
    assert_eq!(why, "local.yaml:3:41: nothing is put in the place of `{enviroment}`: did you mean `{environment}`?");
}
