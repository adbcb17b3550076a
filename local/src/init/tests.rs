//! What is written, from each of the sources, and that it is a good application.

mod commands;

use std::path::{Path, PathBuf};

use serde_json::json;
use shared::Manifest;

use super::*;

struct Folder(PathBuf);

impl Folder {
    /// A folder called `blog` with these files.
    fn with(name: &str, files: &[(&str, &str)]) -> Self {
        let folder = std::env::temp_dir().join(format!("cutover-init-{name}-{}/blog", std::process::id()));
        drop(std::fs::remove_dir_all(&folder));
        std::fs::create_dir_all(&folder).unwrap();
        for (name, text) in files {
            std::fs::write(folder.join(name), text).unwrap();
        }
        Self(folder)
    }

    fn text(&self, name: &str) -> String {
        std::fs::read_to_string(self.0.join(name)).unwrap()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        drop(std::fs::remove_dir_all(self.0.parent().unwrap()));
    }
}

const COMPOSE: &str = include_str!("../../../examples/blog/compose.yaml");

#[test]
fn a_compose_files_application_is_one_that_a_release_takes() {
    let folder = Folder::with("compose", &[("compose.yaml", COMPOSE)]);
    let (outcomes, notes) = init(&folder.0, From::Compose(folder.0.join("compose.yaml")), "eu-west-1").unwrap();
    assert!(outcomes.iter().all(|one| matches!(one, Outcome::Written(_))), "{outcomes:?}");
    let database = "`DATABASE` is a file of the application's own (blog.sqlite): each release begins with another one. Where it is to stay, say in \
                    local.yaml: `environment: {DATABASE: \"{state}/{environment}/blog.sqlite\"}`.";
    assert_eq!(notes, [database]);
    let read = crate::local_yaml::read_application(&folder.0, None, Path::new("state")).unwrap();
    let services: Vec<_> = read.manifest.services.iter().map(|(name, one)| (name.as_str(), one.kind)).collect();
    use shared::manifest::ServiceKind::{Web, Worker};
    assert_eq!(services, [("web", Web), ("worker", Worker)]);
    assert_eq!(read.manifest.tasks["migrate"].command, ["python3", "app.py", "migrate"]);
    let web =
        read.account.regions["eu-west-1"].task_definitions.iter().find(|one| one["family"] == "blog-web").unwrap();
    assert_eq!(web["containerDefinitions"][0]["command"], json!(["python3", "app.py", "serve", "{port}"]));
    let asked = &web["containerDefinitions"][0]["healthCheck"]["command"];
    assert_eq!(asked.as_array().unwrap().last().unwrap(), "http://localhost:{port}/");
}

#[test]
fn an_application_below_the_top_of_its_repository_is_built_where_it_is() {
    let folder = Folder::with("below", &[("compose.yaml", COMPOSE)]);
    std::fs::create_dir_all(folder.0.parent().unwrap().join(".git")).unwrap();
    init(&folder.0, From::Compose(folder.0.join("compose.yaml")), "eu-west-1").unwrap();
    let spec = folder.text("buildspec.yml");
    assert!(
        spec.contains("  pre_build:\n    commands:\n      - \"cd blog\"\n")
            && spec.contains("artifacts:\n  base-directory: blog\n"),
        "{spec}"
    );
}

#[test]
fn the_account_of_the_roles_is_said_where_task_definitions_name_one() {
    let web = json!({"family": "blog-web", "executionRoleArn": "arn:aws:iam::444455556666:role/exec", "containerDefinitions": [
        {"name": "web", "image": "x", "command": ["serve"], "portMappings": [{"containerPort": 8000}]}]});
    let folder = Folder::with("roles", &[("web.json", &web.to_string())]);
    init(&folder.0, From::Taskdefs(vec![folder.0.join("web.json")]), "eu-west-1").unwrap();
    let read = crate::local_yaml::read_application(&folder.0, None, Path::new("state")).unwrap();
    assert_eq!(read.account.account, "444455556666");
}

