"""The image, built by buildah from the Dockerfile and run as the Dockerfile says.

No image can be pulled here, so the bases are made, under the names that the Dockerfile takes: Debian with this machine's
Rust, and certificates alone. bubblewrap takes the place of the container's runtime."""

import json
import os
import pathlib
import shutil
import subprocess
import tempfile
import unittest

from commands import output_of
from pods import RIGHT, Network, Node, wait

ROOT = pathlib.Path(__file__).parents[2]
MIB = 1024 * 1024


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


class Image(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        folder = tempfile.TemporaryDirectory()
        cls.addClassCleanup(folder.cleanup)
        cls.buildah = Builder(folder.name)
        names = dict(
            line.removeprefix("ARG ").split("=", 1)
            for line in (ROOT / "Dockerfile").read_text().splitlines()
            if line.startswith(("ARG RUST_IMAGE=", "ARG RUNTIME_IMAGE="))
        )
        for argument, make in (("RUST_IMAGE", rust), ("RUNTIME_IMAGE", certificates)):
            tree = pathlib.Path(folder.name) / make.__name__
            tree.mkdir()
            cls.buildah.base(names[argument], tree, *make(tree))
        # What cargo has fetched already.
        fetched = pathlib.Path(os.environ.get("CARGO_HOME", pathlib.Path.home() / ".cargo")) / "registry"
        cls.buildah(
            *["build", "--isolation=chroot", "--format=docker", "--pull=never", "--target=proxy", "--tag=fluent-auth-proxy"],
            *[f"--volume={fetched}:/usr/local/cargo/registry", str(ROOT)],
        )
        container = cls.buildah("from", "--pull=never", "fluent-auth-proxy")
        # Where another user gets to: buildah's own folders are root's alone.
        pathlib.Path(folder.name).chmod(0o755)
        cls.root = pathlib.Path(folder.name) / "root"
        output_of("cp", "--archive", cls.buildah("mount", container), str(cls.root))
        cls.config = json.loads(cls.buildah("inspect", "--type=image", "fluent-auth-proxy"))["Docker"]["config"]
        cls.files = [path for path in cls.root.rglob("*") if path.is_file() and not path.is_symlink()]
        # As runtimes do.
        (cls.root / "etc/hosts").touch()
        for name in ("proc", "dev"):
            (cls.root / name).mkdir(exist_ok=True)

    def test_it_is_small_and_holds_nothing_to_run_but_the_program(self):
        size = sum(path.stat().st_size for path in self.files)
        self.assertLess(size, 25 * MIB)
        runs = [str(path.relative_to(self.root)) for path in self.files if path.stat().st_mode & 0o111]
        self.assertEqual(runs, ["usr/bin/fluent-auth-proxy"])
        said = output_of("readelf", "--wide", "--sections", "--program-headers", str(self.root / "usr/bin/fluent-auth-proxy"))
        # For scanners; and no loader is asked for.
        self.assertIn(".dep-v0", said)
        self.assertNotIn("INTERP", said)
        for name in ("LICENSE", "THIRD-PARTY-LICENCES"):
            self.assertGreater((self.root / "usr/share/doc/fluent-auth-proxy" / name).stat().st_size, 1000)
        print(f"the image holds {size / MIB:.1f} MiB")

    def test_it_runs_as_it_says(self):
        self.assertEqual(self.config["User"], "65532:65532")
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
        jail += ["--remount-ro", "/", "--chdir", self.config["WorkingDir"], "--"]
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
