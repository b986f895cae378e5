"""The table of recordings: what is read from it and what each error says, the same for CSV and TSV."""

import csv
import itertools

import pytest

from dnf.data.manifests import Utterance
from dnf.data.recordings_table import NEEDED, read_recordings_table

COLUMNS = ("recording", "speaker", "class", "set", "utt", "score", "gender", "text")
FULL = {
    "recording": "wav/a 1.wav", "speaker": "ann", "class": "en", "set": "test",
    "utt": "u1", "score": "2.5", "gender": "f", "text": "hello there",
}  # fmt: skip


@pytest.fixture(params=("csv", "tsv"))
def table(request, tmp_path):
    """Write rows as a table of either kind and return its path."""

    def write(rows, columns=None, header=None):
        path = tmp_path / f"recordings.{request.param}"
        delimiter = {"csv": ",", "tsv": "\t"}[request.param]
        options = {"quoting": csv.QUOTE_NONE, "quotechar": None, "escapechar": None} if request.param == "tsv" else {}
        with path.open("w", newline="") as file:
            writer = csv.writer(file, delimiter=delimiter, lineterminator="\n", **options)
            columns = columns or list(rows[0])
            writer.writerows([header or columns, *([row.get(name, "") for name in columns] for row in rows)])
        return path

    return write


def rows(*changes: dict) -> list[dict]:
    """Lines 2, 3, ... of a table of the columns that must be there, each with its changes."""
    return [
        {"recording": f"r{n}.wav", "speaker": f"s{n}", "class": "en"} | change for n, change in enumerate(changes, 1)
    ]


# ---- what is read --------------------------------------------------------------------------------


def test_every_column_arrives(table, tmp_path):
    path = str(tmp_path / "wav" / "a 1.wav")
    wanted = Utterance("ann-u1", "ann-u1", path, "ann", "en", score=2.5, gender="f", text="hello there")
    for columns in (COLUMNS, COLUMNS[::-1]):
        assert read_recordings_table(table([FULL], columns)) == {"test": [wanted]}


@pytest.mark.parametrize("present", [c for n in range(6) for c in itertools.combinations(COLUMNS[3:], n)], ids="+".join)
def test_columns_that_may_be_left_out(table, tmp_path, present):
    """Absent or empty is the same: nothing."""
    (name, (one,)), *others = read_recordings_table(table([FULL], (*NEEDED, *present))).items()
    blank = FULL | {column: "" for column in COLUMNS[3:] if column not in present}
    assert {name: [one]} == read_recordings_table(table([blank], COLUMNS)) and not others
    assert name == ("test" if "set" in present else "")
    assert one.id == one.recording == ("ann-u1" if "utt" in present else "ann-a_1")
    assert (one.score, one.gender) == (2.5 if "score" in present else None, "f" if "gender" in present else None)
    assert (one.text, one.start, one.end) == ("hello there" if "text" in present else None, 0.0, None)


def test_sets_and_lines_keep_their_order(table):
    sets = read_recordings_table(table(rows({"set": "b"}, {"set": "a"}, {"set": "b"})))
    assert [(name, [u.speaker for u in of]) for name, of in sets.items()] == [("b", ["s1", "s3"]), ("a", ["s2"])]


@pytest.mark.parametrize(
    ("speaker", "utt", "wanted"),
    [
        ("ann", "", "ann-r1"),
        ("ann", "x", "ann-x"),
        ("ann", "ann-x", "ann-x"),
        ("ann", "annx", "ann-annx"),
        ("ann", " ", "ann-r1"),
        (" ann  lee ", "a b", "ann_lee-a_b"),
        ("ann lee", "ann lee-x", "ann_lee-x"),
    ],
)
def test_ids_start_with_the_speaker_and_have_no_blanks(table, speaker, utt, wanted):
    ((one,),) = read_recordings_table(table(rows({"speaker": speaker, "utt": utt}))).values()
    assert one.id == wanted and one.id.startswith(f"{one.speaker}-") and " " not in one.id


def test_paths_are_taken_from_the_folder_of_the_table(table, tmp_path):
    changes = ({"recording": "x/y.wav"}, {"recording": "/far/z.wav"}, {"recording": "../w.flac"})
    ((one, two, three),) = read_recordings_table(table(rows(*changes))).values()
    assert one.path == f"{tmp_path}/x/y.wav" and two.path == "/far/z.wav"
    assert three.path.endswith("/../w.flac") and (one.id, two.id, three.id) == ("s1-y", "s2-z", "s3-w")


