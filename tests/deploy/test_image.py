"""The Dockerfile, by hadolint and rules of its own, and the composition of deploy/compose.yaml."""

import fnmatch
import os
import pathlib
import re
import shutil
import subprocess
import tempfile
import tomllib
import unittest

import yaml

import manifests

ROOT = pathlib.Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"


def dockerfile():
    return (ROOT / "Dockerfile").read_text()


def hadolint(text):
    done = subprocess.run(["hadolint", "-"], input=text, capture_output=True, text=True, timeout=60)
    return done.returncode, done.stdout + done.stderr


def wrong_with_image(text):
    """The stage that comes last is the image."""
    last = re.split(r"(?m)^FROM ", text)[-1]
    user = re.findall(r"(?m)^USER (.*)$", last)
    if not user or not re.fullmatch(r"[1-9]\d*:[1-9]\d*", user[-1]):
        yield f"kubelet cannot tell that it is not root: {user}"
    if 'CMD ["/usr/bin/fluent-auth-proxy", "health", "--live"]' not in last:
        yield "a refused account would restart it, or nothing would"
    if 'ENTRYPOINT ["/usr/bin/fluent-auth-proxy"]' not in last:
        yield "signals come to a shell"
    cargo = tomllib.loads((ROOT / "Cargo.toml").read_text())["workspace"]["package"]
    if f"ARG VERSION={cargo['version']}\n" not in last:
        yield "it says that it is another version"
    if not re.search(rf"(?m)^ARG RUST_IMAGE=\S+/rust:{re.escape(cargo['rust-version'])}\b", text):
        yield "it is built by another Rust"
    if "RUN" in re.findall(r"(?m)^[A-Z]+", last):
        yield "the base has no shell to run anything"
    for source in re.findall(r"(?m)^COPY (?!--from)(.*)$", text):
        for path in source.split()[:-1]:
            if not (ROOT / path).exists():
                yield f"{path} is not there"
            elif not sent(path):
                yield f".dockerignore keeps {path} back"


def sent(path):
    """Whether .dockerignore lets it through: the last pattern that meets it, or a folder above it, decides."""
    above = [path, *map(str, pathlib.PurePath(path).parents)]
    lets = True
    for pattern in (ROOT / ".dockerignore").read_text().splitlines():
        if fnmatch.filter(above, pattern.removeprefix("!")):
            lets = pattern.startswith("!")
    return lets


def composition():
    return yaml.safe_load((DEPLOY / "compose.yaml").read_text())


def wrong_with_composition(composed):
    for name, service in composed["services"].items():
        if not service.get("read_only") or service.get("cap_drop") != ["ALL"]:
            yield f"{name} can do more than it needs"
        if service.get("security_opt") != ["no-new-privileges:true"] or service.get("privileged"):
            yield f"{name} may gain privileges"
        for port in service.get("ports", []):
            if not re.fullmatch(r"127\.0\.0\.1:\d+:\d+", port):
                yield f"{name} is reachable from other machines at {port}"
        if "build" not in service and not re.search(r":v?\d+\.\d+[\w.-]*$", service["image"]):
            yield f"{name} has no version"
        for volume in service.get("volumes", []):
            source = volume.split(":")[0]
            if source.startswith("."):
                if not (DEPLOY / source).exists():
                    yield f"{name} mounts {source}, which is not there"
                if not volume.endswith(":ro"):
                    yield f"{name} can write {source}"
            elif source not in composed["volumes"]:
                yield f"{name} has no volume {source}"
        for other in service.get("depends_on", []):
            if other not in composed["services"]:
                yield f"{name} waits for {other}, which is not there"


class Image(unittest.TestCase):
    def test_hadolint_finds_nothing(self):
        self.assertEqual(hadolint(dockerfile()), (0, ""))

    def test_hadolint_would(self):
        self.assertNotEqual(hadolint(dockerfile().replace("WORKDIR /build", "RUN cd /build"))[0], 0)
        self.assertNotEqual(hadolint(dockerfile().replace("--no-install-recommends ", ""))[0], 0)

    def test_it_keeps_the_rules(self):
        self.assertEqual(list(wrong_with_image(dockerfile())), [])

    def test_what_breaks_a_rule_is_seen(self):
        for old, new in (
            ("USER 65532:65532", "USER nonroot"),
            ('"health", "--live"', '"health"'),
            ('ENTRYPOINT ["/usr/bin/fluent-auth-proxy"]', "ENTRYPOINT /usr/bin/fluent-auth-proxy"),
            ("ARG VERSION=", "ARG VERSION=9."),
            ("rust:1.", "rust:0."),
            ("COPY src src", "COPY sources src"),
            ("COPY src src", "COPY src README.md src/"),
            ("WORKDIR /var/lib/fluent-auth-proxy", "RUN true"),
        ):
            with self.subTest(old):
                self.assertIn(old, dockerfile())
                self.assertNotEqual(list(wrong_with_image(dockerfile().replace(old, new))), [])


class Composition(unittest.TestCase):
    def test_it_keeps_the_rules(self):
        self.assertEqual(list(wrong_with_composition(composition())), [])

    def test_what_breaks_a_rule_is_seen(self):
        for service, key, value in (
            ("redis", "read_only", False),
            ("redis", "cap_drop", []),
            ("fluent", "security_opt", []),
            ("proxy", "ports", ["4280:4280"]),
            ("redis", "image", "redis:latest"),
            ("grafana", "volumes", ["./nowhere:/etc:ro"]),
            ("grafana", "volumes", ["./grafana:/etc"]),
            ("prometheus", "volumes", ["elsewhere:/prometheus"]),
            ("proxy", "depends_on", ["nobody"]),
        ):
            with self.subTest(service=service, key=key):
                broken = composition()
                broken["services"][service][key] = value
                self.assertEqual(len(list(wrong_with_composition(broken))), 1)

    def test_the_program_takes_the_settings(self):
        proxy = composition()["services"]["proxy"]
        environment = {key: re.sub(r"^\$\{\w+:-(.*)\}$", r"\1", value) for key, value in proxy["environment"].items()}
        path = DEPLOY / "compose" / "proxy.toml"
        environment["FLUENT_PROXY_CONFIG"] = str(path)
        done = subprocess.run(
            [os.environ["FLUENT_AUTH_PROXY_BIN"], "check"], capture_output=True, text=True, env=environment, timeout=60
        )
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        settings = tomllib.loads(path.read_text())
        deadline = manifests.seconds(settings.get("shutdown", {}).get("deadline", "25s"))
        self.assertGreater(manifests.seconds(proxy["stop_grace_period"]), deadline)
        # The simulated Fluent knows the account that the proxies log in with.
        simulated = composition()["services"]["fluent"]["environment"]
        for key, value in simulated.items():
            self.assertEqual(value, proxy["environment"][key.replace("FLUENT_SANDBOX_", "FLUENT_")])

    def test_prometheus_takes_its_settings(self):
        with tempfile.TemporaryDirectory() as folder:
            shutil.copy(DEPLOY / "compose" / "prometheus.yml", folder)
            shutil.copy(DEPLOY / "prometheus" / "rules.yml", folder)
            done = subprocess.run(
                ["promtool", "check", "config", f"{folder}/prometheus.yml"], capture_output=True, text=True, timeout=60
            )
            self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        jobs = yaml.safe_load((DEPLOY / "compose" / "prometheus.yml").read_text())["scrape_configs"]
        [targets] = [static["targets"] for job in jobs for static in job["static_configs"]]
        for target in targets:
            self.assertIn(target.partition(":")[0], composition()["services"])
