"""The answerer without a model: what it quotes, and when it keeps silent."""

from penstock.common.events import Passage, TextSpan
from penstock.generate.extractive import (
    DEFAULT_WEIGHTS,
    Extract,
    Question,
    candidates,
    extract,
)
from penstock.generate.terms import AnswerType, answer_type, offers

ROWS = "Code: QV-70 | Pump: Small | Price: 310 EUR\nCode: QV-90 | Pump: Large | Price: 985 EUR"
STAFF = "The mill was opened in 1987 by Arne Solberg. It has two wheels. Guests pay nothing."


def passage(text: str, dense: float, *, title: str | None = None, chunk: str = "c") -> Passage:
    return Passage(
        chunk_id=chunk, document_id="d", version=1, title=title, text=text,
        span=TextSpan(start=100, end=100 + len(text)), score=1.0, rank=1, dense_score=dense,
    )  # fmt: skip


def ask(question: str, *passages: Passage, close: float = 0.6) -> Extract:
    """With every sentence equally close to the question, the words decide."""
    asked = Question.read(question)
    found = candidates(asked, passages)
    return extract(asked, passages, found, [close] * len(found), DEFAULT_WEIGHTS)


def quoted(result: Extract) -> list[str]:
    return [candidate.sentence.text for candidate in result.quotes]


def test_a_price_is_read_from_its_own_table_row() -> None:
    """A question about one product is answered with that product's row, not its neighbour's."""
    result = ask("What is the price of the QV-90?", passage(ROWS, 0.65), close=0.66)
    assert quoted(result) == ["Code: QV-90 | Pump: Large | Price: 985 EUR"]


def test_an_identifier_nobody_mentions_is_not_answered() -> None:
    """A product that is not in the documents gets no other product's price."""
    result = ask("What is the price of the QV-95?", passage(ROWS, 0.65), close=0.66)
    assert quoted(result) == []
    assert result.nearest != ()


def test_a_fact_is_quoted_from_a_long_passage() -> None:
    """Who and when are answered by the sentence that holds a name or a date."""
    evidence = passage(STAFF, 0.66, title="The mill")
    assert quoted(ask("Who opened the mill?", evidence, close=0.66)) == [STAFF.split(" It")[0]]
    assert quoted(ask("When was the mill opened?", evidence, close=0.66)) == [STAFF.split(" It")[0]]


def test_a_topic_that_is_absent_is_abstained_from() -> None:
    """Documents about something else give no answer, however sure their sentences sound."""
    assert quoted(ask("How do I reset my password?", passage(STAFF, 0.5), close=0.5)) == []


def test_close_passages_answer_an_open_question_with_several_sentences() -> None:
    """A question that wants an explanation gets up to three sentences, in reading order."""
    evidence = passage(STAFF, 0.85, title="The mill")
    result = ask("What is the mill like for guests?", evidence, close=0.8)
    assert 1 < len(result.quotes) <= 3
    assert quoted(result) == sorted(quoted(result), key=STAFF.index)


def test_no_evidence_is_no_answer() -> None:
    """Nothing found, nothing said."""
    assert quoted(ask("Who opened the mill?")) == []


def test_a_question_tells_what_it_wants() -> None:
    """The form of a question decides what must stand in its answer."""
    kinds = {
        "When does it open?": AnswerType.TIME,
        "How many wheels are there?": AnswerType.NUMBER,
        "How much does entry cost?": AnswerType.MONEY,
        "Who opened it?": AnswerType.PERSON,
        "Where does it stand?": AnswerType.PLACE,
        "Why was it closed?": AnswerType.REASON,
        "What is a mill?": AnswerType.OPEN,
    }
    assert kinds == {question: answer_type(question) for question in kinds}


def test_what_the_question_brings_is_no_answer_to_it() -> None:
    """The year in the question does not count as the date asked for."""
    assert not offers(AnswerType.TIME, "The 1987 fair was large.", "When was the 1987 fair?")
    assert offers(AnswerType.TIME, "The 1987 fair was in May.", "When was the 1987 fair?")
