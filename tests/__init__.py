"""The tests. Every process of theirs imports this: the near mode is turned on here, where it is asked for."""

from tests import near_mode as near_mode
