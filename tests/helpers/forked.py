"""Work done in a fork of this process, which may end in any way, with all that it says."""

import os
import sys
import traceback
from collections.abc import Callable


def in_fork(work: Callable[[], int]) -> tuple[int, str]:
    """Do it in a child that has imported all that this process has.

    Returns:
        What ``work`` returned, 1 where it raised, or the signal that ended the child as a negative number; and stdout
        and stderr together. They go through a pipe: a limit on the size of files must not cut what is said.
    """
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.dup2(writing, 1)
        os.dup2(writing, 2)
        status = 1
        try:
            status = work()
        except BaseException:
            traceback.print_exc()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
    os.close(writing)
    with os.fdopen(reading) as said:
        text = said.read()
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), text
