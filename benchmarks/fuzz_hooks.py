"""What schemathesis sends where the OpenAPI document wants a picture: real ones, small, and sometimes junk.

Imported by the test that fuzzes, and by `schemathesis run` as its hooks (`benchmarks/fuzz.py`).
"""

import schemathesis
from hostile_corpus.containers import good_images
from hostile_corpus.hostile_file import TYPES
from hypothesis import strategies as st

JUNK = st.binary(max_size=200)

for kind, media_type in TYPES.items():
    whole = [data for name, data in good_images().items() if name.startswith(kind)]
    schemathesis.openapi.media_type(media_type, st.sampled_from(whole) | JUNK)
schemathesis.openapi.format("binary", st.sampled_from(list(good_images().values())) | JUNK)
