"""What mattered, as bars in the page, with how sure each is; without a script."""

from __future__ import annotations

from collections.abc import Mapping

from qwave.report.table import Estimate
from qwave.text import for_html


def is_sure(estimate: Estimate) -> bool:
    """Whether an importance is more than nothing: its interval lies above 0."""
    return estimate.low > 0


def importance_html(importances: Mapping[str, Estimate], element_id: str) -> str:
    """One bar for each parameter, the most important first, with its 95 % interval as a whisker.

    Bars whose interval reaches 0 are grey: nothing is known to be behind them.

    Args:
        importances: Share of a score's spread (1 is all of it) by parameter; at least one.
        element_id: Id of the element.
    """
    ranked = sorted(
        importances.items(), key=lambda item: (not is_sure(item[1]), -item[1].value, item[0])
    )
    end = max(0.01, *(max(estimate.high, estimate.value) for estimate in importances.values()))
    rows = []
    for parameter, (value, low, high) in ranked:
        length, left, right = (100 * max(0.0, x) / end for x in (value, low, high))
        unsure = "" if low > 0 else " unsure"
        rows.append(
            f'<div><code>{for_html(parameter)}</code><div class="track{unsure}">'
            f'<div class="bar" style="width:{length:.1f}%"></div><div class="whisker" '
            f'style="left:{left:.1f}%;width:{right - left:.1f}%"></div></div>'
            f'<span class="share">{_percent(value)} <span class="muted">({_percent(low)} to '
            f"{_percent(high)})</span></span></div>"
        )
    return f'<div class="bars" id="{for_html(element_id)}">\n{chr(10).join(rows)}\n</div>'


def _percent(share: float) -> str:
    # Shuffling a parameter that does nothing can help by luck: less than nothing is nothing.
    return f"{100 * max(0.0, share):.0f} %"
