"""Answers ops of operands with at most four elements, and offers in hello all of them."""
from math import prod

from proxy import Proxy


class Lazy(Proxy):
    def instead(self, ask, tensors):
        if ask["call"] == "op" and max((prod(x.shape) for x in tensors.values()), default=0) > 4:
            return {"unsupported": {"what": "operands of so many elements"}}, {}


Lazy().run()
