//! Plans, acted on in a small simulated world until nothing is left to do.

mod bounds;
mod rollouts;
mod scaling;

use super::*;

/// What becomes of the tasks of a deployment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Runs,
    NeverRuns,
    /// Runs, and its health check never succeeds.
    Sickens,
}

/// A service, the time, and how its deployments fare. Each step plans, acts, and lets a second pass.
struct World {
    service: ServiceState,
    now_ms: i64,
    next_task: u32,
    fates: Vec<(DeploymentId, Fate)>,
    /// Tasks that have a place at once.
    places: usize,
    checked: bool,
    events: Vec<String>,
}

impl World {
    fn new(desired_count: u32) -> World {
        let service = ServiceState {
            name: "web".to_owned(),
            deleting: false,
            desired_count,
            minimum_healthy_percent: 100,
            maximum_percent: 200,
            circuit_breaker: CircuitBreaker::default(),
            strategies: Strategy::service_defaults(),
            settle_ms: 40_000,
            health_check_grace_ms: 0,
            deployments: Vec::new(),
            tasks: Vec::new(),
            reported: Reported::default(),
        };
        let mut world = World {
            service,
            now_ms: 1_000_000,
            next_task: 0,
            fates: Vec::new(),
            places: usize::MAX,
            checked: false,
            events: Vec::new(),
        };
        world.deploy("ecs-svc/1", Fate::Runs);
        world
    }

    /// A service that runs and has settled.
    fn settled(desired_count: u32) -> World {
        let mut world = World::new(desired_count);
        world.settle();
        world.events.clear();
        world
    }

    fn with_bounds(mut self, minimum: u32, maximum: u32) -> World {
        self.service.minimum_healthy_percent = minimum;
        self.service.maximum_percent = maximum;
        self
    }

    fn deploy(&mut self, id: &str, fate: Fate) {
        self.service.deployments.insert(0, Deployment::new(id.into()));
        self.fates.push((id.into(), fate));
    }

    fn plan(&self) -> Plan {
        plan(&self.service, self.now_ms)
    }

    /// Plans, checks the bounds, acts, and lets a second pass.
    fn step(&mut self) -> Plan {
        let plan = self.plan();
        self.check_bounds(&plan);
        self.act(&plan);
        self.pass(1_000);
        plan
    }

    /// Steps until the plan stays empty and nothing is on its way; fails if that takes more than two hours.
    fn settle(&mut self) {
        let mut quiet = 0;
        for _ in 0..7_200 {
            let plan = self.step();
            let still = self.service.tasks.iter().all(|task| matches!(task.phase, TaskPhase::Running { .. }));
            quiet = if plan.actions.is_empty() && plan.wake_at_ms.is_none() && still { quiet + 1 } else { 0 };
            if quiet == 3 {
                return;
            }
        }
        panic!("does not settle: {:?}", self.service);
    }

    fn check_bounds(&self, plan: &Plan) {
        let service = &self.service;
        let live = |task: &&Task| task.phase != TaskPhase::Stopping;
        let before = service.tasks.iter().filter(live).count() as u32;
        let started: u32 = plan
            .actions
            .iter()
            .map(|action| if let Action::Start { count, .. } = action { *count } else { 0 })
            .sum();
        assert!(started == 0 || before + started <= service.upper_bound(), "above the upper bound: {plan:?}");
        let stopped = |task: &Task| {
            plan.actions
                .iter()
                .any(|action| matches!(action, Action::Stop { task: id, .. } if *id == task.id))
        };
        let healthy = |task: &&Task| !task.misplaced && service.is_healthy(task, self.now_ms);
        let healthy_before = service.tasks.iter().filter(healthy).count();
        let healthy_after = service.tasks.iter().filter(healthy).filter(|task| !stopped(task)).count();
        let lower = service.lower_bound() as usize;
        let draining_or_deleted = service.deleting;
        assert!(
            healthy_after == healthy_before || healthy_after >= lower || draining_or_deleted,
            "below the lower bound: {plan:?}"
        );
        for task in service.tasks.iter().filter(|task| task.protected && !task.draining && !service.deleting)
        {
            assert!(!stopped(task), "a protected task was stopped");
        }
    }

