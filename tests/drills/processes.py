"""Loader workers and ranks that are killed, and machines that are cut off."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from PIL import Image

from tests.drills.runner import (
    OVERRIDES,
    ROOT,
    SHARED,
    Outcome,
    differences,
    finish,
    log_of,
    run_uninterrupted,
    start,
    stop,
    wait_until,
)

TORCHRUN = (sys.executable, "-m", "torch.distributed.run")

DOWN_SECONDS, TIMEOUT_SECONDS = 40, 20
"""Seconds for which the link is down, and after which a collective times out."""


def children(pid: int) -> list[int]:
    """Returns the child processes of a process."""
    found = subprocess.run(["ps", "--ppid", str(pid), "-o", "pid="], capture_output=True, text=True).stdout
    return [int(word) for word in found.split()]


def worker_killed(place: Path) -> Outcome:
    """A loader worker is killed; the run resumes from its last checkpoint."""
    for split, count in (("train", 40), ("val", 8)):
        for i in range(count):
            path = place / "images" / split / ("dark", "light")[i % 2] / f"{i}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (32, 32), (60 + 120 * (i % 2) + i,) * 3).save(path)
    run_uninterrupted("image folder", place / "loaded")
    folder = place / "worker"
    process = start("image folder", folder)
    wait_until(process, folder, "epoch 2/")
    for pid in children(process.pid)[:1]:
        os.kill(pid, signal.SIGKILL)
    code = process.wait()
    retried = "DataLoader worker" in log_of(folder).read_text()
    equal = code == 0 and retried and not differences(place / "loaded", folder)
    return Outcome("a loader worker killed", "image folder", 1, int(equal), 1, "time since the last checkpoint")


def signalled(kind: str, uninterrupted: Path, place: Path) -> Outcome:
    """The run is stopped by SIGTERM and SIGINT, and resumed each time."""
    folder, codes = place / "signalled", []
    for signum in (signal.SIGTERM, signal.SIGINT, signal.SIGTERM):
        process = start(kind, folder)
        wait_until(process, folder, "epoch ")
        codes.append(stop(process, signum))
    finish(kind, folder)
    equal = codes == [143, 130, 143] and not differences(uninterrupted, folder)
    return Outcome("SIGTERM and SIGINT", kind, 3, int(equal), 1, "nothing")


def group(kind: str, folder: Path, *agent: str) -> list[str]:
    """Returns torchrun's command line for two ranks of a task."""
    ddp = ["trainer=ddp", "trainer.accelerator=cpu", "checkpoint_every=0.3s", "resume=auto"]
    return [*TORCHRUN, *agent, str(ROOT / "train.py"), *SHARED, *OVERRIDES[kind], *ddp, f"run_dir={folder}"]


def launch(words: list[str], folder: Path, name: str = "", **environment: str) -> subprocess.Popen:
    log = log_of(folder.with_name(folder.name + name))
    inherited = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    with log.open("a") as file:
        return subprocess.Popen(words, stdout=file, stderr=file, cwd=folder.parent, env=inherited | environment)


def rank_killed(kind: str, place: Path) -> Outcome:
    """One of two ranks under torchrun is killed; torchrun restarts both, and they resume."""
    one = ("--standalone", "--nproc_per_node=2", "--max_restarts=2")
    first, second = place / "both", place / "one-killed"
    if launch(group(kind, first, *one), first).wait():
        raise RuntimeError(log_of(first).read_text()[-2000:])
    agent = launch(group(kind, second, *one), second)
    wait_until(agent, second, "epoch 2/")
    os.kill(children(agent.pid)[-1], signal.SIGKILL)
    code = agent.wait()
    equal = code == 0 and not differences(first, second)
    return Outcome("one of two ranks killed under torchrun", kind, 1, int(equal), 1, "time since the last checkpoint")


@contextmanager
def two_hosts() -> Iterator[tuple[str, str]]:
    """Makes two network namespaces joined by a link; needs the permission to."""
    hosts = ("resmet-a", "resmet-b")
    made = [["ip", "netns", "add", host] for host in hosts]
    link = "link add cable-a netns resmet-a type veth peer name cable-b netns resmet-b"
    made.append(["ip", *link.split()])
    for number, host in enumerate(hosts, 1):
        inside = ["ip", "-n", host]
        made.append([*inside, "addr", "add", f"192.168.77.{number}/24", "dev", f"cable-{host[-1]}"])
        made += [[*inside, "link", "set", f"cable-{host[-1]}", "up"], [*inside, "link", "set", "lo", "up"]]
    try:
        for words in made:
            subprocess.run(words, check=True)
        yield hosts
    finally:
        for host in hosts:
            subprocess.run(["ip", "netns", "del", host], check=False)


def host_cut_off(kind: str, place: Path) -> Outcome:
    """Two machines train together; the link is down for some seconds, the agents are started again, and the run resumes."""
    first, second = place / "connected", place / "disconnected"
    with two_hosts() as hosts:
        run_on_both(kind, first, hosts, "uninterrupted", None)
        run_on_both(kind, second, hosts, "broken", "cable-b")
    equal = not differences(first, second)
    drill = f"one of two machines cut off for {DOWN_SECONDS} s, then reconnected"
    return Outcome(drill, kind, 1, int(equal), 1, "time since the last checkpoint")


def run_on_both(kind: str, folder: Path, hosts: tuple[str, str], name: str, cable: str | None) -> None:
    """Does a run on both hosts; a `cable` that is given is set down after an epoch, and up again."""
    agents = start_agents(kind, folder, hosts, f"{name}-0")
    if cable:
        wait_until(agents[0], folder.with_name(f"{folder.name}0"), "epoch 1/")
        set_link(hosts[1], cable, "down")
        time.sleep(DOWN_SECONDS)
        set_link(hosts[1], cable, "up")
    for attempt in range(1, 6):
        if not any(watch(agents)):
            return
        agents = start_agents(kind, folder, hosts, f"{name}-{attempt}")
    raise RuntimeError(log_of(folder.with_name(f"{folder.name}0")).read_text()[-3000:])


def watch(agents: list[subprocess.Popen]) -> list[int]:
    """Returns the agents' exit codes; terminates all of them when one has failed, as a cluster's scheduler does."""
    while any(agent.poll() is None for agent in agents):
        if any(agent.poll() for agent in agents):
            for agent in agents:
                agent.terminate()
        time.sleep(0.5)
    return [agent.wait() for agent in agents]


def set_link(host: str, cable: str, state: str) -> None:
    subprocess.run(["ip", "-n", host, "link", "set", cable, state], check=True)


def start_agents(kind: str, folder: Path, hosts: tuple[str, str], name: str) -> list[subprocess.Popen]:
    agents = []
    for number, host in enumerate(hosts):
        words = "--nnodes=2 --nproc_per_node=1 --max_restarts=2 --rdzv_backend=c10d --rdzv_endpoint=192.168.77.1:29511"
        own = (f"--rdzv_id={name}", f"--rdzv_conf=is_host={int(number == 0)}", f"--local_addr=192.168.77.{number + 1}")
        command = ["ip", "netns", "exec", host, *group(kind, folder, *words.split(), *own)]
        environment = {"GLOO_SOCKET_IFNAME": f"cable-{host[-1]}", "RESMET_WAIT": str(TIMEOUT_SECONDS)}
        agents.append(launch(command, folder, str(number), **environment, HOSTNAME=socket.gethostname()))
    return agents
