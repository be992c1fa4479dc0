"""Pods as near as it gets without a cluster: the rendered manifest becomes a process in the pod's network, with the
manifest's user, root, mounts and files swapped as a kubelet swaps them. bubblewrap takes the place of the container's
runtime; there is no seccomp profile of it."""

import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time

from manifests import ADMIN, LISTEN, proxy, settings_text, volume
from test_kubernetes import rendered

RIGHT = {"username": "u", "password": "right", "client-id": "c", "client-secret": "s"}
PATIENCE = 60
CONTROL = 4291


def wait(condition):
    ends = time.monotonic() + PATIENCE
    while not (found := condition()):
        if time.monotonic() > ends:
            raise AssertionError("it never came to that")
        time.sleep(0.05)
    return found


class Node:
    """Where pods run: processes, and networks that end with it."""

    def __init__(self):
        self.folder = pathlib.Path(tempfile.mkdtemp())
        self.folder.chmod(0o755)
        self.processes = []

    def start(self, command, **more):
        process = subprocess.Popen(command, **{"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, **more})
        self.processes.append(process)
        return process

    def close(self):
        for process in reversed(self.processes):
            process.kill()
            process.wait()
        shutil.rmtree(self.folder)


class Network:
    """One with nothing but a loopback of its own, held by a process that sleeps."""

    def __init__(self, node):
        self.node = node
        reader, writer = os.pipe()
        node.start(
            ["bwrap", "--die-with-parent", "--unshare-net", "--dev-bind", "/", "/", "--info-fd", str(writer), "sleep", "inf"],
            pass_fds=[writer],
        )
        os.close(writer)
        with open(reader) as info:
            self.pid = json.load(info)["child-pid"]
        # bubblewrap tells its number first, and then gives it its address.
        wait(lambda: "127.0.0.1" in self.run("ip", "address", "show", "lo"))

    def inside(self, *command):
        return ["nsenter", "--target", str(self.pid), "--net", *command]

    def run(self, *command):
        return subprocess.run(self.inside(*command), capture_output=True, text=True, check=True, timeout=PATIENCE).stdout

    def start(self, *command, **more):
        return self.node.start(self.inside(*command), **more)

    def start_fluent(self, address="127.0.0.1", *more):
        """The simulated one, with its control interface."""
        named = {f"FLUENT_SANDBOX_{name.upper().replace('-', '_')}": value for name, value in RIGHT.items()}
        control = ["--control-address", f"127.0.0.1:{CONTROL}"]
        return self.start(os.environ["FLUENT_SANDBOX_BIN"], "--address", f"{address}:4290", *control, *more, env=named)

    def slow_down(self):
        """Some answers of the simulated Fluent take a second now."""
        self.control("/faults", {"place": "api", "fault": {"delay": 1000}, "times": "always", "path": "/api/v4.1/echo"})

    def control(self, path, body=None):
        """Asks the simulated Fluent of this network."""
        more = [] if body is None else ["--header", "content-type: application/json", "--data", json.dumps(body)]
        answer = self.run("curl", "--silent", "--fail", "--retry", "50", "--retry-connrefused", "--retry-delay", "0",
                          "--retry-max-time", "20", *more, f"http://127.0.0.1:{CONTROL}{path}")  # fmt: skip
        return json.loads(answer or "null")

    def start_callers(self, authority, host, *kinds):
        """What they were answered stands in the file, once they have ended."""
        answers = self.node.folder / f"answers-{len(self.node.processes)}"
        with answers.open("w") as out:
            load = pathlib.Path(__file__).with_name("callers.py")
            return self.start(sys.executable, load, authority, host, *kinds, stdout=out, stderr=None), answers


class Pod:
    """The proxy's container of an overlay; Fluent is at `fluent`, seen from the pod."""

    def __init__(self, overlay, secrets, network, fluent):
        self.documents = rendered(overlay)
        self.network = network
        self.fluent = fluent
        folder = pathlib.Path(tempfile.mkdtemp(dir=network.node.folder))
        folder.chmod(0o755)
        self.volumes = {mount["name"]: folder / mount["name"] for mount in proxy(self.documents)["volumeMounts"]}
        for path in self.volumes.values():
            path.mkdir()
        if "fluent-cache" in self.volumes:
            # As an emptyDir is.
            self.volumes["fluent-cache"].chmod(0o777)
        (self.volumes["fluent-settings"] / "proxy.toml").write_text(settings_text(self.documents))
        self.put_secrets(secrets)

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

    def start_proxy(self, **variables):
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
        self.process = self.network.start(
            *["setpriv", *user, "--no-new-privs", "--inh-caps=-all", "--bounding-set=-all", *jail],
            *["--remount-ro", "/", "--", "/usr/bin/fluent-auth-proxy", *container["args"]],
            env={"FLUENT_URL": f"http://{self.fluent}:4290", "PATH": os.environ["PATH"], **variables},
        )

    def ask(self, port, path, *more):
        command = ["curl", "--silent", "--max-time", "10", "--write-out", "\n%{http_code}", *more]
        done = subprocess.run(
            self.network.inside(*command, f"http://localhost:{port}{path}"), capture_output=True, text=True, timeout=30
        )
        body, _, status = done.stdout.rpartition("\n")
        return int(status), body

    def asks_itself(self):
        body = ["--header", "content-type: application/json", "--data", '{"query":"{ me { id } }"}']
        return self.ask(LISTEN, "/graphql", *body)

    def probe(self, name):
        asks = proxy(self.documents)[name]["httpGet"]
        return self.ask(asks["port"], asks["path"])[0]

    def wait_until_ready(self):
        wait(lambda: self.probe("readinessProbe") == 200)

    def is_ready_by_its_token(self):
        return self.ask(ADMIN, "/readyz?token")[0]

    def in_flight(self):
        return int(re.search(r"(?m)^fluent_auth_proxy_requests_in_flight (\d+)", self.ask(ADMIN, "/metrics")[1]).group(1))

    def user(self):
        status = json.loads(self.ask(ADMIN, "/status")[1])
        return status["instances"]["default"]["users"]["default"]

    def children(self, pid):
        text = pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text()
        return [pid] + [found for child in text.split() for found in self.children(int(child))]

    def serving(self):
        """The program itself, below the jail."""
        for pid in self.children(self.process.pid):
            if pathlib.Path(f"/proc/{pid}/cmdline").read_bytes().startswith(b"/usr/bin/fluent-auth-proxy\0"):
                return pid
        raise AssertionError("the proxy does not run")

    def signal_end(self):
        os.kill(self.serving(), signal.SIGTERM)

    def has_ended(self):
        """With which code."""
        return self.process.wait(timeout=PATIENCE)
