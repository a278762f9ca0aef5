"""RESULTS.md out of the raw lines of a run. Called by run.sh, which says where it ran."""

import os
import sys
from datetime import date

from results import BASE, NAMES, Results, size

results = Results(sys.argv[1])
env = os.environ


def number(value):
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}" if value < 1 else f"{value:.1f}"


def row(*cells):
    print("| " + " | ".join(cells) + " |")


def table(*head):
    print()
    row(*head)
    print("|---" * len(head) + "|")


def spread(what, who, **where):
    return map(number, results.spread(what, who, **where))


def header():
    print("# Measured by `make bench`\n")
    print(f"{date.today()}, Postgres {env['POSTGRES']}, {env['MACHINE']}; `{env['COMMAND']}`.")
    print(f"Load average {env['LOAD']}. Two servers side by side with shared_buffers = {env['SHARED_BUFFERS']} {env['HUGE_PAGES']}")
    print("huge pages and the same rows, one of which preloads the library. Contestants in turn, "
          f"{env['ROUNDS']} round(s) of {env['SECONDS_EACH']} s each; where one figure is given, it is the median.")


def targets():
    print("\n## Targets\n")
    big = results.main
    lines = []
    for who in "ef":
        ratio = results.ratio("throughput", who, BASE[who])
        lines.append((ratio >= 1, f"({who}) at least 1.0 times (b) of its server at {size(big)}: {ratio:.3f}"))
        ratio = results.ratio("throughput", who, "c")
        lines.append((ratio >= 6, f"({who}) at least 6 times (c): {ratio:.1f}"))
    for kind, words in (("near", "together"), ("spread", "spread over the table")):
        wal, full = (results.get(what, f"f-{kind}") for what in ("wal", "wal_after_checkpoint"))
        lines.append((wal < 1, f"WAL under 1 byte per check, preloaded, tokens {words}: {wal:.2f}, "
                      f"and {full:.1f} just after a checkpoint"))
    first, last = results.sizes[0], results.sizes[-1]
    for who in "ef":
        growth, by_hand = (results.get("in_server", one, last, 1) / results.get("in_server", one, first, 1) - 1
                           for one in (who, BASE[who]))
        lines.append((growth <= 0.15, f"({who}) at {size(last)} at most 15 % slower in the server than at {size(first)} "
                      f"(the target says 10M and 100k): {growth:+.0%}; (b) {by_hand:+.0%}"))
    hot = results.get("hot", "hot", clients=32) / results.get("hot", "spread", clients=32)
    lines.append((hot >= 1, f"one hot token checked by 32 clients no slower than 10,000: {hot:.3f} times as fast"))
    for who in "efg":
        cost = results.get("in_server", who, big, 1)
        lines.append((cost < 5, f"({who}) under 5 µs in the server at {size(big)}: {cost:.2f} µs"))
    cost, one = (results.get("in_server", who, big, 1) for who in "gf")
    lines.append((cost <= one, f"(g) per token at most what (f) costs in the server: {cost:.2f} and {one:.2f} µs"))
    get, pgp = (results.get("vault", who, clients=1) for who in ("get", "pgp_decrypt"))
    lines.append((pgp / get >= 20, f"api_vault_get at least 20 times as fast as pgp_sym_decrypt: {pgp / get:.0f} times"))
    lines.append((get < 15, f"api_vault_get of 64 bytes under 15 µs in the server: {get:.2f} µs"))
    rekey = results.get("vault_rate", "rekey", clients=1)
    lines.append((rekey >= 20_000, f"api_vault_rekey of at least 20,000 namespaces a second: {number(rekey)}"))
    filtered, constant, calls, no_calls = (results.get("identity", who, clients=1)
                                           for who in ("policy", "constant", "calls", "no_calls"))
    lines.append((filtered <= 1.05 * constant, f"{size(big)} rows under a policy by api_token_current_namespace() within 5 % of "
                  f"the same filter by a constant: {filtered / constant - 1:+.1%}"))
    per_call = (calls - no_calls) / 1000
    lines.append((per_call < 0.3, f"api_token_current_namespace() under 0.3 µs in the server: {per_call:.3f} µs"))
    for who, most, words in (("scoped", 0.05, "with scopes and addresses"), ("rate", 0.10, "with a rate limit")):
        slower = results.get("policy_tps", "without") / results.get("policy_tps", who) - 1
        us, more = (results.get("policy_us", one, clients=1) for one in ("without", who))
        lines.append((slower <= most, f"a check {words} within {most:.0%} of one without: {slower:+.1%} over connections, {more / us - 1:+.0%} in the server"))
    quota, by_hand = results.get("quota_spread", "ours"), results.get("throughput", "c")
    lines.append((quota >= by_hand, f"a token with a quota at least as fast as (c): {number(quota)} and {number(by_hand)} a second"))
    for reached, text in lines:
        print(f"- **{'reached' if reached else 'NOT reached'}**: {text}")


