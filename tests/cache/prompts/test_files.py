"""Prompts in files: what is written comes back, and a user's line is read as it stands or refused by number."""

import csv
import gzip
import json
import sys
from contextlib import suppress

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cache import SequenceDesign, load_dataset
from cache.errors import GeometryError, InputError, NotAvailableError
from cache.families.family import FAMILIES
from cache.prompts.files import read_prompts, write_prompts
from cache.prompts.prompt import Prompt, Prompts

OWN = [
    {"text": "Paris is in France", "family": "city", "member": "Paris", "answer": "", "group": "calm"},
    {"text": "Rome, Rome is in Italy", "family": "city", "member": "Rome", "answer": " .", "group": "calm"},
    {"text": 'a "quoted", and\na second line ', "family": "", "member": "", "answer": "", "group": ""},
    {"text": " 007", "family": "NA", "member": "", "answer": "", "group": "null"},
    {"text": "I love Paris!", "family": "city", "member": "Paris", "answer": "", "group": "loud"},
    {"text": "I love Rome!", "family": "city", "member": "Rome", "answer": "", "group": "loud"},
    {"text": "Paris, again", "family": "city", "member": "Paris", "answer": "", "group": "loud"},
]

unicode = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=12)
words = unicode.filter(bool)


@st.composite
def any_fields(draw) -> dict:
    """A prompt's fields in arbitrary characters, its spans planted while its text is put together."""
    text, members, spans = draw(words), [], []
    for member in draw(st.lists(words, max_size=3)):
        spans.append((len(text), len(text) + len(member)))
        members.append(member)
        text += member + draw(unicode)
    labels = {name: draw(unicode) for name in ("family", "frame", "kind", "answer", "distractor", "group")}
    values = tuple(draw(st.integers(-(10**12), 10**12)) for _ in members)
    return {"text": text, "members": tuple(members), "spans": tuple(spans), "values": values, **labels}


@given(st.lists(any_fields(), min_size=1, max_size=5), st.integers(0, 2**40))
@settings(deadline=None)
def test_written_prompts_come_back_as_they_were(tmp_path_factory, drawn, seed):
    prompts = Prompts(tuple(Prompt(**fields, template=i) for i, fields in enumerate(drawn)), seed)
    path = tmp_path_factory.mktemp("written") / "prompts.jsonl"
    write_prompts(prompts, path)
    assert read_prompts(path) == prompts


def test_constructed_prompts_come_back_as_they_were(tmp_path):
    design = SequenceDesign((FAMILIES["digits"],), frames=("lines", "born"), kinds=("wrap", "mixed"), seed=3)
    prompts = load_dataset("digits,months,days", design)
    write_prompts(prompts, tmp_path / "a" / "b" / "prompts.jsonl")
    assert read_prompts(tmp_path / "a" / "b" / "prompts.jsonl") == prompts


def test_writing_again_replaces_the_file_and_writes_the_same_bytes(tmp_path, prompts):
    path = tmp_path / "prompts.jsonl"
    path.write_text("something else" * 100_000)
    write_prompts(prompts, path)
    first = path.read_bytes()
    write_prompts(read_prompts(path), path)
    assert path.read_bytes() == first


def own_file(path, records):
    """The records as CSV, written by Python's csv module, or as JSONL without the fields that are empty."""
    if path.suffix == ".csv":
        with path.open("w", encoding="utf-8", newline="") as handle:
            writer = csv.DictWriter(handle, list(records[0]))
            writer.writeheader()
            writer.writerows(records)
    else:
        lines = [json.dumps({k: v for k, v in record.items() if v}) for record in records]
        path.write_text("\n".join(lines), encoding="utf-8")
    return path


@pytest.mark.parametrize("name", ["own.csv", "own.jsonl"])
def test_a_user_s_prompts_are_read_as_they_stand(tmp_path, name):
    prompts = read_prompts(own_file(tmp_path / name, OWN))
    assert [{key: getattr(p, key) for key in ("text", "family", "answer", "group")} for p in prompts] == [
        {key: record[key] for key in ("text", "family", "answer", "group")} for record in OWN
    ]
    assert {(prompt.frame, prompt.kind, prompt.distractor) for prompt in prompts} == {("own", "own", "")}


