//! What can be typed after `berth`, and where it leads.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::{Args, Parser, Subcommand};

use crate::{admin, agent, audit, policy, recovery, secret, serve, up};

/// A container registry and orchestrator that you run yourself, compatible with Amazon ECR and ECS
#[derive(Debug, Parser)]
#[command(
    name = "berth",
    version,
    after_help = "Start here:\n  berth up                                registry, scheduler and agent on this machine\n  \
                  export AWS_ENDPOINT_URL=http://127.0.0.1:5000 AWS_REGION=us-east-1 AWS_DEFAULT_REGION=us-east-1\n  \
                  export AWS_SHARED_CREDENTIALS_FILE=/var/lib/berth/credentials\n  \
                  aws ecr get-login-password | docker login -u AWS --password-stdin 127.0.0.1:5000\n  \
                  aws ecs list-container-instances        this host, ready for tasks\n\n\
                  'berth COMMAND --help' tells more about each command."
)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run everything on this machine: registry, scheduler, and an agent in the cluster `default`
    ///
    /// Tasks run on this machine's Docker Engine. Stopping the command stops no task.
    Up(UpArguments),
    /// Run registry and scheduler, without an agent
    ///
    /// Hosts join with the command that `berth cluster join-token` prints.
    Serve(ServeArguments),
    /// Run the agent of a host that joins, or has joined, a cluster
    ///
    /// The first start needs --server and --join, which `berth cluster join-token` prints; the host keeps
    /// its own key in its data directory, and later starts need neither.
    Agent(agent::AgentArguments),
    Status(registry_cli::Status),
    /// Administer clusters
    #[command(subcommand)]
    Cluster(Cluster),
    #[command(subcommand)]
    Instance(registry_cli::Instance),
    /// Check, publish and try out policy files
    #[command(subcommand)]
    Policy(Policy),
    #[command(subcommand)]
    Secret(secret::Secret),
    Deploy(registry_cli::Deploy),
    #[command(subcommand)]
    Quota(registry_cli::Quota),
    #[command(subcommand)]
    Upstream(registry_cli::Upstream),
    #[command(subcommand)]
    Session(registry_cli::Session),
    Trust(registry_cli::Trust),
    #[command(subcommand)]
    Profile(registry_cli::Profile),
    /// Verify the log of this server's decisions
    #[command(subcommand)]
    Audit(audit::Audit),
    /// Recover a server, on its own machine
    #[command(subcommand)]
    Admin(Admin),
    Backup(recovery::Backup),
    Restore(recovery::RestoreCommand),
    /// Keep, roll and destroy the keys that seal everything
    #[command(subcommand)]
    Key(Key),
    /// Look after the content store: replicas, scrub, repair
    #[command(subcommand)]
    Store(Store),
}

#[derive(Debug, Subcommand)]
enum Key {
    Export(recovery::Export),
    #[command(flatten)]
    Served(Box<registry_cli::Key>),
}

#[derive(Debug, Subcommand)]
enum Store {
    Adopt(registry_cli::Adopt),
    #[command(flatten)]
    Served(registry_cli::Store),
}

#[derive(Debug, Subcommand)]
enum Admin {
    /// Give the administrator a new access key and its rights back, and write it to DIR/credentials
    ///
    /// Needs the data directory and the key directory; a running server notices at once.
    Reset(ServeArguments),
    /// Remove the policy of a repository that refuses everybody, and print it
    ///
    /// A policy with a Deny for every principal can be removed by nobody who is refused by it. Needs the data
    /// directory; a running server notices at once.
    Unlock(admin::Unlock),
}

#[derive(Debug, Subcommand)]
enum Cluster {
    JoinToken(registry_cli::JoinToken),
    #[command(subcommand)]
    JoinTokens(registry_cli::JoinTokens),
}

#[derive(Debug, Subcommand)]
enum Policy {
    Check(policy::Check),
    Apply(registry_cli::Apply),
    Simulate(policy::Simulate),
    Diff(policy::Diff),
    WhoCan(policy::WhoCan),
}

