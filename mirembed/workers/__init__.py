"""Worker processes: many independent tasks, side by side, whatever happens to one of them.

Each worker has a pipe of its own and does its tasks in order, so that it is known which task was in hand when native
code crashed, hung or took all memory: that task is lost, and nothing else.
"""

from mirembed.workers.outcomes import Crashed, Done, Limits
from mirembed.workers.running import available_jobs, run

__all__ = ["Crashed", "Done", "Limits", "available_jobs", "run"]
