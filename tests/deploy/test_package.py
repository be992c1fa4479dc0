"""The Debian package: built, installed by dpkg, started as its unit says, upgraded, removed, purged. The machine it is
installed on is this one, with all changes held in memory and thrown away."""

import os
import pathlib
import re
import subprocess
import tempfile
import unittest

from pods import RIGHT, Network, Node, wait
from test_systemd import values

ROOT = pathlib.Path(__file__).parents[2]
ETC = "/etc/fluent-auth-proxy"
UNITS = "/usr/lib/systemd/system"
# What dpkg and its triggers keep for themselves.
THEIRS = re.compile(r"/(var/lib/(dpkg|systemd/deb-systemd-helper-\w+)|var/log|var/cache|etc/ld\.so\.cache|tmp)(/|$)")


class Machine:
    """This one below a layer that takes all changes, and a network of its own."""

    def __init__(self):
        self.node = Node()
        self.root = self.node.folder / "root"
        self.layer = self.node.folder / "layer"
        for path in (self.root, self.layer):
            path.mkdir()
        script = f"""
            mount -t tmpfs layer {self.layer} && mkdir {self.layer}/upper {self.layer}/work
            mount -t overlay -o lowerdir=/,upperdir={self.layer}/upper,workdir={self.layer}/work root {self.root}
            for kernels in proc sys dev; do mount --rbind /$kernels {self.root}/$kernels; done
            echo mounted && exec sleep inf
        """
        self.network = Network(self.node)
        command = self.network.inside("unshare", "--mount", "--propagation", "private", "sh", "-ec", script)
        self.holder = self.node.start(command, stdout=subprocess.PIPE)
        assert self.holder.stdout.readline() == b"mounted\n"
        self.holder.stdout.close()

    def inside(self, *command):
        return ["nsenter", f"--target={self.holder.pid}", "--mount", "--net", "chroot", str(self.root), *command]

    def run(self, *command, **more):
        done = subprocess.run(
            self.inside(*command), capture_output=True, text=True, timeout=120, stdin=subprocess.DEVNULL, **more
        )
        if done.returncode:
            raise AssertionError(f"{command}: {done.stdout}{done.stderr}")
        return done.stdout

    def dpkg(self, *arguments):
        """Triggers are for others, and that of man-db takes long."""
        return self.run("dpkg", "--no-triggers", *arguments)

    def start(self, *command, **more):
        return self.node.start(self.inside(*command), **more)

    def write(self, path, text):
        subprocess.run(self.inside("tee", path), input=text, text=True, check=True, stdout=subprocess.DEVNULL, timeout=60)

    def changed(self):
        """All that is not as it was but for what dpkg keeps for itself; a file that went counts."""
        upper = self.layer / "upper"
        listed = subprocess.run(
            ["nsenter", f"--target={self.holder.pid}", "--mount", "find", str(upper), "-not", "-type", "d", "-printf", "/%P\n"],
            capture_output=True, text=True, check=True, timeout=60,
        )  # fmt: skip
        return [path for path in listed.stdout.splitlines() if not THEIRS.match(path)]


