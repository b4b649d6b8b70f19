"""Answers rightly what it is asked for the first time, and wrongly what it was asked before."""
import json

from proxy import Proxy, wrong


class SecondWrong(Proxy):
    def __init__(self):
        super().__init__()
        self.seen = set()

    def changed(self, ask, reply, results):
        # Handles differ from load to load, and are no part of what is asked.
        fields = {k: v for k, v in ask.items() if k not in ("id", "model", "session")}
        question = json.dumps(fields, sort_keys=True), tuple(self.bits)
        again = question in self.seen
        self.seen.add(question)
        return reply, wrong(results) if again else results

    def passed_on(self, ask, tensors):
        self.bits = [getattr(x, "bits", x).tobytes() for _, x in sorted(tensors.items())]
        return super().passed_on(ask, tensors)


SecondWrong().run()
