#!/usr/bin/env bash
# From sound to results: the only list of stages. Alone it runs the mini recipe here; egs/<recipe>/run.sh run the others.
[[ $- == *p* ]] || exec "$BASH" -p "${BASH_SOURCE[0]}" "$@"  # without functions and shell options of the environment
set +o posix
set -euo pipefail
export LC_ALL=C
true >&2 || exec 2>/dev/null  # a file that is opened must not become stderr
{ true >&1 || exec >/dev/null; true <&0 || exec </dev/null; } 2>/dev/null

help_message="Usage: run.sh [options]        e.g. run.sh --stage 3, run.sh --exp all, run.sh --data my_corpus --exp hybrid
Stages: 0 data, 1 features, 2 frames, 3 train, 4 latents, 5 plots, 6 score, 7 decide, 8 report
Options:
  --recipe NAME          folder below egs/ (default: mini); give it first
  --exp NAME             an experiment of the recipe's conf/, 'all', or a YAML file (default: that of recipe.conf)
  --data DIR             your own recordings: Kaldi data directories train/ [dev/] <test sets>/ or one recordings.tsv
  --model DIR            score --data with the model of this experiment or baseline; nothing is trained (docs/score.md)
  --out DIR              folder for these scores (default: score/<experiment>_<data>)
  --stage N              first stage (default: 0)
  --stop-stage N         last stage (default: 8)
  --set KEY=VALUE        a setting of conf/default.yaml, e.g. train.lr=0.001; may be repeated
  --sweep KEY=V1,V2,...  run each experiment once for each value of a setting, as exp/<name>_KEY=<value>, and plot
                         figures against it
  --leave-corpora-out [BOOL]
                         run each experiment once without each corpus, as exp/<name>_without_<corpus>, and print a
                         table to choose settings by; docs/channel.md (default: false)
  --nj N                 tasks of a job array (default: processors)
  --cmd 'RUNNER ...'     runner of the jobs (default: see cmd.sh)
  --seed N               seed of all random draws (default: 1)
  --device NAME          auto, cpu, cuda, cuda:1 (default: auto, the GPU if there is one)
  --max-rejected SHARE   share of a set's utterances that may be rejected, e.g. 5% (default: 1%)
  --allow-pipes [BOOL]   run the commands that wav.scp or a manifest has for recordings (default: false)
  --write-spliced [BOOL] stage 2 also writes arks of spliced vectors for Kaldi, exp/<exp>/spliced (default: false)
  --force [BOOL]         also run stages that are up to date (default: false)
  --dry-run [BOOL]       show what would run, and run nothing (default: false)
  --quiet [BOOL]         say nothing but warnings and errors (default: false)
  --config FILE          shell assignments to these options"

processors() { OMP_NUM_THREADS='' OMP_THREAD_LIMIT='' nproc; }  # which takes these for its answer

recipe=mini stage=0 stop_stage=8 nj=$(processors) cmd= sweep= seed= device=auto max_rejected= data= model= out=
allow_pipes=false write_spliced=false force=false dry_run=false quiet=false leave_corpora_out=false exp= set=()
RECIPE_SETTINGS=() RECIPE_OPTIONS=() RECIPE_MEANS=() RECIPE_HELP= LEFT_OUT=() COMMAND_LINE="$0 $*"

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
[[ ${1-} != --recipe || $# -lt 2 ]] || { recipe=$2; shift 2; }  # it brings options of its own
RECIPE_DIR=$ROOT/egs/$recipe
[[ -f $RECIPE_DIR/recipe.conf ]] ||
  { echo "run.sh: no recipe '$recipe'; use one of: $(cd "$ROOT/egs" && printf '%s\n' */recipe.conf | xargs -n1 dirname | xargs)" >&2; exit 2; }
. "$RECIPE_DIR/recipe.conf"
. "$ROOT/local/stages.sh"
note_numbers
find_paths "$@"
set -- "${words[@]}"
help_message+=${RECIPE_HELP:+$'\n'"Options of recipe $recipe:"$'\n'$RECIPE_HELP}
. "$ROOT/utils/parse_options.sh"
[[ $# -eq 0 ]] || { echo "run.sh: '$1' is not an option; see run.sh --help" >&2; exit 2; }
check_options
! $quiet || export DNF_QUIET=1
. "$ROOT/path.sh"
. "$ROOT/cmd.sh"

$dry_run || ! $leave_corpora_out || make_all_data
choose_source
experiments=$(plan)
$dry_run || take_lock
choose_device
while IFS= read -r experiment <&3; do
  choose_experiment "$experiment"
  [[ -z $lacking || $stop_stage -eq 0 ]] || { leave_out "$lacking"; continue; }
  ! $dry_run || { show_outlook; continue; }

  if begin 0 data; then
    make_data
    finish data
  fi
  can_run || continue
  if begin 1 features; then
    [[ $front_end != @(ubm|pool) ]] || $cuda_cmd "$feats_dir/log/fit.log" \
      python3 -m dnf.features.extract fit "$data_dir" "$feats_dir" --allow-pipes "$allow_pipes" --device "$device"
    $train_cmd "JOB=1:$nj" "$feats_dir/log/features.JOB.log" \
      python3 -m dnf.features.extract compute "$data_dir" "$feats_dir" --job JOB --jobs "$nj" --work "$DNF_WORK" \
      --allow-pipes "$allow_pipes"
    run_here dnf.features.collect "$data_dir" "$feats_dir" --jobs "$nj"
    finish features
  fi
  if begin 2 frames; then
    $train_cmd "$frames_dir/log/frames.log" python3 -m dnf.features.frames "$data_dir" "$frames_dir" --feats "$feats_dir"
    finish frames
  fi
  if $write_spliced && begin 2 spliced; then
    $train_cmd "$spliced_dir/log/spliced.log" python3 -m dnf.features.splice "$frames_dir" "$spliced_dir" "${config[@]}"
    finish spliced
  fi
  if begin 3 train; then
    train
    finish train
  fi
  if begin 4 latents; then
    $cuda_cmd "$exp_dir/log/latents.log" \
      python3 -m dnf.scoring.latents "$frames_dir" "$exp_dir" --classes "$data_dir/classes.txt" --device "$device"
    [[ $baselines == false && -z $model ]] || $cuda_cmd "$exp_dir/log/baselines.log" \
      python3 -m dnf.scoring.baselines "$frames_dir" "$exp_dir" --classes "$data_dir/classes.txt" --device "$device"
    finish latents
  fi
  if [[ -z $model ]] && begin 5 plots; then
    $train_cmd "$exp_dir/log/plots.log" python3 -m dnf.plots.draw "$exp_dir"
    finish plots
  fi
  if begin 6 score; then
    $train_cmd "$exp_dir/log/score.log" python3 -m dnf.scoring.score "$exp_dir"
    finish score
  fi
  if begin 7 decide; then
    $train_cmd "$exp_dir/log/decide.log" python3 -m dnf.decisions.decide "$exp_dir"
    finish decide
  fi
  if begin 8 report; then
    run_here dnf results "$exp_dir"
    run_here dnf.report.html "$exp_dir"
    finish report
  fi
  write_marker
  [[ $stop_stage -lt 8 ]] || { check_results; log "results: $exp_dir/results.txt, page: $exp_dir/report.html"; }
done 3<<<"$experiments"
[[ -z $sweep || $stop_stage -lt 8 ]] || $dry_run || python3 -m dnf sweep exp "${sweep%%=*}"
! $leave_corpora_out || [[ $stop_stage -lt 8 ]] || $dry_run || python3 -m dnf corpora exp
report_left_out