@pytest.mark.parametrize("name", ["own.csv", "own.jsonl"])
def test_a_member_is_marked_where_it_last_stands(tmp_path, name):
    prompts = read_prompts(own_file(tmp_path / name, OWN))
    assert [prompt.spans for prompt in prompts] == [((0, 5),), ((6, 10),), (), (), ((7, 12),), ((7, 11),), ((0, 5),)]
    assert [prompt.members for prompt in prompts] == [(r["member"],) if r["member"] else () for r in OWN]


def test_members_are_numbered_as_the_file_first_names_them_and_repetitions_are_templates(tmp_path):
    prompts = read_prompts(own_file(tmp_path / "own.jsonl", OWN))
    assert [prompt.values for prompt in prompts] == [(1,), (2,), (), (), (1,), (2,), (1,)]
    assert [prompt.template for prompt in prompts] == [0, 0, 2, 3, 0, 0, 1]


def test_groups_that_show_the_same_members_are_matched_member_by_member(tmp_path):
    prompts = read_prompts(own_file(tmp_path / "own.jsonl", OWN))
    assert prompts.pairs("calm", "loud").tolist() == [[0, 4], [1, 5]]


@st.composite
def records(draw) -> dict[str, str]:
    """An own prompt in arbitrary characters, its member, if any, between spaces."""
    member = draw(unicode)
    record = {name: draw(unicode) for name in ("family", "answer", "group")}
    return {"text": f"{draw(unicode)} {member} {draw(unicode)}", "member": member, **record}


@given(st.lists(records().filter(lambda one: "\r" not in "".join(one.values())), min_size=1, max_size=4))
@settings(deadline=None)
def test_csv_and_jsonl_of_the_same_records_are_the_same_prompts(tmp_path_factory, drawn):
    folder = tmp_path_factory.mktemp("own")
    assert read_prompts(own_file(folder / "own.csv", drawn)) == read_prompts(own_file(folder / "own.jsonl", drawn))


def test_a_text_file_has_a_prompt_a_line_spaces_kept_and_blank_lines_left_out(tmp_path):
    (tmp_path / "own.txt").write_bytes(" one two \r\n\r\n\t\nétrange 日本\none,two".encode())
    prompts = read_prompts(tmp_path / "own.txt")
    assert prompts == Prompts.from_texts([" one two ", "étrange 日本", "one,two"])


@pytest.mark.parametrize("name", ["OWN.TXT", "Own.Csv", "own.JSONL"])
def test_a_suffix_may_be_written_in_capitals(tmp_path, name):
    contents = {"txt": "a\n", "csv": "text\na\n", "jsonl": '{"text": "a"}\n'}
    (tmp_path / name).write_text(contents[name.rpartition(".")[2].lower()])
    assert [prompt.text for prompt in read_prompts(tmp_path / name)] == ["a"]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("own.csv", 'text,family\r\n"a, b",x\r\nc,y\r\n'),
        ("own.csv", '"text","family"\r\n"a, b","x"\r\n"c","y"\r\n'),
        ("own.jsonl", '{"text": "a, b", "family": "x"}\r\n\r\n{"text": "c", "family": "y"}\r\n'),
    ],
)
def test_lines_may_end_as_in_windows(tmp_path, name, content):
    (tmp_path / name).write_bytes(content.encode())
    assert [(prompt.text, prompt.family) for prompt in read_prompts(tmp_path / name)] == [("a, b", "x"), ("c", "y")]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("own.csv", "text\none\ntwo\n"),
        (
            "own.txt",
            "one\ntwo\n",
        ),
        (
            "own.jsonl",
            '{"text": "one"}\n{"text": "two"}\n',
        ),
    ],
)
def test_a_byte_order_mark_is_no_part_of_the_first_prompt(tmp_path, name, content):
    (tmp_path / name).write_text(content, encoding="utf-8-sig")
    assert [prompt.text for prompt in read_prompts(tmp_path / name)] == ["one", "two"]


