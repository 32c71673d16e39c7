"""Running text is read from files as documents, each whole and under a name of its own."""

import gzip
import json

import pytest

from cache import load_dataset
from cache.errors import InputError, NotAvailableError
from cache.prompts.files import read_prompts, write_prompts
from cache.prompts.text import documents, read_documents


def read(path):
    return {one.group: one.text for one in load_dataset(f"text:{path}")}


def test_a_plain_file_is_one_document_without_a_family(tmp_path):
    path = tmp_path / "novel.txt"
    path.write_bytes("\ufeffOne day.\r\n\r\nAnother: é 🦙\n".encode())
    (one,) = load_dataset(f"text:{path}")
    assert (one.text, one.group, one.family) == ("One day.\n\nAnother: é 🦙\n", "novel", "")
    assert (one.kind, one.frame, one.values, one.labels) == ("document", "text", (), ())


def test_end_of_text_stands_between_documents_of_a_plain_file(tmp_path):
    path = tmp_path / "stories.txt"
    path.write_text("One day\n<|endoftext|>\nAnother\nday\n<|endoftext|>\n", encoding="utf-8")
    assert read(path) == {"stories 1": "One day", "stories 2": "Another\nday"}


def test_a_folder_holds_a_document_in_each_text_file(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "b.txt").write_text("second", encoding="utf-8")
    (tmp_path / "a" / "one.txt.gz").write_bytes(gzip.compress(b"first"))
    (tmp_path / "empty.txt").write_text(" \n", encoding="utf-8")
    (tmp_path / "notes.md").write_text("no text of it", encoding="utf-8")
    assert read(tmp_path) == {"a/one": "first", "b": "second"}


@pytest.mark.parametrize("packed", [False, True])
def test_a_table_holds_a_document_a_record_and_further_columns_are_labels(tmp_path, packed):
    lines = [{"text": "first", "id": "x1", "genre": "news"}, {"text": "", "id": "x2"}, {"text": "third", "genre": ""}]
    content = "\n".join(map(json.dumps, lines)).encode()
    path = tmp_path / f"corpus.jsonl{'.gz' * packed}"
    path.write_bytes(gzip.compress(content) if packed else content)
    found = load_dataset(f"text:{path}")
    assert [(one.group, one.text, one.labels) for one in found] == [
        ("x1", "first", (("genre", "news"),)),
        ("corpus 3", "third", (("genre", ""),)),
    ]


def test_documents_are_saved_and_read_back_and_stand_beside_other_prompts(tmp_path):
    (tmp_path / "a.txt").write_text("one day", encoding="utf-8")
    mixed = load_dataset(f"text:{tmp_path / 'a.txt'},digits")
    assert [one.kind for one in mixed] == ["increasing"] * (len(mixed) - 1) + ["document"]
    write_prompts(mixed, tmp_path / "saved.jsonl")
    assert read_prompts(tmp_path / "saved.jsonl") == mixed
    mine = tmp_path / "mine.csv"
    lines = [f"big {one},{one},animals" for one in ("cat", "dog", "hen")]
    mine.write_text("\n".join(["text,member,family", *lines]), encoding="utf-8")
    beside = load_dataset(f"{mine},control:0,text:{tmp_path / 'a.txt'}")
    assert [one.family for one in beside] == [*["animals"] * 3, *["control:0"] * 3, ""]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.txt", b"caf\xe9", r"a.txt is not UTF-8 text: .*"),
        ("a.txt", b"", r"a.txt holds no text; text is a plain file, a folder of .txt files, or a table with .*"),
        ("a.txt.gz", b"plain", r"a.txt.gz cannot be unpacked: Not a gzipped file .*"),
        ("a.txt.gz", gzip.compress(b"some text of it" * 9, mtime=0)[:-12], r"a.txt.gz cannot be unpacked: .*"),
        ("a.jsonl", b'{"text": " "}\n', r"\S*a.jsonl holds no text; give documents with some"),
        ("a.jsonl", b'{"body": "x"}\n', r"\S*a.jsonl line 1: text: Field required; a document has text.*"),
        ("a.jsonl", b'{"text": "x", "window": 3}\n', r"\S*a.jsonl line 1: a label cannot be called window.*"),
        ("a.jsonl", b'{"text": "x", "meta": {"a": 1}}\n', r"\S*a.jsonl line 1: meta: a label is text or a finite .*"),
        ("a.jsonl", b'{"text": "x\\u0000"}\n', r"\S*a.jsonl line 1: a prompt's text and labels must be .*"),
        (
            "a.jsonl",
            b'{"text": "x", "id": 1}\n{"text": "y", "id": "1"}\n',
            r"\S*a.jsonl line 2: two documents have the id '1'.*",
        ),
    ],
)
def test_what_cannot_be_read_is_told_in_one_sentence(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=rf"^(\S*/)?{message}$"):
        load_dataset(f"text:{tmp_path / name}")


def test_documents_of_two_files_cannot_have_one_id(tmp_path):
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "one.txt").write_text(folder, encoding="utf-8")
    with pytest.raises(InputError, match="two documents have the id 'one'"):
        load_dataset(f"text:{tmp_path / 'a'},text:{tmp_path / 'b'}")


def test_a_folder_without_text_and_a_missing_file_are_told(tmp_path):
    with pytest.raises(InputError, match=r"has no .txt file with text in it"):
        read_documents(tmp_path)
    with pytest.raises(NotAvailableError, match=r"^no text file or folder '.*none.txt'$"):
        read_documents(tmp_path / "none.txt")
    with pytest.raises(InputError, match=r"^item 1: record: .* a document has text, and perhaps id and labels$"):
        documents([("item 1", 3)])
