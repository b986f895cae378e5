# To be sourced: the environment of every script. Makes .venv on first use, unless DNF_PYTHON names a Python or an
# environment is active. DNF_TORCH=cpu takes PyTorch's build for processors, from the index DNF_TORCH_INDEX or PyTorch's own.
# Sets DNF_ROOT, and puts the chosen python3 first on PATH and this checkout first on PYTHONPATH.
# OpenMP threads sleep while they wait: spinning ones bring a processor that others use, too, to a crawl.
# What notebooks and other projects export for Python does not reach it, nor do modules of the working folder.

DNF_ROOT=$(CDPATH='' builtin cd "$(dirname "${BASH_SOURCE[0]}")" >/dev/null && pwd)
_path_modules=$DNF_ROOT
while IFS= read -r -d : _path_entry; do
  [[ $_path_entry != /* || $_path_entry == "$DNF_ROOT" ]] || _path_modules+=:$_path_entry
done <<<"${PYTHONPATH-}:"
export DNF_ROOT LC_ALL=C OMP_WAIT_POLICY=${OMP_WAIT_POLICY:-passive} MPLBACKEND=agg
export PYTHONPATH=$_path_modules PYTHONSAFEPATH=1 PYTHONUTF8=1
unset -v PYTHONHOME PYTHONSTARTUP PYTHONINSPECT PYTHONOPTIMIZE PYTHONWARNINGS PYTHONIOENCODING PYTHONDEVMODE PYTHONVERBOSE \
  PYTHONDEBUG PYTHONCASEOK PYTHONPLATLIBDIR PYTHONEXECUTABLE PYTHONPROFILEIMPORTTIME TORCHELASTIC_RUN_ID "${!LHOTSE_@}"

_path_fail() { echo "path.sh: $*" >&2; return 1; }

_path_make_venv() {  # python3 with or without the venv package's pip, as Debian splits them
  local python=$1 venv=$2 pip
  "$python" -c 'import sys; sys.exit(sys.version_info < (3, 10))' 2>/dev/null ||
    _path_fail "python3 is missing or older than 3.10; install it, or name another one with DNF_PYTHON" || return
  [[ -x $venv/bin/python3 ]] || "$python" -m venv "$venv" >/dev/null 2>&1 || {
    pip=$("$python" -c 'import pip; print(pip.__path__[0])' 2>/dev/null) ||
      _path_fail "python3 has neither venv nor pip: apt-get install python3-pip" || return
    "$python" -m venv --clear --without-pip "$venv" || _path_fail "cannot make $venv" || return
    "$venv/bin/python3" "$pip" install --quiet --ignore-installed pip ||
      _path_fail "cannot install pip into $venv" || return
  }
  _path_say_size "$venv" || return
  local progress=(--quiet)
  [[ ! -t 2 || -n ${DNF_QUIET:-} ]] || progress=()
  _path_pip=("$venv/bin/python3" -m pip install "${progress[@]}" --disable-pip-version-check)
  [[ -z ${DNF_TORCH:-} ]] || _path_install_cpu_torch || return
  PYTHONWARNINGS=ignore "${_path_pip[@]}" -c "$DNF_ROOT/constraints.txt" -e "$DNF_ROOT[test]" >&2 ||
    _path_fail "pip failed; mend what it says and start again, or name a ready environment with DNF_PYTHON"
}

_path_say_size() {  # before a download that may take minutes
  local said="path.sh: installing the requirements into $1, once; the download takes about"
  case ${DNF_TORCH:-} in
    cpu) echo "$said 0.4 GB" >&2 ;;
    '')
      [[ -n ${DNF_QUIET:-} ]] || echo "$said 2.9 GB with PyTorch's CUDA build, pip's choice on most Linux machines with" \
        "x86_64, and 0.4 GB with the build for processors: stop with Control-C and set DNF_TORCH=cpu to have that" >&2
      ;;
    *) _path_fail "DNF_TORCH=$DNF_TORCH: the only choice is cpu; unset it to leave the build to pip" ;;
  esac
}

_path_install_cpu_torch() {  # that version alone; what it needs comes with the requirements, from pip's own index
  local index=${DNF_TORCH_INDEX:-https://download.pytorch.org/whl/cpu} version
  version=$(sed -n 's/^torch==//p' "$DNF_ROOT/constraints.txt")
  PYTHONWARNINGS=ignore "${_path_pip[@]}" --no-deps --retries 1 --timeout 20 --extra-index-url "$index" "torch==$version+cpu" >&2 ||
    _path_fail "DNF_TORCH=cpu: torch $version+cpu cannot be had from $index; set DNF_TORCH_INDEX to an index that has it, or unset DNF_TORCH"
}

_path_check_folder() {  # Python before 3.11 does not know PYTHONSAFEPATH: it takes modules of the working folder first
  local files taken
  mapfile -t files < <(compgen -G '*.py')
  [[ ${#files[@]} -gt 0 && ! $DNF_ROOT -ef . ]] || return 0
  taken=$(cd / && python3 -c 'import sys; from importlib.util import find_spec
print(*(name for name in sys.argv[1:] if sys.version_info < (3, 11) and name[:-3].isidentifier() and find_spec(name[:-3])))' "${files[@]}")
  [[ -z $taken ]] || _path_fail "Python 3.10 would import $taken of this folder in place of its own: start elsewhere, or use Python 3.11"
}

if [[ -n ${DNF_PYTHON:-} ]]; then
  _path_python=$(command -v "$DNF_PYTHON") || _path_fail "DNF_PYTHON=$DNF_PYTHON is not a program" || return
elif [[ -n ${VIRTUAL_ENV:-} || -n ${CONDA_PREFIX:-} ]]; then
  _path_python=$(command -v python3) || _path_fail "the active environment has no python3" || return
else
  _path_venv=$DNF_ROOT/.venv
  _path_python=$_path_venv/bin/python3
  _path_wanted=$(cksum <"$DNF_ROOT/pyproject.toml")/$(cksum <"$DNF_ROOT/constraints.txt")
  if [[ $(cat "$_path_venv/.installed" 2>/dev/null) != "$_path_wanted" ]]; then
    _path_make_venv python3 "$_path_venv" || return
    echo "$_path_wanted" >|"$_path_venv/.installed"
  fi
fi
_path_dir=$(CDPATH='' builtin cd "$(dirname "$_path_python")" >/dev/null && pwd)
[[ $PATH == "$_path_dir:"* ]] || PATH=$_path_dir:$PATH
export PATH
_path_check_folder || return
python3 -m dnf.experiment.requirements "$DNF_ROOT" || return
unset -v _path_pip _path_python _path_dir _path_venv _path_wanted _path_modules _path_entry
unset -f _path_fail _path_check_folder _path_make_venv _path_say_size _path_install_cpu_torch
