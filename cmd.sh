# Which queue runs the jobs: sourced by run.sh, after its options are parsed and path.sh has set DNF_ROOT.
#
#   train_cmd   jobs on processors
#   cuda_cmd    jobs on a GPU, where there is one
#
# cmd_backend=local runs them on this machine. All runners have Kaldi's command line, so a site's own may be given to
# run.sh: --cmd "/path/to/queue.pl --mem 4G".
cmd_backend=${cmd_backend:-local}
: "${DNF_ROOT:?cmd.sh: not set: source path.sh first}"

if [[ -n ${cmd:-} ]]; then
  train_cmd=$cmd
elif [[ $DNF_ROOT == *[[:space:]]* ]]; then
  echo "cmd.sh: the name of the folder '$DNF_ROOT' has a blank in it, which breaks command lines: rename it" >&2
  return 1
elif [[ $cmd_backend == local ]]; then
  train_cmd=$DNF_ROOT/utils/run.py
else
  echo "cmd.sh: unknown cmd_backend '$cmd_backend': only local is built in; give a site's own runner with --cmd" >&2
  return 1
fi

cuda_cmd=$train_cmd
if [[ ${device:-auto} != cpu ]] && { [[ -n ${cmd:-} ]] || command -v nvidia-smi >/dev/null; }; then
  cuda_cmd+=" --gpu 1"
fi
