//! The real program, in a process of its own.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::net::SocketAddr;
use std::process::Stdio;

use rustix::process::Signal;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::sync::mpsc;

use super::{Client, environment};

/// A running `fluent-auth-proxy serve`; killed when dropped.
pub(crate) struct Process {
    child: Child,
    /// The lines before the one that said that it serves.
    early: VecDeque<String>,
    lines: mpsc::UnboundedReceiver<String>,
    address: SocketAddr,
    admin: SocketAddr,
}

impl Process {
    /// The command, with nothing of this environment but where a build that counts its lines writes what it counted.
    pub(crate) fn bare() -> Command {
        let mut command = Command::new(program());
        command.env_clear().envs(counts());
        command
    }

    /// The command, with the planted account at `url`, free ports, and nothing else of this environment.
    pub(crate) fn command(url: &str) -> Command {
        let mut command = Self::bare();
        command.envs(environment(url));
        command.args([
            "--set",
            "listen.address=localhost:0",
            "--set",
            "admin.address=localhost:0",
        ]);
        command.args(["--set", "log.format=json"]);
        command.kill_on_drop(true);
        command
    }

    /// The same program with these arguments more, behind a shell that says `first` and then becomes it.
    pub(crate) fn behind(first: &str, url: &str, arguments: &[String]) -> Command {
        let program = program();
        let mut command = Command::new("/bin/sh");
        command
            .arg("-c")
            .arg(format!("{first}; exec \"$0\" \"$@\""))
            .arg(program);
        command.args(["--set", "admin.address=localhost:0", "--set", "log.format=json"]);
        command
            .args(arguments)
            .env_clear()
            .envs(counts())
            .envs(environment(url))
            .kill_on_drop(true);
        command
    }

    /// Starts `command` and waits until it serves.
    pub(crate) async fn start(mut command: Command) -> Self {
        let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
        let mut stderr = BufReader::new(child.stderr.take().unwrap()).lines();
        let (sender, mut lines) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            while let Ok(Some(line)) = stderr.next_line().await {
                let _ = sender.send(line);
            }
        });
        let mut early = VecDeque::new();
        loop {
            let line = checked(super::soon(lines.recv()).await).expect("the program ended before it served");
            let event: serde_json::Value = serde_json::from_str(&line).unwrap_or_default();
            if event["message"] == "serving" || line.contains(" serving ") {
                // A log for people says the same in its own form.
                let first = |key: &str| {
                    let text = || line.split_once(&format!(" {key}=")).map(|(_, rest)| rest);
                    let list = event[key].as_str().or_else(text).unwrap();
                    let mut list = list.trim_start_matches('[').split([',', ']']);
                    list.next().unwrap().parse().unwrap()
                };
                return Self {
                    address: first("listen"),
                    admin: first("admin"),
                    child,
                    early,
                    lines,
                };
            }
            early.push_back(line);
        }
    }

    pub(crate) fn client(&self) -> Client {
        Client::new(self.address)
    }

    pub(crate) fn admin(&self) -> Client {
        Client::new(self.admin)
    }

    /// The process's id.
    pub(crate) fn id(&self) -> u32 {
        self.child.id().unwrap()
    }

    /// The most memory that it ever held, in KiB.
    pub(crate) fn peak(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.id())).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    }

    /// The next line of the log, but for the one that says that it serves.
    pub(crate) async fn line(&mut self) -> Option<String> {
        match self.early.pop_front() {
            Some(line) => Some(line),
            None => checked(self.lines.recv().await),
        }
    }

    /// Searches the lines of the log so far for secrets, and forgets them.
    pub(crate) fn drain(&mut self) {
        self.early.clear();
        while checked(self.lines.try_recv().ok()).is_some() {}
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Reads the log up to the first line that has this message.
    pub(crate) async fn line_with(&mut self, message: &str) -> serde_json::Value {
        loop {
            let line = super::soon(self.line()).await.expect("the log ended");
            let event: serde_json::Value = serde_json::from_str(&line).unwrap();
            if event["message"] == message {
                return event;
            }
        }
    }

    /// Sends SIGTERM.
    pub(crate) fn signal(&self) {
        self.signal_with(Signal::TERM);
    }

    /// Sends this signal.
    pub(crate) fn signal_with(&self, signal: Signal) {
        let pid = rustix::process::Pid::from_raw(i32::try_from(self.id()).unwrap()).unwrap();
        rustix::process::kill_process(pid, signal).unwrap();
    }

    /// Waits for the end.
    pub(crate) async fn end(&mut self) -> std::process::ExitStatus {
        super::soon(self.child.wait()).await.unwrap()
    }

    /// Sends SIGTERM and waits for the end.
    pub(crate) async fn terminate(mut self) -> std::process::ExitStatus {
        self.signal();
        let status = self.end().await;
        while self.line().await.is_some() {}
        status
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.drain();
            super::assert_logins_are_few();
        }
    }
}

/// The program that is tested: the one that was built with the tests, unless a variable names another.
fn program() -> OsString {
    std::env::var_os("FLUENT_AUTH_PROXY_BIN")
        .unwrap_or_else(|| env!("CARGO_BIN_EXE_fluent-auth-proxy").into())
}

/// Where a build for `tests/coverage` writes.
fn counts() -> Option<(&'static str, OsString)> {
    let name = "LLVM_PROFILE_FILE";
    Some((name, std::env::var_os(name)?))
}

/// A line of the log, which holds no secret.
fn checked(line: Option<String>) -> Option<String> {
    let line = line?;
    super::assert_clean(line.as_bytes(), "the log of the process");
    Some(line)
}
