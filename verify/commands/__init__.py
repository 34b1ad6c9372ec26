"""Checks by hand: one module per command of `python -m verify`; `line.py` is the command line itself."""
