"""Has no sessions, logits or tokenizer to ask: load, unload, generate, as a completions server."""
from proxy import Proxy

CALLS = ("load", "unload", "generate")


class Completions(Proxy):
    def instead(self, ask, tensors):
        if ask["call"] not in (*CALLS, "ping"):
            return {"unsupported": {"what": f"call {ask['call']}"}}, {}

    def changed(self, ask, reply, results):
        if ask["call"] == "hello":
            kept = ("wire", "subject", "device", "max_frame", "attach", "activations", "claims")
            reply["ok"] = {k: v for k, v in reply["ok"].items() if k in kept}
            reply["ok"]["calls"] = list(CALLS)
        return reply, results


Completions().run()
