//! `init` and `verify`: what looks at an application or an account, and says what it has seen.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use shared::Manifest;

use super::pairs;
use crate::{Mistake, init, show, verify};

#[derive(Debug, Args)]
pub(super) struct Init {
    /// The application's folder.
    #[arg(value_name = "DIR")]
    folder: PathBuf,
    /// docker compose's file; DIR/compose.yaml or DIR/docker-compose.yml unless given.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["from_taskdef", "aws"])]
    from_compose: Option<PathBuf>,
    /// A task definition, as JSON; may be given several times.
    #[arg(long, value_name = "FILE", num_args = 1.., conflicts_with = "aws")]
    from_taskdef: Vec<PathBuf>,
    /// Read the AWS CLI's account: its credentials and Region.
    #[arg(long, requires = "cluster")]
    aws: bool,
    /// A cluster of it, as NAME or REGION/NAME: an environment for each.
    #[arg(long, value_name = "NAME", num_args = 1.., requires = "aws")]
    cluster: Vec<String>,
}

#[derive(Debug, Args)]
pub(super) struct Verify {
    /// The application's folder, with its deploy.yaml.
    #[arg(value_name = "DIR")]
    folder: PathBuf,
    /// Use the AWS CLI's account: its credentials and Region.
    #[arg(long, required = true)]
    aws: bool,
    /// Only this environment, whose account the credentials are of: for one that is in another account than Cutover's.
    #[arg(long, value_name = "NAME")]
    environment: Option<String>,
    /// The account that Cutover runs in, which that environment's role must trust.
    #[arg(long, value_name = "ACCOUNT", requires = "environment")]
    home: Option<String>,
    /// A parameter of the stack that what is asked must fit: Architecture, NamesBegin, TaskRoles, EnvironmentRoles, SecretsPath;
    /// may be given several times.
    #[arg(long, value_name = "NAME=VALUE")]
    parameter: Vec<String>,
}

/// Writes what a release needs, and says what is to be done next.
pub(super) async fn init_here(given: Init) -> Result<ExitCode, Mistake> {
    let beside = ["compose.yaml", "compose.yml", "docker-compose.yml", "docker-compose.yaml"];
    let region = std::env::var("AWS_REGION").unwrap_or_else(|_| "us-east-1".into());
    let from = if given.aws {
        let aws = match given.cluster.iter().all(|cluster| cluster.contains('/')) {
            true => shared::aws::Aws::from_env().await,
            false => crate::cloud::configured().await?,
        };
        let mut asked = Vec::new();
        for one in &given.cluster {
            let (region, cluster) =
                one.split_once('/').map_or((aws.region(), one.as_str()), |(region, name)| (region.to_owned(), name));
            asked.push(init::Asked::of(&aws, shared::aws::Place { region, role: None }, cluster).await?);
        }
        init::From::Account(asked)
    } else if !given.from_taskdef.is_empty() {
        init::From::Taskdefs(given.from_taskdef)
    } else {
        let found = || beside.iter().map(|name| given.folder.join(name)).find(|path| path.exists());
        init::From::Compose(given.from_compose.clone().or_else(found).ok_or_else(|| {
            Mistake(format!(
                "{}: there is no compose file in it: name what says how the application is started: --from-compose FILE, \
                 --from-taskdef FILE..., or --aws --cluster NAME",
                given.folder.display()
            ))
        })?)
    };
    let (outcomes, notes) = init::init(&given.folder, from, &region)?;
    for outcome in &outcomes {
        show::say(&match outcome {
            init::Outcome::Written(path) => format!("wrote     {}", path.display()),
            init::Outcome::Same(path) => format!("is as it would be written  {}", path.display()),
            init::Outcome::Differs(path, diff) => {
                format!("left as it is  {}; what would be written differs so:\n{diff}", path.display())
            }
        });
    }
    for note in notes {
        show::say(&format!("note: {note}"));
    }
    let folder = given.folder.display().to_string();
    let folder = shlex::try_quote(&folder).unwrap_or(folder.as_str().into());
    show::say(&format!(
        "\nNext: look at them, then `cargo run -- check {folder}` and `cargo run -- release {folder}`."
    ));
    Ok(ExitCode::SUCCESS)
}

/// Asks the account, and says all that is wrong in it.
pub(super) async fn verify_here(given: Verify) -> Result<ExitCode, Mistake> {
    let path = given.folder.join(shared::manifest::FILE);
    let name = path.display().to_string();
    let text = shared::yaml::text_of(&path)
        .map_err(|error| Mistake(format!("{name}: {error}. Name the application's folder.")))?;
    let mut manifest = Manifest::read(&name, &text)?;
    if let Some(only) = &given.environment {
        let known = manifest.environments.keys().map(String::as_str);
        let unknown = shared::text::unknown("environment", only, known);
        manifest.environments.retain(|name, _| name == only);
        if manifest.environments.is_empty() {
            return Err(Mistake(format!("--environment {only}: in deploy.yaml, {unknown}")));
        }
        // The secrets are in Cutover's account.
        manifest.notifications = shared::manifest::Notifications::default();
    }
    let mut answers = verify::Answers::of(pairs(&given.parameter)?)?;
    if manifest.environments.values().any(|environment| environment.role.is_some()) && given.environment.is_some() {
        answers.asker = verify::Asker::OfTheEnvironment(given.home);
    }
    let aws = crate::cloud::configured().await?;
    verify::somebody_asks(&aws).await?;
    let verify::Report { wrong, notes, unasked, unseen } = verify::verify(&aws, &manifest, &answers).await;
    wrong.iter().for_each(|line| show::say(line));
    notes.iter().for_each(|line| show::say(&format!("note: {line}")));
    unasked.iter().for_each(|line| show::say(&format!("not asked: {line}")));
    if !unseen.is_empty() {
        let environments = shared::text::count(manifest.environments.len(), "environment");
        show::complain(&format!("{} of {environments} could not be checked: {}", unseen.len(), unseen.join(", ")));
    }
    if wrong.is_empty() && unseen.is_empty() {
        let known = if unasked.is_empty() {
            "Everything that was asked is as a release needs it."
        } else {
            "Nothing that could be asked is wrong."
        };
        show::say(known);
        return Ok(ExitCode::SUCCESS);
    }
    if !wrong.is_empty() {
        show::complain(&shared::text::count(wrong.len(), "mistake"));
    }
    Ok(ExitCode::FAILURE)
}
