"""The image for both architectures, built by buildah from the Dockerfile and run as the Dockerfile says.

No image can be pulled here, so the bases are made, under the names that the Dockerfile takes: Debian with this machine's
Rust, and certificates alone. bubblewrap takes the place of the container's runtime, and QEMU that of a machine of the
other architecture, which only runs what was built: the compilers are this machine's."""

import json
import os
import pathlib
import shutil
import subprocess
import tempfile
import tomllib
import unittest

from commands import output_of
from pods import RIGHT, Network, Node, wait

ROOT = pathlib.Path(__file__).parents[2]
MIB = 1024 * 1024
PROGRAM = "/usr/bin/fluent-auth-proxy"
# As Debian calls it, and as QEMU does.
MACHINES = {"amd64": "x86_64", "arm64": "aarch64"}


class Builder:
    def __init__(self, folder):
        self.folder = folder
        self.command = ["buildah", "--storage-driver=vfs", f"--root={folder}/storage", f"--runroot={folder}/run"]

    def __call__(self, *arguments, **more):
        return output_of(*self.command, *arguments, **more).strip()

    def base(self, name, tree, *settings):
        container = self("from", "scratch")
        self("copy", container, str(tree), "/")
        self("config", *settings, container)
        self("commit", "--rm", container, name)
        shutil.rmtree(tree)


