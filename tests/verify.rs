//! `verify` against an account that the world plays: what is good is not complained of, and each planted mistake is found.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should panic where it stands")]

use local::verify::{Answers, Asker, Report, verify};
use shared::Manifest;
use tests::{Meddling, Setting, play};

/// The shop, on x86_64, its barriers longer than its deployments may take, and its old tasks kept for the way back.
fn good() -> (String, String) {
    let setting = Setting::default();
    let account =
        setting.account.replace("wait_at_ready: 10m, termination_wait: 5m", "wait_at_ready: 2h, termination_wait: 2h");
    assert_ne!(account, setting.account);
    (setting.manifest, account)
}

fn looked_at(manifest: &str, account: &str, architecture: &str) -> Report {
    looked_at_with(manifest, account, Answers { architecture: architecture.into(), ..Answers::default() })
}

fn looked_at_with(manifest: &str, account: &str, answers: Answers) -> Report {
    let setting = Setting { account: account.to_owned(), ..Setting::default() };
    let manifest = Manifest::read("deploy.yaml", manifest).unwrap();
    let (sender, receiver) = std::sync::mpsc::channel();
    play(setting, async move |stage| {
        let aws = stage.aws_of_owner();
        sender.send(verify(&aws, &manifest, &answers).await).unwrap();
        let unknown: Vec<_> = stage.notes().into_iter().filter(|note| note.contains("not known here")).collect();
        assert!(unknown.is_empty(), "{unknown:#?}");
    });
    receiver.recv().unwrap()
}

#[test]
fn an_account_that_is_as_it_should_be_is_not_complained_of() {
    let (manifest, account) = good();
    let Report { wrong, notes, unasked, .. } = looked_at(&manifest, &account, "x86_64");
    assert_eq!((wrong, notes, unasked), (Vec::<String>::new(), Vec::new(), Vec::new()));
}

/// What is planted, where, and what is said of it.
type Planted<'a> = (&'a str, &'a str, &'a str);

