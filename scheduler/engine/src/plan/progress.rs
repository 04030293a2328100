//! The counters of a deployment: failures for the circuit breaker, and the wait before the next attempt.
//!
//! Updated by the scheduler as tasks end and recover. Invariant: only tasks that did not come up make the next
//! attempt wait, and only one that proved itself ends the waiting: that others of its kind begin to run says
//! nothing. A new deployment begins with fresh counters; an update that makes none ends the waiting alone, and failures
//! count on.

use super::Deployment;

/// The first wait after a failed start.
const FIRST_WAIT_MS: i64 = 5_000;
/// The longest.
const LONGEST_WAIT_MS: i64 = 15 * 60 * 1_000;
/// Failed waves after which the service says that it cannot start tasks.
pub(super) const WAVES_REPORTED: u32 = 3;
/// How long a missing place is not looked for again.
pub(super) const PLACEMENT_RETRY_MS: i64 = 5_000;

/// How many failures make a deployment fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Threshold {
    /// Half the desired count, between 3 and 200: what ECS does when nothing is said.
    Default,
    /// COUNT.
    Count(u32),
    /// BOUNDED_PERCENT of the desired count, between 3 and 200.
    BoundedPercent(u32),
    /// UNBOUNDED_PERCENT of the desired count, at least 1.
    UnboundedPercent(u32),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CircuitBreaker {
    pub enable: bool,
    pub rollback: bool,
    pub threshold: Threshold,
    /// Whether a healthy task sets the failures back to none; ECS: true.
    pub reset_on_healthy_task: bool,
}

impl Default for CircuitBreaker {
    fn default() -> CircuitBreaker {
        CircuitBreaker {
            enable: false,
            rollback: false,
            threshold: Threshold::Default,
            reset_on_healthy_task: true,
        }
    }
}

impl CircuitBreaker {
    /// The number of failures at which a deployment of so many tasks fails.
    pub fn failures_allowed(&self, desired_count: u32) -> u32 {
        let percent = |percent: u32| {
            let failures = (u64::from(desired_count) * u64::from(percent)).div_ceil(100);
            u32::try_from(failures).unwrap_or(u32::MAX)
        };
        match self.threshold {
            Threshold::Default => percent(50).clamp(3, 200),
            Threshold::Count(count) => count.max(1),
            Threshold::BoundedPercent(value) => percent(value).clamp(3, 200),
            Threshold::UnboundedPercent(value) => percent(value).max(1),
        }
    }
}

/// How a task of a service ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TaskEnd {
    /// It stopped before it reached RUNNING, or as soon as it had, and nobody had asked it to.
    NeverRan,
    /// The scheduler replaced it because its health check failed.
    Unhealthy,
    /// Anything else: it ran and ended, it was stopped, its instance was lost.
    Other,
}

impl Deployment {
    /// Notes the end of a task of this deployment.
    pub fn task_ended(&mut self, end: TaskEnd, now_ms: i64) {
        self.troubled |= end != TaskEnd::Other;
        match end {
            TaskEnd::NeverRan => {
                if !self.reached_running {
                    self.failed_tasks = self.failed_tasks.saturating_add(1);
                }
                // Tasks that were started together and fail together count as one wave.
                if now_ms >= self.retry_at_ms {
                    self.failed_waves = self.failed_waves.saturating_add(1);
                    self.retry_at_ms = now_ms + wait_ms(self.failed_waves);
                }
            }
            TaskEnd::Unhealthy => {
                if self.reached_running {
                    self.failed_tasks = self.failed_tasks.saturating_add(1);
                }
            }
            TaskEnd::Other => {}
        }
    }

    /// Notes that a task of this deployment has reached RUNNING.
    pub fn task_running(&mut self) {
        self.reached_running = true;
    }

    /// Notes that a task of this deployment ended only after it had run for a while.
    pub fn task_lasted(&mut self) {
        self.failed_waves = 0;
        self.retry_at_ms = 0;
    }

