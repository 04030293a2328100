//! `berth key export`, `berth backup` and `berth restore`: what is done on the server's machine against the day
//! when the machine is gone.
//!
//! They work on the data directory and its keys; the server may run, but for a restore.

mod passphrase;
mod progress;

use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, anyhow, bail};
use async_trait::async_trait;
use clap::{ArgGroup, Args};
use policies_identity::Identity;
use registry::backup::{NewBackup, Restore, RestoreChanges, SchemaCheck};
use registry_metadata::Metadata;
use registry_runtime::{
    Clock, KeyProvider, LocalKeys, RecoveryError, RecoveryKey, Sealer, StreamKey, durable,
};
use registry_sql::{Database, Error as SqlError};
use scheduler::Scheduler;

use crate::arguments::ServeArguments;
use crate::change_log::{Seal, Source};
use crate::config::Settings;
use crate::places::ReplicaPlaces;
use crate::serve;
use passphrase::PassphraseArguments;
use progress::ProgressLine;

/// The server's data directory and its configuration.
#[derive(Args, Clone, Debug)]
pub(crate) struct DirectoryArguments {
    /// Data directory of the server [default: /var/lib/berth as root, else ~/.local/share/berth]
    #[arg(long, env = "BERTH_DATA", value_name = "DIR")]
    data: Option<PathBuf>,

    /// Configuration file of the server
    #[arg(long, env = "BERTH_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
}

impl DirectoryArguments {
    pub(crate) fn settings(&self) -> Result<Settings> {
        Settings::load(&ServeArguments {
            data: self.data.clone(),
            config: self.config.clone(),
            ..ServeArguments::default()
        })
    }
}

/// Write the recovery key: with it and a backup or a replica everything comes back
///
/// It holds every secret of the key directory, as text that can be printed and typed in again. Keep it apart from
/// the backups: whoever has both can read everything. Export it again after keys were rolled.
#[derive(Args, Debug)]
pub(crate) struct Export {
    /// File to write, mode 0600; - prints it
    #[arg(long, value_name = "FILE")]
    output: PathBuf,

    /// Protect it by a passphrase, which is asked for or read from --passphrase-file
    #[arg(long)]
    passphrase: bool,

    #[command(flatten)]
    source: PassphraseArguments,

    #[command(flatten)]
    directory: DirectoryArguments,
}

impl Export {
    pub(crate) fn run(self) -> Result<()> {
        let settings = self.directory.settings()?;
        let keys = existing_keys(&settings)?;
        let exported = keys.export()?;
        let passphrase =
            if self.passphrase || self.source.is_given() { Some(self.source.new_one()?) } else { None };
        let text = exported.to_text(passphrase.as_ref());
        if self.output == Path::new("-") {
            print!("{}", *text);
        } else {
            durable::create_own_file_atomically(&self.output, text.as_bytes())
                .with_context(|| format!("cannot write {}: name a new file", self.output.display()))?;
            println!(
                "{} holds the {} secrets of installation {}. Keep it apart from backups and replicas",
                self.output.display(),
                exported.len(),
                exported.installation()
            );
        }
        keys.note_exported(&exported)?;
        Ok(())
    }
}

/// Write everything but the keys into one sealed file, while the server serves
///
/// It holds every push that was acknowledged before it began, policies, users, services and the audit log. Only the
/// recovery key, or the key directory itself, opens it.
#[derive(Args, Debug)]
pub(crate) struct Backup {
    /// File to write; it must not be there
    #[arg(long, value_name = "FILE")]
    output: PathBuf,

    /// Print the result as JSON
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    directory: DirectoryArguments,
}

impl Backup {
    pub(crate) async fn run(self) -> Result<()> {
        let settings = self.directory.settings()?;
        let database = settings.existing_database()?;
        let keys = existing_keys(&settings)?;
        let key = StreamKey::of(&keys)?;
        let places = places(&settings, &keys)?;
        let output = std::path::absolute(&self.output)?;
        let new = NewBackup {
            data: &settings.data,
            database: &database,
            policies: &settings.policy_dir(),
            deletion_lock: &settings.deletion_lock(),
            places: &places,
            locations: &settings.replica_locations(),
            keys: Arc::new(keys),
            key: &key,
            account_id: &settings.account_id,
            region: &settings.region,
            berth: env!("CARGO_PKG_VERSION"),
            now_ms: Clock::system().now_ms(),
            output: &output,
        };
        let mut line = ProgressLine::new();
        let written = new.write(&mut |progress| line.show(progress)).await;
        line.end();
        let written = written.context("no backup was written")?;
        for digest in &written.damaged {
            eprintln!("warning: no replica holds {digest} whole: it is not in the backup");
        }
        if self.json {
            println!("{}", serde_json::to_string_pretty(&written)?);
        } else {
            println!(
                "{} holds {} objects and the database, {} bytes in all. It opens with the recovery key alone",
                written.file.display(),
                written.objects,
                written.bytes
            );
        }
        Ok(())
    }
}

