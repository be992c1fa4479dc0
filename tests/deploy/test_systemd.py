"""The systemd units: verified by systemd, its grade for their hardening, and the program's word on their settings."""

import os
import pathlib
import re
import subprocess
import tempfile
import tomllib
import unittest

import manifests

UNITS = pathlib.Path(__file__).parents[2] / "deploy" / "systemd"
SERVICE, SOCKET = "fluent-auth-proxy.service", "fluent-auth-proxy.socket"
# Tenths, 0 to 100, of what systemd calls exposure. A program that calls out cannot come to nothing.
EXPOSURE = "15"
# What must not go, whatever the grade is made of.
HARDENED = [
    "DynamicUser=yes",
    "ProtectSystem=strict",
    "NoNewPrivileges=yes",
    "CapabilityBoundingSet=",
    "AmbientCapabilities=",
    "LimitCORE=0",
    "ProtectHome=yes",
]


def read(name):
    return (UNITS / name).read_text()


def values(unit, key):
    return re.findall(rf"(?m)^{key}=(.*)$", unit)


def systemd_says(*command, service, socket):
    """The verdict on the units as installed, but for the place of the program."""
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder)
        program = os.environ["FLUENT_AUTH_PROXY_BIN"]
        (path / SERVICE).write_text(service.replace("/usr/bin/fluent-auth-proxy", program))
        (path / SOCKET).write_text(socket)
        done = subprocess.run(
            ["systemd-analyze", *command, *([f"./{SERVICE}"] if command[0] == "security" else [f"./{SERVICE}", f"./{SOCKET}"])],
            capture_output=True, text=True, cwd=folder, timeout=120,
        )  # fmt: skip
        return done.returncode, done.stdout + done.stderr


def verify(service=None, socket=None):
    code, said = systemd_says("verify", "--man=no", service=service or read(SERVICE), socket=socket or read(SOCKET))
    # Misspelled keys are told, and are no failure to it.
    ours = [line for line in said.splitlines() if "fluent-auth-proxy" in line]
    return code == 0 and not ours, said


def exposure_is_low(service):
    code, said = systemd_says("security", "--offline=true", f"--threshold={EXPOSURE}", service=service, socket=read(SOCKET))
    return code == 0, said


def check(settings, unit):
    """What the program says of settings, with the unit's variables and credentials where systemd puts them."""
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder)
        for credential in values(unit, "LoadCredential"):
            (path / credential.partition(":")[0]).write_text("a-value\n")
        (path / "proxy.toml").write_text(settings)
        environment = dict(pair.replace("%d", folder).split("=", 1) for pair in values(unit, "Environment"))
        [start] = values(unit, "ExecStart")
        program, serve, *arguments = start.replace("%d", folder).split()
        assert (program, serve) == ("/usr/bin/fluent-auth-proxy", "serve"), start
        return subprocess.run(
            [os.environ["FLUENT_AUTH_PROXY_BIN"], "check", *arguments],
            capture_output=True, text=True, cwd=folder, env=environment, timeout=60,
        )  # fmt: skip


class Units(unittest.TestCase):
    def test_systemd_takes_them(self):
        well, said = verify()
        self.assertTrue(well, said)

    def test_a_misspelled_key_is_seen(self):
        self.assertFalse(verify(service=read(SERVICE).replace("ProtectHome=", "ProtectHomes="))[0])
        self.assertFalse(verify(socket=read(SOCKET).replace("NoDelay=", "NoDelays="))[0])

    def test_they_are_hardened(self):
        service = read(SERVICE)
        well, said = exposure_is_low(service)
        self.assertTrue(well, said)
        for line in HARDENED:
            self.assertRegex(service, rf"(?m)^{re.escape(line)}$")

    def test_a_weaker_unit_is_seen(self):
        for line in ("DynamicUser=yes", "SystemCallFilter=@system-service", "CapabilityBoundingSet="):
            with self.subTest(line):
                self.assertIn(f"\n{line}\n", read(SERVICE))
                weaker = read(SERVICE).replace(f"\n{line}\n", "\n").replace("PrivateUsers=yes", "")
                self.assertFalse(exposure_is_low(weaker)[0])

    def test_the_program_takes_the_settings(self):
        done = check(read("proxy.toml"), read(SERVICE))
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)

    def test_a_credential_that_is_not_handed_over_is_seen(self):
        without = re.sub(r"(?m)^LoadCredential=password:.*\n", "", read(SERVICE))
        self.assertEqual(check(read("proxy.toml"), without).returncode, 78)

    def test_settings_and_units_agree(self):
        settings, service = tomllib.loads(read("proxy.toml")), read(SERVICE)
        self.assertEqual(settings["listen"]["address"], "systemd")
        self.assertEqual(values(read(SOCKET), "ListenStream"), ["127.0.0.1:4280", "[::1]:4280"])
        self.assertEqual(f"/var/lib/{values(service, 'StateDirectory')[0]}", settings["cache"]["path"])
        default = tomllib.loads((UNITS.parents[1] / "config" / "default.toml").read_text())
        deadline = manifests.seconds({**default["shutdown"], **settings.get("shutdown", {})}["deadline"])
        self.assertGreater(manifests.seconds(values(service, "TimeoutStopSec")[0]), deadline)
        limits = {**default["listen"], **settings["listen"]}, {**default["upstream"], **settings["upstream"]}
        bound = manifests.bound(*limits)
        self.assertGreaterEqual(manifests.size(values(service, "MemoryMax")[0].replace("M", "Mi")), bound)
        self.assertEqual(values(service, "Type"), ["notify"])

    def test_no_secret_stands_in_them(self):
        for variable in values(read(SERVICE), "Environment"):
            self.assertRegex(variable, r"^FLUENT_[A-Z_]+_FILE=%d/")