#[derive(Args, Clone, Debug, Default)]
pub(crate) struct ServeArguments {
    /// Where everything is kept [default: /var/lib/berth as root, else ~/.local/share/berth]
    #[arg(long, env = "BERTH_DATA", value_name = "DIR")]
    pub(crate) data: Option<PathBuf>,

    /// Address and port to listen on, several with commas between [default: 127.0.0.1:5000]
    ///
    /// Other machines are served over TLS, with a certificate of the server's own unless the configuration names
    /// one: 0.0.0.0:5000 is every address of this machine.
    #[arg(long, value_name = "ADDR", value_delimiter = ',')]
    pub(crate) listen: Vec<String>,

    /// Configuration file; every key can also be set by an environment variable BERTH_<KEY>
    #[arg(long, env = "BERTH_CONFIG", value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
}

#[derive(Args, Debug)]
pub(crate) struct UpArguments {
    #[command(flatten)]
    pub(crate) serve: ServeArguments,

    #[command(flatten)]
    pub(crate) engine: EngineArguments,
}

#[derive(Args, Debug)]
pub(crate) struct EngineArguments {
    /// The Docker Engine to run tasks on [default: unix:///run/docker.sock]
    #[arg(long, env = "BERTH_DOCKER_HOST", value_name = "SOCKET")]
    pub(crate) docker_host: Option<String>,
}

impl Arguments {
    /// Runs the command to its end.
    pub(crate) fn run(self) -> Result<ExitCode> {
        match self.command {
            Command::Policy(Policy::Check(check)) => check.run(),
            Command::Policy(Policy::Simulate(simulate)) => simulate.run(),
            Command::Policy(Policy::Apply(apply)) => block_on(apply.run()),
            Command::Policy(Policy::Diff(diff)) => block_on(diff.run()),
            Command::Policy(Policy::WhoCan(who_can)) => block_on(who_can.run()),
            Command::Cluster(Cluster::JoinToken(join_token)) => block_on(join_token.run()),
            Command::Cluster(Cluster::JoinTokens(join_tokens)) => block_on(join_tokens.run()),
            Command::Status(status) => block_on(status.run()),
            Command::Instance(instance) => block_on(instance.run()),
            Command::Store(Store::Served(store)) => block_on(store.run()),
            Command::Key(Key::Served(key)) => block_on(key.run()),
            Command::Secret(secret) => secret.run().map(|()| ExitCode::SUCCESS),
            Command::Deploy(deploy) => block_on(deploy.run()),
            Command::Quota(quota) => block_on(quota.run()),
            Command::Upstream(upstream) => block_on(upstream.run()),
            Command::Session(session) => block_on(session.run()),
            Command::Trust(trust) => block_on(trust.run()),
            Command::Profile(profile) => block_on(profile.run()),
            Command::Serve(arguments) => block_on(serve::run(arguments)),
            Command::Up(arguments) => block_on(up::run(arguments)),
            Command::Agent(arguments) => block_on(agent::run(arguments)),
            Command::Admin(Admin::Reset(arguments)) => block_on(admin::reset(arguments)),
            Command::Admin(Admin::Unlock(unlock)) => block_on(unlock.run()),
            Command::Audit(audit::Audit::Verify(verify)) => block_on(verify.run()),
            Command::Backup(backup) => block_on(backup.run()),
            Command::Restore(restore) => block_on(restore.run()),
            Command::Key(Key::Export(export)) => export.run().map(|()| ExitCode::SUCCESS),
            Command::Store(Store::Adopt(adopt)) => block_on(adopt.run()),
        }
    }
}

/// How a command ends: most of them well, or with an error.
trait Ending {
    fn code(self) -> ExitCode;
}

impl Ending for () {
    fn code(self) -> ExitCode {
        ExitCode::SUCCESS
    }
}

impl Ending for ExitCode {
    fn code(self) -> ExitCode {
        self
    }
}

fn block_on<E: Ending>(command: impl Future<Output = Result<E>>) -> Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let result = runtime.block_on(command);
    // What still blocks (a read of a dead disk) must not keep the process from ending.
    runtime.shutdown_timeout(std::time::Duration::from_secs(1));
    result.map(Ending::code)
}
