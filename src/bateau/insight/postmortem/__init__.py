"""After the end of a program: what its recorder and its last exception tell.

``report`` is what a report consists of and its JSON form; ``death`` makes one of a recording, ``catching`` of an unhandled
exception, ``supervising`` of a child process's end; ``cluster`` gives crashes of one cause one id; ``text`` tells it to a person.
"""

from __future__ import annotations
