"""The Kubernetes overlays: rendered by kubectl, held against the schemas, the rules of manifests.py and the program."""

import copy
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


def put(value, *path):
    """Breaks one field of the proxy's container."""

    def break_it(documents):
        place = proxy(documents)
        for key in path[:-1]:
            place = place[key]
        if value is None:
            del place[path[-1]]
        else:
            place[path[-1]] = value

    return break_it


def setting(old, new):
    """Breaks the settings."""

    def break_it(documents):
        for found in of_kind(documents, "ConfigMap"):
            if "proxy.toml" in found["data"]:
                assert old in found["data"]["proxy.toml"], old
                found["data"]["proxy.toml"] = found["data"]["proxy.toml"].replace(old, new)

    return break_it


def spec(kind, value, *path):
    """Breaks one field of another document."""

    def break_it(documents):
        place = one(documents, kind)
        for key in path[:-1]:
            place = place[key]
        if value is None:
            del place[path[-1]]
        else:
            place[path[-1]] = value

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


# Overlay, the rule that must see it, what is broken.
BREAKS = [
    ("native-sidecar", "the_container_can_do_nothing_but_serve", put(0, "securityContext", "runAsUser")),
    ("native-sidecar", "the_container_can_do_nothing_but_serve", put(False, "securityContext", "runAsNonRoot")),
    ("native-sidecar", "the_container_can_do_nothing_but_serve", put(None, "securityContext", "readOnlyRootFilesystem")),
    ("native-sidecar", "the_container_can_do_nothing_but_serve", put(True, "securityContext", "allowPrivilegeEscalation")),
    ("native-sidecar", "the_container_can_do_nothing_but_serve", put(["NET_RAW"], "securityContext", "capabilities", "add")),
    ("native-sidecar", "the_container_can_do_nothing_but_serve", put(None, "securityContext", "seccompProfile")),
    ("shared", "the_container_can_do_nothing_but_serve", of_pod("hostNetwork", True)),
    ("shared", "probes_ask_the_admin_listener_and_never_fluent", put("/readyz", "livenessProbe", "httpGet", "path")),
    ("shared", "probes_ask_the_admin_listener_and_never_fluent", put("/readyz?token", "readinessProbe", "httpGet", "path")),
    ("shared", "probes_ask_the_admin_listener_and_never_fluent", put(4280, "startupProbe", "httpGet", "port")),
    ("shared", "probes_ask_the_admin_listener_and_never_fluent", put(None, "readinessProbe")),
    ("classic-sidecar", "probes_ask_the_admin_listener_and_never_fluent", setting("0.0.0.0:4281", "localhost:4281")),
    ("classic-sidecar", "secrets_are_files_of_a_secret", setting("password_file =", "password =")),
    ("classic-sidecar", "secrets_are_files_of_a_secret", another_secret),
    ("classic-sidecar", "secrets_are_files_of_a_secret", a_password_in_a_variable),
    ("classic-sidecar", "secrets_are_files_of_a_secret", secret_volume),
    ("classic-sidecar", "secrets_are_files_of_a_secret", put("password", "volumeMounts", 1, "subPath")),
    ("classic-sidecar", "secrets_are_files_of_a_secret", to_app("volumeMounts", [{"name": "fluent-secrets"}])),
    ("classic-sidecar", "the_file_store_is_on_an_emptydir", on_disk),
    ("classic-sidecar", "the_file_store_is_on_an_emptydir", setting("/var/lib/fluent-auth-proxy", "/tmp/elsewhere")),
    ("classic-sidecar", "the_file_store_is_on_an_emptydir", setting('store = "file"', 'store = "memory"')),
    ("classic-sidecar", "there_is_time_to_end", of_pod("terminationGracePeriodSeconds", 40)),
    ("classic-sidecar", "there_is_time_to_end", setting('delay = "20s"', 'delay = "0s"')),
    ("classic-sidecar", "there_is_time_to_end", setting('delay = "20s"', 'delay = "40s"')),
    ("native-sidecar", "there_is_time_to_end", of_pod("terminationGracePeriodSeconds", 25)),
    ("shared", "there_is_time_to_end", put(15, "lifecycle", "preStop", "sleep", "seconds")),
    ("shared", "memory_covers_every_limit_at_once", setting("max_connections = 1024", "max_connections = 4096")),
    ("native-sidecar", "memory_covers_every_limit_at_once", put("200Mi", "resources", "limits", "memory")),
    ("native-sidecar", "memory_covers_every_limit_at_once", put("16Mi", "resources", "requests", "memory")),
    ("native-sidecar", "what_is_named_is_there", of_pod("enableServiceLinks", True)),
    ("native-sidecar", "what_is_named_is_there", put("fluent-auth-proxy:latest", "image")),
    ("native-sidecar", "what_is_named_is_there", put("nowhere", "env", 0, "valueFrom", "configMapKeyRef", "name")),
    ("native-sidecar", "what_is_named_is_there", put(["serve", "--config", "/etc/else/proxy.toml"], "args")),
    ("native-sidecar", "only_the_pod_reaches_the_sidecar", setting("localhost:4280", "0.0.0.0:4280")),
    ("native-sidecar", "only_the_pod_reaches_the_sidecar", put([{"containerPort": 4280}], "ports")),
    ("native-sidecar", "the_native_one_is_an_init_container_that_stays", put(None, "restartPolicy")),
    ("native-sidecar", "the_native_one_is_an_init_container_that_stays", to_containers),
    ("classic-sidecar", "the_classic_one_is_a_container_for_any_cluster", put("Always", "restartPolicy")),
    ("classic-sidecar", "the_classic_one_is_a_container_for_any_cluster", put({}, "lifecycle")),
    ("shared", "all_select_the_same_pods", spec("Service", {"app": "else"}, "selector")),
    ("shared", "all_select_the_same_pods", spec("NetworkPolicy", {}, "podSelector")),
    ("shared", "all_select_the_same_pods", spec("Service", "fluent-admin", "ports", 0, "targetPort")),
    ("shared", "the_network_lets_through_what_is_meant", spec("NetworkPolicy", ["Ingress"], "policyTypes")),
    ("shared", "the_network_lets_through_what_is_meant", spec("NetworkPolicy", None, "ingress", 0, "from")),
    ("shared", "the_network_lets_through_what_is_meant", spec("NetworkPolicy", None, "ingress", 0, "ports")),
    ("shared", "the_network_lets_through_what_is_meant", spec("NetworkPolicy", [{"podSelector": {}}], "ingress", 0, "from")),
    ("shared", "the_network_lets_through_what_is_meant", spec("NetworkPolicy", 4281, "ingress", 0, "ports", 0, "port")),
    ("shared", "the_network_lets_through_what_is_meant", spec("NetworkPolicy", None, "egress", 1, "to")),
    ("shared", "the_network_lets_through_what_is_meant", spec("NetworkPolicy", 80, "egress", 1, "ports", 0, "port")),
    ("shared", "the_network_lets_through_what_is_meant", spec("NetworkPolicy", [], "egress", 1, "to", 0, "ipBlock", "except")),
    ("shared", "callers_may_use_every_name_of_the_service", setting('"fluent-auth-proxy.fluent"', '"fluent-auth-proxy.other"')),
    ("shared", "replicas_go_and_come_without_a_gap", spec("Deployment", 1, "replicas")),
    ("shared", "replicas_go_and_come_without_a_gap", spec("Deployment", 1, "strategy", "rollingUpdate", "maxUnavailable")),
    ("shared", "replicas_go_and_come_without_a_gap", spec("HorizontalPodAutoscaler", 1, "minReplicas")),
    ("shared", "replicas_go_and_come_without_a_gap", spec("PodDisruptionBudget", "100%", "maxUnavailable")),
    ("shared", "replicas_go_and_come_without_a_gap", setting('store = "redis"', 'store = "memory"')),
    ("shared", "prometheus_finds_it_as_the_alerts_expect", spec("PodMonitor", "graphql", "podMetricsEndpoints", 0, "port")),
    ("shared", "prometheus_finds_it_as_the_alerts_expect", spec("PodMonitor", True, "podMetricsEndpoints", 0, "honorLabels")),
]  # fmt: skip


class Rules(unittest.TestCase):
    def test_each_sees_what_it_is_for(self):
        for number, (overlay, rule, break_it) in enumerate(BREAKS):
            with self.subTest(number=number, rule=rule):
                documents = copy.deepcopy(rendered(overlay))
                break_it(documents)
                self.assertIn(rule, wrong_with(documents, OVERLAYS[overlay]))

    def test_all_of_them_were_broken_once(self):
        everyone = {rule.__name__ for rules in OVERLAYS.values() for rule in rules}
        self.assertEqual({rule for _, rule, _ in BREAKS}, everyone)
        self.assertTrue(all(hasattr(manifests, rule) for rule in everyone))
