"""How accurate can a classifier be at every size? ``qwave search``, from a checkout.

python -m studies.moe_pareto [SWEEP.yaml] [dotted.key=value ...] [options of ``qwave search``]
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from qwave import cli


def main(argv: Sequence[str] | None = None) -> int:
    """Run ``qwave search``; returns its exit code."""
    return cli.main(["search", *(sys.argv[1:] if argv is None else argv)])


if __name__ == "__main__":
    sys.exit(main())