@pytest.mark.parametrize("mark", ["\x0b", "\x0c", "\x1c", "\x85", "\u2028"])
def test_only_line_ends_end_a_prompt(tmp_path, mark):
    (tmp_path / "own.txt").write_text(f"one{mark}two\nthree\n", encoding="utf-8")
    assert [prompt.text for prompt in read_prompts(tmp_path / "own.txt")] == [f"one{mark}two", "three"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            '{"text": "a"}\n\n{"text": 3}\n',
            r"own\.jsonl line 3: text: Input should be a valid string; known fields are",
        ),
        ('{"text": "a"}\n{"family": "x"}\n', r"own\.jsonl line 2: text: Field required"),
        ('{"txet": "b"}\n', r"line 1: text: Field required; known fields are text, family, member, pair, ordinal"),
        ('{"text": "a", "member": [1]}\n', r"line 1: member: Input should be a valid string"),
        ('{"text": "a"}\n["text"]\n', r"own\.jsonl line 2: line: Input should be a valid dictionary"),
        ('{"text": "a"}\n{"text": "b"\n', r"own\.jsonl line 2 is not JSON: Expecting ',' delimiter"),
        ("[" * 100_000, r"own\.jsonl line 1 is not JSON: maximum recursion depth exceeded"),
        (
            '{"text": "a"}\n{"text": "Paris is in France", "member": "paris"}\n',
            r"own\.jsonl line 2: member 'paris' does not stand in 'Paris is in France' as a whole word; "
            "it stands there as 'Paris'$",
        ),
        ('{"text": "Nigeria", "member": "Niger"}\n', r"own\.jsonl line 1: member 'Niger' .*inside 'Nigeria'$"),
        ("\n \n", r"own\.jsonl holds no prompts"),
        ("", r"own\.jsonl holds no prompts"),
    ],
)
def test_a_json_line_that_is_no_prompt_is_named_by_its_number(tmp_path, content, message):
    (tmp_path / "own.jsonl").write_text(content)
    with pytest.raises(InputError, match=message):
        read_prompts(tmp_path / "own.jsonl")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("txet,family\na,b\n", r"own\.csv line 2: text: Field required; known fields are text, family,"),
        ("text|family\na|b\n", r"own\.csv line 2: text: Field required"),
        ("text,text \na,b\n", r"own\.csv line 2 has two fields 'text'"),
        ("text\na\nb,c\n", r"own\.csv line 3 has not as many cells as there are columns"),
        ("text,family\n1,2,digits\n", r"own\.csv line 2 has not as many cells as there are columns"),
        ("text,family\na,x\n\nb\n", r"own\.csv line 4 has not as many cells as there are columns"),
        ('text\n"a"b\n', r"own\.csv line \d cannot be read as csv: ',' expected after"),
        ("", r"own\.csv holds no prompts"),
        ("text,family\n", r"own\.csv holds no prompts"),
    ],
)
def test_a_table_that_holds_no_prompts_is_refused(tmp_path, content, message):
    (tmp_path / "own.csv").write_text(content)
    with pytest.raises(InputError, match=message):
        read_prompts(tmp_path / "own.csv")


@pytest.mark.parametrize(("content", "line"), [('text\na\n"b"c\n', "3"), ('text\n"a\nb\n', "[23]")])
def test_a_table_that_is_no_csv_is_refused_at_the_line_that_is_wrong(tmp_path, content, line):
    (tmp_path / "own.csv").write_text(content)
    with pytest.raises(InputError, match=rf"own\.csv line {line} cannot be read as csv"):
        read_prompts(tmp_path / "own.csv")


def test_a_column_named_twice_is_refused(tmp_path):
    (tmp_path / "own.csv").write_text("text,answer,text\na,b,c\n")
    with pytest.raises(InputError, match="text"):
        read_prompts(tmp_path / "own.csv")


@pytest.mark.parametrize(
    ("name", "content", "line"),
    [
        ("own.jsonl", '{"text": "a"}\n\n{"text": ""}\n', 3),
        ("own.jsonl", '{"text": "a"}\n{"text": "a\\u0000"}\n', 2),
        ("own.jsonl", '{"text": "\\ud800"}\n', 1),
        ("own.csv", 'text,family\na,x\n"",y\n', 3),
        ("own.csv", 'text,family\n"1:\n2:\n",x\n\n"",y\n', 6),
        ("own.csv", "text,family\n1,2,3,4\n", 2),
    ],
)
def test_a_text_that_cannot_be_a_prompt_is_named_by_file_and_line(tmp_path, name, content, line):
    (tmp_path / name).write_text(content)
    with pytest.raises(InputError, match=rf"{name}.* line {line}"):
        read_prompts(tmp_path / name)


def test_a_nul_in_a_table_is_refused_as_it_is_in_json(tmp_path):
    (tmp_path / "own.csv").write_text("text,family\none\0two,x\n")
    with pytest.raises(InputError, match="NUL"):
        read_prompts(tmp_path / "own.csv")


