"""The resident service: waits for timers, signals and workers, and starts one duty at a time.

No TLS, no cryptography, no parser of anybody's file: what it knows, workers tell
it in lines of JSON. It imports no more than it needs, because it stays
(docs/service.md has the figures). Decisions are in ``supervise.py``.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]  # as in worker.py
import os
import select
import time

from fioagent import answers, log, supervise
from fioagent.log import Log
from fioagent.notify import Notify
from fioagent.supervise import CHECK, CHECK_IN, ROTATE, Ended, Timetable
from fioagent.worker import Worker

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Final

CHECK_LIMIT_S: Final = 60.0
# From asking a worker to end to killing it.
GRACE_S: Final = 10.0
# A commit takes milliseconds, its confirmation one request with its retries.
COMMIT_LIMIT_S: Final = 60.0
# poll(2) takes 24 days, and an interval may be longer.
LONGEST_POLL_S: Final = 86_400.0


class Orders:
    """What the command line has made of options and environment.

    Attributes:
        limits_s: how long each duty may take.
        commands: what does each duty.
    """

    __slots__ = ("commands", "limits_s")

    def __init__(self, arguments: Sequence[str]) -> None:
        """``CHECK-IN-LIMIT ROTATE-LIMIT PROGRAM... [-- OPTION...]``, limits in seconds."""
        check_in, rotate, *rest = arguments
        cut = rest.index("--") if "--" in rest else len(rest)
        program, options = rest[:cut], rest[cut + 1 :]
        self.limits_s = {CHECK: CHECK_LIMIT_S, CHECK_IN: float(check_in), ROTATE: float(rotate)}
        self.commands = {
            CHECK: [*program, "daemon", "--check", "--json", *options],
            CHECK_IN: [*program, "check-in", "--json", *options],
            ROTATE: [*program, "rotate", "--json", *options],
        }


class Running:
    """A duty under way."""

    __slots__ = (
        "answer",
        "began",
        "deadline",
        "duty",
        "is_heard",
        "phase",
        "told_to_end",
        "why",
        "worker",
    )

    def __init__(self, duty: str, worker: Worker, began: float, deadline: float) -> None:
        self.duty = duty
        self.worker = worker
        self.began = began
        self.deadline = deadline  # when it is told to end, then when it is killed
        self.phase: str | None = None
        self.answer: Mapping[str, object] = {}
        self.is_heard = True
        self.told_to_end = False
        self.why = supervise.HUNG

    @property
    def is_committing(self) -> bool:
        return self.phase in supervise.COMMITTING

    def tell_to_end(self, why: str, now: float) -> None:
        self.told_to_end, self.why = True, why
        self.deadline = now + GRACE_S
        # One that took too long has not ended in good order, and counts so for a rotation.
        self.worker.end(_signal.SIGALRM if why == supervise.HUNG else _signal.SIGTERM)


class Daemon:
    """The service from its start to its end."""

    def __init__(
        self, orders: Orders, notify: Notify, journal: Log, environ: Mapping[str, str]
    ) -> None:
        self._orders = orders
        self._notify = notify
        self._log = journal
        self._environ = environ
        draw = int.from_bytes(os.urandom(4), "big") / 2**32
        self._table = Timetable(_now(), draw)
        self._running: Running | None = None
        self._stopping = False
        self._is_ready = False
        self._last = ""  # how the latest duty went, in words
        self._alive_at = _now()
        self._poll = select.poll()
        self._signals, self._wake = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self._poll.register(self._signals, select.POLLIN)

    def run(self) -> int:
        """Until SIGTERM."""
        for number in (_signal.SIGTERM, _signal.SIGINT, _signal.SIGHUP, _signal.SIGCHLD):
            _signal.signal(number, lambda *_: None)  # what counts arrives by the descriptor
        _signal.set_wakeup_fd(self._wake, warn_on_full_buffer=False)
        self._log.say(log.STARTED, log.INFO, "started", {})
        while not (self._stopping and self._running is None):
            self._turn()
        self._log.say(log.STOPPED, log.INFO, "stopped", {})
        return 0

    def _turn(self) -> None:
        """One duty may begin, then wait for whatever comes first, and see to it."""
        now = _now()
        if self._running is None:
            duty = self._table.due(now, time.time())
            if duty is not None:
                self._start(duty, now)
        ready = self._poll.poll(self._patience_ms())
        self._sign_of_life()
        if any(descriptor == self._signals for descriptor, _ in ready):
            for number in set(os.read(self._signals, 512)):
                self._on_signal(number)
        if self._running is not None:
            self._attend(self._running)

    def _patience_ms(self) -> int:
        """How long there is nothing to do but to wait; rounded up, or it would be waited twice."""
        now = _now()
        if self._running is not None:
            waits = [self._running.deadline - now]
        else:
            waits = [self._table.wait(now, time.time())]
        if self._notify.alive_every_s is not None:
            waits.append(self._alive_at + self._notify.alive_every_s - now)
        return int(max(0.0, min(*waits, LONGEST_POLL_S)) * 1000) + 1

    def _sign_of_life(self) -> None:
        """With a wake-up for something else if it can be, so that few are for this alone."""
        every_s = self._notify.alive_every_s
        if every_s is not None and _now() - self._alive_at >= every_s / 2:
            self._notify.alive()
            self._alive_at = _now()

    def _on_signal(self, number: int) -> None:
        if number == _signal.SIGHUP and not self._stopping:
            self._table.reload(_now())
        elif number in (_signal.SIGTERM, _signal.SIGINT):
            self._stop()

    def _stop(self) -> None:
        """What commits is let finish; whatever else is under way goes on another day."""
        if self._stopping:
            return
        self._stopping = True
        running = self._running
        if running is None:
            self._notify.stopping("stops")
            return
        self._listen(running)  # what it said before the signal came
        self._notify.stopping(f"stops: {_doing(running)}")
        if running.is_committing:
            running.deadline = _now() + COMMIT_LIMIT_S
            self._notify.extend(COMMIT_LIMIT_S + 2 * GRACE_S)
        elif not running.told_to_end:
            running.tell_to_end(supervise.STOPPED, _now())

    # --- a duty, from start to end ---

    def _start(self, duty: str, now: float) -> None:
        if duty == CHECK and self._is_ready:
            self._notify.reloading()
        try:
            worker = Worker(self._orders.commands[duty], self._environ)
        except OSError as error:
            reason = os.strerror(error.errno or 0).lower()
            self._over(Ended(duty, supervise.NOT_STARTED, 0, {"message": reason}), now)
            return
        self._running = Running(duty, worker, now, now + self._orders.limits_s[duty])
        self._poll.register(worker.output, select.POLLIN)
        if self._is_ready:
            self._notify.status(_doing(self._running))

    def _attend(self, running: Running) -> None:
        """See what has become of it."""
        ended = running.worker.has_ended()  # before the last look at its words
        self._listen(running)
        now = _now()
        if ended:
            if running.is_heard:  # something that it has started has its output still
                self._poll.unregister(running.worker.output)
            code = running.worker.close()
            how = running.why if running.told_to_end else supervise.how_ended(code, running.answer)
            self._running = None
            self._over(Ended(running.duty, how, code, running.answer), running.began)
        elif self._stopping and not running.told_to_end and not running.is_committing:
            running.tell_to_end(supervise.STOPPED, now)
        elif now >= running.deadline:
            if running.told_to_end:
                running.worker.end(_signal.SIGKILL)
                running.deadline = now + GRACE_S
            else:
                running.tell_to_end(supervise.STOPPED if self._stopping else supervise.HUNG, now)

    def _listen(self, running: Running) -> None:
        before = running.phase
        for line in running.worker.lines():
            said = answers.read(line)
            if said is None:
                continue
            running.answer = said
            if said.get("event") in ("phase", "resumed"):
                running.phase = str(said.get("phase"))
                if not self._log.is_journal:  # there the worker itself tells more of it
                    self._log.say(log.PHASE, log.INFO, _doing(running), {})
        if running.worker.is_mute and running.is_heard:
            running.is_heard = False
            self._poll.unregister(running.worker.output)  # or poll would return for ever
        if running.phase != before and self._is_ready and not self._stopping:
            self._notify.status(_doing(running))

    def _over(self, ended: Ended, began: float) -> None:
        now = _now()
        self._table.ended(ended, began, now)
        self._last = _told(ended)
        if ended.how in (supervise.CRASHED, supervise.HUNG, supervise.NOT_STARTED):
            fields = {"DUTY": ended.duty, "OUTCOME": ended.how}
            self._log.say(log.WORKER_FAILED, log.WARNING, self._last, fields)
        elif ended.duty == ROTATE and ended.code == 0 and not self._log.is_journal:
            self._log.say(log.ENDED, log.NOTICE, self._last, {})
        if self._stopping:
            return
        status = self._waiting(now)
        if ended.duty != CHECK:
            self._notify.status(status)
            return
        if self._is_ready:
            every = f"check-in every {self._table.interval_s:g} s"
            self._log.say(log.RELOADED, log.INFO, f"configuration read again; {every}", {})
        self._is_ready = True
        self._notify.ready(status)

    def _waiting(self, now: float) -> str:
        at = time.gmtime(time.time() + self._table.wait(now, time.time()))
        return f"waits until {time.strftime('%H:%M:%S', at)} UTC; {self._last}"


def _doing(running: Running) -> str:
    return running.duty if running.phase is None else f"{running.duty}: {running.phase}"


def _told(ended: Ended) -> str:
    """In words, for the journal and the status."""
    said = ended.answer.get("message") or ended.answer.get("result")
    if ended.how == supervise.EXITED:
        outcome = "done" if ended.code == 0 else f"exit status {ended.code}"
        return f"{ended.duty}: {outcome}" if said is None else f"{ended.duty}: {said}"
    if ended.how == supervise.CRASHED:
        by = f"signal {-ended.code}" if ended.code < 0 else f"exit status {ended.code}"
        return f"{ended.duty} crashed: {by}"
    if ended.how == supervise.HUNG:
        return f"{ended.duty} was ended: it took too long"
    if ended.how == supervise.NOT_STARTED:
        return f"cannot start {ended.duty}: {said}"
    return f"{ended.duty} was stopped"


def _now() -> float:
    """Seconds since boot, suspended ones included: what was due while a device slept is due."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def main(arguments: Sequence[str], environ: dict[str, str]) -> int:
    """Run as ``resident.py`` runs it; the exit status."""
    notify = Notify(environ, os.getpid())
    return Daemon(Orders(arguments), notify, Log(environ), environ).run()
