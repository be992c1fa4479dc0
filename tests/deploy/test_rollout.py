"""A rolling restart of the shared replicas under load, behind a TCP balancer that asks their `/readyz`.

Harder than in a cluster: there is no `preStop`, the balancer hears of an end from `/readyz` alone, after the signal.
"""

import json
import signal
import socket
import unittest

from manifests import ADMIN, LISTEN, proxy
from pods import RIGHT, Network, Node, Pod, wait

GATEWAY = "10.77.0.1"
# One more than there are replicas: a new one comes before an old one goes.
PLACES = {f"replica-{number}": f"10.77.0.{10 + number}" for number in range(4)}
BALANCER = """
global
    stats socket {socket} level user
defaults
    mode tcp
    timeout connect 5s
    timeout client 1m
    timeout server 1m
    option httpchk
    http-check send meth GET uri {path} ver HTTP/1.1 hdr Host replica
    http-check expect status 200
    # No second try: what the first replica does is what the caller gets.
    retries 0
listen replicas
    bind {gateway}:{listen}
    default-server check port {admin} inter 200ms fall 1 rise 1
"""


class Replicas:
    """A network of replicas, with Fluent, Redis and the balancer on its gateway."""

    def __init__(self):
        self.node = Node()
        self.network = Network(self.node)
        for command in (
            "ip link add bridge type bridge",
            f"ip address add {GATEWAY}/24 dev bridge",
            "ip link set bridge up",
        ):
            self.network.run(*command.split())
        self.fluent = self.network.start_fluent(GATEWAY)
        self.network.start("redis-server", "--bind", GATEWAY, "--protected-mode", "no", "--save", "", cwd=self.node.folder)
        self.network.slow_down()

    def start(self, name):
        """A pod at its address, ready."""
        network = Network(self.node)
        self.network.run(*f"ip link add {name} type veth peer name eth0 netns {network.pid}".split())
        self.network.run(*f"ip link set {name} master bridge up".split())
        network.run(*f"ip address add {PLACES[name]}/24 dev eth0".split())
        network.run(*"ip link set eth0 up".split())
        pod = Pod("shared", {**RIGHT, "redis-url": f"redis://{GATEWAY}:6379"}, network, GATEWAY)
        # The simulated Fluent speaks no TLS.
        pod.start_proxy(FLUENT_PROXY__FLUENT__DANGER_ALLOW_HTTP="true")
        pod.wait_until_ready()
        return pod

    def start_balancer(self, probe):
        settings = self.node.folder / "haproxy.cfg"
        self.socket = self.node.folder / "haproxy.sock"
        text = BALANCER.format(socket=self.socket, path=probe["path"], gateway=GATEWAY, listen=LISTEN, admin=ADMIN)
        servers = [f"    server {name} {address}:{LISTEN}\n" for name, address in PLACES.items()]
        settings.write_text(text + "".join(servers))
        self.network.start("haproxy", "-db", "-f", str(settings))

    def balanced(self):
        """To which the balancer leads."""
        with socket.socket(socket.AF_UNIX) as asks:
            try:
                asks.connect(str(self.socket))
            except OSError:
                return None
            asks.sendall(b"show stat -1 4 -1\n")
            lines = asks.makefile().read().splitlines()
        columns = [line.split(",") for line in lines if line and not line.startswith("#")]
        return {column[1] for column in columns if column[17] == "UP"}


class RollingRestart(unittest.TestCase):
    def test_no_request_fails(self):
        replicas = Replicas()
        self.addCleanup(replicas.node.close)
        *old, free = PLACES
        pods = {name: replicas.start(name) for name in old}
        replicas.start_balancer(proxy(pods[old[0]].documents)["readinessProbe"]["httpGet"])
        wait(lambda: replicas.balanced() == set(old))
        callers, answers = replicas.network.start_callers(f"{GATEWAY}:{LISTEN}", "fluent-auth-proxy")
        for name in old:
            pods[free] = replicas.start(free)
            wait(lambda: free in replicas.balanced())
            ending = pods.pop(name)
            ending.signal_end()
            self.assertEqual(ending.has_ended(), 0)
            replicas.network.run(*f"ip link delete {name}".split())
            wait(lambda: name not in replicas.balanced())
            free = name
        callers.send_signal(signal.SIGTERM)
        self.assertEqual(callers.wait(timeout=60), 0)
        told = json.loads(answers.read_text())
        self.assertEqual(told["failures"], [])
        # Each of the six has answered, and all of them together have logged in once.
        self.assertEqual(len(told["proxies"]), 6)
        self.assertEqual(len(replicas.network.control("/seen")["token_requests"]), 1)
