"""`python -m fuzz.run TARGET [options of libFuzzer]`: fuzz one target, guided by the lines of coatcheck it reaches."""

import logging
import sys

import atheris

with atheris.instrument_imports(include=["coatcheck", "urllib.parse"]):
    from fuzz.targets import TARGETS

logging.disable()  # what is refused is logged, a million times here
name = sys.argv.pop(1)
atheris.Setup(sys.argv, TARGETS[name].check)
atheris.Fuzz()
