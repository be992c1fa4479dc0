"""What the Kubernetes manifests must keep, as rules over what an overlay renders.

Each rule yields what is wrong; nothing for what is right. `test_kubernetes.py` breaks each one once.
"""

import ipaddress
import re
import tomllib

ADMIN = 4281
LISTEN = 4280
# tests/it/memory.rs: what a connection and a request may hold at most, and what does not grow.
KIB = 1024
A_CONNECTION = 3 * 64 * KIB
A_REQUEST = 2 * 408 * KIB
FIXED = 8 * KIB * KIB
# What the process takes with nothing to do, rounded up.
IDLE = 32 * KIB * KIB


def of_kind(documents, kind):
    return [document for document in documents if document["kind"] == kind]


def pod(documents):
    [deployment] = of_kind(documents, "Deployment")
    return deployment["spec"]["template"]["spec"]


def proxy(documents):
    """The proxy's container, wherever it stands."""
    spec = pod(documents)
    [container] = [
        container
        for container in spec.get("initContainers", []) + spec["containers"]
        if container["name"] == "fluent-auth-proxy"
    ]
    return container


def volume(documents, name):
    [volume] = [volume for volume in pod(documents)["volumes"] if volume["name"] == name]
    return volume


def mounts(documents):
    return {mount["mountPath"]: mount["name"] for mount in proxy(documents)["volumeMounts"]}


def settings_text(documents):
    name = volume(documents, "fluent-settings")["configMap"]["name"]
    [settings] = [found for found in of_kind(documents, "ConfigMap") if found["metadata"]["name"] == name]
    return settings["data"]["proxy.toml"]


def settings(documents):
    return tomllib.loads(settings_text(documents))


def seconds(text):
    number, unit = re.fullmatch(r"(\d+)(ms|s|m|h)", text).groups()
    return int(number) * {"ms": 0.001, "s": 1, "m": 60, "h": 3600}[unit]


def size(text):
    number, unit = re.fullmatch(r"(\d+)(KiB|MiB|GiB|Ki|Mi|Gi)", text).groups()
    return int(number) * {"K": KIB, "M": KIB**2, "G": KIB**3}[unit[0]]


def bound(listen, upstream, **_others):
    """What the process may take with every limit of these settings reached at once."""
    replay = size(upstream.get("replay_memory", "64MiB"))
    return listen["max_connections"] * A_CONNECTION + upstream["max_in_flight"] * A_REQUEST + replay + FIXED + IDLE


def the_container_can_do_nothing_but_serve(documents):
    context = proxy(documents)["securityContext"]
    if not context.get("runAsNonRoot") or context.get("runAsUser", 0) == 0 or context.get("runAsGroup", 0) == 0:
        yield "runs as root"
    if context.get("readOnlyRootFilesystem") is not True:
        yield "its root can be written"
    if context.get("allowPrivilegeEscalation") is not False or context.get("privileged"):
        yield "may gain privileges"
    if context.get("capabilities") != {"drop": ["ALL"]}:
        yield "has capabilities"
    if context.get("seccompProfile") != {"type": "RuntimeDefault"}:
        yield "has no seccomp profile"
    for key in ("hostNetwork", "hostPID", "hostIPC"):
        if pod(documents).get(key):
            yield f"has {key}"


def probes_ask_the_admin_listener_and_never_fluent(documents):
    for probe, path in (("startupProbe", "/livez"), ("livenessProbe", "/livez"), ("readinessProbe", "/readyz")):
        asks = proxy(documents).get(probe, {}).get("httpGet")
        if asks != {"path": path, "port": ADMIN}:
            yield f"{probe} asks {asks}"
    address = settings(documents).get("admin", {}).get("address")
    if address != f"0.0.0.0:{ADMIN}":
        yield f"probes come from outside, and admin.address is {address}"


def secrets_are_files_of_a_secret(documents):
    """None in a ConfigMap, none in a variable, each setting's file mounted whole, for the proxy alone."""
    for found in of_kind(documents, "ConfigMap"):
        for key, value in found["data"].items():
            if re.search(r"(?im)^\s*(\w*(password|secret|username|client_id|redis_url|required_header))\s*=", value):
                yield f"ConfigMap {key} holds a secret"
            if re.search(r"(?i)(password|secret|username|client_id|redis_url)", key):
                yield f"ConfigMap has the key {key}"
    if of_kind(documents, "Secret"):
        yield "a Secret is applied with the manifests"
    for container in pod(documents)["containers"] + pod(documents).get("initContainers", []):
        for variable in container.get("env", []):
            if "secretKeyRef" in variable.get("valueFrom", {}):
                yield f"{variable['name']} is a secret in a variable"
        if container["name"] != "fluent-auth-proxy":
            for mount in container.get("volumeMounts", []):
                if mount["name"] == "fluent-secrets":
                    yield f"{container['name']} can read the secrets"
    for mount in proxy(documents)["volumeMounts"]:
        if "subPath" in mount:
            yield f"{mount['mountPath']} is mounted by subPath and never changes"
    folder = next((path for path, name in mounts(documents).items() if name == "fluent-secrets"), None)
    items = {f"{folder}/{item['path']}" for item in volume(documents, "fluent-secrets")["secret"]["items"]}
    wanted = {
        value
        for section in ("fluent", "cache")
        for key, value in settings(documents).get(section, {}).items()
        if key.endswith("_file")
    }
    if items != wanted:
        yield f"secrets mounted and settings differ: {sorted(items ^ wanted)}"


