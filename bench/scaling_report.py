"""scaling_report.py RAW CLIENTS: what scaling.sh measured, as Markdown."""
import datetime
import statistics
import subprocess
import sys

raw, clients = sys.argv[1:]
rows = [line.rstrip("\n").split("\t") for line in open(raw)]
servers = {"5432": "the primary alone", "5433": "one standby", "5433 5434": "two standbys"}
cores = subprocess.run(["nproc"], capture_output=True, text=True).stdout.strip()
print(f"""# Measured by `make bench-scaling`

{datetime.date.today()}, {cores} cores for all servers and clients together; 100,000 tokens, {clients} clients spread over the
servers that check, in turn, {sum(row[:2] == ["rate", "5432"] for row in rows)} rounds each.

| checked by | checks a second: min | median | max |
|---|---|---|---|""")
for ports, name in servers.items():
    rates = sorted(int(row[2]) for row in rows if row[:2] == ["rate", ports])
    print(f"| {name} | {rates[0]:,} | {round(statistics.median(rates)):,} | {rates[-1]:,} |")
print("""
How long after `api_token_invalidate` had returned on the primary a standby still accepted the token, asked without
a pause by one session:

| `synchronous_commit` | revocations | refused at once | median µs | p99 µs | max µs |
|---|---|---|---|---|---|""")
for mode in ["on", "remote_apply"]:
    lags = sorted(int(row[2]) for row in rows if row[:2] == ["lag", mode])
    at_once = sum(lag == 0 for lag in lags)
    print(f"| {mode} | {len(lags)} | {at_once} | {round(statistics.median(lags)):,} | {lags[len(lags) * 99 // 100]:,} | {lags[-1]:,} |")
