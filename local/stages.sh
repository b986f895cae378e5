# To be sourced by run.sh: the folders of a run, the gates of its stages, and how stage 0 gets its data.

log() { echo "$(date '+%H:%M:%S') $*" >&2; }

refuse() { echo "run.sh: $*" >&2; exit 2; }  # to run a command line

check_options() {  # what is wrong with a command line is said before anything runs
  [[ $RECIPE_DIR == "$ROOT/egs/$recipe" ]] || refuse "recipe=$recipe in a --config file: give --recipe on the command line"
  [[ $stage =~ ^-?[0-9]+$ && $stop_stage =~ ^[0-9]+$ ]] || refuse "--stage $stage --stop-stage $stop_stage: give numbers from 0 to 8"
  stage=$((stage < 0 ? 0 : stage)) stop_stage=$((stop_stage > 8 ? 8 : stop_stage))
  [[ $stage -le $stop_stage ]] || refuse "--stage $stage --stop-stage $stop_stage: there is no stage from $stage to $stop_stage"
  [[ $nj =~ ^[1-9][0-9]*$ ]] || refuse "--nj $nj: give a number of tasks, 1 or more"
  [[ $device =~ ^(auto|cpu|cuda(:[0-9]+)?)$ ]] || refuse "--device $device: it is auto, cpu, cuda or cuda:N"
  [[ -z $data || -e $data ]] || refuse "--data $data: no such file or folder"
  [[ $max_rejected != *% ]] || max_rejected=$(awk -v p="${max_rejected%\%}" 'BEGIN { print p / 100 }')
}

check_settings() {  # of all experiments, before the first of several runs
  local yaml value
  [[ $experiments == *$'\n'* ]] || return 0
  while IFS=$'\t' read -r yaml value; do
    choose_experiment "$yaml" "$value"
    python3 -m dnf.experiment.stage check "${stage_options[@]}"
  done <<<"$experiments"
}

take_lock() {  # one run at a time where data/ and exp/ lie; what this run starts has the lock, too, and ends with it
  mkdir -p exp
  exec {lock}<>exp/.lock
  python3 -m dnf.experiment.lock exp/.lock "$lock" "$COMMAND_LINE"
  export DNF_RUN=$$
}

choose_device() {  # --device cuda:N: jobs see that GPU alone, whatever others they could have
  local number=${device#cuda:} visible
  [[ $device =~ ^cuda:[0-9]+$ ]] || return 0
  IFS=, read -ra visible <<<"${CUDA_VISIBLE_DEVICES:-}"
  [[ -z ${CUDA_VISIBLE_DEVICES+set} || $number -lt ${#visible[@]} ]] ||
    refuse "--device $device: CUDA_VISIBLE_DEVICES=$CUDA_VISIBLE_DEVICES has no such device"
  export CUDA_VISIBLE_DEVICES=${visible[$number]:-$number}
  device=cuda
}

list_experiments() {  # YAML files, one a line; with --sweep one for each value, after a tab
  local values value yaml yamls
  yamls=$(list_yamls) || exit 2
  [[ -n $sweep ]] || { echo "$yamls"; return; }
  [[ $sweep =~ ^[a-z_]+(\.[a-z_]+)?=[^,/[:space:]]+(,[^,/[:space:]]+)*$ ]] ||
    refuse "--sweep '$sweep': give KEY=V1,V2,... such as train.beta=0,1,10"
  IFS=, read -ra values <<<"${sweep#*=}"
  while IFS= read -r yaml; do
    for value in "${values[@]}"; do echo "$yaml"$'\t'"$value"; done
  done <<<"$yamls"
}

list_yamls() {
  local yaml=$RECIPE_DIR/conf/$exp.yaml
  if [[ $exp == all ]]; then
    ls "$RECIPE_DIR"/conf/*.yaml
  elif [[ $exp == *.yaml ]]; then
    [[ -f $exp ]] && echo "$exp" || refuse "--exp $exp: no such file"
  elif [[ -f $yaml ]]; then
    echo "$yaml"
  else
    refuse "no experiment '$exp' in $RECIPE_DIR/conf; there are: all $(cd "$RECIPE_DIR/conf" && ls -- *.yaml | sed 's/\.yaml$//' | xargs)"
  fi
}

choose_experiment() {  # YAML file, value of the sweep if there is one: sets the folders and settings of the experiment
  local word key=${sweep%%=*}
  name=$(basename "$1" .yaml)${sweep:+_${key##*.}=$2}
  data_dir=data feats_dir=exp/feats frames_dir=exp/frames exp_dir=exp/$name config=() prepare_options=() source="recipe $recipe" tables=()
  for word in "${RECIPE_SETTINGS[@]}"; do config+=(--set "$word"); done
  config+=(--config "$1")
  for word in "${set[@]}" ${seed:+"seed=$seed"} ${max_rejected:+"features.max_rejected=$max_rejected"} ${sweep:+"$key=$2"}; do
    config+=(--set "$word")
  done
  for word in "${RECIPE_OPTIONS[@]}"; do
    [[ -n ${!word} ]] || continue
    prepare_options+=("--${word//_/-}" "${!word}")
    [[ " ${RECIPE_MEANS[*]} " == *" $word "* ]] || source+=" --${word//_/-} ${!word}"
    [[ ! -e ${!word} && ${!word} != */* ]] || tables+=(--source-tables "${!word}")
  done
  if [[ -n $data ]]; then
    local corpus
    corpus=$(basename "$(realpath -m "$data")")
    data_dir=data/$corpus feats_dir=exp/feats/$corpus frames_dir=exp/frames/$corpus exp_dir=exp/${corpus}_$name
    source="own data $(realpath -m "$data")" tables=(--source-tables "$data")
  fi
  stage_options=("${config[@]}" --data "$data_dir" --feats "$feats_dir" --frames "$frames_dir" --exp "$exp_dir"
    --source "$source" "${tables[@]}")
  restart=
  ! $force || { stage_options+=(--force); restart=--restart; }
}

show_outlook() { python3 -m dnf.experiment.stage outlook "${stage_options[@]}" --first "$stage" --last "$stop_stage"; }

begin() {  # number, name: whether the stage has to run; DNF_WORK names the work, which a later run may go on with
  [[ $stage -le $1 && $1 -le $stop_stage ]] || return 1
  local status=0
  DNF_WORK=$(python3 -m dnf.experiment.stage begin "$2" "${stage_options[@]}") || status=$?
  export DNF_WORK
  case $status in
    0) log "stage $1 ($2)" ;;
    3) log "stage $1 ($2): up to date"; return 1 ;;
    *) exit "$status" ;;
  esac
}

