"""A local factory for labs and tests: PKI, device gateway, EST server, operator API.

Not for production. It shares no code with the agent, so that a mistake on one side cannot
pass on the other. See ``docs/factory.md``.
"""

from __future__ import annotations

try:
    from fioagent.factory.errors import FactoryError, LockedError
    from fioagent.factory.fleet.device_view import DeviceView
    from fioagent.factory.fleet.provision import Device
    from fioagent.factory.lab import Factory
    from fioagent.factory.servers.traffic import Request
    from fioagent.factory.urls import Urls
except ModuleNotFoundError as error:
    # The agent's package brings the command along, its extra what the command needs.
    raise SystemExit(
        f"cannot start: the factory needs {error.name}; install fioagent[factory]"
    ) from None

__all__ = ["Device", "DeviceView", "Factory", "FactoryError", "LockedError", "Request", "Urls"]
