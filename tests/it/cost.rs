//! What requests cost in instructions, as callgrind counts them in the real program. Counts are of a debug build: what is
//! told of them are shares of each other, and what is not done at all.

use std::path::Path;

use fluent_sandbox::Sandbox;
use tokio::process::Command;

use super::support::{Process, fluent, sandbox};

/// What callgrind counted, line by line.
struct Counts(String);

impl Counts {
    /// Counts what the program does that answers so many queries.
    async fn of(sandbox: &Sandbox, folder: &Path, queries: usize, settings: &[&str]) -> Self {
        let out = folder.join("counts");
        let command = Process::command(&sandbox.url());
        let program = command.as_std();
        let mut counted = Command::new("valgrind");
        let option = |name: &str, path: &Path| format!("--{name}={}", path.display());
        counted
            .args(["--tool=callgrind", "--compress-strings=no", "--compress-pos=no"])
            .arg(option("callgrind-out-file", &out))
            .arg(option("log-file", &folder.join("log")))
            .arg(program.get_program())
            .args(program.get_args())
            .args(settings.iter().flat_map(|setting| ["--set", *setting]));
        let variables = program
            .get_envs()
            .filter_map(|(name, value)| Some((name, value?)));
        counted.env_clear().envs(variables).kill_on_drop(true);
        counted.env("PATH", std::env::var_os("PATH").unwrap());
        let process = Process::start(counted).await;
        for _ in 0..queries {
            let answer = process.client().graphql("query Me { me { id } }").await;
            answer.assert_good();
        }
        assert!(process.terminate().await.success());
        Self(std::fs::read_to_string(out).unwrap())
    }

    /// All instructions.
    fn total(&self) -> u64 {
        let lines = self.0.lines();
        let mut totals = lines.filter_map(|line| line.strip_prefix("summary: "));
        totals.next().unwrap().trim().parse().unwrap()
    }

    /// How often a function was called, and what that took with all that it called.
    fn calls(&self, function: &str) -> (u64, u64) {
        let (mut calls, mut instructions) = (0, 0);
        let mut lines = self.0.lines();
        while let Some(line) = lines.next() {
            let called = line
                .strip_prefix("cfn=")
                .is_some_and(|name| name.ends_with(function));
            if !called {
                continue;
            }
            let number = |line: Option<&str>, nth: usize| -> u64 {
                let line = line.unwrap().trim_start_matches("calls=");
                line.split(' ').nth(nth).unwrap().parse().unwrap()
            };
            calls += number(lines.next(), 0);
            instructions += number(lines.next(), 1);
        }
        (calls, instructions)
    }

    /// Whether anything of a crate was called.
    fn touches(&self, name: &str) -> bool {
        let function = |line: &str| line.starts_with("fn=") && line.contains(name);
        self.0.lines().any(function)
    }
}

#[tokio::test]
#[ignore = "runs the program under valgrind, three times"]
async fn seeing_costs_less_than_3_percent_of_a_request_and_nothing_is_parsed_that_nobody_wants() {
    const FEW: usize = 20;
    const MANY: usize = 220;
    let sandbox = sandbox(fluent()).await;
    let folder = tempfile::tempdir().unwrap();
    let few = Counts::of(&sandbox, folder.path(), FEW, &[]).await;
    let many = Counts::of(&sandbox, folder.path(), MANY, &[]).await;
    let one = (many.total() - few.total()) / (MANY - FEW) as u64;
    let parts = ["begin", "answered", "end"].map(|part| {
        let name = format!("fluent_auth_proxy::telemetry::Exchange::{part}");
        let (calls, instructions) = many.calls(&name);
        assert_eq!(calls, MANY as u64, "{name}");
        instructions
    });
    let seeing = parts.iter().sum::<u64>() / MANY as u64;
    println!("a request takes {one} instructions, metrics and access log {seeing} of them");
    assert!(seeing * 100 < one * 3, "{seeing} of {one}");

    let parser = "apollo_parser::";
    assert!(!many.touches(parser));
    let told = Counts::of(&sandbox, folder.path(), 1, &["graphql.inspect=true"]).await;
    assert!(told.touches(parser), "what is told has to be parsed");
}
