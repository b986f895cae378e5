# To be sourced: the environment of every script. Makes .venv on first use; DNF_PYTHON or an active environment is used
# as it is. Sets DNF_ROOT, and puts the chosen python3 first on PATH and this checkout first on PYTHONPATH.
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
  echo "path.sh: installing the requirements into $venv (once; PyTorch is large)" >&2
  PYTHONWARNINGS=ignore "$venv/bin/python3" -m pip install --quiet --disable-pip-version-check \
    -c "$DNF_ROOT/constraints.txt" \
    -e "$DNF_ROOT[test]" || _path_fail "pip failed; mend what it says and start again, or name a ready environment with DNF_PYTHON"
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
python3 -m dnf.experiment.requirements "$DNF_ROOT" || return
unset -v _path_python _path_dir _path_venv _path_wanted _path_modules _path_entry
unset -f _path_fail _path_make_venv