finish() { python3 -m dnf.experiment.stage finish "$1" "${stage_options[@]}"; }

train() {  # as one process, or by torchrun as several: a job for each node; they meet by a file in exp_dir
  local gpus nodes launch=() array=() log=train.log
  gpus=$(awk '$1 == "num_gpus:" { print $2 }' "$exp_dir/config.yaml")
  nodes=$(awk '$1 == "num_nodes:" { print $2 }' "$exp_dir/config.yaml")
  [[ $gpus -eq 1 ]] || launch=(dnf.training.launch "$exp_dir")
  [[ $nodes -eq 1 ]] || {
    launch=(dnf.training.launch --node JOB "$exp_dir") array=(--max-jobs-run "$nodes" "JOB=1:$nodes") log=train.JOB.log
  }
  ${cuda_cmd/%--gpu 1/--gpu $gpus} "${array[@]}" "$exp_dir/log/$log" python3 -m "${launch[@]}" \
    dnf.training.train "$frames_dir" "$exp_dir" --classes "$data_dir/classes.txt" --device "$device" $restart
}

can_run() {  # whether the training and dev sets are there; with --exp all, an experiment that lacks them is left out
  local reason status=0
  [[ $stop_stage -ge 3 && -f $data_dir/.done.data ]] || return 0
  reason=$(python3 -m dnf.experiment.sets check "$data_dir" "${config[@]}") || status=$?
  case $status in
    0) return 0 ;;
    4) ;;
    *) exit "$status" ;;
  esac
  [[ $exp == all ]] || { echo "run.sh: experiment $name cannot run: $reason" >&2; exit 1; }
  LEFT_OUT+=("$name: $reason")
  return 1
}

report_left_out() {  # the end of --exp all; an error if nothing could run
  local line
  [[ ${#LEFT_OUT[@]} -gt 0 ]] || return 0
  for line in "${LEFT_OUT[@]}"; do log "left out: experiment $line"; done
  [[ ${#LEFT_OUT[@]} -lt $(wc -l <<<"$experiments") ]] || { echo "run.sh: no experiment could run" >&2; exit 1; }
}

make_data() {  # data directories of the recipe's corpus, or of the user's own recordings
  if [[ -n $data ]]; then
    $train_cmd "$data_dir/log/own_data.log" python3 -m dnf.data.own_data "$data" "$data_dir" --allow-pipes "$allow_pipes"
  else
    $train_cmd "$data_dir/log/prepare.log" python3 "$RECIPE_DIR/local/prepare_data.py" "$data_dir" \
      --seed "$(awk '/^seed:/ { print $2 }' "$data_dir/config.yaml")" --nj "$nj" "${prepare_options[@]}"
  fi
  python3 -m dnf.data.splits "$data_dir" --allow-pipes "$allow_pipes"
  [[ ! -f $data_dir/missing.txt ]] || awk '{ set = $1; sub(/^[^ ]+ /, ""); sets[$0] = sets[$0] " " set }
    END { for (option in sets) print "no " option ": left out" sets[option] }' "$data_dir/missing.txt" | sort >&2
}
