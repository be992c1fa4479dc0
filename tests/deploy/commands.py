"""Commands whose word is wanted, and whose failure is one of the test."""

import subprocess

# How long a build may take, on a busy machine.
LONG = 3600


def output_of(*command, **more):
    done = subprocess.run(command, capture_output=True, text=True, **{"timeout": LONG, **more})
    if done.returncode:
        raise AssertionError(f"{command}: {done.stdout[-3000:]}{done.stderr[-3000:]}")
    return done.stdout
