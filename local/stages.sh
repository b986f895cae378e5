# Sourced by run.sh: the plan of a run, the decision whether a stage runs, and the commands of stages data and train.

bold='' plain=''
[[ ! -t 2 || -n ${NO_COLOR:-} || ${TERM:-dumb} == dumb ]] || bold=$'\e[1m' plain=$'\e[0m'

log() {  # without an error if the terminal is closed or the disk of the log is full
  [[ -n ${DNF_QUIET:-} ]] || echo "$(date '+%H:%M:%S') $bold$*$plain" >&2 || true
}

run_here() {  # MODULE ARGUMENTS: run directly and not as a job, so that the user sees its log
  DNF_LOG_LEVEL=${DNF_LOG_LEVEL:-${DNF_QUIET:+WARNING}} python3 -m "$@"
}

refuse() { echo "run.sh: $*" >&2; exit 2; }

find_paths() {  # sets words to the arguments, with relative paths from the caller's folder made absolute
  local word before='' names=" data model out config ${RECIPE_OPTIONS[*]} "
  words=("$@")
  [[ -n ${DNF_CALLER-} && ! $DNF_CALLER -ef . ]] || return 0
  [[ ${DNF_PYTHON-} != */* || ! -x $DNF_CALLER/$DNF_PYTHON ]] || export DNF_PYTHON=$DNF_CALLER/$DNF_PYTHON
  words=()
  for word in "$@"; do
    if [[ $names == *" ${before#--} "* || $before == --exp && $word == *.yaml ]] &&
      [[ $word != /* && (-e $DNF_CALLER/$word || $before == --out) ]]; then
      word=$DNF_CALLER/$word
    fi
    words+=("$word")
    before=$word
  done
  unset -v DNF_CALLER
}

is_number() {  # VARIABLE LEAST MOST: check a whole number, and remove leading zeros, since bash reads 08 as octal
  [[ ${!1} =~ ^(-?)0*([0-9]{1,9})$ ]] && printf -v "$1" %s "${BASH_REMATCH[1]}${BASH_REMATCH[2]}" && ((${!1} >= $2 && ${!1} <= $3))
}

note_numbers() {  # sets numbers to the options of the recipe with a number as default
  local word
  numbers=()
  for word in "${RECIPE_OPTIONS[@]}"; do [[ ! ${!word} =~ ^[0-9]+$ ]] || numbers+=("$word"); done
}

check_options() {  # check the command line before anything runs
  [[ $RECIPE_DIR == "$ROOT/egs/$recipe" ]] || refuse "recipe $recipe: give --recipe $recipe first on the command line"
  is_number stage -999 999 && is_number stop_stage 0 999 || refuse "--stage $stage --stop-stage $stop_stage: give numbers from 0 to 8"
  stage=$((stage < 0 ? 0 : stage)) stop_stage=$((stop_stage > 8 ? 8 : stop_stage))
  [[ $stage -le $stop_stage ]] || refuse "--stage $stage --stop-stage $stop_stage: --stage must not be above --stop-stage"
  is_number nj 1 99999 || refuse "--nj $nj: give a number of tasks, from 1 to 99999"
  local number=${device#cuda:}
  [[ $device =~ ^(auto|cpu|cuda|cuda:[0-9]+)$ ]] && { [[ $device != cuda:* ]] || is_number number 0 9999; } ||
    refuse "--device $device: give auto, cpu, cuda or cuda:N"
  [[ $device != cuda:* ]] || device=cuda:$number
  [[ -z $seed ]] || is_number seed 0 999999999 || refuse "--seed $seed: give a whole number from 0 to 999999999"
  [[ -z $data || -e $data ]] || refuse "--data $data: no such file or folder"
  [[ -z $model || -d $model ]] || refuse "--model $model: no such folder"
  [[ -z $model$out || -n $model && -n $data && -z $sweep && $leave_corpora_out == false ]] ||
    refuse "--model and --out: give --model and --data, and no --sweep or --leave-corpora-out"
  [[ -z $sweep || $sweep =~ ^[a-z_]+(\.[a-z_]+)?=[^,/[:space:]]+(,[^,/[:space:]]+)*$ ]] ||
    refuse "--sweep '$sweep': give KEY=V1,V2,..., such as train.beta=0,1,10"
  check_share
  local word
  for word in "${numbers[@]}"; do
    is_number "$word" 0 999999999 || [[ ${!word} =~ ^[0-9]+\.[0-9]+$ ]] || refuse "--${word//_/-} ${!word}: give a number"
  done
}

check_share() {  # check --max-rejected, a number or a percentage
  local share
  [[ -n $max_rejected ]] || return 0
  [[ $max_rejected =~ ^([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE]-?[0-9]{1,2})?(%?)$ ]] &&
    share=$(awk -v number="${max_rejected%\%}" -v whole="${BASH_REMATCH[4]:+100}" \
      'BEGIN { share = number / (whole ? whole : 1); print share; exit !(share <= 1) }') ||
    refuse "--max-rejected $max_rejected: give a share from 0 to 1, such as 0.05 or 5%, with a decimal point"
  max_rejected=$share
}

take_lock() {  # allow one run at a time in this folder; child processes inherit the lock, and end with the run
  local folder=exp
  [[ -z $model ]] || { eval "$experiments" && folder=$exp_dir; }
  mkdir -p "$folder"
  exec {lock}<>"$folder/.lock"
  python3 -m dnf.experiment.lock "$folder/.lock" "$lock" "$COMMAND_LINE"
  [[ -z $model ]] || python3 -m dnf.inference.taken_model note "$model" "$exp_dir"
  export DNF_RUN=$$
}

choose_device() {  # with --device cuda:N, jobs see only this GPU
  local number=${device#cuda:} visible
  [[ $device =~ ^cuda:[0-9]+$ ]] || return 0
  IFS=, read -ra visible <<<"${CUDA_VISIBLE_DEVICES:-}"
  [[ -z ${CUDA_VISIBLE_DEVICES+set} || $number -lt ${#visible[@]} ]] ||
    refuse "--device $device: CUDA_VISIBLE_DEVICES=$CUDA_VISIBLE_DEVICES has no such device"
  export CUDA_VISIBLE_DEVICES=${visible[$number]:-$number}
  device=cuda
}

list_yamls() {
  local yaml=$RECIPE_DIR/conf/$exp.yaml
  if [[ $exp == all ]]; then
    printf '%s\n' "$RECIPE_DIR"/conf/*.yaml
  elif [[ $exp == *.yaml ]]; then
    [[ -f $exp ]] && echo "$exp" || refuse "--exp $exp: no such file"
  elif [[ -f $yaml ]]; then
    echo "$yaml"
  else
    refuse "no experiment '$exp' in $RECIPE_DIR/conf; use one of: all $(cd "$RECIPE_DIR/conf" && printf '%s\n' *.yaml | sed 's/\.yaml$//' | xargs)"
  fi
}

choose_source() {  # the input of stage data: the recipe's corpora, or the user's own recordings
  local word source="recipe $recipe"
  prepare_options=() source_tables=()
  for word in "${RECIPE_OPTIONS[@]}"; do
    [[ -n ${!word} ]] || continue
    prepare_options+=("--${word//_/-}" "${!word}")
    [[ " ${RECIPE_MEANS[*]} " == *" $word "* ]] || source+=" --${word//_/-} ${!word}"
    [[ ! -e ${!word} && ${!word} != */* ]] || source_tables+=(--source-tables "${!word}")
  done
  [[ -z $data ]] || source="own data $(realpath -m "$data")" source_tables=(--source-tables "$data")
  source_options=(--source "$source")
}

