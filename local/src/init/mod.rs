//! `init`: the files that a release of an application needs, written from what people have: docker compose's file, task
//! definitions, or the account itself.
//!
//! Invariant: nothing that is there is overwritten; what would be written instead is shown as a difference.

mod account;
mod compose;
mod diff;
mod taskdef;
mod write;

use std::path::{Path, PathBuf};

use crate::Mistake;
use crate::local_yaml::migrating::migrates;
use crate::local_yaml::{Built, Starts};

pub(crate) use account::Asked;

/// What a release of the application is, as far as it was found out.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Found {
    application: String,
    environments: Vec<Place>,
    tasks: Vec<Task>,
    services: Vec<Service>,
    /// docker compose's file, where there is one.
    compose: Option<String>,
    /// What its image is built from.
    built: Built,
    /// The folder of what it depends on, which git does not have.
    dependencies: Option<String>,
    /// Whether a Rails server is among its services, which writes its process id into one file of the folder.
    is_rails: bool,
    /// What runs beside the application and is not started here, with where it would be on this machine.
    outside: Vec<(String, String)>,
    /// What a person should look at, a line each.
    notes: Vec<String>,
    /// The account that its files name, where they do.
    account: Option<String>,
}

/// An environment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Place {
    name: String,
    region: String,
    cluster: String,
    subnets: Vec<String>,
    security_groups: Vec<String>,
    public: bool,
    launch_type: Option<String>,
    /// As `deploy.yaml` has them: each with its base and weight.
    capacity_providers: Vec<(String, u64, u64)>,
    /// Whether this was read from the account, and not made up.
    is_known: bool,
}

/// A one-off task.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Task {
    name: String,
    family: String,
    /// Which container of its definition gets the release's image, where it has several.
    container: Option<String>,
    command: Vec<String>,
    start: Start,
}

/// A service.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Service {
    name: String,
    is_web: bool,
    /// The ECS service's own name.
    service: String,
    family: String,
    container: String,
    /// Whether its definition has others, too.
    has_others: bool,
    port: Option<u16>,
    /// The path at which its own health check asks.
    health_path: Option<String>,
    /// CodeDeploy's application and group, where it deploys the service.
    codedeploy: Option<(String, String)>,
    /// How many tasks it has, where that is said.
    tasks: Option<u32>,
    start: Start,
}

/// How its container is started here.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
enum Start {
    /// Nobody has said.
    #[default]
    Unknown,
    /// As a service of the compose file, with another command where it must be told its port.
    Compose { service: String, command: Vec<String> },
    /// By this command, as its task definition in the account has it.
    Command { entrypoint: Vec<String>, command: Vec<String> },
    /// As a task definition in a file, whose secrets need values.
    Taskdef { file: String, has_command: bool, of_image: Starts, secrets: Vec<String> },
}

/// Where it is read from.
#[derive(Debug)]
pub(crate) enum From {
    /// docker compose's file.
    Compose(PathBuf),
    /// Task definitions.
    Taskdefs(Vec<PathBuf>),
    /// An account.
    Account(Vec<Asked>),
}

/// What became of a file.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// It was not there, and is now.
    Written(PathBuf),
    /// It is as it would be written.
    Same(PathBuf),
    /// It is there, and differs so.
    Differs(PathBuf, String),
}

/// Writes the files into a folder, and what a person should look at.
///
/// # Errors
/// What cannot be read or written.
pub(crate) fn init(folder: &Path, from: From, region: &str) -> Result<(Vec<Outcome>, Vec<String>), Mistake> {
    std::fs::create_dir_all(folder).map_err(|error| Mistake(format!("{}: {error}", folder.display())))?;
    let application = name_of(folder);
    // As all other files of it, one that is not here may be named as it is in the folder.
    let named = |file: PathBuf| if file.exists() || !folder.join(&file).exists() { file } else { folder.join(file) };
    let mut found = match from {
        From::Compose(file) => compose::found(folder, &named(file), &application, region)?,
        From::Taskdefs(files) => {
            let files: Vec<_> = files.into_iter().map(named).collect();
            taskdef::found(folder, &files, &application, region)?
        }
        From::Account(asked) => account::found(asked, &application)?,
    };
    found.dependencies = dependencies(folder, &found.built.context);
    let gems = std::fs::read_to_string(folder.join(&found.built.context).join("Gemfile")).unwrap_or_default();
    let is_rails = |line: &str| line.trim_start().starts_with("gem ") && line.contains("rails");
    found.is_rails = gems.lines().any(is_rails) && found.services.iter().any(|service| service.is_web);
    let below = below_its_repository(folder);
    if let Some(below) = &below {
        found.notes.push(format!(
            "The application is below the top of its repository: Cutover's stack must be told so, by its parameter BuildSpec={below}/buildspec.yml."
        ));
    }
    let files = [
        (shared::manifest::FILE, write::deploy_yaml(&found)),
        (crate::local_yaml::FILE, write::local_yaml(&found)),
        ("buildspec.yml", write::buildspec(&found.built, below.as_deref())),
    ];
    let outcomes = files.into_iter().map(|(name, text)| put(&folder.join(name), &text)).collect::<Result<_, _>>()?;
    Ok((outcomes, found.notes))
}

