//! The names of services inside tasks: lines of the containers' own `/etc/hosts`.
//!
//! Every name of the cluster leads to this host's proxy, so a line changes only when a service comes or goes. A
//! container gets the names with its creation and later ones by its hosts file, which Docker keeps on the host; no
//! other resolution passes through the agent, and none depends on it.

use std::collections::{BTreeSet, HashMap};
use std::io::{self, Write};
use std::net::IpAddr;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

use parking_lot::Mutex;
use scheduler_protocol::{NAME_SUFFIX, ServiceEndpoints};

use super::Addresses;
use crate::engine::Engine;

/// A hosts file of a container is a few hundred bytes.
const LARGEST_FILE: u64 = 1 << 20;

/// `SERVICE.CLUSTER.berth.internal`
pub(super) fn name_of(cluster: &str, service: &ServiceEndpoints) -> String {
    format!("{}.{cluster}{NAME_SUFFIX}", service.service_name)
}

/// Cheap to clone.
#[derive(Clone)]
pub(crate) struct Names(Arc<Inner>);

struct Inner {
    engine: Arc<dyn Engine>,
    addresses: Addresses,
    names: Mutex<BTreeSet<String>>,
    /// Containers that run: where their names lead.
    containers: Mutex<HashMap<String, IpAddr>>,
    /// One writer at a time.
    writing: tokio::sync::Mutex<()>,
}

impl Names {
    pub(super) fn new(engine: Arc<dyn Engine>, addresses: Addresses) -> Self {
        Self(Arc::new(Inner {
            engine,
            addresses,
            names: Mutex::default(),
            containers: Mutex::default(),
            writing: tokio::sync::Mutex::default(),
        }))
    }

    /// The names there are now, as Docker's `ExtraHosts` has them.
    pub(crate) fn extra_hosts(&self, on_host_network: bool) -> Vec<String> {
        let address = self.0.addresses.for_tasks(on_host_network);
        self.0.names.lock().iter().map(|name| format!("{name}:{address}")).collect()
    }

    /// Takes the names of the cluster, and tells them to every container when they are other ones.
    pub(super) fn set(&self, names: BTreeSet<String>) {
        if std::mem::replace(&mut *self.0.names.lock(), names.clone()) == names {
            return;
        }
        let names = self.clone();
        tokio::spawn(async move {
            let containers: Vec<String> = names.0.containers.lock().keys().cloned().collect();
            for runtime_id in containers {
                names.write(&runtime_id).await;
            }
        });
    }

    /// A container has begun to run: what has changed since its creation is told to it.
    pub(super) async fn tell(&self, runtime_id: &str, on_host_network: bool) {
        let address = self.0.addresses.for_tasks(on_host_network);
        self.0.containers.lock().insert(runtime_id.to_owned(), address);
        self.write(runtime_id).await;
    }

    /// A container has ended.
    pub(super) fn forget(&self, runtime_id: &str) {
        self.0.containers.lock().remove(runtime_id);
    }

    async fn write(&self, runtime_id: &str) {
        let _one_at_a_time = self.0.writing.lock().await;
        let Some(address) = self.0.containers.lock().get(runtime_id).copied() else { return };
        let found = match self.0.engine.container(runtime_id).await {
            Ok(found) => found,
            Err(error) => {
                tracing::warn!(%error, container.runtime_id = runtime_id, "a container was not told the names of services");
                return;
            }
        };
        let Some(path) = found.and_then(|container| container.hosts_file) else {
            self.0.containers.lock().remove(runtime_id);
            return;
        };
        let names = self.0.names.lock().clone();
        let shown = path.clone();
        let written = tokio::task::spawn_blocking(move || rewrite(&path, &names, address)).await;
        if let Ok(Err(error)) = written {
            tracing::warn!(%error, path = %shown.display(), "a container was not told the names of services");
        }
    }
}

/// Brings the names of services in a hosts file up to date, in place: the file is mounted into the container.
/// A name that is new is one write at the end, so that no reader sees half of the file.
fn rewrite(path: &Path, names: &BTreeSet<String>, address: IpAddr) -> io::Result<()> {
    let mut file = std::fs::File::options().read(true).append(true).open(path)?;
    if file.metadata()?.len() > LARGEST_FILE {
        return Err(io::Error::other("it is too large for a hosts file"));
    }
    let text = std::fs::read_to_string(path)?;
    let (kept, missing) = merge(&text, names, address);
    let mut added: String = missing.iter().map(|name| format!("{address}\t{name}\n")).collect();
    if let Some(kept) = kept {
        // What is gone is gone from the middle: the file is written again, and only then cut.
        let whole = kept + &added;
        let file = std::fs::File::options().write(true).open(path)?;
        file.write_all_at(whole.as_bytes(), 0)?;
        return file.set_len(whole.len() as u64);
    }
    if !added.is_empty() {
        if !text.is_empty() && !text.ends_with('\n') {
            added.insert(0, '\n');
        }
        file.write_all(added.as_bytes())?;
    }
    Ok(())
}

/// The file without the names that are gone, if there are any; and the names that it lacks.
fn merge(text: &str, names: &BTreeSet<String>, address: IpAddr) -> (Option<String>, Vec<String>) {
    let mut missing = names.clone();
    let mut kept = String::new();
    for line in text.lines() {
        let mut words = line.split_whitespace();
        let (ip, name, rest) = (words.next(), words.next(), words.next());
        let own = name.filter(|name| rest.is_none() && name.ends_with(NAME_SUFFIX));
        let stays = own.is_none_or(|name| ip == Some(address.to_string().as_str()) && missing.remove(name));
        if stays {
            kept.push_str(line);
            kept.push('\n');
        }
    }
    let whole = kept.len() == text.len() || (!text.ends_with('\n') && kept.len() == text.len() + 1);
    ((!whole).then_some(kept), missing.into_iter().collect())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::net::IpAddr;

    use super::rewrite;

    #[test]
    fn a_hosts_file_follows_the_names_and_keeps_the_rest() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let own = "127.0.0.1\tlocalhost\n172.17.0.5\tabc mine.default.berth.internal\n";
        std::fs::write(file.path(), own).unwrap();
        let address: IpAddr = "172.17.0.1".parse().unwrap();
        let write = |names: &[&str]| {
            let names: BTreeSet<String> =
                names.iter().map(|name| format!("{name}.default.berth.internal")).collect();
            rewrite(file.path(), &names, address).unwrap();
            std::fs::read_to_string(file.path()).unwrap()
        };
        let line = |name: &str| format!("172.17.0.1\t{name}.default.berth.internal\n");
        assert_eq!(write(&["web"]), format!("{own}{}", line("web")));
        assert_eq!(write(&["db", "web"]), format!("{own}{}{}", line("web"), line("db")));
        assert_eq!(write(&["db", "web"]), format!("{own}{}{}", line("web"), line("db")));
        assert_eq!(write(&["db"]), format!("{own}{}", line("db")));
        // Another agent's address, of an earlier configuration.
        std::fs::write(file.path(), format!("{own}10.0.0.9\tdb.default.berth.internal")).unwrap();
        assert_eq!(write(&["db"]), format!("{own}{}", line("db")));
        assert_eq!(write(&[]), own);
    }
}
