"""The Kubernetes overlays: rendered by kubectl, held against the schemas, the rules of manifests.py and the program."""

import functools
import os
import pathlib
import subprocess
import tempfile
import tomllib
import unittest

import yaml

import manifests
from manifests import OVERLAYS, of_kind, one, pod, proxy, settings_text, volume

ROOT = pathlib.Path(__file__).parents[2]
KUBERNETES = ROOT / "deploy" / "kubernetes"
# The oldest version that each overlay says it is for (1.25 is the oldest with a schema), and the newest that is known.
VERSIONS = {"native-sidecar": "1.29.0", "classic-sidecar": "1.25.0", "shared": "1.30.0"}
NEWEST = "1.37.0"
SECRETS = "/run/secrets/fluent"


def run(*command, **more):
    return subprocess.run(command, capture_output=True, text=True, timeout=120, **more)


@functools.cache
def text_of(overlay):
    done = run("kubectl", "kustomize", str(KUBERNETES / overlay))
    if done.returncode or done.stderr:
        raise AssertionError(f"{overlay}: {done.stderr}")
    return done.stdout


def rendered(overlay):
    return list(yaml.safe_load_all(text_of(overlay)))


def wrong_with(documents, rules):
    return {rule.__name__: found for rule in rules if (found := list(rule(documents)))}


def validate(version, text):
    """What the schemas of Kubernetes say, strictly: unknown fields are wrong."""
    with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
        file.write(text)
        file.flush()
        return run("kubernetes-validate", "-k", version, "--strict", file.name)


def check(text, url="https://acme.sandbox.api.fluentretail.com"):
    """What the program says of settings, with secrets where the pod would have them."""
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder)
        for name in ("username", "password", "client-id", "client-secret"):
            (path / name).write_text(f"a-{name}\n")
        (path / "redis-url").write_text("rediss://:a-password@redis:6379\n")
        (path / "proxy.toml").write_text(text.replace(SECRETS, folder))
        return run(
            os.environ["FLUENT_AUTH_PROXY_BIN"], "check", "--config", str(path / "proxy.toml"),
            env={"FLUENT_URL": url}, cwd=folder,
        )  # fmt: skip


class Overlays(unittest.TestCase):
    def test_all_there_are_have_rules(self):
        found = {path.parent.name for path in KUBERNETES.glob("*/kustomization.yaml")}
        self.assertEqual(found, {*OVERLAYS, "base"})

    def test_they_keep_every_rule(self):
        for overlay, rules in OVERLAYS.items():
            with self.subTest(overlay):
                self.assertEqual(wrong_with(rendered(overlay), rules), {})

    def test_kubernetes_knows_them(self):
        for overlay, oldest in VERSIONS.items():
            for version in (oldest, NEWEST):
                with self.subTest(overlay, version=version):
                    done = validate(version, text_of(overlay))
                    self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
                    passed = done.stdout.count("passed for resource") + done.stderr.count("passed for resource")
                    # PodMonitor has no schema there; a rule looks at it.
                    known = [document for document in rendered(overlay) if document["kind"] != "PodMonitor"]
                    self.assertEqual(passed, len(known), done.stdout + done.stderr)

    def test_they_need_the_version_that_they_say(self):
        for overlay, version in (("native-sidecar", "1.27.0"), ("shared", "1.28.0")):
            with self.subTest(overlay):
                self.assertNotEqual(validate(version, text_of(overlay)).returncode, 0)

    def test_a_misspelled_field_is_seen(self):
        text = text_of("native-sidecar").replace("readOnlyRootFilesystem", "readOnlyRootFileSystem")
        self.assertNotEqual(validate(NEWEST, text).returncode, 0)

    def test_the_program_takes_their_settings(self):
        for overlay in OVERLAYS:
            with self.subTest(overlay):
                done = check(settings_text(rendered(overlay)))
                self.assertEqual(done.returncode, 0, done.stdout + done.stderr)

    def test_a_misspelled_setting_is_seen(self):
        done = check(settings_text(rendered("shared")).replace("max_in_flight", "max_inflight"))
        self.assertEqual(done.returncode, 78)

    def test_the_proxy_is_the_same_in_all_of_them(self):
        def same(overlay):
            container = proxy(rendered(overlay))
            for differs in ("restartPolicy", "lifecycle", "resources", "ports"):
                container.pop(differs, None)
            container["volumeMounts"] = [found for found in container["volumeMounts"] if found["name"] != "fluent-cache"]
            return container

        for overlay in OVERLAYS:
            self.assertEqual(same(overlay), same("shared"), overlay)

    def test_the_image_is_of_this_version(self):
        version = tomllib.loads((ROOT / "Cargo.toml").read_text())["workspace"]["package"]["version"]
        for overlay in OVERLAYS:
            self.assertEqual(proxy(rendered(overlay))["image"].rpartition(":")[2], version)

    def test_the_example_of_a_secret_has_all_files(self):
        text = (KUBERNETES / "secret.example.yaml").read_text()
        example = yaml.safe_load(text)
        self.assertEqual(validate(NEWEST, text).returncode, 0)
        items = set()
        for overlay in OVERLAYS:
            secret = volume(rendered(overlay), "fluent-secrets")["secret"]
            self.assertEqual(secret["secretName"], example["metadata"]["name"])
            items |= {item["key"] for item in secret["items"]}
        self.assertEqual(items, set(example["stringData"]))

    def test_an_address_can_be_replaced_by_one_line(self):
        urls = {document["data"]["FLUENT_URL"] for overlay in OVERLAYS for document in rendered(overlay)
                if "FLUENT_URL" in document.get("data", {})}  # fmt: skip
        self.assertEqual(urls, {"https://ACCOUNT.sandbox.api.fluentretail.com"})