def throughput():
    for tokens in reversed(results.sizes):
        print(f"\n## Checks a second: {tokens:,} tokens, 2 clients")
        table("`pgbench -M prepared`", "min", "median", "max", "of its (b)")
        for who, name in NAMES.items():
            if tokens > results.main and who in "cd":
                continue
            ratio = results.ratio("throughput", who, BASE[who], tokens=tokens)
            row(name, *spread("throughput", who, tokens=tokens), f"{ratio:.2f}")
        print(f"\nThe touch map was full at {results.get('map_full', 'f', tokens):.0f} % of the accepted checks on the "
              "preloading server: all tokens are in use here.")
    print(f"\n(f) in rounds longer than its flush interval, here {env['FLUSH_INTERVAL']} s, so with the flush; the others wait for it.")
    print("(c) and (d) wait for their commits; (g) counts tokens, 100 per call. The second row of (b) is its base.")
    print("\n![Checks a second](plots/throughput.svg)")


def clients():
    print(f"\n## Checks a second by clients: {results.main:,} tokens")
    table("clients", *(NAMES[who] for who in ("b", "e", "bp", "f")), "(e) of (b)", "(f) of (b)")
    for count in results.clients:
        figures = [number(results.get("clients", who, clients=count)) for who in ("b", "e", "bp", "f")]
        ratios = [results.ratio("clients", who, BASE[who], clients=count) for who in "ef"]
        row(str(count), *figures, *(f"{ratio:.2f}" for ratio in ratios))
    print("\nOne client leaves the cores idle between calls, and waking them is most of its time.")
    print("\n![By clients](plots/clients.svg)")


def latency():
    print(f"\n## Latency: one client, prepared, {int(env['LATENCY_CALLS']):,} calls each, {results.main:,} tokens")
    table("µs", "p50", "p99")
    for who in ("a", "b", "e", "bp", "f"):
        name = "SELECT $1" if who == "a" else NAMES[who]
        row(name, *(f"{results.get(what, who, clients=1):.1f}" for what in ("p50", "p99")))
    print("\nClient and server process on one core, so that it does not matter where the scheduler put them.")


def in_server():
    print("\n## In the server: µs per check, 300,000 of random tokens in one statement")
    table("tokens", *(f"{size(tokens)} {word}" for tokens in results.sizes for word in ("min", "median", "max")))
    for who in ("b", "e", "bp", "f", "g"):
        cells = [f"{value:.2f}" for tokens in results.sizes
                 for value in results.spread("in_server", who, tokens, 1)]
        row(NAMES[who], *cells)
    print("\n![In the server](plots/in-server.svg)")


def wal():
    print(f"\n## WAL: bytes per check, {int(env['WAL_CHECKS']):,} checks of 10,000 tokens, {results.main:,} in the table")
    table("", "pages already in the WAL", "just after a checkpoint, with full pages")
    places = {"near": "tokens together", "spread": "tokens spread over the table"}
    for who in ("f-near", "f-spread", "e-near", "e-spread", "c-spread"):
        name, kind = who.split("-")
        row(f"{NAMES[name]}; {places[kind]}", *(f"{results.get(what, who):.2f}" for what in ("wal", "wal_after_checkpoint")))
    print("\n(f) with the flush that follows. (e) writes each token once per touch interval: here once.")