    /// Notes that a task of this deployment has become healthy: its check says so, or it has no check and has
    /// run for the service's `settle_ms`.
    pub fn task_healthy(&mut self, breaker: &CircuitBreaker) {
        self.task_lasted();
        self.troubled = false;
        if breaker.reset_on_healthy_task {
            self.failed_tasks = 0;
        }
    }

    /// Notes that no place was found for a task of this deployment.
    pub fn placement_failed(&mut self, now_ms: i64) {
        self.unplaced_at_ms = Some(now_ms);
    }

    /// Notes that places were found.
    pub fn placement_succeeded(&mut self) {
        self.unplaced_at_ms = None;
    }

    /// Before this time no task of this deployment is started.
    pub(super) fn next_start_ms(&self) -> i64 {
        let placement = self.unplaced_at_ms.map_or(i64::MIN, |at| at.saturating_add(PLACEMENT_RETRY_MS));
        self.retry_at_ms.max(placement)
    }
}

/// 5 s, 10 s, 20 s … 15 minutes.
fn wait_ms(waves: u32) -> i64 {
    let doublings = waves.saturating_sub(1).min(16);
    (FIRST_WAIT_MS << doublings).min(LONGEST_WAIT_MS)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn deployment() -> Deployment {
        Deployment::new("ecs-svc/1".into())
    }

    #[test]
    fn waits_grow_to_fifteen_minutes_and_end_when_a_task_proves_itself() {
        let (mut deployment, mut now, mut waits) = (deployment(), 0, Vec::new());
        for _ in 0..10 {
            deployment.task_ended(TaskEnd::NeverRan, now);
            waits.push((deployment.retry_at_ms - now) / 1000);
            now = deployment.retry_at_ms;
        }
        assert_eq!(waits, [5, 10, 20, 40, 80, 160, 320, 640, 900, 900]);
        deployment.task_ended(TaskEnd::NeverRan, now);
        let mut healthy = deployment.clone();
        healthy.task_healthy(&CircuitBreaker::default());
        assert_eq!((healthy.failed_waves, healthy.next_start_ms() <= now), (0, true));
        let mut lasted = deployment.clone();
        lasted.task_lasted();
        assert_eq!((lasted.failed_waves, lasted.next_start_ms() <= now), (0, true));
        // One that only begins to run may end like those before it.
        deployment.task_running();
        assert_eq!(deployment.next_start_ms(), now + 900_000);
    }

    #[test]
    fn a_wave_counts_once_for_the_wait_and_each_task_for_the_breaker() {
        let mut deployment = deployment();
        for _ in 0..10 {
            deployment.task_ended(TaskEnd::NeverRan, 1_000);
        }
        assert_eq!(
            (deployment.failed_waves, deployment.retry_at_ms, deployment.failed_tasks),
            (1, 6_000, 10)
        );
    }

    #[test]
    fn tasks_that_ran_and_ended_never_wait_and_never_count() {
        let mut deployment = deployment();
        deployment.task_running();
        deployment.task_ended(TaskEnd::Other, 1_000);
        assert_eq!((deployment.failed_tasks, deployment.retry_at_ms), (0, 0));
        deployment.task_ended(TaskEnd::Unhealthy, 1_000);
        assert_eq!((deployment.failed_tasks, deployment.retry_at_ms), (1, 0));
        deployment.task_healthy(&CircuitBreaker::default());
        assert_eq!(deployment.failed_tasks, 0);
    }

    #[test]
    fn thresholds_are_bounded() {
        let allowed = |threshold, desired| {
            CircuitBreaker { threshold, ..CircuitBreaker::default() }.failures_allowed(desired)
        };
        assert_eq!([1, 7, 25, 4000].map(|desired| allowed(Threshold::Default, desired)), [3, 4, 13, 200]);
        assert_eq!(allowed(Threshold::Count(5), 1000), 5);
        assert_eq!(allowed(Threshold::BoundedPercent(10), 100), 10);
        assert_eq!(allowed(Threshold::UnboundedPercent(10), 3), 1);
    }
}
