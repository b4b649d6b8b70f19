"""Gives a wrong answer to every third question that has tensors in its answer."""
from proxy import Proxy, wrong


class Flaky(Proxy):
    answers = 0

    def changed(self, ask, reply, results):
        self.answers += bool(results)
        return reply, wrong(results) if results and self.answers % 3 == 0 else results


Flaky().run()
