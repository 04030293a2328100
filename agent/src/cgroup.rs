//! A cgroup around a task that has limits of its own: a quota of CPU time and a bound of memory.
//!
//! Only where the agent is root and the engine makes cgroups itself; under systemd, which owns the tree, each
//! container gets the task's limits instead.

use std::io;
use std::path::{Path, PathBuf};

use crate::engine::Cgroup;

const MOUNT: &str = "/sys/fs/cgroup";
/// Parent of all tasks, as ECS names it.
const PARENT: &str = "ecs";
const PERIOD_MICROS: i64 = 100_000;

/// Limits of a whole task.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Limits {
    /// vCPUs.
    pub(crate) cpu: Option<f64>,
    pub(crate) memory_bytes: Option<i64>,
}

#[derive(Clone, Debug)]
pub(crate) struct Cgroups {
    mount: PathBuf,
    kind: Cgroup,
}

impl Cgroups {
    pub(crate) fn new(kind: Cgroup) -> Self {
        let kind = if rustix::process::geteuid().is_root() { kind } else { Cgroup::Managed };
        Self { mount: PathBuf::from(MOUNT), kind }
    }

    /// Makes the cgroup of a task and returns the parent for its containers; `None` where that cannot be done.
    pub(crate) fn create(&self, task_id: &str, limits: Limits) -> io::Result<Option<String>> {
        let name = format!("{PARENT}/{task_id}");
        match self.kind {
            Cgroup::Managed => return Ok(None),
            Cgroup::V1 => {
                if let Some(cpu) = limits.cpu {
                    let folder = self.folder("cpu", &name)?;
                    write(&folder, "cpu.cfs_period_us", PERIOD_MICROS)?;
                    write(&folder, "cpu.cfs_quota_us", quota(cpu))?;
                }
                if let Some(bytes) = limits.memory_bytes {
                    let folder = self.folder("memory", &name)?;
                    write(&folder, "memory.limit_in_bytes", bytes)?;
                }
            }
            Cgroup::V2 => {
                let parent = self.mount.join(PARENT);
                std::fs::create_dir_all(&parent)?;
                for folder in [&self.mount, &parent] {
                    std::fs::write(folder.join("cgroup.subtree_control"), "+cpu +memory +pids")?;
                }
                let folder = self.mount.join(&name);
                std::fs::create_dir_all(&folder)?;
                if let Some(cpu) = limits.cpu {
                    std::fs::write(folder.join("cpu.max"), format!("{} {PERIOD_MICROS}", quota(cpu)))?;
                }
                if let Some(bytes) = limits.memory_bytes {
                    write(&folder, "memory.max", bytes)?;
                }
            }
        }
        Ok(Some(format!("/{name}")))
    }

    /// Removes the cgroup of a task that is over, in every hierarchy that has it.
    pub(crate) fn remove(&self, task_id: &str) {
        let name = Path::new(PARENT).join(task_id);
        let folders = match self.kind {
            Cgroup::Managed => return,
            Cgroup::V2 => vec![self.mount.join(&name)],
            Cgroup::V1 => {
                let hierarchies = std::fs::read_dir(&self.mount).into_iter().flatten().flatten();
                hierarchies.map(|hierarchy| hierarchy.path().join(&name)).collect()
            }
        };
        for folder in folders {
            // Not empty, or not there: nothing to do in either case.
            let _ = std::fs::remove_dir(folder);
        }
    }

    fn folder(&self, controller: &str, name: &str) -> io::Result<PathBuf> {
        let hierarchy = self.mount.join(controller);
        if !hierarchy.is_dir() {
            return Err(io::Error::new(
                io::ErrorKind::NotFound,
                format!("no cgroup hierarchy for {controller}"),
            ));
        }
        let folder = hierarchy.join(name);
        std::fs::create_dir_all(&folder)?;
        Ok(folder)
    }
}

fn quota(cpu: f64) -> i64 {
    // The kernel takes no quota below 1 ms.
    ((cpu * PERIOD_MICROS as f64) as i64).max(1000)
}

fn write(folder: &Path, file: &str, value: i64) -> io::Result<()> {
    std::fs::write(folder.join(file), value.to_string())
}

#[cfg(test)]
mod tests {
    use super::{Cgroups, Limits};
    use crate::engine::Cgroup;

    #[test]
    fn limits_are_written_in_each_version() {
        let limits = Limits { cpu: Some(0.5), memory_bytes: Some(1 << 26) };
        let folder = tempfile::tempdir().unwrap();
        for controller in ["cpu", "memory"] {
            std::fs::create_dir(folder.path().join(controller)).unwrap();
        }
        let read = |name: &str| std::fs::read_to_string(folder.path().join(name)).unwrap();
        let v1 = Cgroups { mount: folder.path().into(), kind: Cgroup::V1 };
        assert_eq!(v1.create("abc", limits).unwrap().as_deref(), Some("/ecs/abc"));
        assert_eq!(read("cpu/ecs/abc/cpu.cfs_quota_us"), "50000");
        assert_eq!(read("memory/ecs/abc/memory.limit_in_bytes"), (1 << 26).to_string());
        let v2 = Cgroups { mount: folder.path().into(), kind: Cgroup::V2 };
        v2.create("abc", limits).unwrap();
        assert_eq!(read("ecs/abc/cpu.max"), "50000 100000");
        let managed = Cgroups { mount: folder.path().into(), kind: Cgroup::Managed };
        assert_eq!(managed.create("abc", limits).unwrap(), None);
    }
}
