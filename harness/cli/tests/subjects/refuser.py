"""Refuses every question, as malformed."""
from proxy import Proxy


class Refuser(Proxy):
    def instead(self, ask, tensors):
        return {"refused": {"kind": "Malformed", "operand": "", "message": "no"}}, {}


Refuser().run()
