# Which queue runs the jobs: sourced by run.sh, after its options are parsed and path.sh has set DNF_ROOT.
#
#   train_cmd   jobs on processors
#   cuda_cmd    jobs on a GPU, where there is one; one that has --gpu 1 gets --gpu N, too, for training on N GPUs
#
# cmd_backend, here or in the environment, is local (this host) or the name of a queue runner utils/<name>.py: slurm, sge
# (Grid Engine). What a site's queue wants to be told stands in its file below conf/. All runners have Kaldi's command
# line, so a site's own may be given to run.sh: --cmd "/path/to/queue.pl --mem 4G".
cmd_backend=${cmd_backend:-local}
: "${DNF_ROOT:?cmd.sh: not set: source path.sh first}"

if [[ -n ${cmd:-} ]]; then
  train_cmd=$cmd
elif [[ $DNF_ROOT == *[[:space:]]* ]]; then
  echo "cmd.sh: the name of the folder '$DNF_ROOT' contains a blank, which breaks command lines: rename the folder" >&2
  return 1
elif [[ $cmd_backend == local ]]; then
  train_cmd=$DNF_ROOT/utils/run.py
elif [[ $cmd_backend != */* && -x $DNF_ROOT/utils/$cmd_backend.py ]]; then
  train_cmd=$DNF_ROOT/utils/$cmd_backend.py
else
  backends=local
  for runner in "$DNF_ROOT"/utils/*.py; do
    [[ ! -x $runner || $runner == */run.py ]] || { runner=${runner##*/} && backends+=", ${runner%.py}"; }
  done
  echo "cmd.sh: unknown cmd_backend '$cmd_backend': use one of $backends, or give your site's runner with --cmd" >&2
  return 1
fi

cuda_cmd=$train_cmd
if [[ ${device:-auto} != cpu ]] &&
  { [[ -n ${cmd:-} || $cmd_backend != local ]] || command -v nvidia-smi >/dev/null; }; then
  cuda_cmd+=" --gpu 1"
fi