make_all_data() {  # stage 0 with all corpora, which tells what can be left out
  "$ROOT/run.sh" --recipe "$recipe" "${words[@]}" --leave-corpora-out false --sweep '' --stage 0 --stop-stage 0
}

OWN_SETS=(--set 'data.train=[train]' --set 'data.dev=[dev]' --set 'data.test=[]' --set 'data.views={}' --set 'data.controls={}'
  --set 'data.classes=[]')

plan() {  # print shell assignments, one line per experiment, after checks of all experiments
  local word yamls options=() stronger=() module=dnf.experiment.plan
  for word in "${set[@]}" ${seed:+"seed=$seed"} ${max_rejected:+"features.max_rejected=$max_rejected"}; do
    stronger+=(--set "$word")
  done
  [[ -z $model ]] || {
    python3 -m dnf.inference.taken_model plan "$model" ${out:+"$out"} --data "$data" "${source_options[@]}" "${stronger[@]}"
    return
  }
  yamls=$(list_yamls) || exit
  mapfile -t yamls <<<"$yamls"
  for word in "${RECIPE_SETTINGS[@]}"; do
    [[ -n $data && $word == data.* ]] || options+=(--weaker "$word")  # own data have their own sets
  done
  [[ -z $data || $exp == *.yaml ]] || options+=("${OWN_SETS[@]}")
  ! $leave_corpora_out || module=dnf.data.leave_out
  python3 -m "$module" "${options[@]}" "${stronger[@]}" "${source_options[@]}" ${data:+--own-data "$data"} ${sweep:+--sweep "$sweep"} \
    -- "${yamls[@]}"
}