/// Where the packages are that an application depends on, when git does not have them: a copy of its source alone would not run.
fn dependencies(folder: &Path, context: &str) -> Option<String> {
    let known = [
        ("package.json", "node_modules"),
        ("composer.json", "vendor"),
        ("vendor/bundle", "vendor"),
        (".venv", ".venv"),
        ("venv", "venv"),
    ];
    let own = folder.join(context);
    let of_git = |name: &str| crate::real::source(folder).flatten().any(|path| path.starts_with(own.join(name)));
    let (_, found) = known.into_iter().find(|(sign, name)| own.join(sign).exists() && !of_git(name))?;
    let below = context.trim_start_matches("./").trim_matches('/');
    Some(if matches!(below, "" | ".") { found.to_owned() } else { format!("{below}/{found}") })
}

/// Writes a file that is not there. Created as new: somebody else's that appears meanwhile is not overwritten either.
fn put(path: &Path, text: &str) -> Result<Outcome, Mistake> {
    use std::io::Write as _;
    let failed = |error: std::io::Error| Mistake(format!("{}: {error}", path.display()));
    match std::fs::File::create_new(path) {
        Ok(mut file) => {
            file.write_all(text.as_bytes()).map_err(failed)?;
            Ok(Outcome::Written(path.to_owned()))
        }
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
            let old = shared::yaml::text_of(path).map_err(|why| Mistake(format!("{}: {why}", path.display())))?;
            let same = old == text;
            Ok(if same {
                Outcome::Same(path.to_owned())
            } else {
                Outcome::Differs(path.to_owned(), diff::diff(&old, text))
            })
        }
        Err(error) => Err(failed(error)),
    }
}

/// What the folder is called, as names of AWS's have it.
fn name_of(folder: &Path) -> String {
    let own = folder.canonicalize().unwrap_or_else(|_| folder.to_owned());
    let name = own.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    crate::local_yaml::plain(&name)
}

/// A file's name as the folder's own files name it.
fn below(folder: &Path, file: &Path) -> Result<String, Mistake> {
    let outside = || {
        Mistake(format!(
            "{}: it is not in {}: copy it there, since the application's files name it",
            file.display(),
            folder.display()
        ))
    };
    let (own, folder) = (file.canonicalize(), folder.canonicalize());
    let (Ok(own), Ok(folder)) = (own, folder) else {
        return Err(Mistake(format!("{}: there is no such file", file.display())));
    };
    own.strip_prefix(&folder).map(|name| name.display().to_string()).map_err(|_| outside())
}

/// Why what goes back is no part of a release.
fn left_out_for_it_undoes(name: &str) -> String {
    format!("{name}: it is left out, since it undoes migrations or empties the database: no release should.")
}

/// One of the tasks is `migrate`, which an action of the pipeline runs: what is called so already, what migrates, or what only ends
/// by itself, in this order.
fn name_the_migration(found: &mut Found) {
    if found.tasks.is_empty() {
        return without_migration(found);
    }
    let named = found.tasks.iter().position(|task| task.name == "migrate");
    let is_migration = |task: &Task| migrates(std::slice::from_ref(&task.name)) || migrates(&task.command);
    let migrating = found.tasks.iter().position(is_migration);
    let first = found.tasks.remove(named.or(migrating).unwrap_or_default());
    if named.or(migrating).is_none() {
        found.notes.push(format!(
            "No migration was found: `{}` was taken for it, since it ends by itself: correct `tasks.migrate` in deploy.yaml.",
            first.name
        ));
    }
    found.tasks.insert(0, Task { name: "migrate".into(), ..first });
    let others: Vec<_> = found.tasks[1..].iter().map(|task| format!("`{}`", task.name)).collect();
    if !others.is_empty() {
        found.notes.push(format!(
            "No action runs {}: name one as the stack's parameter PreTask or PostTask, or let `migrate` do it, too.",
            others.join(", ")
        ));
    }
}

/// A name as the manifest takes it, which no service or task has.
fn name_in(found: &Found, name: &str) -> String {
    let plain: String = crate::local_yaml::plain(name).chars().take(36).collect();
    let plain = plain.trim_end_matches('-').to_owned();
    let is_free = |name: &String| {
        let of_services = found.services.iter().map(|one| &one.name);
        !of_services.chain(found.tasks.iter().map(|one| &one.name)).any(|taken| taken == name)
    };
    let numbered = (2..).map(|number| format!("{plain}-{number}"));
    std::iter::once(plain.clone()).chain(numbered).find(is_free).unwrap_or(plain)
}

/// Where a folder is within its repository, when that is not its top: CodeBuild begins there.
fn below_its_repository(folder: &Path) -> Option<String> {
    let folder = folder.canonicalize().ok()?;
    let top = folder.ancestors().find(|one| one.join(".git").exists())?;
    let below = folder.strip_prefix(top).ok()?.to_str()?;
    (!below.is_empty()).then(|| below.to_owned())
}

/// The environment of an application whose account nobody has asked.
fn production(application: &str, region: &str) -> Place {
    Place {
        name: "production".into(),
        region: region.to_owned(),
        cluster: application.to_owned(),
        subnets: vec!["subnet-00000000000000000".into()],
        security_groups: vec!["sg-00000000000000000".into()],
        launch_type: Some("FARGATE".into()),
        ..Place::default()
    }
}

/// What there must be for a migration, where none was found.
fn without_migration(found: &mut Found) {
    if found.tasks.is_empty()
        && let Some(first) = found.services.first()
    {
        let (name, command) = ("migrate".into(), vec!["true".into()]);
        let container = Some(first.container.clone()).filter(|_| first.has_others);
        found.tasks.push(Task { name, family: first.family.clone(), container, command, start: Start::Unknown });
        found
            .notes
            .push("No migration was found: say in deploy.yaml what migrates the databases (`tasks.migrate`).".into());
    }
}

#[cfg(test)]
mod tests;
