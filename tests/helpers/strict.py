"""The checker of annotations in tests: beartype, with ints allowed for floats."""

from beartype import BeartypeConf, beartype

typechecked = beartype(conf=BeartypeConf(is_pep484_tower=True))
