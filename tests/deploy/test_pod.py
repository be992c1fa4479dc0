"""The sidecars as a pod runs them, as near as it gets without a cluster: the rendered manifest becomes a process in the
pod's network, with the manifest's user, root, mounts and files swapped as a kubelet swaps them; the simulated Fluent
stands in the same network. bubblewrap takes the place of the container's runtime; there is no seccomp profile of it."""

import json
import os
import pathlib
import shutil
import signal
import subprocess
import tempfile
import time
import unittest

from manifests import ADMIN, LISTEN, proxy, settings_text, volume
from test_kubernetes import rendered

RIGHT = {"username": "u", "password": "right", "client-id": "c", "client-secret": "s"}
PATIENCE = 60


class Pod:
    def __init__(self, overlay, secrets):
        self.documents = rendered(overlay)
        self.folder = pathlib.Path(tempfile.mkdtemp())
        self.folder.chmod(0o755)
        self.processes = []
        # Holds the network, with nothing but a loopback of its own.
        reader, writer = os.pipe()
        self.start(
            ["bwrap", "--die-with-parent", "--unshare-net", "--dev-bind", "/", "/", "--info-fd", str(writer), "sleep", "inf"],
            pass_fds=[writer],
        )
        os.close(writer)
        with open(reader) as info:
            self.network = str(json.load(info)["child-pid"])
        self.volumes = {name: self.folder / name for name in ("fluent-settings", "fluent-secrets", "fluent-cache")}
        for path in self.volumes.values():
            path.mkdir()
        # As an emptyDir is.
        self.volumes["fluent-cache"].chmod(0o777)
        (self.volumes["fluent-settings"] / "proxy.toml").write_text(settings_text(self.documents))
        self.put_secrets(secrets)
        self.fluent = self.start(
            self.inside(os.environ["FLUENT_SANDBOX_BIN"], "--address", "127.0.0.1:4290"),
            env={f"FLUENT_SANDBOX_{name.upper().replace('-', '_')}": value for name, value in RIGHT.items()},
        )

    def start(self, command, **more):
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, **more)
        self.processes.append(process)
        return process

    def inside(self, *command):
        return ["nsenter", "--target", self.network, "--net", *command]

    def put_secrets(self, secrets):
        """As the kubelet does it: a folder of its own, and one rename of the link that all files go by."""
        place = self.volumes["fluent-secrets"]
        fresh = pathlib.Path(tempfile.mkdtemp(prefix="..", dir=place))
        fresh.chmod(0o755)
        source = volume(self.documents, "fluent-secrets")["secret"]
        for item in source["items"]:
            path = fresh / item["path"]
            path.write_text(secrets[item["key"]])
            path.chmod(source["defaultMode"])
            link = place / item["path"]
            if not link.is_symlink():
                link.symlink_to(f"..data/{item['path']}")
        (place / "..tmp").symlink_to(fresh.name)
        (place / "..tmp").rename(place / "..data")

    def start_proxy(self):
        container = proxy(self.documents)
        context = container["securityContext"]
        assert context["readOnlyRootFilesystem"] and context["runAsNonRoot"]
        jail = ["bwrap", "--unshare-user", "--unshare-pid", "--unshare-ipc", "--die-with-parent", "--proc", "/proc"]
        jail += ["--dev", "/dev", "--ro-bind", "/usr/lib", "/usr/lib", "--symlink", "usr/lib", "/lib", "--cap-drop", "ALL"]
        if os.path.isdir("/usr/lib64"):
            jail += ["--ro-bind", "/usr/lib64", "/usr/lib64", "--symlink", "usr/lib64", "/lib64"]
        jail += ["--ro-bind", os.environ["FLUENT_AUTH_PROXY_BIN"], "/usr/bin/fluent-auth-proxy"]
        for mount in container["volumeMounts"]:
            bind = "--ro-bind" if mount.get("readOnly") else "--bind"
            jail += [bind, str(self.volumes[mount["name"]]), mount["mountPath"]]
        user = [f"--reuid={context['runAsUser']}", f"--regid={context['runAsGroup']}", "--clear-groups"]
        return self.start(
            self.inside("setpriv", *user, "--no-new-privs", "--inh-caps=-all", "--bounding-set=-all", *jail)
            + ["--remount-ro", "/", "--", "/usr/bin/fluent-auth-proxy", *container["args"]],
            env={"FLUENT_URL": "http://127.0.0.1:4290", "PATH": os.environ["PATH"]},
        )

    def ask(self, port, path, *more):
        command = ["curl", "--silent", "--max-time", "10", "--write-out", "\n%{http_code}", *more]
        done = subprocess.run(
            self.inside(*command, f"http://localhost:{port}{path}"), capture_output=True, text=True, timeout=30
        )
        body, _, status = done.stdout.rpartition("\n")
        return int(status), body

    def asks_itself(self):
        body = ["--header", "content-type: application/json", "--data", '{"query":"{ me { id } }"}']
        return self.ask(LISTEN, "/graphql", *body)

    def probe(self, name):
        asks = proxy(self.documents)[name]["httpGet"]
        return self.ask(asks["port"], asks["path"])[0]

    def wait(self, condition):
        ends = time.monotonic() + PATIENCE
        while not condition():
            if time.monotonic() > ends:
                raise AssertionError("it never came to that")
            time.sleep(0.05)

    def user(self):
        status = json.loads(self.ask(ADMIN, "/status")[1])
        return status["instances"]["default"]["users"]["default"]

    def children(self, pid):
        text = pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text()
        return [pid] + [found for child in text.split() for found in self.children(int(child))]

    def serving(self, process):
        """The program itself, below the jail."""
        for pid in self.children(process.pid):
            if pathlib.Path(f"/proc/{pid}/cmdline").read_bytes().startswith(b"/usr/bin/fluent-auth-proxy\0"):
                return pid
        raise AssertionError("the proxy does not run")

    def end_proxy(self, process):
        os.kill(self.serving(process), signal.SIGTERM)
        return process.wait(timeout=PATIENCE)

    def close(self):
        for process in reversed(self.processes):
            process.kill()
            process.wait()
        shutil.rmtree(self.folder)


