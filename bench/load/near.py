"""The policies of coatcheck's variants."""

import os

from coatcheck import NearCache, SessionPolicy

POLICY = SessionPolicy(near_cache=NearCache()) if os.environ["LOAD_VARIANT"] == "coatcheck near" else None
