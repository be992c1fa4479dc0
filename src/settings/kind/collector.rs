//! Where traces are sent.

use serde_json::{Value, json};
use url::Url;

use super::Kind;
use super::domain::web_url;
use crate::settings::given::Given;
use crate::settings::problem::Wrong;

/// The path of traces below a collector's root (OTLP 1, "OTLP/HTTP Request").
const TRACES: &str = "/v1/traces";

/// The root of a collector that speaks OTLP over HTTP; settled, the path of traces stands below it.
pub(in crate::settings) enum CollectorUrl {}

impl Kind for CollectorUrl {
    type Settled = Url;

    fn read(given: &Given) -> Result<Url, Wrong> {
        const FORM: &str = "write the root of a collector, such as \"http://localhost:4318\"";
        let mut url = web_url(given).map_err(|wrong| wrong.instead(FORM))?;
        if !url.username().is_empty() || url.password().is_some() {
            return Err(Wrong::is("holds a username or password before an '@'")
                .instead("give what the collector asks for by the variable OTEL_EXPORTER_OTLP_HEADERS"));
        }
        let root = url.path().trim_end_matches('/').to_owned();
        if let Some(root) = root.strip_suffix(TRACES) {
            url.set_path(root);
            return Err(Wrong::is("ends in /v1/traces, which the proxy adds itself")
                .instead(format!("write \"{}\"", url.as_str().trim_end_matches('/'))));
        }
        url.set_path(&format!("{root}{TRACES}"));
        Ok(url)
    }

    fn show(settled: &Url) -> String {
        settled.as_str().trim_end_matches(TRACES).to_owned()
    }

    fn schema() -> Value {
        json!({ "type": "string", "format": "uri", "pattern": "^https?://" })
    }
}
