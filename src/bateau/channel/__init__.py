"""Handing values between tasks: ``channel``, ``oneshot``, ``broadcast``, ``watch``.

- ``channel``    many senders, many receivers, each item goes to one receiver; bounded, first in, first out
- ``oneshot``    one value (or one error), once
- ``broadcast``  every receiver sees every item sent since it subscribed
- ``watch``      the latest value, and word of its changes

All four give their two ends, and take the type of what goes through in brackets: ``tx, rx = channel[int](16)``.
"""

from __future__ import annotations

from .broadcast_state import BroadcastStatistics, Lagged
from .broadcasting import BroadcastReceiver, BroadcastSender, broadcast
from .mpmc import Receiver, Sender, channel
from .once import OneReceiver, OneSender, OneshotStatistics, oneshot
from .queue import ChannelStatistics
from .watching import WatchReceiver, WatchSender, WatchStatistics, watch

__all__ = [
    "BroadcastReceiver",
    "BroadcastSender",
    "BroadcastStatistics",
    "ChannelStatistics",
    "Lagged",
    "OneReceiver",
    "OneSender",
    "OneshotStatistics",
    "Receiver",
    "Sender",
    "WatchReceiver",
    "WatchSender",
    "WatchStatistics",
    "broadcast",
    "channel",
    "oneshot",
    "watch",
]