def field(value, *path):
    """Puts the value there, or takes away what is there."""

    def into(place):
        *way, last = path
        for key in way:
            place = place[key]
        if value is None:
            del place[last]
        else:
            place[last] = value

    return into


def put(value, *path):
    """Breaks one field of the proxy's container."""
    return lambda documents: field(value, *path)(proxy(documents))


def spec(kind, value, *path):
    """Breaks one field of another document."""
    return lambda documents: field(value, *path)(one(documents, kind))


def setting(old, new):
    """Breaks the settings."""

    def break_it(documents):
        for found in of_kind(documents, "ConfigMap"):
            if "proxy.toml" in found["data"]:
                assert old in found["data"]["proxy.toml"], old
                found["data"]["proxy.toml"] = found["data"]["proxy.toml"].replace(old, new)

    return break_it


def to_app(key, value):
    def break_it(documents):
        [app] = [container for container in pod(documents)["containers"] if container["name"] == "app"]
        app[key] = value

    return break_it


def of_pod(key, value):
    return lambda documents: pod(documents).update({key: value})


def secret_volume(documents):
    volume(documents, "fluent-secrets")["secret"]["items"].pop()


def on_disk(documents):
    found = volume(documents, "fluent-cache")
    found["hostPath"] = found.pop("emptyDir")


def another_secret(documents):
    documents.append({"kind": "Secret", "metadata": {"name": "fluent-auth-proxy"}})


def a_password_in_a_variable(documents):
    proxy(documents)["env"].append({"name": "FLUENT_PASSWORD", "valueFrom": {"secretKeyRef": {}}})


def to_containers(documents):
    spec = pod(documents)
    spec["containers"] += spec.pop("initContainers")


