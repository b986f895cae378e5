"""One task of a queued job, on the node where the scheduler started it; no one but the queue runners calls this.

Usage: queue_task.py FOLDER RUN SUBMISSION INDEX JOB RESTARTS [--choose-gpus]
"""

import sys

from jobs import task

if __name__ == "__main__":
    sys.exit(task.main(sys.argv[1:]))
