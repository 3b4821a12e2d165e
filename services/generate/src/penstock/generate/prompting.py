"""The writer that asks a model: marks passages as data, checks every citation it gives.

Sentences leave while the model still writes; the final piece is what validates as a whole.
"""

import json
import re
import secrets
from collections.abc import AsyncIterator, Sequence
from functools import cached_property
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from penstock.common.events import Citation, Passage, PassageRetrieved, Usage
from penstock.common.failures import PermanentError
from penstock.generate.ports import ChatModel, Message, Written
from penstock.generate.quoting import UNKNOWN, cite
from penstock.generate.sentences import Sentence, split_sentences
from penstock.generate.terms import content_stems

PROMPT = "answer.v1"
_PROMPT_TEXT = (Path(__file__).parent / "prompts" / f"{PROMPT}.txt").read_text(encoding="utf-8")
_REMINDER = 'When no passage says it, reply {"sentences": []}.'
"""Said again at the end: by then small models have forgotten that they may know nothing."""
SUSPICIOUS = ' suspicious="yes"'
_INSTRUCTING = ("injection", "jailbreak", "exfiltration", "instruction")
_MARKER = re.compile(r"\s*\[\d+(?:\s*,\s*\d+)*\]")
_ARRAY = re.compile(r'"sentences"\s*:\s*\[')


class AnswerSentence(BaseModel):
    model_config = ConfigDict(extra="ignore")

    text: str = Field(min_length=1)
    passages: list[int] = Field(default_factory=list)


class AnswerForm(BaseModel):
    """What the model is asked to return."""

    sentences: list[AnswerSentence]


_SCHEMA = AnswerForm.model_json_schema()


class Prompted:
    def __init__(self, chat: ChatModel) -> None:
        self._chat = chat

    async def write(
        self,
        tenant: str,  # noqa: ARG002  (the writer that quotes needs it)
        question: PassageRetrieved,
        passages: Sequence[Passage],
    ) -> AsyncIterator[Written]:
        if not passages:
            yield Written(UNKNOWN, final=True, abstained=True, model=self._chat.model)
            return
        messages = prompt(question, passages)
        shown = [Shown(passage) for passage in passages]
        cited = Citations(shown)
        reader = SentenceReader()
        used = Usage(model=self._chat.model)
        async for part in self._chat.stream(messages, _SCHEMA):
            if isinstance(part, Usage):
                used = _sum(used, part)
                continue
            for sentence in reader.feed(part):
                yield cited.written(sentence, self._chat.model)
        try:
            form = AnswerForm.model_validate_json(_bare(reader.text))
        except ValidationError as error:
            form, more = await self._repaired(messages, reader.text, str(error))
            used = _sum(used, more)
        yield _final(form, Citations(shown), used)

    async def _repaired(
        self, messages: Sequence[Message], broken: str, error: str
    ) -> tuple[AnswerForm, Usage]:
        """Ask once more, with what was wrong."""
        again = [
            *messages,
            Message("assistant", broken),
            Message("user", f"That is not the JSON asked for: {error}\nReply with the JSON alone."),
        ]
        completion = await self._chat.complete(again, _SCHEMA)
        try:
            return AnswerForm.model_validate_json(_bare(completion.text)), completion.usage
        except ValidationError as still:
            raise PermanentError(
                f"the model {self._chat.model} did not return the JSON asked for, twice",
                type="model_output_invalid",
            ) from still


def prompt(question: PassageRetrieved, passages: Sequence[Passage]) -> list[Message]:
    """The messages; the tag is random, so that no passage can close its own marks."""
    tag = f"passage-{secrets.token_hex(4)}"
    shown = "\n".join(
        f'<{tag} number="{number}" title={json.dumps(passage.title or "", ensure_ascii=False)}'
        f"{SUSPICIOUS if _suspicious(passage) else ''}>\n{passage.text}\n</{tag}>"
        for number, passage in enumerate(passages, 1)
    )
    return [
        Message("system", _PROMPT_TEXT.format(tag=tag)),
        *(Message(turn.role, turn.content) for turn in question.conversation),
        Message("user", f"{shown}\n\nQuestion: {question.question}\n{_REMINDER}"),
    ]


def _suspicious(passage: Passage) -> bool:
    return any(
        word in f"{finding.detector} {finding.category}".casefold()
        for finding in passage.findings
        for word in _INSTRUCTING
    )


