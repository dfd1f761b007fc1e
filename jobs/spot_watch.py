"""Drain this node when the cloud announces that it takes it back.

Nothing in Ray watches for these notices. Once a node drains, Ray starts no new work on it, Ray Train tells its workers
(ray.train.get_preemption_info), and whatever runs may finish until the deadline; shards that do not finish in time are
done again elsewhere. Only the standard library and Ray's command line: it runs beside Ray, outside any job.

    python jobs/spot_watch.py --cloud aws        on a node, for as long as it lives
    python jobs/spot_watch.py --now --grace 100  in a pod's preStop hook: drain, then hold the pod while work runs on it
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
import urllib.error
import urllib.request
from datetime import datetime
from pathlib import Path

METADATA = {"aws": "http://169.254.169.254", "gcp": "http://metadata.google.internal"}
GCP_GRACE = 30.0  # seconds between a Compute Engine notice and the end of the node
MARGIN = 5.0  # seconds of the grace time left to Ray for its own goodbye
TRIES = 5
QUIET = 3  # looks in a row that find no work before the pod may go: a task may just be starting
AGENTS = ("ray::IDLE", "ray::DashboardAgent", "ray::RuntimeEnvAgent")  # titles of Ray's own processes, and idle workers


def get(url: str, headers: dict[str, str], method: str = "GET") -> str | None:
    """The body, or None where there is no such page (no notice yet). Raises OSError when nobody answers."""
    request = urllib.request.Request(url, headers=headers, method=method)
    try:
        with urllib.request.urlopen(request, timeout=2) as reply:
            return reply.read().decode()
    except urllib.error.HTTPError as error:
        if error.code == 404:
            return None
        raise


def aws_notice(base: str, now: float) -> float | None:
    """Seconds until EC2 takes the node, or None. Uses version 2 of the metadata service (a session token)."""
    token = get(f"{base}/latest/api/token", {"X-aws-ec2-metadata-token-ttl-seconds": "60"}, "PUT") or ""
    body = get(f"{base}/latest/meta-data/spot/instance-action", {"X-aws-ec2-metadata-token": token})
    if body is None:
        return None
    return datetime.fromisoformat(json.loads(body)["time"]).timestamp() - now


def gcp_notice(base: str, now: float) -> float | None:
    """Seconds until Compute Engine takes the node, or None."""
    body = get(f"{base}/computeMetadata/v1/instance/preempted", {"Metadata-Flavor": "Google"})
    return GCP_GRACE if (body or "").strip().upper() == "TRUE" else None


NOTICES = {"aws": aws_notice, "gcp": gcp_notice}


def wait(cloud: str, base: str, interval: float) -> float:
    """Ask every `interval` seconds until there is a notice; return the seconds left."""
    silent = False
    while True:
        try:
            left = NOTICES[cloud](base, time.time())
        except OSError as error:  # no answer now; the service restarts now and then
            if not silent:
                print(f"spot_watch: no answer from {base} ({error}); asking on", flush=True)
            silent, left = True, None
        else:
            silent = False
        if left is not None:
            return left
        time.sleep(interval)


def drain(seconds: float, reason: str, ray_options: list[str]) -> None:
    """Drain this node with `seconds` to go. Raises RuntimeError when Ray refuses `TRIES` times."""
    command = [sys.executable, "-m", "ray.scripts.scripts", "drain-node"]
    command += ["--reason", "DRAIN_NODE_REASON_PREEMPTION", "--reason-message", reason]
    end, said = time.monotonic() + max(seconds - MARGIN, 1), ""
    for _ in range(TRIES):
        left = str(max(int(end - time.monotonic()), 1))
        done = subprocess.run(
            [*command, "--deadline-remaining-seconds", left, *ray_options], capture_output=True, text=True
        )
        if done.returncode == 0:
            print(f"spot_watch: draining ({reason}), {left} seconds to go", flush=True)
            return
        said = done.stderr
        time.sleep(1)
    raise RuntimeError(f"ray drain-node failed {TRIES} times: {said}")


def works(processes: Path = Path("/proc")) -> bool:
    """Whether a task or an actor of Ray runs on this machine: Ray gives its process the title `ray::NAME`."""
    for file in processes.glob("[0-9]*/cmdline"):
        try:
            title = file.read_bytes().split(b"\0")[0].decode(errors="replace")
        except (FileNotFoundError, ProcessLookupError):
            continue  # it ended meanwhile
        if title.startswith("ray::") and not title.startswith(AGENTS):
            return True
    return False


def hold(seconds: float) -> None:
    """Return when nothing has run here for QUIET looks, a second apart, and after `seconds` in any case."""
    end, quiet = time.monotonic() + seconds, 0
    while quiet < QUIET and time.monotonic() < end:
        quiet = 0 if works() else quiet + 1
        time.sleep(1)


def main(arguments: list[str] | None = None) -> None:
    formatter = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(prog="spot_watch", description=__doc__, formatter_class=formatter)
    when = parser.add_mutually_exclusive_group(required=True)
    when.add_argument("--cloud", choices=sorted(NOTICES), help="wait for this cloud's notice")
    when.add_argument("--now", action="store_true", help="drain at once, then wait for what runs")
    parser.add_argument("--grace", type=float, default=100, help="most seconds to wait, with --now (default 100)")
    parser.add_argument("--metadata", help="address of the metadata service (default: the cloud's)")
    parser.add_argument("--interval", type=float, default=5, help="seconds between questions (default 5)")
    parser.add_argument("--address", help="Ray's address (default: the Ray on this node)")
    parser.add_argument("--node-id", help="the node to drain (default: this one)")
    options = parser.parse_args(arguments)
    ray_options = [f"--address={options.address}"] if options.address else []
    ray_options += [f"--node-id={options.node_id}"] if options.node_id else []
    if options.now:
        end = time.monotonic() + options.grace
        drain(options.grace, "the pod is being deleted", ray_options)
        hold(end - time.monotonic())
    else:
        left = wait(options.cloud, options.metadata or METADATA[options.cloud], options.interval)
        drain(left, f"{options.cloud} takes the node back in {left:.0f} s", ray_options)


if __name__ == "__main__":
    main()