def rust(tree):
    """As the official image has it: rustup and one toolchain in /usr/local, a C compiler, certificates."""
    output_of("debootstrap", "--variant=minbase", "--include=gcc,libc6-dev,ca-certificates", "bookworm", str(tree))
    home = pathlib.Path(output_of("rustup", "show", "home").strip())
    toolchain = pathlib.Path(output_of("rustc", "--print", "sysroot").strip())
    at = tree / "usr/local/rustup/toolchains" / toolchain.name
    shutil.copytree(toolchain, at, symlinks=True, ignore=shutil.ignore_patterns("doc", "man"))
    shutil.copy(home / "settings.toml", tree / "usr/local/rustup")
    # Those that this machine trusts, where its registries are behind another.
    shutil.copy("/etc/ssl/certs/ca-certificates.crt", tree / "etc/ssl/certs")
    binaries = tree / "usr/local/cargo/bin"
    binaries.mkdir(parents=True)
    shutil.copy(shutil.which("rustup"), binaries / "rustup")
    for name in ("cargo", "rustc"):
        (binaries / name).symlink_to("rustup")
    return [
        "--env=RUSTUP_HOME=/usr/local/rustup",
        "--env=CARGO_HOME=/usr/local/cargo",
        "--env=PATH=/usr/local/cargo/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    ]


def certificates(tree):
    (tree / "etc/ssl/certs").mkdir(parents=True)
    shutil.copy("/etc/ssl/certs/ca-certificates.crt", tree / "etc/ssl/certs")
    (tree / "etc/nsswitch.conf").write_text("hosts: files dns\n")
    return []


def setUpModule():
    global builder, names, native
    folder = tempfile.TemporaryDirectory()
    unittest.addModuleCleanup(folder.cleanup)
    builder = Builder(folder.name)
    native = output_of("dpkg", "--print-architecture").strip()
    names = dict(
        line.removeprefix("ARG ").split("=", 1)
        for line in (ROOT / "Dockerfile").read_text().splitlines()
        if line.startswith(("ARG RUST_IMAGE=", "ARG RUNTIME_IMAGE="))
    )
    bases = [(names["RUST_IMAGE"], rust, native)]
    bases += [(f"{names['RUNTIME_IMAGE']}-{architecture}", certificates, architecture) for architecture in MACHINES]
    for name, make, architecture in bases:
        tree = pathlib.Path(folder.name) / "base"
        tree.mkdir()
        builder.base(name, tree, f"--arch={architecture}", *make(tree))
    # Where another user gets to: buildah's own folders are root's alone.
    pathlib.Path(folder.name).chmod(0o755)


class Image:
    """Of one architecture."""

    @classmethod
    def setUpClass(cls):
        # What cargo has fetched already.
        fetched = pathlib.Path(os.environ.get("CARGO_HOME", pathlib.Path.home() / ".cargo")) / "registry"
        cls.revision = output_of("git", "rev-parse", "HEAD", cwd=ROOT).strip()
        # Docker sets the architecture by --platform; this buildah then takes the platform of the compilers for that, too.
        arguments = {
            "TARGETARCH": cls.architecture,
            "RUNTIME_IMAGE": f"{names['RUNTIME_IMAGE']}-{cls.architecture}",
            "REVISION": cls.revision,
        }
        image = f"fluent-auth-proxy-{cls.architecture}"
        builder(
            *["build", "--isolation=chroot", "--format=docker", "--pull=never", "--target=proxy", f"--tag={image}"],
            *[f"--build-arg={name}={value}" for name, value in arguments.items()],
            *[f"--volume={fetched}:/usr/local/cargo/registry", str(ROOT)],
        )
        container = builder("from", "--pull=never", image)
        cls.root = pathlib.Path(builder.folder) / image
        output_of("cp", "--archive", builder("mount", container), str(cls.root))
        cls.told = json.loads(builder("inspect", "--type=image", image))["Docker"]
        cls.config = cls.told["config"]
        cls.files = [path for path in cls.root.rglob("*") if path.is_file() and not path.is_symlink()]
        # As runtimes do.
        (cls.root / "etc/hosts").touch()
        for name in ("proc", "dev"):
            (cls.root / name).mkdir(exist_ok=True)
        cls.emulator = []
        if cls.architecture != native:
            (cls.root / "emulator").touch()
            cls.emulator = ["--ro-bind", f"/usr/bin/qemu-{MACHINES[cls.architecture]}-static", "/emulator"]

    def test_it_says_what_it_is(self):
        self.assertEqual((self.told["os"], self.told["architecture"]), ("linux", self.architecture))
        package = tomllib.loads((ROOT / "Cargo.toml").read_text())
        labels = {
            "title": package["package"]["name"],
            "description": package["package"]["description"],
            "licenses": package["workspace"]["package"]["license"],
            "version": package["workspace"]["package"]["version"],
            "revision": self.revision,
        }
        labels = {f"org.opencontainers.image.{name}": value for name, value in labels.items()}
        self.assertEqual({name: self.config["Labels"].get(name) for name in labels}, labels)
        self.assertEqual(self.config["User"], "65532:65532")
        self.assertEqual(set(self.config["ExposedPorts"]), {"4280/tcp", "4281/tcp"})
        self.assertEqual((self.config["Entrypoint"], self.config["Cmd"]), ([PROGRAM], ["serve"]))
        self.assertEqual(self.config["WorkingDir"], "/var/lib/fluent-auth-proxy")
        health = self.config["Healthcheck"]
        self.assertEqual(health["Test"], ["CMD", PROGRAM, "health", "--live"])
        seconds = {name: health[name] / 1e9 for name in ("Interval", "Timeout", "StartPeriod")}
        self.assertEqual((seconds, health["Retries"]), ({"Interval": 10, "Timeout": 5, "StartPeriod": 10}, 3))
        folder = (self.root / "var/lib/fluent-auth-proxy").stat()
        self.assertEqual((folder.st_uid, folder.st_gid), (65532, 65532))

    def test_it_is_small_and_holds_nothing_to_run_but_the_program(self):
        size = sum(path.stat().st_size for path in self.files)
        self.assertLess(size, 25 * MIB)
        runs = [str(path.relative_to(self.root)) for path in self.files if path.stat().st_mode & 0o111]
        self.assertEqual(runs, ["usr/bin/fluent-auth-proxy"])
        said = output_of("readelf", "--wide", "--file-header", "--sections", "--program-headers", str(self.root / "usr/bin/fluent-auth-proxy"))
        # For its machine and for scanners; and no loader is asked for.
        self.assertRegex(said.lower().replace("-", "_"), rf"machine:.*{MACHINES[self.architecture]}")
        self.assertIn(".dep-v0", said)
        self.assertNotIn("INTERP", said)
        for name in ("LICENSE", "THIRD-PARTY-LICENCES"):
            self.assertGreater((self.root / "usr/share/doc/fluent-auth-proxy" / name).stat().st_size, 1000)
        print(f"the image for {self.architecture} holds {size / MIB:.1f} MiB")

    def test_it_runs_as_it_says(self):
        node = Node()
        self.addCleanup(node.close)
        network = Network(node)
        network.start_fluent()
        # A program that is linked to no library finds names, too.
        hosts = node.folder / "hosts"
        hosts.write_text("127.0.0.1 localhost fluent.test\n")
        user, group = self.config["User"].split(":")
        jail = ["setpriv", f"--reuid={user}", f"--regid={group}", "--clear-groups", "--no-new-privs", "--inh-caps=-all"]
        jail += ["--bounding-set=-all", "bwrap", "--unshare-user", "--unshare-pid", "--die-with-parent", "--cap-drop", "ALL"]
        jail += ["--ro-bind", str(self.root), "/", "--ro-bind", str(hosts), "/etc/hosts", "--proc", "/proc", "--dev", "/dev"]
        jail += [*self.emulator, "--remount-ro", "/", "--chdir", self.config["WorkingDir"], "--", *self.emulator[2:]]
        secrets = {f"FLUENT_{name.upper().replace('-', '_')}": value for name, value in RIGHT.items()}
        settings = {
            **dict(variable.split("=", 1) for variable in self.config["Env"]),
            **secrets,
            "PATH": os.environ["PATH"],
            "FLUENT_URL": "http://fluent.test:4290",
            "FLUENT_PROXY__FLUENT__DANGER_ALLOW_HTTP": "true",
        }

        def healthy():
            kind, *command = self.config["Healthcheck"]["Test"]
            self.assertEqual(kind, "CMD")
            done = subprocess.run(network.inside(*jail, *command), env=settings, capture_output=True, timeout=60)
            return done.returncode == 0

        self.assertFalse(healthy())
        start = [*self.config["Entrypoint"], *self.config["Cmd"]]
        proxy = network.start(*jail, *start, env={**settings, "FLUENT_PASSWORD": "wrong"})
        # A refused account is no reason to restart it.
        wait(healthy)
        proxy.terminate()
        proxy.wait(timeout=60)
        network.start(*jail, *start, env=settings)
        query = ["--header", "content-type: application/json", "--data", '{"query":"{ me { id } }"}']
        ask = network.inside("curl", "--silent", *query, "http://localhost:4280/graphql")
        wait(lambda: '"id"' in subprocess.run(ask, capture_output=True, text=True, timeout=30).stdout)
        self.assertTrue(healthy())


class Amd64(Image, unittest.TestCase):
    architecture = "amd64"


class Arm64(Image, unittest.TestCase):
    architecture = "arm64"