# What is broken, by the rule that must see it and the overlay.
BREAKS = {
    ("the_container_can_do_nothing_but_serve", "native-sidecar"): [
        put(0, "securityContext", "runAsUser"),
        put(False, "securityContext", "runAsNonRoot"),
        put(None, "securityContext", "readOnlyRootFilesystem"),
        put(True, "securityContext", "allowPrivilegeEscalation"),
        put(["NET_RAW"], "securityContext", "capabilities", "add"),
        put(None, "securityContext", "seccompProfile"),
    ],
    ("the_container_can_do_nothing_but_serve", "shared"): [
        of_pod("hostNetwork", True),
    ],
    ("probes_ask_the_admin_listener_and_never_fluent", "shared"): [
        put("/readyz", "livenessProbe", "httpGet", "path"),
        put("/readyz?token", "readinessProbe", "httpGet", "path"),
        put(4280, "startupProbe", "httpGet", "port"),
        put(None, "readinessProbe"),
    ],
    ("probes_ask_the_admin_listener_and_never_fluent", "classic-sidecar"): [
        setting("0.0.0.0:4281", "localhost:4281"),
    ],
    ("secrets_are_files_of_a_secret", "classic-sidecar"): [
        setting("password_file =", "password ="),
        another_secret,
        a_password_in_a_variable,
        secret_volume,
        put("password", "volumeMounts", 1, "subPath"),
        to_app("volumeMounts", [{"name": "fluent-secrets"}]),
    ],
    ("the_file_store_is_on_an_emptydir", "classic-sidecar"): [
        on_disk,
        setting("/var/lib/fluent-auth-proxy", "/tmp/elsewhere"),
        setting('store = "file"', 'store = "memory"'),
    ],
    ("there_is_time_to_end", "classic-sidecar"): [
        of_pod("terminationGracePeriodSeconds", 40),
        setting('delay = "20s"', 'delay = "0s"'),
        setting('delay = "20s"', 'delay = "40s"'),
    ],
    ("there_is_time_to_end", "native-sidecar"): [
        of_pod("terminationGracePeriodSeconds", 25),
    ],
    ("there_is_time_to_end", "shared"): [
        put(15, "lifecycle", "preStop", "sleep", "seconds"),
    ],
    ("memory_covers_every_limit_at_once", "shared"): [
        setting("max_connections = 1024", "max_connections = 4096"),
    ],
    ("memory_covers_every_limit_at_once", "native-sidecar"): [
        put("200Mi", "resources", "limits", "memory"),
        put("16Mi", "resources", "requests", "memory"),
    ],
    ("what_is_named_is_there", "native-sidecar"): [
        of_pod("enableServiceLinks", True),
        put("fluent-auth-proxy:latest", "image"),
        put("nowhere", "env", 0, "valueFrom", "configMapKeyRef", "name"),
        put(["serve", "--config", "/etc/else/proxy.toml"], "args"),
    ],
    ("only_the_pod_reaches_the_sidecar", "native-sidecar"): [
        setting("localhost:4280", "0.0.0.0:4280"),
        put([{"containerPort": 4280}], "ports"),
    ],
    ("the_native_one_is_an_init_container_that_stays", "native-sidecar"): [
        put(None, "restartPolicy"),
        to_containers,
    ],
    ("the_classic_one_is_a_container_for_any_cluster", "classic-sidecar"): [
        put("Always", "restartPolicy"),
        put({}, "lifecycle"),
    ],
    ("all_select_the_same_pods", "shared"): [
        spec("Service", {"app": "else"}, "selector"),
        spec("NetworkPolicy", {}, "podSelector"),
        spec("Service", "fluent-admin", "ports", 0, "targetPort"),
    ],
    ("the_network_lets_through_what_is_meant", "shared"): [
        spec("NetworkPolicy", ["Ingress"], "policyTypes"),
        spec("NetworkPolicy", None, "ingress", 0, "from"),
        spec("NetworkPolicy", None, "ingress", 0, "ports"),
        spec("NetworkPolicy", [{"podSelector": {}}], "ingress", 0, "from"),
        spec("NetworkPolicy", 4281, "ingress", 0, "ports", 0, "port"),
        spec("NetworkPolicy", None, "egress", 1, "to"),
        spec("NetworkPolicy", 80, "egress", 1, "ports", 0, "port"),
        spec("NetworkPolicy", [], "egress", 1, "to", 0, "ipBlock", "except"),
    ],
    ("callers_may_use_every_name_of_the_service", "shared"): [
        setting('"fluent-auth-proxy.fluent"', '"fluent-auth-proxy.other"'),
    ],
    ("replicas_go_and_come_without_a_gap", "shared"): [
        spec("Deployment", 1, "replicas"),
        spec("Deployment", 1, "strategy", "rollingUpdate", "maxUnavailable"),
        spec("HorizontalPodAutoscaler", 1, "minReplicas"),
        spec("PodDisruptionBudget", "100%", "maxUnavailable"),
        setting('store = "redis"', 'store = "memory"'),
    ],
    ("prometheus_finds_it_as_the_alerts_expect", "shared"): [
        spec("PodMonitor", "graphql", "podMetricsEndpoints", 0, "port"),
        spec("PodMonitor", True, "podMetricsEndpoints", 0, "honorLabels"),
    ],
}


class Rules(unittest.TestCase):
    def test_each_sees_what_it_is_for(self):
        for (rule, overlay), breaks in BREAKS.items():
            for number, break_it in enumerate(breaks):
                with self.subTest(rule, number=number):
                    documents = rendered(overlay)
                    break_it(documents)
                    self.assertIn(rule, wrong_with(documents, OVERLAYS[overlay]))

    def test_all_of_them_were_broken_once(self):
        everyone = {rule.__name__ for rules in OVERLAYS.values() for rule in rules}
        self.assertEqual({rule for rule, _ in BREAKS}, everyone)
        self.assertTrue(all(hasattr(manifests, rule) for rule in everyone))
