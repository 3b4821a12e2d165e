"""The vectors of the given texts by sentence-transformers, as one line of JSON: MODEL TEXT…"""

import json
import sys

from sentence_transformers import SentenceTransformer

model, *texts = sys.argv[1:]
print(json.dumps(SentenceTransformer(model).encode(texts).tolist()))
