//! Settles the log and the traces.

use super::Settler;
use crate::settings::problem::Source;
use crate::settings::raw::{self, Field};
use crate::telemetry::LogConfig;
use crate::telemetry::otlp::TraceConfig;

impl Settler {
    pub(super) fn log(&mut self, raw: &raw::Log) -> Option<LogConfig> {
        let format = self.read(&raw.format);
        let level = self.read(&raw.level);
        let access = self.read(&raw.access);
        Some(LogConfig {
            format: format?,
            level: level?,
            access: access?,
        })
    }

    /// How traces are sent, where they are. What nobody set is left to the standard variables, where there are any.
    pub(super) fn traces(&mut self, raw: &raw::Telemetry) -> Option<TraceConfig> {
        let endpoint = self.read(&raw.otlp_endpoint);
        let service_name = self.read(&raw.service_name);
        let sample_ratio = self.read(&raw.sample_ratio);
        let named = |variables: &[&str]| variables.iter().any(|name| self.standard.contains(*name));
        let by_variable = named(&[
            "OTEL_EXPORTER_OTLP_ENDPOINT",
            "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
        ]);
        let on = endpoint.is_some() || by_variable;
        let name_left =
            self.is_default(&raw.service_name) && named(&["OTEL_SERVICE_NAME", "OTEL_RESOURCE_ATTRIBUTES"]);
        let sampler_left = self.is_default(&raw.sample_ratio) && named(&["OTEL_TRACES_SAMPLER"]);
        let config = TraceConfig {
            endpoint: endpoint.map(String::from),
            service_name: Some(service_name?).filter(|_| !name_left),
            sample_ratio: Some(sample_ratio?).filter(|_| !sampler_left),
        };
        on.then_some(config)
    }

    /// Whether nobody set it.
    fn is_default<K>(&self, field: &Field<K>) -> bool {
        self.source(field) == Some(&Source::Default)
    }
}
