"""`bascule` and `python -m bascule`."""

import sys


def main() -> None:
    """Answer `--version` at once, and begin `bridge` at once; everything else is a command of `bascule.cli`."""
    if sys.argv[1:] in (["--version"], ["-V"]):
        import bascule

        sys.stdout.write(f"bascule {bascule.__version__}\n")
        return
    if sys.argv[1:2] == ["bridge"]:
        from bascule.cli import bridge

        if wish := bridge.plain(sys.argv[2:]):
            bridge.run(wish)
            return
    from bascule.cli.commands import app

    app()


if __name__ == "__main__":
    main()
