"""A machine with a real systemd as its first process, booted in under a second.

``systemd-nspawn`` starts this machine's own /usr with everything else empty and
in memory. The network is the host's, so the factory on loopback is in reach.
"""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from tests import needs
from tests.token_world import TokenWorld
from tests.world import World

_TOP: Final = Path(__file__).resolve().parent.parent
_BOOT: Final = r"""
set -eu
for hierarchy in /sys/fs/cgroup /sys/fs/cgroup/unified /sys/fs/cgroup/systemd; do
    if [ -e "$hierarchy/cgroup.procs" ]; then
        mkdir -p "$hierarchy/$CGROUP"
        echo $$ > "$hierarchy/$CGROUP/cgroup.procs"
    fi
done
mount -t tmpfs tmpfs /run  # systemd-nspawn wants it in memory
exec systemd-nspawn "$@"
"""
_PROBE: Final = """
[Unit]
Description=What the test asks of this machine
[Service]
Type=oneshot
ExecStart=/usr/bin/timeout 240 /bin/sh /probe/script
ExecStopPost=/bin/sh -c "systemctl --no-block poweroff >/dev/null 2>&1"
StandardOutput=append:/probe/output
StandardError=append:/probe/output
"""


def run(scratch: Path, units: Mapping[str, str], script: str, *, writable: Sequence[Path]) -> str:
    """Boot with ``units``, run ``script`` in a service, power off; what it printed."""
    needs.root_and("systemd-nspawn", "unshare", "mount")
    probe, unit_files = scratch / "probe", scratch / "units"
    probe.mkdir()
    unit_files.mkdir()
    (probe / "script").write_text(script)
    (probe / "output").touch()
    for name, text in {**units, "probe.service": _PROBE}.items():
        (unit_files / name).write_text(text)
    readable = {_TOP, Path(sys.prefix).resolve(), Path(sys.base_prefix).resolve()}
    options = [
        *("--quiet", "--directory=/", "--volatile=yes", "--boot", "--register=no"),
        *("--keep-unit", "--console=pipe", "--kill-signal=SIGRTMIN+3", "--machine=fioagent-test"),
        *("--bind-ro=/etc/resolv.conf", "--bind-ro=/etc/hosts", "--bind-ro=/etc/ssl"),
        *(f"--bind-ro={path}" for path in sorted(readable) if not path.is_relative_to("/usr")),
        *(f"--bind={path}" for path in writable),
        *(f"--bind={probe}:/probe", f"--bind-ro={unit_files}:/etc/systemd/system"),
    ]
    done = subprocess.run(
        [
            *("unshare", "-m", "--propagation", "private", "sh", "-c", _BOOT, "boot"),
            *(*options, "systemd.unit=probe.service"),
        ],
        env={**os.environ, "CGROUP": f"fioagent-{os.getpid()}"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    for group in Path("/sys/fs/cgroup").glob(f"**/fioagent-{os.getpid()}"):
        below = [path for path in group.rglob("*") if path.is_dir()]
        for directory in [*sorted(below, reverse=True), group]:
            with contextlib.suppress(OSError):  # the kernel empties it in its own time
                directory.rmdir()
    output = (probe / "output").read_text()
    assert output, f"no word in 240 s, or the machine did not boot: {done.stdout}{done.stderr}"
    return output


def shipped(world: World | TokenWorld, name: str, command: str | None = None) -> str:
    """A unit as it is shipped, for a device directory; ``command`` instead of its own."""
    text = (_TOP / "packaging" / "systemd" / name).read_text()
    text = text.replace("/var/sota", str(world.storage))
    text = text.replace("-/etc/sota", f"-{world.device.directory}/etc/sota")
    text = text.replace("-/run/secrets", f"-{world.device.env['SECRETS_DIR']}")
    # The tests' Python and files may lie in both.
    text = text.replace("ProtectHome=yes", "ProtectHome=read-only")
    text = text.replace("PrivateTmp=yes", "PrivateTmp=no")
    environ = "".join(f"Environment={k}={v}\n" for k, v in world.device.env.items())
    started = re.search(r"^ExecStart=/usr/bin/fioagent (.*)$", text, re.MULTILINE)
    if started is None:
        return text
    default = f"{sys.executable} -m fioagent {started[1]}"
    program = f"WorkingDirectory={_TOP}\n{environ}ExecStart={command or default}"
    return text.replace(started[0], program)
