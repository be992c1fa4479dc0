//! ```sh
//! cargo add reqwest --features json
//! cargo add serde_json
//! cargo add tokio --features macros,rt-multi-thread
//! ```

use std::io::Write;

use serde_json::{Value, json};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    // No token and no login: the proxy adds what Fluent wants.
    let url = std::env::var("FLUENT_GRAPHQL_URL");
    let url = url.unwrap_or_else(|_| "http://localhost:4280/graphql".to_owned());
    let orders = "query Orders($first: Int!) { orders(first: $first) { edges { node { id ref status } } } }";
    let body = json!({ "query": orders, "variables": { "first": 3 } });
    let answer = reqwest::Client::new().post(url).json(&body).send().await?;
    let answer: Value = answer.error_for_status()?.json().await?;
    writeln!(std::io::stdout(), "{answer}")?;
    Ok(())
}
