"""lag.py PSQL HOST USER COUNT MODE: how long after an acknowledged revocation a standby accepts the token.

Two psql processes are kept open and answered line by line, so that nothing but psql is needed. One
number per line: microseconds from the acknowledgement to the first refusal's question; 0 if the
first question was refused.
"""
import os
import subprocess
import sys
import time

psql, host, user, count, mode = sys.argv[1:]
as_server = ["runuser", "-u", "postgres", "--"] if os.getuid() == 0 else []


class Session:
    def __init__(self, port):
        command = [psql, "-qXAt", "-h", host, "-p", str(port), "-U", user, "-d", "postgres"]
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(as_server + command, stdin=pipe, stdout=pipe, text=True, bufsize=1, cwd="/")

    def ask(self, statement):
        self.process.stdin.write(statement + ";\n")
        self.process.stdin.flush()
        return self.process.stdout.readline().strip()


primary, standby = Session(5432), Session(5433)
primary.process.stdin.write(f"SET synchronous_commit = {mode};\n")
for _ in range(int(count)):
    token = primary.ask("SELECT token FROM api_token_create('lag')")
    check = f"SELECT ok FROM api_token_validate('{token}')"
    while standby.ask(check) != "t":
        pass
    assert primary.ask(f"SELECT api_token_invalidate('{token}')") == "t"
    acknowledged = time.perf_counter()
    asked = acknowledged
    first = True
    while standby.ask(check) == "t":
        asked, first = time.perf_counter(), False
    print(0 if first else round((asked - acknowledged) * 1e6))
