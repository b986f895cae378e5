#!/usr/bin/env python3
"""Run a command, or an array of numbered tasks, by Slurm; its output goes to a log file.

Usage: utils/slurm.py [options] [JOB=a:b | JOB=a] [options] LOGFILE COMMAND [ARGS...]
  e.g. utils/slurm.py --mem 4G --max-jobs-run 40 JOB=1:400 exp/log/fbank.JOB.log compute-fbank data/split400/JOB
"""

import os
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))  # also with PYTHONSAFEPATH

from jobs import queue_runner
from jobs.slurm import Slurm

if __name__ == "__main__":
    sys.exit(queue_runner.main(sys.argv[1:], Slurm(), __doc__))
