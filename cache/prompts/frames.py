"""Frames: the texts that members are shown in, from `1,2,3,` to `Van done in "1". Hat done in "`."""

from collections.abc import Sequence
from dataclasses import dataclass
from types import MappingProxyType

from cache.families.words import NAMES, OBJECTS


@dataclass(frozen=True)
class Frame:
    """How shown members become a text that ends where the answer is to come.

    Attributes:
        name: the label that prompts and tables carry.
        item: one shown member with what surrounds it; `{member}` and, in frames with words, `{word}`.
        joiner: what stands between items, and between the last item and the query.
        query: the text after the last item, up to where the answer begins.
        words: the words drawn by a template; frames without words have one template.
        answer_lead: what stands between the text and the answer (a space where the answer's token has one).
    """

    name: str
    item: str
    joiner: str
    query: str
    words: tuple[str, ...] = ()
    answer_lead: str = ""

    def compose(self, members: Sequence[str], words: Sequence[str]) -> tuple[str, tuple[tuple[int, int], ...]]:
        """The text, and for each member the span of characters `[start, end)` that it takes up there.

        Args:
            members: the members to show.
            words: for frames with words one more than members: the last one is the query's.
        """
        text, spans = "", []
        for i, member in enumerate(members):
            before, after = self.item.split("{member}")
            text += before.format(word=words[i]) if self.words else before
            spans.append((len(text), len(text) + len(member)))
            text += member + after + (self.joiner if i + 1 < len(members) or self.query else "")
        return text + (self.query.format(word=words[len(members)]) if self.words else self.query), tuple(spans)


FRAMES = MappingProxyType(
    {
        frame.name: frame
        for frame in (
            Frame("list", "{member},", "", ""),
            Frame("lines", "{member}:\n", "", ""),
            Frame("quote", '{word} done in "{member}".', " ", '{word} done in "', OBJECTS),
            Frame("paren", "{word} ({member}),", " ", "{word} (", OBJECTS),
            Frame("eq", "{word}={member};", " ", "{word}=", OBJECTS),
            Frame("comma-space", "{member},", " ", "", answer_lead=" "),
            Frame("space", "{member}", " ", "", answer_lead=" "),
            Frame("done", "{word} done in {member}.", " ", "{word} done in", OBJECTS, " "),
            Frame("lost", "{word} lost in {member}.", " ", "{word} lost in", OBJECTS, " "),
            Frame("born", "{word} born in {member}.", " ", "{word} born in", NAMES, " "),
        )
    }
)
"""The frames by name; `done`, `lost` and `born` are those of arXiv:2311.04131."""
