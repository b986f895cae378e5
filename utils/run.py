#!/usr/bin/env python3
"""Run a command, or an array of numbered tasks, on this machine; its output goes to a log file.

Usage: utils/run.py [options] [JOB=a:b | JOB=a] [options] LOGFILE COMMAND [ARGS...]
  e.g. utils/run.py --max-jobs-run 4 JOB=1:8 exp/log/fbank.JOB.log compute-fbank data/split8/JOB '>' feats.JOB

With JOB=a:b the command runs once for each number from a to b; JOB (any name) is replaced by the number wherever it
occurs in LOGFILE and COMMAND. The words are joined and given to bash: quote shell characters ('>', \\|, '$x').

Options:
  --max-jobs-run N, -tc N  most tasks at a time (default: processors / threads; the smallest value counts if given twice)
  --num-threads N          sets OMP_NUM_THREADS
  --gpu N                  N devices for each task by CUDA_VISIBLE_DEVICES, and as many tasks at a time as they allow;
                           waits for devices that other runs use
  --num-tries N            run a failed task up to N times in all; logs of earlier tries go to LOGFILE.bak
  --pick WHICH             all, failed (tasks with a failed or incomplete log), incomplete (tasks with an incomplete log)
Other options (--mem 4G, --time ...) take one value and are ignored, so that the queue runners' command lines work here.

Status: 0 if all tasks succeeded, 1 if any failed, 2 if interrupted or if the command line is wrong.
"""

import os
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))  # also with PYTHONSAFEPATH

from jobs import local

if __name__ == "__main__":
    sys.exit(local.main(sys.argv[1:], __doc__))
