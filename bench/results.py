"""The raw lines of a run (what, who, tokens, clients, value), and the names of the contestants."""

import os
from collections import defaultdict
from statistics import median_low

NAMES = {
    "a": "(a) SELECT 1",
    "b": "(b) by hand: SELECT",
    "c": "(c) by hand: SELECT and UPDATE",
    "d": "(d) PL/pgSQL and pgcrypto",
    "e": "(e) api_token_validate, not preloaded",
    "bp": "(b) by hand, on the preloading server",
    "f": "(f) api_token_validate, preloaded",
    "g": "(g) api_token_validate_many, of 100",
}
BASE = {who: "bp" if who in ("bp", "f", "g") else "b" for who in NAMES}


class Results:
    def __init__(self, path):
        self.values = defaultdict(list)
        for line in open(path):
            what, who, tokens, clients, value = line.rstrip("\n").split("\t")
            self.values[what, who, int(tokens), int(clients)].append(float(value))
        self.sizes = sorted({key[2] for key in self.values if key[0] == "in_server"})
        self.main = int(os.environ["MAIN"])
        for who in ("b", "e", "bp", "f"):
            self.values["clients", who, self.main, 2] = self.values["throughput", who, self.main, 2]
        self.clients = sorted({key[3] for key in self.values if key[0] == "clients"})

    def spread(self, what, who, tokens=None, clients=2):
        """Minimum, median and maximum of the rounds."""
        values = self.values[what, who, tokens or self.main, clients]
        return min(values), median_low(values), max(values)

    def get(self, what, who, tokens=None, clients=2):
        """The median of the rounds."""
        return self.spread(what, who, tokens, clients)[1]

    def ratio(self, what, who, base, **where):
        return self.get(what, who, **where) / self.get(what, base, **where)


def size(tokens):
    """1000000 as 1M."""
    for unit, letter in ((1_000_000, "M"), (1_000, "k")):
        if tokens >= unit:
            return f"{tokens / unit:g}{letter}"
    return str(tokens)
