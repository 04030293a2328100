//! `berth profile`: the AWS tools find the server by a profile, and nothing else of theirs changes.

use std::process::Command;

use test_support::{Server, run, try_run};

/// The AWS CLI of a user whose configuration is in `home`, and who has exported nothing.
fn aws(home: &std::path::Path) -> Command {
    let mut command = Command::new("aws");
    for name in [
        "AWS_ACCESS_KEY_ID",
        "AWS_SECRET_ACCESS_KEY",
        "AWS_SESSION_TOKEN",
        "AWS_ENDPOINT_URL",
        "AWS_PROFILE",
        "AWS_CA_BUNDLE",
    ] {
        command.env_remove(name);
    }
    command.env("HOME", home).env("AWS_EC2_METADATA_DISABLED", "true");
    command.env_remove("AWS_CONFIG_FILE").env_remove("AWS_SHARED_CREDENTIALS_FILE");
    command
}

#[test]
fn a_profile_leads_the_aws_tools_to_the_server_and_changes_nothing_else() {
    let server = Server::start();
    let home = tempfile::tempdir().unwrap();
    let config = home.path().join(".aws/config");
    std::fs::create_dir(home.path().join(".aws")).unwrap();
    let before = "# mine\n[default]\nregion = eu-west-1\n[profile other]\nrole_arn = x\n";
    std::fs::write(&config, before).unwrap();
    let berth = |args: &[&str]| {
        let mut command = server.berth([]);
        let program = command.get_program().to_owned();
        command = Command::new(program);
        command
            .args(args)
            .env("HOME", home.path())
            .env("BERTH_DATA", server.data())
            .env_remove("AWS_CONFIG_FILE");
        command
    };
    let said = run(&mut berth(&["profile", "install"]));
    assert!(said.contains("ecr, ecs") && said.contains("aws --profile berth"), "{said}");
    let installed = std::fs::read_to_string(&config).unwrap();
    assert!(installed.starts_with(before) && !installed.contains(server.secret()), "{installed}");
    run(&mut berth(&["profile", "install"]));
    assert_eq!(std::fs::read_to_string(&config).unwrap(), installed, "again");

    let account = ["sts", "get-caller-identity", "--query", "Account", "--output", "text"];
    assert_eq!(run(aws(home.path()).args(["--profile", "berth"]).args(account)), "000000000000");
    run(aws(home.path()).env("AWS_PROFILE", "berth").args(["ecr", "describe-repositories"]));
    run(aws(home.path()).env("AWS_PROFILE", "berth").args(["ecs", "list-clusters"]));
    let without = try_run(aws(home.path()).args(account)).unwrap_err();
    assert!(without.contains("credentials"), "the default profile is as it was: {without}");

    run(&mut berth(&["profile", "remove"]));
    assert_eq!(std::fs::read_to_string(&config).unwrap(), before);
    std::fs::write(&config, "[profile berth]\nregion = mine\n").unwrap();
    let error = try_run(&mut berth(&["profile", "install"])).unwrap_err();
    assert!(error.contains("--name"), "{error}");
    let said = run(&mut berth(&["profile", "remove"]));
    assert!(said.contains("no profile berth that Berth wrote"), "{said}");
    assert_eq!(std::fs::read_to_string(&config).unwrap(), "[profile berth]\nregion = mine\n");
}
