"""The operations guide says what is so: links, alerts, figures, commands."""

import pathlib
import re
import tomllib
import unittest

import yaml

import manifests
from test_kubernetes import rendered, run

DEPLOY = pathlib.Path(__file__).parents[2] / "deploy"
GUIDE = (DEPLOY / "README.md").read_text()
MIB = 1024 * 1024


class Guide(unittest.TestCase):
    def test_every_link_leads_somewhere(self):
        links = re.findall(r"\]\(([^)#]+)\)", GUIDE)
        self.assertGreater(len(links), 5)
        for link in links:
            self.assertTrue((DEPLOY / link).exists(), link)

    def test_every_alert_is_explained_and_no_other(self):
        groups = yaml.safe_load((DEPLOY / "prometheus" / "rules.yml").read_text())["groups"]
        alerts = [rule["alert"] for group in groups for rule in group["rules"] if "alert" in rule]
        self.assertEqual(re.findall(r"(?m)^\| `(FluentProxy\w+)` \|", GUIDE), alerts)

    def test_the_figures_follow_from_the_settings(self):
        default = tomllib.loads((DEPLOY.parent / "config" / "default.toml").read_text())
        figures = [int(figure) for figure in re.findall(r"(?m)^\| .*for replays \| (\d+) MiB \|", GUIDE)]
        settings = [manifests.settings(rendered("native-sidecar")), manifests.settings(rendered("shared")), default]
        self.assertEqual(figures, [manifests.bound(**found) // MIB for found in settings])
        self.assertEqual(manifests.bound(**manifests.settings(rendered("classic-sidecar"))) // MIB, figures[0])
        terms = f"× {manifests.A_CONNECTION // 1024} KiB", f"× {manifests.A_REQUEST // 1024} KiB"
        for term in terms:
            self.assertIn(term, GUIDE)

    def test_kubectl_makes_the_secret_of_files(self):
        """As the guide says it, without a cluster: what comes out has the keys that the pods mount."""
        [command] = re.findall(r"kubectl (create secret generic \S+) --from-file=secrets/", GUIDE)
        wanted = {
            item["key"] for item in manifests.volume(rendered("shared"), "fluent-secrets")["secret"]["items"]
        }
        listed = re.search(r"then write ([^\n]*?) too\n", GUIDE).group(1)
        names = set(re.findall(r"username|password|client-id|client-secret|redis-url", listed))
        self.assertEqual(names, wanted)
        files = [f"--from-file={name}={DEPLOY / 'README.md'}" for name in sorted(names)]
        done = run("kubectl", *command.split(), *files, "--dry-run=client", "--output=yaml")
        self.assertEqual(done.returncode, 0, done.stderr)
        made = yaml.safe_load(done.stdout)
        self.assertEqual(set(made["data"]), wanted)
        mounted = manifests.volume(rendered("shared"), "fluent-secrets")["secret"]["secretName"]
        self.assertEqual(made["metadata"]["name"], mounted)
