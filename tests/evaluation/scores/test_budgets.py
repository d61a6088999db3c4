"""What tuning cost, counted by hand, and what the last trials of it brought."""

import numpy as np
import pytest
from results import STEPS, TASKS, results_summary
from results import results as toy

from evaluation.report.markdown import markdown
from evaluation.report.summary import summary
from evaluation.scores import budgets


def searched(found):
    """Returns results whose Adam had five trials, of which the best come late."""
    finals = {  # means over two seeds, and one trial that diverged
        TASKS[0]: [[4, 4], [2, 2], [3, 3], [1, 3], [0.5, 1.5]],
        TASKS[1]: [[9, np.inf], [8, 8], [9, 9], [9, 9], [4, 4]],
        TASKS[2]: [[1, 1], [1, 1], [1, 1], [1, 1], [1, 1]],
    }
    cells = [
        x._replace(tried=x.tried._replace(values={"final": np.array(finals[x.task])}))
        if x.optimizer == "adam"
        else x
        for x in found.cells
    ]
    adam = found.settings["optimizers"]["adam"] | {"trials": 5, "sequential": True}
    optimizers = found.settings["optimizers"] | {"adam": adam}
    settings = found.settings | {"optimizers": optimizers}
    return found._replace(cells=tuple(cells), settings=settings)


def test_a_report_says_what_the_last_doubling_of_trials_brought():
    spent = budgets.budgets(searched(toy()))
    # The limit of a ratio, 100, counts where no trial has ended as yet.
    ratios = [[4, 2, 2, 2, 1], [100, 2, 2, 2, 1], [1, 1, 1, 1, 1]]
    expected = np.prod(ratios, axis=0) ** (1 / 3)
    assert spent["adam"].by_trials == pytest.approx(list(expected))
    assert spent["adam"].last_doubling == pytest.approx(1 - 1 / 4 ** (1 / 3))
    assert spent["sgdm"].by_trials is spent["mine"].last_doubling is None
    text = markdown(summary(searched(toy())))
    assert "took off the final training loss, on the tuning seeds: adam 37 %." in text
    assert "took off" not in markdown(results_summary())


def test_the_reference_pays_for_its_twin_and_for_every_length():
    own = toy()
    grown = own.settings["tasks"]["mlp-widthx2"] | {"twin": "muadam"}
    tasks = own.settings["tasks"] | {"mlp-widthx2": grown}
    for transfer, places in (False, 4), (True, 3):
        how = own.settings["tuning"] | {"transfer": transfer}
        settings = own.settings | {"tasks": tasks, "tuning": how}
        spent = budgets.budgets(own._replace(settings=settings))
        # Of three tasks, one has grown, and is tuned on where it grew from.
        assert spent["adam"].tuning_steps == places * 2 * 2 * STEPS * 3
        assert spent["sgdm"].tuning_steps == (2 if transfer else 3) * 2 * 2 * STEPS
