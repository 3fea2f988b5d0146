"""`python -m onereward` is the command `onereward`."""

from onereward.cli.main import main

if __name__ == "__main__":
    raise SystemExit(main())