def others():
    print(f"\n## One hot token: checks a second by 32 clients, preloaded, {results.main:,} tokens")
    table("", "min", "median", "max")
    row("one token", *spread("hot", "hot", clients=32))
    row("10,000 tokens", *spread("hot", "spread", clients=32))
    print(f"\n## Other work, {results.main:,} tokens, not preloaded")
    table("", "")
    other = lambda who, clients=1: results.get("other", who, clients=clients)
    row("api_token_create, 2 clients", f"{number(other('create_2_clients', 2))} a second")
    row("api_token_create in one transaction", f"{number(10_000_000 / other('create_10000'))} a second")
    row("api_token_invalidate_all of 100,000", f"{number(other('invalidate_all'))} ms")
    row("api_token_cleanup of 100,000 among the rest", f"{number(other('cleanup'))} ms")
    row("api_token_list of a namespace with 10,000", f"{number(other('list'))} ms")
    row("api_token_list of its first 50", f"{number(other('list_50'))} ms")


def identity():
    print(f"\n## Identity: row security by the token, {results.main:,} rows, not preloaded")
    table("calls a second, 2 clients, one row of the primary key", "min", "median", "max")
    for who, name in {
        "plain": "SELECT with the namespace as a constant, no row security",
        "ours": "api_token_require, then SELECT under a policy by it, in one round trip",
        "setting": "by hand: SELECT of the token and set_config, then SELECT under a policy by the setting, in one round trip",
    }.items():
        row(name, *spread("identity_tps", who))
    table("ms: count of the rows of one namespace in a thousand, without an index", "min", "median", "max")
    for who, name in {
        "constant": "filter by a constant",
        "policy": "policy `namespace = (SELECT api_token_current_namespace())`",
        "per_row": "filter by `api_token_current_namespace()`, called for each row",
    }.items():
        row(name, *(f"{value:.1f}" for value in results.spread("identity", who, clients=1)))
    print("\nThe figure per call of api_token_current_namespace() above is that of a million calls less that of a million constants.")


def limits():
    print("\n## Quotas: uses a second, beside `UPDATE … SET uses_left = uses_left - 1 … RETURNING`, not preloaded")
    table("", "min", "median", "max")
    for what, clients, words in (("spread", 2, "1,000 tokens, 2 clients"), ("hot", 32, "one token, 32 clients"),
                                 ("held", 16, "one token, 16 clients whose transactions stay open for 10 ms")):
        for who, name in (("ours", "api_token_validate of a token with max_uses"), ("hand", "by hand, without checking a token")):
            row(f"{words}: {name}", *spread(f"quota_{what}", who, clients=clients))
    print("\n## What a policy adds to a check: preloaded, 1,000 tokens")
    table("", "checks a second, 2 clients: min", "median", "max", "µs in the server")
    for who, name in (("without", "without"), ("rate", "with a rate limit"), ("scoped", "with a required scope, and an address in one of two networks")):
        row(name, *spread("policy_tps", who), f"{results.get('policy_us', who, clients=1):.2f}")


def vault():
    print("\n## The vault: µs per call in the server, values of 64 bytes")
    table("", "min", "median", "max")
    for who, name in {
        "get": "api_vault_get, data key kept by the session",
        "pgp_decrypt": "pgcrypto's pgp_sym_decrypt",
        "kdf": "api_vault_decrypt_value: PBKDF2 of 100,000 rounds per call, as the seed does",
        "bare": "the bare cipher: AES-256-GCM as `openssl speed` measures it",
        "store": "api_vault_store, in one transaction",
        "pgp_encrypt": "pgcrypto's pgp_sym_encrypt, without a table",
    }.items():
        row(name, *(f"{value:.2f}" for value in results.spread("vault", who, clients=1)))
    table("calls a second, 2 clients", "min", "median", "max")
    for who, name in {"get": "api_vault_get", "pgp_decrypt": "pgp_sym_decrypt of a row", "store": "api_vault_store"}.items():
        row(name, *spread("vault_tps", who))
    rows = f"{int(env['VAULT_ROWS']):,}"
    rates = {who: number(results.get("vault_rate", who, clients=1)) for who in ("rekey", "rotate")}
    print(f"\n`CALL api_vault_rekey()` of {rows} namespaces: {rates['rekey']} a second; "
          f"`CALL api_vault_rotate_dek()` of {rows} values: {rates['rotate']} a second.")


for part in (header, targets, throughput, clients, latency, in_server, wal, others, identity, limits, vault):
    part()
