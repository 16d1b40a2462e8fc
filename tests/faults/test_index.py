"""The named faults, and the tests that hold each of them: over bateau's runtimes, and over the C loop for asyncio programs.

Most are in this folder. Those that stand beside the rest of their subject are named by where they are, so that this is the whole
list. ``None`` says why a case does not apply.
"""

from __future__ import annotations

import ast
import functools
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]

ACCEPT = "faults/test_accepting_and_connecting.py"
CONNECTED = "faults/test_connected.py"
MACHINE = "faults/test_machine.py"
FILES = "faults/test_files.py"
CORE = "native/test_loop_core.py"
DESCRIPTORS = "native/test_loop_descriptors.py"
INTERRUPTED = "native/test_loop_interrupted.py"
STREAMS = "native/test_loop_streams.py"

# fault: (a test over bateau's runtimes, a test over the loop of bateau.interop.asyncio), each "file::test", or a reason.
FAULTS: dict[str, tuple[str, str]] = {
    # accepting and connecting
    "EMFILE on accept": ("net/test_tcp.py::test_without_descriptors_it_waits_reports_once_and_goes_on", f"{DESCRIPTORS}::test_too_many_open_files"),
    "ECONNABORTED on accept": (f"{ACCEPT}::test_an_accept_that_fails_for_its_connection_alone", f"{ACCEPT}::test_an_accept_that_fails_for_its_connection_alone_on_the_loop"),
    "reset before accept": ("net/test_stories.py::test_a_connection_reset_before_it_is_accepted", f"{ACCEPT}::test_a_connection_reset_before_it_is_accepted"),
    "listener closed while accepting": ("net/test_tcp.py::test_close_wakes_those_who_accept", f"{ACCEPT}::test_a_server_closed_while_connections_wait_for_it"),
    "Unix socket unlinked": (f"{ACCEPT}::test_a_unix_socket_unlinked_under_its_listener", f"{ACCEPT}::test_a_unix_socket_unlinked_under_its_server"),
    "connect timeout": (f"{ACCEPT}::test_a_connect_that_nobody_answers_times_out", f"{ACCEPT}::test_a_connect_that_nobody_answers"),
    "cancelled connect": ("net/test_tcp.py::test_a_cancelled_connect_closes_every_attempt", f"{ACCEPT}::test_a_connect_that_nobody_answers"),
    "connect fails at once": (f"{ACCEPT}::test_a_connect_that_fails_at_once", f"{ACCEPT}::test_a_connect_that_fails_at_once"),
    "name that is none": ("net/test_resolve.py::test_unknown_names", f"{ACCEPT}::test_a_name_that_is_none"),
    "resolver fails for a while": (f"{ACCEPT}::test_a_resolver_that_fails_for_a_while", f"{ACCEPT}::test_a_resolver_that_fails_for_a_while"),
    "EMFILE on connect": (f"{ACCEPT}::test_no_descriptor_is_left_to_connect_with", f"{ACCEPT}::test_no_descriptor_is_left_for_the_loop_to_connect_with"),
    # connections that stand
    "RST mid-write": (f"{CONNECTED}::test_a_reset_in_the_middle_of_a_write", f"{STREAMS}::test_a_reset_in_the_middle_of_writing"),
    "half-close by the peer": ("net/test_streams.py::test_end_of_stream_and_half_close", f"{STREAMS}::test_half_close_by_the_peer"),
    "half-close, then reset": (f"{CONNECTED}::test_a_peer_that_ends_and_resets_later", f"{STREAMS}::test_half_close_by_us"),
    "EPIPE": (f"{CONNECTED}::test_a_broken_pipe_under_a_stream", f"{STREAMS}::test_a_broken_pipe"),
    "peer never reads": ("net/test_streams.py::test_writes_to_a_peer_that_never_reads_are_bounded", f"{STREAMS}::test_a_peer_that_never_reads_pauses_the_writer"),
    "fd closed under us": (f"{CONNECTED}::test_a_descriptor_closed_under_a_stream", f"{STREAMS}::test_a_descriptor_closed_under_us"),
    "fd closed under a wait": (f"{CONNECTED}::test_a_descriptor_closed_under_a_reader_that_waits", f"{CONNECTED}::test_a_descriptor_closed_under_a_transport_that_reads_and_writes"),
    "number used again": ("net/test_streams.py::test_a_number_used_again_gets_no_events_of_its_predecessor", f"{DESCRIPTORS}::test_a_reader_whose_descriptor_was_closed_and_is_anothers_now"),
    "write after close": ("net/test_streams.py::test_closed_stream_says_so", f"{CONNECTED}::test_written_after_the_end"),
    "EINTR and short calls": (f"{CONNECTED}::test_interrupted_and_short_calls", f"{CONNECTED}::test_interrupted_and_short_calls_on_the_loop"),
    "ENOBUFS, ENOMEM on a datagram": (f"{CONNECTED}::test_a_datagram_that_the_system_has_no_room_for", f"{CONNECTED}::test_a_datagram_that_the_system_has_no_room_for_on_the_loop"),
    "epoll set full": (f"{CONNECTED}::test_an_epoll_set_that_is_full", f"{CONNECTED}::test_an_epoll_set_that_is_full"),
    "TLS peer gone in mid-handshake": ("ssl/test_tls.py::test_a_peer_that_hangs_up_in_mid_handshake", f"{CONNECTED}::test_a_tls_peer_that_is_gone_in_mid_handshake"),
    "file shrinks under sendfile": (f"{CONNECTED}::test_a_file_that_shrinks_while_a_stream_sends_it", f"{CONNECTED}::test_a_file_that_shrinks_while_it_is_sent"),
    # the machine
    "fork": ("kernel/test_runner.py::test_a_child_that_goes_on_with_the_parents_program_is_told", f"{INTERRUPTED}::test_a_forked_child_leaves_the_parents_registrations_alone"),
    "signal storm": (f"{MACHINE}::test_a_storm_of_signals_beside_traffic", f"{INTERRUPTED}::test_signals_and_a_storm_of_them"),
    "signal handler that raises": ("runtimes/test_native.py::test_a_handler_that_raises_between_two_steps_loses_no_task", f"{INTERRUPTED}::test_ctrl_c_cancels_the_main_task"),
    "interrupted poll": (f"{CONNECTED}::test_an_interrupted_poll", f"{CONNECTED}::test_an_interrupted_poll"),
    "GC during a step": (f"{MACHINE}::test_garbage_collection_in_every_step", f"{CORE}::test_garbage_collection_in_every_step"),
    "exception in a callback": ("kernel/test_token.py::test_a_failing_callback_of_a_scopes_token_is_reported", f"{CORE}::test_an_exception_in_a_callback"),
    "thread wake storm": (f"{MACHINE}::test_threads_that_wake_a_program_at_once", f"{INTERRUPTED}::test_threads_that_wake_the_loop"),
    "no thread can be started": (f"{MACHINE}::test_no_thread_can_be_started", f"{MACHINE}::test_no_thread_can_be_started"),
    "eventfd overflow": (f"{MACHINE}::test_a_wake_up_counter_that_is_full", f"{MACHINE}::test_a_wake_up_counter_of_the_loop_that_is_full"),
    "epoll fd closed": (f"{MACHINE}::test_an_epoll_set_closed_under_its_loop", f"{MACHINE}::test_an_epoll_set_closed_under_its_loop"),
    "wall clock set": (f"{MACHINE}::test_a_wall_clock_that_is_set", f"{MACHINE}::test_a_wall_clock_that_is_set"),
    "monotonic clock leaps": (f"{MACHINE}::test_a_monotonic_clock_that_leaps", f"{MACHINE}::test_a_monotonic_clock_that_leaps"),
    "child reaped by somebody else": ("subprocess/test_process.py::test_after_somebody_else_reaped_it", f"{MACHINE}::test_a_child_of_the_loop_reaped_by_somebody_else"),
    "the same without pidfds": (f"{MACHINE}::test_a_child_reaped_by_somebody_else_where_there_are_no_pidfds", "asyncio's own child watchers are used"),
    "pidfd unavailable": ("subprocess/test_process.py::test_without_pidfds", "asyncio's own child watchers are used"),
    "EMFILE for a child, for a loop": (f"{MACHINE}::test_no_descriptors_for_a_child", f"{DESCRIPTORS}::test_a_loop_that_can_not_be_made_leaves_nothing_behind"),
    # files
    "disk full": (f"{FILES}::test_a_full_disk", "asyncio has no files"),
    "file too large": (f"{FILES}::test_a_limit_on_the_size_of_files", "asyncio has no files"),
    "short write": (f"{FILES}::test_writes_that_are_short_and_interrupted", f"{FILES}::test_a_pipe_of_the_loop_that_is_short_and_interrupted"),
}  # fmt: skip


@functools.cache
def _tests_in(file: str) -> frozenset[str]:
    tree = ast.parse((TESTS / file).read_text())
    return frozenset(node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef))


@pytest.mark.parametrize("fault", FAULTS)
def test_each_fault_has_its_tests(fault: str) -> None:
    for named in FAULTS[fault]:
        file, found, test = named.partition("::")
        if found:
            assert test in _tests_in(file), f"{named} is not there any more"
        else:
            assert " " in named, "a reason, in words"
