"""The Debian package: built, installed by dpkg, run by a real systemd as the guide says, upgraded, removed, purged."""

import json
import os
import pathlib
import re
import signal
import subprocess
import tempfile
import unittest

from machine import Machine
from pods import RIGHT, wait

ROOT = pathlib.Path(__file__).parents[2]
NAME = "fluent-auth-proxy"
ETC = f"/etc/{NAME}"
UNITS = "/usr/lib/systemd/system"
PACKAGE = "/root/package.deb"
GRAPHQL = ["--header", "content-type: application/json", "--data", '{"query":"{ me { id } }"}']


class Package(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        folder = tempfile.TemporaryDirectory()
        cls.addClassCleanup(folder.cleanup)
        program = pathlib.Path(folder.name) / NAME
        # As a release has it.
        subprocess.run(["strip", "--strip-debug", "-o", program, os.environ["FLUENT_AUTH_PROXY_BIN"]], check=True, timeout=60)
        build = [ROOT / "deploy" / "debian" / "build", program, folder.name, "--fast"]
        done = subprocess.run(build, capture_output=True, text=True, timeout=900)
        assert done.returncode == 0, done.stderr
        cls.package = pathlib.Path(done.stdout.strip())

    def machine(self):
        machine = Machine()
        self.addCleanup(machine.close)
        machine.copy(self.package, PACKAGE)
        self.assertEqual(machine.changed(), [PACKAGE])
        machine.dpkg("--install", PACKAGE)
        return machine

    def configure(self, machine):
        """As the guide says it."""
        account = "https://ACCOUNT.sandbox.api.fluentretail.com"
        settings = machine.run("cat", f"{ETC}/proxy.toml")
        self.assertIn(account, settings)
        machine.write(f"{ETC}/proxy.toml", settings.replace(account, "http://127.0.0.1:4290"))
        for name, value in RIGHT.items():
            machine.write(f"{ETC}/secrets/{name}", value)

    def test_all_that_belongs_to_it_is_there(self):
        machine = self.machine()
        self.assertEqual(machine.dpkg("--verify", NAME), "")
        modes = {
            f"/usr/bin/{NAME}": "755",
            f"/usr/share/man/man1/{NAME}.1.gz": "644",
            f"/usr/share/bash-completion/completions/{NAME}": "644",
            f"/usr/share/zsh/vendor-completions/_{NAME}": "644",
            f"/usr/share/fish/vendor_completions.d/{NAME}.fish": "644",
            f"/usr/share/doc/{NAME}/THIRD-PARTY-LICENCES": "644",
            f"{ETC}/proxy.toml": "644",
            f"{ETC}/secrets": "700",
            f"{UNITS}/{NAME}.service": "644",
            f"{UNITS}/{NAME}.socket": "644",
        }
        for path, mode in modes.items():
            self.assertEqual(machine.run("stat", "--format=%a %U", path), f"{mode} root\n", path)
        self.assertIn(NAME, machine.run(NAME, "--version"))
        completes = f". /usr/share/bash-completion/completions/{NAME} && complete -p {NAME}"
        self.assertIn("complete", machine.run("bash", "-c", completes))
        self.assertIn(".TH", machine.run("zcat", f"/usr/share/man/man1/{NAME}.1.gz"))
        # It has no account yet.
        self.assertEqual([path for path in machine.changed() if path.startswith("/etc/systemd")], [])

    def test_what_was_set_outlives_an_upgrade_and_a_removal_but_no_purge(self):
        """On a machine that systemd does not run, too."""
        machine = self.machine()
        machine.write(f"{ETC}/secrets/password", "right")
        machine.write(f"{ETC}/proxy.toml", "# Mine.\n")
        machine.run("install", "-d", f"/var/lib/{NAME}")
        machine.write(f"/var/lib/{NAME}/token", "sealed")
        for command in (("--install", PACKAGE), ("--remove", NAME)):
            machine.dpkg(*command)
            self.assertEqual(machine.run("cat", f"{ETC}/proxy.toml", f"{ETC}/secrets/password"), "# Mine.\nright")
        kept = [f"{ETC}/proxy.toml", f"{ETC}/secrets/password", f"/var/lib/{NAME}/token", PACKAGE]
        # So that nobody starts what is gone.
        masks = [f"/etc/systemd/system/{NAME}.{kind}" for kind in ("service", "socket")]
        self.assertEqual(machine.changed(), sorted(kept + masks))
        machine.dpkg("--purge", NAME)
        self.assertEqual(machine.changed(), [PACKAGE])
        for path in (ETC, f"/var/lib/{NAME}", f"/usr/share/doc/{NAME}"):
            machine.run("test", "!", "-e", path)

    def running(self):
        """With systemd as the first process."""
        machine = self.machine()
        machine.boot()
        machine.network.start_fluent()
        self.configure(machine)
        machine.run("systemctl", "enable", "--now", f"{NAME}.service")
        self.ready(machine)
        return machine

    def ready(self, machine, answers=0):
        """And has given so many answers."""
        wait(lambda: machine.status_of("http://127.0.0.1:4281/readyz") == "200")
        counted = r'(?m)^fluent_auth_proxy_requests_total\{.*status="200".*\} (\d+)'
        metrics = lambda: machine.run("curl", "--silent", "http://127.0.0.1:4281/metrics")
        wait(lambda: sum(map(int, re.findall(counted, metrics()))) >= answers)

    def test_it_serves_with_all_that_the_unit_takes_away(self):
        machine = self.running()
        for address in ("127.0.0.1", "[::1]"):
            self.assertEqual(machine.status_of(f"http://{address}:4280/graphql", *GRAPHQL), "200")
        [pid] = machine.shown(NAME, "MainPID")
        told = dict(line.split(":\t", 1) for line in machine.run("cat", f"/proc/{pid}/status").splitlines())
        self.assertEqual([told[key] for key in ("CapEff", "CapBnd", "NoNewPrivs", "Seccomp")], ["0" * 16, "0" * 16, "1", "2"])
        self.assertNotIn("0", told["Uid"].split())
        # The token is kept, for a user that has no name tomorrow.
        self.assertNotEqual(machine.run("ls", f"/var/lib/private/{NAME}"), "")
        machine.run("systemctl", "reload", NAME)
        self.ready(machine)
        machine.run("systemctl", "stop", NAME)
        self.assertEqual(machine.shown(NAME, "Result", "ExecMainStatus"), ["success", "0"])

    def test_callers_wait_while_it_is_restarted_and_upgraded(self):
        machine = self.running()
        machine.network.slow_down()
        callers, answers = machine.network.start_callers("127.0.0.1:4280", "127.0.0.1:4280", "fresh", "slow-fresh")
        self.ready(machine, answers=20)
        pids = set(machine.shown(NAME, "MainPID"))
        for restart in (["systemctl", "restart", NAME], ["dpkg", "--no-triggers", "--install", PACKAGE]):
            machine.run(*restart)
            self.ready(machine, answers=20)
            pids |= set(machine.shown(NAME, "MainPID"))
        callers.send_signal(signal.SIGTERM)
        self.assertEqual(callers.wait(timeout=60), 0)
        told = json.loads(answers.read_text())
        self.assertEqual((told["failures"], len(told["proxies"]), len(pids)), ([], 3, 3))
        # The token outlives them: one login was enough.
        self.assertEqual(len(machine.network.control("/seen")["token_requests"]), 1)

    def test_what_cannot_start_is_not_started_again(self):
        machine = self.machine()
        machine.boot()
        for secret, status in ((None, "243"), ("", "78")):
            if secret is not None:
                self.configure(machine)
                machine.write(f"{ETC}/secrets/password", secret)
            self.assertFalse(machine.succeeds("systemctl", "start", NAME))
            self.assertEqual(machine.shown(NAME, "ActiveState", "ExecMainStatus", "NRestarts"), ["failed", status, "0"])

    def test_nothing_of_it_is_left(self):
        machine = self.running()
        [pid] = machine.shown(NAME, "MainPID")
        machine.dpkg("--purge", NAME)
        machine.run("test", "!", "-e", f"/proc/{pid}")
        self.assertEqual([path for path in machine.changed() if NAME in path], [])
