//! A name whose address changes while connections to the old one are pooled.
//!
//! The program resolves names as the machine does, so it is given a machine's file of hosts: its own, in a namespace of
//! mounts.

use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use fluent_sandbox::{Fault, Place, Sandbox, Times};
use tempfile::NamedTempFile;
use tokio::net::{TcpListener, TcpStream};
use tokio::process::Command;
use tokio::task::JoinSet;
use tokio_util::task::AbortOnDropHandle;

use super::support::{Process, fluent, sandbox, soon};

const ME: &str = "{ me { id } }";
const NAME: &str = "fluent.test";
const OLD: Ipv4Addr = Ipv4Addr::LOCALHOST;
const NEW: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);

/// A file of hosts that knows one name.
struct Hosts(NamedTempFile);

impl Hosts {
    fn new(address: Ipv4Addr) -> Self {
        let hosts = Self(NamedTempFile::new().unwrap());
        hosts.point_to(address);
        hosts
    }

    /// One write over the same bytes: who reads meanwhile reads the one or the other.
    fn point_to(&self, address: Ipv4Addr) {
        let line = format!("127.0.0.1 localhost\n{address} {NAME}\n");
        self.0.as_file().write_all_at(line.as_bytes(), 0).unwrap();
    }

    /// Whether this machine lets us have mounts of our own.
    fn can_be(&self) -> bool {
        let [program, arguments @ ..] = self.before();
        let tried = std::process::Command::new(program)
            .args(arguments)
            .arg("true")
            .status();
        tried.is_ok_and(|status| status.success())
    }

    /// The words before a command that is to go by this file.
    fn before(&self) -> [String; 6] {
        let bind = "mount --bind \"$0\" /etc/hosts && exec \"$@\"";
        let path = self.0.path().to_str().unwrap();
        ["unshare", "--mount", "sh", "-c", bind, path].map(str::to_owned)
    }
}

/// An address of Fluent; all its connections end with it.
struct Address {
    connections: Arc<AtomicUsize>,
    _task: AbortOnDropHandle<()>,
}

impl Address {
    /// Leads to `to`.
    async fn open(at: SocketAddr, to: &Sandbox) -> (Self, SocketAddr) {
        let listener = TcpListener::bind(at).await.unwrap();
        let (at, to) = (listener.local_addr().unwrap(), to.address());
        let connections = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&connections);
        let task = tokio::spawn(async move {
            let mut open = JoinSet::new();
            while let Ok((mut stream, _)) = listener.accept().await {
                count.fetch_add(1, Ordering::SeqCst);
                open.spawn(async move {
                    let mut there = TcpStream::connect(to).await?;
                    tokio::io::copy_bidirectional(&mut stream, &mut there).await
                });
            }
        });
        let address = Self {
            connections,
            _task: AbortOnDropHandle::new(task),
        };
        (address, at)
    }

    /// Connections that it ever had.
    fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }
}

/// The program before `http://NAME:port`, by this file of hosts; its tokens come from `tokens`.
fn command(hosts: &Hosts, port: u16, tokens: &Sandbox) -> Command {
    let program = Process::command(&format!("http://{NAME}:{port}"));
    let [first, rest @ ..] = hosts.before();
    let mut command = Command::new(first);
    command.args(rest);
    command.arg(program.as_std().get_program());
    command.args(program.as_std().get_args());
    let path = std::env::var_os("PATH").unwrap_or_default();
    let variables = program.as_std().get_envs();
    command.env_clear().env("PATH", path);
    command.envs(variables.filter_map(|(name, value)| Some((name, value?))));
    command.kill_on_drop(true);
    let path = format!("fluent.token.path={}/oauth/token", tokens.url());
    for setting in ["fluent.danger_allow_http=true", &path] {
        command.args(["--set", setting]);
    }
    command
}

#[tokio::test]
async fn a_name_may_move_while_its_connections_are_pooled() {
    let hosts = Hosts::new(OLD);
    if !hosts.can_be() {
        eprintln!("SKIPPED: this machine lets nobody have mounts of its own");
        return;
    }
    let fluent = sandbox(fluent()).await;
    let (old, at) = Address::open((OLD, 0).into(), &fluent).await;
    let (new, _) = Address::open((NEW, at.port()).into(), &fluent).await;
    let process = Process::start(command(&hosts, at.port(), &fluent)).await;
    let client = process.client();
    client.graphql(ME).await.assert_good();
    assert_eq!((old.connections(), new.connections()), (1, 0));

    // What is pooled serves on.
    hosts.point_to(NEW);
    client.graphql(ME).await.assert_good();
    assert_eq!((old.connections(), new.connections()), (1, 0));

    // While a request is on it, another goes to the new address.
    fluent.faults().inject(Place::Api, Times::Once, Fault::Hang);
    let hanging = tokio::spawn(client.graphql(ME));
    soon(fluent.seen().wait_for(|counts| counts.faults == 1)).await;
    client.graphql(ME).await.assert_good();
    assert_eq!((old.connections(), new.connections()), (1, 1));

    // When the old server goes away, the request that is there is sent once more, and is not lost.
    drop(old);
    soon(hanging).await.unwrap().assert_good();
    let mut more = JoinSet::new();
    for _ in 0..20 {
        more.spawn(client.graphql(ME));
    }
    while let Some(answer) = more.join_next().await {
        answer.unwrap().assert_good();
    }
    let seen = fluent.seen().counts();
    assert_eq!((seen.api_requests, seen.password_logins), (25, 1));
    assert!(process.terminate().await.success());
}
