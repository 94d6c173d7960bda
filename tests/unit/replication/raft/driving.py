"""Asking the driver in Python."""

import json
from typing import Any

from vecdb_replication.driver.session import Session

Json = dict[str, Any]


class Driver:
    """A session that is asked in Python and checks that its answers are JSON lines."""

    def __init__(self) -> None:
        self.session = Session()

    def __call__(self, op: str, **fields: Any) -> Json:
        line = self.session.answer(json.dumps({"op": op, **fields}).encode())
        assert "\n" not in line
        reply: Json = json.loads(line)
        assert isinstance(reply["ok"], bool)
        return reply

    def refused(self, op: str, **fields: Any) -> str:
        reply = self(op, **fields)
        assert reply["ok"] is False
        assert reply["message"]
        return str(reply["error"])

    def new(self, node: int = 1, voters: tuple[int, ...] = (1,), **config: Any) -> None:
        snapshot = {"index": 1, "term": 1, "conf_state": {"voters": voters}}
        assert self("new", node=node, config=config, snapshot=snapshot)["ok"]

    def handle(self, node: int = 1) -> Json:
        """Take a Ready and do all that it says, to storage and state machine."""
        ready: Json = self("ready", node=node)["ready"]
        for op, fields in (
            ("persist", {"hard": ready["hard"], "entries": ready["entries"], "snapshot": ready["snapshot"]}),
            ("apply", {"entries": ready["committed"]}),
            ("advance", {}),
        ):
            assert self(op, node=node, **fields)["ok"]
        return ready

    def settle(self, node: int = 1) -> list[Json]:
        ready = []
        while self("has_ready", node=node)["has_ready"]:
            ready.append(self.handle(node))
        return ready

    def lead(self, node: int = 1, **config: Any) -> None:
        """A group of one that leads."""
        self.new(node, (node,), **config)
        assert self("campaign", node=node)["ok"]
        self.settle(node)