class NativeSidecar(unittest.TestCase):
    def pod(self, **secrets):
        pod = Pod("native-sidecar", {**RIGHT, **secrets})
        self.addCleanup(pod.close)
        return pod

    def test_it_serves_its_pod_and_a_restart_costs_no_login(self):
        pod = self.pod()
        first = pod.start_proxy()
        pod.wait(lambda: pod.probe("readinessProbe") == 200)
        self.assertEqual([pod.probe(name) for name in ("startupProbe", "livenessProbe")], [200, 200])
        self.assertEqual(pod.asks_itself()[0], 200)
        self.assertEqual(pod.user()["obtained_by"], "password")
        self.assertEqual(pod.end_proxy(first), 0)

        pod.start_proxy()
        pod.wait(lambda: pod.probe("readinessProbe") == 200)
        self.assertEqual(pod.asks_itself()[0], 200)
        self.assertEqual((pod.user()["obtained_by"], pod.user()["logins"]["ok"]), ("shared", 0))

    def test_it_can_do_nothing_but_serve(self):
        pod = self.pod()
        process = pod.start_proxy()
        pod.wait(lambda: pod.probe("livenessProbe") == 200)
        status = pathlib.Path(f"/proc/{pod.serving(process)}/status").read_text()
        told = dict(line.split(":\t", 1) for line in status.splitlines())
        context = proxy(pod.documents)["securityContext"]
        self.assertEqual(set(told["Uid"].split()), {str(context["runAsUser"])})
        self.assertEqual(set(told["Gid"].split()), {str(context["runAsGroup"])})
        self.assertEqual((int(told["CapEff"], 16), int(told["CapPrm"], 16), told["NoNewPrivs"]), (0, 0, "1"))
        # Its root and what is mounted for reading stay as they are; the token's place does not.
        mounts = pathlib.Path(f"/proc/{pod.serving(process)}/mounts").read_text().splitlines()
        options = {line.split()[1]: line.split()[3].split(",")[0] for line in mounts}
        self.assertEqual(options["/"], "ro")
        for mount in proxy(pod.documents)["volumeMounts"]:
            self.assertEqual(options[mount["mountPath"]], "ro" if mount.get("readOnly") else "rw")

    def test_a_secret_that_is_swapped_in_ends_a_refusal_without_a_restart(self):
        pod = self.pod(password="wrong")
        pod.start_proxy()
        pod.wait(lambda: pod.probe("livenessProbe") == 200 and pod.user()["login"] == "refused")
        self.assertEqual((pod.probe("readinessProbe"), pod.asks_itself()[0]), (503, 502))
        # A refused password restarts nothing.
        self.assertEqual(pod.probe("livenessProbe"), 200)
        pod.put_secrets(RIGHT)
        pod.wait(lambda: pod.probe("readinessProbe") == 200)
        self.assertEqual(pod.asks_itself()[0], 200)
        self.assertEqual(pod.user()["logins"]["refused"], 1)

    def test_an_outage_of_fluent_restarts_nothing(self):
        pod = self.pod()
        pod.start_proxy()
        pod.wait(lambda: pod.probe("readinessProbe") == 200)
        pod.fluent.kill()
        pod.fluent.wait()
        self.assertEqual(pod.asks_itself()[0], 502)
        probes = [pod.probe(name) for name in ("startupProbe", "livenessProbe", "readinessProbe")]
        self.assertEqual(probes, [200, 200, 200])


class ClassicSidecar(unittest.TestCase):
    def test_it_serves_on_when_the_signal_comes_to_all(self):
        pod = Pod("classic-sidecar", RIGHT)
        self.addCleanup(pod.close)
        process = pod.start_proxy()
        pod.wait(lambda: pod.probe("readinessProbe") == 200)
        os.kill(pod.serving(process), signal.SIGTERM)
        pod.wait(lambda: pod.probe("readinessProbe") == 503)
        self.assertEqual(pod.asks_itself()[0], 200)


class Manifests(unittest.TestCase):
    def test_the_url_is_all_that_was_replaced(self):
        for overlay in ("native-sidecar", "classic-sidecar"):
            names = [variable["name"] for variable in proxy(rendered(overlay))["env"]]
            self.assertEqual(names, ["FLUENT_URL"])
