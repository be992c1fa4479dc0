"""The operations guide says what is so: links, alerts, figures, commands."""

import base64
import pathlib
import re
import shutil
import tempfile
import tomllib
import unittest

import yaml

import manifests
from test_kubernetes import rendered, run, wrong_with

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

    def test_its_way_to_a_sidecar_can_be_walked(self):
        """Its commands as they stand, in a copy of this folder: without a registry, and with a cluster that is only told."""
        [commands] = re.findall(r"(?s)## Kubernetes\n.*?```sh\n(.*?)```", GUIDE)
        for old, new in (
            (r"docker build.*", ""),
            (r"kubectl create (.*)", r"kubectl create \1 --dry-run=client --output=yaml >secret.yaml"),
            (r"kubectl apply -k (.*)", r"kubectl kustomize \1 >pods.yaml"),
            (r"kubectl rollout status deployment/app ", "# "),
            (r"kubectl port-forward deployment/app 4280 4281 ", "# "),
        ):
            commands, count = re.subn(old, new, commands)
            self.assertEqual(count, 1, old)
        with tempfile.TemporaryDirectory() as folder:
            deploy = pathlib.Path(shutil.copytree(DEPLOY, f"{folder}/deploy"))
            application = (deploy / "kubernetes/native-sidecar/app.yaml").read_text()
            (deploy / "YOUR-DEPLOYMENT.yaml").write_text(application.replace("registry.example/app", "ghcr.io/acme/shop"))
            # No blank of a secret is lost.
            typed = "".join(f" a-{number} \n" for number in range(4))
            done = run("bash", "-euc", commands, cwd=deploy, input=typed)
            self.assertEqual(done.returncode, 0, done.stderr)
            secret = yaml.safe_load((deploy / "secret.yaml").read_text())
            pods = list(yaml.safe_load_all((deploy / "pods.yaml").read_text()))
        mounted = manifests.volume(pods, "fluent-secrets")["secret"]
        self.assertEqual(secret["metadata"]["name"], mounted["secretName"])
        self.assertEqual(set(secret["data"]), {item["key"] for item in mounted["items"]})
        self.assertEqual(base64.b64decode(secret["data"]["password"]), b" a-1 ")
        self.assertIn("ghcr.io/acme/shop:1.0.0", [container["image"] for container in manifests.pod(pods)["containers"]])
        self.assertEqual(manifests.proxy(pods)["image"].rpartition(":")[0], "ghcr.io/acme/fluent-auth-proxy")
        [url] = [found["data"]["FLUENT_URL"] for found in pods if "FLUENT_URL" in found.get("data", {})]
        self.assertEqual(url, "https://acme.sandbox.api.fluentretail.com")
        self.assertEqual(wrong_with(pods, manifests.OVERLAYS["native-sidecar"]), {})
