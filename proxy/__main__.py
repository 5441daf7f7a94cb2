"""`python -m proxy` is the same as `pgweir`."""

from proxy.cli import main

if __name__ == "__main__":
    main(prog_name="pgweir")
