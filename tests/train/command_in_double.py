"""`onereward` with the judge's float32 islands lifted: what torchrun starts in a test of float64."""

import sys

from onereward.cli.main import main
from tests.double import in_double

if __name__ == "__main__":
    with in_double():
        sys.exit(main())
