"""`bascule` and `python -m bascule`."""

import sys


def main() -> None:
    """Answer `--version` at once; everything else is a command of `bascule.cli`."""
    if sys.argv[1:] in (["--version"], ["-V"]):
        import bascule

        sys.stdout.write(f"bascule {bascule.__version__}\n")
        return
    from bascule.cli import app

    app()


if __name__ == "__main__":
    main()
