"""What a child process said before it died, for the error that reports its death."""

from __future__ import annotations

import os
import re
import threading
from collections import deque
from types import TracebackType

ERROR = re.compile(r"(?:^|\s)((?:\w+\.)*\w*(?:Error|Exception|Interrupt)\b.*)")


class LastWords:
    """While entered, passes standard error on to where it went and keeps its last lines.

    Children started meanwhile go on writing through it, so it stays open behind them as long as they live.
    """

    def __init__(self, lines: int = 200) -> None:
        self.lines: deque[str] = deque(maxlen=lines)

    def __enter__(self) -> LastWords:
        self._before = os.dup(2)
        read, write = os.pipe()
        os.dup2(write, 2)
        os.close(write)
        self._copier = threading.Thread(target=self._copy, args=(read,), daemon=True)
        self._copier.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        os.dup2(self._before, 2)

    def _copy(self, read: int) -> None:
        with os.fdopen(read, errors="replace") as stream:
            for line in stream:
                self.lines.append(line.rstrip("\n"))
                os.write(self._before, line.encode())
        os.close(self._before)

    def error(self) -> str:
        """The last line that names an exception, empty where none does; waits a moment for what is in the pipe."""
        self._copier.join(timeout=2)
        found = [match.group(1) for line in self.lines if (match := ERROR.search(line))]
        return found[-1] if found else ""
