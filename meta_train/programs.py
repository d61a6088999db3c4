"""Programs compiled side by side, and equal ones once."""

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jax


def compiled(programs: Sequence[Any], traced: Sequence[Any]) -> list[Any]:
    """Returns the programs, compiled; where some are equal, the first stands for all.

    Programs are equal if they have the same text, constants included, and take arrays
    of the same shapes. Data that are arguments may differ.

    Args:
      programs: jitted with `keep_unused`, so that a text shows every argument.
      traced: the same programs, traced.
    """
    first: dict[Any, Any] = {}
    chosen = []
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for program, trace in zip(programs, traced, strict=True):
            lowered = trace.lower()  # one by one; compiling lets other threads run
            form = _form(lowered)
            if form not in first:
                first[form] = program, pool.submit(lowered.compile)
            chosen.append(first[form][0])
        for _, compiling in first.values():
            compiling.result()
    return chosen


def _form(lowered: Any) -> tuple:
    """Returns what equal programs have in common, and no others."""
    inputs, structure = jax.tree.flatten(lowered.args_info)
    text = lowered.as_text()
    head = text[text.index("@main(") :].partition("\n")[0]
    if head.count("%arg") != len(inputs):  # constants that the text lacks
        return (object(),)
    return text, *map(str, inputs), structure, lowered.out_tree