choose_experiment() {  # ASSIGNMENTS: a line of plan
  eval "$1"
  stage_options=("${config[@]}" "${folders[@]}" "${source_options[@]}" "${source_tables[@]}")
  restart='' up_to_date='' ended=
  ! $force || { stage_options+=(--force); restart=--restart; }
}

show_outlook() {  # show which stages would run, and errors of the sets unless this run changes the sets
  local lines status=0
  lines=$(python3 -m dnf.experiment.stage outlook "${stage_options[@]}" --first "$stage" --last "$stop_stage") || status=$?
  [[ -z $model ]] || lines=$(sed '/^stage 5 /d' <<<"$lines")  # other data have no plots
  [[ -z $lines ]] || echo "$lines"
  case $status in
    0) can_run || true ;;
    4) [[ -n $model ]] || echo "classes and sets are checked when stage 0 has run" ;;
    *) exit "$status" ;;
  esac
}

is_up_to_date() { [[ " $up_to_date " == *" $1 "* ]]; }

begin() {  # NUMBER NAME: whether the stage must run; the same interpreter writes the marker of the stage before
  [[ $stage -le $1 && $1 -le $stop_stage ]] || return 1
  local answer to_come status=0
  if ! is_up_to_date "$2"; then
    answer=$(python3 -m dnf.experiment.stage begin "$2" ${ended:+--finish "$ended"} "${stage_options[@]}" \
      --first "$stage" --last "$stop_stage") || status=$?
    ended=
    case $status in
      0) ;;
      3) up_to_date=$answer && is_up_to_date "$2" || exit ;;  # the answer has the stages up to the first that must run
      *) exit "$status" ;;
    esac
  fi
  ! is_up_to_date "$2" || { log "stage $1 ($2): up to date"; return 1; }
  read -r DNF_WORK to_come <<<"$answer"  # the name of its work, which a later run can continue, then the forecast
  export DNF_WORK
  log "stage $1 ($2)${to_come:+: $to_come}"
}

finish() {  # NAME: the stage has succeeded; begin or write_marker writes its marker
  [[ $1 != report ]] || check_results
  ended=$1
}

write_marker() {  # of the stage that ended last, unless begin has written it
  [[ -z $ended ]] || python3 -m dnf.experiment.stage finish "$ended" "${stage_options[@]}" || exit
  ended=
}

check_results() {  # check that stage report has written its files
  local file
  for file in results.txt results.tsv report.html; do
    [[ -s $exp_dir/$file && ! $exp_dir/.started.report -nt $exp_dir/$file ]] ||
      { echo "run.sh: $exp_dir/$file: stage 8 (report) did not write it; start again with --stage 8 --force" >&2; exit 1; }
  done
}

