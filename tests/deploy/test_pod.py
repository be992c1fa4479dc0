"""The sidecars as a pod runs them: what they may do, what they outlive, and in which order app and proxy end."""

import json
import pathlib
import signal
import time
import unittest

from manifests import LISTEN, proxy
from pods import RIGHT, Network, Node, Pod, wait
from test_kubernetes import rendered


class Sidecar(unittest.TestCase):
    def pod(self, overlay, *fluent, **secrets):
        """Fluent stands in the pod's network; `fluent` are its arguments."""
        node = Node()
        self.addCleanup(node.close)
        network = Network(node)
        self.fluent = network.start_fluent("127.0.0.1", *fluent)
        pod = Pod(overlay, {**RIGHT, **secrets}, network, "127.0.0.1")
        pod.start_proxy()
        return pod

    def app(self, pod):
        """The other container: it calls as it likes, some answers take a second."""
        pod.network.slow_down()
        pod.wait_until_ready()
        app, answers = pod.network.start_callers(f"localhost:{LISTEN}", f"localhost:{LISTEN}")
        wait(lambda: pod.in_flight() >= 3)
        return app, answers

    def ends_well(self, app, answers):
        app.send_signal(signal.SIGTERM)
        self.assertEqual(app.wait(timeout=60), 0)
        told = json.loads(answers.read_text())
        self.assertEqual(told["failures"], [])
        self.assertGreater(told["answers"]["slow"], 0)

    def ends_at_once(self, pod):
        begins = time.monotonic()
        pod.signal_end()
        self.assertEqual(pod.has_ended(), 0)
        self.assertLess(time.monotonic() - begins, 5)


class NativeSidecar(Sidecar):
    def test_it_serves_its_pod_and_a_restart_costs_no_login(self):
        pod = self.pod("native-sidecar")
        pod.wait_until_ready()
        self.assertEqual([pod.probe(name) for name in ("startupProbe", "livenessProbe")], [200, 200])
        self.assertEqual(pod.asks_itself()[0], 200)
        self.assertEqual(pod.user()["obtained_by"], "password")
        pod.signal_end()
        self.assertEqual(pod.has_ended(), 0)

        pod.start_proxy()
        pod.wait_until_ready()
        self.assertEqual(pod.asks_itself()[0], 200)
        self.assertEqual((pod.user()["obtained_by"], pod.user()["logins"]["ok"]), ("shared", 0))

    def test_it_can_do_nothing_but_serve(self):
        pod = self.pod("native-sidecar")
        wait(lambda: pod.probe("livenessProbe") == 200)
        status = pathlib.Path(f"/proc/{pod.serving()}/status").read_text()
        told = dict(line.split(":\t", 1) for line in status.splitlines())
        context = proxy(pod.documents)["securityContext"]
        self.assertEqual(set(told["Uid"].split()), {str(context["runAsUser"])})
        self.assertEqual(set(told["Gid"].split()), {str(context["runAsGroup"])})
        self.assertEqual((int(told["CapEff"], 16), int(told["CapPrm"], 16), told["NoNewPrivs"]), (0, 0, "1"))
        # Its root and what is mounted for reading stay as they are; the token's place does not.
        mounts = pathlib.Path(f"/proc/{pod.serving()}/mounts").read_text().splitlines()
        options = {line.split()[1]: line.split()[3].split(",")[0] for line in mounts}
        self.assertEqual(options["/"], "ro")
        for mount in proxy(pod.documents)["volumeMounts"]:
            self.assertEqual(options[mount["mountPath"]], "ro" if mount.get("readOnly") else "rw")

    def test_a_secret_that_is_swapped_in_ends_a_refusal_without_a_restart(self):
        pod = self.pod("native-sidecar", password="wrong")
        wait(lambda: pod.probe("livenessProbe") == 200 and pod.user()["login"] == "refused")
        self.assertEqual((pod.probe("readinessProbe"), pod.asks_itself()[0]), (503, 502))
        # A refused password restarts nothing.
        self.assertEqual(pod.probe("livenessProbe"), 200)
        pod.put_secrets(RIGHT)
        pod.wait_until_ready()
        self.assertEqual(pod.asks_itself()[0], 200)
        self.assertEqual(pod.user()["logins"]["refused"], 1)

    def test_an_outage_of_fluent_restarts_nothing(self):
        pod = self.pod("native-sidecar", "--token-lifetime", "3")
        pod.wait_until_ready()
        self.fluent.kill()
        self.fluent.wait()
        self.assertEqual(pod.asks_itself()[0], 502)
        # Also when the token has died, which monitors are told and probes are not.
        wait(lambda: pod.is_ready_by_its_token() == 503)
        probes = [pod.probe(name) for name in ("startupProbe", "livenessProbe", "readinessProbe")]
        self.assertEqual(probes, [200, 200, 200])
        self.assertEqual(pod.asks_itself()[0], 503)

    def test_the_app_ends_first_and_misses_nothing(self):
        pod = self.pod("native-sidecar")
        self.ends_well(*self.app(pod))
        self.ends_at_once(pod)

    def test_it_waits_for_no_app_that_is_gone(self):
        """Killed amid its requests, as when its memory is used up, with answers that would never come."""
        pod = self.pod("native-sidecar")
        app, _ = self.app(pod)
        pod.network.control("/faults", {"place": "api", "fault": "hang", "times": "always"})
        wait(lambda: pod.in_flight() >= 10)
        app.kill()
        self.ends_at_once(pod)


class ClassicSidecar(Sidecar):
    def test_it_serves_on_when_the_signal_comes_to_all(self):
        pod = self.pod("classic-sidecar")
        app, answers = self.app(pod)
        pod.signal_end()
        wait(lambda: pod.probe("readinessProbe") == 503)
        # The application is not done yet, and begins requests still.
        self.assertEqual(pod.asks_itself()[0], 200)
        self.ends_well(app, answers)


class Manifests(unittest.TestCase):
    def test_the_url_is_all_that_was_replaced(self):
        for overlay in ("native-sidecar", "classic-sidecar"):
            names = [variable["name"] for variable in proxy(rendered(overlay))["env"]]
            self.assertEqual(names, ["FLUENT_URL"])
