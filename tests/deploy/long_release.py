"""A release, made twice in two folders and by people with two umasks: the same bytes, and all in them that they should hold."""

import gzip
import json
import pathlib
import re
import tarfile
import tempfile
import tomllib
import unittest
import zlib

from commands import output_of

ROOT = pathlib.Path(__file__).parents[2]
NAME = "fluent-auth-proxy"


def released(commit, folder, umask):
    """What `deploy/release` makes of a clone there; the tools are those of this folder."""
    output_of("git", "clone", "--quiet", "--no-hardlinks", str(ROOT), str(folder), umask=umask)
    output_of("git", "checkout", "--quiet", "--detach", commit, cwd=folder, umask=umask)
    (folder / "target").mkdir()
    (folder / "target/tools").symlink_to(ROOT / "target/tools")
    output_of("deploy/release", cwd=folder, umask=umask)
    return folder / "target/dist"


def linked():
    """The crates that are linked into the program, as cargo tells them to people."""
    told = output_of("cargo", "tree", "--locked", f"--package={NAME}", "--edges=normal", "--prefix=none", "--format={p}", cwd=ROOT)
    crates = {tuple(re.match(r"(\S+) v(\S+)", line).groups()) for line in told.splitlines() if line}
    return {(name, version) for name, version in crates if name != NAME}


class Release(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        folder = tempfile.TemporaryDirectory()
        cls.addClassCleanup(folder.cleanup)
        commit = output_of("git", "rev-parse", "HEAD", cwd=ROOT).strip()
        (ROOT / "target/tools").mkdir(parents=True, exist_ok=True)
        first, second = pathlib.Path(folder.name) / "here", pathlib.Path(folder.name) / "and/elsewhere"
        cls.dist, cls.again = released(commit, first, 0o022), released(commit, second, 0o077)
        cls.folders = [str(first), str(second), str(pathlib.Path.home())]
        [cls.archive] = cls.dist.glob("*.tar.gz")
        with tarfile.open(cls.archive) as archive:
            archive.extractall(folder.name, filter="data")
        cls.content = pathlib.Path(folder.name) / cls.archive.name.removesuffix(".tar.gz")

    def test_two_builds_are_one(self):
        sums = [(dist / "SHA256SUMS").read_text() for dist in (self.dist, self.again)]
        self.assertEqual(sums[0], sums[1])
        program = (self.content / NAME).read_bytes()
        for folder in self.folders:
            self.assertFalse(folder.encode() in program, folder)

    def test_every_file_has_its_digest(self):
        output_of("sha256sum", "--check", "--strict", "SHA256SUMS", cwd=self.dist)
        listed = {line.split()[1] for line in (self.dist / "SHA256SUMS").read_text().splitlines()}
        self.assertEqual(listed | {"SHA256SUMS"}, {path.name for path in self.dist.iterdir()})
        self.assertEqual(len(listed), 3)

    def test_the_bill_of_materials_names_all_that_is_in_it(self):
        [path] = self.dist.glob("*.cdx.json")
        bom = json.loads(path.read_text())
        self.assertEqual((bom["bomFormat"], bom["specVersion"]), ("CycloneDX", "1.5"))
        parts = bom["components"]
        references = [part["bom-ref"] for part in parts]
        self.assertEqual(len(references), len(set(references)))
        crates = {(part["name"], part["version"]) for part in parts if part["purl"].startswith("pkg:cargo/")}
        self.assertEqual(crates, linked())
        # With the digest that Cargo.lock has, so that it is that very crate.
        locked = {
            (package["name"], package["version"]): package["checksum"]
            for package in tomllib.loads((ROOT / "Cargo.lock").read_text())["package"]
            if "checksum" in package
        }
        for part in parts:
            if part["purl"].startswith("pkg:cargo/"):
                self.assertEqual(part["hashes"][0]["content"], locked[part["name"], part["version"]])
            self.assertTrue(part.get("licenses"), part["name"])
        pages = {part["name"] for part in parts if part["purl"].startswith("pkg:npm/")}
        self.assertLessEqual({"graphiql", "react", "uplot"}, pages)

    def test_the_licences_are_those_of_all_that_is_in_it(self):
        licences = (self.content / "THIRD-PARTY-LICENCES").read_text()
        named = set(re.findall(r"(?m)^(\S+) (\d\S*) \(.*\)$", licences))
        self.assertEqual(linked() - named, set())
        assets = gzip.decompress((ROOT / "src/console/assets/vendor/LICENCES.txt.gz").read_bytes()).decode()
        # By words, as some lines end in another way. Not `assertIn`, which would show a megabyte.
        self.assertTrue(" ".join(assets.split()) in " ".join(licences.split()))

    def test_the_program_holds_the_list_of_its_crates(self):
        with tempfile.NamedTemporaryFile() as section:
            output_of("objcopy", f"--dump-section=.dep-v0={section.name}", str(self.content / NAME), "/dev/null")
            listed = json.loads(zlib.decompress(section.read()))["packages"]
        [ours] = [package["name"] for package in listed if package.get("root")]
        self.assertEqual(ours, NAME)
        # It tells of some crates more, which only tests turn on.
        told = {(package["name"], package["version"]) for package in listed}
        self.assertEqual(linked() - told, set())
        locked = tomllib.loads((ROOT / "Cargo.lock").read_text())["package"]
        self.assertEqual(told - {(package["name"], package["version"]) for package in locked}, set())

    def test_the_package_holds_the_same_program(self):
        [package] = self.dist.glob("*.deb")
        with tempfile.TemporaryDirectory() as folder:
            output_of("dpkg-deb", "--extract", str(package), folder)
            installed = pathlib.Path(folder) / "usr/bin" / NAME
            self.assertTrue(installed.read_bytes() == (self.content / NAME).read_bytes())
        self.assertIn(NAME, output_of(str(self.content / NAME), "--version"))