    fn act(&mut self, plan: &Plan) {
        self.events.extend(plan.events.iter().map(ToString::to_string));
        self.service.reported = plan.reported;
        let now_ms = self.now_ms;
        // Stops first: they make room.
        for action in &plan.actions {
            if let Action::Stop { task, reason } = action {
                let task = self.service.tasks.iter_mut().find(|known| known.id == *task).unwrap();
                assert_ne!(task.phase, TaskPhase::Stopping, "stopped twice");
                task.phase = TaskPhase::Stopping;
                let deployment = task.deployment.clone();
                if *reason == StopReason::Unhealthy {
                    self.service.deployment_mut(&deployment).unwrap().task_ended(TaskEnd::Unhealthy, now_ms);
                }
            }
        }
        for action in &plan.actions {
            match action {
                Action::Stop { .. } => {}
                Action::Start { deployment, count } => (0..*count).for_each(|_| self.start(deployment)),
                Action::Complete { deployment } => {
                    let deployment = self.service.deployment_mut(deployment).unwrap();
                    (deployment.rollout, deployment.was_completed) = (RolloutState::Completed, true);
                }
                Action::Fail { deployment, .. } => {
                    self.service.deployment_mut(deployment).unwrap().rollout = RolloutState::Failed;
                }
                Action::RollBack { to, .. } => self.service.roll_back(to),
                Action::Retire { deployment } => {
                    self.service.deployments.retain(|known| known.id != *deployment)
                }
                Action::Deactivate => self.service.deployments.clear(),
            }
        }
    }

    fn start(&mut self, deployment: &DeploymentId) {
        let live = self.service.tasks.iter().filter(|task| task.phase != TaskPhase::Stopping).count();
        let now_ms = self.now_ms;
        let known = self.service.deployment_mut(deployment).expect("only known deployments are started");
        if live >= self.places {
            known.placement_failed(now_ms);
            return;
        }
        known.placement_succeeded();
        self.next_task += 1;
        let number = self.next_task;
        self.service.tasks.push(Task {
            id: format!("task-{number:04}").into(),
            deployment: deployment.clone(),
            phase: TaskPhase::Pending,
            health: if self.checked { Health::Unknown } else { Health::Unchecked },
            instance: Some(format!("i{}", number % 4).into()),
            zone: ["a", "b"][number as usize % 2].to_owned(),
            draining: false,
            misplaced: false,
            protected: false,
            created_at_ms: now_ms,
        });
    }

    fn pass(&mut self, ms: i64) {
        self.now_ms += ms;
        let (now_ms, breaker) = (self.now_ms, self.service.circuit_breaker);
        self.service.tasks.retain(|task| task.phase != TaskPhase::Stopping);
        let mut ended = Vec::new();
        for task in &mut self.service.tasks {
            let fate = self
                .fates
                .iter()
                .find(|(id, _)| *id == task.deployment)
                .map_or(Fate::Runs, |(_, fate)| *fate);
            match (task.phase, fate) {
                (TaskPhase::Pending, Fate::NeverRuns) => {
                    ended.push((task.id.clone(), task.deployment.clone()))
                }
                (TaskPhase::Pending, _) => task.phase = TaskPhase::Running { since_ms: now_ms },
                (TaskPhase::Running { .. }, Fate::Runs) if self.checked => task.health = Health::Healthy,
                (TaskPhase::Running { .. }, Fate::Sickens) => task.health = Health::Unhealthy,
                _ => {}
            }
        }
        for (id, deployment) in ended {
            self.service.tasks.retain(|task| task.id != id);
            self.service.deployment_mut(&deployment).unwrap().task_ended(TaskEnd::NeverRan, now_ms);
        }
        let service = self.service.clone();
        for task in &service.tasks {
            let deployment = self.service.deployment_mut(&task.deployment).unwrap();
            if matches!(task.phase, TaskPhase::Running { .. }) {
                deployment.task_running();
            }
            if service.is_healthy(task, now_ms) {
                deployment.task_healthy(&breaker);
            }
        }
    }

    fn running(&self, deployment: &str) -> usize {
        let running =
            self.service.tasks.iter().filter(|task| matches!(task.phase, TaskPhase::Running { .. }));
        running.filter(|task| task.deployment.as_str() == deployment).count()
    }

    fn deployments(&self) -> Vec<(&str, RolloutState)> {
        self.service.deployments.iter().map(|known| (known.id.as_str(), known.rollout)).collect()
    }
}
