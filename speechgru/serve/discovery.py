"""Announces a Wyoming service by mDNS, so that Home Assistant finds it; needs zeroconf."""

import asyncio
import logging
import uuid
from collections.abc import Callable, Sequence
from typing import Any, Self

from speechgru.serve.access import Address, is_loopback


class Announcement:
    """While entered, announces by mDNS the first address that other machines can reach.

    Args:
        tell: called with the reason if nothing can be announced.
    """

    def __init__(self, addresses: Sequence[Address], tell: Callable[[str], None]) -> None:
        self._address = next((a for a in addresses if not is_loopback(a.host)), None)
        self._tell = tell
        self._zeroconf: Any = None

    async def __aenter__(self) -> Self:
        if self._address is None:
            return self
        logging.getLogger("wyoming.zeroconf").setLevel(logging.CRITICAL + 1)
        try:
            from wyoming.zeroconf import HomeAssistantZeroconf
        except ImportError:
            self._tell("zeroconf is not installed: enter the address in Home Assistant by hand")
            return self
        host = None if self._address.host in ("0.0.0.0", "::") else self._address.host
        try:
            # A name that no other server has: on another machine, or at another port of this one.
            port, machine = self._address.port, f"{uuid.getnode():012x}"
            name = f"speechgru-{machine}-{port}"
            self._zeroconf = HomeAssistantZeroconf(port=port, name=name, host=host)
            await self._zeroconf.register_server()
        except Exception as error:  # zeroconf's errors, such as NonUniqueName, have no common class
            reason = str(error) or type(error).__name__
            self._tell(f"not announced by mDNS: {reason}")
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._zeroconf is not None:
            closing = self._zeroconf._aiozc.async_close()
            await asyncio.wait_for(closing, timeout=3.0)
