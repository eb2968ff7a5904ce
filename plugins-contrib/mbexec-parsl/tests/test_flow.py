"""What is sent to which worker, where one of two takes whatever tells workers to get ready."""

from __future__ import annotations

import pickle
from concurrent.futures import Future
from types import SimpleNamespace

from attrs import define, field
from mbexec_parsl.flow import Flow, Traffic

from mbexec.testing.trial import Trial


@define
class Pool:
    """Of two workers, one takes all without tasks, and the other, which never got ready, the first that has any."""

    sent: list[dict] = field(factory=list)
    known: dict[str, set[str]] = field(factory=dict)
    site: SimpleNamespace = field(factory=lambda: SimpleNamespace(most=2))

    def workers(self):
        return 2

    def check(self):
        pass

    def submit(self, data, *, urgent):
        message = pickle.loads(data)
        worker = "slow" if "tasks" in message and not any("tasks" in each for each in self.sent) else "quick"
        self.sent.append(message)
        answer = {"worker": worker, "need": worker == "slow" and "blob" not in message, "results": [], "took": 0.01}
        if "blob" in message:
            answer["versions"] = {}
        if "tasks" in message and not answer["need"]:
            answer["results"] = [pickle.dumps((task[0],)) for task in message["tasks"]]
            answer["left"] = []
        future = Future()
        future.set_result(pickle.dumps(answer))
        return future


def test_a_worker_that_is_not_ready_can_run_what_it_gets():
    """Tasks bring the context until all workers have it, so that none is idle until somebody looks at what it said."""
    trial, pool = Trial(["plain"] * 12), Pool()
    results = list(Flow(trial.level, trial.work, pool, 0.2, Traffic()).results())
    assert sorted(result.index for result in results) == sorted(task.index for task in trial.plan)
    tasks = [message for message in pool.sent if "tasks" in message]
    assert ["blob" in tasks[0], "blob" in tasks[-1]] == [True, False]
    assert sum(len(message["tasks"]) for message in tasks) == len(trial.plan)  # nothing went twice
    assert pool.known[trial.work.key] == {"quick", "slow"}
