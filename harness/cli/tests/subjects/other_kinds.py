"""Refuses what must be refused, by kinds of its own and without a place."""
from proxy import Proxy


class OtherKinds(Proxy):
    def changed(self, ask, reply, results):
        if "refused" in reply:
            reply["refused"] = {"kind": "ValueError", "message": reply["refused"]["message"]}
        return reply, results


OtherKinds().run()
