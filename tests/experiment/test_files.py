"""Files and tables that are written whole or not at all."""

import pytest

from dnf.experiment.files import replace_file, replacing, write_json
from dnf.experiment.tables import each_row, read_tsv, write_tsv


def test_a_file_that_fails_while_it_is_written_stays_as_it_was(tmp_path):
    path = tmp_path / "a.txt"
    replace_file(path, "Grüße\n")
    with pytest.raises(RuntimeError), replacing(path) as file:
        file.write("half")
        raise RuntimeError
    assert path.read_bytes() == "Grüße\n".encode() and list(tmp_path.iterdir()) == [path]
    replace_file(path, b"\x00")
    assert path.read_bytes() == b"\x00"
    write_json(path, {"a": 1})
    assert path.read_text() == '{\n "a": 1\n}\n'


def test_a_table_may_be_made_from_its_own_rows(tmp_path):
    path = tmp_path / "a.tsv"
    write_tsv(path, [{"a": 1, "b": "x"}, {"a": 2}])
    write_tsv(path, ({"a": row["a"], "c": row["b"] + "y"} for row in each_row(path)))
    assert read_tsv(path) == [{"a": "1", "c": "xy"}, {"a": "2", "c": "y"}]


def test_a_table_without_rows_has_its_columns_or_is_refused(tmp_path):
    path = tmp_path / "a.tsv"
    write_tsv(path, [], ("a", "b"))
    assert path.read_text() == "a\tb\n"
    for rows in ([], iter(())):
        with pytest.raises(ValueError, match=r"a\.tsv: no rows to write"):
            write_tsv(path, rows)
    assert path.read_text() == "a\tb\n"
