"""Plays scenarios against the driver and writes down all that happens.

A scenario is a text of commands, each in a line that begins with `> `, with what it did below. The
commands are those of etcd-io/raft's interaction tests, whose loop over Readys, messages and storage
threads this follows; the notation of the trace is ours:

    1: soft LEAD ROLE · hard TERM/VOTE/COMMIT · sync      a Ready of node 1
    1:   + 1/11 "data"                                    an entry to store
    1:   = 1/11 "data"                                    an entry to apply
    1:   -> MsgApp(1->2 t1 log=1/10 commit=10 [1/11])     a message to send
    2 <- MsgApp(...)                                      a message taken in, and what came of it
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable
from typing import Any

Json = dict[str, Any]
Call = Callable[[Json], Json]

_CHANGE_LETTERS = {"v": "voter", "l": "learner", "r": "remove", "u": "update"}
_LETTERS = {name: letter for letter, name in _CHANGE_LETTERS.items()}


def entry_text(entry: Json) -> str:
    text = f"{entry['term']}/{entry['index']}"
    if entry["type"] == "normal":
        return text + (f" {json.dumps(entry['data'])}" if entry["data"] else "")
    change = entry["conf_change"]
    changes = " ".join(f"{_LETTERS[one['type']]}{one['id']}" for one in change["changes"])
    return f"{text} {'cc1' if change['v1'] else 'cc2'}({changes})"


def conf_text(conf: Json) -> str:
    parts = ["(" + " ".join(map(str, conf["voters"])) + ")"]
    if conf["voters_outgoing"]:
        parts[0] += "&&(" + " ".join(map(str, conf["voters_outgoing"])) + ")"
    for name in ("learners", "learners_next"):
        parts += [f"{name}=({' '.join(map(str, conf[name]))})"] * bool(conf[name])
    if conf["auto_leave"]:
        parts.append("autoleave")
    return " ".join(parts)


def snapshot_text(snapshot: Json) -> str:
    return f"snapshot {snapshot['term']}/{snapshot['index']} {conf_text(snapshot['conf_state'])}"


def message_text(m: Json) -> str:
    text = f"{m['type']}({m['from']}->{m['to']} t{m.get('term', 0)}"
    if "log_term" in m or "index" in m:
        text += f" log={m.get('log_term', 0)}/{m.get('index', 0)}"
    if m.get("reject"):
        text += f" rejected hint={m.get('reject_hint', 0)}"
    for name in ("commit", "vote"):
        if name in m:
            text += f" {name}={m[name]}"
    if m.get("entries"):
        text += " [" + ", ".join(map(entry_text, m["entries"])) + "]"
    if m.get("snapshot"):
        text += " " + snapshot_text(m["snapshot"])
    return text + ")"


def progress_text(peer: str, pr: Json) -> str:
    text = f"{peer}: {pr['state']} match={pr['match']} next={pr['next']}"
    text += " learner" * pr["learner"] + " paused" * pr["paused"]
    if pr["pending_snapshot"]:
        text += f" pending={pr['pending_snapshot']}"
    text += " inactive" * (not pr["recent_active"])
    if pr["inflight"]:
        text += f" inflight={pr['inflight']}" + "[full]" * pr["inflight_full"]
    return text


class Interaction:
    """A group of nodes behind one driver, with the messages between them under control."""

    def __init__(self, call: Call) -> None:
        self._call = call
        self._configs: dict[int, Json] = {}
        self._messages: list[Json] = []
        self._append_work: dict[int, list[Json]] = {}
        self._apply_work: dict[int, list[Json]] = {}
        self.trace: list[str] = []

    def run(self, command: str) -> list[str]:
        """Run one command; the lines of what happened."""
        self.trace = []
        name, *arguments = shlex.split(command)
        words = [word for word in arguments if "=" not in word]
        options = dict(word.split("=", 1) for word in arguments if "=" in word)
        getattr(self, "_do_" + name.replace("-", "_"))(words, options)
        return self.trace

    def _ask(self, op: str, node: int | None = None, **fields: Any) -> Json:
        reply = self._call({"op": op, "node": node, **fields})
        if not reply["ok"]:
            self.trace.append(f"   ! {reply['error']}")
        return reply

    @property
    def _nodes(self) -> list[int]:
        return sorted(self._configs)

    # Commands

    def _do_add_nodes(self, words: list[str], options: dict[str, str]) -> None:
        config: Json = {}
        snapshot: Json | None = None
        conf_state: Json = {"voters": [], "learners": []}
        for key, value in options.items():
            if key in ("voters", "learners"):
                conf_state[key] = [int(one) for one in value.split(",")]
            elif key == "index":
                snapshot = {"index": int(value), "term": 1, "data": options.get("content", "")}
            elif key != "content":
                config[key] = json.loads(value) if value[0] in "tf0123456789" else value
        if snapshot is not None:
            snapshot["conf_state"] = conf_state
        for _ in range(int(words[0])):
            node = len(self._configs) + 1
            self._configs[node] = config
            self._append_work[node], self._apply_work[node] = [], []
            self._ask("new", node, config=config, snapshot=snapshot)

    def _do_campaign(self, words: list[str], _: Any) -> None:
        self._ask("campaign", int(words[0]))

    def _do_propose(self, words: list[str], _: Any) -> None:
        self._ask("propose", int(words[0]), data=words[1] if len(words) > 1 else "")

    def _do_propose_conf_change(self, words: list[str], options: dict[str, str]) -> None:
        changes = [{"type": _CHANGE_LETTERS[word[0]], "id": int(word[1:])} for word in words[1:]]
        self._ask(
            "propose_conf_change",
            int(words[0]),
            v1=options.get("v1") == "true",
            transition=options.get("transition", "auto"),
            changes=changes,
        )

    def _do_process_ready(self, words: list[str], _: Any) -> None:
        for word in words:
            self._process_ready(int(word))

    def _do_process_append(self, words: list[str], _: Any) -> None:
        for word in words:
            self._process_append(int(word))

    def _do_process_apply(self, words: list[str], _: Any) -> None:
        for word in words:
            self._process_apply(int(word))

    def _do_deliver(self, words: list[str], options: dict[str, str]) -> None:
        drop = [int(one) for one in options.get("drop", "").split(",") if one]
        for node in sorted({int(word) for word in words} | set(drop)):
            self._deliver(node, options.get("type"), drop=node in drop)

    def _do_stabilize(self, words: list[str], _: Any) -> None:
        nodes = [int(word) for word in words] or self._nodes
        busy = True
        while busy:
            busy = False
            for node in nodes:
                if self._call({"op": "has_ready", "node": node})["has_ready"]:
                    self._process_ready(node)
                    busy = True
            for node in nodes:
                busy |= self._deliver(node)
            for work, process in (
                (self._append_work, self._process_append),
                (self._apply_work, self._process_apply),
            ):
                for node in nodes:
                    while work[node]:
                        process(node)
                        busy = True

    def _do_tick(self, words: list[str], _: Any) -> None:
        self._ask("tick", int(words[0]), times=int(words[1]) if len(words) > 1 else 1)

    def _do_tick_election(self, words: list[str], _: Any) -> None:
        self._ask("tick", int(words[0]), times=self._configs[int(words[0])].get("election_tick", 3))

    def _do_tick_heartbeat(self, words: list[str], _: Any) -> None:
        self._ask("tick", int(words[0]), times=self._configs[int(words[0])].get("heartbeat_tick", 1))

    def _do_set_timeout(self, words: list[str], _: Any) -> None:
        self._ask("set_randomized_election_timeout", int(words[0]), ticks=int(words[1]))

    def _do_transfer(self, words: list[str], _: Any) -> None:
        self._ask("transfer_leader", int(words[0]), to=int(words[1]))

    def _do_forget_leader(self, words: list[str], _: Any) -> None:
        self._ask("forget_leader", int(words[0]))

    def _do_unreachable(self, words: list[str], _: Any) -> None:
        self._ask("report_unreachable", int(words[0]), id=int(words[1]))

    def _do_read(self, words: list[str], _: Any) -> None:
        self._ask("read_index", int(words[0]), context=words[1])

    def _do_compact(self, words: list[str], _: Any) -> None:
        self._ask("compact", int(words[0]), index=int(words[1]))

    def _do_send_snapshot(self, words: list[str], _: Any) -> None:
        reply = self._ask("snapshot_message", int(words[0]), to=int(words[1]))
        self._messages.append(reply["message"])

    def _do_state(self, _: Any, __: Any) -> None:
        for node in self._nodes:
            status = self._ask("status", node)
            conf = status["config"]
            votes = node in conf["voters"] + conf["voters_outgoing"]
            self.trace.append(
                f"{node}: {status['role']} {'voter' if votes else 'no voter'} "
                f"t{status['term']} lead={status['lead']}"
            )

    def _do_status(self, words: list[str], _: Any) -> None:
        for peer, progress in self._ask("status", int(words[0])).get("progress", {}).items():
            self.trace.append(progress_text(peer, progress))

    def _do_log(self, words: list[str], _: Any) -> None:
        log = self._ask("log", int(words[0]))
        entries = ", ".join(map(entry_text, log["entries"]))
        self.trace.append(f"[{log['first']}, {log['last']}]: {entries}".rstrip())

    # What they are made of

    def _process_ready(self, node: int) -> None:
        ready = self._ask("ready", node).get("ready")
        if ready is None:
            self.trace.append(f"{node}: nothing ready")
            return
        head = []
        if ready["soft"]:
            head.append(f"soft {ready['soft']['lead']} {ready['soft']['role']}")
        if ready["hard"]:
            head.append("hard {term}/{vote}/{commit}".format(**ready["hard"]))
        if ready["must_sync"]:
            head.append("sync")
        if ready["snapshot"]:
            head.append(snapshot_text(ready["snapshot"]))
        head += [f"read {state['context']} at {state['index']}" for state in ready["read_states"]]
        self.trace.append(f"{node}: {' · '.join(head)}".rstrip())
        self.trace += [f"{node}:   + {entry_text(entry)}" for entry in ready["entries"]]
        self.trace += [f"{node}:   = {entry_text(entry)}" for entry in ready["committed"]]
        for message in ready["messages"]:
            self.trace.append(f"{node}:   -> {message_text(message)}")
            self.trace += [f"{node}:        then {message_text(one)}" for one in message.get("responses", [])]
        asynchronous = self._configs[node].get("async_storage_writes", False)
        if not asynchronous:
            self._store(node, ready["hard"], ready["entries"], ready["snapshot"])
            self._apply(node, ready["committed"])
        for message in ready["messages"]:
            if message["to"] == "append_thread":
                self._append_work[node].append(message)
            elif message["to"] == "apply_thread":
                self._apply_work[node].append(message)
            else:
                self._messages.append(message)
        if not asynchronous:
            self._ask("advance", node)

    def _store(self, node: int, hard: Json | None, entries: list[Json], snapshot: Json | None) -> None:
        self._ask("persist", node, hard=hard, entries=entries, snapshot=snapshot)

    def _apply(self, node: int, entries: list[Json]) -> None:
        for conf in self._ask("apply", node, entries=entries)["conf_states"]:
            self.trace.append(f"{node}:   members {conf_text(conf)}")

    def _process_append(self, node: int) -> None:
        if not self._append_work[node]:
            self.trace.append(f"{node}: nothing to append")
            return
        m = self._append_work[node].pop(0)
        self.trace.append(f"{node}: appending {message_text(m)}")
        hard = {name: m.get(name, 0) for name in ("term", "vote", "commit")} if "term" in m else None
        self._store(node, hard, m.get("entries", []), m.get("snapshot"))
        self._messages += m.get("responses", [])

    def _process_apply(self, node: int) -> None:
        if not self._apply_work[node]:
            self.trace.append(f"{node}: nothing to apply")
            return
        m = self._apply_work[node].pop(0)
        self.trace.append(f"{node}: applying {message_text(m)}")
        self._apply(node, m.get("entries", []))
        self._messages += m.get("responses", [])

    def _deliver(self, node: int, type_: str | None = None, *, drop: bool = False) -> bool:
        mine = [m for m in self._messages if m["to"] == node and type_ in (None, m["type"])]
        self._messages = [m for m in self._messages if m not in mine]
        for m in mine:
            self.trace.append(f"{node} {'x-' if drop else '<-'} {message_text(m)}")
            if not drop:
                self._ask("step", node, message=m)
        return bool(mine)


def commands_of(text: str) -> list[str]:
    """The commands of a scenario, without what they are expected to do."""
    return [line[2:] for line in text.splitlines() if line.startswith("> ")]


def play(text: str, call: Call) -> str:
    """The scenario again, with what its commands do now. Comments stay where they are."""
    interaction = Interaction(call)
    out: list[str] = []
    for line in text.splitlines():
        if line.startswith("#") or not line:
            out.append(line)
        elif line.startswith("> "):
            out.append(line)
            out += ["  " + happened for happened in interaction.run(line[2:])]
    return "\n".join(out) + "\n"