def test_commands_are_read_when_allowed(table):
    ((one,),) = read_recordings_table(
        table(rows({"recording": "sph2pipe a.wv1 |", "utt": "u"})), allow_pipes=True
    ).values()
    assert one.path == "sph2pipe a.wv1 |" and one.id == "s1-u"


@pytest.mark.parametrize("end", ("\r\n", "\r", "\n"), ids=("windows", "old mac", "unix"))
@pytest.mark.parametrize("suffix", ("csv", "tsv"))
def test_a_table_from_a_spreadsheet(tmp_path, suffix, end):
    path, comma = tmp_path / f"r.{suffix}", "," if suffix == "csv" else "\t"
    lines = ["recording,speaker,class,text", "a.wav,ann,en,hi", "b.wav,bea,zh,"]
    path.write_bytes(("\ufeff" + end.join(lines) + end).replace(",", comma).encode())
    assert [(u.id, u.text) for u in read_recordings_table(path)[""]] == [("ann-a", "hi"), ("bea-b", None)]


def test_only_csv_has_quotes(tmp_path):
    (tmp_path / "r.csv").write_text('recording,speaker,class,text\n"a,b.wav",ann,en,"say ""hi"""\n')
    (one,) = read_recordings_table(tmp_path / "r.csv")[""]
    assert one.path == f"{tmp_path}/a,b.wav" and one.text == 'say "hi"'
    (tmp_path / "r.tsv").write_text('recording\tspeaker\tclass\ttext\na.wav\tann\ten\t"oh\nb.wav\tann\ten\tno"\n')
    assert [u.text for u in read_recordings_table(tmp_path / "r.tsv")[""]] == ['"oh', 'no"']


# ---- what is refused -----------------------------------------------------------------------------


def refused(path, **options) -> str:
    with pytest.raises(ValueError) as caught:
        read_recordings_table(path, **options)
    message = str(caught.value)
    assert message.startswith(f"{path}: ") and "\n" not in message
    return message.removeprefix(f"{path}: ")


@pytest.mark.parametrize("needed", (NEEDED, (*NEEDED, "score"), (*NEEDED, "set")), ids=len)
def test_a_missing_column_is_named(table, needed):
    for absent in needed:
        message = refused(table([FULL], [c for c in COLUMNS if c != absent]), needed=needed)
        assert message.startswith(f"no column {absent!r} in its first line; it must name {', '.join(needed)}, ")
    assert "tab separated" in message or "comma separated" in message


def test_the_wrong_separator_is_a_missing_column(tmp_path):
    (tmp_path / "r.csv").write_text("recording\tspeaker\tclass\na.wav\tann\ten\n")
    assert "no column 'recording'" in refused(tmp_path / "r.csv")


@pytest.mark.parametrize("needed", (NEEDED, (*NEEDED, "score", "set")), ids=len)
def test_an_empty_cell_names_its_line(table, needed):
    for column in needed:
        given = [FULL | {"utt": f"u{n}"} for n in range(4)]
        for nothing in ("", "  "):
            given[2][column] = nothing
            assert refused(table(given), needed=needed) == f"line 4: column {column} is empty"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"class": "English"}, "class 'English' is not a name like en"),
        ({"class": "zh-cn"}, "class 'zh-cn' is not a name like en"),
        ({"class": "2en"}, "class '2en' is not a name like en"),
        ({"set": "my set"}, "set 'my set' cannot be the name of a folder"),
        ({"set": "../up"}, "set '../up' cannot be the name of a folder"),
        ({"set": ".."}, "set '..' cannot be the name of a folder"),
        ({"score": "three"}, "score: 'three' is not a number"),
        ({"score": "3;5"}, "score: '3;5' is not a number"),
        ({"score": "nan"}, "score: 'nan' is not a number"),
        ({"score": "inf"}, "score: 'inf' is not a number"),
        (
            {"recording": "rm -r x |"},
            "recording is a command; name a file, or give --allow-pipes true",
        ),
        ({"recording": "rm -r x | "}, "recording is a command"),
    ],
)
def test_a_cell_of_illegal_form_names_its_line(table, change, message):
    assert refused(table(rows({}, change, {}), [*NEEDED, "set", "score"])).startswith(f"line 3: {message}")


