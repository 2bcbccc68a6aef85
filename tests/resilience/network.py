"""Hosts on one machine: network namespaces with an address each, on one switch whose links can be cut."""

import os
import signal
import subprocess
from contextlib import suppress
from pathlib import Path

PREFIX = "10.77.0"
OURS = f"{PREFIX}.1"  # where the drill itself stands: its clients and the receiver of webhooks
SWITCH = "switch"


class Network:
    """A switch with hosts on it, in this process's own network namespace, with which all of it goes."""

    def __init__(self) -> None:
        # `ip netns` keeps its names in /run: in a file system of our own they are gone with it.
        _run("mount", "-t", "tmpfs", "none", "/run")
        _run("ip", "link", "set", "dev", "lo", "up")
        _run("ip", "link", "add", "name", SWITCH, "type", "bridge")
        _run("ip", "address", "add", f"{OURS}/24", "dev", SWITCH)
        _run("ip", "link", "set", "dev", SWITCH, "up")

    def add(self, name: str, address: str) -> None:
        """Add a host. Its end of the cable is eth0, the switch's is named like the host."""
        _run("ip", "netns", "add", name)
        _run("ip", "link", "add", "name", name, "type", "veth", "peer", "name", "eth0", "netns", name)
        _run("ip", "link", "set", "dev", name, "master", SWITCH, "up")
        _run("ip", "-n", name, "address", "add", f"{address}/24", "dev", "eth0")
        for device in ("lo", "eth0"):
            _run("ip", "-n", name, "link", "set", "dev", device, "up")

    def cut(self, name: str) -> None:
        """Pull a host's cable: what either side sends is lost, and nobody is told."""
        _run("ip", "link", "set", "dev", name, "down")

    def mend(self, name: str) -> None:
        """Plug it in again."""
        _run("ip", "link", "set", "dev", name, "up")

    def kill(self, name: str) -> None:
        """Kill all that runs on a host."""
        for pid in _run("ip", "netns", "pids", name).split():
            with suppress(ProcessLookupError):
                os.kill(int(pid), signal.SIGKILL)

    def remove(self, name: str) -> None:
        """Take a host away with its cable, and whatever its kernel still wanted to send."""
        _run("ip", "netns", "delete", name)


def on(host: str, command: list[str]) -> list[str]:
    """Return the command that runs a command on a host."""
    return ["ip", "netns", "exec", host, *command]


def small_disk(folder: Path, kib: int) -> None:
    """Mount an empty disk of so many KiB at a folder."""
    folder.mkdir()
    _run("mount", "-t", "tmpfs", "-o", f"size={kib}k,mode=0755", "none", str(folder))


def _run(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}: {done.stderr.strip()}")
    return done.stdout
