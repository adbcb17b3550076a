//! What is taken for a migration, and how commands, entrypoints and folders of real applications come out.

use super::*;

/// What `init` makes of a compose file beside these files, with its notes and the application that is read back.
fn composed(
    name: &str,
    compose: &str,
    others: &[(&str, &str)],
) -> (Folder, Vec<String>, crate::local_yaml::Application) {
    let files: Vec<_> = std::iter::once(("compose.yaml", compose)).chain(others.iter().copied()).collect();
    let folder = Folder::with(name, &files);
    let (_, notes) = init(&folder.0, From::Compose("compose.yaml".into()), "us-east-1").unwrap();
    let read = crate::local_yaml::read_application(&folder.0, None, Path::new("state")).unwrap();
    (folder, notes, read)
}

fn container<'a>(read: &'a crate::local_yaml::Application, family: &str) -> &'a serde_json::Value {
    let definitions = &read.account.regions["us-east-1"].task_definitions;
    &definitions.iter().find(|one| one["family"] == family).unwrap()["containerDefinitions"][0]
}

#[test]
fn what_undoes_migrations_is_no_part_of_a_release() {
    let compose = "\
services:
  reset-db: {build: ., command: npx prisma migrate reset --force, profiles: [tools]}
  downgrade: {build: ., command: alembic downgrade -1, restart: \"no\"}
  upgrade: {build: ., command: alembic upgrade head, restart: \"no\"}
  web: {build: ., command: ./web, ports: [\"80\"]}
";
    let (_folder, notes, read) = composed("undoing", compose, &[]);
    assert_eq!(read.manifest.tasks.keys().collect::<Vec<_>>(), ["migrate"]);
    assert_eq!(read.manifest.tasks["migrate"].command, ["alembic", "upgrade", "head"]);
    assert_eq!(read.manifest.services.keys().collect::<Vec<_>>(), ["web"]);
    for name in ["reset-db", "downgrade"] {
        let said =
            format!("{name}: it is left out, since it undoes migrations or empties the database: no release should.");
        assert!(notes.contains(&said), "{said} {notes:#?}");
    }
    let definition = |name: &str, command: &[&str]| {
        let containers = json!([{"name": "app", "image": "i", "command": command}]);
        json!({"family": name, "containerDefinitions": containers}).to_string()
    };
    let (down, work) = (definition("blog-down", &["migrate", "down"]), definition("blog-work", &["work"]));
    let folder = Folder::with("undoing-taskdef", &[("down.json", &down), ("work.json", &work)]);
    let both = From::Taskdefs(vec!["down.json".into(), "work.json".into()]);
    let (_, notes) = init(&folder.0, both, "us-east-1").unwrap();
    assert!(notes.iter().any(|note| note.starts_with("down.json: it is left out")), "{notes:#?}");
}

#[test]
fn with_an_entrypoint_of_its_own_a_services_image_says_no_command() {
    let compose = "\
services:
  migrate: {build: ., entrypoint: [python, manage.py, migrate], restart: \"no\"}
  setup: {build: ., entrypoint: [sh, -c, \"manage.py migrate\"], restart: on-failure}
  web: {build: ., ports: [\"8000\"]}
";
    let dockerfile = "FROM x\nCMD [\"gunicorn\", \"-b\", \"0.0.0.0:8000\"]\n";
    let (_folder, notes, read) = composed("entrypoint", compose, &[("Dockerfile", dockerfile)]);
    assert_eq!(read.manifest.tasks.keys().collect::<Vec<_>>(), ["migrate", "setup"]);
    assert!(read.manifest.tasks["migrate"].command.is_empty());
    let migrate = container(&read, "blog-migrate");
    assert_eq!(
        (&migrate["entryPoint"], &migrate["command"]),
        (&json!(["python", "manage.py", "migrate"]), &json!(null))
    );
    assert!(notes.iter().any(|note| note.starts_with("migrate: it has an entrypoint of its own")), "{notes:#?}");
    assert!(!notes.iter().any(|note| note.contains("has no command of its own")), "{notes:#?}");
    assert_eq!(container(&read, "blog-web")["command"], json!(["gunicorn", "-b", "127.0.0.1:{port}"]));
}

#[test]
fn a_task_definition_that_leaves_its_command_to_the_image_is_told_what_its_dockerfile_starts() {
    let web = json!({"family": "blog-web", "containerDefinitions": [{"name": "app", "image": "i", "portMappings": [{"containerPort": 80}]}]});
    let up = json!({"family": "blog-up", "containerDefinitions": [{"name": "app", "image": "i", "entryPoint": ["sh", "migrate.sh"]}]});
    let dockerfile = "FROM x\nCMD [\"app.py\"]\nENTRYPOINT [\"sh\", \"run\"]\n";
    let (web, up) = (web.to_string(), up.to_string());
    let folder = Folder::with("of-image", &[("web.json", &web), ("up.json", &up), ("Dockerfile", dockerfile)]);
    init(&folder.0, From::Taskdefs(vec!["web.json".into(), "up.json".into()]), "us-east-1").unwrap();
    let local = folder.text("local.yaml");
    assert!(local.contains("    entrypoint: [sh, run]\n    command: [app.py]\n"), "{local}");
    let read = crate::local_yaml::read_application(&folder.0, None, Path::new("state")).unwrap();
    assert_eq!(read.manifest.tasks["migrate"].family, "blog-up", "its entrypoint migrates");
}

#[test]
fn what_is_built_from_a_folder_below_is_started_there() {
    let compose = "services:\n  web: {build: ./app, ports: [\"80\"]}\n  work: {build: ./app, command: ./work}\n";
    let folder = Folder::with("below-app", &[("compose.yaml", compose)]);
    for (name, text) in
        [("Dockerfile", "FROM x\nENTRYPOINT [\"./entry\"]\nCMD [\"serve\"]\n"), ("entry", ""), ("package.json", "{}")]
    {
        std::fs::create_dir_all(folder.0.join("app")).unwrap();
        std::fs::write(folder.0.join("app").join(name), text).unwrap();
    }
    std::fs::write(folder.0.join(".gitignore"), "node_modules\n").unwrap();
    init(&folder.0, From::Compose("compose.yaml".into()), "us-east-1").unwrap();
    let read = crate::local_yaml::read_application(&folder.0, None, Path::new("state")).unwrap();
    let web = container(&read, "blog-web");
    assert_eq!((&web["entryPoint"], &web["workingDirectory"]), (&json!(["./entry"]), &json!("app")));
    let local = folder.text("local.yaml");
    assert!(local.contains("which has app/node_modules"), "{local}");
    for elsewhere in ["${PWD}", "/srv/app", "./../x", "https://example.com/app.git"] {
        let compose = format!("services:\n  web: {{build: \"{elsewhere}\", command: ./web, ports: [\"80\"]}}\n");
        let folder = Folder::with("elsewhere", &[("compose.yaml", &compose)]);
        let Mistake(why) = init(&folder.0, From::Compose("compose.yaml".into()), "us-east-1").unwrap_err();
        assert!(why.contains("is not below"), "{elsewhere}: {why}");
    }
}

#[test]
fn what_is_said_of_ports_labels_and_servers_is_what_a_person_needs() {
    let compose = "\
services:
  web: {build: ., command: ./web, ports: [\"80\"], environment: {DB_PORT: \"5432\"}, depends_on: [db, flyway]}
  api: {build: ., command: ./api, labels: {traefik.http.routers.api.rule: \"Host(`api`)\"}}
  db: {image: postgres, ports: [{target: 5432, published: \"${DB_PORT:-5433}\"}]}
  flyway: {image: flyway/flyway, command: migrate}
";
    let gems = "source 'https://rubygems.org'\ngem 'rails', '~> 8.0'\n";
    let (folder, notes, _) = composed("said", compose, &[("Gemfile", gems)]);
    for said in [
        "web: its port 80 stands in no command",
        "api: it was taken for a worker",
        "flyway: it does its work with an image of its own",
    ] {
        assert!(notes.iter().any(|note| note.starts_with(said)), "{said}: {notes:#?}");
    }
    let local = folder.text("local.yaml");
    assert!(local.contains("outside: {db: \"localhost:5433\"}"), "{local}");
    assert!(local.contains("environment: {PIDFILE: \"{state}/{port}.pid\"}"), "{local}");
}

#[test]
fn a_note_of_an_address_names_its_variable_and_no_password() {
    let compose = "\
services:
  web: {build: ., command: ./web, ports: [\"80\"], environment: {DATABASE_URL: \"postgres://app:${PW}@db/app\"}}
  db: {build: ., command: ./db}
";
    let (_folder, _, read) = composed("password", compose, &[(".env", "PW=hunter2\n")]);
    let notes = read.account.notes.join("\n");
    assert!(
        notes.contains("`DATABASE_URL` leads to db, which is released, too") && !notes.contains("hunter2"),
        "{notes}"
    );
}