train() {  # or copy the model with --model; several processes run by torchrun, one job per node, and meet by a file in exp_dir
  [[ -z $model ]] || { python3 -m dnf.inference.taken_model take "$model" "$exp_dir"; return; }
  local launch=() array=() gpu=() log=train.log
  [[ $num_gpus -eq 1 ]] || launch=(dnf.training.launch "$exp_dir")
  [[ $num_nodes -eq 1 ]] || {
    launch=(dnf.training.launch --node JOB "$exp_dir") array=(--max-jobs-run "$num_nodes" "JOB=1:$num_nodes") log=train.JOB.log
  }
  if [[ " $cuda_cmd " == *" --gpu "* ]]; then
    gpu=(--gpu "$num_gpus")  # the last one counts
  elif [[ $num_gpus -gt 1 && $cuda_cmd != "$train_cmd" ]]; then
    echo "run.sh: train.num_gpus $num_gpus: cuda_cmd in cmd.sh is '$cuda_cmd', which has no --gpu; add --gpu 1" >&2
    exit 1
  fi
  $cuda_cmd "${gpu[@]}" "${array[@]}" "$exp_dir/log/$log" python3 -m "${launch[@]}" \
    dnf.training.train "$frames_dir" "$exp_dir" --classes "$data_dir/classes.txt" --device "$device" $restart
}

leave_out() {  # REASON: an error, but --exp all runs without this experiment
  [[ $exp == all ]] || { echo "run.sh: experiment $name cannot run: $1" >&2; exit 1; }
  LEFT_OUT+=("$name: $1")
}

can_run() {  # whether the training and dev sets exist; --exp all leaves out experiments without them
  local reason status=0
  write_marker
  [[ -z $model && -f $data_dir/.done.data ]] || return 0
  reason=$(python3 -m dnf.data.check_sets "$data_dir" "${config[@]}") || status=$?
  case $status in
    0) return 0 ;;
    4) [[ $stop_stage -ge 3 ]] || return 0 ;;
    *) exit "$status" ;;
  esac
  leave_out "$reason"
  return 1
}

report_left_out() {  # list the experiments that --exp all has left out; an error if none could run
  local line
  [[ ${#LEFT_OUT[@]} -gt 0 ]] || return 0
  for line in "${LEFT_OUT[@]}"; do log "left out: experiment $line"; done
  [[ ${#LEFT_OUT[@]} -lt $(wc -l <<<"$experiments") ]] || { echo "run.sh: no experiment could run" >&2; exit 1; }
}

few_classes() {  # print the names of the classes, or the first names and the number of many classes
  local count
  count=$(wc -l <"$data_dir/classes.txt")
  if [[ $count -le 20 ]]; then xargs <"$data_dir/classes.txt"; else echo "$(head -n 3 "$data_dir/classes.txt" | xargs) ... ($count)"; fi
}

make_data() {  # data directories of the recipe's corpus, or of the user's own recordings
  if [[ -n $model ]]; then
    $train_cmd "$data_dir/log/data_to_score.log" \
      python3 -m dnf.data.data_to_score "$data" "$data_dir" --allow-pipes "$allow_pipes"
    sed -n 's/.* WARNING [^ ]* \(class .*\)/\1/p' "$data_dir/log/data_to_score.log" >&2
  elif $leave_corpora_out; then
    $train_cmd "$data_dir/log/by_corpus.log" python3 -m dnf.data.by_corpus "${source_tables[1]}" "$data_dir"
  elif [[ -n $data ]]; then
    $train_cmd "$data_dir/log/own_data.log" python3 -m dnf.data.own_data "$data" "$data_dir" --allow-pipes "$allow_pipes"
    [[ $exp == *.yaml ]] || log "the classes are those of the data: $(few_classes); select classes with --set 'data.classes=[...]'"
  else
    $train_cmd "$data_dir/log/prepare.log" python3 "$RECIPE_DIR/local/prepare_data.py" "$data_dir" \
      --seed "$data_seed" --nj "$((nj < $(processors) ? nj : $(processors)))" "${prepare_options[@]}"
  fi
  run_here dnf.data.splits "$data_dir" --allow-pipes "$allow_pipes"
  [[ ! -f $data_dir/missing.txt ]] || awk '{ set = $1; sub(/^[^ ]+ /, ""); sets[$0] = sets[$0] " " set }
    END { for (option in sets) print "no " option ": left out" sets[option] }' "$data_dir/missing.txt" | sort >&2 || true
}
