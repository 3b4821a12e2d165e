"""Weighted phrases: how a rule for injected instructions is written, and the words they share.

The rules are written from public descriptions of the attack families (OWASP LLM01 and LLM07, Greshake et al.
2023 on indirect injection, Shen et al. 2023 on jailbreak personas, vendors' chat templates).
Patterns see normalised lower-case text; a blank in one stands for any white space. A rule runs
only when one of its anchors is in the text, which keeps plain prose cheap.
"""

import re
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Rule:
    family: str
    weight: float
    """Belief, 0 to 1, that a text with this phrase tries to command the model."""
    anchors: tuple[str, ...]
    pattern: re.Pattern[str]
    indirect: bool = False
    """Means something only in retrieved text: a person who asks may well give instructions."""


def rule(family: str, weight: float, anchors: str, pattern: str, *, indirect: bool = False) -> Rule:
    compiled = re.compile(_BLANK.sub(_any_space, pattern), re.MULTILINE)
    return Rule(family, weight, tuple(anchors.split("~")), compiled, indirect)


# A character class or an escape is left alone; ` ?` means "perhaps white space".
_BLANK = re.compile(r"\\.|\[(?:\\.|[^\]\\])+\]| \?| (?=\{)| ")


def _any_space(match: re.Match[str]) -> str:
    blank = match.group()
    if blank[0] != " ":
        return blank
    if blank == " ?":
        return r"\s*"
    return r"\s" if match.string[match.end() : match.end() + 1] == "{" else r"\s+"


DROP = r"(?:ignore|disregard|forget|override|overrule|bypass|skip|neglect|discard|dismiss|drop)"
RULE_WORDS = r"(?:instructions?|prompts?|directions?|directives?|rules|guidelines|commands?|constraints|programming|training|policies)"
EARLIER = r"(?:previous(?:ly)?|prior|above|earlier|preceding|foregoing|past|initial|original|existing|current|former|system|safety)"
ANSWER = r"(?:responses?|answers?|repl(?:y|ies)|outputs?|summar(?:y|ies))"
AI = r"(?:ai|a\.i\.|assistants?|chat ?bots?|language models?|llms?|chatgpt|gpt(?:-?\d\w*)?|copilot|claude|gemini|bard)"
LAW = r"(?:ethic\w*|moral\w*|legal\w*|law|laws|rules?|polic(?:y|ies)|guidelines?|restrictions?|limit(?:s|ations?)?|filter(?:s|ing)?|censorship|boundar(?:y|ies)|constraints?|safeguards?|restraints?)"

URL = r"https?://[^\s)\"'<>\]]"
DATA = r"(?:\{[^}\s]{0,60}\}|\[[a-z_ ]{2,40}\]|<[a-z_ ]{2,40}>|%7b|\$\{|[a-z0-9+_-]{40,})"
