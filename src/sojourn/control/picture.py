"""What a window shows, and what has changed of it since somebody looked last.

Every change of a value, of a row or of a flow's counters gets the next number. Whoever looks remembers the number that
it has seen, and is told the newest state of what changed since: somebody slow is told less often, and never what is
outdated by then. Nothing is kept for anybody: the memory is that of what stands, the newest log entries, and the keys
of rows that went lately. Who has missed more of those than are kept has to take a `snapshot`.

Pure: what the rows are is the daemons' affair (daemon/host_watch.py, daemon/anchor_watch.py).
"""

from collections import deque
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, Final

KEPT_LOG: Final = 200
"""Entries of the roaming log in a snapshot."""
KEPT_GONE: Final = 4096
"""Rows that went, by table."""

RowJson = dict[str, Any]


class Numbers:
    """Numbers changes, from 1."""

    def __init__(self) -> None:
        self.last = 0

    def next(self) -> int:
        """Return a new number."""
        self.last += 1
        return self.last


class Rows:
    """One table: JSON objects by key, in the order in which they came."""

    def __init__(self, numbers: Numbers) -> None:
        self._numbers = numbers
        self._rows: dict[str, RowJson] = {}
        self._changed: dict[str, int] = {}
        self._gone: dict[str, int] = {}
        self.forgotten = 0
        """Of what went up to this number it is not known any more what it was."""

    def __len__(self) -> int:
        return len(self._rows)

    def get(self, key: str) -> RowJson | None:
        """Return a row."""
        return self._rows.get(key)

    def keys(self) -> Collection[str]:
        """Return the keys of all rows."""
        return self._rows.keys()

    def put(self, key: str, row: RowJson) -> bool:
        """Set a row; say whether that changed anything."""
        if self._rows.get(key) == row:
            return False
        self._rows[key] = row
        self._changed[key] = self._numbers.next()
        self._gone.pop(key, None)
        return True

    def drop(self, key: str) -> None:
        """Forget a row that went."""
        if self._rows.pop(key, None) is None:
            return
        del self._changed[key]
        self._gone[key] = self._numbers.next()
        if len(self._gone) > KEPT_GONE:
            oldest = next(iter(self._gone))
            self.forgotten = self._gone.pop(oldest)

    def keep_only(self, keys: Collection[str]) -> None:
        """Forget all other rows."""
        for key in [key for key in self._rows if key not in keys]:
            self.drop(key)

    def all(self) -> list[RowJson]:
        """Return all rows."""
        return list(self._rows.values())

    def since(self, number: int) -> list[RowJson]:
        """Return the rows that are new or others since then."""
        return [self._rows[key] for key, changed in self._changed.items() if changed > number]

    def gone_since(self, number: int) -> list[str]:
        """Return the keys of rows that went since then."""
        return [key for key, went in self._gone.items() if went > number]


class Counts:
    """Counters of flows, which change all the time and are not worth a row each: numbers in a fixed order."""

    def __init__(self, numbers: Numbers) -> None:
        self._numbers = numbers
        self._values: dict[str, tuple[int, ...]] = {}
        self._changed: dict[str, int] = {}

    def get(self, key: str) -> tuple[int, ...] | None:
        """Return the counters of a row."""
        return self._values.get(key)

    def put(self, key: str, values: tuple[int, ...]) -> None:
        """Set the counters of a row."""
        if self._values.get(key) != values:
            self._values[key] = values
            self._changed[key] = self._numbers.next()

    def drop(self, key: str) -> None:
        """Forget a row."""
        self._values.pop(key, None)
        self._changed.pop(key, None)

    def since(self, number: int) -> list[list[Any]]:
        """Return key and counters of what changed since then."""
        return [[key, *self._values[key]] for key, changed in self._changed.items() if changed > number]


class Picture:
    """All that a window shows."""

    def __init__(self, tables: Iterable[str]) -> None:
        self._numbers = Numbers()
        self.tables = {name: Rows(self._numbers) for name in tables}
        self.rates = Counts(self._numbers)
        """Of the rows of the table `flows`: bytes in, bytes out, bit/s in, bit/s out."""
        self._values: dict[str, Any] = {}
        self._changed: dict[str, int] = {}
        self._log: deque[tuple[int, RowJson]] = deque(maxlen=KEPT_LOG)
        self._moves: dict[str, tuple[int, RowJson]] = {}

    @property
    def number(self) -> int:
        """The number of the newest change."""
        return self._numbers.last

    def set(self, name: str, value: Any) -> None:  # noqa: ANN401 - JSON
        """Set a value that is told whole."""
        if name not in self._values or self._values[name] != value:
            self._values[name] = value
            self._changed[name] = self._numbers.next()

    def value(self, name: str) -> Any:  # noqa: ANN401 - JSON
        """Return a value; None before it was set."""
        return self._values.get(name)

    def log(self, entry: RowJson) -> None:
        """Add an entry of the roaming log."""
        self._log.append((self._numbers.next(), entry))

    def moved(self, key: str, move: RowJson) -> None:
        """Note that a flow moved, and why: told beside its row, to whoever has not seen it there yet."""
        self._moves.pop(key, None)
        self._moves[key] = (self._numbers.next(), move)
        if len(self._moves) > KEPT_GONE:
            del self._moves[next(iter(self._moves))]

    def drop_flow(self, key: str) -> None:
        """Forget a flow."""
        self.tables["flows"].drop(key)
        self.rates.drop(key)
        self._moves.pop(key, None)

    # -- what is told

    def snapshot(self) -> RowJson:
        """Return everything."""
        told: RowJson = dict(self._values)
        for name, rows in self.tables.items():
            told[name] = [self._with_rates(row) for row in rows.all()] if name == "flows" else rows.all()
        told["log"] = [entry for _, entry in self._log]
        return told

    def delta(self, seen: int) -> RowJson | None:
        """Return what changed since number `seen`; empty when nothing did, None when only a snapshot can tell."""
        if any(seen < rows.forgotten for rows in self.tables.values()):
            return None
        told: RowJson = {name: self._values[name] for name, changed in self._changed.items() if changed > seen}
        for name, rows in self.tables.items():
            if some := rows.since(seen):
                told[name] = [self._with_rates(row) for row in some] if name == "flows" else some
            if gone := rows.gone_since(seen):
                told[f"{name}_gone"] = gone
        if rates := self.rates.since(seen):
            told["rates"] = rates
        if moves := [move for number, move in self._moves.values() if number > seen]:
            told["moves"] = moves
        if entries := [entry for number, entry in self._log if number > seen]:
            told["log"] = entries
        return told

    def _with_rates(self, row: Mapping[str, Any]) -> RowJson:
        counted: Sequence[int] = self.rates.get(row["id"]) or (row["bytes_in"], row["bytes_out"], 0, 0)
        names = ("bytes_in", "bytes_out", "in_bps", "out_bps")
        return {**row, **dict(zip(names, counted, strict=True))}
