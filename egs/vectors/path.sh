# The environment, for what is typed in this folder and for queue.pl; see ../../path.sh.
. "$(dirname "${BASH_SOURCE[0]}")/../../path.sh"