@pytest.mark.parametrize("content", ["", "\n  \n\n"])
def test_a_text_file_without_text_is_refused(tmp_path, content):
    (tmp_path / "own.txt").write_text(content)
    with pytest.raises(InputError, match=r"own\.txt holds no prompts"):
        read_prompts(tmp_path / "own.txt")


@pytest.mark.parametrize("name", ["own.txt", "own.csv", "own.jsonl"])
def test_a_file_that_is_not_utf_8_is_refused(tmp_path, name):
    (tmp_path / name).write_bytes("text\nnaïve\n".encode("cp1252"))
    with pytest.raises(InputError, match=rf"{name} is not UTF-8 text: 'utf-8' codec can't decode byte 0xef"):
        read_prompts(tmp_path / name)


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(NotAvailableError, match=r"no prompt file '.*nowhere\.csv'"):
        read_prompts(tmp_path / "nowhere.csv")
    with pytest.raises(NotAvailableError, match="no prompt file"):
        read_prompts(tmp_path)


def test_other_suffixes_are_refused(tmp_path):
    (tmp_path / "own.xlsx").write_text("text\na\n")
    with pytest.raises(
        InputError,
        match=r"prompts come as \.jsonl, \.json, .*\.txt \(or \.gz of these\) or \.parquet; got '.*own\.xlsx'",
    ):
        read_prompts(tmp_path / "own.xlsx")


FORMS = [
    ("own.csv", "text;family\r\na, b;x\r\n"),
    ("own.csv", "sep=;\r\ntext;family\r\na, b;x\r\n"),
    ("own.csv", '"family";"text"\n"x";"a, b"\n'),
    ("own.csv", ',text,family\n0,"a, b",x\n'),
    ("own.csv", 'Unnamed: 0,Text,Family\n7,"a, b",x\n'),
    ("own.tsv", "text\tfamily\na, b\tx\n"),
    ("own.tsv", "text\na, b\n"),
    ("own.tsv", "\ttext\tfamily\n0\ta, b\tx\n"),
    ("own.json", '[{"text": "a, b", "family": "x"}]'),
]


@pytest.mark.parametrize(("name", "content"), FORMS)
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_tables_are_read_as_programs_write_them(tmp_path, name, content, mark):
    (tmp_path / name).write_bytes((mark + content).encode())
    family = "x" if "amily" in content else ""
    assert read_prompts(tmp_path / name) == Prompts((Prompt("a, b", family=family),))


def test_parquet_is_read_and_what_is_none_is_told(tmp_path, monkeypatch):
    frame = pd.DataFrame({"text": ["a b", "c d"], "member": ["b", None], "size": [3, 4]}, index=[5, 6])
    frame.to_parquet(tmp_path / "own.parquet")
    found = read_prompts(tmp_path / "own.parquet")
    assert [(p.text, p.members, dict(p.labels)) for p in found] == [
        ("a b", ("b",), {"pair": "b", "size": 3}),
        ("c d", (), {"size": 4}),
    ]
    (tmp_path / "no.parquet").write_bytes(b"PAR1 nothing")
    with pytest.raises(InputError, match=r"no\.parquet cannot be read as Parquet: "):
        read_prompts(tmp_path / "no.parquet")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(NotAvailableError, match=r"own\.parquet takes pyarrow: pip install pyarrow"):
        read_prompts(tmp_path / "own.parquet")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"text": "a"}', r"own\.json holds a dict; give a list of objects with a field text, or of texts"),
        ("[", r"own\.json is not JSON: "),
        ("[[]]", r"own\.json item 1: line: Input should be a valid dictionary"),
        ("[]", r"own\.json holds no prompts"),
    ],
)
def test_json_that_is_no_list_of_prompts_is_told(tmp_path, content, message):
    (tmp_path / "own.json").write_text(content)
    with pytest.raises(InputError, match=message):
        read_prompts(tmp_path / "own.json")


def test_a_json_list_of_texts_is_prompts(tmp_path):
    (tmp_path / "own.json").write_text('["a", "b c"]')
    assert read_prompts(tmp_path / "own.json") == Prompts.from_texts(["a", "b c"])


