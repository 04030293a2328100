//! The address of a service: what clients see of it while tasks, hosts and the server come and go.

mod load;
mod names;
mod refusals;
mod rollouts;

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use test_support::{Agent, Engine, Server, aws, eventually_within, run};

const ROLE: &str = "arn:aws:iam::000000000000:role/ecsTaskExecutionRole";
const MINUTE: Duration = Duration::from_secs(60);

/// Ends at SIGTERM, whatever is under way.
const SERVE: &str = "trap 'exit 0' TERM; /bin/busybox httpd -f -p 8080 -h /www & wait";

/// A server and hosts that share this machine, each with an engine and a loopback address of its own.
struct Hosts {
    server: Server,
    agents: Vec<Agent>,
    engines: Vec<Engine>,
    addresses: Vec<IpAddr>,
    /// Free on every address a moment ago.
    port: u16,
}

impl Hosts {
    fn start(count: u8) -> Self {
        static NEXT: AtomicU8 = AtomicU8::new(1);
        let net = NEXT.fetch_add(1, Ordering::Relaxed);
        let own = u8::try_from(std::process::id() % 250).unwrap() + 1;
        let server = Server::builder().config("instance_lease = 10").start();
        let engines: Vec<Engine> = (0..count).map(|_| Engine::start()).collect();
        let image = server.image("app:1");
        engines[0].build_busybox(&image, &[("/www/index.html", b"it runs")]);
        run(server.docker(&engines[0]).args(["push", &image]));
        run(engines[0].docker().args(["rmi", &image]));
        let addresses: Vec<IpAddr> =
            (0..count).map(|host| IpAddr::from(Ipv4Addr::new(127, own, net, host + 1))).collect();
        let join = |(engine, address): (&Engine, &IpAddr)| {
            server.join_with(engine, &format!("listen_addresses = [\"{address}\"]\naddress = \"{address}\""))
        };
        let agents = engines.iter().zip(&addresses).map(join).collect();
        let hosts = Self { server, agents, engines, addresses, port: free_port() };
        eventually_within(MINUTE, "all hosts are connected", || {
            let instances = hosts.instances();
            let connected = instances.iter().filter(|one| one["agentConnected"] == true).count();
            (connected == usize::from(count)).then_some(())
        });
        hosts
    }

    fn aws(&self, args: &[&str]) -> Value {
        aws(&self.server, args.iter().copied()).unwrap_or_else(|error| panic!("aws {args:?}: {error}"))
    }

    fn refusal(&self, args: &[&str]) -> String {
        aws(&self.server, args.iter().copied()).expect_err("it is refused").to_string()
    }

    fn instances(&self) -> Vec<Value> {
        let listed = self.aws(&["ecs", "list-container-instances"]);
        let arns: Vec<&str> =
            listed["containerInstanceArns"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
        if arns.is_empty() {
            return Vec::new();
        }
        let mut args = vec!["ecs", "describe-container-instances", "--container-instances"];
        args.extend(arns);
        self.aws(&args)["containerInstances"].as_array().unwrap().clone()
    }

    /// A web server with a health check, in the shortest times that ECS knows.
    fn register(&self, family: &str) {
        let containers = json!([{
            "name": "web", "image": self.server.image("app:1"), "cpu": 32, "memory": 16, "stopTimeout": 2,
            "entryPoint": ["/bin/busybox", "sh", "-c"], "command": [SERVE],
            "portMappings": [{"containerPort": 8080}],
            "healthCheck": {
                "command": ["CMD", "/bin/busybox", "wget", "-q", "-O", "/dev/null", "http://127.0.0.1:8080/"],
                "interval": 5, "timeout": 2, "retries": 2,
            },
        }]);
        let containers = containers.to_string();
        let mut args = vec!["ecs", "register-task-definition", "--family", family];
        args.extend(["--execution-role-arn", ROLE, "--container-definitions", &containers]);
        self.aws(&args);
    }

    fn create(&self, name: &str, count: &str, tags: &[&str]) -> Value {
        let mut args = vec!["ecs", "create-service", "--service-name", name, "--task-definition", "web"];
        args.extend(["--desired-count", count, "--tags"]);
        args.extend(tags);
        self.aws(&args)
    }

    fn service(&self, name: &str) -> Value {
        self.aws(&["ecs", "describe-services", "--services", name])["services"][0].clone()
    }

    fn events(&self, name: &str) -> Vec<String> {
        let service = self.service(name);
        let events = service["events"].as_array().unwrap();
        events.iter().map(|event| event["message"].as_str().unwrap().to_owned()).collect()
    }

    /// Waits until one deployment is left and has its tasks.
    fn stable(&self, name: &str) {
        eventually_within(MINUTE, "the service is stable", || {
            let service = self.service(name);
            let one = service["deployments"].as_array()?.len() == 1;
            (one && service["runningCount"] == service["desiredCount"]).then_some(())
        });
    }

    /// Where the service is to be reached: one address for each host.
    fn sockets(&self) -> Vec<SocketAddr> {
        self.addresses.iter().map(|address| SocketAddr::new(*address, self.port)).collect()
    }

    /// Waits until the address answers on every host.
    fn answers(&self) {
        for socket in self.sockets() {
            eventually_within(MINUTE, &format!("{socket} answers"), || load::ask(socket).ok());
        }
    }

    /// Running containers of tasks, by host.
    fn containers(&self) -> Vec<Vec<String>> {
        let of = |engine: &Engine| engine.containers("com.amazonaws.ecs.task-arn");
        self.engines.iter().map(of).collect()
    }

    fn agent_process(&mut self) -> u32 {
        self.agents[0].process().id()
    }

    /// The hosts' addresses on their containers' networks.
    fn gateways(&self) -> Vec<String> {
        let template = "{{(index .IPAM.Config 0).Gateway}}";
        let of = |engine: &Engine| {
            run(engine.docker().args(["network", "inspect", "bridge", "--format", template]))
        };
        self.engines.iter().map(of).map(|text| text.trim().to_owned()).collect()
    }

    /// Ids of running containers with the host's number.
    fn by_container(&self) -> BTreeMap<String, usize> {
        let all = self.containers().into_iter().enumerate();
        all.flat_map(|(host, ids)| ids.into_iter().map(move |id| (id, host))).collect()
    }
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}
