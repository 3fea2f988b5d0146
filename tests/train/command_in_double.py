"""`onereward` with the judge's float32 islands lifted: what torchrun starts in a test of float64."""

import sys

from onereward.cli.main import main
from tests.stock_judge import Doubles

if __name__ == "__main__":
    with Doubles():
        sys.exit(main())
