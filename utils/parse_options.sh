#!/usr/bin/env bash
# Command-line options for shell scripts: to be sourced, after the variables that are the options have their defaults.
#
#   stage=0          # --stage 3       sets it; the last one wins
#   use_vad=true     # --use-vad false a variable that is true or false stays so; --use-vad alone is true
#   overrides=()     # --overrides a --overrides b   an array grows by one value each time
#   help_message="Usage: ..."          # what --help prints
#   . utils/parse_options.sh
#
# --config FILE sources FILE (shell assignments to the same variables) before any other option is looked at, so options
# are stronger than files. Parsing stops at "--", at an empty word, or at the first word that does not start with "--";
# what is left stays in "$@". Every error names the calling script on stderr and ends it with status 1.

_po_script=${BASH_SOURCE[1]:-$0}
_po_script=${_po_script##*/}

_po_fail() { echo "$_po_script: $*" >&2; exit 1; }

_po_is_array() { [[ $(declare -p "$1" 2>/dev/null) =~ ^declare\ -[^\ ]*a ]]; }

_po_is_option() {  # a lower-case variable that is set, or an array
  local LC_ALL=C
  [[ $1 =~ ^[a-z][a-z0-9_]*$ && $1 != help_message ]] && { [[ -n ${!1+set} ]] || _po_is_array "$1"; }
}

_po_is_named() {  # --name of an option
  local _po_word=${1#--}
  [[ $1 == --* ]] && _po_is_option "${_po_word//-/_}"
}

_po_check_boolean() {  # name, value before, value after
  [[ $2 != true && $2 != false || $3 == true || $3 == false ]] ||
    _po_fail "--${1//_/-} must be \"true\" or \"false\", not \"$3\""
}

_po_nearest() {  # prints " (did you mean --x?)" for the option that is at most two edits away from the name given
  local _po_known _po_hit='' _po_best=3 _po_i _po_j _po_min
  local -a _po_row _po_last
  while IFS= read -r _po_known; do
    [[ $_po_known != "$1" ]] && _po_is_option "$_po_known" || continue
    for ((_po_j = 0; _po_j <= ${#1}; _po_j++)); do _po_row[_po_j]=$_po_j; done
    for ((_po_i = 1; _po_i <= ${#_po_known}; _po_i++)); do
      _po_last=("${_po_row[@]}")
      _po_row[0]=$_po_i
      for ((_po_j = 1; _po_j <= ${#1}; _po_j++)); do
        [[ ${_po_known:_po_i-1:1} == "${1:_po_j-1:1}" ]] && _po_min=0 || _po_min=1
        _po_min=$((_po_min + _po_last[_po_j - 1]))
        _po_min=$((_po_min <= _po_last[_po_j] ? _po_min : _po_last[_po_j] + 1))
        _po_row[_po_j]=$((_po_min <= _po_row[_po_j - 1] ? _po_min : _po_row[_po_j - 1] + 1))
      done
    done
    [[ ${_po_row[${#1}]} -ge $_po_best ]] || { _po_best=${_po_row[${#1}]} _po_hit=$_po_known; }
  done < <(compgen -v)
  [[ -z $_po_hit ]] || echo " (did you mean --${_po_hit//_/-}?)"
}

for ((_po_at = 1; _po_at <= $#; _po_at++)); do
  [[ ${!_po_at} != -- ]] || break
  [[ ${!_po_at} == --config ]] || continue
  _po_at=$((_po_at + 1))
  [[ $_po_at -le $# ]] || _po_fail "--config needs a value: the name of a file"
  _po_file=${!_po_at}
  [[ -r $_po_file && ! -d $_po_file ]] || _po_fail "cannot read the config file '$_po_file' given with --config"
  unset -v _po_before
  declare -A _po_before=()
  while IFS= read -r _po_name; do
    ! _po_is_option "$_po_name" || _po_before[$_po_name]=${!_po_name-}
  done < <(compgen -v)
  [[ $_po_file == */* ]] || _po_file=./$_po_file  # else "." looks in PATH
  . "$_po_file" || _po_fail "config file '$_po_file' ended with status $?: it may have assignments only"
  while IFS= read -r _po_name; do
    _po_is_option "$_po_name" || continue
    [[ -n ${_po_before[$_po_name]+set} ]] ||
      _po_fail "config file '$_po_file' sets '$_po_name', which is not an option$(_po_nearest "$_po_name")"
    _po_check_boolean "$_po_name" "${_po_before[$_po_name]}" "${!_po_name-}"
  done < <(compgen -v)
done

while [[ ${1-} == -* ]]; do
  case $1 in
    --) shift; break ;;
    -h | --help) echo "${help_message:-No help found.}" >&2; exit 0 ;;
    --*=*) _po_fail "options must be of the form --name value: write '${1%%=*} ${1#*=}' in place of '$1'" ;;
    --*) ;;
    *) break ;;
  esac
  _po_name=${1#--}
  _po_name=${_po_name//-/_}
  [[ $_po_name == config ]] || _po_is_option "$_po_name" || _po_fail "invalid option $1$(_po_nearest "$_po_name")"
  if [[ ${!_po_name-} == true || ${!_po_name-} == false ]] && [[ $# -eq 1 || $2 == --* ]]; then
    printf -v "$_po_name" true
    shift
    continue
  fi
  [[ $# -ge 2 ]] && ! _po_is_named "$2" || _po_fail "option $1 needs a value"
  [[ $_po_name != cmd || -n $2 ]] || _po_fail "empty argument to --cmd: give the runner's command line"
  if _po_is_array "$_po_name"; then
    declare -n _po_array=$_po_name
    _po_array+=("$2")
    unset -n _po_array
  else
    _po_check_boolean "$_po_name" "${!_po_name-}" "$2"
    printf -v "$_po_name" %s "$2" || _po_fail "option $1 cannot be set"
  fi
  shift 2
done

unset -v _po_script _po_at _po_file _po_before _po_name
unset -f _po_fail _po_is_array _po_is_option _po_is_named _po_check_boolean _po_nearest
