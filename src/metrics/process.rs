//! What the process takes of the machine, by the names that Prometheus' own clients give it (`process_…`), and what
//! tokio tells of its threads and tasks.
//!
//! 1. Both are read when somebody scrapes, and cost nothing otherwise.
//! 2. What the system does not tell has no series: only Linux tells of the process.

use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Unit;
use tokio::runtime::Handle;

/// Tells of the process.
#[derive(Debug)]
pub(super) struct Process;

/// Tells of tokio's runtime, where the scrape runs on one.
#[derive(Debug)]
pub(super) struct Runtime;

/// What the system tells of a process.
#[derive(Debug)]
struct Usage {
    /// Seconds of all cores, in the program and in the kernel for it.
    cpu: f64,
    /// Bytes in memory.
    resident: u64,
    /// Bytes of address space.
    mapped: u64,
    threads: u64,
    open_files: u64,
    /// The limit of open files; `None` without one.
    max_open_files: Option<u64>,
    /// Seconds since 1970.
    started: u64,
}

impl Collector for Process {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let Some(usage) = Usage::now() else { return Ok(()) };
        let help = "The time that all cores spent for the process.";
        let cpu =
            encoder.encode_descriptor("process_cpu", help, Some(&Unit::Seconds), MetricType::Counter)?;
        ConstCounter::new(usage.cpu).encode(cpu)?;
        let bytes = Some(&Unit::Bytes);
        let max_open_files = usage
            .max_open_files
            .map(|limit| ("process_max_fds", "The limit of open descriptors.", None, limit));
        let gauges = [
            (
                "process_resident_memory",
                "What the process holds in memory.",
                bytes,
                usage.resident,
            ),
            (
                "process_virtual_memory",
                "The address space of the process.",
                bytes,
                usage.mapped,
            ),
            ("process_threads", "Threads of the process.", None, usage.threads),
            ("process_open_fds", "Open descriptors.", None, usage.open_files),
            (
                "process_start_time",
                "When the process started, since 1970.",
                Some(&Unit::Seconds),
                usage.started,
            ),
        ];
        for (name, help, unit, value) in gauges.into_iter().chain(max_open_files) {
            ConstGauge::new(value).encode(encoder.encode_descriptor(
                name,
                help,
                unit,
                MetricType::Gauge,
            )?)?;
        }
        Ok(())
    }
}

impl Usage {
    /// Of this process; `None` where the system does not tell.
    #[cfg(target_os = "linux")]
    fn now() -> Option<Self> {
        use procfs::process::{LimitValue, Process};
        let process = Process::myself().ok()?;
        let stat = process.stat().ok()?;
        let ticks = procfs::ticks_per_second();
        let limit = process.limits().ok()?.max_open_files.soft_limit;
        #[expect(
            clippy::cast_precision_loss,
            reason = "2^52 ticks are more than a million years"
        )]
        let cpu = (stat.utime + stat.stime) as f64 / ticks as f64;
        Some(Self {
            cpu,
            resident: stat.rss * procfs::page_size(),
            mapped: stat.vsize,
            threads: u64::try_from(stat.num_threads).ok()?,
            open_files: process.fd_count().ok()? as u64,
            max_open_files: match limit {
                LimitValue::Value(limit) => Some(limit),
                LimitValue::Unlimited => None,
            },
            started: procfs::boot_time_secs().ok()? + stat.starttime / ticks,
        })
    }

    /// Of this process; `None` where the system does not tell.
    #[cfg(not(target_os = "linux"))]
    fn now() -> Option<Self> {
        None
    }
}

impl Collector for Runtime {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let Ok(runtime) = Handle::try_current() else {
            return Ok(());
        };
        let runtime = runtime.metrics();
        let gauges = [
            (
                "tokio_workers",
                "Threads that serve requests.",
                runtime.num_workers(),
            ),
            (
                "tokio_tasks",
                "Tasks that have not ended.",
                runtime.num_alive_tasks(),
            ),
            (
                "tokio_queue_depth",
                "Tasks that are ready and wait in the queue of all threads.",
                runtime.global_queue_depth(),
            ),
        ];
        for (name, help, value) in gauges {
            let gauge = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
            ConstGauge::new(value as u64).encode(gauge)?;
        }
        #[cfg(target_has_atomic = "64")]
        {
            let busy = (0..runtime.num_workers()).map(|worker| runtime.worker_total_busy_duration(worker));
            let busy = busy.sum::<std::time::Duration>().as_secs_f64();
            let help = "The time that the threads were not idle, all together.";
            let unit = Some(&Unit::Seconds);
            let counter = encoder.encode_descriptor("tokio_busy", help, unit, MetricType::Counter)?;
            ConstCounter::new(busy).encode(counter)?;
        }
        Ok(())
    }
}