class Package(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory()
        cls.addClassCleanup(cls.folder.cleanup)
        build = [ROOT / "deploy" / "debian" / "build", os.environ["FLUENT_AUTH_PROXY_BIN"], cls.folder.name]
        done = subprocess.run([*build, "--fast"], capture_output=True, text=True, timeout=900)
        assert done.returncode == 0, done.stderr
        cls.package = pathlib.Path(done.stdout.strip())

    def machine(self):
        machine = Machine()
        self.addCleanup(machine.node.close)
        machine.write("/tmp/package.deb", "")
        with self.package.open("rb") as package:
            subprocess.run(machine.inside("tee", "/tmp/package.deb"), stdin=package, stdout=subprocess.DEVNULL, check=True)
        self.assertEqual(machine.changed(), [])
        machine.dpkg("--install", "/tmp/package.deb")
        return machine

    def test_all_that_belongs_to_it_is_there(self):
        machine = self.machine()
        self.assertEqual(machine.dpkg("--verify", "fluent-auth-proxy"), "")
        modes = {
            "/usr/bin/fluent-auth-proxy": "755",
            "/usr/share/man/man1/fluent-auth-proxy.1.gz": "644",
            "/usr/share/bash-completion/completions/fluent-auth-proxy": "644",
            "/usr/share/zsh/vendor-completions/_fluent-auth-proxy": "644",
            "/usr/share/fish/vendor_completions.d/fluent-auth-proxy.fish": "644",
            "/usr/share/doc/fluent-auth-proxy/THIRD-PARTY-LICENCES": "644",
            f"{ETC}/proxy.toml": "644",
            f"{ETC}/secrets": "700",
            f"{UNITS}/fluent-auth-proxy.service": "644",
            f"{UNITS}/fluent-auth-proxy.socket": "644",
        }
        for path, mode in modes.items():
            self.assertEqual(machine.run("stat", "--format=%a %U", path), f"{mode} root\n", path)
        self.assertIn("fluent-auth-proxy", machine.run("fluent-auth-proxy", "--version"))
        completes = ". /usr/share/bash-completion/completions/fluent-auth-proxy && complete -p fluent-auth-proxy"
        self.assertIn("complete", machine.run("bash", "-c", completes))
        self.assertIn(".TH", machine.run("zcat", "/usr/share/man/man1/fluent-auth-proxy.1.gz"))
        units = [f"{UNITS}/fluent-auth-proxy.{kind}" for kind in ("service", "socket")]
        machine.run("systemd-analyze", "verify", "--man=no", *units)
        # It has no account yet.
        self.assertEqual([path for path in machine.changed() if path.startswith("/etc/systemd")], [])

    def test_it_serves_as_its_unit_says(self):
        """By the settings that were installed, on sockets handed over, with credentials in a folder; it runs no systemd."""
        machine = self.machine()
        url = "https://ACCOUNT.sandbox.api.fluentretail.com"
        settings = machine.run("cat", f"{ETC}/proxy.toml")
        self.assertIn(url, settings)
        machine.write(f"{ETC}/proxy.toml", settings.replace(url, "http://127.0.0.1:4290"))
        for name, value in RIGHT.items():
            machine.write(f"{ETC}/secrets/{name}", value)
        unit = machine.run("cat", f"{UNITS}/fluent-auth-proxy.service")
        credentials = "/run/credentials/fluent-auth-proxy.service"
        machine.run("install", "-d", "-o", "nobody", credentials, "/var/lib/fluent-auth-proxy")
        for credential in values(unit, "LoadCredential"):
            name, path = credential.split(":")
            machine.run("install", "-m", "400", "-o", "nobody", path, f"{credentials}/{name}")
        variables = [f"--setenv={variable.replace('%d', credentials)}" for variable in values(unit, "Environment")]
        sockets = [f"--listen={address}" for address in values(machine.run("cat", f"{UNITS}/fluent-auth-proxy.socket"), "ListenStream")]
        [start] = values(unit, "ExecStart")
        machine.network.start_fluent()
        user = ["setpriv", "--reuid=nobody", "--clear-groups", "--no-new-privs", "--inh-caps=-all"]
        machine.start(*user, "systemd-socket-activate", *sockets, *variables, *start.replace("%d", credentials).split())

        def status(address):
            query = ["--header", "content-type: application/json", "--data", '{"query":"{ me { id } }"}']
            command = ["curl", "--silent", "--max-time", "10", "--output", "/dev/null", "--write-out", "%{http_code}"]
            asked = subprocess.run(
                machine.inside(*command, *query, f"http://{address}:4280/graphql"), capture_output=True, text=True, timeout=30
            )
            return asked.stdout

        wait(lambda: status("127.0.0.1") == "200")
        self.assertEqual(status("[::1]"), "200")
        # The token is kept.
        self.assertNotEqual(machine.run("ls", "/var/lib/fluent-auth-proxy"), "")

    def test_what_was_set_outlives_an_upgrade_and_a_removal_but_no_purge(self):
        machine = self.machine()
        machine.write(f"{ETC}/secrets/password", "right")
        machine.write(f"{ETC}/proxy.toml", "# Mine.\n")
        machine.run("install", "-d", "/var/lib/fluent-auth-proxy")
        machine.write("/var/lib/fluent-auth-proxy/token", "sealed")
        for command in (("--install", "/tmp/package.deb"), ("--remove", "fluent-auth-proxy")):
            machine.dpkg(*command)
            self.assertEqual(machine.run("cat", f"{ETC}/proxy.toml", f"{ETC}/secrets/password"), "# Mine.\nright")
        kept = [f"{ETC}/proxy.toml", f"{ETC}/secrets/password", "/var/lib/fluent-auth-proxy/token"]
        # So that nobody starts what is gone.
        masks = [f"/etc/systemd/system/fluent-auth-proxy.{kind}" for kind in ("service", "socket")]
        self.assertEqual(sorted(machine.changed()), sorted(kept + masks))
        machine.dpkg("--purge", "fluent-auth-proxy")
        self.assertEqual(machine.changed(), [])
        for path in (ETC, "/var/lib/fluent-auth-proxy", "/usr/share/doc/fluent-auth-proxy"):
            machine.run("test", "!", "-e", path)
