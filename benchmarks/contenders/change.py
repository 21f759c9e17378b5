"""Changes executions of a store that is thrown away: tags that somebody adds from outside, one commit each."""

from __future__ import annotations

import sys
import time

from benchmarks.contenders.questions import ADDED_TAG, changed_numbers
from kitaru.compose import close_logs, open_log
from kitaru.domain.commands import ChangeTags
from kitaru.settings import resolve_store

_SOME = "SELECT exec_id FROM executions WHERE number IN (SELECT value FROM json_each(?))"
_LAST = "SELECT max(number) FROM executions"


def main() -> None:
    """`python -m benchmarks.contenders.change STORE COUNT`: change COUNT executions all over the store."""
    log = open_log(resolve_store(sys.argv[1]))
    last = int(str(log.query(_LAST)[0][0]))
    try:
        for (exec_id,) in log.query(_SOME, (str(changed_numbers(last, int(sys.argv[2]))),)):
            log.execute(str(exec_id), ChangeTags((ADDED_TAG,), (), "bench"), time.time_ns() // 1000)
    finally:
        close_logs()


if __name__ == "__main__":
    main()
