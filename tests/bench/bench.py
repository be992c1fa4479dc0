"""Measures the proxy beside its peers, in turns, and tells ratios.

Every proxy has one worker on the first core; upstream and load share the second. CPU time is the system's own account
of each process and its children, in nanoseconds. A round measures every proxy once, in an order drawn anew; a ratio is
made within its round, so that what disturbs the machine for longer than a turn disturbs both sides of it.
"""

import argparse
import contextlib
import json
import math
import os
import random
import re
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
GIB = 1 << 30
# KiB of the bodies that upstream has.
BODIES = (1, 64, 1024, 65536, 1048576)
TOKEN = "t" * 36
PROXY_CORE, OTHER_CORE = 0, 1
OURS = "fluent-auth-proxy"
PEERS = ("nginx", "haproxy", "envoy")


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def filled(name, values):
    text = (HERE / "peers" / name).read_text()
    for key, value in values.items():
        text = text.replace("{{%s}}" % key, str(value))
    left = re.search(r"{{\w+}}", text)
    if left:
        raise SystemExit(f"{name}: {left.group()} has no value")
    return text


class Process:
    """A program pinned to a core, and what the system says of it."""

    def __init__(self, arguments, core, log, env=None):
        self.log = log
        with open(log, "wb") as sink:
            self.child = subprocess.Popen(
                ["taskset", "-c", str(core), *map(str, arguments)],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=sink,
                env={**os.environ, **(env or {})},
            )

    def pids(self):
        children = Path(f"/proc/{self.child.pid}/task/{self.child.pid}/children").read_text().split()
        return [self.child.pid, *map(int, children)]

    def cpu(self):
        """Seconds of CPU time so far: user, system."""
        user = system = total = 0
        for pid in self.pids():
            # The clock of the process (clock_getcpuclockid(3)), which goes on counting threads that have ended.
            total += time.clock_gettime_ns((~pid << 3) | 2)
            fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
            user, system = user + int(fields[11]), system + int(fields[12])
        share = user / (user + system) if user + system else 0
        return {"total": total / 1e9, "user_share": share, "ticks": (user, system)}

    def memory(self):
        """Bytes that are this program's own or its share of: the proportional set size."""
        kib = 0
        for pid in self.pids():
            text = Path(f"/proc/{pid}/smaps_rollup").read_text()
            kib += int(re.search(r"^Pss:\s+(\d+)", text, re.M).group(1))
        return kib * 1024

    def peak(self):
        """The most bytes that it had at once."""
        return 1024 * sum(
            int(re.search(r"^VmHWM:\s+(\d+)", Path(f"/proc/{pid}/status").read_text(), re.M).group(1))
            for pid in self.pids()
        )

    def forget_peak(self):
        for pid in self.pids():
            Path(f"/proc/{pid}/clear_refs").write_text("5")

    def stop(self):
        for pid in reversed(self.pids()):
            try:
                os.kill(pid, signal.SIGTERM)
            except ProcessLookupError:
                pass
        try:
            self.child.wait(5)
        except subprocess.TimeoutExpired:
            self.child.kill()
            self.child.wait()