def the_file_store_is_on_an_emptydir(documents):
    cache = settings(documents).get("cache", {})
    if cache.get("store") == "redis":
        return
    if cache.get("store") != "file":
        yield "a restart costs a login"
        return
    name = mounts(documents).get(cache["path"])
    if name is None or "emptyDir" not in volume(documents, name):
        yield f"cache.path {cache['path']} is on no emptyDir"


def there_is_time_to_end(documents):
    """The grace period covers what comes before the signal, and the drain; who else may need the proxy comes first."""
    wait = proxy(documents).get("lifecycle", {}).get("preStop", {}).get("sleep", {}).get("seconds", 0)
    shutdown = settings(documents)["shutdown"]
    deadline, delay = seconds(shutdown["deadline"]), seconds(shutdown["delay"])
    grace = pod(documents).get("terminationGracePeriodSeconds", 30)
    if grace <= wait + deadline:
        yield f"{grace} s of grace are not more than {wait} s and {deadline} s"
    if deadline <= delay:
        yield "nothing is left of the deadline after the delay"
    if proxy(documents).get("restartPolicy") != "Always" and wait + delay < 5:
        yield "it stops serving while others still count on it"


def memory_covers_every_limit_at_once(documents):
    limit, most = size(proxy(documents)["resources"]["limits"]["memory"]), bound(**settings(documents))
    if limit < most:
        yield f"a limit of {limit} bytes is below {most}"
    requests = proxy(documents)["resources"].get("requests", {})
    if "cpu" not in requests or size(requests["memory"]) < IDLE:
        yield "the requests are not what it takes"


def what_is_named_is_there(documents):
    """Also: no variables of services, and an image that says which one it is."""
    if pod(documents).get("enableServiceLinks") is not False:
        yield "variables of services are injected"
    repository, _, tag = proxy(documents)["image"].rpartition(":")
    if not repository or not re.fullmatch(r"\d+\.\d+\.\d+", tag):
        yield f"image {proxy(documents)['image']} has no version"
    volumes = {volume["name"] for volume in pod(documents)["volumes"]}
    for path, name in mounts(documents).items():
        if name not in volumes:
            yield f"{path} has no volume {name}"
    configured = {found["metadata"]["name"]: found["data"] for found in of_kind(documents, "ConfigMap")}
    for variable in proxy(documents)["env"]:
        source = variable.get("valueFrom", {}).get("configMapKeyRef")
        if source and source["key"] not in configured.get(source["name"], {}):
            yield f"{variable['name']} comes from nowhere"
    config = proxy(documents)["args"][proxy(documents)["args"].index("--config") + 1]
    if mounts(documents).get(config.rpartition("/")[0]) != "fluent-settings":
        yield f"{config} is not mounted"


EVERYWHERE = [
    the_container_can_do_nothing_but_serve,
    probes_ask_the_admin_listener_and_never_fluent,
    secrets_are_files_of_a_secret,
    the_file_store_is_on_an_emptydir,
    there_is_time_to_end,
    memory_covers_every_limit_at_once,
    what_is_named_is_there,
]


def only_the_pod_reaches_the_sidecar(documents):
    if settings(documents)["listen"]["address"] != f"localhost:{LISTEN}":
        yield "it listens for others"
    if any(port["containerPort"] == LISTEN for port in proxy(documents)["ports"]):
        yield "its port is told to others"


def the_native_one_is_an_init_container_that_stays(documents):
    if proxy(documents) not in pod(documents).get("initContainers", []):
        yield "it is no init container"
    if proxy(documents).get("restartPolicy") != "Always":
        yield "the pod waits for it to end"


def the_classic_one_is_a_container_for_any_cluster(documents):
    if proxy(documents) not in pod(documents)["containers"] or "restartPolicy" in proxy(documents):
        yield "it is no plain container"
    if "lifecycle" in proxy(documents):
        yield "the image has no shell for hooks, and old clusters know no sleep"


def one(documents, kind):
    [found] = of_kind(documents, kind)
    return found["spec"]


def labels(documents):
    return one(documents, "Deployment")["template"]["metadata"]["labels"]