@pytest.mark.parametrize(
    ("score", "legal"), [("1", True), ("5", True), ("2.5", True), ("0.99", False), ("5.01", False), ("", True)]
)
def test_scores_lie_in_their_range(table, score, legal):
    path = table(rows({"score": "3"}, {"score": score}))
    if legal:
        assert len(read_recordings_table(path, scores=(1, 5))[""]) == 2
    else:
        assert refused(path, scores=(1, 5)) == f"line 3: score {score} is not between 1 and 5"
    assert len(read_recordings_table(path)[""]) == 2


@pytest.mark.parametrize(
    "changes",
    [
        ({"utt": "u"}, {}, {"utt": "u", "speaker": "s1"}),
        ({}, {}, {"recording": "other/r1.flac", "speaker": "s1"}),
        ({"set": "a"}, {}, {"set": "b", "speaker": "s1", "recording": "r1.wav"}),
        ({"speaker": "ann lee"}, {}, {"speaker": "ann_lee", "recording": "r1.wav"}),
    ],
)
def test_an_utterance_that_stands_there_twice_names_both_lines(table, changes):
    message = refused(table(rows(*changes), [*NEEDED, "set", "utt"]))
    assert message.startswith("line 4: utterance ") and "is in line 2, too; add a column utt" in message


def test_more_cells_than_columns_are_refused(table):
    path = table(rows({}, {}))
    lines = path.read_text().splitlines()
    lines[2] += "," if path.suffix == ".csv" else "\t"
    path.write_text("\n".join(lines) + "\n")
    assert refused(path) == "line 3: more columns than the first line names"


def test_fewer_cells_than_columns_are_an_empty_cell(table):
    path = table(rows({}, {}))
    path.write_text(path.read_text() + "r9.wav\n")
    assert refused(path) == "line 4: column speaker is empty"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"recording,speaker,class\na.wav,Andr\xe9,en\n", "is not UTF-8 text"),
        (b"PK\x03\x04\x14\x00\xff\xfe", "is not UTF-8 text"),
        (b'recording,speaker,class\na.wav,ann,en\n"b.wav,ann,en\nc.wav,ann,en\n', "line 4: "),
        (b'recording,speaker,class\n"a".wav,ann,en\n', "line 2: "),
    ],
    ids=("latin-1", "workbook", "open quote", "text after a quote"),
)
def test_a_file_that_is_no_table_is_refused(tmp_path, content, message):
    (tmp_path / "r.csv").write_bytes(content)
    assert refused(tmp_path / "r.csv").startswith(message)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("speaker", "columns 2 and 4 are both called 'speaker'; keep one of them"),
        ("class", "columns 3 and 4 are both called 'class'"),
        (" speaker ", "columns 2 and 4 are both called 'speaker'"),
        ("note\u00e9", "columns 4 and 5 are both called"),
    ],
)
def test_a_column_that_is_there_twice_is_refused(table, name, message):
    columns = [*NEEDED, name, *(["notee\u0301"] if name.startswith("note") else [])]
    assert refused(table(rows({}), columns)).startswith(message)


def test_columns_without_a_name_may_be_several(table):
    path = table(rows({}), [*NEEDED, "", " "])
    assert len(read_recordings_table(path)[""]) == 1


@pytest.mark.parametrize(
    ("header", "shown"),
    [
        (["recording", "Speaker", "class"], "'recording', 'Speaker', 'class'"),
        (["recording", " speaker", "class"], "'recording', ' speaker', 'class'"),
        (["recording", "speaker\u200b", "class"], r"'recording', 'speaker\u200b', 'class'"),
        (["recording;speaker;class"], "'recording;speaker;class'"),
    ],
)
def test_what_the_first_line_has_is_shown(table, header, shown):
    message = refused(table(rows({}), header=header))
    assert message.startswith("no column") and message.endswith(f"it has {shown}")


@pytest.mark.parametrize("name", ("Gender", " gender", "TEXT", "score\u200b", "Set"))
def test_a_column_that_would_be_dropped_is_named(table, name):
    message = refused(table(rows({}), [*NEEDED, name]))
    assert message.startswith(f"column {name!r} is not known; call it")


def test_columns_of_the_users_own_are_passed_over(table):
    assert len(read_recordings_table(table(rows({}), [*NEEDED, "notes", "age"]))[""]) == 1


