"""Random calls as data (draw.py), the answers they must give (answers.py), the comparison (check.py), a long run (__main__.py).

tests/test_fuzz.py runs a few of them in every `make test`; `make fuzz MINUTES=10 SEED=1` runs as many as there is time for.
"""