#[test]
fn each_planted_mistake_is_found_and_says_what_to_do() {
    let in_account: [Planted; 18] = [
        (
            "web: {cluster: shop, service: web, wait_at_ready: 2h,",
            "web: {cluster: shop, service: web,",
            "us/web: the group `web` moves traffic as soon as it is ready, before the others: in its deployment settings, choose *Specify when to reroute traffic*, with a wait longer than 1h",
        ),
        (
            "wait_at_ready: 2h",
            "wait_at_ready: 30m",
            "us/web: its group waits at Ready 30 min, and others may take 1h: it would give up before they are ready. Let it wait longer, or lower `timeout` in deploy.yaml",
        ),
        (
            "        web: {cluster: shop, service: web,",
            "        web: {cluster: shop, service: worker,",
            "us/web: the group `web` deploys another service than shop/web: correct `deployment_group`",
        ),
        (
            "container_port: 8080, port: 8101}",
            "container_port: 8081, port: 8101}",
            "us/web: its load balancer asks container `shop` at port 8081, and deploy.yaml says otherwise: correct `container` and `port` there",
        ),
        (
            "port: 8101}",
            "port: 8101, controller: ECS, deployment: {strategy: BLUE_GREEN, bake_time: 2h}}",
            "us/web: BLUE_GREEN without a PAUSE hook before its traffic: it moves as soon as it is ready, before the others'. Add one at PRE_PRODUCTION_TRAFFIC_SHIFT, or say `barrier: add` in deploy.yaml",
        ),
        (
            "port: 8101}",
            "port: 8101, controller: ECS, deployment: {strategy: BLUE_GREEN, bake_time: 2h, lifecycle_hooks: [{stages: [POST_PRODUCTION_TRAFFIC_SHIFT], timeout: 2h}]}}",
            "us/web: BLUE_GREEN without a PAUSE hook before its traffic: it moves as soon as it is ready, before the others'. Add one at PRE_PRODUCTION_TRAFFIC_SHIFT, or say `barrier: add` in deploy.yaml",
        ),
        (
            "port: 8101}",
            "port: 8101, controller: ECS, deployment: {strategy: BLUE_GREEN, bake_time: 2h, lifecycle_hooks: [{stages: [PRE_PRODUCTION_TRAFFIC_SHIFT], timeout: 2h, on_timeout: CONTINUE}]}}",
            "us/web: its PAUSE hook continues when nobody has in time, so its traffic would move before the others': let its timeoutConfiguration.action be ROLLBACK",
        ),
        (
            "port: 8101}",
            "port: 8101, controller: ECS, deployment: {strategy: CANARY, bake_time: 2h, lifecycle_hooks: [{stages: [PRE_PRODUCTION_TRAFFIC_SHIFT], timeout: 10m}]}}",
            "us/web: its PAUSE hook waits 10 min, and others may take 1h: it would give up before they are ready. Let it wait longer, or lower `timeout` in deploy.yaml",
        ),
        (
            "\nsetup:",
            "\nbeside: {gone: [shop-execution]}\nsetup:",
            "us/web: there is no role `shop-execution` (executionRoleArn): create it, or correct the task definition",
        ),
        (
            "\nsetup:",
            "\nbeside: {trust: {shop-execution: [ec2.amazonaws.com]}}\nsetup:",
            "us/web: no task may have the role `shop-execution` (executionRoleArn): let it trust ecs-tasks.amazonaws.com",
        ),
        (
            "\nsetup:",
            "\nbeside: {gone: [/shop/us]}\nsetup:",
            "us/web: there is no log group `/shop/us`, so shop would not start: aws logs create-log-group --log-group-name /shop/us",
        ),
        (
            "\nsetup:",
            "\nbeside: {gone: [subnet-0a1b2c3d4e5f60718]}\nsetup:",
            "us: The subnet ID 'subnet-0a1b2c3d4e5f60718' does not exist: correct `subnets` in deploy.yaml",
        ),
        (
            "\nsetup:",
            "\nbeside: {gone: [sg-0a1b2c3d4e5f60718]}\nsetup:",
            "us: The security group 'sg-0a1b2c3d4e5f60718' does not exist: correct `security_groups` in deploy.yaml",
        ),
        (
            "\nsetup:",
            "\nbeside: {subnets: {subnet-0a1b2c3d4e5f60718: {leads_to: igw-1}}}\nsetup:",
            "us: the subnet subnet-0a1b2c3d4e5f60718 leads to the internet only from public addresses, and its tasks get none, so no image is pulled: say `assign_public_ip: true`, or use subnets behind a NAT gateway",
        ),
        (
            "\nsetup:",
            "\nbeside: {subnets: {subnet-0a1b2c3d4e5f60718: {}}, endpoints: [s3, logs]}\nsetup:",
            "us: the subnet subnet-0a1b2c3d4e5f60718 leads nowhere, so no image is pulled: give its VPC vpc-of-subnet-0a1b2c3d4e5f60718 a NAT gateway, or endpoints for us-east-1.ecr.api, us-east-1.ecr.dkr",
        ),
        (
            "\nsetup:",
            "\nbeside: {subnets: {subnet-0a1b2c3d4e5f60718: {leads_to: nat-1, free: 3}}}\nsetup:",
            "us: the subnet subnet-0a1b2c3d4e5f60718 has 3 addresses left, and a deployment runs both versions at once: use a larger one",
        ),
        (
            "\nsetup:",
            "\nbeside: {fargate_vcpus: 1}\nsetup:",
            "us: old and new tasks of this application alone need 1.5 vCPUs of Fargate at once, and the quota is 1: ask for more in Service Quotas (L-3032A538)",
        ),
        (
            "  /shop/sentry-token: local\n",
            "",
            "notifications.sentry.token: there is no SSM parameter `/shop/sentry-token` in us-east-1: aws ssm put-parameter --type SecureString --name /shop/sentry-token --value ...",
        ),
    ];
    let (manifest, account) = good();
    for (from, to, said) in in_account {
        let planted = account.replacen(from, to, 1);
        assert_ne!(planted, account, "{from}");
        let found = looked_at(&manifest, &planted, "x86_64");
        assert!(found.wrong.iter().any(|line| line == said), "expected: {said}\n{found:#?}");
        assert!(found.unasked.is_empty(), "{found:#?}");
    }
    let in_manifest: [Planted; 7] = [
        (
            "    cluster: shop\n",
            "    cluster: shpo\n",
            "us: there is no cluster `shpo` in us-east-1: correct `cluster` or `region` in deploy.yaml",
        ),
        (
            "    service: web\n",
            "    service: wbe\n",
            "us/web: the cluster shop has no service `wbe`: correct `service` in deploy.yaml, or create it",
        ),
        (
            "    deployment_group: web\n",
            "    deployment_group: wbe\n",
            "us/web: there is no deployment group `wbe` in `shop`: correct `deployment_group`",
        ),
        (
            "    codedeploy_application: shop\n",
            "    codedeploy_application: shpo\n",
            "us/web: there is no CodeDeploy application `shpo`: correct `codedeploy_application`",
        ),
        (
            "    family: shop-task\n    command: [shop, migrate]",
            "    family: shop-tsak\n    command: [shop, migrate]",
            "us/migrate: there is no task definition `shop-tsak`: register one, or correct `family` in deploy.yaml",
        ),
        (
            "    container: shop\n",
            "    container: shpo\n",
            "us/web: in the task definition shop-web, there is no container `shpo`: did you mean `shop`?",
        ),
        (
            "    kind: web\n",
            "    kind: web\n    deployment: ecs\n",
            "us/web: it is deployed by CodeDeploy, and deploy.yaml says `deployment: ecs`: correct it, or leave it out",
        ),
    ];
    for (from, to, said) in in_manifest {
        let planted = manifest.replacen(from, to, 1);
        assert_ne!(planted, manifest, "{from}");
        let found = looked_at(&planted, &account, "x86_64");
        assert!(found.wrong.iter().any(|line| line == said), "expected: {said}\n{found:#?}");
        assert!(found.unasked.is_empty(), "{found:#?}");
    }
}

