"""Draws token 5 always, and says that its generator is its own."""
import numpy as np

from proxy import Proxy


class Liar(Proxy):
    def instead(self, ask, tensors):
        self.path = ask["path"] if ask["call"] == "load" else getattr(self, "path", None)

    def changed(self, ask, reply, results):
        if ask["call"] == "hello":
            reply["ok"]["ops"].pop("sample", None)
        if ask["call"] == "generate" and ask.get("temperature") and "ids" in results:
            results["ids"] = np.full_like(results["ids"], 5)
            words = {"id": ask["id"], "call": "detokenize", "path": self.path,
                     "skip_special": True}
            results |= self.passed_on(words, {"ids": results["ids"]})[1]
        return reply, results


Liar().run()