class Bench:
    """The upstream, the proxies, and the load."""

    def __init__(self, arguments, directory):
        self.arguments = arguments
        self.dir = Path(directory)
        self.running = []
        self.load_program = arguments.load
        self.certificate()
        files = self.dir / "files"
        files.mkdir()
        for size in BODIES:
            with open(files / str(size), "wb") as file:
                file.truncate(size << 10)
        self.plain, self.tls = free_port(), free_port()
        self.upstream()
        self.sinks = {
            "http": self.sink([]),
            "https": self.sink(["--certificate", self.dir / "cert.pem", "--key", self.dir / "key.pem"]),
        }

    def certificate(self):
        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
             "-keyout", self.dir / "ca-key.pem", "-out", self.dir / "ca.pem", "-subj", "/CN=bench"],
            check=True, capture_output=True)
        subprocess.run(
            ["openssl", "req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
             "-keyout", self.dir / "key.pem", "-out", self.dir / "csr.pem", "-subj", "/CN=localhost"],
            check=True, capture_output=True)
        (self.dir / "names").write_text("subjectAltName=DNS:localhost,IP:127.0.0.1\n")
        subprocess.run(
            ["openssl", "x509", "-req", "-in", self.dir / "csr.pem", "-CA", self.dir / "ca.pem", "-CAkey",
             self.dir / "ca-key.pem", "-CAcreateserial", "-days", "2", "-extfile", self.dir / "names",
             "-out", self.dir / "cert.pem"],
            check=True, capture_output=True)

    def start(self, arguments, core, name, env=None):
        process = Process(arguments, core, self.dir / f"{name}.log", env)
        self.running.append(process)
        return process

    def folder(self, name):
        folder = self.dir / name
        folder.mkdir()
        folder.chmod(0o777)
        return folder

    def upstream(self):
        folder = self.folder("upstream")
        self.dir.chmod(0o755)
        config = folder / "nginx.conf"
        config.write_text(filled("upstream.conf", {
            "dir": folder, "certificate": self.dir / "cert.pem", "key": self.dir / "key.pem", "plain": self.plain,
            "tls": self.tls, "filler": "y" * 276, "token": TOKEN, "files": self.dir / "files",
        }))
        self.start([nginx(), "-e", folder / "error.log", "-c", config], OTHER_CORE, "upstream")
        self.answers(self.plain)

    def sink(self, arguments):
        process = self.start([self.load_program, "sink", "127.0.0.1:0", *arguments], OTHER_CORE, f"sink{len(arguments)}")
        return int(json.loads(process.child.stdout.readline())["address"].rsplit(":", 1)[1])

    def proxy(self, name, scheme, instances=0, workers=1):
        """Starts one proxy to an upstream that speaks `scheme`; ours with so many instances more. Of several workers each
        has a core, and load and upstream what is left of the second."""
        listen = free_port()
        folder = self.folder(f"{name}-{scheme}-{listen}")
        values = {
            "dir": folder, "listen": listen, "token": TOKEN, "ca": self.dir / "ca.pem", "scheme": scheme,
            "workers": workers, "upstream": self.tls if scheme == "https" else self.plain, "sink": self.sinks[scheme],
        }
        env = {}
        if name == "nginx":
            command = [nginx(), "-e", folder / "error.log", "-c", folder / "config"]
            text = filled("nginx.conf", values)
        elif name == "haproxy":
            tls = f"ssl verify required ca-file {values['ca']} sni str(localhost) verifyhost localhost " \
                  "ssl-min-ver TLSv1.3" if scheme == "https" else ""
            text = filled("haproxy.cfg", {**values, "tls": tls})
            command = ["haproxy", "-db", "-f", folder / "config"]
        elif name == "envoy":  # told by the ending what language it reads
            tls = json.dumps({
                "name": "tls", "typed_config": {
                    "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext",
                    "sni": "localhost", "common_tls_context": {
                        "tls_params": {"tls_minimum_protocol_version": "TLSv1_3", "tls_maximum_protocol_version": "TLSv1_3"},
                        "validation_context": {"trusted_ca": {"filename": str(values["ca"])}}}}})
            text = filled("envoy.yaml", {**values, "tls": f"transport_socket: {tls}" if scheme == "https" else ""})
            command = [self.arguments.envoy, "-c", folder / "config.yaml", "--concurrency", workers, "--log-level", "error",
                       "--use-dynamic-base-id"]
        else:
            text = filled("ours.toml", values)
            for number in range(1, instances + 1):
                text += filled("instance.toml", {**values, "number": number})
            command = [self.arguments.ours if name == OURS else self.arguments.against, "serve", "--config",
                       folder / "config"]
            env = {"FLUENT_PASSWORD": "bench", "FLUENT_CLIENT_SECRET": "bench"}
        (folder / ("config.yaml" if name == "envoy" else "config")).write_text(text)
        started = time.monotonic()
        cores = PROXY_CORE if workers == 1 else f"{PROXY_CORE},{OTHER_CORE}"
        process = self.start(command, cores, folder.name, env)
        process.port, process.name = listen, name
        process.upload = "/upload" if name in PEERS else "/instances/sink/upload"
        process.start_seconds = self.answers(listen, started)
        return process

    @contextlib.contextmanager
    def another(self, *arguments, **more):
        """One more proxy, for a single measure."""
        proxy = self.proxy(*arguments, **more)
        try:
            yield proxy
        finally:
            self.running.remove(proxy)
            proxy.stop()

    def answers(self, port, since=None):
        since = since or time.monotonic()
        try:
            self.load("first", port)
        except RuntimeError as error:
            logs = "\n".join(path.read_text()[-2000:] for path in sorted(self.dir.rglob("*.log")))
            raise SystemExit(f"nothing answers at {port}: {error}\n{logs}")
        return time.monotonic() - since

    def caller(self, command, port, *arguments):
        """The load program, beside upstream, as it is started."""
        return ["taskset", "-c", str(OTHER_CORE), self.load_program, command, f"127.0.0.1:{port}", *map(str, arguments)]

    def load(self, command, port, *arguments):
        done = subprocess.run(
            self.caller(command, port, *arguments), stdin=subprocess.DEVNULL, capture_output=True, text=True)
        return told_by(done.returncode, done.stdout, done.stderr)

    def steady(self, proxy, connections, path):
        """A closed loop on connections that stand: what it tells, and what the proxy took for it."""
        loop = subprocess.Popen(
            self.caller("closed", proxy.port, "--connections", connections, "--path", path, "--seconds", self.arguments.seconds),
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        loop.stdout.readline()
        before = proxy.cpu()
        out, errors = loop.communicate("\n")
        after = proxy.cpu()
        return told_by(loop.returncode, out, errors), before, after

    def stop(self):
        for process in reversed(self.running):
            process.stop()


def told_by(code, out, errors):
    """The last line of the load program."""
    told = json.loads((out.strip() or "{}").splitlines()[-1])
    if code:
        raise RuntimeError(told.get("error", errors))
    return told


def nginx():
    return shutil.which("nginx") or "/usr/sbin/nginx"


class CpuPerRequest:
    """Closed loop over HTTP/1.1."""

    unit, what = "µs", "CPU a request"

    def __init__(self, scheme, connections=32, path="/graphql"):
        self.scheme, self.connections, self.path = scheme, connections, path
        self.title = f"{self.what}, {'TLS' if scheme == 'https' else 'plaintext'} upstream"
        if connections != 32:
            self.title += f", {connections:,} connections"

    def measure(self, bench, proxy):
        told, before, after = bench.steady(proxy, self.connections, self.path)
        user, system = (b - a for a, b in zip(before["ticks"], after["ticks"]))
        proxy.notes = {"user_share": user / max(1, user + system), "rps": told["requests"] / told["seconds"]}
        return (after["total"] - before["total"]) / told["requests"] * 1e6


class CpuPerRequestHttp2(CpuPerRequest):
    """The same over cleartext HTTP/2, one request at once on each connection."""

    what = "CPU a request over HTTP/2"

    def measure(self, bench, proxy):
        if proxy.name == "nginx":
            # This one takes HTTP/2 on a port without TLS, or HTTP/1.1, but not either.
            return float("nan")
        body = bench.dir / "question.json"
        body.write_text(json.dumps({"query": "{ me { id } }", "variables": {"filler": "x" * 190}}))
        before = proxy.cpu()
        done = subprocess.run(
            ["taskset", "-c", str(OTHER_CORE), "h2load", "-c", str(self.connections), "-m", "1", "-D",
             str(max(1, round(bench.arguments.seconds))), "--warm-up-time=0", "-d", body, "-H", "content-type: application/json",
             f"http://localhost:{proxy.port}/graphql"],
            capture_output=True, text=True)
        after = proxy.cpu()
        found = re.search(r"(\d+) done, (\d+) succeeded, (\d+) failed", done.stdout)
        if not found or found.group(2) == "0" or found.group(3) != "0":
            raise RuntimeError(f"h2load: {done.stdout}{done.stderr}")
        return (after["total"] - before["total"]) / int(found.group(2)) * 1e6


class Latency:
    """Open loop: requests are due at a fixed rate."""

    unit = "µs"

    def __init__(self, scheme, rate, percentile):
        self.scheme, self.rate, self.percentile = scheme, rate, percentile
        self.title = f"{percentile} at {rate:,} requests a second, {'TLS' if scheme == 'https' else 'plaintext'} upstream"

    def measure(self, bench, proxy):
        told = bench.load("open", proxy.port, "--rate", self.rate, "--seconds", bench.arguments.seconds)
        proxy.notes = told
        return told[self.percentile] * 1e6


class Bulk:
    """CPU time for a GiB one way."""

    unit = "s/GiB"

    def __init__(self, scheme, way):
        self.scheme, self.way = scheme, way
        self.title = f"CPU a GiB {way}, {'TLS' if scheme == 'https' else 'plaintext'} upstream"

    def measure(self, bench, proxy):
        before = proxy.cpu()
        if self.way == "down":
            told = bench.load("download", proxy.port, bench.arguments.large)
        else:
            told = bench.load("upload", proxy.port, proxy.upload, "--bytes", bench.arguments.large_bytes)
        after = proxy.cpu()
        proxy.notes = {"gib_per_second": told["bytes"] / GIB / told["seconds"]}
        return (after["total"] - before["total"]) / (told["bytes"] / GIB)


class IdleMemory:
    """Memory of a client's connection that has asked once and stands idle."""

    unit, scheme, title = "KiB", "http", "memory of an idle connection"
    count = 1000

    def measure(self, bench, proxy):
        # A process that has served before has memory to use again.
        with bench.another(proxy.name, self.scheme) as proxy:
            bench.load("closed", proxy.port, "--connections", 4, "--seconds", 0.2)
            before = proxy.memory()
            caller = subprocess.Popen(
                bench.caller("idle", proxy.port, "--connections", self.count), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
            told = json.loads(caller.stdout.readline())
            if told.get("open") != self.count:
                raise RuntimeError(told)
            grown = proxy.memory() - before
            caller.communicate()
        return grown / self.count / 1024


class Start:
    """From the start of the process to the first answer, with a token endpoint that answers at once."""

    unit, scheme, title = "ms", "http", "start to the first answer"

    def measure(self, bench, proxy):
        with bench.another(proxy.name, self.scheme) as again:
            return again.start_seconds * 1e3


class RestMemory:
    """Memory at rest, just started."""

    unit, scheme, title = "MiB", "http", "memory at rest"

    def measure(self, bench, proxy):
        with bench.another(proxy.name, self.scheme) as again:
            return again.memory() / (1 << 20)


class StreamGrowth:
    """How much more memory a process has at its most while a large body streams through it."""

    unit = "MiB"

    def __init__(self, way):
        self.scheme, self.way = "http", way
        self.title = f"growth while a large body streams {way}"

    def measure(self, bench, proxy):
        with bench.another(proxy.name, self.scheme) as again:
            again.forget_peak()
            before = again.peak()
            if self.way == "down":
                bench.load("download", again.port, bench.arguments.large)
            else:
                bench.load("upload", again.port, again.upload, "--bytes", bench.arguments.large_bytes)
            return (again.peak() - before) / (1 << 20)


class ManyInstances(CpuPerRequest):
    """The last of a thousand instances is asked."""

    def __init__(self, scheme, instances):
        super().__init__(scheme)
        self.instances = instances
        self.title = f"{self.what}, {instances:,} instances"

    def measure(self, bench, proxy):
        if proxy.name in PEERS:
            return float("nan")
        self.path = f"/instances/i{self.instances}/graphql"
        with bench.another(proxy.name, self.scheme, instances=self.instances) as again:
            bench.load("closed", again.port, "--connections", 4, "--path", self.path, "--seconds", 0.5)
            return super().measure(bench, again)


class Workers(CpuPerRequest):
    """So many workers, a core each."""

    def __init__(self, scheme, workers):
        super().__init__(scheme)
        self.workers = workers
        self.title = f"{self.what}, {workers} worker{'s' if workers > 1 else ''}"

    def measure(self, bench, proxy):
        with bench.another(proxy.name, self.scheme, workers=self.workers) as again:
            bench.load("closed", again.port, "--seconds", 0.5)
            return super().measure(bench, again)


class Body(CpuPerRequest):
    """Answers of so many KiB."""

    def __init__(self, scheme, size):
        super().__init__(scheme, connections=4, path=f"/{size}")
        self.title = f"{self.what}, answers of {size:,} KiB"


MEASURES = {
    "cpu-tls": lambda: CpuPerRequest("https"),
    "cpu": lambda: CpuPerRequest("http"),
    "cpu-h2": lambda: CpuPerRequestHttp2("http"),
    "p50-tls": lambda: Latency("https", 8000, "p50"),
    "p99-tls": lambda: Latency("https", 8000, "p99"),
    "p999-tls": lambda: Latency("https", 8000, "p999"),
    "p99": lambda: Latency("http", 8000, "p99"),
    "down": lambda: Bulk("http", "down"),
    "up": lambda: Bulk("http", "up"),
    "down-tls": lambda: Bulk("https", "down"),
    "up-tls": lambda: Bulk("https", "up"),
    "idle": IdleMemory,
    "rest": RestMemory,
    "grow-down": lambda: StreamGrowth("down"),
    "grow-up": lambda: StreamGrowth("up"),
    "start": Start,
}
# How the cost grows; not among the figures that are measured when nothing is named. What grows, and how far.
GROWING = {
    "conn": ("connections", (16, 256, 1024, 4096), lambda count: CpuPerRequest("http", connections=count)),
    "instances": ("instances", (1, 30, 1000), lambda count: ManyInstances("http", count)),
    "workers": ("workers", (1, 2), lambda count: Workers("http", count)),
    "body": ("KiB of an answer", BODIES, lambda size: Body("http", size)),
}
GROWTH = {
    f"{name}-{step}": (lambda make=make, step=step: make(step))
    for name, (_, steps, make) in GROWING.items() for step in steps
}
KNOWN = {**MEASURES, **GROWTH}


def profile(to, proxy, measure, bench):
    """Samples of where the proxy is, 5,000 a second, with its callers."""
    perf = subprocess.Popen(["perf", "record", "-q", "-e", "cpu-clock", "-F", "4999", "--call-graph", "fp", "-o", to, "-p",
                             ",".join(map(str, proxy.pids()))])
    measure.measure(bench, proxy)
    perf.send_signal(signal.SIGINT)
    perf.wait()


def spread(values):
    return f"{statistics.median(values):.2f} [{min(values):.2f}–{max(values):.2f}]"


def too_noisy(ratios):
    """Whether the rounds differ so much that their median says little."""
    return len(ratios) > 1 and (max(ratios) - min(ratios)) / statistics.median(ratios) > 0.3


def ratios(values, name):
    return [ours / theirs for ours, theirs in zip(values[OURS], values[name]) if theirs and ours == ours and theirs == theirs]


def table(results, names):
    """The figures as Markdown: ours, and ours as a share of each peer's."""
    peers = [name for name in names if name != OURS]
    lines = ["| figure | ours | " + " | ".join(f"of {name}'s" for name in peers) + " |",
             "| --- | --- |" + " --- |" * len(peers)]
    for result in results.values():
        cells = [f"{statistics.median(result['values'][OURS]):.3g} {result['unit']}"]
        for name in peers:
            found = ratios(result["values"], name)
            cells.append((f"{spread(found)}" + (" (too noisy)" if too_noisy(found) else "")) if found else "")
        lines.append(f"| {result['title']} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def plot(results, names):
    """The ratios as bars, with their spread: below the line at 1 ours costs less."""
    peers = [name for name in names if name != OURS]
    colours = dict(zip(peers, ("#2a78d6", "#1baf7a", "#c2571a", "#6b6b6b")))
    left, width, bar, gap, top, most = 330, 420, 9, 14, 44, 2.0
    parts, y = [], top
    x = lambda ratio: left + width * min(ratio, most) / most
    for result in results.values():
        rows = [(name, ratios(result["values"], name)) for name in peers]
        rows = [(name, found) for name, found in rows if found]
        if not rows:
            continue
        middle = y + bar * len(rows) / 2 + 4
        parts.append(f'<text x="{left - 10}" y="{middle:.0f}" text-anchor="end">{result["title"]}</text>')
        for name, found in rows:
            median = statistics.median(found)
            parts.append(f'<rect x="{left}" y="{y}" width="{x(median) - left:.1f}" height="{bar - 2}" fill="{colours[name]}"/>')
            parts.append(f'<line x1="{x(min(found)):.1f}" x2="{x(max(found)):.1f}" y1="{y + bar / 2 - 1}" y2="{y + bar / 2 - 1}" stroke="#222"/>')
            parts.append(f'<text x="{x(max(found)) + 5:.1f}" y="{y + bar - 2}" font-size="9">{median:.2f}</text>')
            y += bar
        y += gap
    legend = "".join(f'<rect x="{left + 110 * index}" y="12" width="10" height="10" fill="{colours[name]}"/>'
                     f'<text x="{left + 110 * index + 15}" y="21">of {name}</text>' for index, name in enumerate(peers))
    line = f'<line x1="{x(1)}" x2="{x(1)}" y1="{top - 10}" y2="{y}" stroke="#222" stroke-dasharray="3 3"/>'
    return (f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {left + width + 60} {y + 10}" font-family="sans-serif" '
            f'font-size="12"><rect width="100%" height="100%" fill="#fff"/>{legend}{line}{"".join(parts)}</svg>\n')


def plot_growth(results, names):
    """What a request costs as each thing grows, in microseconds; both axes tell how many times more."""
    drawn = [name for name in names if name != "other build"]
    colours = dict(zip(drawn, ("#222", "#2a78d6", "#1baf7a", "#c2571a")))
    side, left, top, parts, place = 230, 60, 50, [], 0
    for key, (what, steps, _) in GROWING.items():
        known = [step for step in steps if f"{key}-{step}" in results]
        lines = {name: [(step, statistics.median(results[f"{key}-{step}"]["values"][name])) for step in known] for name in drawn}
        costs = [cost for line in lines.values() for _, cost in line if cost == cost]
        if len(known) < 2 or not costs:
            continue
        low, high = math.log10(min(costs) / 1.5), math.log10(max(costs) * 1.5)
        start = left + place * (side + 80)
        x = lambda step: start + side * math.log(step / known[0]) / math.log(known[-1] / known[0])
        y = lambda cost: top + side * (high - math.log10(cost)) / (high - low)
        parts.append(f'<rect x="{start}" y="{top}" width="{side}" height="{side}" fill="none" stroke="#bbb"/>')
        parts.append(f'<text x="{start + side / 2}" y="{top + side + 34}" text-anchor="middle">{what}</text>')
        for step in known:
            parts.append(f'<text x="{x(step):.0f}" y="{top + side + 16}" text-anchor="middle" font-size="10">{step:,}</text>')
        for name, line in lines.items():
            dots = [(x(step), y(cost), cost) for step, cost in line if cost == cost]
            points = " ".join(f"{across:.1f},{down:.1f}" for across, down, _ in dots)
            parts.append(f'<polyline points="{points}" fill="none" stroke="{colours[name]}" stroke-width="2"/>')
            for across, down, cost in dots:
                parts.append(f'<circle cx="{across:.1f}" cy="{down:.1f}" r="3" fill="{colours[name]}"/>')
                if name == OURS:
                    parts.append(f'<text x="{across:.0f}" y="{down - 8:.0f}" text-anchor="middle" font-size="10">{cost:,.0f}</text>')
        place += 1
    legend = "".join(f'<rect x="{left + 150 * index}" y="12" width="10" height="10" fill="{colours[name]}"/>'
                     f'<text x="{left + 150 * index + 15}" y="21">{name}</text>' for index, name in enumerate(drawn))
    legend += f'<text x="{left + 150 * len(drawn)}" y="21">µs of CPU a request; both axes in equal steps of times as much</text>'
    return (f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {left + place * (side + 80)} {top + side + 50}" '
            f'font-family="sans-serif" font-size="12"><rect width="100%" height="100%" fill="#fff"/>{legend}{"".join(parts)}'
            "</svg>\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ours", required=True, help="the proxy")
    parser.add_argument("--against", help="another build of it, measured as a peer")
    parser.add_argument("--load", required=True, help="the program that makes load")
    parser.add_argument("--envoy", help="Envoy's program")
    parser.add_argument("--peers", default=",".join(PEERS))
    parser.add_argument("--measure", default=",".join(MEASURES), help=f"which figures, of {', '.join(KNOWN)}")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=3)
    parser.add_argument("--quick", action="store_true", help="large bodies of 64 MiB")
    parser.add_argument("--profile", type=Path, help="where perf's samples of the proxy under the first measure go")
    parser.add_argument("--plot", type=Path, help="where the ratios go as a picture")
    parser.add_argument("--plot-growth", type=Path, help="where what grows goes as a picture")
    parser.add_argument("--json", type=Path, help="where the figures go")
    arguments = parser.parse_args()
    keys = arguments.measure.split(",")
    for key in keys:
        if key not in KNOWN:
            parser.error(f"--measure: {key} is none of {', '.join(KNOWN)}")
    arguments.large, arguments.large_bytes = ("/65536", 1 << 26) if arguments.quick else ("/1048576", GIB)
    names = [OURS, *filter(None, arguments.peers.split(","))]
    if arguments.against:
        names.append("other build")
    results = {}
    with tempfile.TemporaryDirectory(prefix="bench-") as directory:
        bench = Bench(arguments, directory)
        try:
            for scheme in ("https", "http"):
                chosen = [(key, KNOWN[key]()) for key in keys]
                chosen = [(key, measure) for key, measure in chosen if measure.scheme == scheme]
                if not chosen:
                    continue
                proxies = [bench.proxy(name, scheme) for name in names]
                for proxy in proxies:
                    bench.load("closed", proxy.port, "--seconds", 1)
                if arguments.profile:
                    profile(arguments.profile, proxies[-1], chosen[0][1], bench)
                for key, measure in chosen:
                    values = {name: [] for name in names}
                    notes = {name: [] for name in names}
                    for _ in range(arguments.rounds):
                        for proxy in random.sample(proxies, len(proxies)):
                            proxy.notes = None
                            values[proxy.name].append(measure.measure(bench, proxy))
                            notes[proxy.name].append(proxy.notes)
                    results[key] = {"title": measure.title, "unit": measure.unit, "values": values, "notes": notes}
                    print(f"\n{measure.title} ({measure.unit})")
                    for name in names:
                        found = ratios(values, name) if name != OURS else []
                        against = f"   ours is {spread(found)} of it" if found else ""
                        against += " (the machine was too noisy to tell)" if too_noisy(found) else ""
                        print(f"  {name:18} {spread(values[name])}{against}  {last(notes[name])}", flush=True)
        finally:
            bench.stop()
    if arguments.json:
        arguments.json.write_text(json.dumps(results, indent=1))
    if arguments.plot:
        arguments.plot.write_text(plot(results, names))
    if arguments.plot_growth:
        arguments.plot_growth.write_text(plot_growth(results, names))
    print(f"\n{table(results, names)}")


def last(notes):
    note = notes[-1] or {}
    return " ".join(f"{key} {value:.3g}" for key, value in note.items())


if __name__ == "__main__":
    main()