def all_select_the_same_pods(documents):
    selectors = {
        "Deployment": one(documents, "Deployment")["selector"]["matchLabels"],
        "Service": one(documents, "Service")["selector"],
        "NetworkPolicy": one(documents, "NetworkPolicy")["podSelector"].get("matchLabels"),
        "PodDisruptionBudget": one(documents, "PodDisruptionBudget")["selector"]["matchLabels"],
        "PodMonitor": one(documents, "PodMonitor")["selector"]["matchLabels"],
    }
    for kind, selector in selectors.items():
        if not selector or not selector.items() <= labels(documents).items():
            yield f"{kind} selects {selector}"
    ports = {port["name"]: port["containerPort"] for port in proxy(documents)["ports"]}
    for port in one(documents, "Service")["ports"]:
        if ports.get(port["targetPort"]) != LISTEN or port["port"] != LISTEN:
            yield f"the service leads to {port['targetPort']}, not to {LISTEN} alone"


def the_network_lets_through_what_is_meant(documents):
    policy = one(documents, "NetworkPolicy")
    if sorted(policy.get("policyTypes", [])) != ["Egress", "Ingress"]:
        yield "one way is open"
    for rule in policy["ingress"]:
        ports = {port["port"] for port in rule.get("ports", [])}
        if not rule.get("from") or not ports or not ports <= {LISTEN, ADMIN}:
            yield f"anybody, or any port: {rule}"
            continue
        for peer in rule["from"]:
            if not peer.get("podSelector", {}).get("matchLabels"):
                yield f"whole namespaces come in: {peer}"
            prometheus = peer.get("podSelector", {}).get("matchLabels", {}).get("app.kubernetes.io/name") == "prometheus"
            if prometheus != (ports == {ADMIN}):
                yield f"metrics are for Prometheus, and it needs nothing else: {rule}"
    reached = set()
    for rule in policy["egress"]:
        ports = {port["port"] for port in rule.get("ports", [])}
        reached |= ports
        if not rule.get("to") or not ports:
            yield f"everywhere, or every port: {rule}"
            continue
        blocks = [peer["ipBlock"] for peer in rule["to"] if "ipBlock" in peer]
        if blocks and ports != {443}:
            yield f"the internet by other ports than 443: {ports}"
        kept = [ipaddress.ip_network(kept) for block in blocks for kept in block.get("except", [])]
        for inside in ("10.0.0.1", "172.16.0.1", "192.168.0.1", "169.254.169.254", "fd00::1"):
            if blocks and not any(ipaddress.ip_address(inside) in network for network in kept):
                yield f"{inside} can be reached"
    if reached != {53, 443, 6379}:
        yield f"egress to {sorted(reached)}"


def callers_may_use_every_name_of_the_service(documents):
    service = of_kind(documents, "Service")[0]["metadata"]
    name, namespace = service["name"], service["namespace"]
    names = [name, f"{name}.{namespace}", f"{name}.{namespace}.svc", f"{name}.{namespace}.svc.cluster.local"]
    if settings(documents)["listen"]["allowed_hosts"] != names:
        yield f"listen.allowed_hosts is not {names}"


def replicas_go_and_come_without_a_gap(documents):
    spec = one(documents, "Deployment")
    if "replicas" in spec:
        yield "whoever applies it undoes the autoscaler"
    if spec["strategy"]["rollingUpdate"]["maxUnavailable"] != 0:
        yield "an upgrade takes replicas away before there are others"
    scaler = one(documents, "HorizontalPodAutoscaler")
    if scaler["minReplicas"] < 2 or scaler["scaleTargetRef"]["name"] != of_kind(documents, "Deployment")[0]["metadata"]["name"]:
        yield "one replica alone may be all"
    budget = one(documents, "PodDisruptionBudget")
    if budget.get("maxUnavailable") != 1 or budget.get("unhealthyPodEvictionPolicy") != "AlwaysAllow":
        yield "a node cannot be drained, or all replicas at once"
    if settings(documents)["cache"]["store"] != "redis":
        yield "each replica logs in by itself"


def prometheus_finds_it_as_the_alerts_expect(documents):
    [monitor] = of_kind(documents, "PodMonitor")
    if "fluent-auth-proxy" not in monitor["metadata"]["name"]:
        yield "the alerts look for a job of another name"
    [endpoint] = monitor["spec"]["podMetricsEndpoints"]
    ports = {port["name"]: port["containerPort"] for port in proxy(documents)["ports"]}
    if ports.get(endpoint["port"]) != ADMIN or endpoint.get("path") != "/metrics":
        yield f"metrics are asked for at {endpoint}"
    if endpoint.get("honorLabels"):
        yield "the alerts and the dashboard count on exported_instance"


OVERLAYS = {
    "native-sidecar": [*EVERYWHERE, only_the_pod_reaches_the_sidecar, the_native_one_is_an_init_container_that_stays],
    "classic-sidecar": [*EVERYWHERE, only_the_pod_reaches_the_sidecar, the_classic_one_is_a_container_for_any_cluster],
    "shared": [
        *EVERYWHERE,
        all_select_the_same_pods,
        the_network_lets_through_what_is_meant,
        callers_may_use_every_name_of_the_service,
        replicas_go_and_come_without_a_gap,
        prometheus_finds_it_as_the_alerts_expect,
    ],
}
