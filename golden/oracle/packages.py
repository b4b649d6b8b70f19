"""What the oracle needs of other packages. It is asked before they are imported, so that a machine
without them gets one line with the command that installs them in place of a traceback.
"""

import json
import os
import struct
import sys
from importlib.util import find_spec
from pathlib import Path


def missing(requirements: str, *names: str) -> str | None:
    """Which of the packages `names` are not there, and what installs them; None: all are."""
    absent = [name for name in names if find_spec(name) is None]
    if not absent:
        return None
    file = os.path.relpath(Path(__file__).with_name(requirements))
    return f"no {' and no '.join(absent)} here: {sys.executable} -m pip install -r {file}"


def need(requirements: str, *names: str) -> None:
    """Ends the program where a package is missing. The harness, which asks hello first, gets the
    line as its answer (docs/wire.md, 3 and 4): a frame without tensors needs no package.
    """
    line = missing(requirements, *names)
    if line is None:
        return
    if os.environ.get("GOLDGATE_WIRE") != "1":
        sys.exit(line)
    source, sink = sys.stdin.buffer, sys.stdout.buffer
    source.read(struct.unpack("<Q", source.read(8))[0])
    failed = {"class": "internal", "sticky": True, "message": line}
    message = json.dumps({"id": 0, "failed": failed})
    header = json.dumps({"__metadata__": {"goldgate": message}}).encode()
    header += b" " * (-len(header) % 8)
    frame = struct.pack("<Q", len(header)) + header
    sink.write(struct.pack("<Q", len(frame)) + frame)
    sink.flush()
    sys.exit(1)
