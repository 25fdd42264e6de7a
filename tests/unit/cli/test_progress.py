"""The sign of life on a terminal: it comes after half a second, and leaves nothing behind."""

from __future__ import annotations

import io
import threading

import pytest

from redshift_secrets.cli import progress
from redshift_secrets.cli.progress import Spinner, make_room, spinner


class Terminal(io.StringIO):
    """A terminal; `written` is set once something was."""

    def __init__(self):
        super().__init__()
        self.written = threading.Event()

    def isatty(self):
        return True

    def write(self, text):
        super().write(text)
        self.written.set()


def test_it_turns_until_the_work_is_done_and_is_erased(monkeypatch):
    monkeypatch.setattr(progress, "_AFTER_SECONDS", 0.0)
    terminal = Terminal()
    with spinner("asking AWS", terminal):
        assert terminal.written.wait(30)
    assert terminal.getvalue().startswith("\r\x1b[K| asking AWS")
    assert terminal.getvalue().endswith("\r\x1b[K")


def test_it_is_not_drawn_before_half_a_second():
    waits = []
    shown = Spinner("x", Terminal())
    shown._over.wait = lambda seconds: waits.append(seconds) or len(waits) == 3
    shown.turn()
    assert waits == [0.5, 0.1, 0.1]
    assert shown._stream.getvalue() == "\r\x1b[K| x\r\x1b[K/ x"


@pytest.mark.parametrize(("stream", "quiet"), [(io.StringIO(), False), (Terminal(), True)])
def test_it_is_for_terminals_alone_and_for_none_with_a_log(monkeypatch, stream, quiet):
    monkeypatch.setattr(progress, "_AFTER_SECONDS", 0.0)
    with spinner("x", stream, quiet):
        assert progress._running == []
    assert stream.getvalue() == ""


def test_an_error_ends_it_too():
    terminal = Terminal()
    with pytest.raises(KeyError), spinner("x", terminal):
        raise KeyError
    assert progress._running == []
    assert terminal.getvalue() == "\r\x1b[K"


def test_what_is_printed_meanwhile_has_the_line_for_itself():
    terminal = Terminal()
    with spinner("x", terminal), spinner("y", terminal):  # of two there is one
        make_room()
        assert terminal.getvalue() == "\r\x1b[K"
    make_room()
    assert terminal.getvalue() == "\r\x1b[K\r\x1b[K"


def test_it_shows_what_is_done_now(monkeypatch):
    monkeypatch.setattr(progress, "_AFTER_SECONDS", 0.0)
    terminal = Terminal()
    progress.say("nobody shows this")
    with spinner("reading", terminal):
        assert terminal.written.wait(30)
        terminal.written.clear()
        progress.say("listing 1 of 2")
        while "listing 1 of 2" not in terminal.getvalue():
            assert terminal.written.wait(30)
            terminal.written.clear()
