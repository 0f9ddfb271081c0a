"""Worker processes and ranks that are killed, and machines that are cut off."""

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

from tests.drills.runner import ROOT, SHARED, WORDS, Outcome, differences, end, log_of, start, stop, wait_until
from tests.drills.runner import whole as run_whole

TORCHRUN = (sys.executable, "-m", "torch.distributed.run")

CUT, PATIENCE = 40, 20
"""Seconds for which the cable is out, and after which the processes take each other to be gone."""


def children(pid: int) -> list[int]:
    """The processes that a process started."""
    found = subprocess.run(["ps", "--ppid", str(pid), "-o", "pid="], capture_output=True, text=True).stdout
    return [int(word) for word in found.split()]


def worker_killed(place: Path) -> Outcome:
    """A process that loads data is killed; another takes its place."""
    for split, count in (("train", 40), ("val", 8)):
        for i in range(count):
            path = place / "drawn" / split / ("dark", "light")[i % 2] / f"{i}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (32, 32), (60 + 120 * (i % 2) + i,) * 3).save(path)
    run_whole("pictures", place / "loaded")
    folder = place / "worker"
    process = start("pictures", folder)
    wait_until(process, folder, "epoch 2/")
    for pid in children(process.pid)[:1]:
        os.kill(pid, signal.SIGKILL)
    code = process.wait()
    said = "new ones go on with that batch" in log_of(folder).read_text()
    equal = code == 0 and said and not differences(place / "loaded", folder)
    return Outcome("a data worker killed", "pictures in a folder", 1, int(equal), 1, "nothing")


def signalled(kind: str, whole: Path, place: Path) -> Outcome:
    """SIGTERM, SIGINT, and started again each time."""
    folder, codes = place / "signalled", []
    for signum in (signal.SIGTERM, signal.SIGINT, signal.SIGTERM):
        process = start(kind, folder)
        wait_until(process, folder, "epoch ")
        codes.append(stop(process, signum))
    end(kind, folder)
    equal = codes == [143, 130, 143] and not differences(whole, folder)
    return Outcome("SIGTERM and SIGINT", kind, 3, int(equal), 1, "nothing")


def group(kind: str, folder: Path, *agent: str) -> list[str]:
    """torchrun's command line for two processes of a task."""
    task = [
        str(ROOT / "train.py"),
        *SHARED,
        *WORDS[kind],
        "trainer=ddp",
        "trainer.accelerator=cpu",
        "checkpoint_every=0.3s",
    ]
    return [*TORCHRUN, *agent, *task, f"run_dir={folder}", "resume=auto"]


def launch(words: list[str], folder: Path, name: str = "", **environment: str) -> subprocess.Popen:
    log = log_of(folder.with_name(folder.name + name))
    inherited = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    with log.open("a") as file:
        return subprocess.Popen(words, stdout=file, stderr=file, cwd=folder.parent, env=inherited | environment)


def rank_killed(kind: str, place: Path) -> Outcome:
    """One of two processes under torchrun is killed; all are started anew and go on."""
    one = ("--standalone", "--nproc_per_node=2", "--max_restarts=2")
    first, second = place / "together", place / "bereft"
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
    """Two network namespaces joined by a cable; needs the right to make them."""
    hosts = ("resmet-a", "resmet-b")
    made = [["ip", "netns", "add", host] for host in hosts]
    made.append(
        [
            "ip",
            "link",
            "add",
            "cable-a",
            "netns",
            hosts[0],
            "type",
            "veth",
            "peer",
            "name",
            "cable-b",
            "netns",
            hosts[1],
        ]
    )
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
    """Two machines train together; the cable is pulled for some seconds, the agents are started again, the run goes on."""
    first, second = place / "wired", place / "unplugged"
    with two_hosts() as hosts:
        across(kind, first, hosts, "whole", None)
        across(kind, second, hosts, "broken", "cable-b")
    equal = not differences(first, second)
    return Outcome(
        "one of two machines cut off and brought back", kind, 1, int(equal), 1, "time since the last checkpoint"
    )


def across(kind: str, folder: Path, hosts: tuple[str, str], name: str, cable: str | None) -> None:
    """A run over both hosts; where `cable` is named it is pulled after an epoch, and plugged in again."""
    agents = start_agents(kind, folder, hosts, f"{name}-0")
    if cable:
        wait_until(agents[0], folder.with_name(f"{folder.name}0"), "epoch 1/")
        plug(hosts[1], cable, "down")
        time.sleep(CUT)
        plug(hosts[1], cable, "up")
    for attempt in range(1, 6):
        if not any(watch(agents)):
            return
        agents = start_agents(kind, folder, hosts, f"{name}-{attempt}")
    raise RuntimeError(log_of(folder.with_name(f"{folder.name}0")).read_text()[-3000:])


def watch(agents: list[subprocess.Popen]) -> list[int]:
    """The agents' exit codes; as whoever watches over machines would, end them all when one has failed."""
    while any(agent.poll() is None for agent in agents):
        if any(agent.poll() for agent in agents):
            for agent in agents:
                agent.terminate()
        time.sleep(0.5)
    return [agent.wait() for agent in agents]


def plug(host: str, cable: str, state: str) -> None:
    subprocess.run(["ip", "-n", host, "link", "set", cable, state], check=True)


def start_agents(kind: str, folder: Path, hosts: tuple[str, str], name: str) -> list[subprocess.Popen]:
    agents = []
    for number, host in enumerate(hosts):
        words = (
            "--nnodes=2",
            "--nproc_per_node=1",
            "--rdzv_backend=c10d",
            "--rdzv_endpoint=192.168.77.1:29511",
            f"--rdzv_id={name}",
            f"--rdzv_conf=is_host={int(number == 0)}",
            f"--local_addr=192.168.77.{number + 1}",
            "--max_restarts=2",
        )
        command = ["ip", "netns", "exec", host, *group(kind, folder, *words)]
        agents.append(
            launch(
                command,
                folder,
                str(number),
                GLOO_SOCKET_IFNAME=f"cable-{host[-1]}",
                RESMET_WAIT=str(PATIENCE),
                HOSTNAME=socket.gethostname(),
            )
        )
    return agents
