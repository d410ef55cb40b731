"""Of a factory in a directory: its faults."""

from __future__ import annotations

from fioagent.factory.servers import faults
from fioagent.factory.servers.faults import Kept
from fioagent.factory.store import Store


class WithFaults:
    store: Store

    def add_fault(self, action: str, **options: object) -> int:
        """From the next request or connection on; ``options`` are members of ``faults.Fault``.

        Its id.

        Raises:
            RefusedError: there is no such action, or an option does not fit it.
        """
        fault = faults.parse({"action": action, **options})
        with self.store.write() as db:
            return faults.add(db, fault)

    def faults(self) -> list[Kept]:
        """In the order of their making, each with how often it has acted."""
        with self.store.read() as db:
            return faults.all_faults(db)

    def remove_fault(self, identifier: int) -> None:
        """RefusedError: there is none."""
        with self.store.write() as db:
            faults.remove(db, identifier)

    def clear_faults(self) -> int:
        """How many there were."""
        with self.store.write() as db:
            return faults.clear(db)