#[test]
fn images_secrets_log_drivers_and_architectures_are_looked_at() {
    let (manifest, account) = good();
    let found = looked_at(&manifest, &account, "arm64");
    let said = "us/web: the task definition shop-web is for x86_64, and the image will be built for arm64: set runtimePlatform.cpuArchitecture, or answer Architecture=x86_64 (here: --parameter Architecture=x86_64)";
    assert!(found.wrong.iter().any(|line| line == said), "{found:#?}");
    // The images that run now, in ECR.
    let ecr = account.replace(
        "image: registry.example/shop:1.0",
        "image: \"111122223333.dkr.ecr.us-east-1.amazonaws.com/shop:1.0\"",
    );
    for (beside, said) in [
        ("{gone: [shop]}", "us/web: there is no ECR repository `shop`: correct the task definition's image"),
        (
            "{gone: [\"shop:1.0\"]}",
            "us/web: the image 111122223333.dkr.ecr.us-east-1.amazonaws.com/shop:1.0 of shop-web is not there: what runs with it now would not start again. Keep the images of releases",
        ),
        (
            "{images: {\"shop:1.0\": [arm64]}}",
            "us/web: the image 111122223333.dkr.ecr.us-east-1.amazonaws.com/shop:1.0 is built for arm64, and its task is placed on x86_64",
        ),
    ] {
        let planted = ecr.replacen("\nsetup:", &format!("\nbeside: {beside}\nsetup:"), 1);
        let found = looked_at(&manifest, &planted, "x86_64");
        assert!(found.wrong.iter().any(|line| line == said), "expected: {said}\n{found:#?}");
    }
    let secret = "command: [shop, web]\n            secrets: [{name: KEY, valueFrom: /shop/gone}, {name: TOKEN, valueFrom: \"arn:aws:secretsmanager:us-east-1:111122223333:secret:shop-Ab1:token::\"}]";
    let planted = account.replacen("command: [shop, web]", secret, 1);
    let planted = planted.replacen(
        "\nsetup:",
        "\nbeside: {gone: [\"arn:aws:secretsmanager:us-east-1:111122223333:secret:shop-Ab1\"]}\nsetup:",
        1,
    );
    let found = looked_at(&manifest, &planted, "x86_64");
    assert_eq!(found.wrong.len(), 2, "{found:#?}");
    assert!(found.wrong.iter().all(|line| line.contains("which is not there: create it, or correct `valueFrom`")));
    let loses = account.replace(", mode: blocking}", "}");
    let found = looked_at(&manifest, &loses, "x86_64");
    assert!(
        found.wrong.is_empty()
            && found.notes.iter().any(|note| note.starts_with("us/migrate: its log driver may lose lines")),
        "{found:#?}"
    );
}

