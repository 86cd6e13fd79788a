"""Worker processes: independent tasks side by side, isolated from each other's crashes.

Every worker has its own pipe and runs its tasks in order. If native code crashes, hangs or takes all the memory, it is
known which task was running: that task is lost, and no other.
"""

from mirembed.workers.pool import Crashed, Done, Limits, available_jobs, run

__all__ = ["Crashed", "Done", "Limits", "available_jobs", "run"]
