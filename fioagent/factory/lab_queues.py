"""Of a factory in a directory: its event queues."""

from __future__ import annotations

from typing import Any

from fioagent.factory.errors import FactoryError
from fioagent.factory.queues import notices, queues
from fioagent.factory.queues.queues import Message, Queue
from fioagent.factory.servers.gateway import Clock
from fioagent.factory.store import Store


class WithQueues:
    store: Store
    _clock: Clock

    def add_queue(self, label: str, push_url: str = "") -> str:
        """A push queue to ``push_url``, else a pull queue. The token that pulls from it.

        Raises:
            RefusedError: the label is taken or unfit, or the URL will not do.
        """
        with self.store.write() as db:
            kind = "push" if push_url else "pull"
            return queues.create(db, label, kind, push_url)

    def queues(self) -> list[Queue]:
        """In the order of their creation."""
        with self.store.read() as db:
            return queues.all_queues(db)

    def remove_queue(self, label: str) -> None:
        """With all that it has. RefusedError: there is none."""
        with self.store.write() as db:
            queues.remove(db, label)

    def pull(self, label: str, limit: int, *, keep: bool = False) -> list[Message]:
        """The oldest messages, taken out of a pull queue; with ``keep`` they come again.

        Raises:
            FactoryError: there is no such pull queue.
        """
        with self.store.write() as db:
            if not any(q.label == label and q.type == "pull" for q in queues.all_queues(db)):
                raise FactoryError(f"cannot pull from {label}: there is no such pull queue")
            received = queues.pull(db, label, limit, self._clock())
            if not keep:
                queues.acknowledge(db, label, [ack_id for ack_id, _ in received])
        return [message for _, message in received]

    def outbox(self, kind: str | None = None) -> list[dict[str, Any]]:
        """All that was ever published to event queues, or of one type, oldest first."""
        with self.store.read() as db:
            return notices.outbox(db, kind)
