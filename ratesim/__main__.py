"""`python -m ratesim`: the command line."""

from ratesim.cli import main

if __name__ == "__main__":
    main()
