"""All mutants: named one-line changes, each of which breaks a promise."""

from __future__ import annotations

from tests.mutants.of_core import CORE
from tests.mutants.of_engine import ENGINE
from tests.mutants.of_host import HOST
from tests.mutants.of_log import LOG
from tests.mutants.of_snapshots import SNAPSHOTS
from tests.mutants.of_transport import TRANSPORT

MUTANTS = (*CORE, *HOST, *LOG, *SNAPSHOTS, *TRANSPORT, *ENGINE)