def test_further_labels_come_back_as_they_were(tmp_path):
    (tmp_path / "own.csv").write_text("text,size,note\na,1.5,007\nb,2,x\n")
    prompts = read_prompts(tmp_path / "own.csv")
    write_prompts(prompts, tmp_path / "saved.jsonl")
    assert read_prompts(tmp_path / "saved.jsonl") == prompts


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('"seed"', '"sead"', r"saved\.jsonl line 1: seed: Field required"),
        ('"values": [0,', '"values": ["x",', r"saved\.jsonl line 1: values\.0: Input should be a valid integer"),
        ("[[0, 1],", "[[0],", r"saved\.jsonl line 1: spans\.0\.1: Field required"),
    ],
)
def test_a_written_file_that_was_edited_is_refused_by_line(tmp_path, prompts, old, new, message):
    path = tmp_path / "saved.jsonl"
    listed = [i for i, prompt in enumerate(prompts) if prompt.frame == "list"]
    write_prompts(prompts.subset(listed), path)
    path.write_text(path.read_text().replace(old, new))
    with pytest.raises(InputError, match=message):
        read_prompts(path)


def test_an_edited_text_that_no_longer_shows_its_members_is_refused(tmp_path, prompts):
    path = tmp_path / "saved.jsonl"
    write_prompts(prompts, path)
    path.write_text(path.read_text().replace("January", "Januar"))
    with pytest.raises(InputError, match=r"characters .* are '.*', not 'Januar'"):
        read_prompts(path)


def test_own_lines_among_written_ones_are_refused(tmp_path, prompts):
    path = tmp_path / "saved.jsonl"
    write_prompts(prompts.subset([0, 1]), path)
    path.write_text(path.read_text() + '{"text": "mine"}\n')
    with pytest.raises(InputError, match=r"saved\.jsonl line 3: family: Field required"):
        read_prompts(path)


hostile = st.one_of(st.binary(max_size=60), st.text(alphabet='text,family"\n\r\0é{}[]:1', max_size=60).map(str.encode))


@given(hostile, st.sampled_from([".txt", ".csv", ".tsv", ".jsonl", ".json", ".parquet"]))
@settings(deadline=None)
def test_any_bytes_are_prompts_or_refused_in_a_sentence(tmp_path_factory, content, suffix):
    path = tmp_path_factory.mktemp("hostile") / f"own{suffix}"
    path.write_bytes(content)
    with suppress(GeometryError):
        assert len(read_prompts(path)) > 0


def test_a_number_beyond_python_s_limit_is_refused_in_a_sentence(tmp_path):
    (tmp_path / "own.jsonl").write_text('{"text": ' + "9" * 5000 + "}")
    with pytest.raises(InputError, match="line 1"):
        read_prompts(tmp_path / "own.jsonl")


@pytest.mark.parametrize("lead", ["\n", "\r\n\r\n", "\nsep=;\n"])
def test_blank_lines_before_a_table_are_no_lines_of_it(tmp_path, lead):
    (tmp_path / "own.csv").write_text(f"{lead}text;family\nso big;a\n;\n", newline="")
    with pytest.raises(InputError, match=rf"line {lead.count(chr(10)) + 3}: "):
        read_prompts(tmp_path / "own.csv")
    (tmp_path / "own.csv").write_text(f"{lead}text;family\nso big;a\n", newline="")
    assert [(p.text, p.family) for p in read_prompts(tmp_path / "own.csv")] == [("so big", "a")]


def test_a_column_called_spans_makes_a_table_no_saved_file(tmp_path):
    (tmp_path / "own.csv").write_text("text,spans\na b,3\n")
    with pytest.raises(InputError, match="line 2: a label of prompts cannot have the name 'spans'; choose another"):
        read_prompts(tmp_path / "own.csv")


@pytest.mark.parametrize("suffix", [".jsonl", ".csv", ".tsv", ".txt"])
def test_a_packed_file_is_read_as_the_file_in_it(tmp_path, suffix):
    lines = {".jsonl": '{"text": "a b"}\n', ".csv": "text,n\na b,1\n", ".tsv": "text\tn\na b\t1\n", ".txt": "a b\n"}[
        suffix
    ]
    (tmp_path / f"a{suffix}").write_text(lines, encoding="utf-8")
    (tmp_path / f"a{suffix}.gz").write_bytes(gzip.compress(lines.encode()))
    assert read_prompts(tmp_path / f"a{suffix}.gz") == read_prompts(tmp_path / f"a{suffix}")
    assert load_dataset(str(tmp_path / f"a{suffix}.gz"))[0].text == "a b"
