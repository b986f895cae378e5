"""The driver and the mini recipe, whole, with tiny settings, as a user runs them."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import recipe_runs
from experiment_files import check_experiment
from recipe_runs import ROOT, command, counts, environment, results

EXPERIMENTS = recipe_runs.experiments_on_frames("mini")
OF_VECTORS = {path.stem for path in (ROOT / "egs/mini/conf").glob("*.yaml")} - {*EXPERIMENTS}
COUNTS = counts(2, 2, 2, 2, 3)


def run(folder: Path, *options: str, **more) -> str:
    """The mini recipe with a small corpus."""
    return recipe_runs.run(folder, *COUNTS, *options, **more)


@pytest.fixture(scope="module")
def everything(tmp_path_factory) -> Path:
    """A folder in which every experiment of the mini recipe was run, nf as a user does."""
    folder = tmp_path_factory.mktemp("mini") / "run"
    run(folder, "--exp", "nf")
    for exp in EXPERIMENTS:
        if exp != "nf":
            recipe_runs.run_here(folder, "mini", exp, COUNTS)
    return folder


def test_stages_run_in_this_process_are_those_of_the_driver(everything):
    said = run(everything, "--exp", "all", "--dry-run")
    assert said.count("up to date") == 9 * len(EXPERIMENTS) + len(OF_VECTORS), said  # of these the data
    logs = (everything / "exp/nf/log").glob("*.log")
    jobs = {line for name in recipe_runs.STAGES if name != "report" for line in recipe_runs.stage_commands(name, "nf")}
    jobs = {line for line in jobs if not line.startswith("dnf.scoring.baselines")}  # off, so without a job
    assert {log.read_text().splitlines()[0] for log in logs} == {f"# python3 -m {line}" for line in jobs}


@pytest.mark.parametrize("exp", EXPERIMENTS)
def test_every_experiment_leaves_what_the_stages_promise(everything, exp):
    out = everything / "exp" / exp
    check_experiment(out)
    for name in ("train", "dev", "test", "en_other", "wild"):
        assert (out / "latents" / name / "logp.npy").is_file()
        assert (out / "scores" / name / "utt_scores.txt").is_file()
    assert {"curves.png", "scatter_test.png", "tsne_test.png", "gaussianity.png"} <= {
        p.name for p in (out / "plots").iterdir()
    }
    assert not list(out.rglob("*.tmp"))


def test_results_hold_the_figures_of_the_notes(everything):
    metrics = {(row["metric"], row["set"], row["class"]) for row in results(everything, "two_class")}
    for metric in ("frame_accuracy", "utt_accuracy", "loglik", "logp", "logdet"):
        assert (metric, "test", "en") in metrics and (metric, "test", "ce") in metrics
    assert ("utt_share", "test", "je") in metrics
    assert ("skew_c", "test", "ce+en") in metrics and ("kurt_within_c", "test", "ce+en+je") in metrics
    assert ("frame_accuracy", "test", "je") not in metrics
    split = {row["metric"] for row in results(everything, "dnf440_c400_r40")}
    assert {"kurt_c", "kurt_r"} <= split
    nf = {row["metric"] for row in results(everything, "nf")}
    assert "loglik" in nf and "utt_accuracy" not in nf


def test_counts_of_results_add_up(everything):
    rows = [row for row in results(everything, "three_class") if row["system"] == "dnf"]
    total = next(
        row for row in rows if row["metric"] == "utt_accuracy" and row["set"] == "test" and row["class"] == "all"
    )
    assert int(total["total"]) == len((everything / "data/test/utt2spk").read_text().splitlines())
    shares = [
        float(r["value"]) for r in rows if r["metric"] == "frame_share" and r["set"] == "test" and r["class"] == "je"
    ]
    assert len(shares) == 3 and sum(shares) == pytest.approx(1, abs=1e-5)
    text = (everything / "exp/three_class/results.txt").read_text()
    assert re.search(r"^utt_accuracy test en .* \| control en_other ", text, re.MULTILINE)


def test_train_and_eval_agree(everything):
    row = next(row for row in results(everything, "dnf440_c440") if row["metric"] == "train_eval_difference")
    assert abs(float(row["value"])) < 1e-3


def test_run_again_skips_everything(everything):
    before = {path: path.stat().st_mtime_ns for path in (everything / "exp/nf").rglob("*") if path.is_file()}
    said = run(everything, "--exp", "nf")
    assert said.count("up to date") == 9
    assert before == {path: path.stat().st_mtime_ns for path in (everything / "exp/nf").rglob("*") if path.is_file()}


def test_a_changed_setting_reruns_its_stage_and_what_follows(everything):
    def up_to_date(*words):
        return re.findall(r"stage (\d) \(?\w+\)?:? +up to date", run(everything, "--exp", "nf", *words))

    assert up_to_date("--set", "latents.save_frames=500", "--dry-run") == ["0", "1", "2", "3"]
    assert up_to_date("--set", "score.frame_scores=false") == ["0", "1", "2", "3", "4", "5"]
    assert up_to_date() == ["0", "1", "2", "3", "4", "5"]


def test_dry_run_says_what_would_run_and_runs_nothing(everything):
    before = sorted(everything.rglob("*"))
    said = run(everything, "--exp", "nf", "--dry-run", "true", "--set", "train.lr=0.5")
    assert re.search(r"stage 2 frames +up to date", said) and re.search(r"stage 3 train +would run", said)
    assert sorted(everything.rglob("*")) == before


def test_starting_in_the_middle_with_other_settings_is_refused(everything):
    before = (everything / "exp/nf/results.txt").read_bytes()
    said = run(everything, "--exp", "nf", "--stage", "6", "--set", "flow.hidden=17", status=1)
    assert "flow.hidden was 16, is 17" in said and "--stage 3" in said
    assert (everything / "exp/nf/results.txt").read_bytes() == before


def test_same_seed_same_bytes_and_another_seed_other_ones(everything, tmp_path):
    """The first is run in this process, the second by run.sh: the two do the same."""
    run(tmp_path / "again", "--exp", "dnf120")
    first, again = ((folder / "exp/dnf120/results.tsv").read_bytes() for folder in (everything, tmp_path / "again"))
    assert first == again
    run(tmp_path / "again", "--exp", "dnf120", "--seed", "2", "--stop-stage", "2")
    recipe_runs.run_here(tmp_path / "again", "mini", "dnf120", COUNTS, "seed=2")
    assert (tmp_path / "again/exp/dnf120/results.tsv").read_bytes() != first


def test_compare_lists_every_experiment(everything):
    said = subprocess.run(
        ["python3", "-m", "dnf", "results", "exp"],
        cwd=everything,
        capture_output=True,
        text=True,
        env=environment(),
        check=True,
    ).stdout
    assert [line.split()[0] for line in said.splitlines()[1:]] == EXPERIMENTS


@pytest.mark.parametrize(
    ("options", "message", "status"),
    [
        (("--stgae", "3"), "invalid option --stgae (did you mean --stage?)", 1),
        (("--exp", "nosuch"), "no experiment 'nosuch'", 2),
        (("--recipe", "corpora"), "no recipe 'corpora'; use one of: ce_je librispeech_speechocean mini ", 2),
        (("--set", "trian.lr=1"), "unknown setting trian; the nearest known one is train", 1),
        (("--set", "train.lr=fast"), "train.lr: 'fast' is not float", 1),
        (("--stage", "3"), "stage 0 (data) is not done; start with --stage 0", 1),
        (("--dry-run", "yes"), '"true" or "false"', 1),
        (("extra",), "'extra' is not an option", 2),
        (("--data", "/nonexistent"), "--data /nonexistent: no such file or folder", 2),
        (("--stage", "9"), "--stage must not be above --stop-stage", 2),
        (("--stage", "5", "--stop-stage", "3"), "--stage must not be above --stop-stage", 2),
        (("--stage", "train"), "--stage train --stop-stage 8: give numbers from 0 to 8", 2),
        (("--stage", "09"), "--stage must not be above --stop-stage", 2),
        (("--nj", "0"), "--nj 0: give a number of tasks", 2),
        (("--seed", "9" * 20), f"--seed {'9' * 20}: give a whole number from 0 to 999999999", 2),
        (("--nj", "--dry-run"), "option --nj needs a value", 1),
        (("--device", "gpu"), "--device gpu: give auto, cpu, cuda or cuda:N", 2),
        (("--exp", "nf", "--recipe"), "option --recipe needs a value", 1),
        (("--exp", "nf", "--recipe", "wsj"), "recipe wsj: give --recipe wsj first on the command line", 2),
        (("--recipe-options", "stage"), "invalid option --recipe-options", 1),
        (("--sweep", "flow.hidden=8,wide"), "flow.hidden: 'wide' is not int", 1),
        (("--seed", "x"), "--seed x: give a whole number", 2),
        (("--max-rejected", "1,5%"), "--max-rejected 1,5%: give a share from 0 to 1, such as 0.05 or 5%", 2),
    ],
)
def test_wrong_command_lines_say_so_in_one_line(tmp_path, options, message, status):
    done = subprocess.run(
        command(*options, tiny=False), cwd=tmp_path, capture_output=True, text=True, stdin=subprocess.DEVNULL
    )
    said = [line for line in done.stderr.splitlines() if not re.match(r"\d\d:\d\d:\d\d stage", line)]
    assert done.returncode == status and message in said[-1], done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "exp").exists() or not list((tmp_path / "exp").rglob("results.txt"))


@pytest.mark.parametrize(
    ("train_cmd", "cuda_cmd", "asked"),
    [
        ("run.py", "queue.pl --gpu 1", "--gpu 1 --gpu 4 "),
        ("run.py", "queue.pl --gpu 1 --mem 4G", "--gpu 1 --mem 4G --gpu 4 "),
        ("run.py", "run.py", ""),  # on processors
        ("run.py", "queue.pl -l gpu=1", None),
    ],
)
def test_the_number_of_gpus_reaches_the_runner(train_cmd, cuda_cmd, asked):
    script = f"""set -euo pipefail; . {ROOT}/local/stages.sh; {train_cmd}() {{ echo "$@"; }}; queue.pl() {{ echo "$@"; }}
        train_cmd={train_cmd} cuda_cmd='{cuda_cmd}' num_gpus=4 num_nodes=1 device=auto restart= model=
        exp_dir=e frames_dir=f data_dir=d; train"""
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True)
    if asked is None:
        assert done.returncode == 1 and "cuda_cmd in cmd.sh is 'queue.pl -l gpu=1', which has no --gpu" in done.stderr
    else:
        assert done.stdout.startswith(
            f"{asked}e/log/train.log python3 -m dnf.training.launch e dnf.training.train f e "
        )


def test_spliced_vectors_are_written_once(everything):
    words = ("--exp", "dnf120", "--write-spliced", "--stage", "2", "--stop-stage", "2")
    assert "stage 2 (spliced)\n" in run(everything, *words)
    assert (everything / "exp/dnf120/spliced/test/spliced.scp").stat().st_size > 0
    assert "stage 2 (spliced): up to date\n" in run(everything, *words)


def test_an_experiment_is_not_called_as_another_folder(tmp_path):
    (tmp_path / "frames.yaml").write_text("")
    said = run(tmp_path, "--exp", "frames.yaml", status=1)
    assert said == "plan.py: experiment frames: exp/frames has other contents; rename the experiment\n"
    assert [path.name for path in tmp_path.iterdir()] == ["frames.yaml"]


def test_a_config_file_does_not_choose_the_recipe(tmp_path):
    (tmp_path / "my.conf").write_text("recipe=wsj\n")
    said = run(tmp_path, "--config", "my.conf", tiny=False, status=2)
    assert said == "run.sh: recipe wsj: give --recipe wsj first on the command line\n"


def test_the_environment_can_be_sourced_in_a_recipes_folder_and_a_wrong_one_does_not_end_the_shell():
    def shell(words, **more):
        given = {"cwd": ROOT / "egs/wsj", "env": os.environ | more, "capture_output": True, "text": True}
        return subprocess.run(["bash", "-c", words], check=True, **given).stdout.split()

    words = '. ./path.sh && python3 -c "import egs.corpora.wsj, dnf; print(dnf.__file__)"'
    assert shell(words, DNF_PYTHON=sys.executable, PYTHONPATH="") == [str(ROOT / "dnf/__init__.py")]
    assert shell(". ./path.sh; echo $? goes on", DNF_PYTHON="/nonexistent") == ["1", "goes", "on"]


def test_help_names_every_option():
    done = subprocess.run([ROOT / "run.sh", "--help"], capture_output=True, text=True, check=True)
    defaults = re.search(r"^recipe=mini (?s:.*?) set=\(\)$", (ROOT / "run.sh").read_text(), re.MULTILINE).group()
    options = re.findall(r"([a-z_]+)=", defaults)
    assert len(options) == 20
    for option in (*options, "config"):
        assert f"  --{option.replace('_', '-')} " in done.stderr, option
