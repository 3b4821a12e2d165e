"""Words as evidence: stems, stop words, identifiers, and what kind of answer a question wants."""

import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache

import Stemmer

_STEMMER = Stemmer.Stemmer("english")
_TOKEN = re.compile(r"\w+(?:[-_./@:]\w+)*")
_PART = re.compile(r"[^\W_]+")
STOP_WORDS = frozenset(
    """
    a an the this that these those there here it its he she they them his her their we our us
    you your i my me is are was were be been being am do does did done doing has have had
    having will would shall should can could may might must of in on at by for with from to
    into onto over under about as and or but if than then so not no nor only own same s t ll
    re ve d m which who whom whose what when where why how many much any some each every all
    both either also just very too more most such up out off down again once during before
    after between through because until while let please tell give show know say get
    """.split()
)
LIGHT_WORDS = frozenset(
    """
    use make take go come need want mean call name work help happen find become keep put set
    see look try start begin first last new old good long big high kind type sort way thing
    one two part different example year day time people person place number amount
    """.split()
)


class AnswerType(StrEnum):
    """What a question asks for, as far as its form tells."""

    TIME = "time"
    NUMBER = "number"
    MONEY = "money"
    PERSON = "person"
    PLACE = "place"
    REASON = "reason"
    OPEN = "open"

    @property
    def short(self) -> bool:
        """One sentence can answer it."""
        return self not in (AnswerType.OPEN, AnswerType.REASON)


@dataclass(frozen=True, slots=True)
class Term:
    """A content word of a question."""

    stem: str
    weight: float
    """Before the evidence is seen: identifiers and names weigh more, everyday words less."""
    identifier: bool = False
    name: bool = False


_MONTHS = (
    "jan(?:uary)?|feb(?:ruary)?|mar(?:ch)?|apr(?:il)?|may|june?|july?|aug(?:ust)?|"
    "sep(?:t(?:ember)?)?|oct(?:ober)?|nov(?:ember)?|dec(?:ember)?"
)
_NUMBER = (
    r"\d|\b(?:one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|fifteen|twenty|thirty|"
    r"forty|fifty|sixty|ninety|hundred|thousand|million|billion|dozen|half|twice|once)\b"
)
_ANSWERS: dict[AnswerType, re.Pattern[str]] = {
    AnswerType.TIME: re.compile(
        rf"\b(?:{_MONTHS})\b\.?|\b(?:1\d|20)\d\d\b|\b\d{{1,2}}[:.]\d\d\b|\b\d{{1,2}}\s?[ap]\.?m\b|"
        r"\b(?:mon|tues|wednes|thurs|fri|satur|sun)days?\b|\b\d{1,4}[-/.]\d{1,2}[-/.]\d{1,4}\b|"
        r"\b(?:century|noon|midnight|quarter|spring|summer|autumn|winter|daily|weekly|monthly|"
        rf"yearly|annually|o'clock)\b|(?:{_NUMBER})\D{{0,12}}\b(?:second|minute|hour|day|week|month|"
        r"year|decade)s?\b|\b(?:second|minute|hour|day|week|month|year)s\b[^|:\d]{0,20}:\s*\d",
        re.IGNORECASE,
    ),
    AnswerType.NUMBER: re.compile(_NUMBER, re.IGNORECASE),
    AnswerType.MONEY: re.compile(
        r"[$€£¥]\s?\d|\d[\d.,]*\s?(?:[$€£¥%]|k\b|(?:thousand|million|billion)\b)|"
        r"\b(?:usd|eur|gbp|chf|jpy)\b|"
        r"\d[\d.,]*\s?(?:us\s)?(?:dollar|euro|pound|cent|franc|yen)s?\b|\bfree(?: of charge)?\b",
        re.IGNORECASE,
    ),
    AnswerType.PERSON: re.compile(
        r"\b[A-Z][\w'’-]+\s(?:[A-Z]\.?\s)?[A-Z][\w'’-]+|\w@\w|\b(?:Mr|Mrs|Ms|Dr|Prof)\b"
    ),
    AnswerType.PLACE: re.compile(
        r"\b(?:[Ii]n|[Aa]t|[Oo]n|[Nn]ear|[Ff]rom|[Tt]o|[Oo]ff|[Oo]f)\s+(?:the\s+|an?\s+)?[A-Z]\w|"
        r"\b(?:behind|inside|outside|beside|beneath|under|above|below|between|next to)\s+\w|\w@\w|"
        r"\b(?:street|road|city|town|country|building|floor|room|hall|warehouse|store|storeroom|"
        r"cupboard|drawer|shelf|office|headquarters|address|folder|page|website)s?\b",
    ),
}
_ANSWERS[AnswerType.REASON] = re.compile(
    r"\b(?:because|caused?|causes|reasons?|due to|owing to|thanks to|in order to|so that|"
    r"as a result|led to|therefore|since)\b",
    re.IGNORECASE,
)
_QUESTIONS: tuple[tuple[AnswerType, re.Pattern[str]], ...] = (
    (
        AnswerType.MONEY,
        re.compile(r"\b(?:price|cost|costs|salary|budget|revenue|fee|pay|worth)\b|\bhow much (?:does|do|did|is|are|was|were)\b"),
    ),
    (
        AnswerType.TIME,
        re.compile(r"^(?:\W*(?:since|until|from|by|and|so)\s)?when\b|\b(?:what|which) (?:year|date|day|month|time|century|weekday)\b|\bhow (?:long ago|often|long)\b|\bdeadline\b"),
    ),
    (
        AnswerType.NUMBER,
        re.compile(r"\bhow (?:many|much|big|old|far|tall|high|heavy|fast|deep|wide|large|hot|cold|thick)\b|\bwhat (?:number|percentage|percent)\b|\b(?:phone|telephone) number\b"),
    ),
    (AnswerType.PERSON, re.compile(r"^\W*(?:who|whom|whose)\b|\b(?:by|to|from|with|for) whom\b")),
    (AnswerType.REASON, re.compile(r"^\W*why\b|\bwhat (?:caused|causes|led to)\b|\b(?:reasons?|causes? of)\b")),
    (AnswerType.PLACE, re.compile(r"^\W*where\b|\bin (?:what|which) (?:city|country|state|town|building|room)\b")),
)  # fmt: skip