#[test]
fn what_keeps_the_functions_away_is_found_in_the_stacks_parameters_and_in_other_accounts_trust() {
    let (manifest, account) = good();
    let other = account.replace("  eu-west-1:\n", "  eu-west-1:\n    account: \"444455556666\"\n");
    let role = "    region: eu-west-1\n    role: arn:aws:iam::444455556666:role/deployer\n";
    let manifest = manifest.replace("    region: eu-west-1\n", role);
    let given = |pairs: &[(&str, &str)]| {
        let pairs = [("Architecture", "x86_64")].iter().chain(pairs);
        Answers::of(pairs.map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()).unwrap()
    };
    let found = looked_at_with(&manifest, &other, given(&[]));
    assert_eq!((found.wrong, found.unasked), (Vec::<String>::new(), Vec::new()));
    // Whom it trusts instead: another account, or only ECS.
    for trusted in ["\"arn:aws:iam::999999999999:root\"", "ecs-tasks.amazonaws.com", ""] {
        let planted = other.replacen("\nsetup:", &format!("\nbeside: {{trust: {{deployer: [{trusted}]}}}}\nsetup:"), 1);
        let said = "eu: the role `deployer` lets no role of the account 111122223333 assume it: its trust must name the stack's output RolesToTrust (the parameter TrustedRoles of examples/environment-role.yaml), and ask for no external id";
        assert_eq!(looked_at_with(&manifest, &planted, given(&[])).wrong, [said], "{trusted}");
    }
    // Asked in that account, by whoever is there.
    let eu = manifest.split_once("\n  us:").map(|(before, after)| {
        let (_, rest) = after.split_once("\n  eu:").unwrap();
        let (own, rest) = rest.split_once("\n  ap:").unwrap();
        let (_, rest) = rest.split_once("\ntasks:").unwrap();
        format!("{before}\n  eu:{own}\ntasks:{}", rest.replace("    environments: [us]\n", ""))
    });
    let eu = eu.unwrap();
    let planted =
        account.replacen("\nsetup:", "\nbeside: {trust: {deployer: [\"arn:aws:iam::999999999999:root\"]}}\nsetup:", 1);
    for (home, expected) in [(None, [0, 1]), (Some("111122223333"), [1, 0]), (Some("999999999999"), [0, 0])] {
        let asker = Asker::OfTheEnvironment(home.map(str::to_owned));
        let found = looked_at_with(&eu, &planted, Answers { asker, ..given(&[]) });
        let about = |lines: &[String]| lines.iter().filter(|line| line.starts_with("eu: the role `deployer`")).count();
        assert_eq!([about(&found.wrong), about(&found.notes)], expected, "{home:?}: {found:#?}");
    }
    let found = looked_at_with(&manifest, &other, given(&[("TaskRoles", "arn:aws:iam::111122223333:role/other-*")]));
    let said = "us/web: the functions may not give the role `shop-execution` (executionRoleArn) to a task: TaskRoles=arn:aws:iam::111122223333:role/other-* does not list arn:aws:iam::111122223333:role/shop-execution";
    assert!(found.wrong.iter().any(|line| line == said), "{found:#?}");
    assert!(!found.wrong.iter().any(|line| line.starts_with("eu/")), "its own role says what it may pass: {found:#?}");
    let found = looked_at_with(&manifest, &other, given(&[("TaskRoles", "arn:aws:iam::111122223333:role/shop-*")]));
    assert_eq!(found.wrong, Vec::<String>::new());
    let found = looked_at_with(&manifest, &other, given(&[("NamesBegin", "blog"), ("EnvironmentRoles", "")]));
    let said = "environments.eu.role: arn:aws:iam::444455556666:role/deployer is not in EnvironmentRoles, so the functions may not assume it: list it there";
    assert!(found.wrong.iter().any(|line| line == said), "{found:#?}");
    let said = "environments.us.cluster: the cluster `shop` does not begin with NamesBegin=blog, so the functions may not touch it: rename it, or answer what all names begin with";
    assert!(found.wrong.iter().any(|line| line == said), "{found:#?}");
}

#[test]
fn what_may_not_be_asked_is_said_to_be_not_known() {
    let (manifest, account) = good();
    let refuse = |call: &tests::Call<'_>| {
        if call.operation.contains("DescribeServices") { Meddling::Refuse } else { Meddling::Pass }
    };
    let setting = Setting { account, meddle: Box::new(refuse), ..Setting::default() };
    let manifest = Manifest::read("deploy.yaml", &manifest).unwrap();
    play(setting, async move |stage| {
        let found =
            verify(&stage.aws_of_owner(), &manifest, &Answers { architecture: "x86_64".into(), ..Answers::default() })
                .await;
        assert!(
            found.unasked.iter().any(|line| line.starts_with("us: the services web, worker (AccessDenied")),
            "{found:#?}"
        );
        assert_eq!(found.wrong, Vec::<String>::new(), "what was not seen is not missing");
    });
}
