"""A subject that passes every question on to another one, by default our own worker, and may answer
in its place or change its answers: `python3 liar.py [COMMAND…]`."""
import os
import subprocess
import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[4] / "docs/adapters"))

from goldwire import MAX_FRAME, Stored, Wire, bf16, floats


def wrong(results: dict) -> dict:
    """Tensors that are off by more than any bound allows, and have the shape that is expected."""
    def off(x):
        if isinstance(x, Stored):
            return bf16(floats(x) * 1.1 + 1)
        return (x * 1.1 + 1).astype(x.dtype) if x.dtype.kind == "f" else x[::-1] + x.dtype.type(1)

    return {name: off(x) for name, x in results.items()}


class Proxy:
    """Passes questions on. `instead` may answer one itself, `changed` may change an answer."""

    def __init__(self):
        self.front = Wire()
        command = sys.argv[1:] or ["goldgate", "worker", "--on", "cpu"]
        # A group of its own, so that it is no child that could be taken for one left behind.
        self.child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                      preexec_fn=os.setpgrp)
        self.back = Wire(self.child.stdout.fileno(), self.child.stdin.fileno())

    def instead(self, ask: dict, tensors: dict):
        """A message and its tensors in place of the answer, or None to pass the question on."""
        return None

    def changed(self, ask: dict, reply: dict, results: dict):
        """The answer that is given in place of the subject's own."""
        return reply, results

    def passed_on(self, ask: dict, tensors: dict):
        """The answer of the subject behind, without the events before it."""
        self.back.write(ask, tensors)
        while True:
            reply, results = self.back.read()
            if "event" not in reply:
                return reply, results

    def run(self) -> None:
        while (message := self.front.read()) is not None:
            ask, tensors = message
            answer = None if ask["call"] == "hello" else self.instead(ask, tensors)
            answer = answer or self.changed(ask, *self.passed_on(ask, tensors))
            if ask["call"] == "hello":
                for side in (self.front, self.back):
                    side.limit, side.scratch = MAX_FRAME, ask.get("scratch")
            self.front.write({"id": ask["id"], **{k: v for k, v in answer[0].items() if k != "id"}},
                             answer[1])
        self.back.sink.close()
        self.child.stdin.close()
        self.child.wait()