def answer_type(question: str) -> AnswerType:
    lowered = question.strip().casefold()
    return next((kind for kind, form in _QUESTIONS if form.search(lowered)), AnswerType.OPEN)


def offers(kind: AnswerType, sentence: str, question: str) -> bool:
    """Whether the sentence holds something of the kind that the question did not bring itself."""
    if kind is AnswerType.OPEN:
        return True
    if kind is AnswerType.REASON:  # the question may say "cause" itself
        return bool(_ANSWERS[kind].search(sentence))
    asked = {token.casefold() for token in _TOKEN.findall(question)}
    return any(
        not {token.casefold() for token in _TOKEN.findall(match.group())} <= asked
        for match in _ANSWERS[kind].finditer(sentence)
    ) or (
        kind is AnswerType.MONEY
        and offers(AnswerType.NUMBER, sentence, question)
        and "|" in sentence
    )


_IRREGULAR = {
    form: verb
    for verb, forms in {
        "begin": "began begun", "break": "broke broken", "bring": "brought", "build": "built",
        "buy": "bought", "catch": "caught", "choose": "chose chosen", "draw": "drew drawn",
        "drive": "drove driven", "fall": "fell fallen", "fly": "flew flown", "freeze": "froze frozen",
        "grow": "grew grown", "hide": "hid hidden", "hold": "held", "keep": "kept", "lead": "led",
        "leave": "left", "lend": "lent", "lose": "lost", "meet": "met", "pay": "paid",
        "rise": "rose risen", "run": "ran", "sell": "sold", "send": "sent", "shoot": "shot",
        "sing": "sang sung", "speak": "spoke spoken", "spend": "spent", "steal": "stole stolen",
        "teach": "taught", "tear": "tore torn", "think": "thought", "throw": "threw thrown",
        "wear": "wore worn", "win": "won", "write": "wrote written", "cost": "costs price",
    }.items()
    for form in forms.split()
}  # fmt: skip


@lru_cache(maxsize=65536)
def stem(word: str) -> str:
    return str(_STEMMER.stemWord(_IRREGULAR.get(word, word)))


def tokens(text: str) -> list[str]:
    """Words and identifiers of `text` as written, in order."""
    return _TOKEN.findall(normalised(text))


def normalised(text: str) -> str:
    return unicodedata.normalize("NFKC", text).replace("’", "'")


def stems(text: str) -> list[str]:
    """Every word of `text` as a stem, identifiers whole and in parts, in order."""
    found: list[str] = []
    for token in tokens(text):
        lowered = token.casefold()
        parts = _PART.findall(lowered)
        found.extend(stem(part) for part in parts)
        if len(parts) > 1:
            found.append(lowered)
    return found


def content_stems(text: str) -> list[str]:
    return [stem(word) for word in _words(text) if word not in STOP_WORDS]


def _words(text: str) -> Iterable[str]:
    for token in tokens(text):
        yield from _PART.findall(token.casefold())


def question_terms(question: str) -> list[Term]:
    """The content words of a question, each once, with a weight known before any evidence."""
    terms: dict[str, Term] = {}
    for index, token in enumerate(tokens(question)):
        parts = _PART.findall(token.casefold())
        identifier = any(c.isdigit() for c in token) and len(token) > 1
        name = index > 0 and token[0].isupper() and token.casefold() not in STOP_WORDS
        if len(parts) > 1 and identifier:
            terms.setdefault(token.casefold(), Term(token.casefold(), 2.0, identifier=True))
            continue
        for part in parts:
            if (part in STOP_WORDS and not name) or (
                len(part) == 1 and not part.isdigit() and not name
            ):
                continue
            weight = 2.0 if identifier else 1.6 if name else 0.5 if part in LIGHT_WORDS else 1.0
            term = Term(stem(part), weight, identifier=identifier, name=name)
            terms.setdefault(term.stem, term)
    return list(terms.values())