#[test]
fn what_an_account_runs_its_tasks_on_is_written_as_it_is() {
    let service = |name: &str| {
        json!({"serviceName": name, "capacityProviderStrategy": [
        {"capacityProvider": "FARGATE", "base": 1, "weight": 1}, {"capacityProvider": "FARGATE_SPOT", "weight": 3}],
        "networkConfiguration": {"awsvpcConfiguration": {"subnets": ["subnet-1"]}}})
    };
    let definition =
        json!({"family": "blog-web", "containerDefinitions": [{"name": "web", "image": "x", "command": ["serve"]}]});
    let cluster = |name: &str| Asked {
        region: "eu-west-1".into(),
        cluster: name.into(),
        services: vec![(service("web"), definition.clone())],
        groups: Vec::new(),
    };
    let folder = Folder::with("providers", &[]);
    let asked = vec![cluster("a-cluster-with-a-long-name-one"), cluster("a-cluster-with-a-long-name-two")];
    init(&folder.0, From::Account(asked), "eu-west-1").unwrap();
    let manifest = Manifest::read("deploy.yaml", &folder.text("deploy.yaml")).unwrap();
    assert_eq!(manifest.environments.len(), 2, "{:?}", manifest.environments.keys());
    let providers = &manifest.environments[0].capacity_providers;
    let providers: Vec<_> = providers.iter().map(|one| (one.name.as_str(), one.base, one.weight)).collect();
    assert_eq!(providers, [("FARGATE", 1, 1), ("FARGATE_SPOT", 0, 3)]);
}

#[test]
fn nothing_that_is_there_is_overwritten_and_what_differs_is_shown() {
    let folder = Folder::with("again", &[("compose.yaml", COMPOSE), ("deploy.yaml", "application: mine\n")]);
    let from = || From::Compose(folder.0.join("compose.yaml"));
    let (outcomes, _) = init(&folder.0, from(), "us-east-1").unwrap();
    let Outcome::Differs(path, diff) = &outcomes[0] else { panic!("{outcomes:?}") };
    assert!(
        path.ends_with("deploy.yaml")
            && diff.contains("- application: mine\n")
            && diff.contains("+ application: blog\n"),
        "{diff}"
    );
    assert_eq!(folder.text("deploy.yaml"), "application: mine\n");
    let (outcomes, _) = init(&folder.0, from(), "us-east-1").unwrap();
    assert!(matches!(outcomes[1..], [Outcome::Same(_), Outcome::Same(_)]), "{outcomes:?}");
}

#[test]
fn a_service_that_ends_by_itself_is_a_task_and_what_migrates_by_its_name_is_the_migration() {
    let of = |upgrade: &str, web: &str| {
        let compose = format!(
            "services:\n  web: {{build: ., command: ./web, ports: [\"80\"]{web}}}\n  upgrade: {{build: ., command: ./upgrade{upgrade}}}\n"
        );
        let folder = Folder::with("ends", &[("compose.yaml", &compose)]);
        init(&folder.0, From::Compose(folder.0.join("compose.yaml")), "us-east-1").unwrap();
        let manifest = crate::local_yaml::read_application(&folder.0, None, Path::new("state")).unwrap().manifest;
        let tasks: Vec<_> =
            manifest.tasks.iter().map(|(name, task)| format!("{name}: {}", task.command.join(" "))).collect();
        (tasks, manifest.services.keys().cloned().collect::<Vec<_>>())
    };
    let awaited = ", depends_on: {upgrade: {condition: service_completed_successfully}}";
    let task = || vec!["migrate: ./upgrade".to_owned()];
    assert_eq!(of(", restart: \"no\"", ""), (task(), vec!["web".to_owned()]));
    assert_eq!(of("", awaited), (task(), vec!["web".to_owned()]));
    assert_eq!(of(", restart: always", "").1, ["web", "upgrade"]);
    let both = of(
        "}\n  db-migrate: {build: ., command: ./m, restart: \"no\"",
        ", depends_on: {upgrade: {condition: service_completed_successfully}}",
    );
    assert_eq!(both.0, ["migrate: ./m", "upgrade: ./upgrade"]);
}

