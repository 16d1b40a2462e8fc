"""Runtimes: what drives a program. ``base`` is the contract, ``registry`` finds them, the others are them."""