@pytest.mark.parametrize(
    ("written", "read"),
    [("f", "f"), ("F", "f"), ("female", "f"), (" Female ", "f"), ("m", "m"), ("MALE", "m"), ("", None), (" ", None)],
)
def test_a_gender_is_read_as_it_is_written(table, written, read):
    ((one,),) = read_recordings_table(table(rows({"gender": written}), [*NEEDED, "gender"])).values()
    assert one.gender == read


@pytest.mark.parametrize("written", ("w", "woman", "x", "1", "fm"))
def test_another_gender_names_its_line(table, written):
    assert refused(table(rows({}, {"gender": written}), [*NEEDED, "gender"])).startswith(
        f"line 3: gender {written!r} is not one of m, f, male, female"
    )


def test_a_speaker_of_two_genders_names_both_lines(table):
    changes = ({"speaker": "a", "gender": "f"}, {"speaker": "a", "gender": ""}, {"speaker": "a", "gender": "Male"})
    assert refused(table(rows(*changes), [*NEEDED, "gender"])) == (
        "line 4: speaker a is m, but f in line 2; correct one of the two"
    )
    (three,) = read_recordings_table(table(rows(*changes[:2]), [*NEEDED, "gender"])).values()
    assert [u.gender for u in three] == ["f", "f"]  # said once is said


@pytest.mark.parametrize("kind", ("speaker", "utt"))
def test_a_name_in_two_unicode_forms_names_both_lines(table, kind):
    changes = ({kind: "ren\u00e9"}, {}, {kind: "rene\u0301"})
    if kind == "utt":
        changes = tuple(change | {"speaker": "s"} for change in changes)
    message = refused(table(rows(*changes), [*NEEDED, *(["utt"] if kind == "utt" else [])]))
    assert message.startswith("line 4: ") and "has other Unicode characters than in line 2" in message


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"speaker": "a\u200bb"}, "line 3: column speaker has U+200B (ZERO WIDTH SPACE) in it"),
        ({"utt": "a\ufeffb"}, "line 3: column utt has U+FEFF"),
        ({"recording": "a\u200d.wav"}, "line 3: column recording has U+200D (ZERO WIDTH JOINER)"),
        ({"text": "a\u2028b"}, "line 3: column text has a line break in it"),
        ({"text": "a\x0bb"}, "line 3: column text has a line break in it"),
    ],
)
def test_a_character_that_nobody_sees_names_its_line(table, change, message):
    assert refused(table(rows({}, change), [*NEEDED, "utt", "text"])).startswith(message)


def test_a_line_break_in_quotes_names_the_line_that_the_row_begins_in(tmp_path):
    (tmp_path / "r.csv").write_text('recording,speaker,class,text\na.wav,a,en,hi\n\nb.wav,b,en,"two\nlines"\n')
    assert refused(tmp_path / "r.csv").startswith("line 4: column text has a line break in it: 'two\\nlines'")


def test_quotes_of_a_spreadsheet_in_a_tsv_are_taken_off(tmp_path):
    (tmp_path / "r.tsv").write_text(
        '"recording"\tspeaker\tclass\ttext\n"a,b.wav"\t"ann ""x"" lee"\ten\t"hi, you"\n"c.wav\tbea\ten\t\n'
    )
    one, other = read_recordings_table(tmp_path / "r.tsv")[""]
    assert (one.path, one.speaker, one.text) == (f"{tmp_path}/a,b.wav", 'ann_"x"_lee', '"hi, you"')
    assert other.path == f'{tmp_path}/"c.wav'  # an opening quote alone is part of the name


def test_a_table_without_lines_is_refused(table):
    path = table(rows({}), header=None)
    path.write_text(path.read_text().splitlines()[0] + "\n")
    assert refused(path) == "has no recordings; add lines below its header"
    path.write_text("")
    assert refused(path).startswith("no column 'recording'")


@pytest.mark.parametrize("name", ("recordings.txt", "recordings", "recordings.csv.gz", "recordings.xlsx"))
def test_a_file_of_another_name_is_refused(tmp_path, name):
    (tmp_path / name).write_text("recording,speaker,class\na.wav,ann,en\n")
    assert refused(tmp_path / name) == "not a table of recordings; give it a name that ends in .tsv or .csv"
