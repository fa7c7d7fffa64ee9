"""paramiko's transport, with the messages of a channel in their order: nothing leaves on a channel after its CLOSE.

A paramiko channel builds a message under its own lock and sends it after letting go of the lock. When it is closed in
between, by another thread of ours or because the other end closed it, an EOF or data follow the CLOSE, and OpenSSH
answers "packet referred to nonexistent channel" by ending the whole connection (paramiko#1115, open since 2017).

And a channel that was opened is given to whoever opened it, also when the other end closed it before that thread woke:
paramiko has forgotten it by then, and says that it could not be opened. A server that hangs up at once is no rarity
behind a bastion (MaxStartups), nor is one that greets and closes, whose greeting would be lost.
"""

import threading
import weakref
from typing import Any

import paramiko
from paramiko.common import MSG_CHANNEL_CLOSE
from paramiko.transport import ChannelMap


class Door:
    """What one channel sees of its transport: everything, and a way out that shuts behind the CLOSE."""

    def __init__(self, transport: Any) -> None:
        self._transport = transport
        self._lock = threading.Lock()
        self._shut = False

    def _send_user_message(self, message: paramiko.Message) -> None:
        with self._lock:
            if self._shut:
                return
            with message.packet.getbuffer() as octets:
                self._shut = octets[0] == MSG_CHANNEL_CLOSE
            self._transport._send_user_message(message)  # noqa: SLF001  the one way out for channels

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)


class OrderlyChannel(paramiko.Channel):
    """A channel that says nothing after its CLOSE."""

    def _set_transport(self, transport: paramiko.Transport) -> None:
        super()._set_transport(Door(transport))  # type: ignore[misc]  # the stubs have only what is public

    def get_transport(self) -> paramiko.Transport:
        door: Any = super().get_transport()
        transport: paramiko.Transport = door._transport if isinstance(door, Door) else door  # noqa: SLF001
        return transport


class _Channels(ChannelMap):
    """Makes every channel that the transport registers an orderly one; paramiko has no other place to say so."""

    def __init__(self) -> None:
        super().__init__()
        self._closed: weakref.WeakValueDictionary[int, paramiko.Channel] = weakref.WeakValueDictionary()

    def put(self, chanid: int, chan: paramiko.Channel) -> None:
        chan.__class__ = OrderlyChannel
        super().put(chanid, chan)

    def get(self, chanid: int) -> paramiko.Channel | None:  # type: ignore[override]  # the stubs forget the None
        """The channel, one that was closed as well, for as long as somebody holds it."""
        channel: paramiko.Channel | None = super().get(chanid)
        return channel or self._closed.get(chanid)

    def close(self, chanid: int) -> None:
        """Open no longer, but known until its opener has let go of it."""
        channel = super().get(chanid)
        if channel is not None:
            self._closed[chanid] = channel


class OrderlyTransport(paramiko.Transport):
    """A transport whose channels are orderly, our own and those that the other end opens."""

    def __init__(self, sock: Any, **options: Any) -> None:
        super().__init__(sock, **options)
        self._channels = _Channels()

    def _unlink_channel(self, chanid: int) -> None:
        self._channels.close(chanid)
        super()._unlink_channel(chanid)  # type: ignore[misc]  # the stubs have only what is public
