"""A machine to install things on: this one, below a layer that takes all changes and is thrown away, with a network of its
own. It may be booted: then systemd is its first process, as in any container, and no service of this machine runs in it."""

import re
import subprocess

from commands import output_of
from pods import Network, Node, wait

# What dpkg and its helpers keep for themselves.
THEIRS = re.compile(r"/(var/lib/(dpkg|systemd/deb-systemd-helper-\w+)|var/log|var/cache|etc/ld\.so\.cache)(/|$)")
LAYER = """
    mount -t tmpfs layer $1/layer
    mkdir $1/layer/upper $1/layer/work
    mount -t overlay -o lowerdir=/,upperdir=$1/layer/upper,workdir=$1/layer/work root $1/root
    mount -t tmpfs -o mode=1777 tmp $1/root/tmp
    for kernels in proc sys dev; do mount --rbind /$kernels $1/root/$kernels; done
    echo mounted
    exec sleep inf
"""
# The kernel's own is out of its reach: devices, settings, and control groups above its own.
GROUP = """
    mount -t cgroup2 groups $1/groups
    mkdir $1/groups/$2
    echo $$ >$1/groups/$2/cgroup.procs
    exec unshare --cgroup --pid --fork --kill-child --uts --ipc --mount --propagation=private sh -ec "$3" sh $1/root
"""
BOOT = """
    cd $1
    umount --lazy proc sys dev
    mount -t proc proc proc
    mount --bind proc/sys proc/sys
    mount -o remount,bind,ro proc/sys
    mount -t sysfs -o ro sys sys
    mount -t cgroup2 groups sys/fs/cgroup
    mount -t tmpfs -o mode=755 run run
    mount -t tmpfs -o mode=755 dev dev
    for device in null zero full random urandom tty; do
        touch dev/$device
        mount --bind /dev/$device dev/$device
    done
    mkdir dev/pts dev/shm
    mount -t devpts -o newinstance,ptmxmode=0666 pts dev/pts
    ln -s pts/ptmx dev/ptmx
    ln -s /proc/self/fd dev/fd
    pivot_root . mnt
    umount --lazy mnt
    # Credentials come to services by mounts that spread.
    mount --make-rshared /
    exec env --ignore-environment container=test PATH=/usr/sbin:/usr/bin /lib/systemd/systemd --unit=bare.target
"""


class Machine:
    def __init__(self):
        self.node = Node()
        for name in ("root", "layer", "groups"):
            (self.node.folder / name).mkdir()
        self.network = Network(self.node)
        command = ["unshare", "--mount", "--propagation=private", "sh", "-ec", LAYER, "sh", str(self.node.folder)]
        holder = self.network.start(*command, stdout=subprocess.PIPE)
        assert holder.stdout.readline() == b"mounted\n"
        holder.stdout.close()
        self.outside = ["nsenter", f"--target={holder.pid}", "--mount", "--net"]
        self.inside = [*self.outside, "chroot", str(self.node.folder / "root")]
        self.first = None

    def boot(self):
        # Images of containers have it, to say that no service may be started.
        self.run("rm", "--force", "/usr/sbin/policy-rc.d")
        self.write("/etc/systemd/system/bare.target", "[Unit]\nRequires=basic.target\nAfter=basic.target\n")
        self.group = f"machine-{self.node.folder.name}"
        self.first = self.node.start([*self.outside, "sh", "-ec", GROUP, "sh", str(self.node.folder), self.group, BOOT])
        child = wait(lambda: systemd_below(self.first.pid))
        namespaces = ["--mount", "--net", "--pid", "--ipc", "--uts", "--cgroup", "--root", "--wd"]
        self.inside = ["nsenter", f"--target={child}", *namespaces]
        wait(lambda: self.succeeds("systemctl", "is-active", "bare.target"))

    def close(self):
        if self.first:
            self.first.kill()
            self.first.wait()
            # A group can go when the last of its processes has.
            gone = ["find", str(self.node.folder / "groups" / self.group), "-depth", "-type", "d", "-delete"]
            wait(lambda: subprocess.run([*self.outside, *gone], stderr=subprocess.DEVNULL, timeout=60).returncode == 0)
        self.node.close()

    def run(self, *command, **more):
        return output_of(*self.inside, *command, timeout=120, **more)

    def succeeds(self, *command):
        return subprocess.run([*self.inside, *command], capture_output=True, timeout=120).returncode == 0

    def write(self, path, text):
        self.run("tee", path, input=text)

    def copy(self, source, path):
        with source.open("rb") as file:
            subprocess.run([*self.inside, "tee", path], stdin=file, stdout=subprocess.DEVNULL, check=True, timeout=60)

    def dpkg(self, *arguments):
        """Triggers are for others, and that of man-db takes long."""
        return self.run("dpkg", "--no-triggers", *arguments)

    def shown(self, unit, *properties):
        """What systemd says of it."""
        return [self.run("systemctl", "show", "--value", f"--property={name}", unit).strip() for name in properties]

    def status_of(self, url, *more):
        command = ["curl", "--silent", "--max-time", "10", "--output", "/dev/null", "--write-out", "%{http_code}", *more]
        return subprocess.run([*self.inside, *command, url], capture_output=True, text=True, timeout=30).stdout

    def changed(self):
        """All files that are not as they were, gone ones too, but for what dpkg keeps for itself."""
        upper = self.node.folder / "layer" / "upper"
        listed = subprocess.run(
            [*self.outside, "find", str(upper), "-not", "-type", "d", "-printf", "/%P\n"],
            capture_output=True, text=True, check=True, timeout=60,
        )  # fmt: skip
        return sorted(path for path in listed.stdout.splitlines() if not THEIRS.match(path))


def systemd_below(pid):
    with open(f"/proc/{pid}/task/{pid}/children") as told:
        children = told.read().split()
    for child in children:
        with open(f"/proc/{child}/comm") as name:
            if name.read() == "systemd\n":
                return child
