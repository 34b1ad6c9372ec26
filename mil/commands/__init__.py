"""The commands of `python -m mil`; see `mil/cli.py`."""