#[test]
fn what_is_not_built_runs_outside_and_is_reached_on_this_machine() {
    let compose = "\
services:
  web: {build: ., command: ./web, ports: [\"80\"], environment: {DATABASE_URL: \"postgres://blog:p@db:5432/blog\", DEBUG: \"1\"}, depends_on: [db]}
  db: {image: \"postgres:16\"}
";
    let folder = Folder::with("outside", &[("compose.yaml", compose)]);
    let (_, notes) = init(&folder.0, From::Compose(folder.0.join("compose.yaml")), "us-east-1").unwrap();
    assert_eq!(notes[0], "No migration was found: say in deploy.yaml what migrates the databases (`tasks.migrate`).");
    assert!(notes.len() == 2 && notes[1].starts_with("web: its port 80 stands in no command"), "{notes:?}");
    let local = folder.text("local.yaml");
    assert!(
        local.contains("outside: {db: localhost}\n") && !local.contains("postgres://"),
        "no value is copied, which may be a secret: {local}"
    );
    let read = crate::local_yaml::read_application(&folder.0, None, Path::new("state")).unwrap();
    let web = &read.account.regions["us-east-1"].task_definitions[0]["containerDefinitions"][0];
    let url = json!({"name": "DATABASE_URL", "value": "postgres://blog:p@localhost:5432/blog"});
    assert!(web["environment"].as_array().unwrap().contains(&url), "{web:#}");
}

#[test]
fn what_serves_is_a_service_whatever_it_does_before_and_a_migration_has_what_compose_gives_it() {
    let compose = "\
services:
  web: {build: {context: ., dockerfile: web.Dockerfile, target: run, args: {V: \"1 2\"}}, command: sh -c 'migrate && serve', ports: [\"80\"], healthcheck: {test: \"curl -f 'http://localhost:80/healthz?a=1' || exit 1\"}}
  migrate: {build: {context: ., dockerfile: web.Dockerfile, target: run, args: {V: \"1 2\"}}, command: up, environment: {MODE: once}}
  mail: {build: ./mail, command: ./mail}
";
    let dockerfile = "FROM x AS run\nENTRYPOINT [\"sh\", \"run\"]\nFROM run\nCMD [\"no\"]\n";
    let folder = Folder::with("serves", &[("compose.yaml", compose), ("web.Dockerfile", dockerfile)]);
    let (_, notes) = init(&folder.0, From::Compose(folder.0.join("compose.yaml")), "us-east-1").unwrap();
    assert!(notes[0].starts_with("web: its command migrates, and serves: let it only serve"), "{notes:?}");
    assert!(notes[1].starts_with("mail is built otherwise than web, and a release has one image"), "{notes:?}");
    let read = crate::local_yaml::read_application(&folder.0, None, Path::new("state")).unwrap();
    assert_eq!(read.manifest.services.keys().collect::<Vec<_>>(), ["web", "mail"]);
    assert_eq!(read.manifest.tasks["migrate"].command, ["up"], "the image's entrypoint stays in the definition");
    let definitions = &read.account.regions["us-east-1"].task_definitions;
    let migrate = definitions.iter().find(|one| one["family"] == "blog-migrate").unwrap();
    let container = &migrate["containerDefinitions"][0];
    assert_eq!(container["entryPoint"], json!(["sh", "run"]));
    assert!(container["environment"].as_array().unwrap().contains(&json!({"name": "MODE", "value": "once"})));
    assert!(folder.text("local.yaml").contains("services:\n  web: {health_check: {path: \"/healthz?a=1\"}}\n"));
    let build = "docker build --tag \"$image\" --file web.Dockerfile --target run --build-arg 'V=1 2' . && docker push";
    assert!(folder.text("buildspec.yml").contains(build), "{}", folder.text("buildspec.yml"));
}

#[test]
fn task_definitions_make_an_application_too() {
    let container = |more: serde_json::Value| {
        let mut container = json!({"name": "app", "image": "i"});
        container.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        json!([container])
    };
    let web = json!({"family": "blog-web", "containerDefinitions": container(json!({"portMappings": [{"containerPort": 80}], "secrets": [{"name": "KEY", "valueFrom": "/blog/key"}], "command": ["serve", "-b", "0.0.0.0:80"], "healthCheck": {"command": ["CMD-SHELL", "curl -f localhost:80/up"]}}))});
    let work = json!({"family": "blog-work", "containerDefinitions": container(json!({"command": ["work"]}))});
    let migrate = json!({"family": "blog-migrate", "containerDefinitions": container(json!({"command": ["up"]}))});
    let files = [("web.json", web.to_string()), ("work.json", work.to_string()), ("migrate.json", migrate.to_string())];
    let folder = Folder::with("taskdefs", &files.each_ref().map(|(name, text)| (*name, text.as_str())));
    let paths = files.iter().map(|(name, _)| folder.0.join(name)).collect();
    init(&folder.0, From::Taskdefs(paths), "us-east-1").unwrap();
    let read = crate::local_yaml::read_application(&folder.0, None, Path::new("state")).unwrap();
    assert_eq!(read.manifest.services.keys().collect::<Vec<_>>(), ["web", "work"]);
    assert_eq!(read.manifest.tasks["migrate"].family, "blog-migrate");
    let local = folder.text("local.yaml");
    assert!(
        local.contains("environment: {KEY: local}") && local.contains("web: {health_check: {path: /up}}"),
        "{local}"
    );
    let web =
        read.account.regions["us-east-1"].task_definitions.iter().find(|one| one["family"] == "blog-web").unwrap();
    assert_eq!(web["containerDefinitions"][0]["command"], json!(["serve", "-b", "127.0.0.1:{port}"]));
    let outside = std::env::temp_dir().join(format!("cutover-outside-{}.json", std::process::id()));
    std::fs::write(&outside, "{}").unwrap();
    let Mistake(why) = init(&folder.0, From::Taskdefs(vec![outside.clone()]), "us-east-1").unwrap_err();
    std::fs::remove_file(&outside).unwrap();
    assert!(why.contains("copy it there, since the application's files name it"), "{why}");
}

#[test]
fn nothing_that_may_be_a_secret_is_written_and_no_task_is_lost() {
    let compose = "\
services:
  web: {build: {context: ., args: {TOKEN: \"${TOKEN}\", V: \"1: 2\"}}, command: [serve, \"8000\"], ports: [\"9229\", \"8000\"]}
  up: {build: {context: ., args: {TOKEN: \"${TOKEN}\", V: \"1: 2\"}}, command: \"alembic -x url=postgres://u:${TOKEN}@db/x upgrade head\", restart: on-failure}
  jobs: {build: {context: ., args: {TOKEN: \"${TOKEN}\", V: \"1: 2\"}}, command: sh -c 'python manage.py migrate && celery worker', restart: on-failure}
  assets: {build: {context: ., args: {TOKEN: \"${TOKEN}\", V: \"1: 2\"}}, command: ./assets, restart: \"no\"}
  once: {build: ., command: ./once, profiles: [tools]}
  db: {image: postgres, shm_size: 1g, command: \"-c x=${UNKNOWN_TO_ALL}\"}
";
    let folder = Folder::with("secrets", &[("compose.yaml", compose), (".env", "TOKEN=hunter2 # mine\n")]);
    let (_, notes) = init(&folder.0, From::Compose(folder.0.join("compose.yaml")), "us-east-1").unwrap();
    let written: String = ["deploy.yaml", "local.yaml", "buildspec.yml"].map(|name| folder.text(name)).concat();
    assert!(!written.contains("hunter2") && notes.iter().all(|note| !note.contains("hunter2")), "{written}\n{notes:?}");
    assert!(written.contains("--build-arg TOKEN --build-arg 'V=1: 2'"), "{written}");
    shared::yaml::read::<serde_json::Value>("buildspec.yml", &folder.text("buildspec.yml")).unwrap();
    let read = crate::local_yaml::read_application(&folder.0, None, Path::new("state")).unwrap();
    assert_eq!(read.manifest.services.keys().collect::<Vec<_>>(), ["web", "jobs"]);
    assert_eq!(read.manifest.services["web"].port, Some(8000), "and not the debugger's");
    assert_eq!(read.manifest.tasks.keys().collect::<Vec<_>>(), ["migrate", "assets"]);
    let said = notes.join("\n");
    for part in [
        "jobs: its command migrates, and goes on",
        "once: it is left out",
        "No action runs `assets`",
        "arguments TOKEN have",
        "up: its command has values",
    ] {
        assert!(said.contains(part), "{part}: {said}");
    }
}

#[test]
fn a_sidecar_is_not_taken_for_the_application() {
    let containers = json!([
        {"name": "datadog-agent", "image": "public.ecr.aws/datadog/agent:7", "portMappings": [{"containerPort": 8126}]},
        {"name": "log_router", "image": "x/y", "firelensConfiguration": {"type": "fluentbit"}},
        {"name": "proxy", "image": "nginx", "command": ["nginx"]},
        {"name": "app", "image": "111122223333.dkr.ecr.eu-west-1.amazonaws.com/app:1", "command": ["serve"],
            "portMappings": [{"containerPort": 8125, "protocol": "udp"}, {"containerPort": 3000}],
            "logConfiguration": {"logDriver": "awslogs", "options": {"awslogs-region": "eu-west-1"}}}
    ]);
    let web = json!({"taskDefinition": {"family": "blog-web", "requiresCompatibilities": ["EC2"], "networkMode": "bridge", "containerDefinitions": containers}});
    let folder = Folder::with("sidecars", &[("web.json", &web.to_string())]);
    let (_, notes) = init(&folder.0, From::Taskdefs(vec![folder.0.join("web.json")]), "us-east-1").unwrap();
    let deploy = folder.text("deploy.yaml");
    assert!(deploy.contains("container: app\n    port: 3000\n"), "{deploy}");
    assert!(
        deploy.contains("region: eu-west-1") && deploy.contains("launch_type: EC2") && !deploy.contains("subnets"),
        "{deploy}"
    );
    assert!(
        notes.iter().any(|note| note.contains("`app` was taken for the application's, and not proxy")),
        "{notes:?}"
    );
}

#[test]
fn a_service_that_says_only_what_differs_from_another_one_is_one_and_a_migration_is_one_although_it_has_a_profile() {
    let compose = r#"
services:
  base: &base
    build: .
    environment: {DATABASE_URL: "postgres://db/blog", MODE: web}
    env_file: []
  web:
    extends: {service: base}
    command: [serve]
    ports: ["8000:8000"]
  worker:
    extends: base
    command: [work]
    environment: [MODE=work, SSH_AUTH_SOCK_OF_NOBODY]
  migrate:
    extends: {service: base}
    command: [./manage.py, migrate]
    profiles: [tools]
  seed:
    extends: {service: base}
    command: [./manage.py, loaddata]
    profiles: [tools]
  db: {image: "postgres:16"}
"#;
    let folder = Folder::with("extends", &[("compose.yaml", compose), ("Dockerfile", "FROM scratch\n")]);
    let compose = folder.0.join("compose.yaml");
    let (_, notes) = init(&folder.0, From::Compose(compose), "us-east-1").unwrap();
    let manifest = folder.text("deploy.yaml");
    for written in ["  migrate:\n", "  web:\n    kind: web\n", "  worker:\n    kind: worker\n"] {
        assert!(manifest.contains(written), "{written}{manifest}");
    }
    assert!(!manifest.contains("seed"), "{manifest}");
    assert!(notes.iter().any(|note| note.contains("seed: it is left out, since it has `profiles`")), "{notes:?}");
    assert!(
        notes.iter().any(|note| note.contains("`SSH_AUTH_SOCK_OF_NOBODY` has no value, and is left out")),
        "{notes:?}"
    );
    assert!(folder.text("local.yaml").contains("outside: {db: localhost}"), "{}", folder.text("local.yaml"));
}

#[test]
fn an_application_whose_packages_git_does_not_have_runs_in_its_own_folder() {
    let of = |name: &str, more: &[(&str, &str)]| {
        let folder = Folder::with(name, &[&[("compose.yaml", COMPOSE)], more].concat());
        init(&folder.0, From::Compose(folder.0.join("compose.yaml")), "eu-west-1").unwrap();
        folder.text("local.yaml")
    };
    assert!(of("plain", &[]).contains("\nbuild: {command: [\"true\"], files: []}\n"));
    let node = of("node", &[("package.json", "{}"), (".gitignore", "node_modules\n")]);
    assert!(node.contains("\nbuild: {command: [\"true\"]}\n") && node.contains("`files: [node_modules]`"), "{node}");
    let php = of("php", &[("composer.json", "{}")]);
    assert!(php.contains("which has vendor;"), "{php}");
}

#[test]
fn what_compose_says_of_names_counts_protocols_and_of_what_is_extended_is_kept() {
    let compose = "\
name: Store Front
services:
  base:
    build: .
    command: work
    env_file: base.env
    healthcheck: {test: [CMD, ./is-well], interval: 5s, retries: 4}
  web:
    extends: base
    env_file: [web.env]
    environment: {C: own}
    healthcheck: {interval: 7s}
    ports: ['514:514/udp', '8000-8002']
    deploy: {replicas: 3, resources: {limits: {cpus: '1'}}}
    dns_search: example.com
    command: serve ${NOWHERE}
  syslog:
    extends: base
    ports: [{target: 515, protocol: udp}]
";
    let files = [("compose.yaml", compose), ("base.env", "A=base\nB=base\nC=base\n"), ("web.env", "B=child\n")];
    let folder = Folder::with("extended", &files);
    let (_, notes) = init(&folder.0, From::Compose(PathBuf::from("compose.yaml")), "eu-west-1").unwrap();
    let read = crate::local_yaml::read_application(&folder.0, None, Path::new("state")).unwrap();
    assert_eq!(read.manifest.application, "store-front");
    assert_eq!(read.manifest.services["web"].port, Some(8000));
    assert_eq!(read.manifest.services["syslog"].kind, shared::manifest::ServiceKind::Worker);
    let local = folder.text("local.yaml");
    assert!(local.contains("  web: {tasks: 3"), "{local}");
    let definitions = &read.account.regions["eu-west-1"].task_definitions;
    let web = &definitions.iter().find(|one| one["family"] == "store-front-web").unwrap()["containerDefinitions"][0];
    let value = |name: &str| {
        let all = web["environment"].as_array().unwrap();
        all.iter().find(|one| one["name"] == name).unwrap()["value"].as_str().unwrap().to_owned()
    };
    assert_eq!(["A", "B", "C"].map(value), ["base", "child", "own"]);
    assert_eq!(web["healthCheck"], json!({"command": ["CMD", "./is-well"], "interval": 7, "retries": 4}));
    for said in ["`NOWHERE` has no value", "a UDP port of web", "`deploy.resources` of web", "`dns_search` of web"] {
        assert!(notes.iter().any(|note| note.contains(said)), "{said}: {notes:#?}");
    }
}

#[test]
fn a_definition_of_a_family_that_is_there_already_is_left_out_and_arns_say_the_region() {
    let definition = |image: &str| {
        json!({"family": "shop-web", "containerDefinitions": [{"name": "app", "image": image, "portMappings": [{"containerPort": 80}],
            "command": ["serve"],
            "secrets": [{"name": "A", "valueFrom": "arn:aws:ssm:eu-central-1:111122223333:parameter/a"}]}]})
    };
    let (live, template) = (definition("shop:1").to_string(), definition("<IMAGE1_NAME>").to_string());
    let folder = Folder::with("template", &[("live.json", &live), ("template.json", &template)]);
    let both = From::Taskdefs(vec!["live.json".into(), "template.json".into()]);
    let (_, notes) = init(&folder.0, both, "us-east-1").unwrap();
    assert!(
        notes.iter().any(|note| note.starts_with("template.json: it is another definition of shop-web")),
        "{notes:?}"
    );
    let read = crate::local_yaml::read_application(&folder.0, None, Path::new("state")).unwrap();
    assert_eq!(read.manifest.environments["production"].region, "eu-central-1");
    assert_eq!(read.manifest.services.len(), 1);
}