/// Bring everything back from a backup, or the database from replicas, onto an empty directory
///
/// Checks all of it before anything counts. Afterwards nothing is deleted and no key destroyed until
/// `berth store adopt` has run.
#[derive(Args, Debug)]
#[command(group(ArgGroup::new("source").required(true)))]
pub(crate) struct RestoreCommand {
    /// The backup
    #[arg(long, value_name = "FILE", group = "source")]
    from: Option<PathBuf>,

    /// A replica, where the database's disk is lost and the replicas are not: a folder, or s3://BUCKET/PREFIX. The
    /// other folders are found where they were; may be given several times
    #[arg(long, value_name = "REPLICA", group = "source")]
    from_replica: Vec<String>,

    /// Take what there is, though replicas that may know more cannot be read
    #[arg(long, conflicts_with = "from")]
    accept_older: bool,

    #[command(flatten)]
    key: KeyArguments,

    /// Print the result as JSON
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    directory: DirectoryArguments,
}

/// What opens a backup.
#[derive(Args, Debug)]
pub(crate) struct KeyArguments {
    /// The recovery key; not needed where the key directory is still there
    #[arg(long, value_name = "FILE")]
    recovery_key: Option<PathBuf>,

    #[command(flatten)]
    passphrase: PassphraseArguments,
}

impl KeyArguments {
    /// The recovery key, if one was named.
    fn read(&self) -> Result<Option<RecoveryKey>> {
        let Some(path) = &self.recovery_key else { return Ok(None) };
        let text = std::fs::read_to_string(path).map_err(|error| match error.kind() {
            ErrorKind::InvalidData => anyhow!("{} is no recovery key of `berth key export`", path.display()),
            _ => anyhow::Error::new(error).context(format!("cannot read {}", path.display())),
        });
        let text = zeroize::Zeroizing::new(text?);
        let read = match RecoveryKey::parse(&text, None) {
            Err(RecoveryError::PassphraseNeeded) => RecoveryKey::parse(&text, Some(&self.passphrase.ask()?)),
            read => read,
        };
        read.map(Some).with_context(|| format!("{} cannot be used", path.display()))
    }

    /// The key of the files, and the recovery key to install where one was named.
    fn open(&self, settings: &Settings) -> Result<(StreamKey, Option<RecoveryKey>)> {
        match self.read()? {
            Some(recovery) => Ok((StreamKey::of(&recovery)?, Some(recovery))),
            None => {
                let keys =
                    existing_keys(settings).context("name the recovery key with --recovery-key FILE")?;
                Ok((StreamKey::of(&keys)?, None))
            }
        }
    }
}

impl RestoreCommand {
    pub(crate) async fn run(self) -> Result<()> {
        let settings = self.directory.settings()?;
        let (key, recovery) = self.key.open(&settings)?;
        let Some(from) = &self.from else {
            return self.restore_from_replicas(&settings, key, recovery).await;
        };
        let places = match &recovery {
            Some(recovery) => places(&settings, recovery)?,
            None => places(&settings, &existing_keys(&settings)?)?,
        };
        let locations = settings.replica_locations();
        let (policies, key_dir) = (settings.policy_dir(), settings.key_dir());
        let restore = Restore {
            from,
            data: &settings.data,
            policies: &policies,
            key_dir: &key_dir,
            recovery_key: recovery.as_ref(),
            key: &key,
            places: &places,
            locations: &locations,
            schema: &Rooms,
            now_ms: Clock::system().now_ms(),
        };
        let mut line = ProgressLine::new();
        let restored = restore.run(&mut |progress| line.show(progress)).await;
        line.end();
        let restored = restored.context("nothing was restored")?;
        if restored.missing_objects > 0 {
            eprintln!("warning: {} objects were lost before the backup was made", restored.missing_objects);
        }
        warn_of_keys(&restored.missing_keys);
        warn_of_owner(&settings.data);
        locations.iter().map(Path::new).filter(|folder| folder.is_absolute()).for_each(warn_of_owner);
        if restored.went_on {
            eprintln!("warning: this is what an interrupted restore had checked before; --from was not read");
        }
        if self.json {
            println!("{}", serde_json::to_string_pretty(&restored)?);
        } else {
            println!(
                "{} holds {} objects again. Start the server, look at what came back, then run `berth store adopt`: \
                 until then nothing is deleted",
                restored.data.display(),
                restored.backup.objects - restored.missing_objects
            );
        }
        Ok(())
    }
}

