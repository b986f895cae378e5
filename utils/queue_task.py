"""One task of a queued job, on the node where the scheduler started it; no one but the queue runners calls this.

Usage: queue_task.py FOLDER RUN SUBMISSION INDEX JOB RESTARTS [--choose-gpus]
"""

import os
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))  # also with PYTHONSAFEPATH

from jobs import task

if __name__ == "__main__":
    sys.exit(task.main(sys.argv[1:]))
