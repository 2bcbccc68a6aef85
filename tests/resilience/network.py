"""Hosts on one machine: network namespaces with an address each, on one switch whose cables can be cut."""

import os
import signal
import subprocess
from contextlib import suppress
from pathlib import Path

PREFIX = "10.77.0"
OURS = f"{PREFIX}.1"  # the address of the test itself: its clients and its receiver of webhooks
SWITCH = "switch"


class Network:
    """A switch with hosts, in this process's own network namespace; all of it disappears with that."""

    def __init__(self) -> None:
        # `ip netns` keeps its names in /run; in a file system of our own they disappear with it.
        _run("mount", "-t", "tmpfs", "none", "/run")
        _run("ip", "link", "set", "dev", "lo", "up")
        _run("ip", "link", "add", "name", SWITCH, "type", "bridge")
        _run("ip", "address", "add", f"{OURS}/24", "dev", SWITCH)
        _run("ip", "link", "set", "dev", SWITCH, "up")

    def add(self, name: str, address: str) -> None:
        """Add a host. Its end of the cable is called eth0; the end at the switch has the name of the host."""
        _run("ip", "netns", "add", name)
        _run("ip", "link", "add", "name", name, "type", "veth", "peer", "name", "eth0", "netns", name)
        _run("ip", "link", "set", "dev", name, "master", SWITCH, "up")
        _run("ip", "-n", name, "address", "add", f"{address}/24", "dev", "eth0")
        for device in ("lo", "eth0"):
            _run("ip", "-n", name, "link", "set", "dev", device, "up")

    def cut(self, name: str) -> None:
        _run("ip", "link", "set", "dev", name, "down")

    def repair(self, name: str) -> None:
        _run("ip", "link", "set", "dev", name, "up")

    def kill(self, name: str) -> None:
        for pid in _run("ip", "netns", "pids", name).split():
            with suppress(ProcessLookupError):
                os.kill(int(pid), signal.SIGKILL)

    def remove(self, name: str) -> None:
        _run("ip", "netns", "delete", name)


def on(host: str, command: list[str]) -> list[str]:
    return ["ip", "netns", "exec", host, *command]


def small_disk(folder: Path, kib: int) -> None:
    folder.mkdir()
    _run("mount", "-t", "tmpfs", "-o", f"size={kib}k,mode=0755", "none", str(folder))


def _run(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}: {done.stderr.strip()}")
    return done.stdout