impl RestoreCommand {
    /// The database alone: the content lies on the replicas still.
    async fn restore_from_replicas(
        &self,
        settings: &Settings,
        key: StreamKey,
        recovery: Option<RecoveryKey>,
    ) -> Result<()> {
        let system = match &recovery {
            Some(recovery) => recovery.secret(serve::SYSTEM_DOMAIN, serve::SYSTEM_EPOCH)?,
            None => existing_keys(settings)?.secret(serve::SYSTEM_DOMAIN, serve::SYSTEM_EPOCH)?,
        };
        let sealer = Sealer::new(&system, serve::SYSTEM_EPOCH);
        let mut sources = Vec::new();
        for location in &self.from_replica {
            sources.push((location, Source::open(location, settings, &sealer).await?));
        }
        let roots: Vec<PathBuf> = sources.iter().map(|(_, source)| source.root.clone()).collect();
        let key_dir = settings.key_dir();
        let restore = RestoreChanges {
            roots: &roots,
            data: &settings.data,
            key_dir: &key_dir,
            recovery_key: recovery.as_ref(),
            seal: Arc::new(Seal(key)),
            accept_older: self.accept_older,
            schema: &Rooms,
            now_ms: Clock::system().now_ms(),
        };
        let mut restored = restore.run().await.context("nothing was restored")?;
        if let Some((location, _)) = sources.iter().find(|(_, source)| source.root == restored.from) {
            restored.from = PathBuf::from(location.as_str());
        }
        if !restored.certain {
            eprintln!(
                "warning: replicas that may know more could not be read: the newest changes may be missing"
            );
        }
        warn_of_keys(&restored.missing_keys);
        warn_of_owner(&settings.data);
        if self.json {
            println!("{}", serde_json::to_string_pretty(&restored)?);
        } else {
            println!(
                "{} holds the database again, up to change {} from {}. Policies are in force as they were published: \
                 put their files back. Start the server, look at what came back, then run `berth store adopt`: until \
                 then nothing is deleted",
                restored.data.display(),
                restored.sequence,
                restored.from.display()
            );
        }
        Ok(())
    }
}

/// The server cannot read what root restored into somebody else's folder.
fn warn_of_owner(folder: &Path) {
    if rustix::process::geteuid().is_root()
        && let Ok(owner) = std::fs::metadata(folder)
        && owner.uid() != 0
    {
        eprintln!(
            "warning: {0} belongs to user {1}, and what was restored into it to root; run: chown -R {1}:{2} {0}",
            folder.display(),
            owner.uid(),
            owner.gid()
        );
    }
}

fn warn_of_keys(missing: &[String]) {
    if !missing.is_empty() {
        eprintln!(
            "warning: what is sealed under these keys stays unreadable, for they are in neither the recovery key nor \
             key_dir: {}",
            missing.join(", ")
        );
    }
}

/// Every room says whether it can open its tables.
struct Rooms;

#[async_trait]
impl SchemaCheck for Rooms {
    async fn check(&self, database: &Database) -> Result<(), SqlError> {
        Metadata::check_schema(database).await?;
        Identity::check_schema(database).await?;
        Scheduler::check_schema(database).await
    }
}

/// Where replicas can lie.
fn places(settings: &Settings, keys: &dyn KeyProvider) -> Result<ReplicaPlaces> {
    let system = keys.secret(serve::SYSTEM_DOMAIN, serve::SYSTEM_EPOCH)?;
    ReplicaPlaces::new(settings, &Sealer::new(&system, serve::SYSTEM_EPOCH))
}

/// The keys of a data directory that was served before.
fn existing_keys(settings: &Settings) -> Result<LocalKeys> {
    let dir = settings.key_dir();
    if !dir.exists() {
        bail!("there are no keys in {}", dir.display());
    }
    LocalKeys::open(&dir).with_context(|| format!("key_dir {}", dir.display()))
}