class SentenceReader:
    """Finds the sentences in a JSON text that is still growing."""

    def __init__(self) -> None:
        self.text = ""
        self._at: int | None = None
        self._decoder = json.JSONDecoder()

    def feed(self, part: str) -> list[AnswerSentence]:
        """The sentences that `part` completed."""
        self.text += part
        if self._at is None:
            opened = _ARRAY.search(self.text)
            if opened is None:
                return []
            self._at = opened.end()
        found = []
        while (sentence := self._next()) is not None:
            found.append(sentence)
        return found

    def _next(self) -> AnswerSentence | None:
        assert self._at is not None
        start = self._at
        while start < len(self.text) and self.text[start] in " \t\r\n,":
            start += 1
        try:
            value, end = self._decoder.raw_decode(self.text, start)
            sentence = AnswerSentence.model_validate(value)
        except (json.JSONDecodeError, ValidationError):
            return None  # not complete yet, or broken: the whole text is validated at the end
        self._at = end
        return sentence


class Citations:
    """Numbers what is cited, one marker for each quote; markers that point nowhere are dropped."""

    def __init__(self, shown: Sequence["Shown"]) -> None:
        self._shown = shown
        self._markers: dict[tuple[str, int], Citation] = {}

    def written(self, sentence: AnswerSentence, model: str) -> Written:
        """The sentence with its markers. Without support it has none: guard sees that."""
        text = _MARKER.sub("", sentence.text).strip()
        citations: list[Citation] = []
        for number in dict.fromkeys(sentence.passages):
            citation = self._cite(number, text)
            if citation is not None and citation not in citations:
                citations.append(citation)
        marks = "".join(f" [{citation.marker}]" for citation in citations)
        return Written(text + marks, tuple(citations), model=model)

    def _cite(self, number: int, text: str) -> Citation | None:
        """The sentence that shares most words with the answer's, in the passage that the model
        named; small models miscount, so a passage that shares more than twice as many words is
        taken for the one that was meant."""
        words = set(content_stems(text))
        named = self._shown[number - 1].best(words) if 0 < number <= len(self._shown) else None
        if named is None:
            return None
        chosen = number
        if 2 * named[0] < len(words):  # else no other can share more than twice as many
            found = {n: best for n, p in enumerate(self._shown, 1) if (best := p.best(words))}
            meant = max(found, key=lambda n: found[n][0])
            if found[meant][0] > 2 * named[0]:
                chosen, named = meant, found[meant]
        passage, sentence = self._shown[chosen - 1].passage, named[1]
        key = (passage.chunk_id, sentence.start)
        if key not in self._markers:
            self._markers[key] = cite(len(self._markers) + 1, passage, sentence)
        return self._markers[key]


class Shown:
    """A passage that the model saw; taken apart into sentences once, when first cited."""

    def __init__(self, passage: Passage) -> None:
        self.passage = passage

    @cached_property
    def _sentences(self) -> list[tuple[frozenset[str], Sentence]]:
        return [
            (frozenset(content_stems(sentence.text)), sentence)
            for sentence in split_sentences(self.passage.text)
            if not sentence.heading
        ]

    def best(self, words: set[str]) -> tuple[int, Sentence] | None:
        """How many of the words its best sentence has, and that sentence; None: only headings."""
        scored = [(len(words & stems), sentence) for stems, sentence in self._sentences]
        return max(scored, key=lambda pair: pair[0], default=None)


def _final(form: AnswerForm, cited: Citations, usage: Usage) -> Written:
    pieces = [cited.written(sentence, usage.model) for sentence in form.sentences]
    citations = dict.fromkeys(citation for piece in pieces for citation in piece.citations)
    return Written(
        " ".join(piece.text for piece in pieces) or UNKNOWN,
        tuple(sorted(citations, key=lambda c: c.marker)),
        final=True,
        abstained=not pieces,
        model=usage.model,
        prompt=PROMPT,
        usage=usage,
    )


def _bare(text: str) -> str:
    """The JSON of a reply that a model has wrapped in words or a code fence."""
    start, end = text.find("{"), text.rfind("}")
    return text[start : end + 1] if 0 <= start < end else text


def _sum(one: Usage, other: Usage) -> Usage:
    return Usage(
        model=one.model,
        input_tokens=one.input_tokens + other.input_tokens,
        output_tokens=one.output_tokens + other.output_tokens,
    )
