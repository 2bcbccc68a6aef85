"""A container runs as any user, with a read-only root and without capabilities; here as Cog's server in such a root."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from gateway.serve.processes import free_port
from local import ROOT
from tests.contract.test_container import CONFIGS, config, copy_of_the_build

SANDBOX = str(ROOT / "tests" / "contract" / "locked_up.sh")
ASK = """
import json, os, subprocess, sys, time, urllib.error, urllib.request
from pathlib import Path

def ask(path, body=None):
    url, content = "http://127.0.0.1:" + os.environ["PORT"] + path, body and json.dumps(body).encode()
    request = urllib.request.Request(url, content, {"Content-Type": "application/json"})
    return json.load(urllib.request.urlopen(request))

status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
found = {"user": os.getuid(), "capabilities": [int(status[name], 16) for name in ("CapEff", "CapPrm", "CapBnd")]}
found["written"] = []
for folder in ("/", "/etc", "/src", "/tmp"):
    try:
        Path(folder, "a").write_text("a")
        found["written"].append(folder)
    except OSError:
        pass
server = subprocess.Popen(["python", "-m", "cog.server.http", "--host", "127.0.0.1"])
health = {"status": "STARTING"}
while health["status"] == "STARTING" and server.poll() is None:
    time.sleep(0.2)
    try:
        health = ask("/health-check")
    except urllib.error.URLError:
        continue
found["health"] = health
if health["status"] == "READY":
    found["prediction"] = ask("/predictions", {"input": {}})
    found["probe"] = subprocess.run(["python", "-m", "lib.probe"]).returncode
server.terminate()
server.wait()
print(json.dumps(found))
"""


@pytest.mark.slow
@pytest.mark.skipif(os.geteuid() != 0, reason="only root can create a root file system")
def test_a_user_without_name_or_capabilities_makes_a_clip(tmp_path: Path) -> None:
    source, root = tmp_path / "src", tmp_path / "root"
    root.mkdir()
    copy_of_the_build(source)
    (source / ".cog").mkdir()
    shutil.copy(ROOT / "schema" / "riffusion.openapi.json", source / ".cog" / "openapi_schema.json")
    assert (source / CONFIGS["riffusion"]).exists()

    prefix = Path(sys.prefix)
    environment = [
        *config("riffusion")["environment"],
        "WEIGHTS=small",  # overrides the config's
        "HF_HUB_OFFLINE=1",
        "OMP_NUM_THREADS=1",
        f"COG_PREDICT_TYPE_STUB={config('riffusion')['run']}",
        f"PATH={prefix / 'bin'}:/usr/bin:/bin",
        f"PORT={free_port()}",
    ]
    unshared = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "bash", SANDBOX, str(root), str(source)]
    ended = subprocess.run(
        [*unshared, "--ignore-environment", *environment, "python", "-c", ASK],
        env={"PATH": os.environ["PATH"], "KEEP": f"{prefix}:{prefix.resolve()}:{sys.base_prefix}"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    found = json.loads(ended.stdout.splitlines()[-1])
    assert found["health"]["status"] == "READY", found["health"]
    assert (found["user"], found["capabilities"]) == (1000, [0, 0, 0])
    assert found["written"] == ["/tmp"]  # noqa: S108
    assert found["prediction"]["status"] == "succeeded", found["prediction"]
    assert found["prediction"]["output"]["audio"].startswith("data:audio/x-wav;base64,")
    assert found["probe"] == 0
