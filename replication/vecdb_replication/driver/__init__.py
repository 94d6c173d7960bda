"""The Raft core behind JSON lines: `python -m vecdb_replication.driver`.

For replaying scenarios, fuzzing and comparing the core from outside, in any language. One request a
line on stdin, one reply a line on stdout, in order. docs/raft-driver.md is its reference.
"""
